//! The git repositories of the configuration, for revisions in addresses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::Config;
use gitio::{GitError, Repo, Revision};
use model::{BranchRef, CommitId, RefName};

/// The repositories and the refs of the branches in them. Without a configuration there are none.
#[derive(Debug, Clone, Default)]
pub struct Repos {
    linux: Option<PathBuf>,
    branches: BTreeMap<BranchRef, (PathBuf, RefName)>,
}

impl Repos {
    /// The repositories of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let branches = config.all_branches().filter_map(|branch| {
            let path = config.repo(&branch.repo)?.to_path_buf();
            Some((branch.name.clone(), (path, branch.local_ref().parse().ok()?)))
        });
        Self { linux: Some(config.top.linux_repo.clone()), branches: branches.collect() }
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
