//! Suspicious passes: tests whose verdict is still good although they may no longer test anything.
//!
//! The results of a commit and of older commits in, suspicious passes out; no verdict changes. What has an ordinary reason
//! is not reported: a short duration, one slow run before, another host, a commit that is still being tested.

use std::fmt;
use std::time::Duration;

use model::{CommitId, HostName, ResultKey, StatusSnapshot};
use results::json::SuspicionRow;
use results::{BranchEntry, CommitResults};

mod search;

pub use search::{Columns, Compared, Search, Source};

/// A median below this is not compared: the start and the end of the test dominate it.
pub const LEAST: Duration = Duration::from_secs(3);
/// A pass is suspicious if it is this many times faster than the median of earlier passes.
pub const FACTOR: u32 = 8;
/// The least number of earlier passes that have a median: one slow run says nothing.
pub const PASSES_LEAST: usize = 5;
/// The number of newest earlier passes that the median is of, so that it follows a test that changes.
pub const PASSES_MOST: usize = 9;
/// The number of earlier commits at which a test passed that are searched for passes.
pub const COMMITS_SEARCHED: usize = 50;

/// Why a pass is suspicious.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspicion {
    /// Passes in a fraction of the time that it took before on such a host.
    Faster {
        /// The duration at the newer commit.
        now: Duration,
        /// The durations of earlier passes.
        before: Typical,
    },
    /// Passed before, and is skipped now.
    Skipped {
        /// The reason of the newer verdict.
        reason: Option<String>,
    },
    /// Has no result any more although its commit is completely tested and other tests of its file have one.
    Gone,
}

impl Suspicion {
    /// The word of the JSON views.
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
            Self::Faster { now, before: Typical { median, passes } } => {
                let (now, median) = (now.as_secs_f32(), median.as_secs_f32());
                write!(f, "passed in {now:.1} s, median of the {passes} passes before: {median:.1} s")
            }
            Self::Skipped { reason: Some(reason) } => write!(f, "skipped, passed before: {reason}"),
            Self::Skipped { reason: None } => f.write_str("skipped, passed before"),
            Self::Gone => f.write_str("no longer listed by its test file"),
        }
    }
}

/// A test whose verdict may no longer mean anything.
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

/// The duration that is usual for a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typical {
    /// The median of the newest passes, of an even number the lower one of the two in the middle.
    pub median: Duration,
    /// How many passes it is the median of.
    pub passes: usize,
}

/// A pass at an earlier commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The host that it ran on, if it is known.
    pub host: Option<HostName>,
    /// How long it ran.
    pub duration: Duration,
}

impl Typical {
    /// The usual duration on `host`, from earlier passes, the newest first: of those on the same host if they are enough,
    /// else of those on its class of hosts. `None`: too few passes. Any other host may be slower by far: TCG in place of KVM.
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
    pub fn is_undercut_by(&self, now: Duration) -> bool {
        is_fraction(now, self.median)
    }
}

fn is_fraction(now: Duration, before: Duration) -> bool {
    before >= LEAST && now.saturating_mul(FACTOR) <= before
}

/// Whether two hosts are of one class: their names differ only in numbers, as those of equal machines do.
fn is_of_one_class(a: Option<&HostName>, b: Option<&HostName>) -> bool {
    let stem = |host: &HostName| -> String {
        let mut stem = String::new();
        for c in host.as_str().chars() {
            match (c.is_ascii_digit(), stem.ends_with('0')) {
                (true, false) => stem.push('0'),
                (true, true) => {}
                (false, _) => stem.push(c),
            }
        }
        stem
    };
    match (a, b) {
        (Some(a), Some(b)) => stem(a) == stem(b),
        (a, b) => a == b,
    }
}

/// The commits that the commit at `row` is compared with, newest first: older ones at which a test passed. A commit that
/// does not build shows nothing about the commits before it.
#[must_use]
pub fn earlier(newest_first: &[BranchEntry], row: usize) -> Vec<&CommitId> {
    let older = newest_first.get(row + 1..).unwrap_or_default().iter();
    older.filter(|older| older.counts.passed > 0).map(|older| &older.commit).take(COMMITS_SEARCHED).collect()
}

/// The commits that a commit is compared with if a user compares it with `base`, newest first: `base` and, if it is on a
/// branch with these commits, [`earlier`] ones.
#[must_use]
pub fn from_base<'a>(base: &'a CommitId, newest_first: &'a [BranchEntry]) -> Vec<&'a CommitId> {
    let row = newest_first.iter().position(|entry| entry.commit == *base);
    let mut commits = vec![base];
    commits.extend(row.map(|row| earlier(newest_first, row)).unwrap_or_default());
    commits.truncate(COMMITS_SEARCHED);
    commits
}

/// Whether a commit gets no more results, as far as the daemon's snapshot shows.
#[must_use]
pub fn is_complete(results: &CommitResults, snapshot: Option<&StatusSnapshot>) -> bool {
    let has_work = snapshot.is_some_and(|snapshot| snapshot.has_work_for(results.commit.as_str()));
    !has_work && results.counts().inprogress == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            // Its own passes are preferred: farm1 may be a slow machine of this name.
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
            assert_eq!(typical(median).is_undercut_by(Duration::from_millis(now)), wanted, "{median} {now}");
        }
    }

    proptest! {
        /// A majority of the passes is at least as slow as the median: a few loaded runs change nothing.
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
