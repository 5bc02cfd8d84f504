//! The thread that owns the results: receives commands, makes records durable in groups, keeps the state, and passes
//! changed files to the publishing threads.
//!
//! A record is applied only after it is durable, and acknowledged only after it is applied.

mod outcomes;

use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{BranchRef, CommitId, ResultKey};

use super::Shared;
use super::branches::Branches;
use super::command::{Chore, Command, Pass, Reply};
use super::commits::Commits;
use super::durations::Durations;
use super::gather::Gather;
use super::packs::{FileName, NewFile, PackTask, Stored};
use super::publish::{self, Workers};
use super::transaction::{Applied, Write, apply};
use super::tree::{Tree, TreeTask};
use crate::db::Database;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::import::{self, Imported};
use crate::layout::LogKind;
use crate::reader::Reader;
use crate::tree::remove_empty;
use crate::types::CommitDetails;

/// How long a change waits for others, to be published together.
const COALESCE: Duration = Duration::from_millis(200);
/// The same for durations, which are large and not urgent.
const COALESCE_DURATIONS: Duration = Duration::from_secs(5);
/// The delay after a failed pass.
const BACK_OFF: Duration = Duration::from_secs(2);
/// The maximum number of commands that are handled together; their records share one fsync.
const GROUP_MAX: usize = 4096;
/// The maximum wait for records that are expected.
const GATHER_MAX: Duration = Duration::from_millis(4);
/// The time without a record after which records are copied in the order of tests.
const COPY_IDLE: Duration = Duration::from_millis(5);
/// The delay after a failed copy.
const COPY_BACK_OFF: Duration = Duration::from_secs(60);
/// The number that represents the records of the last writer.
const FIRST: u64 = 1;

/// What the writer found when it opened the results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// What was imported from published files.
    pub imported: Imported,
    /// The number of commits with files that are published again, because the last writer did not stop cleanly or the
    /// database was restored.
    pub unpublished: usize,
}

pub struct Engine {
    disk: Disk,
    reader: Reader,
    shared: Arc<Shared>,
    db: Database,
    commits: Commits,
    branches: Branches,
    durations: Durations,
    tree: Tree,
    commands: Gather<Command>,
    workers: Workers,
    /// The time of the oldest unpublished change.
    dirty_since: Option<Instant>,
    not_before: Option<Instant>,
    /// The time before which nothing is copied in the order of tests.
    copy_after: Instant,
    is_writing_back: bool,
    in_flight: bool,
    files_in_flight: usize,
    packs_in_flight: usize,
    /// The number of removals of commits, and the last one of each.
    removals: u64,
    removed: HashMap<CommitId, u64>,
    /// Whether `.store/running` is out of date.
    running_changed: bool,
    waiters: Vec<Reply<()>>,
    tree_waiters: Vec<Reply<()>>,
    passes_begun: u64,
    /// The last pass that may lack status files which an earlier pass failed to write.
    redo_after: u64,
    /// All records up to these numbers are in the blobs, the durations and the status files, respectively.
    published: [u64; 3],
    /// Whether the status file thread is syncing the file system.
    syncing: bool,
    /// The number of the last durable record, starting at 1 in each process.
    last: u64,
    /// The last record that existed when the file system was synced.
    synced: u64,
    /// The number of records between two syncs of the file system.
    checkpoint: u64,
    closing: bool,
}

impl Engine {
    pub fn new(
        disk: Disk,
        reader: Reader,
        shared: Arc<Shared>,
        mut db: Database,
        (checkpoint, compat_tree): (u64, usize),
        commands: Receiver<Command>,
        own: &Sender<Command>,
    ) -> Result<(Self, Opened)> {
        let imported = import::run(&mut db, &reader, &disk)?;
        let workers = Workers::start(&disk, &reader, &db, own)?;
        let branches = Branches::load(&db, &reader)?;
        let durations = Durations::load(&db, &reader, Arc::clone(&shared))?;
        let mut commits = Commits::new(reader.clone(), disk.clone(), Arc::clone(&shared));
        let tree = Tree::load(&mut db, &reader.layout, compat_tree, branches.listings())?;
        let unpublished = commits.load_unpublished(&mut db, FIRST)? + commits.publish_missing(&mut db)?;
        let mut engine = Self {
            disk,
            reader,
            shared,
            db,
            commits,
            branches,
            durations,
            tree,
            commands: Gather::new(commands, GROUP_MAX, GATHER_MAX, Command::is_write),
            workers,
            dirty_since: None,
            not_before: None,
            copy_after: Instant::now(),
            is_writing_back: false,
            in_flight: false,
            files_in_flight: 0,
            packs_in_flight: 0,
            removals: 0,
            removed: HashMap::new(),
            running_changed: false,
            waiters: Vec::new(),
            tree_waiters: Vec::new(),
            passes_begun: 0,
            redo_after: 0,
            published: [0; 3],
            syncing: false,
            last: FIRST,
            synced: 0,
            checkpoint,
            closing: false,
        };
        if engine.is_dirty() || engine.tree.has_tasks() {
            engine.touch();
        }
        Ok((engine, Opened { imported, unpublished }))
    }

    pub fn run(mut self) {
        if let Err(error) = self.db.write_back_on_request() {
            tracing::warn!("{error}");
        }
        loop {
            let due = [self.due(), self.copy_due()].into_iter().flatten().min();
            let Some(group) = self.commands.next(due) else { break };
            self.handle(group);
            if self.closing
                && !self.in_flight
                && self.files_in_flight == 0
                && self.packs_in_flight == 0
                && !self.syncing
                && (!self.is_dirty() || self.not_before.is_some())
            {
                break;
            }
            if self.due().is_some_and(|due| due <= Instant::now()) {
                self.start_pass();
            }
            if self.copy_due().is_some_and(|due| due <= Instant::now()) {
                self.copy();
            }
            if Database::log_is_large() && !self.is_writing_back {
                self.is_writing_back = self.workers.write_back.send(()).is_ok();
            }
        }
        self.last_checkpoint();
        self.workers.join();
    }

    /// The start time of the next pass; `None` while a pass runs or if nothing changed.
    fn due(&self) -> Option<Instant> {
        // A failed last pass is not repeated: its records are in the database.
        if self.in_flight || self.closing && self.not_before.is_some() {
            return None;
        }
        let hurry = self.closing || !self.waiters.is_empty();
        let mut due = if hurry && (self.is_dirty() || !self.waiters.is_empty()) {
            Some(Instant::now())
        } else {
            let durations = self.durations.dirty_since().map(|since| since + COALESCE_DURATIONS);
            let others = self.dirty_since.map(|since| since + COALESCE);
            [durations, others].into_iter().flatten().min()
        };
        if let (Some(due), Some(not_before)) = (&mut due, self.not_before)
            && !hurry
        {
            *due = (*due).max(not_before);
        }
        due
    }

    /// The time of the next copy in the order of tests; `None` if nothing is to be copied, or if other work uses the disk.
    fn copy_due(&self) -> Option<Instant> {
        if self.closing || !self.db.wants_copy() {
            return None;
        }
        if self.db.needs_copy() {
            return Some(Instant::now());
        }
        let busy = self.in_flight || self.files_in_flight > 0 || self.syncing || self.is_writing_back;
        (!busy).then_some(self.copy_after)
    }

    fn copy(&mut self) {
        if let Err(error) = self.db.copy_some() {
            tracing::warn!("{error}; the copy in the order of tests is late");
            self.copy_after = Instant::now() + COPY_BACK_OFF;
        }
    }

    fn is_dirty(&self) -> bool {
        self.commits.is_dirty()
            || self.branches.is_dirty()
            || self.durations.dirty_since().is_some()
            || self.running_changed
    }

    fn touch(&mut self) {
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    fn handle(&mut self, group: Vec<Command>) {
        let mut writes = Vec::new();
        let mut others = Vec::new();
        for command in group {
            match command {
                // Load the commits first: a commit with unreadable results accepts no records.
                Command::Record(record, reply) => match self.commits.load(&mut self.db, record.commit()) {
                    Ok(()) => writes.push(Write::Record(record, reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Command::Stored { files, count } => {
                    self.packs_in_flight -= count;
                    writes.extend(files.into_iter().filter_map(|file| self.stored(file)).map(Write::File));
                }
                // It becomes durable with the verdicts that follow it.
                Command::Note(note) => self.note(&note),
                other => others.push(other),
            }
        }
        if !writes.is_empty() {
            self.write(writes);
        }
        for command in others {
            self.other(command);
        }
    }

    /// Hands a file to the pack thread.
    fn store(&mut self, file: NewFile) {
        if let Err(error) = self.commits.load(&mut self.db, &file.commit) {
            let _ = file.reply.send(Err(error));
            return;
        }
        let file = NewFile { removals: self.removals, ..file };
        if self.workers.packs.send(PackTask::Store(file)).is_ok() {
            self.packs_in_flight += 1;
        }
    }

    /// A file that the database can name, unless its commit was removed in the meantime.
    fn stored(&mut self, file: Stored) -> Option<Stored> {
        if self.removed.get(&file.commit).is_some_and(|removal| *removal > file.removals) {
            let _ = file.reply.send(Err(Error::Write("the results of the commit were removed".into())));
            return None;
        }
        match self.commits.load(&mut self.db, &file.commit) {
            Ok(()) => Some(file),
            Err(error) => {
                let _ = file.reply.send(Err(error));
                None
            }
        }
    }

    /// Makes records and the places of files durable in one transaction.
    fn write(&mut self, writes: Vec<Write>) {
        let (mut changes, begun_at) = (Vec::new(), Instant::now());
        let begun = self.tree.begin(&self.db, writes.iter().map(Write::commit));
        let result = begun.and_then(|begun| {
            let Self { db, commits, shared, .. } = self;
            db.write(|batch| {
                begun.iter().try_for_each(|(commit, state)| batch.tree(commit, Some(*state)))?;
                apply(batch, commits, shared, &writes, &mut changes)
            })?;
            Ok(begun)
        });
        match result {
            Ok(begun) => self.tree.begun(begun),
            Err(error) => {
                let text = error.to_string();
                self.shared.problem("database", &text);
                self.undo(changes);
                for write in writes {
                    write.refuse(&text);
                }
                return;
            }
        }
        self.shared.solved("database");
        self.commands.synced(writes.len(), begun_at.elapsed());
        self.copy_after = self.copy_after.max(Instant::now() + COPY_IDLE);
        let mut changes = changes.into_iter();
        for write in writes {
            match write {
                Write::Record(record, reply) => {
                    self.last += 1;
                    let Applied { change, duration } = changes.next().unwrap_or_default();
                    let effect = change.as_ref().and_then(|change| change.effect);
                    self.commits.applied(self.last, &record, change.as_ref());
                    if duration.is_some() {
                        self.durations.touch();
                    }
                    self.branches.touch(record.commit());
                    let _ = reply.send(Ok(effect.map(|effect| effect.recorded)));
                }
                Write::File(file) => {
                    let is_log = matches!(file.name, FileName::Log(_));
                    self.last += 1;
                    self.commits.stored(self.last, &file.commit, &file.owners, is_log);
                    if is_log {
                        changes.by_ref().take(file.owners.len()).for_each(drop);
                    }
                    let _ = file.reply.send(Ok(()));
                }
            }
        }
        self.touch();
    }

    /// Reverts the changes of a failed transaction, last one first.
    fn undo(&mut self, changes: Vec<Applied>) {
        let mut table = self.shared.durations.write().unwrap_or_else(PoisonError::into_inner);
        for Applied { change, duration } in changes.into_iter().rev() {
            if let Some(change) = change {
                self.commits.undo(change);
            }
            if let Some((key, old)) = duration {
                table.restore(&key, old);
            }
        }
    }

    fn set_branch(&mut self, branch: BranchRef, commits: Vec<(CommitId, String)>, reply: Reply<()>) {
        let Self { db, branches, .. } = self;
        let old = branches.commits(&branch);
        if old != commits
            && let Err(error) = db.write(|batch| batch.listing(&branch, old, &commits))
        {
            let _ = reply.send(Err(error));
            return;
        }
        for (commit, message) in &commits {
            self.commits.learn_message(commit, message);
        }
        self.relist(&branch, &commits);
        self.branches.set(branch, commits);
        self.waiters.push(reply);
        self.touch();
    }

    fn set_details(&mut self, commits: &[(CommitId, CommitDetails)]) -> Result<()> {
        self.db
            .write(|batch| commits.iter().try_for_each(|(commit, details)| batch.details(commit, details)))?;
        for (commit, details) in commits {
            self.branches.set_authorship(commit, details.into());
        }
        self.touch();
        Ok(())
    }

    fn unlist(&mut self, branch: &BranchRef) -> Result<bool> {
        self.db.write(|batch| batch.unlist(branch))?;
        self.relist(branch, &[]);
        Ok(self.branches.unlist(branch))
    }

    /// Plans the directories of commits that enter or leave the newest ones of a branch.
    fn relist(&mut self, branch: &BranchRef, commits: &[(CommitId, String)]) {
        self.tree.relist(self.branches.commits(branch), commits);
    }

    fn report(&self, about: &str, result: Result<()>) {
        match result {
            Ok(()) => self.shared.solved(about),
            Err(error) => self.shared.problem(about, &error.to_string()),
        }
    }

    fn tree_done(&mut self, task: &TreeTask, error: Option<String>) {
        let failed = error.is_some();
        let result = self.tree.done(&mut self.db, task, failed);
        self.report("directories", error.map_or(result, |error| Err(Error::Write(error))));
        self.reply_if_idle();
    }

    fn reply_if_idle(&mut self) {
        if !self.tree.is_busy() {
            for waiter in std::mem::take(&mut self.tree_waiters) {
                let _ = waiter.send(Ok(()));
            }
        }
    }

    fn remove(&mut self, commits: &[CommitId]) -> Result<()> {
        self.removals += 1;
        for commit in commits {
            self.db.write(|batch| batch.remove(commit))?;
            self.removed.insert(commit.clone(), self.removals);
            self.commits.remove(commit);
            self.tree.remove(commit);
            self.branches.touch(commit);
        }
        let _ = self.workers.files.send(Chore::Forget(commits.to_vec()));
        self.reply_if_idle();
        self.touch();
        Ok(())
    }

    fn other(&mut self, command: Command) {
        match command {
            Command::Record(..) | Command::Stored { .. } | Command::Note(_) => {}
            Command::InProgress { commit, keys, started, host, slot } => {
                self.change(&commit, |state| {
                    keys.iter()
                        .filter(|key| state.in_progress(key, started, host.as_ref(), slot))
                        .cloned()
                        .collect()
                });
            }
            Command::NotInProgress { commit, keys } => {
                let mut gone = BTreeSet::new();
                self.change(&commit, |state| {
                    gone = keys.into_iter().filter(|key| state.not_in_progress(key)).collect();
                    gone.clone()
                });
                self.drop_live_logs(&commit, &gone);
            }
            Command::ClearStale(reply) => drop(reply.send(self.clear_stale())),
            Command::SetBranch { branch, commits, reply } => self.set_branch(branch, commits, reply),
            Command::Details { commits, reply } => drop(reply.send(self.set_details(&commits))),
            Command::Store(file) => self.store(file),
            Command::RemoveCommits { commits, reply } => match self.remove(&commits) {
                // The pack thread replies.
                Ok(()) => drop(self.workers.packs.send(PackTask::Remove(commits, reply))),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::UnlistBranch { branch, reply } => drop(reply.send(self.unlist(&branch))),
            Command::CompatTree(limit) => {
                self.tree.set_limit(limit, self.branches.listings());
                self.touch();
            }
            Command::TreeIdle(reply) => {
                self.tree_waiters.push(reply);
                self.touch();
                self.reply_if_idle();
            }
            Command::TreeDone { task, error } => self.tree_done(&task, error),
            Command::Flush(reply) => {
                self.waiters.push(reply);
            }
            Command::Published(outcome) => self.published(outcome),
            Command::FilesWritten(written) => self.files_written(written),
            Command::Synced { floor, error } => self.synced(floor, error),
            Command::WrittenBack { pages } => {
                self.is_writing_back = false;
                if let Err(error) = self.db.write_back_rest(pages) {
                    tracing::warn!("{error}");
                }
            }
            Command::Close => {
                self.closing = true;
                self.not_before = None;
            }
        }
    }

    /// Changes the entries of a commit without a record. The change is lost when the process ends.
    fn change(
        &mut self,
        commit: &CommitId,
        change: impl FnOnce(&mut crate::state::CommitState) -> BTreeSet<ResultKey>,
    ) {
        if let Err(error) = self.commits.load(&mut self.db, commit) {
            self.shared.problem(commit.as_str(), &error.to_string());
            return;
        }
        self.shared.solved(commit.as_str());
        let begun = self.tree.begin(&self.db, std::iter::once(commit)).and_then(|begun| {
            if !begun.is_empty() {
                self.db.write(|batch| {
                    begun.iter().try_for_each(|(commit, state)| batch.tree(commit, Some(*state)))
                })?;
            }
            self.tree.begun(begun);
            Ok(())
        });
        self.report("directories", begun);
        let before = self.commits.running(commit);
        if self.commits.change(commit, change) {
            self.running_changed |= before != self.commits.running(commit);
            self.branches.touch(commit);
            self.touch();
        }
    }

    fn clear_stale(&mut self) -> Result<usize> {
        let mut cleared = 0;
        let reader = self.reader.clone();
        for commit in self.commits.stale()? {
            let mut running = BTreeSet::new();
            self.change(&commit, |state| {
                // Those of the last writer are only in the published files.
                running = import::running(&reader, &commit);
                running.retain(|key| !state.entries().contains_key(key));
                running.extend(state.running());
                for key in &running {
                    state.not_in_progress(key);
                }
                running.clone()
            });
            cleared += running.len();
            self.drop_live_logs(&commit, &running);
        }
        self.running_changed = true;
        self.touch();
        Ok(cleared)
    }

    /// Removes live logs that are no longer written and that no finished log replaces.
    fn drop_live_logs(&self, commit: &CommitId, keys: &BTreeSet<ResultKey>) {
        for key in keys {
            let directory = self.reader.layout.test(commit, key);
            for kind in [LogKind::Subtest, LogKind::Full] {
                let live = directory.join(kind.live_file());
                if live.exists()
                    && let Err(error) = self.disk.remove_file(&live)
                {
                    tracing::warn!("{}: cannot be removed: {error}", live.display());
                }
            }
            remove_empty(&self.reader.layout, commit, &directory);
        }
    }

    fn start_pass(&mut self) {
        self.dirty_since = None;
        let planned = self.tree.plan_entered(&mut self.db);
        self.report("planned directories", planned);
        let mut publications = Vec::new();
        // Published before any blob with running tests, for the next writer.
        if std::mem::take(&mut self.running_changed) {
            publications.push(self.commits.running_file());
        }
        let upto = self.last;
        let (blobs, files) = self.commits.take_dirty(|commit| self.tree.wants(commit));
        publications.extend(blobs);
        publications.extend(self.branches.take_dirty(&self.db, &self.commits));
        let hurry = self.closing || !self.waiters.is_empty();
        let mut durations_upto = None;
        if self.durations.dirty_since().is_some_and(|since| hurry || since.elapsed() >= COALESCE_DURATIONS) {
            publications.push(self.durations.publication(&self.reader));
            durations_upto = Some(upto);
        } else if self.durations.dirty_since().is_none() {
            durations_upto = Some(upto);
        }
        let waiters = std::mem::take(&mut self.waiters);
        self.passes_begun += 1;
        let pass = Pass { number: self.passes_begun, upto, durations_upto, publications, files, waiters };
        self.in_flight = self.workers.passes.send(pass).is_ok();
    }
}

/// Starts the thread.
pub fn start(engine: Engine) -> Result<JoinHandle<()>> {
    publish::spawn("engine", move || engine.run())
}
