//! Merges: the commits that one merged, and the revert of a commit, which is a merge without a work tree.

use std::collections::HashSet;
use std::time::Duration;

use model::CommitId;
use spawn::Limits;

use crate::command::{QUICK, error_message, git};
use crate::error::GitError;
use crate::fetch::{FETCH_MEMORY, PACK};
use crate::repo::{CommitInfo, Repo};

/// The commits of a merge that are looked at: those of all branches that it merged.
const REACHABLE_MAX: usize = 50_000;
/// The limits of a revert.
const REVERT: Limits = Limits { time: Duration::from_secs(120), bytes: 16 << 20 };
/// The author of a revert.
const AUTHOR: (&str, &str) = ("ktest-ci", "ktest-ci@localhost");

impl Repo {
    /// The commits that a merge took from its second parent: along first parents, those that its first parent does not have, from
    /// oldest to newest. Empty if it is not a merge; `None` if there are more than `max`.
    pub fn merged_commits(&self, merge: &CommitId, max: usize) -> Result<Option<Vec<CommitInfo>>, GitError> {
        let merge = self.commit(merge)?;
        let [first, second, ..] = merge.parents.as_slice() else { return Ok(Some(Vec::new())) };
        let new = self.walk(second, Some(first), REACHABLE_MAX + 1)?;
        if new.len() > REACHABLE_MAX {
            return Ok(None);
        }
        let new: HashSet<CommitId> = new.into_iter().map(|commit| commit.id).collect();
        let mut commits = Vec::new();
        let mut next = Some(second.clone());
        while let Some(id) = next.filter(|id| new.contains(id)) {
            if commits.len() == max {
                return Ok(None);
            }
            let commit = self.commit(&id)?;
            next = commit.parents.first().cloned();
            commits.push(commit);
        }
        commits.reverse();
        Ok(Some(commits))
    }

    /// Writes a commit on top of `tip` that reverts `commit`, a merge to its first parent. The same arguments give the same id. `None`
    /// if the tip does not have the commit, if its change conflicts with later ones, or if this git cannot (before 2.40).
    pub async fn revert(&self, commit: &CommitId, tip: &CommitId) -> Result<Option<CommitId>, GitError> {
        let (info, newest) = (self.commit(commit)?, self.commit(tip)?);
        let Some(parent) = info.parents.first() else { return Ok(None) };
        if !self.is_ancestor(commit, tip)? {
            return Ok(None);
        }
        let Some(tree) = self.reverted_tree(commit, tip, parent).await? else { return Ok(None) };
        let subject: String = info.subject().chars().take(200).collect();
        let message = format!("Revert \"{subject}\"\n\nThis reverts commit {commit}.\n");
        let date = format!("@{} +0000", newest.time.max(0));
        let mut cmd = git(self.git_dir()).args(["-c", "i18n.commitEncoding=UTF-8"]).args([
            "commit-tree",
            "--no-gpg-sign",
            "-p",
            tip.as_str(),
            "-F",
            "-",
            &tree,
        ]);
        for role in ["AUTHOR", "COMMITTER"] {
            cmd = cmd.env(format!("GIT_{role}_NAME"), AUTHOR.0).env(format!("GIT_{role}_EMAIL"), AUTHOR.1);
            cmd = cmd.env(format!("GIT_{role}_DATE"), &date);
        }
        let output = self.run("write a revert", cmd.input(message), QUICK).await?;
        Ok(output.text().lines().next().and_then(|id| id.parse().ok()))
    }

    /// The tree of the tip without the change from `parent` to `commit`.
    async fn reverted_tree(
        &self,
        commit: &CommitId,
        tip: &CommitId,
        parent: &CommitId,
    ) -> Result<Option<String>, GitError> {
        let cmd = git(self.git_dir())
            .args(self.without_merge_drivers().await?)
            .args(["merge-tree", "--write-tree", "--no-messages", "--name-only"])
            .arg(format!("--merge-base={commit}"))
            .args([tip.as_str(), parent.as_str()]);
        let output = cmd.memory_limit(FETCH_MEMORY).file_size_limit(PACK).output(REVERT).await?;
        match output.exit {
            spawn::Exit::Code(0) => Ok(output.text().lines().next().map(str::to_owned)),
            spawn::Exit::Code(1) => Ok(None),
            // A usage error.
            spawn::Exit::Code(129) => {
                tracing::debug!("git cannot revert a commit without a work tree: {}", error_message(&output));
                Ok(None)
            }
            _ => Err(GitError::Command {
                action: "revert a commit",
                repo: self.path().into(),
                message: error_message(&output),
            }),
        }
    }

    /// Arguments that disable the programs that the repository configures for merges of files: such a file conflicts.
    async fn without_merge_drivers(&self) -> Result<Vec<String>, GitError> {
        let names = self.settings(r"^merge\..*\.driver$").await?;
        Ok(names.into_iter().flat_map(|name| ["-c".into(), format!("{name}=false")]).collect())
    }
}
