//! What follows a result: the search in the commits of a merge, and the runs of the head without the first bad commit.

use belief::bisect::{Revert, State};
use gitio::Repo;
use model::CommitId;

use super::super::commits::{of_merge, suspect};
use super::{Search, SearchError};

impl Search {
    /// The same search. When it verifies its result, it also runs `head` without that commit, if the revert applies.
    pub(crate) fn with_reverts(self, repo: &Repo, head: CommitId) -> Self {
        Self { reverts: Some((repo.clone(), head)), ..self }
    }

    /// Reverts the commit that is being verified, once. Without a revert, the search has a result, too.
    pub(super) async fn revert(&mut self) {
        let Some((repo, tip)) = self.reverts.clone() else { return };
        let Some(culprit) = self.bisection.to_revert().cloned() else { return };
        if self.reverted.as_ref() == Some(&culprit) {
            return;
        }
        self.reverted = Some(culprit.clone());
        match repo.revert(&culprit, &tip).await {
            Ok(Some(commit)) => self.bisection.set_revert(Revert { culprit, tip, commit }),
            Ok(None) => {}
            Err(error) => tracing::warn!("{} is not reverted: {error}", culprit.short()),
        }
    }

    /// If the first bad commit is a merge: the search among the commits that it merged, and the merge. It has the same record.
    pub(crate) fn merged(&self, repo: &Repo) -> Result<Option<Self>, SearchError> {
        let State::Culprit { culprit, parent, second_parent: Some(_) } = self.bisection.state() else {
            return Ok(None);
        };
        let Some(commits) = of_merge(repo, &parent, &culprit)? else { return Ok(None) };
        let side = commits[1..commits.len() - 1].iter().map(suspect).collect();
        let Some(bisection) = self.bisection.clone().into_second_parent(self.file.id(), side) else {
            return Ok(None);
        };
        let (file, earlier) = (self.file.clone(), self.earlier + self.began.elapsed());
        let (kernels, reverts) = (self.kernels.clone(), self.reverts.clone());
        Ok(Some(Self { kernels, reverts, ..Self::around(bisection?, commits, file, earlier) }))
    }
}
