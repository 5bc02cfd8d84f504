//! Suspicious passes: tests with a good verdict that may no longer test anything.
//!
//! Takes the results of a commit and of older commits, and changes no verdict. Differences with an ordinary cause are
//! not reported: a short duration, a single slow run, another host, a commit that is still being tested.

use std::fmt;
use std::time::Duration;

use belief::HostClass;
use model::{CommitId, Counts, HostName, ResultKey, StatusSnapshot};
use results::BranchEntry;
use results::json::SuspicionRow;

mod search;

pub use search::{Columns, Compared, PASSES_READ, Search, Source};

/// Medians below this are not compared, because the start and the end of the test dominate them.
pub const LEAST: Duration = Duration::from_secs(3);
/// A pass is suspicious if it is faster than the median of earlier passes by this factor.
pub const FACTOR: u32 = 8;
/// The minimum number of earlier passes for a median, because one slow run is not significant.
pub const PASSES_LEAST: usize = 5;
/// The maximum number of earlier passes that the median is computed from, newest first, so that it follows a test that
/// changes.
pub const PASSES_MOST: usize = 9;
/// The maximum number of earlier commits with a passing test that are searched for passes.
pub const COMMITS_SEARCHED: usize = 50;

/// Why a pass is suspicious.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspicion {
    /// Passed in a fraction of the time that it took before on a host of this class.
    Faster {
        /// The duration at the newer commit.
        now: Duration,
        /// The durations of earlier passes.
        before: Typical,
        /// Whether they are those of all branches, because this one has too few.
        on_any_branch: bool,
    },
    /// Passed before, and is skipped now.
    Skipped {
        /// The reason of the newer verdict.
        reason: Option<String>,
    },
    /// Has no result any longer, although its commit is completely tested and other tests of its file have one.
    Gone,
}

impl Suspicion {
    /// The word in the JSON views.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Faster { .. } => "collapsed",
            Self::Skipped { .. } => "stopped applying",
            Self::Gone => "vanished",
        }
    }
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faster { now, before: Typical { median, passes }, on_any_branch } => {
                let (now, median) = (now.as_secs_f32(), median.as_secs_f32());
                let place = if *on_any_branch { " on all branches" } else { "" };
                write!(f, "passed in {now:.1} s, median of the {passes} passes before{place}: {median:.1} s")
            }
            Self::Skipped { reason: Some(reason) } => write!(f, "skipped, passed before: {reason}"),
            Self::Skipped { reason: None } => f.write_str("skipped, passed before"),
            Self::Gone => f.write_str("no longer listed by its test file"),
        }
    }
}

/// A test with a verdict that may no longer be meaningful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspiciousPass {
    /// The test.
    pub key: ResultKey,
    /// Why it is suspicious.
    pub suspicion: Suspicion,
}

impl From<&SuspiciousPass> for SuspicionRow {
    fn from(pass: &SuspiciousPass) -> Self {
        Self {
            name: pass.key.to_string(),
            suspicion: pass.suspicion.word().into(),
            what: pass.suspicion.to_string(),
        }
    }
}

/// The usual duration of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typical {
    /// The median of the newest passes; for an even number, the lower of the two in the middle.
    pub median: Duration,
    /// The number of passes that it was computed from.
    pub passes: usize,
}

/// A pass at an earlier commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The host on which it ran, if known.
    pub host: Option<HostName>,
    /// How long it ran.
    pub duration: Duration,
}

impl Typical {
    /// The usual duration on `host`, from earlier passes, newest first: from those on the same host if there are
    /// enough, otherwise from those on its class of hosts. `None` if there are too few passes. Other hosts may be much
    /// slower, with TCG instead of KVM.
    #[must_use]
    pub fn on(host: Option<&HostName>, newest_first: &[Pass]) -> Option<Self> {
        let own = newest_first.iter().filter(|pass| pass.host.as_ref() == host);
        let class = newest_first.iter().filter(|pass| is_of_one_class(pass.host.as_ref(), host));
        let durations = |passes: &mut dyn Iterator<Item = &Pass>| -> Vec<Duration> {
            passes.take(PASSES_MOST).map(|pass| pass.duration).collect()
        };
        let mut durations = [durations(&mut own.into_iter()), durations(&mut class.into_iter())]
            .into_iter()
            .find(|durations| durations.len() >= PASSES_LEAST)?;
        durations.sort_unstable();
        let passes = durations.len();
        Some(Self { median: durations[(passes - 1) / 2], passes })
    }

    /// Whether a pass in this time is suspicious.
    #[must_use]
    pub fn is_far_above(&self, now: Duration) -> bool {
        is_fraction(now, self.median)
    }
}

fn is_fraction(now: Duration, before: Duration) -> bool {
    before >= LEAST && now.saturating_mul(FACTOR) <= before
}

/// Whether two hosts belong to one class: their names differ only in numbers, as is usual for equal machines.
fn is_of_one_class(a: Option<&HostName>, b: Option<&HostName>) -> bool {
    a.map(HostClass::of) == b.map(HostClass::of)
}

/// The commits to compare the commit at `row` with, newest first: older ones at which a test passed. A commit that does
/// not build has no results to compare with.
#[must_use]
pub fn earlier(newest_first: &[BranchEntry], row: usize) -> Vec<&CommitId> {
    let older = newest_first.get(row + 1..).unwrap_or_default().iter();
    older.filter(|older| older.counts.passed > 0).map(|older| &older.commit).take(COMMITS_SEARCHED).collect()
}

/// The commits to compare a commit with if a user selects `base`, newest first: `base` and, if it is on a branch with
/// these commits, the [`earlier`] ones.
#[must_use]
pub fn from_base<'a>(base: &'a CommitId, newest_first: &'a [BranchEntry]) -> Vec<&'a CommitId> {
    let row = newest_first.iter().position(|entry| entry.commit == *base);
    let mut commits = vec![base];
    commits.extend(row.map(|row| earlier(newest_first, row)).unwrap_or_default());
    commits.truncate(COMMITS_SEARCHED);
    commits
}

/// Whether all results of a commit are there, given the counts of its tests and the daemon's snapshot.
#[must_use]
pub fn is_complete(commit: &CommitId, counts: Counts, snapshot: Option<&StatusSnapshot>) -> bool {
    let has_work = snapshot.is_some_and(|snapshot| snapshot.has_work_for(commit.as_str()));
    !has_work && counts.inprogress == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use results::CommitResults;

    fn pass(host: &str, seconds: u64) -> Pass {
        let host = (!host.is_empty()).then(|| host.parse().unwrap());
        Pass { host, duration: Duration::from_secs(seconds) }
    }

    fn median(host: &str, passes: &[(&str, u64)]) -> Option<(u64, usize)> {
        let passes: Vec<_> = passes.iter().map(|(host, seconds)| pass(host, *seconds)).collect();
        let typical = Typical::on(pass(host, 0).host.as_ref(), &passes)?;
        Some((typical.median.as_secs(), typical.passes))
    }

    #[test]
    fn a_median_needs_five_passes_of_one_class_of_hosts() {
        for (host, passes, wanted) in [
            ("a", &[("a", 1), ("a", 2), ("a", 3), ("a", 4)][..], None),
            ("a", &[("a", 1), ("a", 90), ("a", 3), ("a", 2), ("a", 4)], Some((3, 5))),
            ("a", &[("a", 6), ("a", 5), ("a", 3), ("a", 4), ("a", 2), ("a", 1)], Some((3, 6))),
            ("a", &[("b", 1), ("b", 2), ("b", 3), ("b", 4), ("b", 5)], None),
            ("a", &[("", 1), ("", 2), ("", 3), ("", 4), ("", 5)], None),
            ("", &[("", 1), ("", 2), ("", 3), ("", 4), ("", 5)], Some((3, 5))),
            ("", &[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5)], None),
            (
                "rack2-7",
                &[("rack1-1", 1), ("rack1-12", 2), ("rack9-3", 3), ("rack2-7", 4), ("rack-x", 9)],
                None,
            ),
            (
                "rack2-7",
                &[("rack1-1", 1), ("rack1-12", 2), ("rack9-3", 3), ("rack2-7", 4), ("rack10-3", 9)],
                Some((3, 5)),
            ),
            // Its own passes are preferred: farm1 may be a slow machine of this class.
            (
                "farm2",
                &[
                    ("farm1", 90),
                    ("farm2", 1),
                    ("farm1", 91),
                    ("farm2", 2),
                    ("farm1", 92),
                    ("farm2", 3),
                    ("farm1", 93),
                    ("farm2", 4),
                    ("farm1", 94),
                    ("farm2", 5),
                ],
                Some((3, 5)),
            ),
            ("farm", &[("farm1", 1), ("farm1", 1), ("farm1", 1), ("farm1", 1), ("farm1", 1)], None),
        ] {
            assert_eq!(median(host, passes), wanted, "{host} {passes:?}");
        }
    }

    #[test]
    fn the_newest_passes_count() {
        let mut passes = vec![("a", 1); PASSES_MOST];
        passes.extend([("a", 60); 40]);
        assert_eq!(median("a", &passes), Some((1, PASSES_MOST)));
    }

    #[test]
    fn a_fraction() {
        let typical = |millis| Typical { median: Duration::from_millis(millis), passes: PASSES_LEAST };
        for (median, now, wanted) in [
            (40_000, 5_000, true),
            (40_000, 5_001, false),
            (3_000, 375, true),
            (2_999, 0, false),
            (3_000, 0, true),
            (60_000, 60_000, false),
            (60_000, u64::MAX, false),
        ] {
            assert_eq!(typical(median).is_far_above(Duration::from_millis(now)), wanted, "{median} {now}");
        }
    }

    #[test]
    fn earlier_commits_are_those_at_which_a_test_passed() {
        let entry = |(at, passed): (usize, u32)| BranchEntry {
            commit: format!("{at:040}").parse().unwrap(),
            message: String::new(),
            authorship: results::Authorship::default(),
            counts: model::Counts { passed, failed: 1, ..model::Counts::default() },
            duration: Duration::ZERO,
        };
        let listing: Vec<BranchEntry> = [1, 0, 1, 0, 1].into_iter().enumerate().map(entry).collect();
        let rows = |commits: Vec<&CommitId>| -> Vec<usize> {
            commits.iter().map(|id| listing.iter().position(|entry| entry.commit == **id).unwrap()).collect()
        };
        assert_eq!(rows(earlier(&listing, 0)), [2, 4]);
        assert_eq!(rows(earlier(&listing, 2)), [4]);
        assert!(earlier(&listing, 4).is_empty() && earlier(&listing, 9).is_empty());
        assert_eq!(rows(from_base(&listing[1].commit, &listing)), [1, 2, 4]);
        let other: CommitId = "f".repeat(40).parse().unwrap();
        assert_eq!(from_base(&other, &listing), [&other]);
        let long: Vec<BranchEntry> = (0..90).map(|at| entry((at, 1))).collect();
        assert_eq!(earlier(&long, 0).len(), COMMITS_SEARCHED);
        assert_eq!(from_base(&long[0].commit, &long).len(), COMMITS_SEARCHED);
    }

    #[test]
    fn a_commit_is_complete_without_work_and_running_tests() {
        let results = |status| {
            let entries = vec![results::TestEntry::new("x.a".parse().unwrap(), status)];
            CommitResults { commit: "a".repeat(40).parse().unwrap(), message: String::new(), entries }
        };
        let (idle, mut busy) = (StatusSnapshot::default(), StatusSnapshot::default());
        busy.more_to_plan = true;
        use model::Status::{InProgress, Passed};
        let complete = |status, snapshot| {
            let results = results(status);
            is_complete(&results.commit, results.counts(), snapshot)
        };
        assert!(complete(Passed, None) && complete(Passed, Some(&idle)));
        assert!(!complete(Passed, Some(&busy)));
        assert!(!complete(InProgress, None) && !complete(InProgress, Some(&busy)));
    }

    proptest! {
        /// Most passes take at least as long as the median, so a few runs under load change nothing.
        #[test]
        fn slow_runs_in_the_minority_change_nothing(
            normal in 1_u64..100, slow in proptest::collection::vec(0_u64..10_000, 0..4),
        ) {
            let mut passes = vec![pass("a", normal); PASSES_MOST - slow.len()];
            for (at, more) in slow.iter().enumerate() {
                passes.insert((at * 3) % passes.len(), pass("a", normal + more));
            }
            let typical = Typical::on(passes[0].host.as_ref(), &passes).unwrap();
            prop_assert_eq!(typical.median, Duration::from_secs(normal));
        }
    }
}
