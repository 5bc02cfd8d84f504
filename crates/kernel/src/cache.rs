//! The cache folder (`~/.cache/ktest`) and the locks in it.
//!
//! Everything below may be deleted at any time while nothing runs. A lock is held by an open file, so it ends with
//! its process however that ends.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::BuildError;
use crate::progress::Progress;

/// Where kernels, build trees and the compiler cache lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The folder; created when it is first needed.
    pub dir: PathBuf,
}

impl Cache {
    /// `$KTEST_CACHE_DIR`, else `$XDG_CACHE_HOME/ktest`, else `~/.cache/ktest`; `variable` reads the environment.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, BuildError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = set("KTEST_CACHE_DIR")
            .or_else(|| set("XDG_CACHE_HOME").filter(|dir| dir.is_absolute()).map(|dir| dir.join("ktest")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/ktest")))
            .ok_or_else(|| {
                BuildError::Infrastructure("neither KTEST_CACHE_DIR nor HOME is set; set one".into())
            })?;
        let dir = std::path::absolute(&dir).map_err(|error| BuildError::io(&dir, &error))?;
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

    /// The compiler cache.
    #[must_use]
    pub fn ccache(&self) -> PathBuf {
        self.dir.join("ccache")
    }
}

/// Creates a folder with all above it.
pub(crate) fn make_dir(dir: &Path) -> Result<(), BuildError> {
    std::fs::create_dir_all(dir).map_err(|error| BuildError::io(dir, &error))
}

/// How often a lock that is taken is looked at again.
const RETRY: Duration = Duration::from_millis(50);

/// An exclusive lock; dropping it gives it back.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock if nobody has it; `what` tells others what it is held for.
    pub fn try_acquire(path: &Path, what: &str) -> Result<Option<Self>, BuildError> {
        let io = |error: std::io::Error| BuildError::io(path, &error);
        if let Some(dir) = path.parent() {
            make_dir(dir)?;
        }
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(io)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => return Ok(None),
                Err(error) => return Err(io(error.into())),
            }
            // Who deletes lock files holds them; the name may stand for another file by now.
            let ours = file.metadata().map_err(io)?;
            let there = std::fs::metadata(path).ok();
            if there.is_some_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                let text = format!("process {}: {what}\n", std::process::id());
                let written = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| file.write_all(text.as_bytes()));
                written.map_err(io)?;
                return Ok(Some(Self { _file: file }));
            }
        }
    }

    /// Takes the lock, waiting for whoever has it; says so once. Safe to cancel.
    pub async fn acquire(
        path: &Path,
        what: &str,
        on: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Self, BuildError> {
        let mut told = false;
        loop {
            if let Some(lock) = Self::try_acquire(path, what)? {
                return Ok(lock);
            }
            if !told {
                told = true;
                on(Progress::WaitingForLock { holder: holder(path) });
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Who says to hold a lock.
pub(crate) fn holder(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(300).read_to_string(&mut text);
    }
    text.lines().next().unwrap_or("another process").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_lies() {
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
    async fn one_at_a_time_and_the_other_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/lock");
        let first = Lock::try_acquire(&path, "first").unwrap().unwrap();
        assert!(Lock::try_acquire(&path, "second").unwrap().is_none());
        let mut told = Vec::new();
        let release = async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            drop(first);
        };
        let mut on = |progress| told.push(progress);
        let (second, ()) = tokio::join!(Lock::acquire(&path, "second", &mut on), release);
        second.unwrap();
        assert_eq!(
            told,
            [Progress::WaitingForLock { holder: format!("process {}: first", std::process::id()) }]
        );
    }

    #[test]
    fn a_deleted_lock_file_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _first = Lock::try_acquire(&path, "a").unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(Lock::try_acquire(&path, "b").unwrap().is_some());
    }
}
