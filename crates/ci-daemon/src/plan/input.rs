//! What the planner is told: branches with their commits, groups, listings and history. Plain data.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use config::TestGroup;
use model::{CommitId, Env, ResultKey, SubtestName, TestPath};

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
    /// Whose; the fair-share group.
    pub user: Arc<str>,
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The repository under test: `linux` or a `[repo.NAME]`.
    pub repo: Arc<str>,
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

impl History {
    /// The niceness of a subtest in `group`, by the group's rule.
    #[must_use]
    pub fn nice_in(history: Option<&Self>, group: &TestGroup) -> i64 {
        history.map_or(group.nice, |of| group.nice_of(of.passed, of.failed, of.mean.as_secs()))
    }
}
