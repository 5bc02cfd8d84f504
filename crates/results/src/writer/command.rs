//! The messages between the threads of the writer.

use model::{BranchRef, CommitId, HostName, ResultKey};
use tokio::sync::oneshot;

use super::packs::{NewFile, Stored};
use super::pass::{Publication, Subject};
use super::tree::TreeTask;
use crate::error::Result;
use crate::journal::Record;
use crate::notes::Note;
use crate::state::CommitState;
use crate::tree::TestFiles;
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
    Note(Box<Note>),
    Store(NewFile),
    /// Files of a group of `count` are in packs; the others are refused.
    Stored {
        files: Vec<Stored>,
        count: usize,
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
    /// The number of newest commits of each branch that have directories.
    CompatTree(usize),
    /// Reply when all directories are written out and removed.
    TreeIdle(Reply<()>),
    /// The files thread has done a task, or could not.
    TreeDone {
        task: TreeTask,
        error: Option<String>,
    },
    Published(PassResult),
    FilesWritten(Written),
    /// All files are durable, so those of records below this number are published.
    Synced {
        floor: u64,
        error: Option<String>,
    },
    /// This number of pages of the log are written back to the database.
    WrittenBack {
        pages: i32,
    },
    Close,
}

impl Command {
    /// Whether it waits for a transaction.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Record(..) | Self::Stored { .. })
    }
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
    pub files: Vec<TestFiles>,
}

/// A pass for the publishing thread.
#[derive(Debug)]
pub struct Pass {
    pub number: u64,
    pub upto: u64,
    pub durations_upto: Option<u64>,
    pub publications: Vec<Publication>,
    pub files: Vec<TestFiles>,
    pub waiters: Vec<Reply<()>>,
}

/// A command to the thread that writes status files.
#[derive(Debug)]
pub enum Chore {
    /// The status files of a pass.
    Files(Files),
    /// Directories to write out and to remove when nothing else is to be done.
    Trees(Vec<TreeTask>),
    /// Drop the tasks for removed commits.
    Forget(Vec<CommitId>),
    /// Make everything on the file system durable; then the files of records below `floor` are published.
    SyncAll { floor: u64 },
}

/// The status files of a pass.
#[derive(Debug)]
pub struct Files {
    pub pass: u64,
    pub upto: u64,
    pub files: Vec<TestFiles>,
    pub waiters: Vec<Reply<()>>,
    pub error: Option<String>,
    /// Commits that are no longer in memory. Freeing them takes milliseconds.
    pub evicted: Vec<CommitState>,
}
