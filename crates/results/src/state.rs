//! The results of one commit while it is written: applies records. Pure. New records and those of an imported journal
//! are handled in the same way.
//!
//! The first attempt that ran is decisive, regardless of later attempts. If the decisive attempt failed to run, a later
//! one that ran replaces it, and it is kept among the other attempts.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use model::{Counts, HostName, ResultKey, Status, Verdict};

use crate::journal::Record;
use crate::types::{Attempt, CommitResults, DURATION_MAX, Recorded, TestEntry, VerdictRecord, one_line};

/// The results of a commit while they are being written.
#[derive(Debug, Clone)]
pub struct CommitState {
    /// The message; empty if unknown.
    pub message: String,
    entries: BTreeMap<ResultKey, TestEntry>,
    counts: Counts,
    total: Duration,
    /// Entries from status files, which may already include a record that is replayed.
    weak: HashSet<ResultKey>,
}

/// The effect of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// The reply to the caller that recorded it.
    pub recorded: Recorded,
    /// Whether the published status of the test changed.
    pub changed: bool,
}

impl CommitState {
    /// The state of a commit with stored results.
    #[must_use]
    pub fn new(results: CommitResults) -> Self {
        let (counts, total) = (results.counts(), results.duration());
        let entries = results.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        Self { message: results.message, entries, counts, total, weak: HashSet::new() }
    }

    /// The state of a commit without results.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            message: String::new(),
            entries: BTreeMap::new(),
            counts: Counts::default(),
            total: Duration::ZERO,
            weak: HashSet::new(),
        }
    }

    /// Until [`Self::replayed`] is called, verdicts replace the entries, because these were read from status files,
    /// which contain less than the records to be replayed and may have been written from them.
    pub fn will_be_replayed(&mut self) {
        self.weak = self.entries.keys().cloned().collect();
    }

    /// See [`Self::will_be_replayed`].
    pub fn replayed(&mut self) {
        self.weak.clear();
    }

    /// The entries by key.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<ResultKey, TestEntry> {
        &self.entries
    }

    /// The number of tests by status.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The sum of the durations of all tests.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.total
    }

    /// Applies a record. The caller skips records that are already included.
    pub fn apply(&mut self, record: &Record) -> Option<Effect> {
        match record {
            Record::Verdict(record) => return Some(self.verdict(record)),
            Record::Message { message, .. } => self.message.clone_from(message),
            Record::Log { key, attempt, full, bytes, .. } => self.log(key, *attempt, *full, *bytes),
            Record::Judgement { key, attempt, verdict, .. } => return self.judge(key, *attempt, verdict),
        }
        None
    }

    /// Replaces the verdict of the decisive attempt, if it is still this one and has a verdict of a test that ran.
    fn judge(&mut self, key: &ResultKey, attempt: u32, verdict: &Verdict) -> Option<Effect> {
        let is_same = |entry: &TestEntry| {
            entry.decisive.number == attempt
                && matches!(entry.decisive.status, Status::Failed | Status::NotRun)
        };
        self.entries.get(key).filter(|entry| is_same(entry))?;
        let mut entry = self.take(key)?;
        entry.decisive.status = verdict.status();
        entry.decisive.reason = verdict.reason().and_then(one_line);
        Some(self.decide(entry))
    }

    fn verdict(&mut self, record: &VerdictRecord) -> Effect {
        let status = record.verdict.status();
        let mut new = Attempt {
            number: 1,
            status,
            duration: record.duration.min(DURATION_MAX),
            started: record.started,
            reason: record.verdict.reason().and_then(one_line),
            crash: record.crash.as_deref().and_then(one_line),
            host: record.host.clone(),
            slot: record.slot,
            kernel: record.kernel.clone(),
            image_hash: record.image_hash.as_deref().map(Into::into),
            log_bytes: 0,
            full_log_bytes: 0,
            conditions: record.conditions.clone(),
            ran_at: record.ran_at.clone(),
        };
        let weak = self.weak.remove(&record.key);
        let Some(old) = self.entries.remove(&record.key) else {
            return self.decide(TestEntry { key: record.key.clone(), decisive: new, others: Vec::new() });
        };
        self.uncount(&old);
        let TestEntry { key, decisive, mut others } = old;
        let number = others.iter().map(|other| other.number).max().unwrap_or(0);
        if weak || !decisive.status.is_final() {
            // The old entry is not an attempt: the test was running, or a status file was read.
            new.number = number + 1;
            return self.decide(TestEntry { key, decisive: new, others });
        }
        new.number = number.max(decisive.number) + 1;
        if decisive.status == Status::FailedToRun && status != Status::FailedToRun {
            others.push(decisive);
            return self.decide(TestEntry { key, decisive: new, others });
        }
        let attempt = new.number;
        others.push(new);
        self.insert(TestEntry { key, decisive, others });
        Effect { recorded: Recorded { attempt, decisive: false }, changed: false }
    }

    /// Sets an entry with a new decisive attempt.
    fn decide(&mut self, entry: TestEntry) -> Effect {
        let recorded = Recorded { attempt: entry.decisive.number, decisive: true };
        self.insert(entry);
        Effect { recorded, changed: true }
    }

    fn log(&mut self, key: &ResultKey, attempt: u32, full: bool, bytes: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let mut attempts = std::iter::once(&mut entry.decisive).chain(&mut entry.others);
        let Some(attempt) = attempts.find(|other| other.number == attempt) else { return };
        *if full { &mut attempt.full_log_bytes } else { &mut attempt.log_bytes } = bytes;
    }

    /// Marks a test as running and returns whether that is a change. A test with a verdict keeps it.
    pub fn in_progress(
        &mut self,
        key: &ResultKey,
        started: i64,
        host: Option<&HostName>,
        slot: Option<u32>,
    ) -> bool {
        let mut entry = match self.entries.get(key) {
            Some(entry) if entry.decisive.status.is_final() => return false,
            Some(_) => self.take(key).unwrap_or_else(|| TestEntry::new(key.clone(), Status::InProgress)),
            None => TestEntry::new(key.clone(), Status::InProgress),
        };
        entry.decisive.status = Status::InProgress;
        entry.decisive.started = Some(started);
        entry.decisive.host = host.cloned();
        entry.decisive.slot = slot;
        self.insert(entry);
        true
    }

    /// Removes a running test that ended without a verdict, and returns whether that is a change.
    pub fn not_in_progress(&mut self, key: &ResultKey) -> bool {
        if self.entries.get(key).is_none_or(|entry| entry.decisive.status != Status::InProgress) {
            return false;
        }
        self.take(key);
        true
    }

    /// The running tests.
    #[must_use]
    pub fn running(&self) -> Vec<ResultKey> {
        self.running_entries().map(|entry| entry.key.clone()).collect()
    }

    /// The entries of the running tests.
    pub fn running_entries(&self) -> impl Iterator<Item = &TestEntry> {
        let running = |entry: &&TestEntry| entry.decisive.status == Status::InProgress;
        self.entries.values().filter(running).take(self.counts.inprogress as usize)
    }

    /// Replaces the entry of a test, or removes it.
    pub fn restore(&mut self, key: &ResultKey, entry: Option<TestEntry>) {
        self.take(key);
        if let Some(entry) = entry {
            self.insert(entry);
        }
    }

    fn insert(&mut self, entry: TestEntry) {
        self.counts.add(entry.status());
        self.total += entry.decisive.duration;
        self.entries.insert(entry.key.clone(), entry);
    }

    fn take(&mut self, key: &ResultKey) -> Option<TestEntry> {
        let entry = self.entries.remove(key)?;
        self.uncount(&entry);
        Some(entry)
    }

    fn uncount(&mut self, entry: &TestEntry) {
        self.counts.remove(entry.status());
        self.total = self.total.saturating_sub(entry.decisive.duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> CommitState {
        CommitState::empty()
    }

    fn record(verdict: Verdict) -> Record {
        let (commit, key) = ("0".repeat(40).parse().unwrap(), "a.b".parse().unwrap());
        Record::Verdict(VerdictRecord::new(commit, key, verdict, Duration::from_secs(2)).into())
    }

    fn key() -> ResultKey {
        "a.b".parse().unwrap()
    }

    fn failed() -> Verdict {
        Verdict::Failed { reason: "x".into() }
    }

    fn recorded(state: &mut CommitState, verdict: Verdict) -> (u32, bool) {
        let effect = state.apply(&record(verdict)).unwrap();
        (effect.recorded.attempt, effect.recorded.decisive)
    }

    #[test]
    fn the_first_verdict_is_decisive() {
        let mut state = state();
        assert!(state.in_progress(&key(), 7, None, Some(1)));
        assert_eq!(state.counts().inprogress, 1);
        assert_eq!(recorded(&mut state, failed()), (1, true));
        assert_eq!(recorded(&mut state, Verdict::Passed), (2, false));
        assert!(!state.in_progress(&key(), 9, None, None), "a retry does not hide the verdict");
        assert_eq!(recorded(&mut state, failed()), (3, false));
        let entry = &state.entries()[&key()];
        assert_eq!((entry.decisive.status, entry.decisive.number, entry.attempts()), (Status::Failed, 1, 3));
        assert_eq!(entry.attempts_in(Status::Failed), 2);
        assert_eq!(state.counts(), Counts { flaky: 1, ..Counts::default() });
        assert_eq!(state.duration(), Duration::from_secs(2));
    }

    #[test]
    fn a_run_replaces_failed_to_run() {
        let mut state = state();
        let not_run = || Verdict::FailedToRun { reason: "no VM".into() };
        assert_eq!(recorded(&mut state, not_run()), (1, true));
        assert_eq!(recorded(&mut state, not_run()), (2, false));
        assert_eq!(recorded(&mut state, Verdict::Passed), (3, true));
        assert_eq!(recorded(&mut state, failed()), (4, false));
        let entry = &state.entries()[&key()];
        assert_eq!((entry.decisive.status, entry.attempts()), (Status::Passed, 4));
        let numbers: Vec<u32> = entry.others.iter().map(|other| other.number).collect();
        assert_eq!(numbers, [2, 1, 4]);
    }

    #[test]
    fn a_judgement_replaces_the_verdict_of_the_decisive_attempt() {
        let mut state = state();
        recorded(&mut state, failed());
        recorded(&mut state, Verdict::Passed);
        let known = || Verdict::NotRun { reason: "known failure: y; it failed: x".into() };
        let judge = |state: &mut CommitState, attempt, verdict| {
            let commit = "0".repeat(40).parse().unwrap();
            state.apply(&Record::Judgement { commit, key: key(), attempt, verdict })
        };
        assert_eq!(judge(&mut state, 2, known()), None, "not the decisive one");
        assert_eq!(state.counts(), Counts { flaky: 1, ..Counts::default() });
        let effect = judge(&mut state, 1, known()).unwrap();
        assert_eq!((effect.recorded.attempt, effect.recorded.decisive, effect.changed), (1, true, true));
        assert_eq!(state.counts(), Counts { notrun: 1, ..Counts::default() });
        let entry = &state.entries()[&key()];
        assert_eq!((entry.decisive.number, entry.attempts()), (1, 2));
        judge(&mut state, 1, failed()).unwrap();
        assert_eq!(state.counts(), Counts { flaky: 1, ..Counts::default() });
        assert_eq!(state.duration(), Duration::from_secs(2));
    }

    #[test]
    fn log_sizes_of_unknown_attempts_are_ignored() {
        let mut state = state();
        recorded(&mut state, failed());
        recorded(&mut state, Verdict::Passed);
        for (attempt, full, bytes) in [(1, false, 10), (2, true, 20), (9, true, 30)] {
            let commit = "0".repeat(40).parse().unwrap();
            assert_eq!(state.apply(&Record::Log { commit, key: key(), attempt, full, bytes }), None);
        }
        let entry = &state.entries()[&key()];
        assert_eq!((entry.decisive.log_bytes, entry.decisive.full_log_bytes), (10, 0));
        assert_eq!((entry.others[0].log_bytes, entry.others[0].full_log_bytes), (0, 20));
    }

    #[test]
    fn a_test_that_stopped_without_a_verdict_has_no_result() {
        let mut state = state();
        assert!(state.in_progress(&key(), 7, None, None));
        assert_eq!(state.running(), [key()]);
        assert!(state.not_in_progress(&key()));
        assert!(!state.not_in_progress(&key()));
        assert_eq!(state.counts().total(), 0);
    }

    #[test]
    fn replay_replaces_entries_of_status_files() {
        let mut base = state();
        recorded(&mut base, failed());
        base.will_be_replayed();
        assert_eq!(recorded(&mut base, failed()), (1, true));
        base.replayed();
        assert_eq!(recorded(&mut base, failed()), (2, false));
    }
}
