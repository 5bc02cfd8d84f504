//! A commit's files in a folder of their own, from a repository that may be bare and shared by many folders.
//!
//! The folder's index belongs to it alone. Only files that differ are written, so that make rebuilds only what a
//! commit changes; whatever an interrupted checkout left is put right by the next one.

use std::io;
use std::path::Path;
use std::time::Duration;

use model::CommitId;
use spawn::{Cmd, Limits};

use crate::command::{complaint, git};
use crate::error::GitError;
use crate::repo::Repo;

/// How a checkout is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Checkout {
    /// Remove files that the commit does not have, ignored ones too.
    pub clean: bool,
    /// The time limit of each step.
    pub time: Duration,
}

impl Default for Checkout {
    fn default() -> Self {
        Self { clean: false, time: Duration::from_secs(1800) }
    }
}

impl Repo {
    /// Makes `dir` (created if need be) hold the files of `commit`; `index` is the file that remembers what it holds.
    ///
    /// The caller sees to it that one checkout of `dir` runs at a time: a lock on the index that is there can only
    /// be a dead process's, and is removed.
    pub async fn checkout_into(
        &self,
        commit: &CommitId,
        dir: &Path,
        index: &Path,
        how: Checkout,
    ) -> Result<(), GitError> {
        std::fs::create_dir_all(dir).map_err(|source| GitError::Io { path: dir.into(), source })?;
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
        let (dir, index) = (absolute(dir), absolute(index));
        let mut lock = index.clone().into_os_string();
        lock.push(".lock");
        let lock = Path::new(&lock);
        remove(lock)?;
        let tree = Tree { git_dir: &absolute(self.git_dir()), dir: &dir, index: &index, how };
        if index.exists() {
            // A tree that was moved or restored has the right files with the wrong stamps.
            tree.run(&["update-index", "-q", "--refresh"]).await?;
        }
        let read = ["read-tree", "-u", "--reset", commit.as_str()];
        let mut output = tree.run(&read).await?;
        if !output.exit.success() && index.exists() && self.has_commit(commit) {
            tracing::warn!(dir = %dir.display(), complaint = complaint(&output), "checkout starts over");
            remove(&index)?;
            remove(lock)?;
            output = tree.run(&read).await?;
        }
        if output.exit.success() && how.clean {
            output = tree.run(&["clean", "-ffdxq"]).await?;
        }
        if output.exit.success() {
            return Ok(());
        }
        if !self.has_commit(commit) {
            return Err(GitError::NoSuchCommit { repo: self.path().into(), spec: commit.as_str().into() });
        }
        Err(GitError::Checkout { commit: commit.short().into(), dir, complaint: complaint(&output) })
    }
}

struct Tree<'a> {
    git_dir: &'a Path,
    dir: &'a Path,
    index: &'a Path,
    how: Checkout,
}

impl Tree<'_> {
    async fn run(&self, args: &[&str]) -> Result<spawn::Output, GitError> {
        let cmd: Cmd = git(self.git_dir)
            .arg("--work-tree")
            .arg(self.dir)
            .args([
                "-c",
                "core.sparseCheckout=false",
                "-c",
                "core.autocrlf=false",
                "-c",
                "core.trustctime=false",
            ])
            .args(args)
            .dir(self.dir)
            .env("GIT_INDEX_FILE", self.index);
        Ok(cmd.output(Limits { time: self.how.time, bytes: 64 << 20 }).await?)
    }
}

fn remove(path: &Path) -> Result<(), GitError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(GitError::Io { path: path.into(), source: error })
        }
        _ => Ok(()),
    }
}
