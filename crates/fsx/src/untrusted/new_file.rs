//! A file that replaces another one when it is complete. It is created exclusively, relative to a directory handle.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps, fchmod, futimens, openat, unlinkat};
use rustix::io::Errno;

use super::{Reason, UntrustedError, random_name, rename_over};

/// How many temporary names are tried. The names are random: a collision is an accident or an attack.
const ATTEMPTS: u32 = 16;

/// A file that appears at its path when it is published. If it is dropped before that, nothing appears.
#[derive(Debug)]
pub struct NewFile {
    parent: OwnedFd,
    temporary: OsString,
    name: OsString,
    /// For messages.
    path: PathBuf,
    file: File,
    published: bool,
}

impl NewFile {
    pub(super) fn create(parent: OwnedFd, name: &OsStr, path: PathBuf) -> Result<Self, Reason> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            let temporary = random_name();
            match openat(&parent, &temporary, flags, Mode::from_raw_mode(0o666)) {
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
                Ok(fd) => {
                    let file = File::from(fd);
                    return Ok(Self { parent, temporary, name: name.into(), path, file, published: false });
                }
            }
        }
        Err(Errno::EXIST.into())
    }

    /// The file, for a child process to write to.
    #[must_use]
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Sets the permission bits, without the set-user-id bits and the write permission for other users.
    pub(super) fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        fchmod(&self.file, Mode::from_raw_mode(mode & 0o755 | 0o600))
    }

    /// Sets the modification time to that of another file, with nanosecond precision.
    pub(super) fn set_modified(&self, of: &Stat) -> Result<(), Errno> {
        let nanoseconds = of.st_mtime_nsec.try_into().map_err(|_| Errno::INVAL)?;
        let modified = Timespec { tv_sec: of.st_mtime, tv_nsec: nanoseconds };
        futimens(&self.file, &Timestamps { last_access: modified, last_modification: modified })
    }

    /// Renames the file to its final name. An existing file is replaced; a directory is an error.
    pub fn publish(mut self) -> Result<(), UntrustedError> {
        rename_over((&self.parent, &self.temporary), (&self.parent, &self.name))
            .map_err(|error| UntrustedError::new("write", &self.path, Path::new(""), error))?;
        self.published = true;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.published {
            let _ = unlinkat(&self.parent, &self.temporary, AtFlags::empty());
        }
    }
}
