//! What the planner is told: branches with their commits, groups, listings and history. Plain data.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::TestGroup;
use model::{BranchRef, CommitId, Env, RepoName, ResultKey, SubtestName, TestPath};
use serde::Serialize;

/// Everything that is wanted, before what has a verdict is taken off.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The branches, in the order of the configuration.
    pub branches: Vec<Branch>,
    /// The subtests of each test file in the environment of its group; what is not here yields no jobs.
    pub listings: HashMap<(TestPath, Env), Arc<[SubtestName]>>,
    /// What is known of each result key from earlier runs.
    pub history: HashMap<ResultKey, History>,
    /// The cost of a subtest without history.
    pub default_cost: Duration,
}

/// A branch and its commits.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Its name in the configuration; the user is the fair-share group.
    pub name: Arc<BranchRef>,
    /// The repository under test: `linux` or a `[repo.NAME]`.
    pub repo: Arc<RepoName>,
    /// Its commits, the tip first; the position is the age.
    pub commits: Arc<[CommitId]>,
    /// The test groups that it wants.
    pub groups: Vec<Arc<TestGroup>>,
}

/// What earlier runs of one result key showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// Mean duration.
    pub mean: Duration,
    /// How often it passed.
    pub passed: u64,
    /// How often it failed.
    pub failed: u64,
}

/// What a job's niceness is made of; the sum of it and the age of the commit is its place in the order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Why {
    /// `nice` (or `priority`) of its group.
    pub group_nice: i64,
    /// `test_always_passes_nice`: it always ended alike so far.
    pub alike_nice: i64,
    /// `test_duration_nice`: it takes long.
    pub duration_nice: i64,
}

impl Why {
    /// Why a job of `group` with this history has its niceness.
    #[must_use]
    pub fn of(history: Option<&History>, group: &TestGroup) -> Self {
        let Some(of) = history else { return Self { group_nice: group.nice, ..Self::default() } };
        let alike = group.nice_of(of.passed, of.failed, 0).saturating_sub(group.nice);
        let all = group.nice_of(of.passed, of.failed, of.mean.as_secs());
        let duration = all.saturating_sub(group.nice).saturating_sub(alike);
        Self { group_nice: group.nice, alike_nice: alike, duration_nice: duration }
    }
}

impl fmt::Display for Why {
    /// Only what is not zero: `group 2, always alike 10, takes long 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("group", self.group_nice),
            ("always alike", self.alike_nice),
            ("takes long", self.duration_nice),
        ];
        let parts = parts.iter().filter(|(_, nice)| *nice != 0);
        let parts: Vec<String> = parts.map(|(what, nice)| format!("{what} {nice:+}")).collect();
        f.write_str(&parts.join(", "))
    }
}

impl From<&results::TestDuration> for History {
    fn from(of: &results::TestDuration) -> Self {
        Self { mean: of.mean, passed: of.passed, failed: of.failed }
    }
}

impl History {
    /// The niceness of a subtest in `group`, by the group's rule.
    #[must_use]
    pub fn nice_in(history: Option<&Self>, group: &TestGroup) -> i64 {
        history.map_or(group.nice, |of| group.nice_of(of.passed, of.failed, of.mean.as_secs()))
    }
}
