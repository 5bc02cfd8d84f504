//! When a branch's tip will be done, roughly: what its commits' tests took before, shared by the slots that its user
//! may expect. An estimate for people; nothing is scheduled by it.

use std::collections::HashMap;
use std::time::Duration;

use model::{Status, StatusSnapshot};

use super::Context;
use crate::changes::Verdicts;
use crate::page::Took;
use crate::route::BranchRef;

/// What a test is taken to last where nothing is known of it: the configuration's default.
const UNKNOWN: Duration = Duration::from_secs(30);
/// How many tested commits are asked which tests there are.
const LAST_TESTED: usize = 4;
/// How many commits are looked through for those.
const LOOK_BACK: usize = 50;

/// What stands between now and a tip whose tests all have their verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing: it is done.
    Done,
    /// That many tests, which should take this long.
    In(usize, Duration),
    /// That many tests, and no slot to run them.
    Never(usize),
    /// No commit says which tests there are.
    Unknown,
}

impl std::fmt::Display for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::In(tests, left) if left.as_secs() < 60 => write!(f, "{tests} to go, less than a minute"),
            Self::In(tests, left) => write!(f, "{tests} to go, about {}", Took(*left)),
            Self::Never(tests) => write!(f, "{tests} to go, no slot is well"),
            Self::Unknown => f.write_str("not known yet"),
        }
    }
}

/// What estimates need, read once a page.
pub struct Estimator<'a> {
    context: Context<'a>,
    means: HashMap<String, Duration>,
    slots: HashMap<&'a str, f64>,
}

impl<'a> Estimator<'a> {
    /// From the snapshot and the historical durations.
    #[must_use]
    pub fn new(context: Context<'a>, snapshot: &'a StatusSnapshot) -> Self {
        let durations = context.store.reader().durations().unwrap_or_default();
        let means = durations.into_iter().map(|known| (known.test.to_string(), known.mean)).collect();
        Self { context, means, slots: slots(snapshot) }
    }

    /// The estimate of one branch.
    #[must_use]
    pub fn tip(&self, at: &BranchRef) -> Arrival {
        let Ok(entries) = self.context.store.branch(at) else { return Arrival::Unknown };
        let verdicts = |row: usize| {
            let entry = entries.get(row).filter(|entry| entry.counts.total() > 0)?;
            self.context.store.verdicts(&entry.commit)
        };
        // A commit that is being tested lacks those that nobody has claimed; one of the last few has them all.
        let tested = (1..LOOK_BACK.min(entries.len())).filter_map(verdicts).take(LAST_TESTED);
        let expected = tested.max_by_key(|verdicts| verdicts.names.len());
        let slots = self.slots.get(at.user.as_str()).copied().unwrap_or(0.0);
        arrival(verdicts(0).as_ref(), expected.as_ref(), &self.means, slots)
    }
}

/// The slots that each user who waits may expect: those that are well, by weight.
fn slots(snapshot: &StatusSnapshot) -> HashMap<&str, f64> {
    let well =
        snapshot.executors.iter().filter(|executor| matches!(executor.state.as_str(), "busy" | "idle"));
    let well = u32::try_from(well.count()).map_or(0.0, f64::from);
    let waiting = |user: &str| snapshot.pending_by_group.get(user).is_some_and(|pending| *pending > 0);
    let weight = |user: &str| {
        let weight = snapshot.fairshare.get(user).map_or(1.0, |share| share.weight);
        if weight.is_finite() && weight > 0.0 { weight } else { 1.0 }
    };
    let users: std::collections::BTreeSet<&str> =
        snapshot.branches.iter().map(|branch| branch.user.as_str()).collect();
    let total: f64 = users.iter().filter(|user| waiting(user)).map(|user| weight(user)).sum();
    // Whoever does not wait still has what runs; the whole farm is not far from the truth then.
    users
        .into_iter()
        .map(|user| (user, if waiting(user) { well * weight(user) / total } else { well }))
        .collect()
}

fn arrival(
    tip: Option<&Verdicts>,
    expected: Option<&Verdicts>,
    means: &HashMap<String, Duration>,
    slots: f64,
) -> Arrival {
    let done = |name: &str| {
        let tip = tip?;
        let at = tip.names.iter().position(|other| **other == *name)?;
        tip.statuses.get(at).copied().filter(|status| status.is_final())
    };
    let mut names: Vec<&str> = Vec::new();
    match (tip, expected) {
        (None, None) => return Arrival::Unknown,
        (Some(tip), Some(expected)) if tip.names == expected.names => {
            let open = tip.names.iter().zip(tip.statuses.iter()).filter(|(_, status)| !status.is_final());
            names.extend(open.map(|(name, _)| &**name));
        }
        _ => {
            let running = tip.into_iter().flat_map(|tip| {
                tip.names.iter().zip(tip.statuses.iter()).filter(|(_, status)| **status == Status::InProgress)
            });
            names.extend(running.map(|(name, _)| &**name));
            let known: std::collections::HashSet<&str> =
                tip.into_iter().flat_map(|tip| tip.names.iter().map(|name| &**name)).collect();
            let missing = expected.into_iter().flat_map(|expected| expected.names.iter().map(|name| &**name));
            names.extend(missing.filter(|name| !known.contains(name) && done(name).is_none()));
        }
    }
    if names.is_empty() {
        return Arrival::Done;
    }
    if slots <= 0.0 {
        return Arrival::Never(names.len());
    }
    let took = |name: &&str| means.get(*name).copied().unwrap_or(UNKNOWN);
    let work: Duration = names.iter().map(took).sum();
    let longest = names.iter().map(took).max().unwrap_or_default();
    let left = Duration::try_from_secs_f64(work.as_secs_f64() / slots.max(0.01)).unwrap_or(Duration::MAX);
    Arrival::In(names.len(), left.max(longest))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::snapshot::{BranchStatus, ExecutorStatus, FairShare};

    use super::*;

    fn verdicts(text: &[(&str, Status)]) -> Verdicts {
        Verdicts {
            names: text.iter().map(|(name, _)| Box::from(*name)).collect::<Vec<_>>().into(),
            statuses: text.iter().map(|(_, status)| *status).collect::<Vec<_>>().into(),
        }
    }

    #[test]
    fn what_is_left_and_how_long_it_takes() {
        use Status::{Failed, InProgress, Passed};
        let old = verdicts(&[("a", Passed), ("b", Failed), ("c", Passed)]);
        let means: HashMap<String, Duration> = [("a", 100), ("b", 200), ("c", 20)]
            .map(|(name, s)| (name.to_owned(), Duration::from_secs(s)))
            .into();
        let seconds = Duration::from_secs;
        assert_eq!(arrival(Some(&old), Some(&old), &means, 2.0), Arrival::Done);
        assert_eq!(arrival(None, Some(&old), &means, 2.0), Arrival::In(3, seconds(200)));
        assert_eq!(arrival(None, Some(&old), &means, 1.0), Arrival::In(3, seconds(320)));
        let half = verdicts(&[("a", Passed), ("b", InProgress)]);
        assert_eq!(arrival(Some(&half), Some(&old), &means, 1.0), Arrival::In(2, seconds(220)));
        assert_eq!(arrival(Some(&half), Some(&old), &means, 0.0), Arrival::Never(2));
        assert_eq!(arrival(None, None, &means, 1.0), Arrival::Unknown);
        assert_eq!(Arrival::In(2, seconds(700)).to_string(), "2 to go, about 11 min");
        let same = Arc::clone(&old.names);
        let running = Verdicts { names: same, statuses: [Passed, InProgress, Passed].as_slice().into() };
        assert_eq!(arrival(Some(&running), Some(&old), &means, 4.0), Arrival::In(1, seconds(200)));
    }

    #[test]
    fn slots_by_weight_among_those_who_wait() {
        let executor = |state: &str| ExecutorStatus { state: state.into(), ..Default::default() };
        let branch = |user: &str| BranchStatus { user: user.into(), ..Default::default() };
        let share = |weight| FairShare { weight, usage: 0.0 };
        let snapshot = StatusSnapshot {
            executors: vec![executor("busy"), executor("idle"), executor("busy"), executor("quarantined")],
            branches: vec![branch("a"), branch("b"), branch("c")],
            pending_by_group: [("a".to_owned(), 5), ("b".to_owned(), 5)].into(),
            fairshare: [("a".to_owned(), share(2.0)), ("b".to_owned(), share(f64::NAN))].into(),
            ..Default::default()
        };
        let slots = slots(&snapshot);
        assert_eq!([slots["a"], slots["b"], slots["c"]], [2.0, 1.0, 3.0]);
    }
}
