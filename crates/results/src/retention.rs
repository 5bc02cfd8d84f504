//! Deletion of old results: plan, then apply. If planning fails, nothing is deleted.
//!
//! A commit is removed only if it is not among the newest commits of any listing, if its results have not changed for some
//! time, if no commit that is kept inherits them, and if no running bisection needs them. The configuration has no influence.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use model::{BranchRef, CommitId, UserName};

use crate::bisections;
use crate::error::{Error, Result};
use crate::files::{self, is_absent};
use crate::layout;
use crate::packs::packs_of;
use crate::reader::Reader;

/// The results to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The number of commits to keep per branch, starting with the newest.
    pub commits: usize,
    /// The time for which results are kept after their last change.
    pub rest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { commits: 500, rest: Duration::from_secs(14 * 24 * 3600) }
    }
}

/// A commit with results that will be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The commit.
    pub commit: CommitId,
    /// The size of the results in bytes.
    pub bytes: u64,
}

/// A plan, for [`Writer::apply`](crate::Writer::apply).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The commits, sorted.
    pub remove: Vec<Removal>,
    /// The number of commits to keep.
    pub keep: usize,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.remove.iter().map(|removal| removal.bytes).sum();
        let (count, keep) = (self.remove.len(), self.keep);
        write!(f, "remove the results of {count} commits ({} MB), keep those of {keep}", bytes >> 20)
    }
}

/// Plans which results to delete at the time `now`.
pub fn plan(reader: &Reader, policy: Policy, now: SystemTime) -> Result<Plan> {
    let mut wanted = HashSet::new();
    let users = reader.users()?;
    for (user, branches) in &users {
        for branch in branches {
            let commits = reader.branch(&BranchRef::new(user, branch))?.unwrap_or_default();
            wanted.extend(commits.into_iter().take(policy.commits).map(|entry| entry.commit));
        }
    }
    wanted.extend(bisections::needed_commits(reader.output_dir()));
    let mut plan = Plan::default();
    let mut commits: BTreeSet<CommitId> = reader.commits()?.into_iter().collect();
    // An interrupted deletion leaves packs.
    let packs = files::names(&reader.layout.packs())?;
    commits.extend(packs.iter().filter_map(|name| layout::pack_of(name)).map(|(commit, _)| commit));
    for commit in commits {
        // Without any listing, it is unknown which results to keep.
        if users.is_empty() || wanted.contains(&commit) || !rests(reader, &commit, policy.rest, now)? {
            plan.keep += 1;
            continue;
        }
        let bytes = size_of(reader, &commit)?;
        plan.remove.push(Removal { commit, bytes });
    }
    keep_sources(&mut plan, reader.heirs());
    Ok(plan)
}

/// Keeps the commits at which attempts ran that other commits inherit, with the logs. An heir is not a source itself.
fn keep_sources(plan: &mut Plan, heirs: Vec<(CommitId, CommitId)>) {
    let removed: HashSet<&CommitId> = plan.remove.iter().map(|removal| &removal.commit).collect();
    let heirs = heirs.into_iter().filter(|(_, heir)| !removed.contains(heir));
    let sources: HashSet<CommitId> = heirs.map(|(source, _)| source).collect();
    let before = plan.remove.len();
    plan.remove.retain(|removal| !sources.contains(&removal.commit));
    plan.keep += before - plan.remove.len();
}

/// The size of the results of all listed commits of a user, in bytes. Commits that are also listed by other users count
/// in full.
pub fn size_of_user(reader: &Reader, user: &UserName) -> Result<u64> {
    let mut commits = HashSet::new();
    for branch in reader.branches(user)?.unwrap_or_default() {
        let listed = reader.branch(&BranchRef::new(user, &branch))?.unwrap_or_default();
        commits.extend(listed.into_iter().map(|entry| entry.commit));
    }
    commits.iter().map(|commit| size_of(reader, commit)).sum()
}

/// The size of the files of a commit.
fn size_of(reader: &Reader, commit: &CommitId) -> Result<u64> {
    let layout = &reader.layout;
    let packs: Result<Vec<u64>> = packs_of(layout, commit).iter().map(|pack| size(pack)).collect();
    Ok(size(&layout.blob(commit))? + size(&layout.commit(commit))? + packs?.iter().sum::<u64>())
}

fn rests(reader: &Reader, commit: &CommitId, rest: Duration, now: SystemTime) -> Result<bool> {
    let mut paths = packs_of(&reader.layout, commit);
    paths.extend([reader.layout.blob(commit), reader.layout.commit(commit)]);
    for path in paths {
        let changed = match path.metadata().and_then(|metadata| metadata.modified()) {
            Ok(changed) => changed,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        // A change in the future is treated as recent.
        if now.duration_since(changed).is_ok_and(|age| age >= rest) {
            continue;
        }
        return Ok(false);
    }
    Ok(true)
}

/// The size of a file or of a directory with its content; 0 if it is missing.
fn size(path: &Path) -> Result<u64> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(0),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut sum = 0;
    for entry in std::fs::read_dir(path).map_err(Error::io("list", path))? {
        sum += size(&entry.map_err(Error::io("list", path))?.path())?;
    }
    Ok(sum)
}
