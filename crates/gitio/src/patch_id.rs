//! Identifies the patch of a commit, whatever it is applied to: `git patch-id --stable`.

use std::collections::HashMap;
use std::time::Duration;

use model::CommitId;
use spawn::{Limits, SpawnError};

use crate::command::{QUICK, git};
use crate::error::GitError;
use crate::repo::Repo;

/// The number of commits whose patches are read together.
const COMMITS: usize = 32;
/// The limits of reading patches. The largest patch of Linux 6.0 to 6.12 has 15 MB.
const LIMITS: Limits = Limits { time: Duration::from_secs(120), bytes: 64 << 20 };

impl Repo {
    /// The ids of the patches of commits. A merge, a commit without changes or without parents, and one with a patch of more than 64
    /// MiB have none.
    pub async fn patch_ids(&self, commits: &[CommitId]) -> Result<HashMap<CommitId, String>, GitError> {
        let mut found = HashMap::new();
        for commits in commits.chunks(COMMITS) {
            match self.few_patch_ids(commits).await {
                Err(GitError::Spawn(SpawnError::Size { .. })) => {
                    for commit in commits {
                        match self.few_patch_ids(std::slice::from_ref(commit)).await {
                            Err(GitError::Spawn(SpawnError::Size { .. })) => {}
                            ids => found.extend(ids?),
                        }
                    }
                }
                ids => found.extend(ids?),
            }
        }
        Ok(found)
    }

    async fn few_patch_ids(&self, commits: &[CommitId]) -> Result<Vec<(CommitId, String)>, GitError> {
        let list = commits.iter().fold(String::new(), |list, commit| list + commit.as_str() + "\n");
        // The same patch whatever the repository configures. No message is printed: it could look like a patch.
        let cmd = git(self.git_dir())
            .args(["-c", "diff.orderFile=/dev/null", "-c", "core.quotePath=true"])
            .args(["diff-tree", "--stdin", "-r", "-p", "--unified=3", "--no-renames", "--no-ext-diff"])
            .args(["--no-textconv", "--no-color", "--full-index", "--diff-algorithm=myers"])
            .args(["--no-indent-heuristic", "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short"])
            .args(["--inter-hunk-context=0", "--ignore-submodules=none"]);
        let patches = self.run("read patches", cmd.input(list), LIMITS).await?;
        let cmd = git(self.git_dir()).args(["patch-id", "--stable"]).input(patches.stdout);
        let ids = self.run("identify patches", cmd, Limits { time: LIMITS.time, ..QUICK }).await?;
        Ok(ids.text().lines().filter_map(pair).collect())
    }
}

/// A line of the output: the id of the patch, and the commit.
fn pair(line: &str) -> Option<(CommitId, String)> {
    let (patch, commit) = line.split_once(' ')?;
    Some((commit.parse().ok()?, patch.to_owned()))
}
