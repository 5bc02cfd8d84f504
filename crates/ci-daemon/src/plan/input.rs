//! What the planner is told: branches with their commits, groups, listings and history. Plain data, no behaviour
//! but the niceness rule.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::{CommitId, Env, ResultKey, StoreKernel, SubtestName, TestPath};

/// Everything that is wanted, before what has a verdict is taken off.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The branches, in the order of the configuration.
    pub branches: Vec<Branch>,
    /// The subtests of each test file; a file that is not here yields no jobs.
    pub listings: HashMap<TestPath, Arc<[SubtestName]>>,
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
    pub groups: Vec<Arc<Group>>,
}

/// A test group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its test files.
    pub files: Vec<TestPath>,
    /// Added to the age; lower runs earlier.
    pub nice: i64,
    /// Seconds of mean duration that add 1 to the niceness; 0: none do.
    pub test_duration_nice: u64,
    /// Added to the niceness of a subtest that had one outcome only in more than so many runs; 0: nothing is.
    pub test_always_passes_nice: u64,
    /// How many commits of a branch are tested, from the tip.
    pub max_commits: u32,
    /// Store kernels to test under; empty: the kernel is built from the commit.
    pub kernels: Vec<StoreKernel>,
    /// The environment of its runs.
    pub env: Env,
}

/// What earlier runs of one result key showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// Mean duration, in seconds.
    pub seconds: u64,
    /// How often it passed.
    pub passed: u64,
    /// How often it failed.
    pub failed: u64,
}

impl Group {
    /// The niceness of a subtest: the group's, plus 1 for each `test_duration_nice` seconds it takes, plus
    /// `test_always_passes_nice` if it always passed or always failed in more runs than that.
    #[must_use]
    pub fn nice_of(&self, history: Option<&History>) -> i64 {
        let mut nice = self.nice;
        let Some(history) = history else { return nice };
        if let Some(steps) = history.seconds.checked_div(self.test_duration_nice) {
            nice = nice.saturating_add_unsigned(steps);
        }
        let one_outcome = (history.passed == 0) != (history.failed == 0);
        let runs = history.passed.saturating_add(history.failed);
        if self.test_always_passes_nice != 0 && one_outcome && runs > self.test_always_passes_nice {
            nice = nice.saturating_add_unsigned(self.test_always_passes_nice);
        }
        nice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_niceness_rule() {
        let group =
            Group { nice: -3, test_duration_nice: 180, test_always_passes_nice: 10, ..Group::default() };
        let nice = |seconds, passed, failed| group.nice_of(Some(&History { seconds, passed, failed }));
        assert_eq!(group.nice_of(None), -3);
        assert_eq!(nice(179, 1, 0), -3);
        assert_eq!(nice(180, 1, 0), -2);
        assert_eq!(nice(400, 10, 0), -1);
        assert_eq!(nice(0, 11, 0), 7);
        assert_eq!(nice(0, 0, 11), 7);
        assert_eq!(nice(0, 11, 1), -3);
        assert_eq!(nice(u64::MAX, 0, 0), -3 + (u64::MAX / 180) as i64);
        let off = Group { test_duration_nice: 0, test_always_passes_nice: 0, ..group };
        assert_eq!(off.nice_of(Some(&History { seconds: 999, passed: 99, failed: 0 })), -3);
    }
}
