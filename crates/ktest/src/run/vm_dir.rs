//! The directory with the files of one VM: scratch devices, the guest's specification, the serial log.
//!
//! It is removed with its owner, or when the next run starts if the run was killed.

use std::fs::File;
use std::io;
use std::path::Path;

use fsx::own;
use fsx::untrusted::{Dir, Scratch, UntrustedError};

/// The directory.
#[derive(Debug)]
pub(super) struct VmDir {
    dir: Scratch,
    /// Sockets are in a separate directory, because the path of a socket must be short.
    socket_dir: Scratch,
}

impl VmDir {
    pub(super) fn create(cache: &Path) -> io::Result<Self> {
        let parent = cache.join("vms");
        own::create_dir_all(&parent)?;
        Ok(Self { dir: Scratch::new_in(&parent, "vm-")?, socket_dir: Scratch::temporary()? })
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
