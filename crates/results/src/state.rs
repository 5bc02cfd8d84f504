//! What records mean to a commit: which attempt stands, which are kept beside it. Pure, and the same when a record is
//! new and when it is replayed.
//!
//! The first attempt that ran stands, whatever later ones say. `Failed to run` is no run: it gives way to a later
//! attempt that did run, and is kept beside it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use model::{Counts, HostName, ResultKey, Status};

use crate::codec::Mark;
use crate::journal::Record;
use crate::types::{Attempt, CommitResults, DURATION_MAX, Recorded, TestEntry, VerdictRecord, one_line};

/// The results of a commit while they are being written.
#[derive(Debug, Clone)]
pub struct CommitState {
    /// The message; empty where it is not known.
    pub message: String,
    /// Which records are in.
    pub mark: Mark,
    entries: BTreeMap<ResultKey, TestEntry>,
    counts: Counts,
    total: Duration,
    /// Entries read from status files, which may already hold what is about to be replayed.
    weak: HashSet<ResultKey>,
}

/// What one record did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// What to tell who recorded it.
    pub recorded: Recorded,
    /// Whether the published status of the test is another now.
    pub changed: bool,
}

impl CommitState {
    /// The state that a blob or a folder says.
    #[must_use]
    pub fn new(results: CommitResults, mark: Mark) -> Self {
        let (counts, total) = (results.counts(), results.duration());
        let entries = results.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        Self { message: results.message, mark, entries, counts, total, weak: HashSet::new() }
    }

    /// The state of a commit without results.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            message: String::new(),
            mark: Mark::default(),
            entries: BTreeMap::new(),
            counts: Counts::default(),
            total: Duration::ZERO,
            weak: HashSet::new(),
        }
    }

    /// From now until [`Self::replayed`], verdicts replace what is there: it was read from status files, which know
    /// less than the records to be replayed and may have been written from them.
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

    /// How many tests stand in each status.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The durations of all tests together.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.total
    }

    /// Takes a record in. Records that the state has already (by its mark) must not come here.
    pub fn apply(&mut self, record: &Record) -> Option<Effect> {
        match record {
            Record::Verdict(record) => return Some(self.verdict(record)),
            Record::Message { message, .. } => self.message.clone_from(message),
            Record::Log { key, attempt, full, bytes, .. } => self.log(key, *attempt, *full, *bytes),
        }
        None
    }

    fn verdict(&mut self, record: &VerdictRecord) -> Effect {
        let status = record.verdict.status();
        let mut new = TestEntry {
            key: record.key.clone(),
            status,
            duration: record.duration.min(DURATION_MAX),
            started: record.started,
            reason: record.verdict.reason().and_then(one_line),
            crash: record.crash.as_deref().and_then(one_line),
            host: record.host.clone(),
            slot: record.slot,
            kernel: record.kernel.clone(),
            image_hash: record.image_hash.clone(),
            attempt: 1,
            attempts: 1,
            log_bytes: 0,
            full_log_bytes: 0,
            others: Vec::new(),
        };
        let weak = self.weak.remove(&record.key);
        let Some(old) = self.entries.remove(&record.key) else {
            self.insert(new);
            return Effect { recorded: Recorded { attempt: 1, stands: true }, changed: true };
        };
        self.uncount(&old);
        let number = old.others.iter().map(|other| other.number).max().unwrap_or(0);
        if weak || !old.status.is_final() {
            // What stood there was no attempt.
            new.attempt = number + 1;
            new.others = old.others;
        } else {
            new.attempt = number.max(old.attempt) + 1;
            let ran = !matches!(status, Status::FailedToRun);
            if old.status == Status::FailedToRun && ran {
                let (beside, mut others) = into_attempt(old);
                others.push(beside);
                new.others = others;
            } else {
                let mut old = old;
                let attempt = new.attempt;
                old.others.push(into_attempt(new).0);
                old.attempts = attempts(&old);
                self.insert(old);
                return Effect { recorded: Recorded { attempt, stands: false }, changed: false };
            }
        }
        new.attempts = attempts(&new);
        let recorded = Recorded { attempt: new.attempt, stands: true };
        self.insert(new);
        Effect { recorded, changed: true }
    }

    fn log(&mut self, key: &ResultKey, attempt: u32, full: bool, bytes: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let (log, full_log) = if entry.attempt == attempt {
            (&mut entry.log_bytes, &mut entry.full_log_bytes)
        } else if let Some(other) = entry.others.iter_mut().find(|other| other.number == attempt) {
            (&mut other.log_bytes, &mut other.full_log_bytes)
        } else {
            return;
        };
        *if full { full_log } else { log } = bytes;
    }

    /// The test runs now; says whether that is news. A test that has its verdict keeps it.
    pub fn in_progress(
        &mut self,
        key: &ResultKey,
        started: i64,
        host: Option<&HostName>,
        slot: Option<u32>,
    ) -> bool {
        let mut entry = match self.entries.get(key) {
            Some(entry) if entry.status.is_final() => return false,
            Some(_) => self.take(key).unwrap_or_else(|| TestEntry::new(key.clone(), Status::InProgress)),
            None => TestEntry::new(key.clone(), Status::InProgress),
        };
        entry.status = Status::InProgress;
        entry.started = Some(started);
        entry.host = host.cloned();
        entry.slot = slot;
        self.insert(entry);
        true
    }

    /// The test does not run any more and has no verdict; says whether that is news.
    pub fn not_in_progress(&mut self, key: &ResultKey) -> bool {
        if self.entries.get(key).is_none_or(|entry| entry.status != Status::InProgress) {
            return false;
        }
        self.take(key);
        true
    }

    /// The tests that run now.
    #[must_use]
    pub fn running(&self) -> Vec<ResultKey> {
        let running = |entry: &&TestEntry| entry.status == Status::InProgress;
        self.entries.values().filter(running).map(|entry| entry.key.clone()).collect()
    }

    fn insert(&mut self, entry: TestEntry) {
        self.counts.add(entry.status);
        self.total += entry.duration;
        self.entries.insert(entry.key.clone(), entry);
    }

    fn take(&mut self, key: &ResultKey) -> Option<TestEntry> {
        let entry = self.entries.remove(key)?;
        self.uncount(&entry);
        Some(entry)
    }

    fn uncount(&mut self, entry: &TestEntry) {
        self.counts.remove(entry.status);
        self.total = self.total.saturating_sub(entry.duration);
    }
}

fn attempts(entry: &TestEntry) -> u32 {
    u32::try_from(entry.others.len()).unwrap_or(u32::MAX - 1) + 1
}

fn into_attempt(entry: TestEntry) -> (Attempt, Vec<Attempt>) {
    let attempt = Attempt {
        number: entry.attempt,
        status: entry.status,
        duration: entry.duration,
        started: entry.started,
        reason: entry.reason,
        crash: entry.crash,
        host: entry.host,
        slot: entry.slot,
        kernel: entry.kernel,
        image_hash: entry.image_hash,
        log_bytes: entry.log_bytes,
        full_log_bytes: entry.full_log_bytes,
    };
    (attempt, entry.others)
}

#[cfg(test)]
mod tests {
    use model::Verdict;

    use super::*;

    fn state() -> CommitState {
        CommitState::empty()
    }

    fn record(verdict: Verdict) -> Record {
        Record::Verdict(VerdictRecord::new(
            "0".repeat(40).parse().unwrap(),
            "a.b".parse().unwrap(),
            verdict,
            Duration::from_secs(2),
        ))
    }

    fn key() -> ResultKey {
        "a.b".parse().unwrap()
    }

    fn failed() -> Verdict {
        Verdict::Failed { reason: "x".into() }
    }

    fn recorded(state: &mut CommitState, verdict: Verdict) -> (u32, bool) {
        let effect = state.apply(&record(verdict)).unwrap();
        (effect.recorded.attempt, effect.recorded.stands)
    }

    #[test]
    fn the_first_verdict_stands() {
        let mut state = state();
        assert!(state.in_progress(&key(), 7, None, Some(1)));
        assert_eq!(state.counts().inprogress, 1);
        assert_eq!(recorded(&mut state, failed()), (1, true));
        assert_eq!(recorded(&mut state, Verdict::Passed), (2, false));
        assert!(!state.in_progress(&key(), 9, None, None), "a confirmation run does not hide the verdict");
        assert_eq!(recorded(&mut state, failed()), (3, false));
        let entry = &state.entries()[&key()];
        assert_eq!((entry.status, entry.attempt, entry.attempts), (Status::Failed, 1, 3));
        assert_eq!(entry.attempts_in(Status::Failed), 2);
        assert_eq!(state.counts(), Counts { failed: 1, ..Counts::default() });
        assert_eq!(state.duration(), Duration::from_secs(2));
    }

    #[test]
    fn failed_to_run_gives_way_to_a_run() {
        let mut state = state();
        let not_run = || Verdict::FailedToRun { reason: "no VM".into() };
        assert_eq!(recorded(&mut state, not_run()), (1, true));
        assert_eq!(recorded(&mut state, not_run()), (2, false));
        assert_eq!(recorded(&mut state, Verdict::Passed), (3, true));
        assert_eq!(recorded(&mut state, failed()), (4, false));
        let entry = &state.entries()[&key()];
        assert_eq!((entry.status, entry.attempts), (Status::Passed, 4));
        let numbers: Vec<u32> = entry.others.iter().map(|other| other.number).collect();
        assert_eq!(numbers, [2, 1, 4]);
    }

    #[test]
    fn log_sizes_go_to_their_attempt_and_strangers_are_ignored() {
        let mut state = state();
        recorded(&mut state, failed());
        recorded(&mut state, Verdict::Passed);
        for (attempt, full, bytes) in [(1, false, 10), (2, true, 20), (9, true, 30)] {
            let commit = "0".repeat(40).parse().unwrap();
            assert_eq!(state.apply(&Record::Log { commit, key: key(), attempt, full, bytes }), None);
        }
        let entry = &state.entries()[&key()];
        assert_eq!((entry.log_bytes, entry.full_log_bytes), (10, 0));
        assert_eq!((entry.others[0].log_bytes, entry.others[0].full_log_bytes), (0, 20));
    }

    #[test]
    fn what_stopped_running_is_gone() {
        let mut state = state();
        assert!(state.in_progress(&key(), 7, None, None));
        assert_eq!(state.running(), [key()]);
        assert!(state.not_in_progress(&key()));
        assert!(!state.not_in_progress(&key()));
        assert_eq!(state.counts().total(), 0);
    }

    #[test]
    fn replay_replaces_what_status_files_said() {
        let mut base = state();
        recorded(&mut base, failed());
        base.will_be_replayed();
        assert_eq!(recorded(&mut base, failed()), (1, true));
        base.replayed();
        assert_eq!(recorded(&mut base, failed()), (2, false));
    }
}
