//! Advisory locks between processes of one machine (`flock`). The kernel releases a lock when its holder exits or is
//! killed.
//!
//! The lock file may be deleted or replaced at any time. A lock on a file that is no longer at the path does not count.
//! The text in the file names the holder for humans; no decision depends on it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, openat, statat};
use rustix::io::Errno;

use crate::untrusted::{Dir, Problem};

/// The time between two attempts to take a lock that another process holds.
const POLL: Duration = Duration::from_millis(50);
/// How many replaced lock files one attempt follows. Only a hostile process exceeds it.
const REPLACEMENTS: u32 = 100;
/// The maximum number of bytes read from a lock file.
const TEXT: u64 = 300;

const OPEN: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Why a lock cannot be taken, other than that it is held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be opened, locked or written.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The path is not a lock file. It is left unchanged.
    #[error("cannot lock {}: it {problem}; remove it", path.display())]
    NotALockFile {
        /// The lock file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Problem,
    },
}

impl From<LockError> for io::Error {
    fn from(error: LockError) -> Self {
        let kind = match &error {
            LockError::Io { source, .. } => source.kind(),
            LockError::NotALockFile { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// An exclusive lock. Dropping it releases it; the file stays.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child that another thread has just forked has the file open until it executes its program.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Takes the lock if no process holds it, and records `purpose` in the file. Creates the file and its parent
    /// directories. Does not wait.
    pub fn try_acquire(path: &Path, purpose: &str) -> Result<Option<Self>, LockError> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|source| LockError::Io { path: path.into(), source })?;
        }
        let open = || openat(CWD, path, OPEN | OFlags::CREATE, Mode::from_raw_mode(0o666)).map(File::from);
        let named = || statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
        Self::attempt(path, purpose, &open, &named)
    }

    /// Like [`Lock::try_acquire`], for a lock file in a directory that untrusted code writes. The directory of the lock
    /// file must exist. Untrusted code can hold the lock or replace the file, so it can block this program, or let two
    /// of its processes in.
    pub fn try_acquire_in(dir: &Dir, relative: &Path, purpose: &str) -> Result<Option<Self>, LockError> {
        let path = dir.path().join(relative);
        let open =
            || dir.open_raw(relative, OPEN | OFlags::CREATE, Mode::from_raw_mode(0o666)).map(File::from);
        let named = || dir.stat_raw(relative);
        Self::attempt(&path, purpose, &open, &named)
    }

    /// Takes the lock. If another process holds it, calls `on_wait` once with the text of the lock file, and retries
    /// until the lock is free. To cancel, drop the future.
    pub async fn acquire(
        path: &Path,
        purpose: &str,
        mut on_wait: impl FnMut(&str) + Send,
    ) -> Result<Self, LockError> {
        let mut reported = false;
        loop {
            if let Some(lock) = Self::try_acquire(path, purpose)? {
                return Ok(lock);
            }
            if !reported {
                reported = true;
                on_wait(&holder(path).unwrap_or_else(|| "another process".into()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Like [`Lock::acquire`], for a thread. Calls `keep_waiting` before each retry, 20 times a second; if it returns
    /// false, the wait ends and the result is `None`.
    pub fn acquire_blocking(
        path: &Path,
        purpose: &str,
        mut keep_waiting: impl FnMut() -> bool,
    ) -> Result<Option<Self>, LockError> {
        loop {
            if let Some(lock) = Self::try_acquire(path, purpose)? {
                return Ok(Some(lock));
            }
            if !keep_waiting() {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the text of the file, which [`holder`] returns.
    pub fn set_text(&self, text: &str) -> Result<(), LockError> {
        let mut file = &self.file;
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(|source| LockError::Io { path: self.path.clone(), source })
    }

    fn attempt(
        path: &Path,
        purpose: &str,
        open: &dyn Fn() -> rustix::io::Result<File>,
        named: &dyn Fn() -> rustix::io::Result<Stat>,
    ) -> Result<Option<Self>, LockError> {
        let io = |error: Errno| LockError::Io { path: path.into(), source: error.into() };
        let refuse = |problem| LockError::NotALockFile { path: path.into(), problem };
        for _ in 0..REPLACEMENTS {
            let file = match open() {
                Err(Errno::LOOP) => return Err(refuse(Problem::SymbolicLink)),
                Err(Errno::ISDIR) => return Err(refuse(Problem::Directory)),
                // A FIFO without a reader, or a device without a driver.
                Err(Errno::NXIO) => {
                    let problem = named().ok().and_then(|stat| Problem::of_type(&stat));
                    return Err(problem.map_or_else(|| io(Errno::NXIO), refuse));
                }
                result => result.map_err(io)?,
            };
            let stat = fstat(&file).map_err(io)?;
            // If the file had a second link, the text would be written to a file with another name.
            if let Some(problem) = Problem::of_file(&stat) {
                return Err(refuse(problem));
            }
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
                Err(error) => return Err(io(error)),
            }
            let current = named().ok().filter(|named| FileType::from_raw_mode(named.st_mode).is_file());
            if current.is_some_and(|named| (named.st_dev, named.st_ino) == (stat.st_dev, stat.st_ino)) {
                let lock = Self { file, path: path.into() };
                let separator = if purpose.is_empty() { "" } else { ": " };
                lock.set_text(&format!("process {}{separator}{purpose}\n", std::process::id()))?;
                return Ok(Some(lock));
            }
        }
        Ok(None)
    }
}

/// The first line of a lock file: `process PID: PURPOSE` of the current or last holder. `None` if the file does not
/// exist or is empty.
#[must_use]
pub fn holder(path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).ok()?);
    if !FileType::from_raw_mode(fstat(&file).ok()?.st_mode).is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(TEXT).read_to_end(&mut bytes).ok()?;
    String::from_utf8_lossy(&bytes).lines().next().filter(|line| !line.is_empty()).map(Into::into)
}

/// The process id in the text of a lock file, which is `process PID: PURPOSE` or a number alone.
#[must_use]
pub fn holder_pid(path: &Path) -> Option<u32> {
    let line = holder(path)?;
    let rest = line.strip_prefix("process ").unwrap_or(&line);
    rest.split(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/lock");
        (dir, path)
    }

    #[test]
    fn one_holder_at_a_time() {
        let (_dir, path) = path();
        let first = Lock::try_acquire(&path, "first").unwrap().unwrap();
        assert!(Lock::try_acquire(&path, "second").unwrap().is_none());
        assert_eq!(holder(&path).unwrap(), format!("process {}: first", std::process::id()));
        assert_eq!(holder_pid(&path), Some(std::process::id()));
        first.set_text("4711\n").unwrap();
        assert_eq!((holder(&path).as_deref(), holder_pid(&path)), (Some("4711"), Some(4711)));
        drop(first);
        let second = Lock::try_acquire(&path, "").unwrap().unwrap();
        assert_eq!(holder(second.path()).unwrap(), format!("process {}", std::process::id()));
    }

    #[test]
    fn a_child_that_has_the_file_open_does_not_keep_the_lock() {
        let (_dir, path) = path();
        let first = Lock::try_acquire(&path, "first").unwrap().unwrap();
        let _of_the_child = first.file.try_clone().unwrap();
        drop(first);
        assert!(Lock::try_acquire(&path, "second").unwrap().is_some());
    }

    #[tokio::test]
    async fn waiting_is_reported_once_and_can_be_cancelled() {
        let (_dir, path) = path();
        let first = Lock::try_acquire(&path, "first").unwrap().unwrap();
        let mut waits = Vec::new();
        let cancelled = Lock::acquire(&path, "second", |_| {});
        assert!(tokio::time::timeout(Duration::from_millis(120), cancelled).await.is_err());
        let release = async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            drop(first);
        };
        let second = Lock::acquire(&path, "second", |holder| waits.push(holder.to_owned()));
        let (second, ()) = tokio::join!(second, release);
        second.unwrap();
        assert_eq!(waits, [format!("process {}: first", std::process::id())]);
    }

    #[test]
    fn a_waiting_thread_can_be_cancelled() {
        let (_dir, path) = path();
        let first = Lock::try_acquire(&path, "first").unwrap().unwrap();
        let mut attempts = 0;
        let stopped = Lock::acquire_blocking(&path, "second", || {
            attempts += 1;
            attempts < 3
        });
        assert!(stopped.unwrap().is_none());
        assert_eq!(attempts, 3);
        drop(first);
        assert!(Lock::acquire_blocking(&path, "second", || false).unwrap().is_some());
    }

    #[test]
    fn a_lock_on_a_deleted_or_replaced_file_does_not_count() {
        let (_dir, path) = path();
        let _first = Lock::try_acquire(&path, "a").unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = Lock::try_acquire(&path, "b").unwrap().unwrap();
        std::fs::write(path.with_extension("new"), "").unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        assert!(Lock::try_acquire(&path, "c").unwrap().is_some());
    }

    #[test]
    fn a_path_that_is_not_a_lock_file_is_refused_and_unchanged() {
        let (dir, path) = path();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "victim").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let untrusted = Dir::open(dir.path()).unwrap();
        let refused = |expected: &str| {
            let by_path = Lock::try_acquire(&path, "").unwrap_err().to_string();
            assert!(by_path.contains(expected), "{by_path}");
            let in_dir = Lock::try_acquire_in(&untrusted, Path::new("sub/lock"), "").unwrap_err().to_string();
            assert!(in_dir.contains(expected), "{in_dir}");
            assert_eq!(std::fs::read(&victim).unwrap(), b"victim");
        };
        symlink(&victim, &path).unwrap();
        refused("is a symbolic link");
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&victim, &path).unwrap();
        refused("has 2 links");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        refused("");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        refused("is a directory");
        std::fs::remove_dir(&path).unwrap();
        assert!(Lock::try_acquire_in(&untrusted, Path::new("sub/lock"), "").unwrap().is_some());
    }
}
