//! The messages between the threads of the writer.

use model::{BranchRef, CommitId, HostName, ResultKey};
use tokio::sync::oneshot;

use super::log_target::LogTarget;
use super::pass::{Publication, StatusFiles, Subject};
use crate::error::Result;
use crate::journal::Record;
use crate::layout::LogKind;
use crate::types::{CommitDetails, Recorded};

/// The channel for a reply.
pub type Reply<T> = oneshot::Sender<Result<T>>;

/// A command to the engine.
#[derive(Debug)]
pub enum Command {
    Record(Record, Reply<Option<Recorded>>),
    InProgress {
        commit: CommitId,
        keys: Vec<ResultKey>,
        started: i64,
        host: Option<HostName>,
        slot: Option<u32>,
    },
    NotInProgress {
        commit: CommitId,
        keys: Vec<ResultKey>,
    },
    ClearStale(Reply<usize>),
    SetBranch {
        branch: BranchRef,
        commits: Vec<(CommitId, String)>,
        reply: Reply<()>,
    },
    Details {
        commits: Vec<(CommitId, CommitDetails)>,
        reply: Reply<()>,
    },
    LogTarget {
        commit: CommitId,
        key: ResultKey,
        attempt: u32,
        kind: LogKind,
        reply: Reply<LogTarget>,
    },
    RemoveCommits {
        commits: Vec<CommitId>,
        reply: Reply<()>,
    },
    UnlistBranch {
        branch: BranchRef,
        reply: Reply<bool>,
    },
    Flush(Reply<()>),
    Published(PassResult),
    FilesWritten(Written),
    /// All files are durable, so those of records below this number are published.
    Synced {
        floor: u64,
        error: Option<String>,
    },
    Close,
}

/// The result of writing the status files of a pass.
#[derive(Debug)]
pub struct Written {
    pub pass: u64,
    pub upto: u64,
    pub failed: Vec<(CommitId, ResultKey)>,
    pub waiters: Vec<Reply<()>>,
    pub error: Option<String>,
}

/// The result of a pass.
#[derive(Debug)]
pub struct PassResult {
    pub pass: u64,
    pub upto: u64,
    pub durations_upto: Option<u64>,
    pub failed: Vec<Subject>,
    pub error: Option<String>,
    pub waiters: Vec<Reply<()>>,
    pub files: Vec<StatusFiles>,
}

/// A pass for the publishing thread.
#[derive(Debug)]
pub struct Pass {
    pub number: u64,
    pub upto: u64,
    pub durations_upto: Option<u64>,
    pub publications: Vec<Publication>,
    pub files: Vec<StatusFiles>,
    pub waiters: Vec<Reply<()>>,
}

/// A command to the thread that writes status files.
#[derive(Debug)]
pub enum Chore {
    /// The status files of a pass.
    Files(Files),
    /// Make everything on the file system durable; then the files of records below `floor` are published.
    SyncAll { floor: u64 },
}

/// The status files of a pass.
#[derive(Debug)]
pub struct Files {
    pub pass: u64,
    pub upto: u64,
    pub files: Vec<StatusFiles>,
    pub waiters: Vec<Reply<()>>,
    pub error: Option<String>,
}
