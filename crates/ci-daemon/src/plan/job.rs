//! What a job is, and what names it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{BranchRef, CommitId, Env, GroupName, RepoName, ResultKey, StoreKernel, SubtestName, TestPath};

/// What the jobs of one batch have in common besides the commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unit {
    /// The test file.
    pub test: TestPath,
    /// The store kernel it runs under; none: built from the commit.
    pub kernel: Option<StoreKernel>,
    /// The environment of the run.
    pub env: Env,
}

/// A job: one subtest at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedJob {
    /// The branch that comes first in the order of those that ask for it; its user is the fair-share group.
    pub branch: Arc<BranchRef>,
    /// That branch's test group.
    pub group: Arc<GroupName>,
    /// The repository that the commit is in.
    pub repo: Arc<RepoName>,
    /// The commit.
    pub commit: CommitId,
    /// How many commits are newer on that branch.
    pub age: u32,
    /// The test file, kernel and env.
    pub unit: Arc<Unit>,
    /// The subtest.
    pub subtest: SubtestName,
    /// Where its result goes.
    pub key: ResultKey,
    /// Age + niceness: what the order is made by, lowest first.
    pub value: i64,
    /// How long it is expected to run.
    pub cost: Duration,
    /// Why it runs.
    pub purpose: Purpose,
}

/// Why a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For its verdict.
    First,
    /// It failed; whether it fails always is to be seen.
    Confirm,
    /// Somebody asked for one more run.
    Asked,
}

/// What names a job: its commit and where its result goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobRef {
    /// The commit.
    pub commit: CommitId,
    /// The result key.
    pub key: ResultKey,
}

impl Purpose {
    /// What stands after the job's name: nothing for a job that runs for its verdict.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::First => "",
            Self::Confirm => " (confirming)",
            Self::Asked => " (asked for)",
        }
    }
}

impl fmt::Display for JobRef {
    /// `<short commit> <result key>`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.commit.short(), self.key)
    }
}

impl PlannedJob {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> JobRef {
        JobRef { commit: self.commit.clone(), key: self.key.clone() }
    }

    /// Its name for people: also why it runs, unless it is for its verdict.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}{}", self.commit.short(), self.key, self.purpose.suffix())
    }

    /// Equal for the jobs that may run in one VM: those of one commit, test file, kernel and environment. Reruns have
    /// batches of their own.
    #[must_use]
    pub fn batch_key(&self) -> String {
        let unit = &self.unit;
        let file = ResultKey::file_prefix(&unit.test, unit.kernel.as_ref(), &unit.env);
        let suffix = if self.purpose == Purpose::First { "" } else { " again" };
        format!("{} {file}{suffix}", self.commit)
    }

    /// Its niceness: the group's, and what its history adds.
    #[must_use]
    pub fn nice(&self) -> i64 {
        self.value.saturating_sub(self.age.into())
    }
}
