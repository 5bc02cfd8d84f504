//! A publication pass: a list of files that the engine prepares and another thread writes, so that no verdict waits for
//! a blob.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{BranchRef, CommitId, ResultKey, Status};

use crate::codec::{self, Mark};
use crate::db::stored_commit;
use crate::disk::{Disk, Durable};
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::types::TestEntry;

/// The content of a published file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The commits with running tests, for the next writer.
    Running,
    /// The results of a commit.
    Commit(CommitId),
    /// The listing of a branch.
    Branch(BranchRef),
    /// The durations.
    Durations,
}

/// A file to replace.
#[derive(Debug)]
pub struct Publication {
    pub subject: Subject,
    pub path: PathBuf,
    pub content: Content,
}

/// The content of a published file.
#[derive(Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    /// The results of a commit. They are read from the database when the file is written, because encoding a large commit
    /// on the engine's thread would delay verdicts.
    Commit(CommitContent),
}

/// The parts of a commit's results that are not in the database.
#[derive(Debug)]
pub struct CommitContent {
    pub commit: CommitId,
    pub message: String,
    /// The running tests.
    pub running: Vec<TestEntry>,
}

impl CommitContent {
    /// Whether the published blob has running tests and nothing else: they ended without a verdict.
    fn was_only_running(&self, reader: &Reader) -> bool {
        let running =
            |entry: &TestEntry| entry.decisive.status == Status::InProgress && entry.others.is_empty();
        let published = reader.blob(&self.commit).ok().flatten();
        published.is_some_and(|blob| blob.results.entries.iter().all(running))
    }

    /// The bytes of the blob; `None` if the commit has no results and no blob to replace.
    fn encode(&self, reader: &Reader) -> Result<Option<Vec<u8>>> {
        let path = reader.layout.database();
        let stored = reader.database.query(|database| Ok(stored_commit(database, &path, &self.commit)));
        let stored = stored.ok_or_else(|| Error::Write(format!("{}: cannot be read", path.display())))??;
        if !stored.has_results && self.running.is_empty() && !self.was_only_running(reader) {
            return Ok(None);
        }
        let mut entries: BTreeMap<&ResultKey, &TestEntry> =
            stored.entries.iter().map(|entry| (&entry.key, entry)).collect();
        for entry in &self.running {
            // A test that ended in the meantime keeps its verdict.
            if entries.get(&entry.key).is_none_or(|stored| !stored.decisive.status.is_final()) {
                entries.insert(&entry.key, entry);
            }
        }
        let entries: Vec<&TestEntry> = entries.into_values().collect();
        Ok(Some(codec::encode_entries(&self.commit, &self.message, &entries, Mark::default())))
    }
}

/// Writes a published file.
pub fn publish(disk: &Disk, reader: &Reader, publication: &Publication) -> Result<()> {
    let write = |bytes: &[u8]| disk.publish(&publication.path, bytes, Durable::Yes);
    match &publication.content {
        Content::Bytes(bytes) => write(bytes),
        Content::Commit(content) => content.encode(reader)?.map_or(Ok(()), |bytes| write(&bytes)),
    }
    .map_err(Error::io("write", &publication.path))
}
