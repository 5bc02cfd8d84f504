//! What the views read, with what a running server remembers between requests.
//!
//! A commit's verdicts are remembered by the stamp of its blob (length, time of change, inode): blobs are replaced by
//! rename, so an equal stamp is an equal blob. Nothing else is remembered; a CGI process starts with an empty memory.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{CommitId, ResultKey, Status};
use results::{BranchEntry, HistoryEntry, Reader, TestEntry};

use crate::changes::{Names, Verdicts};
use crate::problem::Problem;
use crate::route::BranchRef;

/// How many commits are remembered; at 5,000 tests about 25 KB each.
const REMEMBERED: usize = 4000;

/// One commit's verdicts and durations, one of each a test.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Names and statuses.
    pub verdicts: Verdicts,
    /// Durations in ms, in the order of the names.
    pub durations: Arc<[u32]>,
}

type Stamp = (u64, i64, i64, u64);

#[derive(Default)]
struct Memory {
    summaries: HashMap<CommitId, (Stamp, Summary)>,
    /// The last set of names, which the next commit most likely has too.
    names: Option<Names>,
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
        self.reader.branch(&at.user, &at.branch)?.ok_or_else(missing)
    }

    /// The verdicts of a commit; `None` if it has no results or they cannot be read (which is logged, not shown: one
    /// damaged blob must not hide a branch).
    pub fn summary(&self, commit: &CommitId) -> Option<Summary> {
        let stamp = self.stamp(commit);
        if let Some(stamp) = stamp
            && let Some((remembered, summary)) = self.memory().summaries.get(commit)
            && *remembered == stamp
        {
            return Some(summary.clone());
        }
        let summary = self.read_summary(commit)?;
        if let Some(stamp) = stamp {
            let mut memory = self.memory();
            if memory.summaries.len() >= REMEMBERED {
                memory.summaries.clear();
            }
            memory.summaries.insert(commit.clone(), (stamp, summary.clone()));
        }
        Some(summary)
    }

    /// One test at one commit.
    pub fn entry(&self, commit: &CommitId, key: &ResultKey) -> Result<Option<TestEntry>, Problem> {
        Ok(self.reader.commit(commit)?.and_then(|results| results.get(key).cloned()))
    }

    /// One test on the commits of a branch, newest first.
    pub fn history(&self, at: &BranchRef, key: &ResultKey) -> Result<Vec<HistoryEntry>, Problem> {
        self.branch(at)?
            .into_iter()
            .map(|listed| {
                let entry = if listed.counts.total() > 0 { self.entry(&listed.commit, key)? } else { None };
                Ok(HistoryEntry { commit: listed.commit, message: listed.message, entry })
            })
            .collect()
    }

    fn read_summary(&self, commit: &CommitId) -> Option<Summary> {
        let results = match self.reader.commit(commit) {
            Ok(results) => results?,
            Err(error) => {
                tracing::warn!("{error}");
                return None;
            }
        };
        let same = |names: &Names| {
            names.len() == results.entries.len()
                && names.iter().zip(&results.entries).all(|(name, entry)| **name == *entry.key.as_str())
        };
        let remembered = self.memory().names.clone();
        let names = remembered.filter(same).unwrap_or_else(|| {
            let names: Names = results.entries.iter().map(|entry| Box::from(entry.key.as_str())).collect();
            self.memory().names = Some(Arc::clone(&names));
            names
        });
        let statuses: Arc<[Status]> = results.entries.iter().map(|entry| entry.status).collect();
        let durations = results.entries.iter().map(|entry| millis(entry.duration)).collect();
        Some(Summary { verdicts: Verdicts { names, statuses }, durations })
    }

    fn stamp(&self, commit: &CommitId) -> Option<Stamp> {
        let path = self.reader.output_dir().join(format!("{commit}.capnp"));
        let data = std::fs::metadata(path).ok()?;
        Some((data.len(), data.mtime(), data.mtime_nsec(), data.ino()))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
