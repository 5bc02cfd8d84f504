//! The sources of test suites at a commit, checked out for the test files of a farm: one directory per suite and commit.
//!
//! A directory is complete when it appears, and is not written to afterwards. So runs with different commits of a suite
//! do not disturb each other.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fsx::lock::{Lock, LockError};
use fsx::publish::{self, Durability};
use fsx::{own, untrusted::Scratch};
use gitio::{Checkout, GitError, Repo};
use kernel::Cache;
use model::{SuiteName, SuiteOrder, SuiteVersion};

/// A directory that was not used for this time is removed when the suite has a newer commit.
const UNUSED: Duration = Duration::from_secs(14 * 86_400);
/// The prefix of a checkout that is not complete.
const STAGE: &str = ".stage-";

/// Why a suite cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file of the cache directory.
    #[error(transparent)]
    File(#[from] fsx::Error),
    /// The lock of the directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The commit is not that of a suite.
    #[error("commit {} has no program `check` and directory `tests`, so it is not a test suite; correct repo and ref", .0.commit.short())]
    NoSuite(SuiteVersion),
}

/// The source of a suite for a call of a test file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteSource {
    /// The suite.
    pub name: SuiteName,
    /// The directory of its source and its version; `None` if the farm does not have a commit of it.
    pub found: Option<(PathBuf, SuiteVersion)>,
}

impl SuiteSource {
    /// The variable for test files: the directory, or `none`.
    pub(crate) fn variable(&self) -> (String, PathBuf) {
        let dir = self.found.as_ref().map_or_else(|| "none".into(), |(dir, _)| dir.clone());
        (format!("ktest_suite_{}", self.name), dir)
    }

    /// A text that changes with the commit.
    #[must_use]
    pub fn key(&self) -> String {
        let commit = self.found.as_ref().map_or("none", |(_, version)| version.commit.as_str());
        format!("suite {} {commit}", self.name)
    }
}

/// The cache directory of this host's user.
#[must_use]
pub fn cache_dir() -> Option<PathBuf> {
    Cache::from_env(|name| std::env::var_os(name)).ok().map(|cache| cache.dir)
}

fn dir_of(cache: &Path) -> PathBuf {
    Cache { dir: cache.into() }.suites()
}

/// The source of a suite that was checked out before. Reads the disk.
#[must_use]
pub fn existing(cache: &Path, version: &SuiteVersion) -> Option<SuiteSource> {
    let dir = dir_of(cache).join(version.name.as_str()).join(version.commit.as_str());
    let found = own::is_dir(&dir).unwrap_or(false);
    found.then(|| SuiteSource { name: version.name.clone(), found: Some((dir, version.clone())) })
}

/// Checks out the source of a suite, unless the cache directory has it.
pub async fn checkout(cache: &Path, order: &SuiteOrder) -> Result<SuiteSource, SuiteError> {
    let version = &order.version;
    let suites = dir_of(cache);
    let suite = suites.join(version.name.as_str());
    let dir = suite.join(version.commit.as_str());
    own::create_dir_all(&suite)?;
    let lock = suites.join(format!("{}.lock", version.name));
    let _lock = Lock::acquire(&lock, "checks out a test suite", |_| {}).await?;
    if !own::is_dir(&dir)? {
        let stage =
            Scratch::new_in(&suite, STAGE).map_err(fsx::Error::of("create a directory in", &suite))?;
        let (tree, index) = (stage.path().join("tree"), stage.path().join("index"));
        let repo = Repo::open(&order.repo)?;
        repo.checkout_into(&version.commit, &tree, &index, Checkout::default()).await?;
        if !is_suite(&tree) {
            return Err(SuiteError::NoSuite(version.clone()));
        }
        publish::dir(&tree, &dir, Durability::Synced)?;
        remove_unused(&suite, &dir);
    }
    let touched = own::open(&dir).map_err(Into::into).and_then(|dir| dir.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!("{}: {error}", dir.display());
    }
    Ok(SuiteSource { name: version.name.clone(), found: Some((dir, version.clone())) })
}

/// Whether a directory has what lib/suite.sh needs.
fn is_suite(dir: &Path) -> bool {
    let check = own::existing(&dir.join("check")).ok().flatten();
    check.is_some_and(|check| check.is_file() && check.permissions().mode() & 0o111 != 0)
        && own::is_dir(&dir.join("tests")).unwrap_or(false)
}

/// Removes the directories of older commits that no run has used for a long time.
fn remove_unused(suite: &Path, current: &Path) {
    for entry in own::list(suite).unwrap_or_default().into_iter().filter(|entry| entry.path != current) {
        let used = own::metadata(&entry.path).map_err(Into::into).and_then(|meta| meta.modified());
        let is_unused = used.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > UNUSED));
        if is_unused && let Err(error) = own::remove_tree(&entry.path) {
            tracing::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::ScratchRepo;

    use super::*;

    fn order(repo: &ScratchRepo, revision: &str) -> SuiteOrder {
        let version = SuiteVersion { name: "xfstests".parse().unwrap(), commit: repo.tip(revision) };
        SuiteOrder { version, repo: repo.path().into() }
    }

    /// Commits an executable program `check`.
    fn commit_check(repo: &ScratchRepo) {
        std::fs::write(repo.path().join("check"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(repo.path().join("check"), std::fs::Permissions::from_mode(0o755)).unwrap();
        repo.git(["add", "check"]);
        repo.commit("check", &[("tests/generic/001", "one")]);
    }

    #[tokio::test]
    async fn each_commit_has_its_directory() {
        let (dir, repo) = (tempfile::tempdir().unwrap(), ScratchRepo::new());
        let cache = dir.path();
        commit_check(&repo);
        repo.commit("two", &[("tests/generic/002", "two")]);
        let (old, new) = (order(&repo, "HEAD~1"), order(&repo, "HEAD"));
        let both = tokio::join!(checkout(cache, &old), checkout(cache, &new));
        let found = [both.0.unwrap(), both.1.unwrap()].map(|source| source.found.unwrap());
        let names =
            found.each_ref().map(|(dir, _)| std::fs::read_dir(dir.join("tests/generic")).unwrap().count());
        assert_eq!(names, [1, 2]);
        assert!(found.iter().all(|(dir, version)| dir.ends_with(version.commit.as_str())));
        // It is not made again, and needs no repository then.
        let again = checkout(cache, &SuiteOrder { repo: "/nowhere".into(), ..new.clone() }).await.unwrap();
        assert_eq!(again.found.as_ref(), Some(&found[1]));
        assert_eq!(existing(cache, &new.version), Some(again.clone()));
        let unknown = SuiteVersion { name: "blktests".parse().unwrap(), ..new.version.clone() };
        assert_eq!(existing(cache, &unknown), None);
        assert_eq!(again.key(), format!("suite xfstests {}", new.version.commit));
        let left = std::fs::read_dir(cache.join("suites/xfstests")).unwrap().count();
        assert_eq!(left, 2, "no incomplete checkout is left");
    }

    #[tokio::test]
    async fn unused_directories_are_removed() {
        let (dir, repo) = (tempfile::tempdir().unwrap(), ScratchRepo::new());
        let cache = dir.path();
        commit_check(&repo);
        let source = checkout(cache, &order(&repo, "HEAD")).await.unwrap();
        repo.commit("two", &[("tests/generic/002", "two")]);
        let old = source.found.unwrap().0;
        std::fs::File::open(&old).unwrap().set_modified(SystemTime::now() - 2 * UNUSED).unwrap();
        checkout(cache, &order(&repo, "HEAD")).await.unwrap();
        assert!(!old.exists());
    }

    #[tokio::test]
    async fn another_repository_is_refused() {
        let (dir, repo) = (tempfile::tempdir().unwrap(), ScratchRepo::new());
        let cache = dir.path();
        // Without the mode of a program, and with a directory in its place.
        for files in [&[("a", "")][..], &[("check", ""), ("tests/x", "")], &[("tests/y", "")]] {
            repo.commit("other", files);
            let error = checkout(cache, &order(&repo, "HEAD")).await.unwrap_err();
            assert!(error.to_string().contains("has no program `check` and directory `tests`"), "{error}");
        }
        let mut missing = order(&repo, "HEAD");
        missing.version.commit = "0".repeat(40).parse().unwrap();
        let error = checkout(cache, &missing).await.unwrap_err();
        assert!(matches!(error, SuiteError::Git(GitError::NoSuchCommit { .. })), "{error}");
    }
}
