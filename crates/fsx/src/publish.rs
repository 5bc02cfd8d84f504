//! Atomic publication: a reader sees the old content or the new content of a file, never a mix.
//!
//! The content is written to a temporary file in the same directory, which is then renamed. If the process is killed
//! before the rename, a file named `.NAME.*.tmp` remains.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::Error;

/// What a published file or directory survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process.
    Cached,
    /// A power failure too: contents and name are on disk when the call returns. Costs a few milliseconds.
    Synced,
}

/// Who may read a published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The users that the umask admits.
    Umask,
    /// Only the user that runs this program.
    Private,
}

/// Replaces the file `path` with these bytes. The directory must exist. A symbolic link at `path` is replaced, not
/// followed.
pub fn file(path: &Path, bytes: impl AsRef<[u8]>, durability: Durability) -> Result<(), Error> {
    let mut new = NewFile::create(path, Access::Umask)?;
    new.write_all(bytes.as_ref()).map_err(Error::of("write", path))?;
    new.publish(durability)
}

/// Like [`file`], but only this user can read the file.
pub fn private_file(path: &Path, bytes: impl AsRef<[u8]>, durability: Durability) -> Result<(), Error> {
    let mut new = NewFile::create(path, Access::Private)?;
    new.write_all(bytes.as_ref()).map_err(Error::of("write", path))?;
    new.publish(durability)
}

/// Renames the complete directory `stage` to `path` on the same file system. If `path` is a directory that is not
/// empty, the error has the kind [`io::ErrorKind::DirectoryNotEmpty`]. With [`Durability::Synced`] the names are on
/// disk when the call returns; the caller must sync the files in `stage`.
pub fn dir(stage: &Path, path: &Path, durability: Durability) -> Result<(), Error> {
    std::fs::rename(stage, path).map_err(Error::of("publish", path))?;
    if durability == Durability::Synced {
        sync_dir(parent(path))?;
    }
    Ok(())
}

/// A file that appears at its path when it is complete. If it is dropped before that, nothing appears.
#[derive(Debug)]
pub struct NewFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Starts a file that will replace `path`.
    pub fn create(path: &Path, access: Access) -> Result<Self, Error> {
        let mode = match access {
            Access::Umask => 0o666,
            Access::Private => 0o600,
        };
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push(".");
        let temporary = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".tmp")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(parent(path))
            .map_err(Error::of("create", path))?;
        Ok(Self { temporary, path: path.into() })
    }

    /// The file, for its metadata or for a child process to write to.
    #[must_use]
    pub fn as_file(&self) -> &File {
        self.temporary.as_file()
    }

    /// The path of the temporary file.
    #[must_use]
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Renames the file to its final path.
    pub fn publish(self, durability: Durability) -> Result<(), Error> {
        let Self { temporary, path } = self;
        if durability == Durability::Synced {
            temporary.as_file().sync_all().map_err(Error::of("sync", &path))?;
        }
        temporary.persist(&path).map_err(|error| Error::of("publish", &path)(error.error))?;
        if durability == Durability::Synced {
            sync_dir(parent(&path))?;
        }
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.as_file_mut().flush()
    }
}

/// Syncs the names in a directory to disk.
pub fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::of("sync", path))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_complete_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        file(&path, "old", Durability::Cached).unwrap();
        let mut new = NewFile::create(&path, Access::Umask).unwrap();
        new.write_all(b"half").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        drop(new);
        assert_eq!(
            (names(dir.path()), std::fs::read(&path).unwrap()),
            (vec!["file".into()], b"old".to_vec())
        );
        file(&path, "new", Durability::Synced).unwrap();
        assert_eq!(
            (names(dir.path()), std::fs::read(&path).unwrap()),
            (vec!["file".into()], b"new".to_vec())
        );
    }

    #[test]
    fn others_may_read_it_unless_it_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(dir.path().join("plain"), "").unwrap();
        let plain = dir.path().join("plain").metadata().unwrap().mode();
        file(&path, "", Durability::Cached).unwrap();
        assert_eq!(path.metadata().unwrap().mode(), plain);
        private_file(&path, "", Durability::Cached).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_is_replaced_and_its_target_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("link"), dir.path().join("target"));
        std::fs::write(&target, "target").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        file(&path, "new", Durability::Cached).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"target");
        assert!(path.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_directory_does_not_replace_a_filled_one() {
        let dir = tempfile::tempdir().unwrap();
        let (stage, path) = (dir.path().join("stage"), dir.path().join("final"));
        let fill = || {
            std::fs::create_dir(&stage).unwrap();
            std::fs::write(stage.join("file"), "").unwrap();
        };
        fill();
        self::dir(&stage, &path, Durability::Synced).unwrap();
        assert_eq!(names(&path), ["file"]);
        fill();
        let error = self::dir(&stage, &path, Durability::Cached).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty, "{error}");
        assert!(error.to_string().starts_with("cannot publish "), "{error}");
    }
}
