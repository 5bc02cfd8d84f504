//! The durations of tests, updated from the verdicts.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use model::Status;

use super::Shared;
use super::pass::{Publication, Subject};
use crate::codec::{self, Mark};
use crate::journal::Record;
use crate::reader::Reader;
use crate::types::{DURATION_MAX, TestDuration};

pub struct Durations {
    shared: Arc<Shared>,
    mark: Mark,
    dirty_since: Option<Instant>,
}

impl Durations {
    /// Reads the durations; unreadable ones start empty.
    pub fn load(reader: &Reader, shared: Arc<Shared>) -> Self {
        let blob = reader.durations_blob().unwrap_or_else(|error| {
            tracing::warn!("{error}; durations begin anew");
            codec::DurationsBlob::default()
        });
        let entries = blob.entries.into_iter().map(|entry| (entry.test.clone(), entry)).collect();
        *shared.durations.write().unwrap_or_else(PoisonError::into_inner) = entries;
        Self { shared, mark: blob.mark, dirty_since: None }
    }

    /// Applies a record, unless the blob includes it. Only tests that passed or failed count.
    pub fn apply(&mut self, epoch: u64, sequence: u64, record: &Record) {
        let Record::Verdict(record) = record else { return };
        if self.mark.epoch == epoch && self.mark.sequence >= sequence {
            return;
        }
        self.mark = Mark { epoch, sequence };
        let (passed, failed) = match record.verdict.status() {
            Status::Passed => (1, 0),
            Status::Failed => (0, 1),
            _ => return,
        };
        let mut entries = self.shared.durations.write().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(record.key.clone()).or_insert_with(|| TestDuration {
            test: record.key.clone(),
            mean: Duration::ZERO,
            nr: 0,
            passed: 0,
            failed: 0,
        });
        entry.nr = entry.nr.saturating_add(1);
        entry.passed = entry.passed.saturating_add(passed);
        entry.failed = entry.failed.saturating_add(failed);
        entry.mean = mean(entry.mean, record.duration.min(DURATION_MAX), entry.nr);
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    pub fn dirty_since(&self) -> Option<Instant> {
        self.dirty_since
    }

    pub fn failed(&mut self) {
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    /// The bytes of the blob; it counts as up to date from now on.
    pub fn publication(&mut self, reader: &Reader) -> Publication {
        self.dirty_since = None;
        let entries = self.shared.durations.read().unwrap_or_else(PoisonError::into_inner);
        Publication {
            subject: Subject::Durations,
            path: reader.layout.durations(),
            bytes: codec::encode_durations(entries.values(), self.mark),
        }
    }
}

/// The mean of `nr` runs: the last took `new`, the others `old` on average.
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
