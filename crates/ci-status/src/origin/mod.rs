//! Where results come from: a folder on this machine, or a dashboard somewhere else.
//!
//! Commands see this trait only, so that what they print cannot depend on which it is. Nothing here writes results.

mod held;
mod local;
mod remote;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use model::{BranchName, BranchRef, CommitId, ResultKey, StatusSnapshot, UserName};
use regex::Regex;
use results::json::ArtifactRow;
use results::{BranchEntry, CommitResults, HistoryEntry, LogKind, Resolved};

pub use held::Held;
pub use local::Local;
pub use remote::{Remote, Wire};

use crate::problem::Problem;

/// The results, as commands ask for them.
pub trait Origin: Debug + Send + Sync {
    /// The users and their branches, both sorted.
    fn users(&self) -> Result<BTreeMap<UserName, Vec<BranchName>>, Problem>;

    /// The commits of a branch, newest first; `None` if there is no such branch.
    fn branch(&self, at: &BranchRef) -> Result<Option<Vec<BranchEntry>>, Problem>;

    /// The commits of several branches, in their order. A listing that cannot be read is empty: one damaged listing
    /// must not hide the others.
    fn listings(&self, names: &[BranchRef]) -> Vec<Vec<BranchEntry>> {
        names.iter().map(|at| self.branch(at).ok().flatten().unwrap_or_default()).collect()
    }

    /// Like [`Self::branch`], counting only tests whose name matches.
    fn branch_filtered(&self, at: &BranchRef, test: &Regex) -> Result<Option<Vec<BranchEntry>>, Problem>;

    /// One test along a branch.
    fn history(&self, at: &BranchRef, key: &ResultKey) -> Result<Option<Vec<HistoryEntry>>, Problem>;

    /// The results of a commit; `None` if there are none.
    fn commit(&self, commit: &CommitId) -> Result<Option<CommitResults>, Problem>;

    /// What the first digits of a commit's id stand for.
    fn resolve_prefix(&self, prefix: &str) -> Result<Resolved, Problem>;

    /// A test's log; `None` if there is none.
    fn log(&self, commit: &CommitId, key: &ResultKey, kind: LogKind) -> Result<Option<Held>, Problem>;

    /// What the log of a running test holds from `offset` on, some of it; `None` once it does not grow any more.
    fn growth(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        kind: LogKind,
        offset: u64,
    ) -> Result<Option<Vec<u8>>, Problem>;

    /// The files that a test left behind.
    fn artifacts(&self, commit: &CommitId, key: &ResultKey) -> Result<Vec<ArtifactRow>, Problem>;

    /// One of them: its bytes as they are stored.
    fn artifact(&self, commit: &CommitId, key: &ResultKey, name: &str) -> Result<Vec<u8>, Problem>;

    /// What the daemon does now; `None` if none ever ran there.
    fn snapshot(&self) -> Result<Option<StatusSnapshot>, Problem>;

    /// Forgets what was read, for who asks again and again.
    fn refresh(&self) {}

    /// The folder of the results, where it is on this machine.
    fn folder(&self) -> Option<&Path> {
        None
    }
}

/// All branches, sorted.
pub fn all_branches(origin: &dyn Origin) -> Result<Vec<BranchRef>, Problem> {
    let users = origin.users()?.into_iter();
    let named = |(user, branches): (UserName, Vec<BranchName>)| {
        branches.into_iter().map(move |branch| BranchRef { user: user.clone(), branch })
    };
    Ok(users.flat_map(named).collect())
}
