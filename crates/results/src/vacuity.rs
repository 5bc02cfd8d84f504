//! Vacuity alarms: tests that still count as good although they seem to test nothing any more.
//!
//! Pure: two commits' results in, alarms out. Nothing here changes a verdict; an alarm asks somebody to look. What could
//! have an ordinary reason is no alarm: a short duration, another host, a commit that is still being tested.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use model::{ResultKey, Status};

use crate::types::{CommitResults, TestEntry};

/// A test that took less than this is not measured against: start and end weigh too much in it.
pub const LEAST: Duration = Duration::from_secs(3);
/// A duration has collapsed when it is this many times smaller.
pub const FACTOR: u32 = 8;

/// What is suspicious about a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspicion {
    /// It passed before and passes now on the same host, in a fraction of the time.
    Collapsed {
        /// How long it took before.
        before: Duration,
        /// How long it takes now.
        now: Duration,
    },
    /// It passed before and says now that it does not apply.
    StoppedApplying {
        /// Its reason.
        reason: Option<String>,
    },
    /// It has no result any more, although others of its file have one and nothing more is to come: its file lists it no
    /// more.
    Vanished,
}

/// A suspicion about one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The test.
    pub key: ResultKey,
    /// What is suspicious.
    pub suspicion: Suspicion,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collapsed { before, now } => {
                write!(f, "passed in {:.1} s, took {:.1} s before", now.as_secs_f32(), before.as_secs_f32())
            }
            Self::StoppedApplying { reason: Some(reason) } => {
                write!(f, "passed before, not run now: {reason}")
            }
            Self::StoppedApplying { reason: None } => f.write_str("passed before, not run now"),
            Self::Vanished => f.write_str("had a verdict before, is listed no more"),
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.suspicion)
    }
}

/// What is looked at of a test's result first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance<'a> {
    /// The test.
    pub key: &'a str,
    /// Its status.
    pub status: Status,
    /// How long it took.
    pub duration: Duration,
}

impl<'a> From<&'a TestEntry> for Glance<'a> {
    fn from(entry: &'a TestEntry) -> Self {
        Self { key: entry.key.as_str(), status: entry.status, duration: entry.duration }
    }
}

/// The tests of which [`alarm`] may have something to say, given what two commits' columns tell; both are sorted by
/// key. `complete` says that the newer commit gets no more results.
pub fn suspects<'a>(
    before: impl IntoIterator<Item = Glance<'a>>,
    now: impl IntoIterator<Item = Glance<'a>>,
    complete: bool,
) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut now = now.into_iter().peekable();
    let mut last: Option<Glance<'_>> = None;
    for old in before {
        let new = loop {
            match now.peek().map(|new| new.key.cmp(old.key)) {
                Some(Ordering::Less) => last = now.next(),
                Some(Ordering::Equal) => break now.peek().copied(),
                Some(Ordering::Greater) | None => break None,
            }
        };
        let suspicious = match new {
            Some(new) => compare(&old, &new),
            // Names with a common beginning stand together, so a neighbour has it or none. What could not run says nothing.
            None => {
                let mut beside = [last, now.peek().copied()].into_iter().flatten();
                let told = |other: Glance<'_>| judged(other.status) && of_one_file(other.key, old.key);
                complete && ended(old.status) && beside.any(told)
            }
        };
        if suspicious {
            found.push(old.key);
        }
    }
    found
}

/// What is suspicious about a test, given its two results in full.
#[must_use]
pub fn alarm(old: &TestEntry, new: Option<&TestEntry>) -> Option<Alarm> {
    let suspicion = match new {
        None => Suspicion::Vanished,
        Some(new) if !compare(&old.into(), &new.into()) => return None,
        Some(new) if new.status == Status::NotRun => {
            Suspicion::StoppedApplying { reason: new.reason.clone() }
        }
        // Another host may be another machine altogether, with KVM where the first had none.
        Some(new) if new.host != old.host => return None,
        Some(new) => Suspicion::Collapsed { before: old.duration, now: new.duration },
    };
    Some(Alarm { key: old.key.clone(), suspicion })
}

/// The alarms that `now` gives, compared with the older commit `before`, sorted by key. `complete` says that `now` gets no
/// more results; before that, nothing has vanished.
#[must_use]
pub fn alarms(before: &CommitResults, now: &CommitResults, complete: bool) -> Vec<Alarm> {
    let suspects =
        suspects(before.entries.iter().map(Glance::from), now.entries.iter().map(Glance::from), complete);
    let look = |key: &str| {
        let key = key.parse().ok()?;
        alarm(before.get(&key)?, now.get(&key))
    };
    suspects.into_iter().filter_map(look).collect()
}

fn judged(status: Status) -> bool {
    ended(status) || status == Status::NotRun
}

fn ended(status: Status) -> bool {
    matches!(status, Status::Passed | Status::Failed)
}

fn compare(old: &Glance<'_>, new: &Glance<'_>) -> bool {
    let collapsed = || old.duration >= LEAST && new.duration.saturating_mul(FACTOR) <= old.duration;
    match (old.status, new.status) {
        (Status::Passed, Status::NotRun) => true,
        (Status::Passed, Status::Passed) => collapsed(),
        _ => false,
    }
}

/// Whether two tests have all but the last part of their names in common.
fn of_one_file(a: &str, b: &str) -> bool {
    let file = b.rfind('.').map_or("", |dot| &b[..=dot]);
    !file.is_empty() && a.starts_with(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(key: &str, status: Status, seconds: u64) -> TestEntry {
        TestEntry { duration: Duration::from_secs(seconds), ..TestEntry::new(key.parse().unwrap(), status) }
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
            entry("x.skipped_ever", Status::NotRun, 0),
            entry("x.was_bad", Status::Failed, 40),
            entry("y.whole_file", Status::Passed, 1),
        ]);
        let mut skips = entry("x.skips", Status::NotRun, 0);
        skips.reason = Some("no such device".into());
        let other_host =
            TestEntry { host: Some("farm2".parse().unwrap()), ..entry("x.other_host", Status::Passed, 2) };
        let now = commit(vec![
            entry("x.collapses", Status::Passed, 5),
            entry("x.faster", Status::Passed, 20),
            other_host,
            entry("x.short", Status::Passed, 0),
            skips,
            entry("x.was_bad", Status::Passed, 1),
        ]);
        let told = |complete| -> Vec<String> {
            alarms(&before, &now, complete).iter().map(ToString::to_string).collect()
        };
        assert_eq!(told(false).len(), 2, "while more is to come nothing has vanished");
        let told = told(true);
        assert_eq!(
            told,
            [
                "x.collapses: passed in 5.0 s, took 40.0 s before",
                "x.gone: had a verdict before, is listed no more",
                "x.skips: passed before, not run now: no such device",
            ]
        );
    }

    proptest! {
        /// Against looking up each test by itself.
        #[test]
        fn a_merge_finds_what_looking_up_finds(
            before in proptest::collection::btree_map("[ab]\\.[a-c]{1,2}", (0_usize..3, 0_u64..60), 0..12),
            now in proptest::collection::btree_map("[ab]\\.[a-c]{1,2}", (0_usize..3, 0_u64..60), 0..12),
        ) {
            let statuses = [Status::Passed, Status::NotRun, Status::Failed];
            let of = |rows: &std::collections::BTreeMap<String, (usize, u64)>| {
                commit(rows.iter().map(|(key, (at, seconds))| entry(key, statuses[*at], *seconds)).collect())
            };
            let (before, now) = (of(&before), of(&now));
            let naive = before.entries.iter().filter_map(|old| match now.get(&old.key) {
                Some(new) => alarm(old, Some(new)),
                None => {
                    let file = old.key.as_str().split('.').next().unwrap();
                    let beside = now.entries.iter().any(|new| new.key.as_str().split('.').next() == Some(file));
                    (ended(old.status) && beside).then(|| alarm(old, None))?
                }
            });
            prop_assert_eq!(alarms(&before, &now, true), naive.collect::<Vec<_>>());
        }

        #[test]
        fn the_same_results_give_no_alarm(seconds in proptest::collection::vec(0_u64..100, 0..20), status in 0_usize..6) {
            let statuses =
                [Status::Passed, Status::Failed, Status::NotRun, Status::FailedToRun, Status::InProgress, Status::Unknown];
            let entries = seconds.iter().enumerate();
            let commit = commit(entries.map(|(at, s)| entry(&format!("x.t{at}"), statuses[(at + status) % 6], *s)).collect());
            prop_assert_eq!(alarms(&commit, &commit, true), vec![]);
        }
    }
}
