//! What may be deleted, planned first and deleted after: an error while planning deletes nothing.
//!
//! A commit is only ever removed because a branch's own listing has moved past it or dropped it, and only when its
//! results have rested for a while. What the configuration says, or says no longer, plays no part.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use model::{BranchRef, CommitId};

use crate::error::{Error, Result};
use crate::files::is_absent;
use crate::reader::Reader;

/// What is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many commits of each branch, from the newest on.
    pub commits: usize,
    /// Results that changed less than so long ago, whatever branch they are on or not.
    pub rest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { commits: 500, rest: Duration::from_secs(14 * 24 * 3600) }
    }
}

/// A commit whose results are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub commit: CommitId,
    /// How much room they take, in bytes.
    pub bytes: u64,
}

/// What is to be removed; [`Writer::apply`](crate::Writer::apply) does it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The commits, sorted.
    pub remove: Vec<Removal>,
    /// How many commits stay.
    pub keep: usize,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.remove.iter().map(|removal| removal.bytes).sum();
        let (count, keep) = (self.remove.len(), self.keep);
        write!(f, "remove the results of {count} commits ({} MB), keep those of {keep}", bytes >> 20)
    }
}

/// Plans what `policy` lets go at the time `now`.
pub fn plan(reader: &Reader, policy: Policy, now: SystemTime) -> Result<Plan> {
    let mut wanted = HashSet::new();
    let users = reader.users()?;
    for (user, branches) in &users {
        for branch in branches {
            let commits = reader.branch(&BranchRef::new(user, branch))?.unwrap_or_default();
            wanted.extend(commits.into_iter().take(policy.commits).map(|entry| entry.commit));
        }
    }
    let mut plan = Plan::default();
    for commit in reader.commits()? {
        // Without any listing nothing is known of what is wanted.
        if users.is_empty() || wanted.contains(&commit) || !rests(reader, &commit, policy.rest, now)? {
            plan.keep += 1;
            continue;
        }
        let bytes = size(&reader.layout.blob(&commit))? + size(&reader.layout.commit(&commit))?;
        plan.remove.push(Removal { commit, bytes });
    }
    Ok(plan)
}

fn rests(reader: &Reader, commit: &CommitId, rest: Duration, now: SystemTime) -> Result<bool> {
    for path in [reader.layout.blob(commit), reader.layout.commit(commit)] {
        let changed = match path.metadata().and_then(|metadata| metadata.modified()) {
            Ok(changed) => changed,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        // What changed in the future has not rested.
        if now.duration_since(changed).is_ok_and(|age| age >= rest) {
            continue;
        }
        return Ok(false);
    }
    Ok(true)
}

/// The size of a file or of a folder with all it holds; 0 if it is not there.
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
