//! The directory of a static copy: written next to its final place, and moved there when it is complete.

use std::io;
use std::path::{Path, PathBuf};

use fsx::own;
use fsx::publish::{self, Durability};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::ExportError;

/// A file in each copy. A directory without it is never replaced.
const MARKER: &str = ".ktest-ci-export";

/// A copy that is being written. If it is dropped before it is published, it is removed.
pub(crate) struct Stage {
    path: PathBuf,
    target: PathBuf,
}

impl Stage {
    /// Starts a copy that will be at `target`.
    pub(crate) fn create(target: &Path) -> Result<Self, ExportError> {
        let name = target.file_name().ok_or_else(|| ExportError::Name(target.into()))?;
        is_replaceable(target)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:016x}.tmp", fsx::random::bits()));
        let path = target.with_file_name(hidden);
        own::create_dir(&path)?;
        let stage = Self { path, target: target.into() };
        stage.write(MARKER, b"A static copy of pages of ktest-ci, written by ci-dashboard export.\n")?;
        Ok(stage)
    }

    /// The path of a file, which has a name from [`super::scope`].
    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        Ok(own::write(&self.file(name), bytes)?)
    }

    pub(crate) fn read(&self, name: &str) -> Result<String, ExportError> {
        Ok(own::read_to_string(&self.file(name), u64::MAX)?)
    }

    /// Moves the copy to its place. Another copy there is replaced.
    pub(crate) fn publish(self) -> Result<(), ExportError> {
        if !is_replaceable(&self.target)? {
            return Ok(publish::dir(&self.path, &self.target, Durability::Cached)?);
        }
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::EXCHANGE) {
            // The old copy has the name of the stage now, and is removed with it.
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS) => self.swap(),
            Err(error) => Err(fsx::Error::of("replace", &self.target)(error).into()),
        }
    }

    /// The same on a file system that cannot exchange two names.
    fn swap(&self) -> Result<(), ExportError> {
        let mut old = self.path.clone().into_os_string();
        old.push(".old");
        let old = PathBuf::from(old);
        own::rename(&self.target, &old)?;
        let moved = own::rename(&self.path, &self.target);
        if moved.is_err() {
            own::rename(&old, &self.target)?;
        } else {
            own::remove_tree(&old)?;
        }
        Ok(moved?)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = own::remove_tree(&self.path) {
            tracing::warn!("{error}; remove it");
        }
    }
}

/// Whether a copy is at the path that must be replaced. An error if something else is there; an empty directory counts as
/// nothing.
fn is_replaceable(target: &Path) -> Result<bool, ExportError> {
    match std::fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(fsx::Error::of("examine", target)(error).into()),
        Ok(data) if !data.is_dir() => return Err(ExportError::NotExport(target.into())),
        Ok(_) => {}
    }
    if own::list(target)?.is_empty() {
        return Ok(false);
    }
    match std::fs::symlink_metadata(target.join(MARKER)) {
        Ok(data) if data.is_file() => Ok(true),
        _ => Err(ExportError::NotExport(target.into())),
    }
}
