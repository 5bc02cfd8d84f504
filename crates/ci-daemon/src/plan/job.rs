//! Planned jobs and their names.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{
    BisectStart, BranchRef, CommitId, Env, GroupName, RepoName, ResultKey, Share, StoreKernel, SubtestName,
    TestPath,
};

/// What the jobs of a batch have in common, apart from the commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unit {
    /// The test file.
    pub test: TestPath,
    /// The kernel from the store; `None` for the kernel built from the commit.
    pub kernel: Option<StoreKernel>,
    /// The environment of the run.
    pub env: Env,
}

/// A job: one subtest at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedJob {
    /// The first branch that has the job. Its user is the fair-share group.
    pub branch: Arc<BranchRef>,
    /// The test group on that branch.
    pub group: Arc<GroupName>,
    /// The repository that the commit is in.
    pub repo: Arc<RepoName>,
    /// The commit.
    pub commit: CommitId,
    /// The number of newer commits on that branch.
    pub age: u32,
    /// The test file, kernel and env.
    pub unit: Arc<Unit>,
    /// The subtest.
    pub subtest: SubtestName,
    /// The key of its result.
    pub key: ResultKey,
    /// Age plus niceness: the position in the order, lowest first.
    pub value: i64,
    /// Its expected duration.
    pub cost: Duration,
    /// Its purpose.
    pub purpose: Purpose,
    /// Whether its commit inherits the verdict of another one.
    pub inherit: bool,
    /// The share of the inherited verdicts that are checked.
    pub inherit_check: Share,
    /// How bisections of the test begin.
    pub bisect: BisectStart,
    /// Whether it needs a host to itself.
    pub alone: bool,
}

/// The purpose of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The first attempt, for the verdict.
    First,
    /// The first attempt, for the verdict, of a test that waited for an idle slot.
    Postponed,
    /// A retry after a failure, to find flaky subtests.
    Confirm,
    /// A rerun that a user requested.
    Requested,
    /// A run that checks an inherited verdict.
    Check,
    /// A run of a bisection.
    Bisect,
    /// A run that supports the claim that a failure is fixed.
    Believe {
        /// A number of its own.
        run: u32,
    },
}

/// The name of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobRef {
    /// The commit.
    pub commit: CommitId,
    /// The result key.
    pub key: ResultKey,
}

impl Purpose {
    /// Whether the attempt gives the verdict.
    #[must_use]
    pub fn is_first(self) -> bool {
        matches!(self, Self::First | Self::Postponed)
    }

    /// The suffix of the job's title. Empty for a first attempt.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::First => "",
            Self::Postponed => " (same code)",
            Self::Confirm => " (confirming)",
            Self::Requested => " (requested)",
            Self::Check => " (checking)",
            Self::Bisect => " (bisecting)",
            Self::Believe { .. } => " (believing)",
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

    /// Its name and its purpose, as shown to users.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}{}", self.commit.short(), self.key, self.purpose.suffix())
    }

    /// A key that is equal for jobs that can run in one VM: those with the same commit, test file, kernel and
    /// environment, which need the host to themselves or do not. Retries and reruns have separate batches, and each run of a bisection has its own.
    #[must_use]
    pub fn batch_key(&self) -> String {
        let unit = &self.unit;
        // With all of the environment: variables that only select are not in the name of a result.
        let env: Vec<String> = unit.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let kernel = unit.kernel.as_ref().map_or("", |kernel| kernel.as_str());
        let alone = if self.alone { " alone" } else { "" };
        let suffix = match self.purpose {
            Purpose::First => String::new(),
            Purpose::Postponed => " postponed".into(),
            Purpose::Confirm | Purpose::Requested | Purpose::Check => " again".into(),
            // No other test disturbs it.
            Purpose::Bisect => format!(" bisecting {}", self.subtest),
            // Each run has a VM of its own.
            Purpose::Believe { run } => format!(" believing {} {run}", self.subtest),
        };
        format!("{} {}@{kernel}@{}{suffix}{alone}", self.commit, unit.test, env.join(","))
    }

    /// Its niceness: that of the group plus that of its history.
    #[must_use]
    pub fn nice(&self) -> i64 {
        self.value.saturating_sub(self.age.into())
    }
}
