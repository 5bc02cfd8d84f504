//! Checks out the files of a commit into a directory, from a repository that may be bare and shared by many
//! directories.
//!
//! Each directory has its own index. Only files that differ are written, so that make rebuilds only what a commit
//! changes. A checkout also repairs the result of an interrupted one.

use std::path::Path;
use std::time::Duration;

use model::CommitId;
use spawn::{Limits, Output};

use crate::command::{error_message, git};
use crate::error::GitError;
use crate::fetch::{FETCH_MEMORY, PACK};
use crate::repo::Repo;

/// Options of a checkout.
#[derive(Debug, Clone, Copy)]
pub struct Checkout {
    /// Remove files that the commit does not have, including ignored ones.
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
    /// Makes `dir` contain the files of `commit`; creates `dir` if necessary. The file `index` records its contents.
    ///
    /// The caller must run only one checkout of `dir` at a time. Therefore, an existing lock on the index belongs to a
    /// dead process, and is removed.
    pub async fn checkout_into(
        &self,
        commit: &CommitId,
        dir: &Path,
        index: &Path,
        options: Checkout,
    ) -> Result<(), GitError> {
        fsx::own::create_dir_all(dir)?;
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
        let (dir, index) = (absolute(dir), absolute(index));
        let mut lock = index.clone().into_os_string();
        lock.push(".lock");
        let lock = Path::new(&lock);
        fsx::own::remove_file(lock)?;
        let git_dir = absolute(self.git_dir());
        let tree = WorkTree {
            git_dir: &git_dir,
            dir: &dir,
            index: &index,
            time: options.time,
            settings: self.without_filters().await?,
        };
        if index.exists() {
            // A tree that was moved or restored has the right contents and wrong time stamps.
            tree.run(&["update-index", "-q", "--refresh"]).await?;
        }
        if self.has_commit(commit) {
            self.check_size(commit)?;
        }
        let read = ["read-tree", "-u", "--reset", commit.as_str()];
        let mut output = tree.run(&read).await?;
        if !output.exit.success() && index.exists() && self.has_commit(commit) {
            tracing::warn!(dir = %dir.display(), message = error_message(&output), "repeating the checkout without its index");
            fsx::own::remove_file(&index)?;
            fsx::own::remove_file(lock)?;
            output = tree.run(&read).await?;
        }
        if output.exit.success() && options.clean {
            output = tree.run(&["clean", "-ffdxq"]).await?;
        }
        if output.exit.success() {
            return Ok(());
        }
        if !self.has_commit(commit) {
            return Err(GitError::NoSuchCommit { repo: self.path().into(), spec: commit.as_str().into() });
        }
        Err(checkout_error(commit, &dir, &output))
    }
}

/// Why git did not check out a commit.
pub(crate) fn checkout_error(commit: &CommitId, dir: &Path, output: &Output) -> GitError {
    let (commit, message) = (commit.short().into(), error_message(output));
    let text = String::from_utf8_lossy(&output.stderr);
    if text.lines().any(|line| line.starts_with("error: invalid path '")) {
        return GitError::InvalidTree { commit, message };
    }
    GitError::Checkout { commit, dir: dir.into(), message }
}

struct WorkTree<'a> {
    git_dir: &'a Path,
    dir: &'a Path,
    index: &'a Path,
    time: Duration,
    settings: Vec<String>,
}

impl WorkTree<'_> {
    async fn run(&self, args: &[&str]) -> Result<Output, GitError> {
        let cmd = git(self.git_dir)
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
            .args(&self.settings)
            .args(args)
            .dir(self.dir)
            .env("GIT_INDEX_FILE", self.index);
        let cmd = cmd.memory_limit(FETCH_MEMORY).file_size_limit(PACK);
        Ok(cmd.output(Limits { time: self.time, bytes: 64 << 20 }).await?)
    }
}
