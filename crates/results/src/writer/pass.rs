//! A publication pass: a list of files that the engine prepares and another thread writes, so that no verdict waits for
//! a blob.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use model::{BranchRef, CommitId, ResultKey, Status};

use crate::codec::{self, Mark};
use crate::db::stored_commit;
use crate::disk::{Disk, Durable};
use crate::error::{Error, Result};
use crate::layout::Layout;
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
    /// The bytes of the blob; `None` if the commit has no results.
    fn encode(&self, reader: &Reader) -> Result<Option<Vec<u8>>> {
        let path = reader.layout.database();
        let stored = reader.database.query(|database| Ok(stored_commit(database, &path, &self.commit)));
        let stored = stored.ok_or_else(|| Error::Write(format!("{}: cannot be read", path.display())))??;
        if !stored.has_results && self.running.is_empty() {
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

/// The status files of one test to replace.
#[derive(Debug)]
pub struct StatusFiles {
    pub commit: CommitId,
    pub key: ResultKey,
    /// The text of `status`, and of `duration` if the test ended; `None` removes both.
    pub content: Option<(String, Option<u64>)>,
}

impl StatusFiles {
    pub fn new(commit: &CommitId, key: &ResultKey, entry: Option<&TestEntry>) -> Self {
        let content = entry.map(|entry| {
            let ended = entry.decisive.status.is_final().then_some(entry.decisive.duration.as_secs());
            (status_line(entry), ended)
        });
        Self { commit: commit.clone(), key: key.clone(), content }
    }
}

/// The line of a status file (docs/formats.md), with the key as the name of the subtest.
fn status_line(entry: &TestEntry) -> String {
    let seconds = entry.decisive.duration.as_secs();
    let name = match entry.key.as_str().parse::<model::SubtestName>() {
        Ok(_) => entry.key.as_str(),
        Err(_) => "test",
    };
    match entry.decisive.status {
        Status::InProgress => "IN PROGRESS\n".into(),
        Status::Passed => format!("========= PASSED {name} in {seconds}s\n"),
        Status::Failed => format!("========= FAILED {name} in {seconds}s\n"),
        Status::NotRun => {
            let reason = entry.decisive.reason.as_deref().unwrap_or("");
            format!("========= NOTRUN {name} in {seconds}s: {reason}\n")
        }
        Status::FailedToRun => "FAILED TO RUN\n".into(),
        Status::Unknown => "UNKNOWN\n".into(),
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

/// Writes the status files of one test; a later sync makes all of them durable.
pub fn write_status(disk: &Disk, layout: &Layout, files: &StatusFiles) -> io::Result<()> {
    let dir = layout.test(&files.commit, &files.key);
    let (status, duration) = (dir.join("status"), dir.join("duration"));
    let Some((line, seconds)) = &files.content else {
        disk.remove_file(&status)?;
        return disk.remove_file(&duration);
    };
    disk.make_dir(&dir, Durable::No)?;
    // Write the status last, so that a reader that finds a verdict also finds its duration.
    if let Some(seconds) = seconds {
        replace(disk, &duration, &format!("{seconds}\n"))?;
    }
    replace(disk, &status, line)
}

fn replace(disk: &Disk, path: &Path, text: &str) -> io::Result<()> {
    disk.publish(path, text.as_bytes(), Durable::No)
}
