//! Which commits have a derived directory: the newest of each branch. Their directories are written as verdicts come in,
//! and written out or removed in the background when a commit enters or leaves the newest ones.
//!
//! Directories of an earlier version or of the ktest system are never removed.

use std::collections::{HashMap, HashSet, VecDeque};

use model::{CommitId, ResultKey};

use crate::db::{Database, TreeState};
use crate::error::Result;
use crate::layout::Layout;
use crate::reader::Reader;
use crate::tree::{TestFiles, TreeWriter};

/// The number of tests that are written between two looks at more urgent work.
const SLICE: usize = 32;

/// A directory of a commit.
#[derive(Debug, Clone, Copy)]
struct Directory {
    state: DirectoryState,
    /// The number of tasks that were not done yet.
    pending: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DirectoryState {
    Stored(TreeState),
    /// It is derived and being removed.
    Removing,
}

/// A task of the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeTask {
    /// Write out the directories of all tests of a commit.
    Write(CommitId),
    /// Remove what is derived.
    Remove(CommitId),
}

impl TreeTask {
    pub fn commit(&self) -> &CommitId {
        match self {
            Self::Write(commit) | Self::Remove(commit) => commit,
        }
    }
}

/// The directories, as the engine knows them.
#[derive(Debug, Default)]
pub struct Tree {
    limit: usize,
    /// The newest commits, with the number of branches that have them among their newest ones.
    newest: HashMap<CommitId, u32>,
    directories: HashMap<CommitId, Directory>,
    /// The commits that entered the newest ones and are not planned yet.
    entered: Vec<CommitId>,
    tasks: Vec<TreeTask>,
}

type Listed<'a> = &'a [(CommitId, String)];

impl Tree {
    /// Reads the directories, and plans what the last writer did not complete.
    pub fn load<'a>(
        db: &mut Database,
        layout: &Layout,
        limit: usize,
        listings: impl Iterator<Item = Listed<'a>>,
    ) -> Result<Self> {
        let mut tree = Self { limit, ..Self::default() };
        let directory = |state| Directory { state: DirectoryState::Stored(state), pending: 0 };
        tree.directories =
            db.trees()?.into_iter().map(|(commit, state)| (commit, directory(state))).collect();
        // The database was restored without the directories.
        let gone: Vec<CommitId> =
            tree.directories.keys().filter(|commit| !layout.commit(commit).exists()).cloned().collect();
        for commit in &gone {
            tree.directories.remove(commit);
        }
        if !gone.is_empty() {
            db.write(|batch| gone.iter().try_for_each(|commit| batch.tree(commit, None)))?;
        }
        for listing in listings {
            for (commit, _) in listing.iter().take(limit) {
                *tree.newest.entry(commit.clone()).or_default() += 1;
            }
        }
        tree.entered = tree.newest.keys().cloned().collect();
        tree.plan_entered(db)?;
        let known: Vec<CommitId> = tree.directories.keys().cloned().collect();
        tree.leave(known.into_iter());
        Ok(tree)
    }

    /// Whether the directories of the tests of a commit follow its results.
    pub fn wants(&self, commit: &CommitId) -> bool {
        self.newest.contains_key(commit)
            || self
                .directories
                .get(commit)
                .is_some_and(|directory| directory.state == DirectoryState::Stored(TreeState::Kept))
    }

    /// Changes the number of newest commits.
    pub fn set_limit<'a>(&mut self, limit: usize, listings: impl Iterator<Item = Listed<'a>>) {
        if limit == self.limit {
            return;
        }
        self.limit = limit;
        let before = std::mem::take(&mut self.newest);
        for (commit, _) in listings.flat_map(|listing| listing.iter().take(limit)) {
            *self.newest.entry(commit.clone()).or_default() += 1;
        }
        self.entered.extend(self.newest.keys().filter(|commit| !before.contains_key(*commit)).cloned());
        self.leave(before.into_keys());
    }

    /// Takes the change of a listing.
    pub fn relist(&mut self, old: Listed<'_>, new: Listed<'_>) {
        let (old, new) = (&old[..old.len().min(self.limit)], &new[..new.len().min(self.limit)]);
        for (commit, _) in new {
            *self.newest.entry(commit.clone()).or_default() += 1;
        }
        for (commit, _) in old {
            if let Some(count) = self.newest.get_mut(commit) {
                *count -= 1;
                if *count == 0 {
                    self.newest.remove(commit);
                }
            }
        }
        let before: HashSet<&CommitId> = old.iter().map(|(commit, _)| commit).collect();
        let entered = new.iter().filter(|(commit, _)| !before.contains(commit));
        self.entered.extend(entered.map(|(commit, _)| commit.clone()));
        self.leave(old.iter().map(|(commit, _)| commit.clone()));
    }

    /// Plans the directories of commits with results that entered the newest ones. Called again after an error.
    pub fn plan_entered(&mut self, db: &mut Database) -> Result<()> {
        let mut begun = Vec::new();
        for commit in self.entered.iter().filter(|commit| self.newest.contains_key(*commit)) {
            let is_missing = match self.directories.get(commit) {
                None => db.has_results(commit)?,
                Some(Directory { state: DirectoryState::Removing, .. }) => true,
                Some(Directory { state: DirectoryState::Stored(state), pending }) => {
                    *state == TreeState::Writing && *pending == 0
                }
            };
            if is_missing {
                begun.push(commit.clone());
            }
        }
        if !begun.is_empty() {
            db.write(|batch| {
                begun.iter().try_for_each(|commit| batch.tree(commit, Some(TreeState::Writing)))
            })?;
        }
        self.entered.clear();
        for commit in begun {
            self.plan(&commit, DirectoryState::Stored(TreeState::Writing), TreeTask::Write(commit.clone()));
        }
        Ok(())
    }

    /// Plans the removal of the derived directories of commits that are no longer among the newest.
    fn leave(&mut self, commits: impl Iterator<Item = CommitId>) {
        for commit in commits.filter(|commit| !self.newest.contains_key(commit)).collect::<Vec<_>>() {
            let known = self.directories.get(&commit).map(|directory| directory.state);
            if matches!(known, Some(DirectoryState::Stored(TreeState::Writing | TreeState::Written))) {
                self.plan(&commit, DirectoryState::Removing, TreeTask::Remove(commit.clone()));
            }
        }
    }

    fn plan(&mut self, commit: &CommitId, state: DirectoryState, task: TreeTask) {
        let directory = self.directories.entry(commit.clone()).or_insert(Directory { state, pending: 0 });
        directory.state = state;
        directory.pending += 1;
        self.tasks.push(task);
    }

    /// The commits of `commits` that get a directory with the next transaction, because they have results from then on.
    pub fn begin<'a>(
        &self,
        db: &Database,
        commits: impl Iterator<Item = &'a CommitId>,
    ) -> Result<Vec<(CommitId, TreeState)>> {
        let mut begun: Vec<(CommitId, TreeState)> = Vec::new();
        for commit in commits {
            let known = self.directories.contains_key(commit) || begun.iter().any(|(of, _)| of == commit);
            if !known && self.newest.contains_key(commit) {
                // An import that was made in between keeps the directory.
                let state = match db.tree(commit)? {
                    Some(state) => state,
                    None if db.has_results(commit)? => TreeState::Writing,
                    None => TreeState::Written,
                };
                begun.push((commit.clone(), state));
            }
        }
        Ok(begun)
    }

    /// The transaction with these directories is durable.
    pub fn begun(&mut self, commits: Vec<(CommitId, TreeState)>) {
        for (commit, state) in commits {
            if state == TreeState::Writing {
                self.entered.push(commit.clone());
            }
            self.directories.insert(commit, Directory { state: DirectoryState::Stored(state), pending: 0 });
        }
    }

    /// The tasks that were planned since the last call.
    pub fn take_tasks(&mut self) -> Vec<TreeTask> {
        std::mem::take(&mut self.tasks)
    }

    pub fn has_tasks(&self) -> bool {
        !self.tasks.is_empty() || !self.entered.is_empty()
    }

    /// A task is done, unless it `failed`: then it is planned again.
    pub fn done(&mut self, db: &mut Database, task: &TreeTask, failed: bool) -> Result<()> {
        let commit = task.commit();
        let Some(directory) = self.directories.get_mut(commit) else { return Ok(()) };
        if failed {
            self.tasks.push(task.clone());
            return Ok(());
        }
        directory.pending -= 1;
        if directory.pending > 0 {
            return Ok(());
        }
        match (task, directory.state) {
            (TreeTask::Write(_), DirectoryState::Stored(TreeState::Writing)) => {
                db.write(|batch| batch.tree(commit, Some(TreeState::Written)))?;
                directory.state = DirectoryState::Stored(TreeState::Written);
            }
            (TreeTask::Remove(_), DirectoryState::Removing) => {
                db.write(|batch| batch.tree(commit, None))?;
                self.directories.remove(commit);
            }
            _ => {}
        }
        Ok(())
    }

    /// Forgets a commit whose results are removed with all their files.
    pub fn remove(&mut self, commit: &CommitId) {
        self.directories.remove(commit);
    }

    /// Whether a task is not done.
    pub fn is_busy(&self) -> bool {
        self.has_tasks() || self.directories.values().any(|directory| directory.pending > 0)
    }
}

/// The tasks of the background thread, one slice at a time.
pub struct Backlog {
    reader: Reader,
    tasks: VecDeque<TreeTask>,
    current: Option<Current>,
}

struct Current {
    task: TreeTask,
    files: VecDeque<TestFiles>,
    keys: VecDeque<ResultKey>,
    /// Written since the list was made.
    fresh: HashSet<ResultKey>,
}

impl Backlog {
    pub fn new(reader: &Reader) -> Self {
        Self { reader: reader.clone(), tasks: VecDeque::new(), current: None }
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.current.is_none()
    }

    pub fn extend(&mut self, tasks: Vec<TreeTask>) {
        self.tasks.extend(tasks);
    }

    /// Drops the tasks for removed commits.
    pub fn forget(&mut self, commits: &[CommitId]) {
        self.tasks.retain(|task| !commits.contains(task.commit()));
        self.current.take_if(|current| commits.contains(current.task.commit()));
    }

    /// The directory of a test was written with newer results.
    pub fn is_fresh(&mut self, commit: &CommitId, key: &ResultKey) {
        if let Some(current) = self.current.as_mut().filter(|current| current.task.commit() == commit) {
            current.fresh.insert(key.clone());
        }
    }

    /// Does a part of the first task. Returns the task when it is done or has failed.
    pub fn step(&mut self, writer: &mut TreeWriter) -> Option<(TreeTask, Result<()>)> {
        if self.current.is_none() {
            let task = self.tasks.pop_front()?;
            match self.begin(&task) {
                Ok((files, keys)) => {
                    self.current = Some(Current { task, files, keys, fresh: HashSet::new() });
                }
                Err(error) => return Some((task, Err(error))),
            }
        }
        let current = self.current.as_mut()?;
        let mut result = Ok(());
        for _ in 0..SLICE {
            let files = current.files.pop_front().filter(|files| !current.fresh.contains(&files.key));
            let wrote = files.map_or(Ok(()), |files| writer.write(&files));
            let key = current.keys.pop_front();
            let removed = key.map_or(Ok(()), |key| writer.remove(current.task.commit(), &key));
            result = result.and(wrote).and(removed);
        }
        let done = current.files.is_empty() && current.keys.is_empty();
        if !done && result.is_ok() {
            return None;
        }
        self.current.take().map(|current| (current.task, result))
    }

    fn begin(&self, task: &TreeTask) -> Result<(VecDeque<TestFiles>, VecDeque<ResultKey>)> {
        match task {
            TreeTask::Write(commit) => {
                let results = self.reader.commit(commit)?;
                let entries = results.into_iter().flat_map(|results| results.entries);
                let files = entries.map(|entry| TestFiles::new(commit, &entry.key, Some(&entry), true));
                Ok((files.collect(), VecDeque::new()))
            }
            TreeTask::Remove(commit) => Ok((VecDeque::new(), self.reader.stored_tests(commit)?.into())),
        }
    }
}
