//! The writer of a results directory: a handle that tasks share, and an engine thread.
//!
//! A verdict that [`Writer::record`] has acknowledged survives a power failure. The published blob contains it within a
//! second.

mod artifacts;
mod branches;
mod command;
mod commits;
mod durations;
mod engine;
mod gather;
mod lock;
mod logs;
mod packs;
mod pass;
mod publish;
mod transaction;
mod tree;
mod write_back;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::SystemTime;

use model::{BranchRef, CommitId, HostName, ResultKey, Status, StatusSnapshot, Verdict};
use tokio::sync::oneshot;

use crate::branch_file;
use crate::db::Database;
use crate::disk::{Disk, Durable, FaultInjector};
use crate::durations::DurationTable;
use crate::error::{Error, Result};
use crate::journal::Record;
use crate::layout::Layout;
use crate::notes::Note;
use crate::reader::Reader;
use crate::retention::{self, Plan, Policy};
use crate::types::{CommitDetails, Recorded, TestDuration, VerdictRecord, cut, one_line};
use crate::verdicts::{KeyId, VerdictSet, VerdictTable};
use command::{Command, Reply};
use engine::Engine;
pub use engine::Opened;
pub use logs::PlainFile;

/// The number of records after which the published files are made durable.
const CHECKPOINT_RECORDS: u64 = 20_000;

/// The default number of newest commits of each branch that have a directory per test.
const COMPAT_TREE: usize = 100;

/// The default number of attempts that are copied together to the table in the order of tests.
const COPY_ROWS: u64 = 100_000;
/// The default size of the write-ahead log of the database, which is written back when this is full. Tests open many
/// databases.
const LOG_BYTES: u64 = if cfg!(debug_assertions) { 1 << 20 } else { 16 << 20 };

/// Settings.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Decides the result of each change of the disk.
    pub faults: Option<Arc<dyn FaultInjector>>,
    /// The number of records after which the published files are made durable.
    pub checkpoint_records: u64,
    /// The number of newest commits of each branch that have a directory per test.
    pub compat_tree: usize,
    /// Whether tests that failed to run before the writer was opened count as tests without a verdict.
    pub retry_failed_to_run: bool,
    /// The number of attempts that are copied together to the table in the order of tests.
    pub copy_rows: u64,
    /// The size to which the write-ahead log of the database is allocated at the start.
    pub log_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            faults: None,
            checkpoint_records: CHECKPOINT_RECORDS,
            compat_tree: COMPAT_TREE,
            retry_failed_to_run: false,
            copy_rows: COPY_ROWS,
            log_bytes: LOG_BYTES,
        }
    }
}

/// The state that the handles and the engine share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub verdict_table: VerdictTable,
    pub durations: RwLock<DurationTable>,
    /// Whether tests that failed to run before the writer was opened count as tests without a verdict.
    pub retry_failed_to_run: bool,
    problems: Mutex<BTreeMap<String, String>>,
}

impl Shared {
    /// Whether a status that was recorded before the writer was opened is a verdict.
    pub fn is_verdict(&self, status: Status) -> bool {
        status.is_final() && !(self.retry_failed_to_run && status == Status::FailedToRun)
    }

    fn problem(&self, about: &str, message: &str) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.insert(about.into(), message.into()).as_deref() != Some(message) {
            tracing::error!("{message}");
        }
    }

    fn solved(&self, about: &str) {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).remove(about);
    }
}

#[derive(Debug)]
struct Inner {
    commands: Sender<Command>,
    reader: Reader,
    disk: Disk,
    shared: Arc<Shared>,
    opened: Opened,
    engine: Mutex<Option<JoinHandle<()>>>,
    /// Held until the engine has ended.
    _lock: fsx::lock::Lock,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close);
        if let Some(engine) = self.engine.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = engine.join();
        }
    }
}

/// The writer. Clones are handles to the same writer; dropping the last handle publishes everything.
#[derive(Debug, Clone)]
pub struct Writer {
    inner: Arc<Inner>,
}

impl Writer {
    /// Opens the results in `output_dir` for writing. Creates the directory if it is missing, imports published files
    /// that the database lacks, and publishes what the last writer did not. Fails with [`Error::Locked`] if another
    /// writer has locked the directory.
    pub fn open(output_dir: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(output_dir, Tuning::default())
    }

    /// Like [`Self::open`], with other settings.
    pub fn open_with(output_dir: impl Into<PathBuf>, tuning: Tuning) -> Result<Self> {
        let layout = Layout::new(output_dir);
        let private = layout.private();
        let scratch = private.join("tmp");
        let disk = Disk::new(scratch.clone(), tuning.faults);
        disk.make_dir(&private, Durable::Yes).map_err(Error::io("create", &private))?;
        let lock = lock::take(layout.dir(), &private)?;
        // There is no other writer, so temporary files were left by the last one.
        disk.remove_dir(&scratch).map_err(Error::io("remove", &scratch))?;
        disk.make_dir(&scratch, Durable::No).map_err(Error::io("create", &scratch))?;

        let reader = Reader::open(layout.dir())?;
        let retry_failed_to_run = tuning.retry_failed_to_run;
        let shared = Arc::new(Shared { retry_failed_to_run, ..Shared::default() });
        let db = Database::open(&layout, disk.clone(), tuning.copy_rows, tuning.log_bytes)?;
        let (commands, queue) = channel();
        let settings = (tuning.checkpoint_records, tuning.compat_tree);
        let (engine, opened) =
            Engine::new(disk.clone(), reader.clone(), Arc::clone(&shared), db, settings, queue, &commands)?;
        let engine = Mutex::new(Some(engine::start(engine)?));
        let inner = Inner { commands, reader, disk, shared, opened, engine, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What was imported, and what the last writer did not publish.
    #[must_use]
    pub fn opened(&self) -> Opened {
        self.inner.opened
    }

    /// A reader for the same results. Published files may lag by a second.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.inner.reader.clone()
    }

    /// The current problems of the store, one line each, for the status snapshot.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.inner.shared.problems.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn send(&self, command: Command) -> Result<()> {
        self.inner.commands.send(command).map_err(|_| Error::Closed)
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Records a verdict. When this returns `Ok`, the verdict is durable; concurrent callers share an fsync. The first
    /// attempt that ran is decisive; the others are stored in addition to it.
    pub async fn record(&self, record: VerdictRecord) -> Result<Recorded> {
        let recorded = self.ask(|reply| Command::Record(Record::Verdict(record.cut().into()), reply)).await?;
        recorded.ok_or(Error::Closed)
    }

    /// Replaces the verdict of the decisive attempt of a test that ran, if the attempt is still this one. Returns whether it did.
    /// The attempt keeps everything else.
    pub async fn judge(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        attempt: u32,
        verdict: Verdict,
    ) -> Result<bool> {
        let record = Record::Judgement { commit: commit.clone(), key: key.clone(), attempt, verdict };
        self.ask(|reply| Command::Record(record, reply)).await.map(|recorded| recorded.is_some())
    }

    /// Marks tests as running since `started` (Unix seconds). Tests with a verdict keep it. The mark is not durable:
    /// the next writer [clears](Self::clear_stale_in_progress) it.
    pub fn in_progress(
        &self,
        commit: &CommitId,
        keys: Vec<ResultKey>,
        started: i64,
        host: Option<HostName>,
        slot: Option<u32>,
    ) -> Result<()> {
        self.send(Command::InProgress { commit: commit.clone(), keys, started, host, slot })
    }

    /// Removes the mark from tests that ended without a verdict, because their batch failed and they will run again.
    pub fn not_in_progress(&self, commit: &CommitId, keys: Vec<ResultKey>) -> Result<()> {
        self.send(Command::NotInProgress { commit: commit.clone(), keys })
    }

    /// Removes all marks of running tests. For the start and the end of the daemon, when no test is running. Returns the number of
    /// marks.
    pub async fn clear_stale_in_progress(&self) -> Result<usize> {
        self.ask(Command::ClearStale).await
    }

    /// Sets the listing of a branch, newest commit first, with messages. Returns when it is published.
    pub async fn set_branch(&self, branch: &BranchRef, commits: Vec<(CommitId, String)>) -> Result<()> {
        branch_file::file_name(branch)?;
        let branch = branch.clone();
        let commits =
            commits.into_iter().map(|(commit, message)| (commit, cut(&message).to_owned())).collect();
        self.ask(|reply| Command::SetBranch { branch, commits, reply }).await
    }

    /// Adds the tree, author and date of listed commits. The details of a commit never change.
    pub async fn set_details(&self, mut commits: Vec<(CommitId, CommitDetails)>) -> Result<()> {
        for (_, details) in &mut commits {
            details.author = one_line(&details.author).unwrap_or_default();
        }
        self.ask(|reply| Command::Details { commits, reply }).await
    }

    /// Records a build or a request for scripts. It becomes durable with the next verdict.
    pub fn note(&self, note: Note) -> Result<()> {
        self.send(Command::Note(Box::new(note)))
    }

    /// Removes the listing of a branch. A later [retention](crate::retention) pass removes commits that no other branch
    /// lists. Returns whether a listing existed, readable or not.
    pub async fn unlist_branch(&self, branch: &BranchRef) -> Result<bool> {
        let path = self.output_dir().join(branch_file::file_name(branch)?);
        let branch = branch.clone();
        let known = self.ask(|reply| Command::UnlistBranch { branch, reply }).await?;
        // Wait for passes that write the listing.
        self.flush().await?;
        let this = self.clone();
        let remove = move || {
            let there = path.exists();
            this.inner.disk.remove_file(&path).map_err(Error::io("remove", &path))?;
            Ok(known || there)
        };
        tokio::task::spawn_blocking(remove).await.map_err(|_| Error::Closed)?
    }

    /// Sets the message of a commit, durably.
    pub async fn set_commit_message(&self, commit: &CommitId, message: &str) -> Result<()> {
        let record = Record::Message { commit: commit.clone(), message: cut(message).into() };
        self.ask(|reply| Command::Record(record, reply)).await.map(|_| ())
    }

    /// Publishes the status snapshot.
    pub fn write_snapshot(&self, snapshot: &StatusSnapshot) -> Result<()> {
        let path = self.inner.reader.layout.snapshot();
        let bytes = serde_json::to_vec_pretty(snapshot).map_err(|error| Error::damaged(&path, error))?;
        self.inner.disk.publish(&path, &bytes, Durable::No).map_err(Error::io("write", &path))
    }

    /// Returns when all earlier changes are published.
    pub async fn flush(&self) -> Result<()> {
        self.ask(Command::Flush).await
    }

    /// Sets the number of newest commits of each branch that have a directory per test.
    pub fn set_compat_tree(&self, commits: usize) -> Result<()> {
        self.send(Command::CompatTree(commits))
    }

    /// Returns when the directories of commits that entered or left the newest ones are written out or removed, which
    /// happens in the background.
    pub async fn directories_written(&self) -> Result<()> {
        self.ask(Command::TreeIdle).await
    }

    /// Publishes everything and drops this handle, without blocking a runtime thread. The last handle unlocks the
    /// directory.
    pub async fn close(self) -> Result<()> {
        let flushed = self.flush().await;
        tokio::task::spawn_blocking(move || drop(self)).await.map_err(|_| Error::Closed)?;
        flushed
    }

    /// The number of a test, for [`VerdictSet::contains`].
    #[must_use]
    pub fn key_id(&self, key: &ResultKey) -> KeyId {
        self.inner.shared.verdict_table.key(key)
    }

    /// The tests of a commit that have a verdict. Read from disk once, then kept up to date in memory.
    pub fn verdicts(&self, commit: &CommitId) -> Result<Arc<VerdictSet>> {
        let verdict_table = &self.inner.shared.verdict_table;
        if let Some(set) = verdict_table.get(commit) {
            return Ok(set);
        }
        let is_verdict = |status| self.inner.shared.is_verdict(status);
        let keys = self.inner.reader.having(commit, verdict_table, is_verdict)?;
        Ok(verdict_table.get_or(commit, keys.into_iter()))
    }

    /// Whether a test has a verdict.
    pub fn has_verdict(&self, commit: &CommitId, key: &ResultKey) -> Result<bool> {
        Ok(self.verdicts(commit)?.contains(self.key_id(key)))
    }

    /// The past durations of a test; `None` if it never ran.
    #[must_use]
    pub fn duration(&self, key: &ResultKey) -> Option<TestDuration> {
        self.inner.shared.durations.read().unwrap_or_else(PoisonError::into_inner).entries().get(key).cloned()
    }

    /// Plans which results to delete; deletes nothing. Call [`Self::flush`] first, so that the listings are up to date.
    pub fn plan_retention(&self, policy: Policy) -> Result<Plan> {
        retention::plan(&self.inner.reader, policy, SystemTime::now())
    }

    /// Deletes the planned results: first their packs. An interrupted deletion is planned again the next time.
    pub async fn apply(&self, plan: Plan) -> Result<()> {
        let commits: Vec<CommitId> = plan.remove.into_iter().map(|removal| removal.commit).collect();
        let forgotten = commits.clone();
        self.ask(|reply| Command::RemoveCommits { commits: forgotten, reply }).await?;
        // Wait for passes that write one of them.
        self.flush().await?;
        let this = self.clone();
        let remove = move || commits.iter().try_for_each(|commit| this.remove(commit));
        tokio::task::spawn_blocking(remove).await.map_err(|_| Error::Closed)?
    }

    fn remove(&self, commit: &CommitId) -> Result<()> {
        let (layout, disk) = (&self.inner.reader.layout, &self.inner.disk);
        let (blob, directory) = (layout.blob(commit), layout.commit(commit));
        disk.remove_file(&blob).map_err(Error::io("remove", &blob))?;
        if directory.exists() {
            // Readers no longer see it. If the writer is stopped here, the next one cleans up.
            let aside = disk.temporary();
            disk.rename(&directory, &aside, Durable::No).map_err(Error::io("remove", &directory))?;
            disk.remove_dir(&aside).map_err(Error::io("remove", &aside))?;
        }
        Ok(())
    }

    /// The directory of the results.
    #[must_use]
    pub fn output_dir(&self) -> &Path {
        self.inner.reader.output_dir()
    }
}
