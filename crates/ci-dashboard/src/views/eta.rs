//! Reads the input of [`regress::eta`] and displays its estimates.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use model::StatusSnapshot;
use regress::CommitStatuses;
use regress::activity::{self, Work};
use regress::eta::{Eta, eta, expected_slots, expected_tests};
use results::BranchEntry;
use results::notes::BuildOutcome;

use super::Context;
use crate::page::{Plural as _, Took};
use crate::route::BranchRef;

/// The number of older commits that are searched for a build.
const BUILDS_READ: usize = 3;

/// The estimates of one page.
pub struct Estimator<'a> {
    context: Context<'a>,
    /// The mean durations, once they are needed.
    means: OnceCell<HashMap<String, Duration>>,
    slots: HashMap<&'a str, f64>,
    snapshot: &'a StatusSnapshot,
}

/// An estimate, as displayed on pages.
pub struct EtaText(Eta);

impl EtaText {
    /// The time, for an order; what is not known comes last.
    #[must_use]
    pub fn order(&self) -> Duration {
        match &self.0 {
            Eta::Done => Duration::ZERO,
            Eta::In { time, .. } => *time,
            Eta::Stalled { .. } => Duration::MAX.saturating_sub(Duration::from_secs(1)),
            Eta::Unknown => Duration::MAX,
        }
    }
}

impl<'a> Estimator<'a> {
    /// Estimates from the snapshot, and from past durations, which are read once they are needed.
    #[must_use]
    pub fn new(context: Context<'a>, snapshot: &'a StatusSnapshot) -> Self {
        Self { context, means: OnceCell::new(), slots: expected_slots(snapshot), snapshot }
    }

    /// The estimate for the tip of a branch.
    #[must_use]
    pub fn tip(&self, at: &BranchRef) -> EtaText {
        let Ok(entries) = self.context.store.branch(at) else { return EtaText(Eta::Unknown) };
        EtaText(self.commit(at, &entries, 0))
    }

    /// The estimate for the commit at a row of a branch.
    #[must_use]
    fn commit(&self, at: &BranchRef, entries: &[BranchEntry], first: usize) -> Eta {
        let statuses = |row: usize| -> Option<CommitStatuses> {
            let entry = entries.get(row).filter(|entry| entry.counts.total() > 0)?;
            self.context.store.statuses(&entry.commit)
        };
        let expected = expected_tests((first + 1..entries.len()).map(statuses));
        let slots = self.slots.get(at.user.as_str()).copied().unwrap_or(0.0);
        let read = || {
            let durations = self.context.store.reader().durations().unwrap_or_default();
            durations.into_iter().map(|known| (known.test.to_string(), known.mean)).collect()
        };
        let means = self.means.get_or_init(read);
        let mean = |name: &str| means.get(name).copied();
        let work = self.work(entries, first);
        eta(statuses(first).as_ref(), expected.as_ref(), mean, slots, work)
    }

    /// What the snapshot shows of the commit at a row.
    fn work(&self, entries: &[BranchEntry], row: usize) -> Work {
        let Some(entry) = entries.get(row) else { return Work::default() };
        let is_built = entry.counts.total() > 0;
        let build = || {
            let recent =
                entries.iter().skip(row + 1).filter(|entry| entry.counts.total() > 0).take(BUILDS_READ);
            recent.filter_map(|entry| self.longest_build(entry)).next()
        };
        let past = if is_built { None } else { build() };
        Work::of_commit(self.snapshot, entry.commit.as_str(), self.context.now, (past, is_built))
    }

    fn longest_build(&self, entry: &BranchEntry) -> Option<Duration> {
        let builds = self.context.store.reader().builds(&entry.commit).into_iter();
        builds.filter(|build| build.outcome == BuildOutcome::Built).map(|build| build.duration).max()
    }

    /// Whether tests of a commit are queued or running.
    #[must_use]
    pub fn is_active(&self, entry: &BranchEntry) -> bool {
        self.snapshot.is_active(entry.commit.as_str())
    }

    /// What is being done for the commit at a row, in words: `building 6 min on local/0 (1,840 of 2,900 objects), 26 tests to come, ETA
    /// 12 min`. `None` if none of its tests is queued or running.
    #[must_use]
    pub fn progress(&self, at: &BranchRef, entries: &[BranchEntry], row: usize) -> Option<String> {
        let entry = entries.get(row).filter(|entry| self.is_active(entry))?;
        let commit = entry.commit.as_str();
        let running = activity::of_commit(self.snapshot, commit, self.context.now);
        let first = running.first().map_or_else(|| "queued".to_owned(), ToString::to_string);
        let more = match running.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let rest = match self.commit(at, entries, row) {
            Eta::In { tests, time } => {
                let time = Took(time.max(Duration::from_secs(1)));
                format!(", {} to come, ETA {time}", tests.plural("test"))
            }
            Eta::Stalled { tests } => format!(", {} to come, no usable slot", tests.plural("test")),
            Eta::Done | Eta::Unknown => String::new(),
        };
        Some(format!("{first}{more}{rest}"))
    }
}

impl fmt::Display for EtaText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Eta::Done => f.write_str("done"),
            Eta::In { tests, time } if time.as_secs() < 60 => {
                write!(f, "{tests} left, less than a minute")
            }
            Eta::In { tests, time } => write!(f, "{tests} left, about {}", Took(time)),
            Eta::Stalled { tests } => write!(f, "{tests} left, no usable slot"),
            Eta::Unknown => f.write_str("unknown (no history yet)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_in_words() {
        let text = |eta| EtaText(eta).to_string();
        assert_eq!(text(Eta::In { tests: 2, time: Duration::from_secs(700) }), "2 left, about 11 min");
        assert_eq!(text(Eta::In { tests: 2, time: Duration::from_secs(59) }), "2 left, less than a minute");
    }
}
