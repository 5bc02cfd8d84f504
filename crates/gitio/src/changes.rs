//! The files in which two trees differ.

use std::time::Duration;

use spawn::Limits;

use crate::command::git;
use crate::error::GitError;
use crate::repo::{CommitInfo, Repo};

/// The limits of a comparison. Two releases of Linux differ in 15,000 files: 2.5 MB.
const LIMITS: Limits = Limits { time: Duration::from_secs(60), bytes: 16 << 20 };

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is only in the second tree.
    Added,
    /// It is only in the first tree.
    Deleted,
    /// It is a regular file in both, with another content or mode.
    Modified,
    /// It is something else than a regular file in one of them: a link, a submodule.
    Special,
}

/// A file that is not the same in two trees. A renamed file is deleted and added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeChange {
    /// The path, from the top of the tree. Bytes that are no UTF-8 are replaced.
    pub path: String,
    /// How it differs.
    pub kind: ChangeKind,
}

impl Repo {
    /// The files in which two trees differ, by the hexadecimal ids of the trees.
    pub async fn tree_changes(&self, from: &str, to: &str) -> Result<Vec<TreeChange>, GitError> {
        if let Some(spec) = [from, to].into_iter().find(|id| !is_id(id)) {
            return Err(GitError::NoSuchCommit { repo: self.path().into(), spec: spec.into() });
        }
        let cmd =
            git(self.git_dir()).args(["diff-tree", "-r", "-z", "--no-renames", "--raw", "--end-of-options"]);
        let output = self.run("compare two trees", cmd.args([from, to]), LIMITS).await?;
        Ok(changes(&output.text()))
    }

    /// The files in which a commit differs from its first parent; none for a commit without parents.
    pub async fn commit_changes(&self, commit: &CommitInfo) -> Result<Vec<TreeChange>, GitError> {
        let Some(parent) = commit.parents.first() else { return Ok(Vec::new()) };
        self.tree_changes(&self.tree_id(parent)?, &commit.tree).await
    }
}

/// Parses the output: `:100644 100755 ID ID M`, a zero byte, the path, a zero byte.
fn changes(output: &str) -> Vec<TreeChange> {
    let mut fields = output.split('\0');
    let mut changes = Vec::new();
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let mut words = head.trim_start_matches(':').split(' ');
        let (from, to) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let kind = match words.next_back().unwrap_or_default() {
            "A" if is_regular(to) => ChangeKind::Added,
            "D" if is_regular(from) => ChangeKind::Deleted,
            "M" if is_regular(from) && is_regular(to) => ChangeKind::Modified,
            _ => ChangeKind::Special,
        };
        changes.push(TreeChange { path: path.into(), kind });
    }
    changes
}

fn is_id(text: &str) -> bool {
    (40..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_regular(mode: &str) -> bool {
    mode.starts_with("100")
}
