//! Claims from stored attempts: those where a test failed, and those since.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use model::CommitId;

use crate::fixed::{Confidence, Evidence, FixClaim};
use crate::observation::{Experiment, HostClass, Observation, Outcome};
use crate::signature::Signature;
use crate::stats::Tally;

/// The shortest time by which a pass is too short: durations vary with the load of the host.
const SLACK: Duration = Duration::from_secs(5);

/// The attempts at one commit, in their order.
pub type AtCommit = Vec<Observation>;

impl FixClaim {
    /// The claim that a failure is gone, from the attempts before the first pass (`older`) and those since, each by commit, the
    /// newest commit first. The first `stretch` commits of `older` are those at which the test failed without a pass in between.
    /// `None` if no attempt of `older` failed.
    ///
    /// - The evidence is the failures of this stretch with the signature of the newest one, and its passes. If one of these commits
    ///   has both outcomes, the test is flaky: then all commits of `older` count, up to the oldest failure with the signature.
    /// - A pass of an experiment that failed proves no fix: it is evidence of the failure rate.
    /// - An attempt that commits inherit counts once.
    /// - A pass does not count if it is much shorter than the shortest failure on hosts of its class: by a quarter and by 5 s. A
    ///   time-out gives no such time.
    #[must_use]
    pub fn find(
        since: &[AtCommit],
        older: &[AtCommit],
        stretch: usize,
        confidence: Confidence,
    ) -> Option<Self> {
        let signature = newest_failure(older)?;
        let failing = &older[..evidence_end(older, stretch, signature)];
        let mut once = Once::new(failing.iter().chain(since).flatten());
        let failing: Vec<&Observation> = failing.iter().flatten().filter(|it| once.is_new(it)).collect();
        let since: Vec<&Observation> = since.iter().flatten().filter(|it| once.is_new(it)).collect();
        let failures: Vec<&Observation> =
            failing.iter().filter(|it| has_failed(it, signature)).copied().collect();
        let failed: HashSet<&Experiment> = failures.iter().map(|it| &it.experiment).collect();
        let (same, since): (Vec<&Observation>, Vec<&Observation>) = since
            .into_iter()
            .partition(|it| it.outcome == Outcome::Passed && failed.contains(&it.experiment));
        let passes = failing.iter().filter(|it| it.outcome == Outcome::Passed).count() + same.len();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let tally = Tally::new(number(failures.len()), number(passes));
        let limits = limits(&failures);
        let mut claim = Self::new(Evidence::from_tally(tally).ok()?, confidence, None);
        for it in since {
            match &it.outcome {
                Outcome::Passed => {
                    claim.passed_not_before(it.duration, limits.get(&it.host_class).copied());
                }
                Outcome::Failed { signature: of } if of == signature => claim.failed(),
                // Another failure.
                Outcome::Failed { .. } | Outcome::NoVerdict => {}
            }
        }
        Some(claim)
    }
}

/// The signature of the newest failure.
#[must_use]
pub fn newest_failure(newest_first: &[AtCommit]) -> Option<&Signature> {
    newest_first.iter().find_map(|at| at.iter().rev().find_map(|it| it.outcome.signature()))
}

/// The number of commits with the evidence.
fn evidence_end(older: &[AtCommit], stretch: usize, signature: &Signature) -> usize {
    let fails = |at: &AtCommit| at.iter().any(|it| has_failed(it, signature));
    let is_flaky = |at: &AtCommit| fails(at) && at.iter().any(|it| it.outcome == Outcome::Passed);
    let stretch = stretch.min(older.len());
    if !older.iter().any(is_flaky) {
        return stretch;
    }
    older.iter().rposition(fails).map_or(stretch, |oldest| stretch.max(oldest + 1))
}

fn has_failed(it: &Observation, signature: &Signature) -> bool {
    it.outcome.signature() == Some(signature)
}

/// The shortest duration of a pass that counts, by the class of the host.
fn limits<'a>(failures: &[&'a Observation]) -> HashMap<&'a HostClass, Duration> {
    let mut limits: HashMap<&HostClass, Duration> = HashMap::new();
    for it in failures.iter().filter(|it| !it.timed_out) {
        let limit = it.duration.saturating_sub(SLACK.max(it.duration / 4));
        let shortest = limits.entry(&it.host_class).or_insert(limit);
        *shortest = limit.min(*shortest);
    }
    limits
}

/// Tells attempts that were inherited, and are in the list already, from others.
struct Once<'a> {
    ran_here: HashSet<&'a CommitId>,
    inherited: HashSet<(&'a CommitId, u64, Duration)>,
}

impl<'a> Once<'a> {
    fn new(all: impl Iterator<Item = &'a Observation>) -> Self {
        let ran_here = all.filter(|it| it.ran_at.is_none()).map(|it| &it.commit).collect();
        Self { ran_here, inherited: HashSet::new() }
    }

    fn is_new(&mut self, it: &'a Observation) -> bool {
        it.ran_at.as_ref().is_none_or(|ran_at| {
            !self.ran_here.contains(ran_at) && self.inherited.insert((ran_at, it.at_ms, it.duration))
        })
    }
}
