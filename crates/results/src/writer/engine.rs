//! The thread that owns the results: takes commands, makes records durable in groups, keeps the state, and hands
//! changed files to the publishing threads.
//!
//! A record is applied only after it is durable, and acknowledged only after it is applied.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{CommitId, ResultKey};

use super::Shared;
use super::branches::Branches;
use super::command::{Chore, Command, Files, Outcome, Pass, Reply, Written};
use super::commits::Commits;
use super::durations::Durations;
use super::logs::LogTarget;
use super::pass::Subject;
use super::publish;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::journal::{Numbered, Record};
use crate::layout::LogKind;
use crate::reader::Reader;
use crate::segment::{Journal, Replay};
use crate::types::Recorded;

/// How long a change waits for others to be published with it.
const COALESCE: Duration = Duration::from_millis(200);
/// The same for durations, which are large and not urgent.
const COALESCE_DURATIONS: Duration = Duration::from_secs(5);
/// The wait after a failed pass.
const BACK_OFF: Duration = Duration::from_secs(2);
/// The number of commands that are taken together; their records share one fsync.
const GROUP_MAX: usize = 4096;

pub struct Engine {
    disk: Disk,
    reader: Reader,
    shared: Arc<Shared>,
    journal: Journal,
    commits: Commits,
    branches: Branches,
    durations: Durations,
    commands: Receiver<Command>,
    passes: Sender<Pass>,
    files: Sender<Chore>,
    threads: Vec<JoinHandle<()>>,
    /// When the oldest unpublished change was made.
    dirty_since: Option<Instant>,
    not_before: Option<Instant>,
    in_flight: bool,
    files_in_flight: usize,
    /// Whether `.store/running` is out of date.
    running_changed: bool,
    waiters: Vec<Reply<()>>,
    passes_begun: u64,
    /// The last pass that may lack status files that an earlier one failed to write.
    redo_after: u64,
    /// All records up to these numbers are in blobs, in the durations, and in status files.
    published: [u64; 3],
    /// Whether the status file thread is syncing the file system.
    syncing: bool,
    closing: bool,
}

impl Engine {
    pub fn new(
        disk: Disk,
        reader: Reader,
        shared: Arc<Shared>,
        journal: Journal,
        commands: Receiver<Command>,
        own: &Sender<Command>,
    ) -> Result<Self> {
        let (passes, pass_queue) = channel::<Pass>();
        let (files, file_queue) = channel::<Chore>();
        let publisher = {
            let (disk, own) = (disk.clone(), own.clone());
            publish::spawn("publish", move || publish::publish_loop(&disk, &pass_queue, &own))?
        };
        let writer = {
            let (disk, reader, own) = (disk.clone(), reader.clone(), own.clone());
            publish::spawn("status files", move || publish::files_loop(&disk, &reader, &file_queue, &own))?
        };
        let branches = Branches::load(&reader)?;
        let durations = Durations::load(&reader, Arc::clone(&shared));
        let commits = Commits::new(reader.clone(), disk.clone(), Arc::clone(&shared));
        Ok(Self {
            disk,
            reader,
            shared,
            journal,
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
            closing: false,
        })
    }

    /// Applies the records that the last writer made durable and may not have published.
    pub fn replay(&mut self, replay: Replay) -> Result<()> {
        let epoch = self.journal.epoch();
        for Numbered { sequence, record } in replay.records {
            self.commits.replay(&mut self.journal, sequence, &record)?;
            self.durations.apply(epoch, sequence, &record);
        }
        self.commits.replayed();
        self.branches.refresh_all(&mut self.commits);
        if self.is_dirty() {
            self.touch();
        }
        Ok(())
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

    /// When the next pass starts; `None` while one runs or nothing changed.
    fn due(&self) -> Option<Instant> {
        // A failed last pass is not repeated: its records are in the journal.
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
                // Load the commits first: a commit with unreadable results takes no records.
                Command::Record(record, reply) => match self.commits.load(&mut self.journal, record.commit())
                {
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
        let first = match self.journal.commit(records.iter().map(|(record, _)| record)) {
            Ok(first) => {
                self.shared.solved("journal");
                first
            }
            Err(error) => {
                let text = error.to_string();
                self.shared.problem("journal", &text);
                for (_, reply) in records {
                    let _ = reply.send(Err(Error::Write(text.clone())));
                }
                return;
            }
        };
        let epoch = self.journal.epoch();
        for (sequence, (record, reply)) in (first..).zip(records) {
            let recorded = self.commits.apply(epoch, sequence, &record);
            self.durations.apply(epoch, sequence, &record);
            self.branches.touch(record.commit());
            let _ = reply.send(Ok(recorded));
        }
        self.touch();
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
            Command::SetBranch { branch, commits, reply } => {
                for (commit, message) in &commits {
                    self.commits.learn_message(commit, message);
                }
                self.branches.set(branch, commits);
                self.waiters.push(reply);
                self.touch();
            }
            Command::LogTarget { commit, key, attempt, kind, reply } => {
                let target = self.commits.load(&mut self.journal, &commit).map(|()| {
                    let entry =
                        self.commits.state(&commit).and_then(|state| state.entries().get(&key)).cloned();
                    LogTarget::new(key, attempt, kind, entry.as_ref())
                });
                let _ = reply.send(target);
            }
            Command::RemoveCommits { commits, reply } => {
                for commit in commits {
                    self.commits.remove(&commit);
                    self.branches.touch(&commit);
                }
                self.touch();
                let _ = reply.send(Ok(()));
            }
            Command::UnlistBranch { branch, reply } => {
                let _ = reply.send(Ok(self.branches.unlist(&branch)));
            }
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

    /// Changes the entries of a commit without a record; the change is lost with the process.
    fn change(
        &mut self,
        commit: &CommitId,
        change: impl FnOnce(&mut crate::state::CommitState) -> BTreeSet<ResultKey>,
    ) {
        if let Err(error) = self.commits.load(&mut self.journal, commit) {
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
        for commit in self.commits.stale()? {
            let mut running = BTreeSet::new();
            self.change(&commit, |state| {
                running = state.running().into_iter().collect();
                running.iter().filter(|key| state.not_in_progress(key)).cloned().collect()
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
            let folder = self.reader.layout.test(commit, key);
            for kind in [LogKind::Subtest, LogKind::Full] {
                let live = folder.join(kind.live_file());
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
        // Before any blob with running tests, for the next writer.
        if std::mem::take(&mut self.running_changed) {
            publications.push(self.commits.running_file());
        }
        let upto = self.journal.last();
        let (blobs, files) = self.commits.take_dirty();
        publications.extend(blobs);
        publications.extend(self.branches.take_dirty(&self.commits));
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

    fn published(&mut self, outcome: Outcome) {
        self.in_flight = false;
        let Outcome { pass, upto, durations_upto, failed, error, waiters, files } = outcome;
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
                Subject::Durations => self.durations.failed(),
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
            // Only passes that begin from now on include these tests again.
            self.redo_after = self.passes_begun;
            self.not_before = Some(Instant::now() + BACK_OFF);
            self.shared.problem("publication", error.as_deref().unwrap_or("status files cannot be written"));
            self.touch();
        }
        for (commit, key) in failed {
            self.commits.status_failed(&mut self.journal, &commit, key);
        }
        for waiter in waiters {
            let _ = waiter.send(match &error {
                None => Ok(()),
                Some(error) => Err(Error::Write(error.clone())),
            });
        }
        let floor = self.floor();
        if !self.syncing && self.journal.can_retire(floor) {
            self.syncing = self.files.send(Chore::SyncAll { floor }).is_ok();
        }
    }

    /// The first record that may not be published everywhere.
    fn floor(&self) -> u64 {
        self.published.iter().min().copied().unwrap_or(0) + 1
    }

    /// Removes the journal segments below `floor`: their records are durably published.
    fn synced(&mut self, floor: u64, error: Option<String>) {
        self.syncing = false;
        let retired = match error {
            Some(error) => Err(error),
            None => self.journal.retire(floor).map_err(|error| error.to_string()),
        };
        match retired {
            Ok(()) => self.shared.solved("checkpoint"),
            Err(error) => self.shared.problem("checkpoint", &error),
        }
    }

    /// Leaves an empty journal if everything is published; otherwise the next writer reads the rest.
    fn last_checkpoint(&mut self) {
        let floor = self.floor();
        let dir = self.reader.output_dir();
        let result = (|| {
            if floor > self.journal.last() {
                self.journal.cut_off()?;
            }
            if self.journal.can_retire(floor) {
                self.disk.sync_all(dir).map_err(Error::io("sync", dir))?;
                self.journal.retire(floor)?;
            }
            Ok::<_, Error>(())
        })();
        if let Err(error) = result {
            tracing::warn!("{error}");
        }
    }
}

/// Starts the thread.
pub fn start(engine: Engine) -> Result<JoinHandle<()>> {
    publish::spawn("engine", move || engine.run())
}
