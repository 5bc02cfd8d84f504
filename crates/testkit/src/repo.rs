//! Real git repositories in temporary directories.

use std::cell::Cell;
use std::path::Path;

use model::CommitId;
use spawn::{Cmd, Limits};
use tempfile::TempDir;

/// The date of the first commit: 2024-01-01 00:00:00 UTC, in Unix seconds.
const EPOCH: i64 = 1_704_067_200;

/// A repository with a checkout, on branch `master`. Dropping it removes it. Each commit is one minute newer than the
/// previous one.
#[derive(Debug)]
pub struct ScratchRepo {
    dir: TempDir,
    clock: Cell<i64>,
}

impl Default for ScratchRepo {
    fn default() -> Self {
        Self::new()
    }
}

impl ScratchRepo {
    /// An empty repository.
    #[must_use]
    pub fn new() -> Self {
        let repo = Self { dir: tempfile::tempdir().expect("a temporary directory"), clock: Cell::new(EPOCH) };
        repo.git(["init", "-q", "-b", "master"]);
        repo
    }

    /// A bare clone with all branches.
    #[must_use]
    pub fn bare_clone(&self) -> Self {
        let clone =
            Self { dir: tempfile::tempdir().expect("a temporary directory"), clock: self.clock.clone() };
        clone.git(["clone", "-q", "--mirror", self.url(), "."]);
        clone
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Its directory as a remote URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.path().to_str().expect("temporary directories have plain names")
    }

    /// Runs `git ARGS` in the repository and returns the trimmed output.
    pub fn git<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, args: I) -> String {
        self.git_fed(args, "")
    }

    /// Like [`ScratchRepo::git`], with `input` on the standard input.
    pub fn git_fed<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, args: I, input: &str) -> String {
        let time = format!("{} +0000", self.clock.get());
        let cmd = Cmd::new("git")
            .args(args)
            .input(input)
            .dir(self.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "A. Tester")
            .env("GIT_AUTHOR_EMAIL", "tester@example.org")
            .env("GIT_COMMITTER_NAME", "A. Tester")
            .env("GIT_COMMITTER_EMAIL", "tester@example.org")
            .env("GIT_AUTHOR_DATE", &time)
            .env("GIT_COMMITTER_DATE", &time)
            .env("LC_ALL", "C")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE");
        let output = run(&cmd);
        assert!(output.exit.success(), "{cmd}: {}: {}", output.exit, String::from_utf8_lossy(&output.stderr));
        output.text().trim().to_owned()
    }

    /// Writes files (path and content) and commits them on the current branch.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> CommitId {
        for (path, content) in files {
            let path = self.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a path below the repository"))
                .expect("a directory");
            std::fs::write(path, content).expect("a file");
        }
        self.git(["add", "-A"]);
        self.tick();
        self.git(["commit", "-q", "--allow-empty", "-m", message]);
        self.tip("HEAD")
    }

    /// Merges `other` into the current branch. Always creates a merge commit.
    pub fn merge(&self, other: &str, message: &str) -> CommitId {
        self.tick();
        self.git(["merge", "-q", "--no-ff", "-m", message, other]);
        self.tip("HEAD")
    }

    /// Checks out `branch`; creates it if it does not exist.
    pub fn switch(&self, branch: &str) {
        let exists = !self.git(["branch", "--list", branch]).is_empty();
        if exists {
            self.git(["switch", "-q", branch]);
        } else {
            self.git(["switch", "-q", "-c", branch]);
        }
    }

    /// The commit that a revision resolves to.
    #[must_use]
    pub fn tip(&self, revision: &str) -> CommitId {
        self.git(["rev-parse", "--verify", &format!("{revision}^{{commit}}")])
            .parse()
            .expect("git prints commit ids")
    }

    fn tick(&self) {
        self.clock.set(self.clock.get() + 60);
    }
}

/// Runs a command until it exits, from async or blocking code.
fn run(cmd: &Cmd) -> spawn::Output {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(cmd.output(Limits::seconds(60)))
        });
        thread.join().expect("the thread does not panic").expect("git is installed and ends in time")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_commits_everywhere() {
        let repo = ScratchRepo::new();
        let first = repo.commit("first", &[("a/b", "1\n")]);
        assert_eq!(first.as_str(), "4f611d6f47a95fc49f80487cac46fa5d2859561a");
        repo.switch("side");
        repo.commit("second", &[("a/c", "2\n")]);
        repo.switch("master");
        let merge = repo.merge("side", "merge");
        assert_eq!(repo.git(["rev-list", "--count", "HEAD"]), "3");
        assert_eq!(repo.bare_clone().tip("master"), merge);
    }
}
