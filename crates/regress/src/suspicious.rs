//! Suspicious passes: tests whose verdict is still good although they may no longer test anything.
//!
//! Two commits' results in, suspicious passes out; no verdict changes. What has an ordinary reason is not reported: a
//! short duration, another host, a commit that is still being tested.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use model::{ResultKey, Status, StatusSnapshot};
use results::json::SuspicionRow;
use results::{BranchEntry, CommitResults, TestEntry};

/// A duration below this is not compared: the start and the end of the test dominate it.
pub const LEAST: Duration = Duration::from_secs(3);
/// A pass is suspicious if it is this many times faster than before.
pub const FACTOR: u32 = 8;

/// Why a pass is suspicious.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspicion {
    /// Passes on both commits on the same host, in a fraction of the time.
    Faster {
        /// The duration at the older commit.
        before: Duration,
        /// The duration at the newer commit.
        now: Duration,
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
            Self::Faster { before, now } => {
                write!(f, "passed in {:.1} s, {:.1} s before", now.as_secs_f32(), before.as_secs_f32())
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

impl fmt::Display for SuspiciousPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.suspicion)
    }
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

/// The columns of a test's result that are enough to rule most tests out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultSummary<'a> {
    /// The test.
    pub key: &'a str,
    /// Its status.
    pub status: Status,
    /// Its duration.
    pub duration: Duration,
}

impl<'a> From<&'a TestEntry> for ResultSummary<'a> {
    fn from(entry: &'a TestEntry) -> Self {
        Self { key: entry.key.as_str(), status: entry.decisive.status, duration: entry.decisive.duration }
    }
}

/// The commit that the commit at `row` is compared with: the newest older one at which a test passed. A commit that does
/// not build shows nothing about the commits before it.
#[must_use]
pub fn reference(newest_first: &[BranchEntry], row: usize) -> Option<&BranchEntry> {
    newest_first.get(row + 1..)?.iter().find(|older| older.counts.passed > 0)
}

/// Whether a commit gets no more results, as far as the daemon's snapshot shows.
#[must_use]
pub fn is_complete(results: &CommitResults, snapshot: Option<&StatusSnapshot>) -> bool {
    let has_work = snapshot.is_some_and(|snapshot| snapshot.has_work_for(results.commit.as_str()));
    !has_work && results.counts().inprogress == 0
}

/// The suspicious passes of the commit `now` compared with the older commit `before`, sorted by key. `complete`: `now`
/// gets no more results; until then no test is gone.
#[must_use]
pub fn suspicious_passes(before: &CommitResults, now: &CommitResults, complete: bool) -> Vec<SuspiciousPass> {
    let (old, new) = (&before.entries, &now.entries);
    let candidates = candidates(old.iter().map(Into::into), new.iter().map(Into::into), complete);
    let check = |key: &str| {
        let key = key.parse().ok()?;
        check(before.get(&key)?, now.get(&key))
    };
    candidates.into_iter().filter_map(check).collect()
}

/// The tests that [`check`] may find suspicious, from the columns of two commits, both sorted by key. `complete`: see
/// [`suspicious_passes`].
pub fn candidates<'a>(
    before: impl IntoIterator<Item = ResultSummary<'a>>,
    now: impl IntoIterator<Item = ResultSummary<'a>>,
    complete: bool,
) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut now = now.into_iter().peekable();
    let mut last: Option<ResultSummary<'_>> = None;
    for old in before {
        let new = loop {
            match now.peek().map(|new| new.key.cmp(old.key)) {
                Some(Ordering::Less) => last = now.next(),
                Some(Ordering::Equal) => break now.peek().copied(),
                Some(Ordering::Greater) | None => break None,
            }
        };
        let suspicious = match new {
            Some(new) => is_candidate(&old, &new),
            // Names of one file are neighbors in the list, so a result of the same file is next to the gap or nowhere.
            None => {
                let mut neighbors = [last, now.peek().copied()].into_iter().flatten();
                let same_file = |other: ResultSummary<'_>| {
                    has_verdict(other.status) && is_of_one_file(other.key, old.key)
                };
                complete && passed_or_failed(old.status) && neighbors.any(same_file)
            }
        };
        if suspicious {
            found.push(old.key);
        }
    }
    found
}

/// Why a test is suspicious, from its two results.
#[must_use]
pub fn check(old: &TestEntry, new: Option<&TestEntry>) -> Option<SuspiciousPass> {
    let suspicion = match new {
        None => Suspicion::Gone,
        Some(new) if !is_candidate(&old.into(), &new.into()) => return None,
        Some(new) if new.decisive.status == Status::NotRun => {
            Suspicion::Skipped { reason: new.decisive.reason.clone() }
        }
        // Another host may be faster by far: KVM instead of TCG.
        Some(new) if new.decisive.host != old.decisive.host => return None,
        Some(new) => Suspicion::Faster { before: old.decisive.duration, now: new.decisive.duration },
    };
    Some(SuspiciousPass { key: old.key.clone(), suspicion })
}

fn has_verdict(status: Status) -> bool {
    passed_or_failed(status) || status == Status::NotRun
}

fn passed_or_failed(status: Status) -> bool {
    matches!(status, Status::Passed | Status::Failed)
}

fn is_candidate(old: &ResultSummary<'_>, new: &ResultSummary<'_>) -> bool {
    match (old.status, new.status) {
        (Status::Passed, Status::NotRun) => true,
        (Status::Passed, Status::Passed) => {
            old.duration >= LEAST && new.duration.saturating_mul(FACTOR) <= old.duration
        }
        _ => false,
    }
}

/// Whether two tests have all but the last part of their names in common.
fn is_of_one_file(a: &str, b: &str) -> bool {
    let file = b.rfind('.').map_or("", |dot| &b[..=dot]);
    !file.is_empty() && a.starts_with(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(key: &str, status: Status, seconds: u64) -> TestEntry {
        let mut entry = TestEntry::new(key.parse().unwrap(), status);
        entry.decisive.duration = Duration::from_secs(seconds);
        entry
    }

    fn commit(mut entries: Vec<TestEntry>) -> CommitResults {
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        CommitResults { commit: "a".repeat(40).parse().unwrap(), message: String::new(), entries }
    }

    #[test]
    fn each_suspicion() {
        let before = commit(vec![
            entry("x.collapses", Status::Passed, 40),
            entry("x.faster", Status::Passed, 40),
            entry("x.gone", Status::Passed, 1),
            entry("x.other_host", Status::Passed, 40),
            entry("x.short", Status::Passed, 2),
            entry("x.skips", Status::Passed, 2),
            entry("x.always_skipped", Status::NotRun, 0),
            entry("x.was_bad", Status::Failed, 40),
            entry("y.whole_file", Status::Passed, 1),
        ]);
        let mut skips = entry("x.skips", Status::NotRun, 0);
        skips.decisive.reason = Some("no such device".into());
        let mut other_host = entry("x.other_host", Status::Passed, 2);
        other_host.decisive.host = Some("farm2".parse().unwrap());
        let now = commit(vec![
            entry("x.collapses", Status::Passed, 5),
            entry("x.faster", Status::Passed, 20),
            other_host,
            entry("x.short", Status::Passed, 0),
            skips,
            entry("x.was_bad", Status::Passed, 1),
        ]);
        let found = |complete| -> Vec<String> {
            suspicious_passes(&before, &now, complete).iter().map(ToString::to_string).collect()
        };
        assert_eq!(found(false).len(), 2, "no test is gone while more results are to come");
        let found = found(true);
        assert_eq!(
            found,
            [
                "x.collapses: passed in 5.0 s, 40.0 s before",
                "x.gone: no longer listed by its test file",
                "x.skips: skipped, passed before: no such device",
            ]
        );
    }

    proptest! {
        /// Against a look-up of each test.
        #[test]
        fn a_merge_finds_what_a_lookup_finds(
            before in proptest::collection::btree_map("[ab]\\.[a-c]{1,2}", (0_usize..3, 0_u64..60), 0..12),
            now in proptest::collection::btree_map("[ab]\\.[a-c]{1,2}", (0_usize..3, 0_u64..60), 0..12),
        ) {
            let statuses = [Status::Passed, Status::NotRun, Status::Failed];
            let of = |rows: &std::collections::BTreeMap<String, (usize, u64)>| {
                commit(rows.iter().map(|(key, (at, seconds))| entry(key, statuses[*at], *seconds)).collect())
            };
            let (before, now) = (of(&before), of(&now));
            let naive = before.entries.iter().filter_map(|old| match now.get(&old.key) {
                Some(new) => check(old, Some(new)),
                None => {
                    let file = old.key.as_str().split('.').next().unwrap();
                    let same_file = now.entries.iter().any(|new| new.key.as_str().split('.').next() == Some(file));
                    (passed_or_failed(old.decisive.status) && same_file).then(|| check(old, None))?
                }
            });
            prop_assert_eq!(suspicious_passes(&before, &now, true), naive.collect::<Vec<_>>());
        }

        #[test]
        fn equal_results_are_not_suspicious(seconds in proptest::collection::vec(0_u64..100, 0..20), status in 0_usize..6) {
            let statuses =
                [Status::Passed, Status::Failed, Status::NotRun, Status::FailedToRun, Status::InProgress, Status::Unknown];
            let entries = seconds.iter().enumerate();
            let commit = commit(entries.map(|(at, s)| entry(&format!("x.t{at}"), statuses[(at + status) % 6], *s)).collect());
            prop_assert_eq!(suspicious_passes(&commit, &commit, true), vec![]);
        }
    }
}
