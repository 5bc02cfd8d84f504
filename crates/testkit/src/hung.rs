//! A file system that hangs, like a network file system without its server.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A FUSE file system that never answers: each access blocks until the process is killed or this value is dropped.
#[derive(Debug)]
pub struct HungFileSystem {
    dir: PathBuf,
    connection: Option<File>,
}

impl HungFileSystem {
    /// Mounts it over an existing directory or file. An error if this process may not mount it, or if there is no
    /// `/dev/fuse`.
    pub fn mount(over: &Path) -> std::io::Result<Self> {
        let connection = File::options().read(true).write(true).open("/dev/fuse")?;
        let mode = if over.is_dir() { "40000" } else { "100000" };
        let options =
            format!("fd={},rootmode={mode},user_id=0,group_id=0,allow_other", connection.as_raw_fd());
        let options = CString::new(options)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("hung", over, "fuse.hung", flags, options.as_c_str())?;
        Ok(Self { dir: over.into(), connection: Some(connection) })
    }
}

impl Drop for HungFileSystem {
    fn drop(&mut self) {
        // Processes that still wait get an error.
        self.connection = None;
        // If this fails, the directory cannot be removed, and the caller's temporary directory reports it.
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
    }
}
