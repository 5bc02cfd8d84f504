//! Vacuity alarms: tests that still count as good although they seem to test nothing any more.
//!
//! Pure: two commits' results in, alarms out. Nothing here changes a verdict; an alarm asks somebody to look.

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
    /// It passed before and passes now, in a fraction of the time.
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
    /// Its file lists it no more.
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

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key)?;
        match &self.suspicion {
            Suspicion::Collapsed { before, now } => {
                write!(f, "passed in {:.1} s, took {:.1} s before", now.as_secs_f32(), before.as_secs_f32())
            }
            Suspicion::StoppedApplying { reason: Some(reason) } => {
                write!(f, "passed before, not run now: {reason}")
            }
            Suspicion::StoppedApplying { reason: None } => f.write_str("passed before, not run now"),
            Suspicion::Vanished => f.write_str("is listed no more"),
        }
    }
}

/// The alarms that `now` gives, compared with the older commit `before`, sorted by key. `listed` says whether the
/// newer commit's test files list a test, or whether that is not known yet; without a result and not listed it has
/// vanished.
#[must_use]
pub fn alarms(
    before: &CommitResults,
    now: &CommitResults,
    listed: impl Fn(&ResultKey) -> bool,
) -> Vec<Alarm> {
    let suspicion = |old: &TestEntry| match now.get(&old.key) {
        None => (!listed(&old.key) && ended(old.status)).then_some(Suspicion::Vanished),
        Some(new) if old.status == Status::Passed => compare(old, new),
        Some(_) => None,
    };
    let alarm = |old: &TestEntry| Some(Alarm { key: old.key.clone(), suspicion: suspicion(old)? });
    before.entries.iter().filter_map(alarm).collect()
}

fn ended(status: Status) -> bool {
    matches!(status, Status::Passed | Status::Failed)
}

fn compare(old: &TestEntry, new: &TestEntry) -> Option<Suspicion> {
    match new.status {
        Status::NotRun => Some(Suspicion::StoppedApplying { reason: new.reason.clone() }),
        Status::Passed if old.duration >= LEAST && new.duration.saturating_mul(FACTOR) <= old.duration => {
            Some(Suspicion::Collapsed { before: old.duration, now: new.duration })
        }
        _ => None,
    }
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
            entry("x.not_yet", Status::Passed, 1),
            entry("x.short", Status::Passed, 2),
            entry("x.skips", Status::Passed, 2),
            entry("x.skipped_ever", Status::NotRun, 0),
            entry("x.was_bad", Status::Failed, 40),
        ]);
        let mut skips = entry("x.skips", Status::NotRun, 0);
        skips.reason = Some("no such device".into());
        let now = commit(vec![
            entry("x.collapses", Status::Passed, 5),
            entry("x.faster", Status::Passed, 20),
            entry("x.short", Status::Passed, 0),
            skips,
            entry("x.was_bad", Status::Passed, 1),
        ]);
        let listed = |key: &ResultKey| key.as_str() == "x.not_yet";
        let told: Vec<String> = alarms(&before, &now, listed).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "x.collapses: passed in 5.0 s, took 40.0 s before",
                "x.gone: is listed no more",
                "x.skips: passed before, not run now: no such device",
            ]
        );
    }

    proptest! {
        #[test]
        fn the_same_results_give_no_alarm(seconds in proptest::collection::vec(0_u64..100, 0..20), status in 0_usize..6) {
            let statuses =
                [Status::Passed, Status::Failed, Status::NotRun, Status::FailedToRun, Status::InProgress, Status::Unknown];
            let entries = seconds.iter().enumerate();
            let commit = commit(entries.map(|(at, s)| entry(&format!("x.t{at}"), statuses[(at + status) % 6], *s)).collect());
            prop_assert_eq!(alarms(&commit, &commit, |_| true), vec![]);
        }
    }
}
