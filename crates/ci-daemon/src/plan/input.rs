//! The planner's input: branches with their commits, groups, listings and history. Plain data.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::TestGroup;
use model::{BranchRef, CommitId, Env, RepoName, ResultKey, SubtestName, TestPath};
use results::TestDuration;
use serde::Serialize;

use super::expected::percentile;

/// Everything to test, including jobs that already have a verdict.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The branches, in the order of the configuration.
    pub branches: Vec<Branch>,
    /// The subtests of each test file, in the environment of its group. A file without an entry has no jobs.
    pub listings: HashMap<(TestPath, Env), Arc<[SubtestName]>>,
    /// The history of each result key.
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
    /// Its test groups.
    pub groups: Vec<Arc<TestGroup>>,
}

/// The history of one result key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// Mean duration.
    pub mean: Duration,
    /// The 75th percentile of the newest runs, if it was read.
    pub p75: Option<Duration>,
    /// The number of passes.
    pub passed: u64,
    /// The number of failures.
    pub failed: u64,
}

/// The parts of a job's niceness. Their sum plus the age of the commit is the job's position in the order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Niceness {
    /// `nice` (or `priority`) of its group.
    pub group_nice: i64,
    /// `test_always_passes_nice`: added if all runs so far had the same verdict.
    pub alike_nice: i64,
    /// `test_duration_nice`: derived from the mean duration.
    pub duration_nice: i64,
}

impl Niceness {
    /// The niceness of a job of `group` with this history.
    #[must_use]
    pub fn of(history: Option<&History>, group: &TestGroup) -> Self {
        let Some(of) = history else { return Self { group_nice: group.nice, ..Self::default() } };
        let alike = group.nice_of(of.passed, of.failed, 0).saturating_sub(group.nice);
        let all = group.nice_of(of.passed, of.failed, of.mean.as_secs());
        let duration = all.saturating_sub(group.nice).saturating_sub(alike);
        Self { group_nice: group.nice, alike_nice: alike, duration_nice: duration }
    }
}

impl fmt::Display for Niceness {
    /// Formats the parts that are not zero: `group +2, same verdict +10, duration +1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts =
            [("group", self.group_nice), ("same verdict", self.alike_nice), ("duration", self.duration_nice)];
        let parts = parts.iter().filter(|(_, nice)| *nice != 0);
        let parts: Vec<String> = parts.map(|(name, nice)| format!("{name} {nice:+}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// The history of each result key, from the sums of its runs and the expected durations that were read.
#[must_use]
pub fn histories(
    sums: Vec<TestDuration>,
    expected: &HashMap<ResultKey, Duration>,
) -> HashMap<ResultKey, History> {
    let history = |TestDuration { test, mean, passed, failed, .. }| {
        let p75 = expected.get(&test).copied();
        (test, History { mean, p75, passed, failed })
    };
    sums.into_iter().map(history).collect()
}

impl Input {
    /// The expected durations of the subtests of one file. A subtest without history takes as long as nine of ten subtests of
    /// the file do, or, if none has a history, the default.
    #[must_use]
    pub fn costs<'a>(&self, keys: impl Iterator<Item = &'a ResultKey>) -> Vec<Duration> {
        let known: Vec<Option<Duration>> =
            keys.map(|key| self.history.get(key).map(History::expected)).collect();
        let mut durations: Vec<Duration> = known.iter().copied().flatten().collect();
        let all_known = durations.len() == known.len();
        let unknown = if all_known { None } else { percentile(&mut durations, 90) };
        known.into_iter().map(|known| known.or(unknown).unwrap_or(self.default_cost)).collect()
    }
}

impl History {
    /// The expected duration of the next run.
    #[must_use]
    pub fn expected(&self) -> Duration {
        self.p75.unwrap_or(self.mean)
    }

    /// The niceness of a subtest in `group`, by the rules of the group.
    #[must_use]
    pub fn nice_in(history: Option<&Self>, group: &TestGroup) -> i64 {
        history.map_or(group.nice, |of| group.nice_of(of.passed, of.failed, of.mean.as_secs()))
    }
}
