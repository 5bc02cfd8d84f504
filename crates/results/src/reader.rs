//! Reads results, in any number of processes while one writer writes.
//!
//! Nothing here writes. Each call reads the currently published files; a reader never has to be reopened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use model::{
    BranchName, BranchRef, CommitId, ExperimentKey, ResultKey, StatusSnapshot, TrustDomain, UserName,
};

use crate::branch_file;
use crate::codec::{self, Aligned, BlobColumns, KnownNames};
use crate::db::{self, ReadPool};
use crate::directory;
use crate::error::{Error, Result};
use crate::files;
use crate::json::ArtifactRow;
use crate::json::{SameCodeRow, SamePatchRow};
use crate::layout::{self, Layout, LogKind};
use crate::logs::Log;
use crate::notes::StoredBuild;
use crate::owners::Owners;
use crate::packs::{PackedFile, StoredFile};
use crate::tree;
use crate::types::{BranchEntry, CommitResults, RecentRun, TestDuration, TestEntry};

/// The minimum length of an abbreviated commit id.
pub const PREFIX_MIN: usize = 4;

/// The maximum number of commits with the same patch.
const SAME_PATCH_MAX: usize = 5;

/// The maximum number of artifacts of a test.
const ARTIFACTS_MAX: usize = 10_000;

/// The results in one `output_dir`.
#[derive(Clone)]
pub struct Reader {
    pub(crate) layout: Layout,
    pub(crate) database: Arc<ReadPool>,
    pub(crate) scratch: Arc<Mutex<Scratch>>,
}

/// The maximum size of a blob for which the memory is kept.
const SCRATCH_MAX: usize = 16 << 20;

/// Memory that is used for one blob after the other.
#[derive(Default)]
pub(crate) struct Scratch {
    bytes: Option<Aligned>,
    names: Option<Arc<KnownNames>>,
}

/// The commits that match an abbreviated id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// No commit matches.
    None,
    /// One commit.
    One(CommitId),
    /// Several commits, sorted.
    Many(Vec<CommitId>),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader of the results in `output_dir`, which must be a directory.
    pub fn open(output_dir: impl Into<PathBuf>) -> Result<Self> {
        let layout = Layout::new(output_dir);
        if !layout.dir().is_dir() {
            return Err(Error::NoResults(layout.dir().into()));
        }
        let database = Arc::new(ReadPool::new(&layout));
        Ok(Self { layout, database, scratch: Arc::default() })
    }

    /// The directory.
    #[must_use]
    pub fn output_dir(&self) -> &Path {
        self.layout.dir()
    }

    /// The users and their branches, both sorted.
    pub fn users(&self) -> Result<BTreeMap<UserName, Vec<BranchName>>> {
        let mut users: BTreeMap<UserName, Vec<BranchName>> = BTreeMap::new();
        for name in files::names(self.layout.dir())? {
            if let Some(BranchRef { user, branch }) = branch_file::parse(&name) {
                users.entry(user).or_default().push(branch);
            }
        }
        for branches in users.values_mut() {
            branches.sort_unstable();
        }
        Ok(users)
    }

    /// The branches of a user, sorted; `None` if the user has none.
    pub fn branches(&self, user: &UserName) -> Result<Option<Vec<BranchName>>> {
        Ok(self.users()?.remove(user))
    }

    /// The commits of a branch, newest first; `None` if the branch does not exist.
    pub fn branch(&self, at: &BranchRef) -> Result<Option<Vec<BranchEntry>>> {
        let path = self.layout.dir().join(branch_file::file_name(at)?);
        let Some(bytes) = files::read_aligned(&path)? else { return Ok(None) };
        codec::decode_branch(bytes.bytes()).map(Some).map_err(|reason| Error::damaged(&path, reason))
    }

    /// The results of a commit; `None` if there are none. If the blob is missing or damaged, reads the results in the
    /// directory of the commit. It is an error only if there are none either.
    pub fn commit(&self, commit: &CommitId) -> Result<Option<CommitResults>> {
        match self.blob(commit) {
            Ok(Some(blob)) => Ok(Some(blob.results)),
            Ok(None) => directory::read(&self.layout, commit),
            Err(error) => match directory::read(&self.layout, commit)? {
                Some(results) if !results.entries.is_empty() => {
                    tracing::warn!("{error}; using the files in the directory of the commit");
                    Ok(Some(results))
                }
                _ => Err(error),
            },
        }
    }

    pub(crate) fn blob(&self, commit: &CommitId) -> Result<Option<codec::CommitBlob>> {
        let path = self.layout.blob(commit);
        let Some(bytes) = files::read_aligned(&path)? else { return Ok(None) };
        codec::decode_commit(commit, bytes.bytes()).map(Some).map_err(|reason| Error::damaged(&path, reason))
    }

    /// Reads a blob that has no columns. `None` if there is none or it has to be decoded completely.
    fn with_blob<T>(
        &self,
        commit: &CommitId,
        read: impl FnOnce(&[u8], &mut Option<Arc<KnownNames>>) -> Option<T>,
    ) -> Option<T> {
        // Another thread may use the memory.
        let mut shared = self.scratch.try_lock().ok();
        let mut own = Scratch::default();
        let Scratch { bytes, names } = shared.as_deref_mut().unwrap_or(&mut own);
        let mut blob = bytes.take().unwrap_or_else(|| Aligned::zeroed(0));
        let found = files::read_into(&self.layout.blob(commit), &mut blob).ok()?;
        let result = found.then(|| read(blob.bytes(), names)).flatten();
        *bytes = Some(blob).filter(|blob| blob.bytes().len() <= SCRATCH_MAX);
        result
    }

    /// The columns of a blob that has none.
    pub(crate) fn blob_columns(&self, commit: &CommitId) -> Option<BlobColumns> {
        self.with_blob(commit, codec::decode_columns)
    }

    /// One test of a blob.
    #[expect(clippy::option_option, reason = "no result, and no answer")]
    pub(crate) fn blob_entry(&self, commit: &CommitId, key: &ResultKey) -> Option<Option<TestEntry>> {
        self.with_blob(commit, |bytes, _| codec::decode_one(bytes, key))
    }

    /// A commit in the first listing that has it, with its message, author and date.
    pub fn listed(&self, commit: &CommitId) -> Result<Option<BranchEntry>> {
        for (user, branches) in self.users()? {
            for branch in branches {
                // A damaged listing must not hide the others.
                let Ok(Some(entries)) = self.branch(&BranchRef::new(&user, &branch)) else { continue };
                if let Some(entry) = entries.into_iter().find(|entry| entry.commit == *commit) {
                    return Ok(Some(entry));
                }
            }
        }
        Ok(None)
    }

    /// The commits with results, sorted.
    pub fn commits(&self) -> Result<Vec<CommitId>> {
        let mut commits: Vec<_> =
            files::names(self.layout.dir())?.iter().filter_map(|name| layout::commit_of(name)).collect();
        commits.dedup();
        Ok(commits)
    }

    /// The commits with an id that starts with `prefix` (at least [`PREFIX_MIN`] digits, in any case): those with
    /// results, or else those in a listing.
    pub fn resolve_prefix(&self, prefix: &str) -> Result<Resolved> {
        let prefix = prefix.to_ascii_lowercase();
        if prefix.len() < PREFIX_MIN || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Resolved::None);
        }
        let mut found: Vec<CommitId> = self.commits()?;
        found.retain(|commit| commit.as_str().starts_with(&prefix));
        if found.is_empty() {
            for (user, branches) in self.users()? {
                for branch in branches {
                    // A damaged listing must not hide the others.
                    let Ok(Some(entries)) = self.branch(&BranchRef { user: user.clone(), branch }) else {
                        continue;
                    };
                    let commits = entries.into_iter().map(|entry| entry.commit);
                    found.extend(commits.filter(|commit| commit.as_str().starts_with(&prefix)));
                }
            }
            found.sort_unstable();
            found.dedup();
        }
        Ok(match found.len() {
            0 => Resolved::None,
            1 => found.pop().map_or(Resolved::None, Resolved::One),
            _ => Resolved::Many(found),
        })
    }

    /// The commits with running tests, which only the published files show; `None` if no writer recorded them.
    pub(crate) fn running(&self) -> Result<Option<BTreeSet<CommitId>>> {
        let text = files::read_text(&self.layout.running(), files::BLOB_MAX)?;
        Ok(text.map(|text| text.lines().filter_map(|line| line.trim().parse().ok()).collect()))
    }

    /// The commits of a branch without results, each with another commit that has the same source tree, and results of this
    /// trust domain or of [`TrustDomain::base`] only. Reads the database; without one, there are none.
    #[must_use]
    pub fn twins(&self, branch: &BranchRef, domain: &TrustDomain) -> Vec<(CommitId, CommitId)> {
        self.database.query(|connection| db::inherit::twins(connection, branch, domain)).unwrap_or_default()
    }

    /// The results of a test in an experiment at the newest other commit at which it ran. Reads the database.
    #[must_use]
    pub fn same_experiment(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        experiment: ExperimentKey,
    ) -> Option<(CommitId, TestEntry)> {
        let find =
            |connection: &_| db::inherit::same_experiment(connection, commit, key.as_str(), experiment);
        let source = self.database.query(find).flatten()?;
        // The published file may still have the test in progress.
        let entry = self.recorded_entry(&source, key).ok().flatten()?;
        Some((source, entry))
    }

    /// The newest other commit at which a test ran with a kernel of the same code, as recorded with [`Note::Code`]. Reads the
    /// database.
    #[must_use]
    pub fn same_code(&self, commit: &CommitId, key: &ResultKey, code: ExperimentKey) -> Option<CommitId> {
        self.database
            .query(|connection| db::inherit::same_code(connection, commit, key.as_str(), code))
            .flatten()
    }

    /// At most `most` commits of a branch without a [`Note::Patch`], the newest first. Reads the database.
    #[must_use]
    pub fn unknown_patches(&self, branch: &BranchRef, most: usize) -> Vec<CommitId> {
        self.database.query(|connection| db::patch::unknown(connection, branch, most)).unwrap_or_default()
    }

    /// Other commits with results and the patch of this commit, on other bases, the newest first; known for commits with a
    /// [`Note::Patch`]. Reads the database.
    #[must_use]
    pub fn same_patch(&self, commit: &CommitId) -> Vec<SamePatchRow> {
        let rows = self.database.query(|connection| db::patch::same(connection, commit, SAME_PATCH_MAX));
        let row = |(commit, counts)| SamePatchRow { commit, counts };
        rows.unwrap_or_default().into_iter().map(row).collect()
    }

    /// The tests of a commit that wait for an idle slot, with their status at the commit at which each ran with the same code.
    /// Reads the database; without one, there are none.
    #[must_use]
    pub fn same_code_rows(&self, commit: &CommitId) -> Vec<SameCodeRow> {
        let mut sources: HashMap<CommitId, Option<CommitResults>> = HashMap::new();
        let row = |(test, source): (ResultKey, CommitId)| {
            let there = sources.entry(source.clone()).or_insert_with(|| self.commit(&source).ok().flatten());
            let status = there.as_ref()?.get(&test)?.status();
            Some(SameCodeRow { name: test.to_string(), commit: source, status })
        };
        self.waiting_tests(commit).into_iter().filter_map(row).collect()
    }

    /// The tests of a commit that wait for an idle slot, each with the commit at which it ran with the same code. Reads the
    /// database.
    #[must_use]
    pub fn waiting_tests(&self, commit: &CommitId) -> Vec<(ResultKey, CommitId)> {
        self.database.query(|connection| db::inherit::waiting(connection, commit)).unwrap_or_default()
    }

    /// The number of tests of a commit with an inherited verdict. Reads the database.
    #[must_use]
    pub fn inherited_tests(&self, commit: &CommitId) -> usize {
        self.database.query(|connection| db::inherit::inherited_tests(connection, commit)).unwrap_or_default()
    }

    /// The tests with inherited attempts at a commit of which no attempt ran at this commit. Reads the database.
    #[must_use]
    pub fn only_inherited(&self, commit: &CommitId) -> Vec<ResultKey> {
        self.database.query(|connection| db::inherit::only_inherited(connection, commit)).unwrap_or_default()
    }

    /// The commits at which inherited attempts ran, each with a commit that inherits them.
    pub(crate) fn heirs(&self) -> Vec<(CommitId, CommitId)> {
        self.database.query(db::inherit::heirs).unwrap_or_default()
    }

    /// What `read` finds at the commit, or else at the one at which the inherited attempts of the test ran.
    fn inherited<T>(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        read: impl Fn(&CommitId) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        if let Some(own) = read(commit)? {
            return Ok(Some(own));
        }
        self.ran_at(commit, key).map_or(Ok(None), |source| read(&source))
    }

    /// The commit at which the inherited attempts of a test ran.
    fn ran_at(&self, commit: &CommitId, key: &ResultKey) -> Option<CommitId> {
        self.database.query(|connection| db::inherit::ran_at(connection, commit, key.as_str())).flatten()
    }

    /// The log of the decisive attempt; `None` if there is none.
    pub fn log(&self, commit: &CommitId, key: &ResultKey, kind: LogKind) -> Result<Option<Log>> {
        self.inherited(commit, key, |commit| {
            match self.find_stored(commit, key, |file| file.decisive && file.name == kind.name()) {
                Some(file) => Ok(Some(Log::packed(file))),
                None => Log::find(&self.layout, &self.layout.test(commit, key), kind),
            }
        })
    }

    /// The compressed artifact `NAME.br` of a test (`crash`, `coverage.info`); `None` if there is none.
    pub fn open_artifact(&self, commit: &CommitId, key: &ResultKey, name: &str) -> Result<Option<Log>> {
        self.inherited(commit, key, |commit| {
            match self.find_stored(commit, key, |file| file.attempt == 0 && file.name == name) {
                Some(file) => Ok(Some(Log::packed(file))),
                None => Log::artifact(&self.layout, &self.layout.test(commit, key), name),
            }
        })
    }

    /// The artifacts `NAME.br` of the tests of a commit that are in packs, without those of inherited attempts. Reads the database.
    #[must_use]
    pub fn packed_artifacts(&self, commit: &CommitId, name: &str) -> HashMap<ResultKey, Log> {
        let query = |connection: &_| db::files_named(connection, commit, name);
        let found = self.database.query(query).unwrap_or_default().into_iter();
        let log = |(key, file): (String, StoredFile)| {
            Some((key.parse().ok()?, Log::packed(file.packed(&self.layout, commit))))
        };
        found.filter_map(log).collect()
    }

    /// The log of the attempt `number` of `entry`.
    pub fn attempt_log(
        &self,
        commit: &CommitId,
        entry: &TestEntry,
        number: u32,
        kind: LogKind,
    ) -> Result<Option<Log>> {
        let commit = entry.attempt(number).and_then(|attempt| attempt.ran_at.as_ref()).unwrap_or(commit);
        let is_log = |file: &StoredFile| file.attempt == number && file.name == kind.name();
        if let Some(file) = self.find_stored(commit, &entry.key, is_log) {
            return Ok(Some(Log::packed(file)));
        }
        let own = Log::find(&self.layout, &self.layout.attempt(commit, &entry.key, number), kind)?;
        // The log of an earlier decisive attempt stays at its place until that of another one replaces it.
        let at_top = number == entry.decisive.number
            || entry.attempt(number).is_some_and(|attempt| kind.bytes(attempt) > 0);
        if own.is_none() && at_top {
            return Log::find(&self.layout, &self.layout.test(commit, &entry.key), kind);
        }
        Ok(own)
    }

    /// One file of a test in a pack.
    fn find_stored(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        is_wanted: impl Fn(&StoredFile) -> bool,
    ) -> Option<PackedFile> {
        let file = self.stored(commit, key).into_iter().find(is_wanted)?;
        Some(file.packed(&self.layout, commit))
    }

    /// The files of a test in packs.
    pub(crate) fn stored(&self, commit: &CommitId, key: &ResultKey) -> Vec<StoredFile> {
        let query = |connection: &_| db::files_of(connection, commit, key);
        self.database.query(query).unwrap_or_default()
    }

    /// The tests that ran at a commit, from the database.
    pub(crate) fn stored_tests(&self, commit: &CommitId) -> Result<Vec<ResultKey>> {
        let query = |connection: &_| db::tests_of(connection, commit);
        let unreadable = || Error::damaged(&self.layout.database(), "the tests of a commit cannot be read");
        self.database.query(query).ok_or_else(unreadable)
    }

    /// A file of a test that is in a pack, by its path below the directory of the test (`log.br`).
    #[must_use]
    pub fn packed(&self, commit: &CommitId, key: &ResultKey, path: &str) -> Option<PackedFile> {
        let find = |commit: &CommitId| Ok(self.find_stored(commit, key, |file| file.path() == path));
        self.inherited(commit, key, find).ok().flatten()
    }

    /// The files of a test that are in packs, with the sizes of their streams.
    #[must_use]
    pub fn packed_files(&self, commit: &CommitId, key: &ResultKey) -> Vec<ArtifactRow> {
        let row = |file: StoredFile| ArtifactRow { name: file.path(), bytes: file.region.length };
        let inherited = self.ran_at(commit, key).map(|source| self.stored(&source, key)).unwrap_or_default();
        let mut files: Vec<ArtifactRow> = inherited.into_iter().map(row).collect();
        for own in self.stored(commit, key).into_iter().map(row) {
            files.retain(|file| file.name != own.name);
            files.push(own);
        }
        files
    }

    /// The artifacts of a test at a commit, sorted by name, with those of other attempts in their directories. Links
    /// are included if they lead to a file of the results.
    pub fn artifacts(&self, commit: &CommitId, key: &ResultKey) -> Result<Vec<ArtifactRow>> {
        let mut rows: BTreeMap<String, u64> = self.artifact_files(commit, key)?;
        if let Some(entry) = self.entry(commit, key)? {
            for name in ["status", "duration"] {
                let text = tree::status_text(&entry, name);
                rows.extend(text.map(|text| (name.to_owned(), text.len() as u64)));
            }
        }
        rows.extend(self.packed_files(commit, key).into_iter().map(|row| (row.name, row.bytes)));
        Ok(rows.into_iter().take(ARTIFACTS_MAX).map(|(name, bytes)| ArtifactRow { name, bytes }).collect())
    }

    /// The artifacts in files, with their sizes.
    fn artifact_files(&self, commit: &CommitId, key: &ResultKey) -> Result<BTreeMap<String, u64>> {
        let top = self.layout.test(commit, key);
        let mut rows = BTreeMap::new();
        let mut directories = vec![String::new()];
        while let Some(directory) = directories.pop() {
            for name in files::names(&top.join(&directory))? {
                let name = format!("{directory}{name}");
                // It may have been removed: a growing log becomes a finished one.
                let Ok(data) = std::fs::symlink_metadata(top.join(&name)) else { continue };
                if data.is_dir() && rows.len() + directories.len() < ARTIFACTS_MAX {
                    directories.push(format!("{name}/"));
                } else if data.is_file() {
                    rows.insert(name, data.len());
                } else if data.is_symlink() {
                    rows.extend(self.linked(&top.join(&name)).map(|bytes| (name, bytes)));
                }
            }
        }
        Ok(rows)
    }

    /// The bytes of one of the [artifacts](Self::artifacts), as stored.
    pub fn artifact(&self, commit: &CommitId, key: &ResultKey, name: &str) -> Result<Vec<u8>> {
        if let Some(file) = self.packed(commit, key, name) {
            return file.bytes();
        }
        let path = self.layout.test(commit, key).join(name);
        if matches!(name, "status" | "duration")
            && let Some(entry) = self.entry(commit, key)?
            && let Some(text) = tree::status_text(&entry, name)
        {
            return Ok(text.into_bytes());
        }
        if !self.artifact_files(commit, key)?.contains_key(name) {
            return Err(Error::damaged(&path, "there is no such file"));
        }
        std::fs::read(&path).map_err(Error::io("read", &path))
    }

    /// The size of the target of a link, if the target is a file of the results.
    fn linked(&self, link: &Path) -> Option<u64> {
        let (real, root) = (link.canonicalize().ok()?, self.layout.dir().canonicalize().ok()?);
        let data = std::fs::metadata(&real).ok()?;
        (real.starts_with(&root) && data.is_file()).then_some(data.len())
    }

    /// The past durations of each test, sorted by test; empty if there are none yet.
    pub fn durations(&self) -> Result<Vec<TestDuration>> {
        Ok(self.durations_blob()?.entries)
    }

    /// Calls `each` for every test that passed or failed, with its newest runs, newest commit first, at most `most`. Reads the
    /// database; without one, there are no runs. Takes seconds for 100,000 tests.
    pub fn recent_runs(&self, most: usize, each: &mut dyn FnMut(ResultKey, &[RecentRun])) {
        self.database.query(|database| db::recent::recent_runs(database, most, each));
    }

    /// The newest passes of a test at commits of any branch that started before its result at this commit, at most `most`. Reads the
    /// database; without one, there are none.
    #[must_use]
    pub fn passes_before(&self, commit: &CommitId, entry: &TestEntry, most: usize) -> Vec<RecentRun> {
        let Some(started) = entry.decisive.started else { return Vec::new() };
        let find = |database: &_| db::past::passes_before(database, &entry.key, commit, started, most);
        self.database.query(find).unwrap_or_default()
    }

    pub(crate) fn durations_blob(&self) -> Result<codec::DurationsBlob> {
        let path = self.layout.durations();
        let Some(bytes) = files::read_aligned(&path)? else { return Ok(codec::DurationsBlob::default()) };
        codec::decode_durations(bytes.bytes()).map_err(|reason| Error::damaged(&path, reason))
    }

    /// The builds of the kernels of a commit, one per batch, in their order. Reads the database; without one, there are none.
    #[must_use]
    pub fn builds(&self, commit: &CommitId) -> Vec<StoredBuild> {
        self.database.query(|connection| db::builds(connection, commit)).unwrap_or_default()
    }

    /// The owners of the test files.
    pub fn owners(&self) -> Result<Owners> {
        Owners::read(self.layout.dir())
    }

    /// The status snapshot; `None` if no daemon has run here yet.
    pub fn snapshot(&self) -> Result<Option<StatusSnapshot>> {
        let path = self.layout.snapshot();
        let Some(bytes) = files::read_aligned(&path)? else { return Ok(None) };
        serde_json::from_slice(bytes.bytes()).map(Some).map_err(|reason| Error::damaged(&path, reason))
    }
}
