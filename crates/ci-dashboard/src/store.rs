//! The results for the views, with a cache of verdicts.
//!
//! The verdicts of a commit are valid as long as the stamp of its blob (length, mtime, inode) is unchanged: blobs are
//! replaced by rename, so an equal stamp means an equal blob.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use model::{CommitId, ResultKey};
use regress::branch_history::BranchHistory;
use regress::builds::{BuildHistory, CommitBuilds, KernelCache};
use regress::{CommitStatuses, Names};
use results::json::BranchTipRow;
use results::layout::Layout;
use results::{BranchEntry, CommitResults, Reader, Statuses, branch_file};

use crate::problem::Problem;
use crate::route::BranchRef;
use crate::views::coverage::CommitCoverage;

/// The maximum number of cached commits; each takes 5 KB for 5,000 tests.
const COMMITS_MAX: usize = 8000;
/// The maximum number of cached sets of names; each takes 300 KB for 5,000 tests.
const NAME_SETS_MAX: usize = 100;

/// The maximum number of names that are compared with one that does not exist.
const NEAR_MAX: usize = 1000;
/// The maximum number of branches with a cached tip.
const TIPS_MAX: usize = 10_000;

/// The maximum memory of merged coverage, in bytes.
const COVERAGE_BYTES_MAX: u64 = 64 << 20;

type Stamp = (u64, i64, i64, u64);

#[derive(Default)]
struct Cache {
    statuses: HashMap<CommitId, (Stamp, CommitStatuses)>,
    builds: HashMap<CommitId, (Stamp, Arc<CommitBuilds>)>,
    /// Sets of names by their hash: most commits have the same tests as their neighbors.
    names: HashMap<u64, Names>,
    /// The kernels of sets of names.
    kernels: KernelCache,
    /// The newest commit with results of each branch.
    tips: HashMap<BranchRef, (Stamp, Option<CommitId>)>,
}

/// The results and their cache.
pub struct Store {
    reader: Reader,
    cache: Mutex<Cache>,
    /// The merged coverage of commits, by a digest of its files.
    coverage: moka::sync::Cache<(CommitId, u64), Arc<CommitCoverage>>,
}

impl Store {
    /// A store that uses this reader.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        let weight = |_: &(CommitId, u64), coverage: &Arc<CommitCoverage>| {
            u32::try_from(coverage.weight()).unwrap_or(u32::MAX)
        };
        let coverage = moka::sync::Cache::builder().max_capacity(COVERAGE_BYTES_MAX).weigher(weight).build();
        Self { reader, cache: Mutex::default(), coverage }
    }

    /// The reader.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The commits of a branch, newest first.
    pub fn branch(&self, at: &BranchRef) -> Result<Vec<BranchEntry>, Problem> {
        self.reader.branch(at)?.ok_or_else(|| self.no_branch(at))
    }

    /// The error for a branch that does not exist, with the nearest one.
    pub fn no_branch(&self, at: &BranchRef) -> Problem {
        let users = self.reader.users().unwrap_or_default();
        let names = users
            .iter()
            .flat_map(|(user, branches)| branches.iter().map(move |branch| format!("{user}/{branch}")));
        let names: Vec<String> = names.take(NEAR_MAX).collect();
        let wanted = format!("{}/{}", at.user, at.branch);
        let nearest = config::nearest(&wanted, names.iter().map(String::as_str));
        Problem::NotFound(format!("no such branch{}", nearest.question()))
    }

    /// The error for a test without results on a branch, with the nearest one.
    pub fn no_test(&self, at: &BranchRef, key: &ResultKey) -> Problem {
        let tip = self.tip(at).and_then(|tip| self.statuses(&tip));
        let (file, subtest) = key.as_str().rsplit_once('.').unwrap_or(("", key.as_str()));
        // The comparison is slow: only tests of the same file, or with the same last part.
        let near =
            |name: &&str| name.rsplit_once('.').is_some_and(|(of, last)| of == file || last == subtest);
        let names = tip.iter().flat_map(|tip| tip.names.iter()).map(|name| &**name).filter(near);
        let nearest = config::nearest(key.as_str(), names.take(NEAR_MAX));
        Problem::NotFound(format!("no result for this test on this branch{}", nearest.question()))
    }

    /// The newest commit with results of each branch. A listing that cannot be read is left out.
    pub fn tips(&self) -> Vec<BranchTipRow> {
        let users = self.reader.users().unwrap_or_default();
        let names = users.iter().flat_map(|(user, branches)| {
            branches.iter().map(move |branch| BranchRef { user: user.clone(), branch: branch.clone() })
        });
        let tip = |at: BranchRef| {
            let commit = self.tip(&at)?;
            Some(BranchTipRow { user: at.user, branch: at.branch, commit })
        };
        names.filter_map(tip).collect()
    }

    /// The newest commit with results of a branch.
    fn tip(&self, at: &BranchRef) -> Option<CommitId> {
        let stamp = stamp_of(&self.reader.output_dir().join(branch_file::file_name(at).ok()?))?;
        if let Some((cached, tip)) = self.cache().tips.get(at)
            && *cached == stamp
        {
            return tip.clone();
        }
        let entries = self.branch(at).ok()?;
        let tip = entries.into_iter().find(|entry| entry.counts.total() > 0).map(|entry| entry.commit);
        let mut cache = self.cache();
        if cache.tips.len() >= TIPS_MAX {
            cache.tips.clear();
        }
        cache.tips.insert(at.clone(), (stamp, tip.clone()));
        tip
    }

    /// The verdicts of a commit; `None` if it has no results or they cannot be read. An error is only logged, so that a
    /// damaged blob does not hide its branch.
    pub fn statuses(&self, commit: &CommitId) -> Option<CommitStatuses> {
        let stamp = self.stamp(commit);
        if let Some(stamp) = stamp
            && let Some((cached, statuses)) = self.cache().statuses.get(commit)
            && *cached == stamp
        {
            return Some(statuses.clone());
        }
        let statuses = self.read_statuses(commit).unwrap_or_else(|error| {
            tracing::warn!("{error}");
            None
        })?;
        if let Some(stamp) = stamp {
            let mut cache = self.cache();
            if cache.statuses.len() >= COMMITS_MAX {
                cache.statuses.clear();
            }
            cache.statuses.insert(commit.clone(), (stamp, statuses.clone()));
        }
        Some(statuses)
    }

    /// What changed from commit to commit in a branch's listing, newest first.
    pub fn history(&self, listed: &[BranchEntry]) -> BranchHistory {
        BranchHistory::new(listed.iter().map(|entry| {
            // A commit without counts has no results.
            (entry.counts.total() > 0).then(|| self.statuses(&entry.commit)).flatten()
        }))
    }

    /// The builds of the kernels of a commit; `None` if it has no results or they cannot be read.
    pub fn builds(&self, commit: &CommitId) -> Option<Arc<CommitBuilds>> {
        let stamp = self.stamp(commit);
        if let Some(stamp) = stamp
            && let Some((cached, builds)) = self.cache().builds.get(commit)
            && *cached == stamp
        {
            return Some(Arc::clone(builds));
        }
        let columns = self.statuses(commit)?;
        let entry = |key: &model::ResultKey| self.reader.entry(commit, key).ok()?;
        let all = || self.reader.commit(commit).ok()?;
        let kernels = self.cache().kernels.of(&columns.names);
        let builds = Arc::new(CommitBuilds::of_columns(&columns, &kernels, entry, all));
        if let Some(stamp) = stamp {
            let mut cache = self.cache();
            if cache.builds.len() >= COMMITS_MAX {
                cache.builds.clear();
            }
            cache.builds.insert(commit.clone(), (stamp, Arc::clone(&builds)));
        }
        Some(builds)
    }

    /// The builds of a listed commit if one can have failed.
    pub fn failed_builds(&self, entry: &BranchEntry) -> Option<Arc<CommitBuilds>> {
        let builds = (entry.counts.failed_to_run > 0).then(|| self.builds(&entry.commit)).flatten()?;
        builds.has_failed().then_some(builds)
    }

    /// The builds along a branch's listing, newest first.
    pub fn build_history(&self, listed: &[BranchEntry]) -> BuildHistory {
        BuildHistory::of_listing(listed, |commit| self.builds(commit))
    }

    fn read_statuses(&self, commit: &CommitId) -> results::Result<Option<CommitStatuses>> {
        let Some(Statuses { keys_hash, statuses }) = self.reader.statuses(commit)? else { return Ok(None) };
        let known = self.cache().names.get(&keys_hash).cloned();
        if let Some(names) = known.filter(|names| names.len() == statuses.len()) {
            return Ok(Some(CommitStatuses { names, statuses: statuses.into() }));
        }
        // A new set of tests.
        if let Some((hash, names)) = self.reader.names(commit)
            && hash == keys_hash
            && names.len() == statuses.len()
        {
            return Ok(Some(CommitStatuses {
                names: self.keep_names(hash, names),
                statuses: statuses.into(),
            }));
        }
        // Names and statuses are read from the same blob.
        let Some(results) = self.reader.commit(commit)? else { return Ok(None) };
        let statuses = results.entries.iter().map(results::TestEntry::status).collect();
        Ok(Some(CommitStatuses { names: self.cache_names(&results), statuses }))
    }

    /// Caches the names of a commit that was read completely; its neighbors most likely have the same names.
    pub fn cache_names(&self, results: &CommitResults) -> Names {
        let keys_hash = results::codec::keys_hash(results.entries.iter().map(|entry| &entry.key));
        if let Some(names) =
            self.cache().names.get(&keys_hash).filter(|names| names.len() == results.entries.len())
        {
            return Arc::clone(names);
        }
        self.keep_names(
            keys_hash,
            results.entries.iter().map(|entry| Box::from(entry.key.as_str())).collect(),
        )
    }

    fn keep_names(&self, keys_hash: u64, names: Vec<Box<str>>) -> Names {
        let names = Names::from(names);
        let mut cache = self.cache();
        if cache.names.len() >= NAME_SETS_MAX {
            cache.names.clear();
        }
        cache.names.insert(keys_hash, Arc::clone(&names));
        names
    }

    /// The coverage with this digest, merged by `merge` if it is not cached. Concurrent requests wait for one merge.
    pub fn coverage(
        &self,
        key: (CommitId, u64),
        merge: impl FnOnce() -> CommitCoverage,
    ) -> Arc<CommitCoverage> {
        self.coverage.get_with(key, || Arc::new(merge()))
    }

    fn stamp(&self, commit: &CommitId) -> Option<Stamp> {
        stamp_of(&Layout::new(self.reader.output_dir()).blob(commit))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp_of(file: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(file).ok()?;
    Some((data.len(), data.mtime(), data.mtime_nsec(), data.ino()))
}
