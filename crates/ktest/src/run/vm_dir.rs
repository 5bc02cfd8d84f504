//! The directory of one VM's own files: scratch devices, the guest's specification, the serial log.
//!
//! It is removed with its owner; the directories of killed runs are removed when the next run starts.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The directory, locked while its owner lives.
#[derive(Debug)]
pub(super) struct VmDir {
    dir: tempfile::TempDir,
    /// Sockets have a directory of their own, because the path of a socket must be short.
    socket_dir: tempfile::TempDir,
    _lock: File,
}

impl VmDir {
    pub(super) fn create(cache: &Path) -> io::Result<Self> {
        let parent = cache.join("vms");
        std::fs::create_dir_all(&parent)?;
        remove_abandoned(&parent);
        let dir = tempfile::Builder::new().prefix("vm-").tempdir_in(&parent)?;
        let lock = File::create(dir.path().join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let socket_dir = tempfile::Builder::new().prefix("ktest-").tempdir()?;
        Ok(Self { dir, socket_dir, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn sockets(&self) -> &Path {
        self.socket_dir.path()
    }
}

/// Removes the directories that no run locks: their runs were killed. A directory that cannot be removed does no harm.
fn remove_abandoned(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let lock = File::open(entry.path().join("lock"));
        if lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
