//! A publication pass: a list of files that the engine prepares and another thread writes, so that no verdict waits for
//! a blob.

use std::io;
use std::path::{Path, PathBuf};

use model::{BranchRef, CommitId, ResultKey, Status};

use crate::disk::{Disk, Durable};
use crate::layout::Layout;
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
    pub bytes: Vec<u8>,
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
pub fn publish(disk: &Disk, publication: &Publication) -> io::Result<()> {
    disk.publish(&publication.path, &publication.bytes, Durable::Yes)
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
