//! Estimates when a branch tip will be completely tested: the past durations of the remaining tests, divided by the
//! slots that the user can expect. The estimate is only displayed; scheduling does not use it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use model::{Status, StatusSnapshot};

use crate::CommitStatuses;
use crate::activity::Work;

/// The duration of a test without history: the default of the configuration.
const UNKNOWN: Duration = Duration::from_secs(30);
/// The maximum number of tested commits that are read for their tests.
const TESTED_MAX: usize = 4;
/// The maximum number of commits that are searched for tested ones.
const SEARCHED_MAX: usize = 50;

/// The estimate for one branch tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eta {
    /// Every test has its verdict.
    Done,
    /// Tests are left.
    In {
        /// The number of tests without a verdict.
        tests: usize,
        /// The estimated time for them.
        time: Duration,
    },
    /// Tests are left, but no slot is usable.
    Stalled {
        /// The number of tests without a verdict.
        tests: usize,
    },
    /// No commit of the branch has results that show its tests.
    Unknown,
}

/// The tests that a tip will get, estimated from the older commits, newest first: those of the recent commit with the
/// most tests. A commit that is being tested has no results yet for the tests that no worker has claimed.
pub fn expected_tests(older: impl IntoIterator<Item = Option<CommitStatuses>>) -> Option<CommitStatuses> {
    let tested = older.into_iter().take(SEARCHED_MAX).flatten().take(TESTED_MAX);
    tested.max_by_key(|commit| commit.names.len())
}

/// The slots that each user can expect: the usable slots, divided by weight among the users with queued tests.
#[must_use]
pub fn expected_slots(snapshot: &StatusSnapshot) -> HashMap<&str, f64> {
    let usable = |state: &str| matches!(state, "busy" | "idle");
    let slots = snapshot.executors.iter().filter(|executor| usable(&executor.state)).count();
    let slots = u32::try_from(slots).map_or(0.0, f64::from);
    let is_queued = |user: &str| snapshot.pending_by_group.get(user).is_some_and(|pending| *pending > 0);
    let weight = |user: &str| {
        let weight = snapshot.weights.get(user).copied().unwrap_or(1.0);
        if weight.is_finite() && weight > 0.0 { weight } else { 1.0 }
    };
    let users: BTreeSet<&str> = snapshot.branches.iter().map(|branch| branch.user.as_str()).collect();
    let total: f64 = users.iter().filter(|user| is_queued(user)).map(|user| weight(user)).sum();
    // A user without queued tests only waits for running ones; the whole farm is a good enough estimate.
    let share = |user: &str| if is_queued(user) { slots * weight(user) / total } else { slots };
    users.into_iter().map(|user| (user, share(user))).collect()
}

/// Estimates when the tip is done. `work`: what the snapshot shows of it, which has tests that no older commit has; `tip`: its statuses, if it has results; `expected`: see [`expected_tests`]; `mean`:
/// the mean duration of a test, if it has history.
#[must_use]
pub fn eta(
    tip: Option<&CommitStatuses>,
    expected: Option<&CommitStatuses>,
    mean: impl Fn(&str) -> Option<Duration>,
    slots: f64,
    work: Work,
) -> Eta {
    if tip.is_none() && expected.is_none() && work.tests == 0 {
        return Eta::Unknown;
    }
    let left = tests_left(tip, expected);
    let tests = left.len().max(work.tests);
    if tests == 0 {
        return Eta::Done;
    }
    // Tests that no commit has shown yet take as long as the known ones on average.
    let commits = tip.into_iter().chain(expected);
    let names = commits.flat_map(|commit| commit.names.iter().map(AsRef::as_ref));
    let known: Vec<Duration> = names.filter_map(&mean).collect();
    let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
    let average = known.iter().sum::<Duration>().checked_div(count).unwrap_or(UNKNOWN);
    let unknown = std::iter::repeat_n("", tests - left.len());
    let duration = |name: &str| if name.is_empty() { Some(average) } else { mean(name) };
    match time_for(left.into_iter().chain(unknown), duration, slots) {
        Some(time) => Eta::In { tests, time: time.saturating_add(work.build) },
        None => Eta::Stalled { tests },
    }
}

/// The estimated time for these tests; `None` without a usable slot.
pub(crate) fn time_for<'a>(
    tests: impl IntoIterator<Item = &'a str>,
    mean: impl Fn(&str) -> Option<Duration>,
    slots: f64,
) -> Option<Duration> {
    if slots <= 0.0 {
        return None;
    }
    let (mut work, mut longest) = (Duration::ZERO, Duration::ZERO);
    for test in tests {
        let duration = mean(test).unwrap_or(UNKNOWN);
        work = work.saturating_add(duration);
        longest = longest.max(duration);
    }
    let shared = Duration::try_from_secs_f64(work.as_secs_f64() / slots.max(0.01)).unwrap_or(Duration::MAX);
    Some(shared.max(longest))
}

/// The tests without a verdict. If the tip has the expected set of tests: those that are not final. Otherwise: those
/// that are running or have not started.
pub(crate) fn tests_left<'a>(
    tip: Option<&'a CommitStatuses>,
    expected: Option<&'a CommitStatuses>,
) -> Vec<&'a str> {
    fn rows(commit: &CommitStatuses) -> impl Iterator<Item = (&str, Status)> {
        commit.names.iter().zip(commit.statuses.iter()).map(|(name, status)| (&**name, *status))
    }
    if let (Some(tip), Some(expected)) = (tip, expected)
        && tip.names == expected.names
    {
        return rows(tip).filter(|(_, status)| !status.is_final()).map(|(name, _)| name).collect();
    }
    let running = tip.into_iter().flat_map(rows).filter(|(_, status)| *status == Status::InProgress);
    let known: HashSet<&str> = tip.into_iter().flat_map(rows).map(|(name, _)| name).collect();
    let missing = expected.into_iter().flat_map(rows).filter(|(name, _)| !known.contains(name));
    running.chain(missing).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::snapshot::{BranchStatus, ExecutorStatus};

    use super::*;

    fn commit(tests: &[(&str, Status)]) -> CommitStatuses {
        CommitStatuses {
            names: tests.iter().map(|(name, _)| Box::from(*name)).collect::<Vec<_>>().into(),
            statuses: tests.iter().map(|(_, status)| *status).collect::<Vec<_>>().into(),
        }
    }

    #[test]
    fn the_tests_left_and_their_time() {
        use Status::{Failed, InProgress, Passed};
        let old = commit(&[("a", Passed), ("b", Failed), ("c", Passed)]);
        let mean = |name: &str| {
            let seconds =
                [("a", 100), ("b", 200), ("c", 20)].into_iter().find(|(known, _)| *known == name)?.1;
            Some(Duration::from_secs(seconds))
        };
        let left = |tests, seconds| Eta::In { tests, time: Duration::from_secs(seconds) };
        assert_eq!(eta(Some(&old), Some(&old), mean, 2.0, Work::default()), Eta::Done);
        assert_eq!(eta(None, Some(&old), mean, 2.0, Work::default()), left(3, 200));
        assert_eq!(eta(None, Some(&old), mean, 1.0, Work::default()), left(3, 320));
        assert_eq!(eta(None, Some(&old), |_| None, 1.0, Work::default()), left(3, 90));
        let half = commit(&[("a", Passed), ("b", InProgress)]);
        assert_eq!(eta(Some(&half), Some(&old), mean, 1.0, Work::default()), left(2, 220));
        assert_eq!(eta(Some(&half), Some(&old), mean, 0.0, Work::default()), Eta::Stalled { tests: 2 });
        assert_eq!(eta(None, None, mean, 1.0, Work::default()), Eta::Unknown);
        let names = Arc::clone(&old.names);
        let running = CommitStatuses { names, statuses: [Passed, InProgress, Passed].as_slice().into() };
        assert_eq!(eta(Some(&running), Some(&old), mean, 4.0, Work::default()), left(1, 200));
        // 26 tests are in the queue, of which the first commit of a branch shows 2.
        let (first, build) = (commit(&[("a", InProgress), ("b", Passed)]), Duration::from_secs(60));
        let work = Work { tests: 26, build };
        assert_eq!(eta(Some(&first), None, mean, 1.0, work), left(26, 100 + 25 * 150 + 60));
        assert_eq!(eta(None, None, mean, 2.0, Work { tests: 4, build }), left(4, 120));
        assert_eq!(eta(Some(&old), Some(&old), mean, 0.0, work), Eta::Stalled { tests: 26 });
    }

    #[test]
    fn the_recent_commit_with_most_tests_is_expected() {
        let of = |count: usize| Some(commit(&[("a", Status::Passed), ("b", Status::Passed)][..count]));
        let expected =
            |rows: Vec<Option<CommitStatuses>>| expected_tests(rows).map(|commit| commit.names.len());
        assert_eq!(expected(vec![None, of(1), None, of(2), of(1)]), Some(2));
        assert_eq!(expected(vec![of(1), of(1), of(1), of(1), of(2)]), Some(1));
        assert_eq!(expected(vec![None; 60]), None);
    }

    #[test]
    fn slots_by_weight_among_users_with_queued_tests() {
        let executor = |state: &str| ExecutorStatus { state: state.into(), ..Default::default() };
        let branch = |user: &str| BranchStatus::new(&format!("{user}/b").parse().unwrap());
        let snapshot = StatusSnapshot {
            executors: vec![executor("busy"), executor("idle"), executor("busy"), executor("quarantined")],
            branches: vec![branch("a"), branch("b"), branch("c")],
            pending_by_group: [("a".parse().unwrap(), 5), ("b".parse().unwrap(), 5)].into(),
            weights: [("a".parse().unwrap(), 2.0), ("b".parse().unwrap(), f64::NAN)].into(),
            ..Default::default()
        };
        let slots = expected_slots(&snapshot);
        assert_eq!([slots["a"], slots["b"], slots["c"]], [2.0, 1.0, 3.0]);
    }
}
