//! What the views read, with what a running server remembers between requests.
//!
//! A commit's verdicts are remembered by the stamp of its blob (length, time of change, inode): blobs are replaced by
//! rename, so an equal stamp is an equal blob. Nothing else is remembered; a CGI process starts with an empty memory.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use model::CommitId;
use regress::branch_history::BranchHistory;
use regress::{CommitStatuses, Names};
use results::layout::Layout;
use results::{BranchEntry, CommitResults, Reader, Statuses};

use crate::problem::Problem;
use crate::route::BranchRef;

/// How many commits are remembered; at 5,000 tests 5 KB each.
const REMEMBERED: usize = 8000;
/// How many sets of names are remembered; at 5,000 tests 300 KB each.
const NAME_SETS: usize = 100;

type Stamp = (u64, i64, i64, u64);

#[derive(Default)]
struct Memory {
    statuses: HashMap<CommitId, (Stamp, CommitStatuses)>,
    /// Sets of names by their hash: most commits have the same tests as the next.
    names: HashMap<u64, Names>,
}

/// The results and the memory of them.
pub struct Store {
    reader: Reader,
    memory: Mutex<Memory>,
}

impl Store {
    /// Over a reader.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self { reader, memory: Mutex::default() }
    }

    /// The reader.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The commits of a branch, newest first.
    pub fn branch(&self, at: &BranchRef) -> Result<Vec<BranchEntry>, Problem> {
        let missing = || Problem::NotFound("there is no such branch".into());
        self.reader.branch(at)?.ok_or_else(missing)
    }

    /// The verdicts of a commit; `None` if it has no results or they cannot be read (which is logged, not shown: one
    /// damaged blob must not hide a branch).
    pub fn statuses(&self, commit: &CommitId) -> Option<CommitStatuses> {
        let stamp = self.stamp(commit);
        if let Some(stamp) = stamp
            && let Some((remembered, statuses)) = self.memory().statuses.get(commit)
            && *remembered == stamp
        {
            return Some(statuses.clone());
        }
        let statuses = self.read_statuses(commit).unwrap_or_else(|error| {
            tracing::warn!("{error}");
            None
        })?;
        if let Some(stamp) = stamp {
            let mut memory = self.memory();
            if memory.statuses.len() >= REMEMBERED {
                memory.statuses.clear();
            }
            memory.statuses.insert(commit.clone(), (stamp, statuses.clone()));
        }
        Some(statuses)
    }

    /// What changed from commit to commit of a branch's listing, newest first.
    pub fn history(&self, listed: &[BranchEntry]) -> BranchHistory {
        BranchHistory::new(listed.iter().map(|entry| {
            // A commit without counts has no results to be read.
            (entry.counts.total() > 0).then(|| self.statuses(&entry.commit)).flatten()
        }))
    }

    fn read_statuses(&self, commit: &CommitId) -> results::Result<Option<CommitStatuses>> {
        let Some(Statuses { keys_hash, statuses }) = self.reader.statuses(commit)? else { return Ok(None) };
        let known = self.memory().names.get(&keys_hash).cloned();
        if let Some(names) = known.filter(|names| names.len() == statuses.len()) {
            return Ok(Some(CommitStatuses { names, statuses: statuses.into() }));
        }
        // A set of tests that was not met so far: names and statuses of one and the same blob.
        let Some(results) = self.reader.commit(commit)? else { return Ok(None) };
        let statuses = results.entries.iter().map(|entry| entry.status).collect();
        Ok(Some(CommitStatuses { names: self.learn(&results), statuses }))
    }

    /// Remembers the names of a commit that was read whole, for its neighbours that most likely have the same.
    pub fn learn(&self, results: &CommitResults) -> Names {
        let keys_hash = results::codec::keys_hash(results.entries.iter().map(|entry| &entry.key));
        let mut memory = self.memory();
        if let Some(names) = memory.names.get(&keys_hash).filter(|names| names.len() == results.entries.len())
        {
            return Arc::clone(names);
        }
        if memory.names.len() >= NAME_SETS {
            memory.names.clear();
        }
        let names: Names = results.entries.iter().map(|entry| Box::from(entry.key.as_str())).collect();
        memory.names.insert(keys_hash, Arc::clone(&names));
        names
    }

    fn stamp(&self, commit: &CommitId) -> Option<Stamp> {
        let blob = Layout::new(self.reader.output_dir()).blob(commit);
        let data = std::fs::metadata(blob).ok()?;
        Some((data.len(), data.mtime(), data.mtime_nsec(), data.ino()))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
