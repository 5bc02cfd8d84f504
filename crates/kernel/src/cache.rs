//! The cache directory (`~/.cache/ktest`) and its locks.
//!
//! While no process uses it, everything in it may be deleted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fsx::lock::Lock;
use fsx::machine;

use model::{HostReport, TrustDomain};

use crate::error::{BuildError, InfrastructureError};
use crate::id::hash_fields;
use crate::progress::Progress;

/// The state of this host, with the space of the file system of its cache. The directory may not exist yet.
#[must_use]
pub fn host_report(cache: &Path) -> HostReport {
    let (cache_free, cache_total) = cache.ancestors().find_map(|dir| fsx::own::space(dir).ok()).unzip();
    HostReport {
        load: machine::load_percent(),
        memory_total: machine::memory("MemTotal:"),
        memory_available: machine::memory("MemAvailable:"),
        cache_total,
        cache_free,
    }
}

/// The directory of kernels, build trees and the compiler cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The directory, which is created at its first use.
    pub dir: PathBuf,
}

impl Cache {
    /// `$KTEST_CACHE_DIR`, else `$XDG_CACHE_HOME/ktest`, else `~/.cache/ktest`; `variable` reads the environment.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, BuildError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = set("KTEST_CACHE_DIR")
            .or_else(|| set("XDG_CACHE_HOME").filter(|dir| dir.is_absolute()).map(|dir| dir.join("ktest")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/ktest")))
            .ok_or(InfrastructureError::NoCacheDir)?;
        let dir = std::path::absolute(&dir).map_err(InfrastructureError::io(&dir))?;
        Ok(Self { dir })
    }

    /// The kernel store.
    #[must_use]
    pub fn kernels(&self) -> PathBuf {
        self.dir.join("kernels")
    }

    /// The build trees.
    #[must_use]
    pub fn trees(&self) -> PathBuf {
        self.dir.join("trees")
    }

    /// The compiler cache of a trust domain.
    #[must_use]
    pub fn ccache(&self, trust: Option<&TrustDomain>) -> PathBuf {
        in_domain(&self.dir, trust).join("ccache")
    }

    /// The compiler cache that builds of [`TrustDomain::base`] write and all others read. In the format of ccache's
    /// `file` storage.
    #[must_use]
    pub fn base_ccache(&self) -> PathBuf {
        self.dir.join("ccache-base")
    }

    /// The selftests of kernels of a trust domain.
    #[must_use]
    pub fn selftests(&self, trust: Option<&TrustDomain>) -> PathBuf {
        in_domain(&self.dir, trust).join("selftests")
    }

    /// What the guests of a trust domain leave for later ones.
    #[must_use]
    pub fn guests(&self, trust: Option<&TrustDomain>) -> PathBuf {
        in_domain(&self.dir, trust).join("guests")
    }

    /// The clones of `require-git` of a trust domain. Those of `None` belong to the user of this host: on a farm they
    /// are what the operator placed there.
    #[must_use]
    pub fn clones(&self, trust: Option<&TrustDomain>) -> PathBuf {
        in_domain(&self.dir, trust).join("deps")
    }

    /// The sources of the test suites that a farm fetches, by suite and commit.
    #[must_use]
    pub fn suites(&self) -> PathBuf {
        self.dir.join("suites")
    }

    /// The clones for listing the subtests of test files with these variables. The names of listed files have no trust
    /// domain: with the same variables, a file requests the same repositories.
    #[must_use]
    pub fn clones_of_listing(&self, variables: &[(String, String)]) -> PathBuf {
        let fields = variables.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        let hash = hash_fields(["listing"].into_iter().chain(fields));
        self.dir.join("listings").join(hash.short()).join("deps")
    }
}

/// The part of a directory that belongs to a trust domain; the directory itself for a developer's own runs.
pub(crate) fn in_domain(dir: &Path, trust: Option<&TrustDomain>) -> PathBuf {
    match trust {
        None => dir.into(),
        Some(trust) => dir.join("domains").join(hash_fields(["trust domain", trust.as_str()]).short()),
    }
}

/// Takes a lock. While another process holds it, waits, and reports the holder once.
pub(crate) async fn lock(
    path: &Path,
    purpose: &str,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Lock, BuildError> {
    Ok(Lock::acquire(path, purpose, |holder| on(Progress::WaitingForLock { holder: holder.into() })).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_directory_comes_from_the_environment() {
        let from = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, OsString)> =
                pairs.iter().map(|(key, value)| ((*key).into(), OsString::from(value))).collect();
            Cache::from_env(move |name| {
                pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
            })
        };
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("KTEST_CACHE_DIR", "/k")];
        assert_eq!(from(&all).unwrap().kernels(), Path::new("/k/kernels"));
        assert_eq!(from(&all[..2]).unwrap().dir, Path::new("/x/ktest"));
        assert_eq!(from(&all[..1]).unwrap().dir, Path::new("/h/.cache/ktest"));
        assert!(from(&[("HOME", "")]).is_err());
    }

    #[tokio::test]
    async fn the_holder_of_a_lock_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/lock");
        let first = Lock::try_acquire(&path, "first").unwrap().unwrap();
        let mut reported = Vec::new();
        let release = async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            drop(first);
        };
        let mut on = |progress| reported.push(progress);
        let (second, ()) = tokio::join!(lock(&path, "second", &mut on), release);
        second.unwrap();
        let holder = format!("process {}: first", std::process::id());
        assert_eq!(reported, [Progress::WaitingForLock { holder }]);
    }
}
