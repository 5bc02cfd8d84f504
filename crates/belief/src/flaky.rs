//! Flaky: one experiment with both outcomes. No statistics decide it; the rate only describes it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use model::CommitId;

use crate::observation::{Experiment, HostClass, Observation, Outcome};
use crate::stats::{FailureRate, Tally, at_most, fisher};

/// The number of newest commits over which rates are computed.
pub const COMMITS: usize = 100;
/// The maximum number of attempts that confirm a failure.
pub const CONFIRMATION_ATTEMPTS: usize = 5;

/// A flaky test.
#[derive(Debug, Clone, PartialEq)]
pub struct FlakyTest {
    /// The rate over the newest commits.
    pub rate: FailureRate,
    /// The rate per host class.
    pub by_class: BTreeMap<HostClass, FailureRate>,
    /// The oldest of these commits at which one experiment had both outcomes.
    pub since: CommitId,
    /// The number of experiments with both outcomes.
    pub experiments: usize,
    /// The attempts with and without other work on the host.
    pub load: ByLoad,
}

impl FlakyTest {
    /// The flakiness of a test, from its attempts in the order of commits, newest commit first. `None` if no experiment at
    /// the newest [`COMMITS`] commits has both outcomes.
    #[must_use]
    pub fn find<'a>(newest_first: impl IntoIterator<Item = &'a Observation>) -> Option<Self> {
        let mut commits: HashSet<&CommitId> = HashSet::new();
        let mut experiments: HashMap<&Experiment, (Tally, &CommitId)> = HashMap::new();
        let mut by_class: BTreeMap<HostClass, Tally> = BTreeMap::new();
        let mut total = Tally::default();
        let mut since = None;
        let mut load = Vec::new();
        for observation in newest_first {
            if !commits.contains(&observation.commit) && commits.len() == COMMITS {
                break;
            }
            commits.insert(&observation.commit);
            let Some(tally) = observation.outcome.tally() else { continue };
            total += tally;
            load.extend(observation.alone.map(|alone| (commits.len(), alone, tally)));
            *by_class.entry(observation.host_class.clone()).or_default() += tally;
            let (seen, _) = experiments
                .entry(&observation.experiment)
                .or_insert_with(|| (Tally::default(), &observation.commit));
            *seen += tally;
            if seen.failures > 0 && seen.passes > 0 {
                since = Some(&observation.commit);
            }
        }
        let both = experiments.values().filter(|(seen, _)| seen.failures > 0 && seen.passes > 0).count();
        let by_class = by_class.into_iter().map(|(class, tally)| (class, tally.rate())).collect();
        Some(Self {
            rate: total.rate(),
            by_class,
            since: since?.clone(),
            experiments: both,
            load: ByLoad::of(&load),
        })
    }
}

/// Attempts with other work on their host, and attempts that had the host to themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByLoad {
    /// Those with other work.
    pub loaded: Tally,
    /// Those alone on the host.
    pub alone: Tally,
}

impl ByLoad {
    /// Sums attempts, each with the number of its commit in their order, and whether it was alone. Only the commits from the
    /// first failure to the last count: passes after a fix, or before the test began to fail, say nothing about the load.
    fn of(attempts: &[(usize, bool, Tally)]) -> Self {
        let failed =
            || attempts.iter().filter(|(_, _, tally)| tally.failures > 0).map(|(commit, ..)| *commit);
        let mut sums = Self::default();
        let (Some(first), Some(last)) = (failed().min(), failed().max()) else { return sums };
        for (_, alone, tally) in attempts.iter().filter(|(commit, ..)| (first..=last).contains(commit)) {
            *(if *alone { &mut sums.alone } else { &mut sums.loaded }) += *tally;
        }
        sums
    }

    /// Whether a test fails only next to other work: at least 3 failures, none in attempts that had the host to themselves,
    /// and Fisher's one-sided p at most 0.05. Such a test gets a host to itself from then on.
    #[must_use]
    pub fn fails_only_under_load(self) -> bool {
        let Self { loaded, alone } = self;
        loaded.failures >= 3 && alone.failures == 0 && at_most(fisher(loaded, alone), 0.05)
    }
}

/// `flaky 3 of 25`.
impl fmt::Display for FlakyTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flaky {}", self.rate)
    }
}

/// What is known of a new failure after some attempts of the same experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// Another attempt is needed.
    RunAgain,
    /// It fails: no attempt passed.
    Confirmed(Tally),
    /// It fails and passes: it accuses no commit.
    Flaky(Tally),
}

/// Whether a failure is confirmed, from the attempts of one experiment, beginning with the failure. Attempts without a verdict are
/// ignored. The first retry decides if it fails with the same signature; otherwise up to [`CONFIRMATION_ATTEMPTS`] attempts do.
#[must_use]
pub fn confirmation<'a>(attempts: impl IntoIterator<Item = &'a Outcome>) -> Confirmation {
    let verdicts: Vec<(&Outcome, Tally)> =
        attempts.into_iter().filter_map(|outcome| Some((outcome, outcome.tally()?))).collect();
    let tally = verdicts.iter().map(|(_, one)| *one).sum::<Tally>();
    let at_once = match verdicts[..] {
        [(first, _), (second, _), ..] => {
            first.signature().is_some() && first.signature() == second.signature()
        }
        _ => false,
    };
    if !at_once && verdicts.len() < CONFIRMATION_ATTEMPTS {
        Confirmation::RunAgain
    } else if tally.passes == 0 {
        Confirmation::Confirmed(tally)
    } else {
        Confirmation::Flaky(tally)
    }
}
