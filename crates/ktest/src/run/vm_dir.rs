//! The directory with the files of one VM: scratch devices, the guest's specification, the serial log.
//!
//! It is removed with its owner. The directories of killed runs are removed when the next run starts.

use std::fs::File;
use std::io;
use std::path::Path;

use fsx::lock::Lock;
use fsx::own;
use fsx::untrusted::{Dir, Scratch, UntrustedError};

/// The directory, locked as long as the value exists.
#[derive(Debug)]
pub(super) struct VmDir {
    dir: Scratch,
    /// Sockets are in a separate directory, because the path of a socket must be short.
    socket_dir: tempfile::TempDir,
    _lock: Lock,
}

impl VmDir {
    pub(super) fn create(cache: &Path) -> io::Result<Self> {
        let parent = cache.join("vms");
        own::create_dir_all(&parent)?;
        remove_abandoned(&parent);
        let dir = Scratch::new_in(&parent, "vm-")?;
        let lock = Lock::try_acquire(&dir.path().join("lock"), "ktest: run a VM")?;
        let lock = lock.ok_or_else(|| io::Error::other("a new directory is locked"))?;
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

/// Opens a file in the directory of a VM that QEMU writes. A guest that has taken over QEMU can replace it by a link or a FIFO,
/// which is an error.
pub(super) fn open_written(path: &Path) -> Result<File, UntrustedError> {
    Dir::open(path.parent().unwrap_or(path))?.open_file(path.file_name().unwrap_or_default())
}

/// Removes the directories that no run has locked, because their runs were killed. Failures are ignored: a remaining
/// directory does no harm.
fn remove_abandoned(parent: &Path) {
    for entry in own::list(parent).unwrap_or_default() {
        if let Ok(Some(_lock)) = Lock::try_existing(&entry.path.join("lock"), "ktest: remove an abandoned VM")
        {
            let _ = own::remove_tree(&entry.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Trap;

    #[test]
    fn only_regular_files_of_qemu_are_read() {
        let (cache, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let vm_dir = VmDir::create(cache.path()).unwrap();
        let serial = vm_dir.path().join("serial");
        std::fs::write(&serial, "text").unwrap();
        assert!(open_written(&serial).is_ok());
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let links = [Trap::LinkToFile, Trap::LinkToDevice, Trap::DanglingLink, Trap::HardLink];
        for trap in links.into_iter().chain([Trap::Fifo, Trap::Socket, Trap::Directory]) {
            own::remove_tree(&serial).unwrap();
            trap.set(&serial, outside.path());
            assert!(open_written(&serial).is_err(), "{trap:?}");
        }
    }
}
