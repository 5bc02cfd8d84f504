//! The past durations of tests. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use model::{ResultKey, Status};

use crate::journal::Record;
use crate::types::{DURATION_MAX, TestDuration};

/// The past durations by test.
#[derive(Debug, Default)]
pub struct DurationTable {
    entries: BTreeMap<ResultKey, TestDuration>,
}

impl DurationTable {
    pub fn new(entries: Vec<TestDuration>) -> Self {
        Self { entries: entries.into_iter().map(|entry| (entry.test.clone(), entry)).collect() }
    }

    pub fn entries(&self) -> &BTreeMap<ResultKey, TestDuration> {
        &self.entries
    }

    /// Applies a record. Returns the new durations of its test and the old ones. Only tests that passed or failed
    /// count, and each run counts once.
    pub fn apply(&mut self, record: &Record) -> Option<(&TestDuration, Option<TestDuration>)> {
        let Record::Verdict(record) = record else { return None };
        if record.ran_at.is_some() {
            return None;
        }
        let (passed, failed) = match record.verdict.status() {
            Status::Passed => (1, 0),
            Status::Failed => (0, 1),
            _ => return None,
        };
        let new =
            || TestDuration { test: record.key.clone(), mean: Duration::ZERO, nr: 0, passed: 0, failed: 0 };
        let (entry, old) = match self.entries.entry(record.key.clone()) {
            Entry::Occupied(entry) => {
                let old = entry.get().clone();
                (entry.into_mut(), Some(old))
            }
            Entry::Vacant(place) => (place.insert(new()), None),
        };
        entry.nr = entry.nr.saturating_add(1);
        entry.passed = entry.passed.saturating_add(passed);
        entry.failed = entry.failed.saturating_add(failed);
        entry.mean = mean(entry.mean, record.duration.min(DURATION_MAX), entry.nr);
        Some((entry, old))
    }

    /// Reverts what [`Self::apply`] changed.
    pub fn restore(&mut self, key: &ResultKey, old: Option<TestDuration>) {
        match old {
            Some(old) => drop(self.entries.insert(key.clone(), old)),
            None => drop(self.entries.remove(key)),
        }
    }
}

/// The mean of `nr` runs, of which the last took `new` and the others `old` on average.
fn mean(old: Duration, new: Duration, nr: u64) -> Duration {
    let (old, new, nr) = (old.as_millis(), new.as_millis(), u128::from(nr.max(1)));
    let mean = (old * (nr - 1) + new + nr / 2) / nr;
    Duration::from_millis(u64::try_from(mean).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means() {
        let ms = Duration::from_millis;
        assert_eq!(mean(ms(0), ms(500), 1), ms(500));
        assert_eq!(mean(ms(500), ms(1500), 2), ms(1000));
        assert_eq!(mean(ms(1000), ms(1000), u64::MAX), ms(1000));
        assert_eq!(mean(ms(u64::MAX), ms(u64::MAX), u64::MAX), ms(u64::MAX));
    }
}
