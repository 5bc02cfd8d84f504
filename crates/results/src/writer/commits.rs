//! The commits that the engine has in memory: loaded on demand, published when changed, dropped when clean.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{CommitId, ResultKey};

use super::Shared;
use super::pass::{CommitContent, Content, Publication, Subject};
use crate::codec::{self, Mark};
use crate::db::{Batch, Database, Facets};
use crate::disk::{Disk, Durable};
use crate::error::{Error, Result};
use crate::import;
use crate::journal::Record;
use crate::reader::Reader;
use crate::state::{CommitState, Effect};
use crate::tree::TestFiles;
use crate::types::{CommitResults, TestEntry};

/// The maximum number of tests of clean commits in memory, with about 600 bytes each.
const CLEAN_MAX: usize = 100_000;

struct Loaded {
    state: CommitState,
    /// Whether the blob is out of date.
    dirty: bool,
    /// The tests with an outdated directory, and whether the logs in it are outdated, too.
    touched: BTreeMap<ResultKey, bool>,
    used: u64,
}

/// The change made by a record that is not yet durable.
#[derive(Debug)]
pub struct Change {
    pub effect: Option<Effect>,
    commit: CommitId,
    undo: Undo,
    /// Whether the test has a verdict now, and whether it has several attempts.
    ended: bool,
    retried: bool,
}

#[derive(Debug)]
enum Undo {
    Entry(ResultKey, Option<Box<TestEntry>>),
    Message(String),
}

pub struct Commits {
    reader: Reader,
    disk: Disk,
    shared: Arc<Shared>,
    loaded: HashMap<CommitId, Loaded>,
    messages: HashMap<CommitId, Box<str>>,
    /// The commits with running tests, including those of the last writer.
    running: BTreeSet<CommitId>,
    /// Whether the last writer recorded the commits with running tests.
    running_known: bool,
    /// The number of the last record of each commit that may have outdated files.
    unpublished: HashMap<CommitId, u64>,
    clock: u64,
}

impl Commits {
    pub fn new(reader: Reader, disk: Disk, shared: Arc<Shared>) -> Self {
        let running = reader.running().unwrap_or_default();
        Self {
            reader,
            disk,
            shared,
            loaded: HashMap::new(),
            messages: HashMap::new(),
            running_known: running.is_some(),
            running: running.unwrap_or_default(),
            unpublished: HashMap::new(),
            clock: 0,
        }
    }

    pub fn learn_message(&mut self, commit: &CommitId, message: &str) {
        self.messages.insert(commit.clone(), message.into());
        if let Some(loaded) = self.loaded.get_mut(commit)
            && loaded.state.message.is_empty()
            && !message.is_empty()
        {
            loaded.state.message = message.into();
            loaded.dirty |= !loaded.state.entries().is_empty();
        }
    }

    /// Loads the commit unless it is in memory.
    pub fn load(&mut self, db: &mut Database, commit: &CommitId) -> Result<()> {
        self.clock += 1;
        if let Some(loaded) = self.loaded.get_mut(commit) {
            loaded.used = self.clock;
            return Ok(());
        }
        let mut state = self.read(db, commit)?;
        if state.message.is_empty()
            && let Some(message) = self.messages.get(commit)
        {
            state.message = message.to_string();
        }
        let table = &self.shared.verdict_table;
        let ended = state.entries().values().filter(|entry| self.shared.is_verdict(entry.decisive.status));
        let keys: Vec<_> = ended.map(|entry| table.key(&entry.key)).collect();
        table.get_or(commit, keys.into_iter());
        let used = self.clock;
        self.loaded.insert(commit.clone(), Loaded { state, dirty: false, touched: BTreeMap::new(), used });
        Ok(())
    }

    fn read(&self, db: &mut Database, commit: &CommitId) -> Result<CommitState> {
        let stored = db.commit(commit)?;
        if !stored.has_results
            && let Some(state) = import::one(db, &self.reader, &self.disk, commit)?
        {
            return Ok(state);
        }
        let (commit, message) = (commit.clone(), stored.message);
        Ok(CommitState::new(CommitResults { commit, message, entries: stored.entries }))
    }

    pub fn state(&self, commit: &CommitId) -> Option<&CommitState> {
        self.loaded.get(commit).map(|loaded| &loaded.state)
    }

    /// Loads the commits with files that the last writer may not have written, and marks these files as out of date.
    pub fn load_unpublished(&mut self, db: &mut Database, number: u64) -> Result<usize> {
        let unpublished = db.unpublished()?;
        let count = unpublished.len();
        for commit in unpublished {
            self.load(db, &commit)?;
            if let Some(loaded) = self.loaded.get_mut(&commit) {
                loaded.dirty = true;
                loaded.touched = loaded.state.entries().keys().map(|key| (key.clone(), true)).collect();
            }
            self.unpublished.insert(commit, number);
        }
        Ok(count)
    }

    /// Publishes the commits that have no blob one by one: the database was restored into an empty directory.
    pub fn publish_missing(&mut self, db: &mut Database) -> Result<usize> {
        let mut count = 0;
        for commit in db.commits()? {
            let path = self.reader.layout.blob(&commit);
            if self.loaded.contains_key(&commit) || path.exists() {
                continue;
            }
            let state = self.read(db, &commit)?;
            let entries: Vec<&TestEntry> = state.entries().values().collect();
            let bytes = codec::encode_entries(&commit, &state.message, &entries, Mark::default());
            self.disk.publish(&path, &bytes, Durable::Yes).map_err(Error::io("write", &path))?;
            count += 1;
        }
        Ok(count)
    }

    /// Applies a record that is about to be durable, and adds it to the transaction and to the counts of its commit. The
    /// commit must be loaded. The change has to be taken back if the transaction fails.
    pub fn apply<'a>(
        &mut self,
        batch: &mut Batch<'_>,
        facets: &mut Facets<'a>,
        record: &'a Record,
    ) -> (Option<Change>, rusqlite::Result<()>) {
        let commit = record.commit();
        let Some(Loaded { state, .. }) = self.loaded.get_mut(commit) else { return (None, Ok(())) };
        let key = match record {
            Record::Message { .. } => None,
            Record::Verdict(verdict) => Some(&verdict.key),
            Record::Log { key, .. } | Record::Judgement { key, .. } => Some(key),
        };
        let undo = match key {
            None => Undo::Message(state.message.clone()),
            Some(key) => Undo::Entry(key.clone(), state.entries().get(key).cloned().map(Box::new)),
        };
        let effect = state.apply(record);
        let entry = key.and_then(|key| state.entries().get(key));
        if let Undo::Entry(_, old) = &undo {
            facets.change(commit, old.as_deref(), entry);
        }
        let ended = entry.is_some_and(|entry| entry.decisive.status.is_final());
        let retried = entry.is_some_and(|entry| !entry.others.is_empty());
        let change = Change { effect, commit: commit.clone(), undo, ended, retried };
        let result = add(batch, entry, record, effect);
        (Some(change), result)
    }

    /// Adds the sums of changed commits to the transaction.
    pub fn sums<'a>(
        &self,
        batch: &mut Batch<'_>,
        commits: impl Iterator<Item = &'a CommitId>,
    ) -> rusqlite::Result<()> {
        for commit in commits {
            if let Some(Loaded { state, .. }) = self.loaded.get(commit) {
                batch.sums(commit, state.counts(), state.duration())?;
            }
        }
        Ok(())
    }

    /// Reverts a change that did not become durable.
    pub fn undo(&mut self, change: Change) {
        let Some(Loaded { state, .. }) = self.loaded.get_mut(&change.commit) else { return };
        match change.undo {
            Undo::Entry(key, entry) => state.restore(&key, entry.map(|entry| *entry)),
            Undo::Message(message) => state.message = message,
        }
    }

    /// Records that a change is durable.
    pub fn applied(&mut self, number: u64, record: &Record, change: Option<&Change>) {
        let commit = record.commit();
        self.unpublished.insert(commit.clone(), number);
        let Some(loaded) = self.loaded.get_mut(commit) else { return };
        loaded.dirty = true;
        if let (Record::Judgement { key, .. }, Some(Change { effect: Some(_), .. })) = (record, change) {
            loaded.touched.entry(key.clone()).or_default();
        }
        let (Record::Verdict(verdict), Some(change)) = (record, change) else { return };
        if change.effect.is_some_and(|effect| effect.changed) {
            // The logs of other attempts get another place.
            *loaded.touched.entry(verdict.key.clone()).or_default() |= change.retried;
            if change.ended {
                let table = &self.shared.verdict_table;
                table.add(commit, table.key(&verdict.key));
            }
        } else if self.shared.retry_failed_to_run {
            // It failed to run again.
            let table = &self.shared.verdict_table;
            table.add(commit, table.key(&verdict.key));
        }
        self.note_running(commit);
    }

    /// Notes that a file of a run is durable.
    pub fn stored(&mut self, number: u64, commit: &CommitId, owners: &[(ResultKey, u32)], is_log: bool) {
        self.unpublished.insert(commit.clone(), number);
        if let Some(loaded) = self.loaded.get_mut(commit) {
            // The blob has the sizes of logs.
            loaded.dirty |= is_log;
            loaded.touched.extend(owners.iter().map(|(key, _)| (key.clone(), true)));
        }
    }

    /// The commits whose records are all below `floor`: their published files are durable.
    pub fn published(&self, floor: u64) -> Vec<CommitId> {
        let below = self.unpublished.iter().filter(|(_, number)| **number < floor);
        below.map(|(commit, _)| commit.clone()).collect()
    }

    /// Notes that the published files of these commits are durable.
    pub fn confirmed(&mut self, commits: &[CommitId]) {
        for commit in commits {
            self.unpublished.remove(commit);
        }
    }

    /// Changes a loaded commit. Returns whether anything changed.
    pub fn change(
        &mut self,
        commit: &CommitId,
        change: impl FnOnce(&mut CommitState) -> BTreeSet<ResultKey>,
    ) -> bool {
        let Some(loaded) = self.loaded.get_mut(commit) else { return false };
        let changed = change(&mut loaded.state);
        let any = !changed.is_empty();
        loaded.dirty |= any;
        for key in changed {
            loaded.touched.entry(key).or_default();
        }
        self.note_running(commit);
        any
    }

    fn note_running(&mut self, commit: &CommitId) {
        let runs = self.loaded.get(commit).is_some_and(|loaded| loaded.state.counts().inprogress > 0);
        if runs {
            self.running.insert(commit.clone());
        } else {
            self.running.remove(commit);
        }
    }

    /// Whether the commit has running tests.
    pub fn running(&self, commit: &CommitId) -> bool {
        self.running.contains(commit)
    }

    /// The commits with tests that the last writer may have left in progress.
    pub fn stale(&mut self) -> Result<Vec<CommitId>> {
        if !std::mem::replace(&mut self.running_known, true) {
            for commit in self.reader.commits()? {
                // Unreadable results have no running tests.
                let counts = self.reader.summary(&commit).ok().flatten();
                if counts.is_some_and(|summary| summary.counts.inprogress > 0) {
                    self.running.insert(commit);
                }
            }
        }
        Ok(self.running.iter().cloned().collect())
    }

    pub fn running_file(&self) -> Publication {
        let mut text = String::new();
        for commit in &self.running {
            text.push_str(commit.as_str());
            text.push('\n');
        }
        Publication {
            subject: Subject::Running,
            path: self.reader.layout.running(),
            content: Content::Bytes(text.into_bytes()),
        }
    }

    pub fn is_dirty(&self) -> bool {
        self.loaded.values().any(|loaded| loaded.dirty || !loaded.touched.is_empty())
    }

    /// Returns the blobs and status files that are out of date, and marks them as up to date.
    ///
    /// Directories are updated only of commits that `wants` them; of others what a running test left is removed.
    pub fn take_dirty(&mut self, wants: impl Fn(&CommitId) -> bool) -> (Vec<Publication>, Vec<TestFiles>) {
        let (mut blobs, mut files) = (Vec::new(), Vec::new());
        for (commit, loaded) in &mut self.loaded {
            if std::mem::take(&mut loaded.dirty) {
                let content = CommitContent {
                    commit: commit.clone(),
                    message: loaded.state.message.clone(),
                    running: loaded.state.running_entries().cloned().collect(),
                };
                blobs.push(Publication {
                    subject: Subject::Commit(commit.clone()),
                    path: self.reader.layout.blob(commit),
                    content: Content::Commit(content),
                });
            }
            let touched = std::mem::take(&mut loaded.touched);
            let wanted = wants(commit);
            if touched.is_empty() || !wanted && !self.reader.layout.commit(commit).exists() {
                continue;
            }
            files.extend(touched.into_iter().map(|(key, stored)| {
                let entry = loaded.state.entries().get(&key).filter(|_| wanted);
                TestFiles::new(commit, &key, entry, stored && wanted)
            }));
        }
        (blobs, files)
    }

    /// Marks the blob as out of date after a failed write.
    pub fn failed(&mut self, commit: &CommitId) {
        if let Some(loaded) = self.loaded.get_mut(commit) {
            loaded.dirty = true;
        }
    }

    /// Marks the status files of a test as out of date after a failed write.
    pub fn status_failed(&mut self, db: &mut Database, commit: &CommitId, key: ResultKey) {
        if self.load(db, commit).is_ok()
            && let Some(loaded) = self.loaded.get_mut(commit)
        {
            loaded.touched.insert(key, true);
        }
    }

    /// Drops clean commits, least recently used first, but not the last one, which the next verdict may need. Running
    /// tests are only in memory, so their commits are kept. Returns the states for another thread to free.
    pub fn evict(&mut self) -> Vec<CommitState> {
        let mut clean: Vec<(u64, usize, CommitId)> = self
            .loaded
            .iter()
            .filter(|(_, loaded)| !loaded.dirty && loaded.touched.is_empty())
            .filter(|(_, loaded)| loaded.state.counts().inprogress == 0)
            .map(|(commit, loaded)| (loaded.used, loaded.state.entries().len(), commit.clone()))
            .collect();
        clean.sort_unstable();
        let mut tests: usize = clean.iter().map(|(_, tests, _)| tests).sum();
        let mut evicted = Vec::new();
        for (used, of_this, commit) in clean {
            if tests <= CLEAN_MAX || used == self.clock {
                break;
            }
            tests -= of_this;
            evicted.extend(self.loaded.remove(&commit).map(|loaded| loaded.state));
        }
        evicted
    }

    /// Drops a commit after its results were removed.
    pub fn remove(&mut self, commit: &CommitId) {
        self.loaded.remove(commit);
        self.unpublished.remove(commit);
        self.running.remove(commit);
        self.shared.verdict_table.remove(commit);
    }
}

/// Adds a record that was applied in memory to the transaction.
fn add(
    batch: &mut Batch<'_>,
    entry: Option<&TestEntry>,
    record: &Record,
    effect: Option<Effect>,
) -> rusqlite::Result<()> {
    let commit = record.commit();
    let verdict = match record {
        Record::Message { message, .. } => return batch.message(commit, message),
        Record::Log { key, attempt, full, bytes, .. } => {
            return batch.log(commit, key, *attempt, *full, *bytes);
        }
        Record::Judgement { key, .. } => return decided(batch, entry, (commit, key), effect),
        Record::Verdict(verdict) => verdict,
    };
    if let Some(parts) = &verdict.parts {
        batch.parts(&verdict.key, parts)?;
    }
    if let Some(domain) = &verdict.domain {
        batch.tested(commit, domain)?;
    }
    decided(batch, entry, (commit, &verdict.key), effect)
}

/// Writes the attempt that a record added or changed.
fn decided(
    batch: &mut Batch<'_>,
    entry: Option<&TestEntry>,
    (commit, key): (&CommitId, &ResultKey),
    effect: Option<Effect>,
) -> rusqlite::Result<()> {
    match (entry, effect) {
        (Some(entry), Some(Effect { recorded, .. })) => match entry.attempt(recorded.attempt) {
            Some(attempt) => batch.attempt(commit, key, attempt, recorded.decisive),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}
