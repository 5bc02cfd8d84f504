//! The git repositories of the configuration, for revisions in addresses and for the addresses of commits on the web.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::{CommitUrl, Config};
use gitio::{GitError, Repo, Revision};
use model::{BranchRef, CommitId, RefName};

/// The repositories and the refs of the branches in them. Without a configuration there are none.
#[derive(Debug, Clone, Default)]
pub struct Repos {
    linux: Option<PathBuf>,
    branches: BTreeMap<BranchRef, (PathBuf, RefName)>,
    commit_urls: BTreeMap<BranchRef, CommitUrl>,
    /// The address of commits of branches that are not in the configuration, if all repositories have kernels.
    commit_url: Option<CommitUrl>,
}

impl Repos {
    /// The repositories of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let branches = config.all_branches().filter_map(|branch| {
            let path = config.repo(&branch.repo)?.to_path_buf();
            Some((branch.name.clone(), (path, branch.local_ref().parse().ok()?)))
        });
        let commit_urls = config
            .all_branches()
            .filter_map(|branch| Some((branch.name.clone(), config.commit_url(&branch.repo)?.clone())));
        Self {
            linux: Some(config.top.linux_repo.clone()),
            branches: branches.collect(),
            commit_urls: commit_urls.collect(),
            commit_url: config.top.commit_url.clone().filter(|_| config.repos.is_empty()),
        }
    }

    /// The address of a commit on the web, if the configuration has one.
    #[must_use]
    pub fn web_address(&self, at: Option<&BranchRef>, commit: &CommitId) -> Option<String> {
        let of_branch = |at| self.branches.get(at).map(|_| self.commit_urls.get(at));
        let url = at.and_then(of_branch).unwrap_or(self.commit_url.as_ref())?;
        Some(url.of(commit))
    }

    /// The commit of a revision in the repository of a branch, or in `linux_repo`. If git does not resolve its name, it
    /// may be a branch of the farm: `user/branch`, or a branch of the same user. `None` if there is no such commit.
    #[must_use]
    pub fn resolve(&self, at: Option<&BranchRef>, revision: &Revision) -> Option<CommitId> {
        let repo = at.and_then(|at| self.branches.get(at)).map(|(path, _)| path).or(self.linux.as_ref())?;
        let found = Repo::open(repo).and_then(|repo| repo.resolve_revision(revision));
        match found {
            Ok(commit) => return Some(commit),
            Err(GitError::NoSuchCommit { .. }) => {}
            Err(error) => tracing::warn!("{error}"),
        }
        let of_user = at
            .and_then(|at| Some(BranchRef { user: at.user.clone(), branch: revision.name().parse().ok()? }));
        let mut named = revision.name().parse().ok().into_iter().chain(of_user);
        let (path, local) = named.find_map(|name: BranchRef| self.branches.get(&name))?;
        Repo::open(path).and_then(|repo| repo.resolve_revision(&revision.from_ref(local.clone()))).ok()
    }
}
