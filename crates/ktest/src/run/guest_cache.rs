//! The directory of a trust domain that outlives its guests: what test files leave next to the clones of `require-git`,
//! such as built tools and modules, and the directories of cargo.
//!
//! Only the guests of the domain write to it and read it; the host never does. A domain that exceeds the limit loses all
//! of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::lock::Lock;
use fsx::own;
use fsx::untrusted::Dir;
use kernel::Cache;
use model::TrustDomain;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use vm::session::SessionInput;

use super::error::RunError;
use super::quota::{disk_full, entries, measure_every};
use crate::out::make_dir;

/// The maximum size of a domain's directory.
const MAX_BYTES: u64 = 16 << 30;
/// The maximum number of files in it. The registry of cargo has some 100,000.
const MAX_FILES: u64 = 2_000_000;
/// The time between two measurements. One can take a second.
const INTERVAL: Duration = Duration::from_secs(10);
/// The maximum number of guests of a domain on this host that have a cargo directory.
const MAX_GUESTS: u32 = 1000;

/// The directory, in use by one guest.
#[derive(Debug)]
pub(super) struct GuestCache {
    dir: PathBuf,
    /// The directory in it that is the guest's own while it runs.
    cargo_home: String,
    _lock: Lock,
}

impl GuestCache {
    /// Creates the directory if it is missing.
    pub(super) fn open(cache: &Path, trust: Option<&TrustDomain>) -> Result<Self, RunError> {
        let top = Cache { dir: cache.into() }.guests(trust);
        let dir = top.join("shared");
        own::create_dir_all(&dir).map_err(RunError::infrastructure)?;
        for number in 0..MAX_GUESTS {
            let lock = top.join(format!("cargo.{number}.lock"));
            let lock = Lock::try_acquire(&lock, "ktest: run a VM").map_err(RunError::infrastructure)?;
            if let Some(lock) = lock {
                return Ok(Self { dir, cargo_home: format!(".cargo.{number}"), _lock: lock });
            }
        }
        Err(RunError::Infrastructure(format!("{}: more than {MAX_GUESTS} guests", top.display())))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of the cargo directory in it.
    pub(super) fn cargo_home(&self) -> &str {
        &self.cargo_home
    }

    /// Creates the directories on which the guest mounts other shares. A guest may have created a file with this name.
    pub(super) fn make_mount_points<'a>(
        &self,
        below: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), RunError> {
        let dir = Dir::open(&self.dir).map_err(RunError::infrastructure)?;
        below.into_iter().try_for_each(|path| make_dir(&dir, path)).map_err(RunError::infrastructure)
    }

    /// Whether the directory is too large.
    fn exceeded(dir: &Path) -> Option<String> {
        let (mut bytes, mut files) = (0_u64, 0);
        for (_, size) in entries(dir) {
            bytes += size;
            files += 1;
            if bytes > MAX_BYTES || files > MAX_FILES {
                let most = MAX_BYTES >> 30;
                return Some(format!(
                    "the guests of this trust domain left more than {most} GiB or {MAX_FILES} files next to their clones"
                ));
            }
        }
        None
    }

    /// Measures until the task is aborted, and stops the guest through `to`.
    pub(super) fn watch(&self, to: UnboundedSender<SessionInput>) -> JoinHandle<()> {
        let dir = self.dir.clone();
        measure_every(INTERVAL, to, move || {
            let full = disk_full(&dir).map(SessionInput::InfrastructureError);
            full.or_else(|| Self::exceeded(&dir).map(SessionInput::GiveUp))
        })
    }

    /// Removes everything if it is too large.
    pub(super) fn clear_if_exceeded(&self) {
        if Self::exceeded(&self.dir).is_some()
            && let Err(error) = own::remove_tree(&self.dir)
        {
            tracing::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_domain_has_its_own_and_each_guest_its_own_cargo() {
        let temp = tempfile::tempdir().unwrap();
        let domain = |name: &str| Some(name.parse::<TrustDomain>().unwrap());
        let (a, b) = (domain("user/a"), domain("user/b"));
        let open = |trust: &Option<TrustDomain>| GuestCache::open(temp.path(), trust.as_ref()).unwrap();
        let (own, first, second, other) = (open(&None), open(&a), open(&a), open(&b));
        assert_eq!(first.dir(), second.dir());
        for (one, two) in [(&own, &first), (&own, &other), (&first, &other)] {
            assert!(!one.dir().starts_with(two.dir()) && !two.dir().starts_with(one.dir()));
        }
        assert_eq!((first.cargo_home(), second.cargo_home()), (".cargo.0", ".cargo.1"));
        drop(first);
        assert_eq!(open(&a).cargo_home(), ".cargo.0");
    }

    #[test]
    fn a_file_of_a_guest_does_not_prevent_a_mount_point() {
        let temp = tempfile::tempdir().unwrap();
        let cache = GuestCache::open(temp.path(), None).unwrap();
        std::fs::write(cache.dir().join("deps"), "x").unwrap();
        std::fs::create_dir(cache.dir().join("tools-cache")).unwrap();
        cache.make_mount_points(["deps", "kt/tests"].map(Path::new)).unwrap();
        assert!(cache.dir().join("deps").is_dir() && cache.dir().join("kt/tests").is_dir());
        assert!(cache.dir().join("tools-cache").is_dir());
        assert_eq!(GuestCache::exceeded(cache.dir()), None);
    }
}
