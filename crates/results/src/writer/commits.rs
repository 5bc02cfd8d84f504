//! The commits that the engine has in memory: loaded when first needed, published when changed, dropped when clean.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use model::{CommitId, ResultKey};

use super::Shared;
use super::pass::{Publication, StatusFiles, Subject};
use crate::codec::{self, Mark};
use crate::disk::{Disk, Durable};
use crate::error::{Error, Result};
use crate::files;
use crate::folder;
use crate::journal::Record;
use crate::reader::Reader;
use crate::segment::Journal;
use crate::state::CommitState;
use crate::types::{Recorded, TestEntry};

/// The number of tests of clean commits in memory, at about 600 bytes each.
const CLEAN_MAX: usize = 100_000;

struct Loaded {
    state: CommitState,
    /// Whether the blob is out of date.
    dirty: bool,
    /// The tests whose status files are out of date.
    touched: BTreeSet<ResultKey>,
    used: u64,
}

pub struct Commits {
    reader: Reader,
    disk: Disk,
    shared: Arc<Shared>,
    loaded: HashMap<CommitId, Loaded>,
    messages: HashMap<CommitId, Box<str>>,
    /// The commits with running tests, with those of the last writer.
    running: BTreeSet<CommitId>,
    /// Whether the last writer recorded the commits with running tests.
    running_known: bool,
    clock: u64,
}

impl Commits {
    pub fn new(reader: Reader, disk: Disk, shared: Arc<Shared>) -> Self {
        let text = files::read_text(&running_path(&reader), files::BLOB_MAX).unwrap_or_default();
        let running_known = text.is_some();
        let running =
            text.iter().flat_map(|text| text.lines()).filter_map(|line| line.trim().parse().ok()).collect();
        Self {
            reader,
            disk,
            shared,
            loaded: HashMap::new(),
            messages: HashMap::new(),
            running,
            running_known,
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
    pub fn load(&mut self, journal: &mut Journal, commit: &CommitId) -> Result<()> {
        self.clock += 1;
        if let Some(loaded) = self.loaded.get_mut(commit) {
            loaded.used = self.clock;
            return Ok(());
        }
        let mut state = self.read(commit)?;
        if state.mark.epoch == journal.epoch() {
            journal.skip_past(state.mark.sequence);
        }
        if state.message.is_empty()
            && let Some(message) = self.messages.get(commit)
        {
            state.message = message.to_string();
        }
        let table = &self.shared.verdict_table;
        let ended = state.entries().values().filter(|entry| entry.decisive.status.is_final());
        let keys: Vec<_> = ended.map(|entry| table.key(&entry.key)).collect();
        table.get_or(commit, keys.into_iter());
        let used = self.clock;
        self.loaded.insert(commit.clone(), Loaded { state, dirty: false, touched: BTreeSet::new(), used });
        Ok(())
    }

    fn read(&self, commit: &CommitId) -> Result<CommitState> {
        let blob = match self.reader.blob(commit) {
            Ok(Some(blob)) => return Ok(CommitState::new(blob.results, blob.mark)),
            Ok(None) => None,
            Err(error @ Error::Damaged { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        let folder = folder::read(&self.reader.layout, commit)?;
        if let Some(error) = blob {
            // Keep the damaged file for an inspection.
            tracing::warn!(
                "{error}; kept as .store/damaged.{commit}.capnp, going on with the commit's folder"
            );
            let path = self.reader.layout.blob(commit);
            let kept = self.reader.layout.private().join(format!("damaged.{commit}.capnp"));
            self.disk.rename(&path, &kept, Durable::No).map_err(Error::io("set aside", &path))?;
        }
        Ok(folder.map_or_else(CommitState::empty, |results| CommitState::new(results, Mark::default())))
    }

    pub fn state(&self, commit: &CommitId) -> Option<&CommitState> {
        self.loaded.get(commit).map(|loaded| &loaded.state)
    }

    /// Applies a record of the last writer, unless the blob of the commit includes it.
    pub fn replay(&mut self, journal: &mut Journal, sequence: u64, record: &Record) -> Result<()> {
        let epoch = journal.epoch();
        let known = self.loaded.contains_key(record.commit());
        self.load(journal, record.commit())?;
        if let Some(loaded) = self.loaded.get_mut(record.commit()) {
            let mark = loaded.state.mark;
            if mark.epoch == epoch && mark.sequence >= sequence {
                // The blob includes it; the status files may not.
                if let Record::Verdict(verdict) = record {
                    loaded.touched.insert(verdict.key.clone());
                }
                return Ok(());
            }
            if !known && mark == Mark::default() {
                loaded.state.will_be_replayed();
            }
        }
        self.apply(epoch, sequence, record);
        Ok(())
    }

    pub fn replayed(&mut self) {
        for loaded in self.loaded.values_mut() {
            loaded.state.replayed();
        }
    }

    /// Applies a durable record. The commit must be loaded.
    pub fn apply(&mut self, epoch: u64, sequence: u64, record: &Record) -> Option<Recorded> {
        let commit = record.commit();
        let loaded = self.loaded.get_mut(commit)?;
        let effect = loaded.state.apply(record);
        loaded.state.mark = Mark { epoch, sequence };
        loaded.dirty = true;
        let Record::Verdict(verdict) = record else { return None };
        let effect = effect?;
        if effect.changed {
            let ended = loaded
                .state
                .entries()
                .get(&verdict.key)
                .is_some_and(|entry| entry.decisive.status.is_final());
            loaded.touched.insert(verdict.key.clone());
            if ended {
                let table = &self.shared.verdict_table;
                table.add(commit, table.key(&verdict.key));
            }
        }
        self.note_running(commit);
        Some(effect.recorded)
    }

    /// Changes a loaded commit; returns whether anything changed.
    pub fn change(
        &mut self,
        commit: &CommitId,
        change: impl FnOnce(&mut CommitState) -> BTreeSet<ResultKey>,
    ) -> bool {
        let Some(loaded) = self.loaded.get_mut(commit) else { return false };
        let mut changed = change(&mut loaded.state);
        let any = !changed.is_empty();
        loaded.dirty |= any;
        loaded.touched.append(&mut changed);
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

    /// The commits with tests that the last writer may have left as running.
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
        Publication { subject: Subject::Running, path: running_path(&self.reader), bytes: text.into_bytes() }
    }

    pub fn is_dirty(&self) -> bool {
        self.loaded.values().any(|loaded| loaded.dirty || !loaded.touched.is_empty())
    }

    /// The blobs and status files that are out of date; they count as up to date from now on.
    pub fn take_dirty(&mut self) -> (Vec<Publication>, Vec<StatusFiles>) {
        let (mut blobs, mut files) = (Vec::new(), Vec::new());
        for (commit, loaded) in &mut self.loaded {
            if std::mem::take(&mut loaded.dirty) {
                let CommitState { message, mark, .. } = &loaded.state;
                let entries: Vec<&TestEntry> = loaded.state.entries().values().collect();
                blobs.push(Publication {
                    subject: Subject::Commit(commit.clone()),
                    path: self.reader.layout.blob(commit),
                    bytes: codec::encode_entries(commit, message, &entries, *mark),
                });
            }
            for key in std::mem::take(&mut loaded.touched) {
                files.push(StatusFiles::new(commit, &key, loaded.state.entries().get(&key)));
            }
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
    pub fn status_failed(&mut self, journal: &mut Journal, commit: &CommitId, key: ResultKey) {
        if self.load(journal, commit).is_ok()
            && let Some(loaded) = self.loaded.get_mut(commit)
        {
            loaded.touched.insert(key);
        }
    }

    /// Drops clean commits, the least recently used first. Only while no pass runs: a commit that is loaded again must
    /// find its blob.
    pub fn evict(&mut self) {
        let mut clean: Vec<(u64, usize, CommitId)> = self
            .loaded
            .iter()
            .filter(|(_, loaded)| !loaded.dirty && loaded.touched.is_empty())
            .map(|(commit, loaded)| (loaded.used, loaded.state.entries().len(), commit.clone()))
            .collect();
        clean.sort_unstable();
        let mut tests: usize = clean.iter().map(|(_, tests, _)| tests).sum();
        for (_, of_this, commit) in clean {
            if tests <= CLEAN_MAX {
                break;
            }
            tests -= of_this;
            self.loaded.remove(&commit);
        }
    }

    /// Drops a commit after its results were removed.
    pub fn remove(&mut self, commit: &CommitId) {
        self.loaded.remove(commit);
        self.running.remove(commit);
        self.shared.verdict_table.remove(commit);
    }
}

fn running_path(reader: &Reader) -> std::path::PathBuf {
    reader.layout.private().join("running")
}
