//! The thread that owns the results: receives commands, makes records durable in groups, keeps the state, and passes
//! changed files to the publishing threads.
//!
//! A record is applied only after it is durable, and acknowledged only after it is applied.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{BranchRef, CommitId, ResultKey};

use super::Shared;
use super::branches::Branches;
use super::command::{Chore, Command, Files, Pass, PassResult, Reply, Written};
use super::commits::{Change, Commits};
use super::durations::Durations;
use super::log_target::LogTarget;
use super::pass::Subject;
use super::publish;
use crate::db::{Batch, Database};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::import::{self, Imported};
use crate::journal::Record;
use crate::layout::LogKind;
use crate::reader::Reader;
use crate::types::{Recorded, TestDuration};

/// How long a change waits for others, to be published together.
const COALESCE: Duration = Duration::from_millis(200);
/// The same for durations, which are large and not urgent.
const COALESCE_DURATIONS: Duration = Duration::from_secs(5);
/// The delay after a failed pass.
const BACK_OFF: Duration = Duration::from_secs(2);
/// The maximum number of commands that are handled together; their records share one fsync.
const GROUP_MAX: usize = 4096;
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
    commands: Receiver<Command>,
    passes: Sender<Pass>,
    files: Sender<Chore>,
    threads: Vec<JoinHandle<()>>,
    /// The time of the oldest unpublished change.
    dirty_since: Option<Instant>,
    not_before: Option<Instant>,
    in_flight: bool,
    files_in_flight: usize,
    /// Whether `.store/running` is out of date.
    running_changed: bool,
    waiters: Vec<Reply<()>>,
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
        checkpoint: u64,
        commands: Receiver<Command>,
        own: &Sender<Command>,
    ) -> Result<(Self, Opened)> {
        let imported = import::run(&mut db, &reader, &disk)?;
        let (passes, pass_queue) = channel::<Pass>();
        let (files, file_queue) = channel::<Chore>();
        let publisher = {
            let (disk, reader, own) = (disk.clone(), reader.clone(), own.clone());
            publish::spawn("publish", move || publish::publish_loop(&disk, &reader, &pass_queue, &own))?
        };
        let writer = {
            let (disk, reader, own) = (disk.clone(), reader.clone(), own.clone());
            publish::spawn("status files", move || publish::files_loop(&disk, &reader, &file_queue, &own))?
        };
        let branches = Branches::load(&db, &reader)?;
        let durations = Durations::load(&db, &reader, Arc::clone(&shared))?;
        let mut commits = Commits::new(reader.clone(), disk.clone(), Arc::clone(&shared));
        let unpublished = commits.load_unpublished(&mut db, FIRST)? + commits.publish_missing(&mut db)?;
        let mut engine = Self {
            disk,
            reader,
            shared,
            db,
            commits,
            branches,
            durations,
            commands,
            passes,
            files,
            threads: vec![publisher, writer],
            dirty_since: None,
            not_before: None,
            in_flight: false,
            files_in_flight: 0,
            running_changed: false,
            waiters: Vec::new(),
            passes_begun: 0,
            redo_after: 0,
            published: [0; 3],
            syncing: false,
            last: FIRST,
            synced: 0,
            checkpoint,
            closing: false,
        };
        if engine.is_dirty() {
            engine.touch();
        }
        Ok((engine, Opened { imported, unpublished }))
    }

    pub fn run(mut self) {
        loop {
            let command = match self.due() {
                None => match self.commands.recv() {
                    Ok(command) => Some(command),
                    Err(_) => break,
                },
                Some(due) => {
                    match self.commands.recv_timeout(due.saturating_duration_since(Instant::now())) {
                        Ok(command) => Some(command),
                        Err(RecvTimeoutError::Timeout) => None,
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            };
            if let Some(command) = command {
                let mut group = vec![command];
                while group.len() < GROUP_MAX {
                    let Ok(command) = self.commands.try_recv() else { break };
                    group.push(command);
                }
                self.handle(group);
            }
            if self.closing
                && !self.in_flight
                && self.files_in_flight == 0
                && !self.syncing
                && (!self.is_dirty() || self.not_before.is_some())
            {
                break;
            }
            if self.due().is_some_and(|due| due <= Instant::now()) {
                self.start_pass();
            }
        }
        self.last_checkpoint();
        let Self { passes, files, threads, .. } = self;
        drop((passes, files));
        for thread in threads {
            let _ = thread.join();
        }
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
        let mut records = Vec::new();
        let mut others = Vec::new();
        for command in group {
            match command {
                // Load the commits first: a commit with unreadable results accepts no records.
                Command::Record(record, reply) => match self.commits.load(&mut self.db, record.commit()) {
                    Ok(()) => records.push((record, reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                other => others.push(other),
            }
        }
        if !records.is_empty() {
            self.record(records);
        }
        for command in others {
            self.other(command);
        }
    }

    fn record(&mut self, records: Vec<(Record, Reply<Option<Recorded>>)>) {
        let mut changes = Vec::new();
        let result = {
            let Self { db, commits, shared, .. } = self;
            db.write(|batch| apply(batch, commits, shared, &records, &mut changes))
        };
        if let Err(error) = result {
            let text = error.to_string();
            self.shared.problem("database", &text);
            self.undo(&records, changes);
            for (_, reply) in records {
                let _ = reply.send(Err(Error::Write(text.clone())));
            }
            return;
        }
        self.shared.solved("database");
        for ((record, reply), (change, duration)) in records.into_iter().zip(changes) {
            self.last += 1;
            let effect = change.and_then(|change| change.effect);
            self.commits.applied(self.last, &record, effect);
            if duration.is_some() {
                self.durations.touch();
            }
            self.branches.touch(record.commit());
            let _ = reply.send(Ok(effect.map(|effect| effect.recorded)));
        }
        self.touch();
    }

    /// Reverts the changes of a failed transaction, last one first.
    fn undo(&mut self, records: &[(Record, Reply<Option<Recorded>>)], changes: Vec<Applied>) {
        let mut table = self.shared.durations.write().unwrap_or_else(PoisonError::into_inner);
        for ((record, _), (change, duration)) in records.iter().zip(changes).rev() {
            if let Some(change) = change {
                self.commits.undo(record.commit(), change);
            }
            if let (Some(old), Record::Verdict(verdict)) = (duration, record) {
                table.restore(&verdict.key, old);
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
        self.branches.set(branch, commits);
        self.waiters.push(reply);
        self.touch();
    }

    fn unlist(&mut self, branch: &BranchRef) -> Result<bool> {
        self.db.write(|batch| batch.unlist(branch))?;
        Ok(self.branches.unlist(branch))
    }

    fn remove(&mut self, commits: Vec<CommitId>) -> Result<()> {
        for commit in commits {
            self.db.write(|batch| batch.remove(&commit))?;
            self.commits.remove(&commit);
            self.branches.touch(&commit);
        }
        self.touch();
        Ok(())
    }

    fn other(&mut self, command: Command) {
        match command {
            Command::Record(..) => {}
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
            Command::Details { commits, reply } => {
                let write = self.db.write(|batch| {
                    commits.iter().try_for_each(|(commit, details)| batch.details(commit, details))
                });
                let _ = reply.send(write);
            }
            Command::LogTarget { commit, key, attempt, kind, reply } => {
                let target = self.commits.load(&mut self.db, &commit).map(|()| {
                    let entry =
                        self.commits.state(&commit).and_then(|state| state.entries().get(&key)).cloned();
                    LogTarget::new(key, attempt, kind, entry.as_ref())
                });
                let _ = reply.send(target);
            }
            Command::RemoveCommits { commits, reply } => drop(reply.send(self.remove(commits))),
            Command::UnlistBranch { branch, reply } => drop(reply.send(self.unlist(&branch))),
            Command::Flush(reply) => {
                self.waiters.push(reply);
            }
            Command::Published(outcome) => self.published(outcome),
            Command::FilesWritten(written) => self.files_written(written),
            Command::Synced { floor, error } => self.synced(floor, error),
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
        }
    }

    fn start_pass(&mut self) {
        self.dirty_since = None;
        let mut publications = Vec::new();
        // Published before any blob with running tests, for the next writer.
        if std::mem::take(&mut self.running_changed) {
            publications.push(self.commits.running_file());
        }
        let upto = self.last;
        let (blobs, files) = self.commits.take_dirty();
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
        self.in_flight = self.passes.send(pass).is_ok();
    }

    fn published(&mut self, outcome: PassResult) {
        self.in_flight = false;
        let PassResult { pass, upto, durations_upto, failed, error, waiters, files } = outcome;
        if failed.is_empty() {
            self.published[0] = upto;
            self.not_before = None;
            self.shared.solved("publication");
        } else {
            self.not_before = Some(Instant::now() + BACK_OFF);
            self.shared.problem("publication", error.as_deref().unwrap_or("results cannot be written"));
        }
        if let Some(upto) = durations_upto
            && !failed.contains(&Subject::Durations)
        {
            self.published[1] = upto;
        }
        for subject in failed {
            match subject {
                Subject::Running => self.running_changed = true,
                Subject::Commit(commit) => self.commits.failed(&commit),
                Subject::Branch(branch) => self.branches.failed(&branch),
                Subject::Durations => self.durations.touch(),
            }
            self.touch();
        }
        self.commits.evict();
        if self.files.send(Chore::Files(Files { pass, upto, files, waiters, error })).is_ok() {
            self.files_in_flight += 1;
        }
    }

    fn files_written(&mut self, written: Written) {
        let Written { pass, upto, failed, waiters, error } = written;
        self.files_in_flight -= 1;
        if failed.is_empty() {
            if pass > self.redo_after {
                self.published[2] = upto;
            }
        } else {
            // Only passes that start from now on include these tests again.
            self.redo_after = self.passes_begun;
            self.not_before = Some(Instant::now() + BACK_OFF);
            self.shared.problem("publication", error.as_deref().unwrap_or("status files cannot be written"));
            self.touch();
        }
        for (commit, key) in failed {
            self.commits.status_failed(&mut self.db, &commit, key);
        }
        for waiter in waiters {
            let _ = waiter.send(match &error {
                None => Ok(()),
                Some(error) => Err(Error::Write(error.clone())),
            });
        }
        let floor = self.floor();
        if !self.syncing && floor > self.synced + self.checkpoint {
            self.syncing = self.files.send(Chore::SyncAll { floor }).is_ok();
        }
    }

    /// The first record that may not be published everywhere.
    fn floor(&self) -> u64 {
        self.published.iter().min().copied().unwrap_or(0) + 1
    }

    /// Handles the result of a sync: the files of the records below `floor` are durable.
    fn synced(&mut self, floor: u64, error: Option<String>) {
        self.syncing = false;
        if let Some(error) = error {
            self.shared.problem("checkpoint", &error);
            return;
        }
        self.shared.solved("checkpoint");
        match self.confirm(floor) {
            Ok(()) => self.synced = floor,
            // Harmless: a later checkpoint repeats it, or the next writer publishes these files again.
            Err(error) => tracing::warn!("{error}"),
        }
    }

    /// Records which commits have durable published files, so that the next writer does not write them again.
    fn confirm(&mut self, floor: u64) -> Result<()> {
        let commits = self.commits.published(floor);
        if commits.is_empty() {
            return Ok(());
        }
        self.db.write(|batch| commits.iter().try_for_each(|commit| batch.published(commit)))?;
        self.commits.confirmed(&commits);
        Ok(())
    }

    /// Confirms all published files; the next writer writes the others.
    fn last_checkpoint(&mut self) {
        let floor = self.floor();
        if self.commits.published(floor).is_empty() {
            return;
        }
        let dir = self.reader.output_dir();
        let synced = self.disk.sync_all(dir).map_err(Error::io("sync", dir));
        if let Err(error) = synced.and_then(|()| self.confirm(floor)) {
            tracing::warn!("{error}");
        }
    }
}

/// The change of a commit by a record, and the previous durations of its test if they changed.
type Applied = (Option<Change>, Option<Option<TestDuration>>);

/// Applies records in memory and in a transaction. `changes` also contains those of a failed transaction.
fn apply(
    batch: &mut Batch<'_>,
    commits: &mut Commits,
    shared: &Shared,
    records: &[(Record, Reply<Option<Recorded>>)],
    changes: &mut Vec<Applied>,
) -> rusqlite::Result<()> {
    let mut table = shared.durations.write().unwrap_or_else(PoisonError::into_inner);
    let mut changed = BTreeSet::new();
    for (record, _) in records {
        let change = commits.apply(batch, record)?;
        changed.insert(record.commit());
        changes.push((change, None));
        if let Some((new, old)) = table.apply(record) {
            if let Some((_, duration)) = changes.last_mut() {
                *duration = Some(old);
            }
            batch.duration(new)?;
        }
    }
    commits.sums(batch, changed.into_iter())
}

/// Starts the thread.
pub fn start(engine: Engine) -> Result<JoinHandle<()>> {
    publish::spawn("engine", move || engine.run())
}
