//! The validated configuration. It holds no reference to a name that does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{BranchRef, GroupName, HostName, RepoName, TestPath, UserName};

use crate::branch::Branch;
use crate::group::TestGroup;
use crate::hook::Hook;
use crate::host::Host;
use crate::image::Images;

/// The configuration of a farm, valid as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The files it was read from, the main one first: a change of any is a change of the configuration.
    pub files: Vec<PathBuf>,
    /// The kernel repository that the daemon fetches into and builds from.
    pub linux_repo: PathBuf,
    /// Where results are written.
    pub output_dir: PathBuf,
    /// The checkout whose `tests/` holds the test files.
    pub ktest_dir: PathBuf,
    /// Where the results are published.
    pub ci_url: Option<String>,
    /// The host that the daemon and the results are on.
    pub ci_host: Option<String>,
    /// The existing system's clients: the remote of a checkout that holds the farm's branches.
    pub ci_remote: Option<String>,
    /// Whose branches the main file's are.
    pub user: Option<UserName>,
    /// The folder of the users' own files.
    pub users_dir: Option<PathBuf>,
    /// How long to wait between looks at the remotes.
    pub poll: Duration,
    /// How many jobs are submitted at a time.
    pub window: usize,
    /// The most expected test time of one batch.
    pub subtest_duration_max: Duration,
    /// What a subtest is expected to take while it has no history.
    pub subtest_duration_def: Duration,
    /// Of how many commits of a branch the results are kept.
    pub keep_results_commits: usize,
    /// How often a subtest that failed is run again to see whether it fails always; 0: never.
    pub confirm_failures: u32,
    /// Where the daemon listens for pushes; `None`: nowhere.
    pub hook: Option<Hook>,
    /// Kernel options whose requirement may stay unmet, without `CONFIG_`.
    pub tolerate: Vec<String>,
    /// Repositories other than `linux` (which may be here too, to override `linux_repo`).
    pub repos: BTreeMap<RepoName, PathBuf>,
    /// Root images that test groups name.
    pub images: Images,
    /// How nice each user is, -100 to 100; see [`Config::weight`].
    pub user_nice: BTreeMap<UserName, i64>,
    /// The test groups of the main file, which every user's branches may name.
    pub test_groups: BTreeMap<GroupName, TestGroup>,
    /// The test groups of the users' own files, by user.
    pub user_groups: BTreeMap<UserName, BTreeMap<GroupName, TestGroup>>,
    /// The watched branches.
    pub branches: BTreeMap<BranchRef, Branch>,
    /// Users whose file cannot be used now ([`load_lenient`]): their results must not be deleted.
    pub broken_users: BTreeSet<UserName>,
    /// The machines of the farm.
    pub hosts: BTreeMap<HostName, Host>,
}

impl Config {
    /// The test group that `user` means by `name`: of the user's own file, else of the main one.
    #[must_use]
    pub fn test_group(&self, user: &UserName, name: &GroupName) -> Option<&TestGroup> {
        self.user_groups.get(user).and_then(|groups| groups.get(name)).or_else(|| self.test_groups.get(name))
    }

    /// The test groups of a branch, in the order written.
    pub fn groups_of<'a>(&'a self, branch: &'a Branch) -> impl Iterator<Item = &'a TestGroup> {
        branch.test_groups.iter().filter_map(|name| self.test_group(&branch.name.user, name))
    }

    /// The test files that a branch wants, each once.
    #[must_use]
    pub fn tests_of<'a>(&'a self, branch: &'a Branch) -> BTreeSet<&'a TestPath> {
        self.groups_of(branch).flat_map(|group| &group.tests).collect()
    }

    /// All watched branches, by user and name.
    pub fn all_branches(&self) -> impl Iterator<Item = &Branch> {
        self.branches.values()
    }

    /// The watched branch of that name.
    #[must_use]
    pub fn branch(&self, name: &BranchRef) -> Option<&Branch> {
        self.branches.get(name)
    }

    /// Where a repository lies; `linux` is `linux_repo` unless `[repo.linux]` says otherwise.
    #[must_use]
    pub fn repo(&self, name: &RepoName) -> Option<&Path> {
        let own = self.repos.get(name).map(PathBuf::as_path);
        own.or_else(|| name.is_linux().then_some(self.linux_repo.as_path()))
    }

    /// The fair-share weight of a user: 1, divided by 1.25 for each step of `user_nice` (as nice(2) has it).
    #[must_use]
    pub fn weight(&self, user: &UserName) -> f64 {
        let nice = self.user_nice.get(user).copied().unwrap_or(0);
        1.25_f64.powi(i32::try_from(-nice).unwrap_or(0))
    }

    /// How many batches can run at a time on all hosts together.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.hosts.values().map(|host| host.slots).sum()
    }
}
