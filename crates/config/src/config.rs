//! The validated configuration. Every name that it refers to exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model::{BranchRef, GroupName, HostName, PackageRepo, RepoName, TestPath, UserName};

use crate::branch::Branch;
use crate::commit_url::CommitUrl;
use crate::group::TestGroup;
use crate::hook::Hook;
use crate::host::Host;
use crate::image::Images;
use crate::notify::Sender;
use crate::repo::Repository;
use crate::suite::Suites;
use crate::top::Top;
use crate::users::UserLimits;

/// The complete, validated configuration of a farm.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The files that it was read from, the main file first.
    pub files: Vec<PathBuf>,
    /// The top-level settings of the main file.
    pub top: Top,
    /// The daemon's listener for push notifications, if enabled.
    pub hook: Option<Hook>,
    /// Repositories other than `linux`. An entry `linux` overrides `linux_repo`.
    pub repos: BTreeMap<RepoName, Repository>,
    /// The test suites that the farm fetches.
    pub suites: Suites,
    /// Root images that test groups name.
    pub images: Images,
    /// Package repositories from which kernels are fetched.
    pub kernel_sources: Vec<PackageRepo>,
    /// Who is sent the findings.
    pub senders: Vec<Sender>,
    /// The test groups of the main file, for the branches of all users.
    pub test_groups: BTreeMap<GroupName, TestGroup>,
    /// The test groups of the users' files, by user.
    pub user_groups: BTreeMap<UserName, BTreeMap<GroupName, TestGroup>>,
    /// The watched branches.
    pub branches: BTreeMap<BranchRef, Branch>,
    /// Users with an invalid file ([`load_lenient`](crate::load_lenient)). Their results must not be deleted.
    pub broken_users: BTreeSet<UserName>,
    /// The limits of each user of `users_dir`.
    pub users: UserLimits,
    /// The hosts of the farm.
    pub hosts: BTreeMap<HostName, Host>,
}

impl Config {
    /// The test group `name` of `user`: from the user's file, or else from the main file.
    #[must_use]
    pub fn test_group(&self, user: &UserName, name: &GroupName) -> Option<&TestGroup> {
        self.user_groups.get(user).and_then(|groups| groups.get(name)).or_else(|| self.test_groups.get(name))
    }

    /// The test groups of a branch, in the order of the file.
    pub fn groups_of<'a>(&'a self, branch: &'a Branch) -> impl Iterator<Item = &'a TestGroup> {
        branch.test_groups.iter().filter_map(|name| self.test_group(&branch.name.user, name))
    }

    /// The test files of a branch, without duplicates.
    #[must_use]
    pub fn tests_of<'a>(&'a self, branch: &'a Branch) -> BTreeSet<&'a TestPath> {
        self.groups_of(branch).flat_map(|group| &group.tests).collect()
    }

    /// All test groups: those of the main file, then those of the users' files.
    pub fn all_groups(&self) -> impl Iterator<Item = &TestGroup> {
        self.test_groups.values().chain(self.user_groups.values().flat_map(BTreeMap::values))
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

    /// The path of a repository. `linux` is `linux_repo` unless `[repo.linux]` overrides it.
    #[must_use]
    pub fn repo(&self, name: &RepoName) -> Option<&Path> {
        let own = self.repos.get(name).map(|repo| repo.path.as_path());
        own.or_else(|| name.is_linux().then_some(self.top.linux_repo.as_path()))
    }

    /// The address of the commits of a repository on the web. That of `linux` is the top-level `commit_url` unless
    /// `[repo.linux]` overrides it.
    #[must_use]
    pub fn commit_url(&self, name: &RepoName) -> Option<&CommitUrl> {
        let own = self.repos.get(name).and_then(|repo| repo.commit_url.as_ref());
        own.or_else(|| self.top.commit_url.as_ref().filter(|_| name.is_linux()))
    }

    /// The maximum number of workers that run batches of a user at the same time. The owner of the main file has no
    /// limit.
    #[must_use]
    pub fn max_workers(&self, user: &UserName) -> Option<usize> {
        self.users.max_workers.filter(|_| self.has_limits(user))
    }

    /// Whether the limits of `[users]` apply to a user. They apply to all users except the owner of the main file.
    #[must_use]
    pub fn has_limits(&self, user: &UserName) -> bool {
        self.top.user.as_ref() != Some(user)
    }

    /// The fair-share weight of a user: 1, divided by 1.25 for each step of `user_nice`, similar to nice(2).
    #[must_use]
    pub fn weight(&self, user: &UserName) -> f64 {
        let nice = self.top.user_nice.get(user).copied().unwrap_or(0);
        1.25_f64.powi(i32::try_from(-nice).unwrap_or(0))
    }

    /// The number of slots of all hosts.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.hosts.values().map(|host| host.slots).sum()
    }
}
