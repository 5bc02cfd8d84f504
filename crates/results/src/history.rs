//! Queries over many commits: the history of a test, the counts of a branch for some tests, one test at a commit.
//!
//! Single tests are looked up in the database, or, if there is none, in the published files. Counts of many tests come
//! from the published files: the blob of a commit contains its sums, one status byte per test and a hash of the names,
//! so that a query reads little from each of hundreds of commits.

use std::collections::HashMap;
use std::time::Duration;

use model::{BranchRef, CommitId, ResultKey, Status};

use crate::codec::keys_hash;
use crate::db;
use crate::error::{Error, Result};
use crate::peek::Peek;
use crate::reader::Reader;
use crate::types::{BranchEntry, CrashEntry, HistoryEntry, Summary, TestEntry};
use crate::verdicts::{KeyId, VerdictTable};

/// The status of every test of a commit, in the order of the test names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses {
    /// Equal for commits with the same tests.
    pub keys_hash: u64,
    /// One status per test.
    pub statuses: Vec<Status>,
}

/// The number of commits by which the published listing of a branch can differ from the one in the database.
const LISTING_LAG: usize = 100;

impl Reader {
    /// The statuses of the tests of a commit, without their names. Takes a few small reads. `None` if there are no
    /// results.
    pub fn statuses(&self, commit: &CommitId) -> Result<Option<Statuses>> {
        let columns = Peek::open(&self.layout.blob(commit))
            .and_then(|peek| Some(Statuses { keys_hash: peek.keys_hash(), statuses: peek.statuses()? }));
        if columns.is_some() {
            return Ok(columns);
        }
        let Some(results) = self.commit(commit)? else { return Ok(None) };
        let keys_hash = keys_hash(results.entries.iter().map(|entry| &entry.key));
        Ok(Some(Statuses {
            keys_hash,
            statuses: results.entries.iter().map(|entry| entry.decisive.status).collect(),
        }))
    }

    /// The durations of the tests of a commit, in the order of the test names; `None` if there are no results.
    pub fn durations_at(&self, commit: &CommitId) -> Result<Option<Vec<Duration>>> {
        match Peek::open(&self.layout.blob(commit)).and_then(|peek| peek.durations()) {
            Some(durations) => Ok(Some(durations)),
            None => Ok(self
                .commit(commit)?
                .map(|results| results.entries.iter().map(|entry| entry.decisive.duration).collect())),
        }
    }

    /// The sums over all tests of a commit; `None` if there are no results.
    pub fn summary(&self, commit: &CommitId) -> Result<Option<Summary>> {
        match Peek::open(&self.layout.blob(commit)).and_then(|peek| peek.summary()) {
            Some(summary) => Ok(Some(summary)),
            None => Ok(self.commit(commit)?.map(|results| Summary::of(&results, |_| true))),
        }
    }

    /// One test at one commit; `None` if it has no result.
    pub fn entry(&self, commit: &CommitId, key: &ResultKey) -> Result<Option<TestEntry>> {
        if self.running().is_ok_and(|running| !running.is_some_and(|running| running.contains(commit)))
            && let Some(Some(entry)) =
                self.database.query(|database| db::history::entry(database, commit, key))
        {
            return Ok(entry);
        }
        self.published_entry(commit, key)
    }

    /// The same from the published file, which also has running tests.
    fn published_entry(&self, commit: &CommitId, key: &ResultKey) -> Result<Option<TestEntry>> {
        Ok(self.commit(commit)?.and_then(|results| results.get(key).cloned()))
    }

    /// One test at the commits of a branch, newest first; `None` if the branch does not exist. A commit with unreadable
    /// results is treated as one without results.
    pub fn history(&self, at: &BranchRef, key: &ResultKey) -> Result<Option<Vec<HistoryEntry>>> {
        let Some(commits) = self.branch(at)? else { return Ok(None) };
        let running = self.running().ok().map(Option::unwrap_or_default);
        let stored = running
            .as_ref()
            .and_then(|_| self.database.query(|database| db::history::history(database, at, key)));
        let (mut stored, running) = (stored.flatten().unwrap_or_default(), running.unwrap_or_default());
        let mut next = 0;
        let history = commits.into_iter().map(|BranchEntry { commit, message, .. }| {
            // The published listing and the one of the database have the same order.
            let found = stored[next..].iter().take(LISTING_LAG).position(|(id, _)| **id == *commit.as_str());
            let stored = found.map(|skipped| {
                next += skipped + 1;
                stored[next - 1].1.take()
            });
            let entry = stored.filter(|_| !running.contains(&commit)).unwrap_or_else(|| {
                self.published_entry(&commit, key).unwrap_or_else(|error| unreadable(&error))
            });
            HistoryEntry { commit, message, entry }
        });
        Ok(Some(history.collect()))
    }

    /// The attempts that crashed the kernel at the commits of a branch, newest commit first; `None` without a database
    /// that has the branch.
    #[must_use]
    pub fn crashes(&self, at: &BranchRef) -> Option<Vec<CrashEntry>> {
        self.database.query(|database| db::history::crashes(database, at)).flatten()
    }

    /// The commits of a branch, newest first, counting only the tests for which `keep` returns true; `None` if the
    /// branch does not exist. `keep` is called once per test, not once per test and commit.
    pub fn branch_filtered(
        &self,
        at: &BranchRef,
        mut keep: impl FnMut(&ResultKey) -> bool,
    ) -> Result<Option<Vec<BranchEntry>>> {
        let Some(mut commits) = self.branch(at)? else { return Ok(None) };
        let mut by_key = HashMap::new();
        let mut by_hash: HashMap<u64, Vec<bool>> = HashMap::new();
        for entry in &mut commits {
            let summary = self.filtered(&entry.commit, &mut keep, &mut by_key, &mut by_hash);
            let summary = summary.unwrap_or_else(|error| unreadable(&error).unwrap_or_default());
            (entry.counts, entry.duration) = (summary.counts, summary.duration);
        }
        Ok(Some(commits))
    }

    fn filtered(
        &self,
        commit: &CommitId,
        keep: &mut impl FnMut(&ResultKey) -> bool,
        by_key: &mut HashMap<ResultKey, bool>,
        by_hash: &mut HashMap<u64, Vec<bool>>,
    ) -> Result<Summary> {
        let columns = Peek::open(&self.layout.blob(commit)).and_then(|peek| {
            let kept = by_hash.get(&peek.keys_hash())?;
            let (statuses, durations) = (peek.statuses()?, peek.durations()?);
            (statuses.len() == kept.len() && durations.len() == kept.len())
                .then_some((kept, statuses, durations))
        });
        if let Some((kept, statuses, durations)) = columns {
            let mut summary = Summary::default();
            for ((_, status), duration) in
                kept.iter().zip(statuses).zip(durations).filter(|((kept, _), _)| **kept)
            {
                summary.add(status, duration);
            }
            return Ok(summary);
        }
        let Some(results) = self.commit(commit)? else { return Ok(Summary::default()) };
        let mut kept = |key: &ResultKey| match by_key.get(key) {
            Some(kept) => *kept,
            None => *by_key.entry(key.clone()).or_insert_with(|| keep(key)),
        };
        let vector: Vec<bool> = results.entries.iter().map(|entry| kept(&entry.key)).collect();
        by_hash.insert(keys_hash(results.entries.iter().map(|entry| &entry.key)), vector);
        Ok(Summary::of(&results, kept))
    }

    /// The tests of a commit that have a verdict, as numbers.
    pub(crate) fn ended(&self, commit: &CommitId, verdict_table: &VerdictTable) -> Result<Vec<KeyId>> {
        let columns = Peek::open(&self.layout.blob(commit)).and_then(|peek| {
            let (list, statuses) = (verdict_table.list(peek.keys_hash())?, peek.statuses()?);
            (list.len() == statuses.len()).then_some((list, statuses))
        });
        if let Some((list, statuses)) = columns {
            let ended = list.iter().zip(statuses).filter(|(_, status)| status.is_final());
            return Ok(ended.map(|(id, _)| *id).collect());
        }
        let Some(results) = self.commit(commit)? else { return Ok(Vec::new()) };
        let keys = results.entries.iter().map(|entry| &entry.key);
        let ids = verdict_table.remember(keys_hash(keys.clone()), keys);
        let ended = ids.iter().zip(&results.entries).filter(|(_, entry)| entry.decisive.status.is_final());
        Ok(ended.map(|(id, _)| *id).collect())
    }
}

fn unreadable<T>(error: &Error) -> Option<T> {
    tracing::warn!("{error}");
    None
}
