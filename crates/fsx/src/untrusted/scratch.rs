//! Temporary directories, also for untrusted code, that do not outlive this program for long.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, fstat, openat, statat};
use rustix::io::Errno;

use crate::own;

/// How often a new directory is created again because another process took it for an abandoned one.
const ATTEMPTS: u32 = 100;
/// The prefix of the directories in the directory of temporary files. No other program uses it.
const PREFIX: &str = ".ktest-tmp-";
/// The end of the name of a locked directory. Earlier versions did not lock theirs, which may be in use.
const SUFFIX: &str = ".tmp";

/// A temporary directory of this program. It is removed with its contents when the value is dropped, even if untrusted
/// code removed permissions or created a tree of any depth there.
///
/// If the program is killed, the next `Scratch` with the same parent and prefix removes it: the directory is locked
/// as long as the value exists. The kernel releases the lock of a killed program.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// The locked directory; `None` if its file system has no locks. Then only [`Drop`] removes it.
    _lock: Option<OwnedFd>,
}

impl Scratch {
    /// Creates a directory in `parent`, with a random name that starts with `prefix`. Only this user can access it.
    /// Directories of killed programs are removed first. Only `Scratch` may use the prefix in this directory.
    pub fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        drop(Self::abandoned(parent, prefix));
        for _ in 0..ATTEMPTS {
            let path = tempfile::Builder::new().prefix(prefix).suffix(SUFFIX).tempdir_in(parent)?.keep();
            match lock(&path) {
                Ok(Some(lock)) => return Ok(Self { path, _lock: Some(lock) }),
                // Another process looks for abandoned directories.
                Ok(None) => {}
                Err(_) => return Ok(Self { path, _lock: None }),
            }
        }
        Err(io::Error::other("other processes remove each new directory"))
    }

    /// Creates a directory for temporary files of this user, such as sockets, which need a short path.
    pub fn temporary() -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir(), PREFIX)
    }

    /// The directories of this user in `parent` that killed programs left. Dropping one removes it, as far as this user
    /// can.
    #[must_use]
    pub fn abandoned(parent: &Path, prefix: &str) -> Vec<Self> {
        let entries = own::list(parent).unwrap_or_default().into_iter();
        let ours = entries.filter(|entry| {
            let name = entry.name.as_encoded_bytes();
            entry.is_dir && name.starts_with(prefix.as_bytes()) && name.ends_with(SUFFIX.as_bytes())
        });
        ours.filter_map(|entry| Some(Self { _lock: Some(lock(&entry.path).ok()??), path: entry.path }))
            .collect()
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a directory of this user. `None` if another process has locked it, if it was removed, or if another user owns
/// it, who could have created it to have another directory removed.
fn lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        dir => dir?,
    };
    let stat = fstat(&dir)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(None);
    }
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let named = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    let same = named.is_ok_and(|named| (named.st_dev, named.st_ino) == (stat.st_dev, stat.st_ino));
    Ok(same.then_some(dir))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next one with the same prefix tries again.
        let _ = own::remove_tree(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_killed_programs_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let names =
            || -> Vec<_> { own::list(parent.path()).unwrap().into_iter().map(|entry| entry.name).collect() };
        let new = || Scratch::new_in(parent.path(), ".x-").unwrap();
        let (first, killed) = (new(), new());
        own::create_dir_all(&killed.path().join("a/b")).unwrap();
        // The file of a killed program is closed, but its value is not dropped.
        let Scratch { path: left, _lock: lock } = &*std::mem::ManuallyDrop::new(killed);
        rustix::fs::flock(lock.as_ref().unwrap(), FlockOperation::Unlock).unwrap();
        own::create_dir(&parent.path().join(".y-1.tmp")).unwrap();
        own::create_dir(&parent.path().join(".x-of-an-earlier-version")).unwrap();
        std::os::unix::fs::symlink(".y-1.tmp", parent.path().join(".x-link.tmp")).unwrap();
        let third = new();
        let existing = [first.path(), third.path()].map(|path| path.file_name().unwrap().to_owned());
        let others = [".x-link.tmp", ".x-of-an-earlier-version", ".y-1.tmp"];
        let mut expected = [&existing[..], &others.map(Into::into)].concat();
        expected.sort();
        assert_eq!(names(), expected);
        assert!(!left.exists());
        drop((first, third));
        assert_eq!(names(), others);
    }

    #[test]
    fn a_directory_of_another_user_is_not_abandoned() {
        let parent = tempfile::tempdir().unwrap();
        let foreign = parent.path().join(".x-1.tmp");
        own::create_dir(&foreign).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&foreign, Some(4242), None).unwrap();
            assert!(Scratch::abandoned(parent.path(), ".x-").is_empty());
        }
    }

    #[test]
    fn many_threads_do_not_remove_directories_of_each_other() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let scratch = Scratch::new_in(parent.path(), ".x-").unwrap();
                        own::write(&scratch.path().join("file"), "x").unwrap();
                        assert!(own::is_file(&scratch.path().join("file")).unwrap());
                    }
                });
            }
        });
        assert!(own::list(parent.path()).unwrap().is_empty());
    }
}
