//! Queries over many commits: the history of a test, the counts of a branch for some tests, one test at a commit.
//!
//! Single tests are looked up in the database, or, if there is none, in the published files. Counts of many tests come
//! from the published files: the blob of a commit contains its sums, one status byte per test and a hash of the names,
//! so that a query reads little from each of hundreds of commits.

use std::collections::HashMap;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use model::{BranchRef, CommitId, ResultKey, Status};

use crate::codec::{BlobColumns, decode_names, keys_hash};
use crate::db;
use crate::error::{Error, Result};
use crate::files;
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

/// The number of tests of commits, and the places of the tests that a filter keeps in the order of names; by the hash of
/// the names.
type Kept = HashMap<u64, (usize, Vec<u32>)>;

/// The maximum number of threads of a filter, and the minimum number of commits of each.
const FILTER_THREADS: usize = 4;
const FILTER_MIN: usize = 500;

impl Reader {
    /// The statuses of the tests of a commit, without their names. Takes a few small reads. `None` if there are no
    /// results.
    pub fn statuses(&self, commit: &CommitId) -> Result<Option<Statuses>> {
        let columns = Peek::open(&self.layout.blob(commit))
            .and_then(|peek| Some(Statuses { keys_hash: peek.keys_hash(), statuses: peek.statuses()? }));
        if columns.is_some() {
            return Ok(columns);
        }
        if let Some(BlobColumns { keys_hash, statuses, .. }) = self.blob_columns(commit) {
            return Ok(Some(Statuses { keys_hash, statuses }));
        }
        let Some(results) = self.commit(commit)? else { return Ok(None) };
        let keys_hash = keys_hash(results.entries.iter().map(|entry| &entry.key));
        Ok(Some(Statuses { keys_hash, statuses: results.entries.iter().map(TestEntry::status).collect() }))
    }

    /// The names of the tests of a commit, sorted, and their hash as [`Statuses::keys_hash`]. Several times faster than reading all
    /// results. `None` if they have to be read.
    #[must_use]
    pub fn names(&self, commit: &CommitId) -> Option<(u64, Vec<Box<str>>)> {
        let bytes = files::read_aligned(&self.layout.blob(commit)).ok()??;
        decode_names(bytes.bytes())
    }

    /// The durations of the tests of a commit, in the order of the test names; `None` if there are no results.
    pub fn durations_at(&self, commit: &CommitId) -> Result<Option<Vec<Duration>>> {
        match Peek::open(&self.layout.blob(commit)).and_then(|peek| peek.durations()) {
            Some(durations) => Ok(Some(durations)),
            None => match self.blob_columns(commit) {
                Some(columns) => Ok(Some(columns.durations)),
                None => Ok(self
                    .commit(commit)?
                    .map(|results| results.entries.iter().map(|entry| entry.decisive.duration).collect())),
            },
        }
    }

    /// The sums over all tests of a commit; `None` if there are no results.
    pub fn summary(&self, commit: &CommitId) -> Result<Option<Summary>> {
        match Peek::open(&self.layout.blob(commit)).and_then(|peek| peek.summary()) {
            Some(summary) => Ok(Some(summary)),
            None => match self.blob_columns(commit) {
                Some(columns) => Ok(Some(columns.sums(0..columns.statuses.len()))),
                None => Ok(self.commit(commit)?.map(|results| Summary::of(&results, |_| true))),
            },
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

    /// The recorded attempts of one test at one commit, which may not be published yet; `None` if there are none. A running attempt is
    /// not one of them.
    pub fn recorded_entry(&self, commit: &CommitId, key: &ResultKey) -> Result<Option<TestEntry>> {
        match self.database.query(|database| db::history::entry(database, commit, key)) {
            Some(Some(entry)) => Ok(entry),
            _ => self.published_entry(commit, key),
        }
    }

    /// The same from the published file, which also has running tests.
    fn published_entry(&self, commit: &CommitId, key: &ResultKey) -> Result<Option<TestEntry>> {
        match self.blob_entry(commit, key) {
            Some(entry) => Ok(entry),
            None => Ok(self.commit(commit)?.and_then(|results| results.get(key).cloned())),
        }
    }

    /// One test at the commits of a branch, newest first; `None` if the branch does not exist. A commit with unreadable
    /// results is treated as one without results.
    pub fn history(&self, at: &BranchRef, key: &ResultKey) -> Result<Option<Vec<HistoryEntry>>> {
        let running = self.running().ok().map(Option::unwrap_or_default);
        // The listing is decoded while the database is read.
        let (commits, stored) = std::thread::scope(|scope| {
            let commits = scope.spawn(|| self.branch(at));
            let stored = running.as_ref().and_then(|_| self.stored_history(at, key));
            (join(commits), stored)
        });
        let Some(commits) = commits? else { return Ok(None) };
        let listed = |BranchEntry { commit, message, authorship, .. }| HistoryEntry {
            commit,
            message,
            authorship,
            entry: None,
        };
        let mut history: Vec<HistoryEntry> = commits.into_iter().map(listed).collect();
        let stored = stored.and_then(|(listing, rows)| {
            let fill =
                |database: &_| listing.fill(database, key, rows, &mut history)?.stored(database, &history);
            self.database.query(fill)
        });
        let (stored, running) = (stored.unwrap_or_default(), running.unwrap_or_default());
        for (place, entry) in history.iter_mut().enumerate() {
            if !stored.get(place).is_some_and(|is_stored| *is_stored) || running.contains(&entry.commit) {
                let published = self.published_entry(&entry.commit, key);
                entry.entry = published.unwrap_or_else(|error| unreadable(&error));
            }
        }
        Ok(Some(history))
    }

    /// What the database has of one test at the commits of a branch.
    fn stored_history(
        &self,
        at: &BranchRef,
        key: &ResultKey,
    ) -> Option<(db::history::Listing, db::history::TestRows)> {
        let listing = self.database.query(|database| db::history::listing(database, at))??;
        let read = |range| self.database.query(|database| listing.rows(database, key, &range));
        let (first, second) = listing.ranges();
        let (first, second) = std::thread::scope(|scope| {
            let second = second.map(|range| scope.spawn(move || read(range)));
            (read(first), second.map(join))
        });
        let mut rows = first?;
        if let Some(second) = second {
            rows.append(&mut second?);
        }
        Some((listing, rows))
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
        let (mut by_key, mut kept) = (HashMap::new(), HashMap::new());
        // Most commits have the same tests as the newest one that has results.
        let mut done = 0;
        while kept.is_empty() && done < commits.len() {
            self.filter(&mut commits[done], &mut keep, &mut by_key, &mut kept);
            done += 1;
        }
        let rest = &mut commits[done..];
        let missed = std::thread::scope(|scope| {
            let parts = rest.chunks_mut(rest.len().div_ceil(FILTER_THREADS).max(FILTER_MIN));
            let run = |part| self.filter_known(part, &kept);
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || run(part))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect::<Vec<_>>()
        });
        for entry in missed {
            self.filter(entry, &mut keep, &mut by_key, &mut kept);
        }
        Ok(Some(commits))
    }

    /// Counts the commits whose tests are known, and returns the others.
    fn filter_known<'a>(&self, entries: &'a mut [BranchEntry], kept: &Kept) -> Vec<&'a mut BranchEntry> {
        let (mut missed, mut columns) = (Vec::new(), Vec::new());
        for entry in entries {
            match self.sums(&entry.commit, kept, &mut columns) {
                Some(Summary { counts, duration }) => (entry.counts, entry.duration) = (counts, duration),
                None => missed.push(entry),
            }
        }
        missed
    }

    fn sums(&self, commit: &CommitId, kept: &Kept, columns: &mut Vec<u8>) -> Option<Summary> {
        let Some(peek) = Peek::open(&self.layout.blob(commit)) else {
            let columns = self.blob_columns(commit)?;
            let (_, places) =
                kept.get(&columns.keys_hash).filter(|(tests, _)| *tests == columns.statuses.len())?;
            return Some(columns.sums(places.iter().map(|place| *place as usize)));
        };
        let (tests, places) = kept.get(&peek.keys_hash())?;
        peek.sums(*tests, places, columns)
    }

    /// Counts a commit. If its tests are not known, they are afterwards.
    fn filter(
        &self,
        entry: &mut BranchEntry,
        keep: &mut impl FnMut(&ResultKey) -> bool,
        by_key: &mut HashMap<ResultKey, bool>,
        kept: &mut Kept,
    ) {
        let summary = self.sums(&entry.commit, kept, &mut Vec::new()).unwrap_or_else(|| {
            let results = self.commit(&entry.commit).unwrap_or_else(|error| unreadable(&error));
            let Some(results) = results else { return Summary::default() };
            let mut is_kept = |key: &ResultKey| match by_key.get(key) {
                Some(is_kept) => *is_kept,
                None => *by_key.entry(key.clone()).or_insert_with(|| keep(key)),
            };
            let hash = keys_hash(results.entries.iter().map(|entry| &entry.key));
            let places = (0..).zip(&results.entries).filter(|(_, entry)| is_kept(&entry.key));
            kept.insert(hash, (results.entries.len(), places.map(|(place, _)| place).collect()));
            Summary::of(&results, is_kept)
        });
        (entry.counts, entry.duration) = (summary.counts, summary.duration);
    }

    /// The tests of a commit with such a status, as numbers.
    pub(crate) fn having(
        &self,
        commit: &CommitId,
        verdict_table: &VerdictTable,
        is_wanted: impl Fn(Status) -> bool,
    ) -> Result<Vec<KeyId>> {
        let columns = Peek::open(&self.layout.blob(commit)).and_then(|peek| {
            let (list, statuses) = (verdict_table.list(peek.keys_hash())?, peek.statuses()?);
            (list.len() == statuses.len()).then_some((list, statuses))
        });
        if let Some((list, statuses)) = columns {
            let wanted = list.iter().zip(statuses).filter(|(_, status)| is_wanted(*status));
            return Ok(wanted.map(|(id, _)| *id).collect());
        }
        let Some(results) = self.commit(commit)? else { return Ok(Vec::new()) };
        let keys = results.entries.iter().map(|entry| &entry.key);
        let ids = verdict_table.remember(keys_hash(keys.clone()), keys);
        let wanted = ids.iter().zip(&results.entries).filter(|(_, entry)| is_wanted(entry.status()));
        Ok(wanted.map(|(id, _)| *id).collect())
    }
}

/// The result of a thread; its panic is passed on.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn unreadable<T>(error: &Error) -> Option<T> {
    tracing::warn!("{error}");
    None
}
