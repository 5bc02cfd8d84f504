//! Files and directories that only this program and its user write. The functions are those of [`std::fs`], with errors
//! that contain the operation and the path, and with a limit on what is read into memory.
//!
//! They follow symbolic links. For a directory that untrusted code writes, use [`crate::untrusted::Dir`].

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::untrusted::Dir;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnEntry {
    /// Its name in the directory.
    pub name: OsString,
    /// Its path: the directory joined with the name.
    pub path: PathBuf,
    /// True for a directory; false for a symbolic link to one.
    pub is_dir: bool,
    /// True for a regular file; false for a symbolic link to one.
    pub is_file: bool,
}

/// The content of a file of at most `max` bytes. A larger file is an error.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::of("read", path))?;
    if bytes.len() as u64 > max {
        let too_large = io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes"));
        return Err(Error::of("read", path)(too_large));
    }
    Ok(bytes)
}

/// The content of a UTF-8 file of at most `max` bytes.
pub fn read_to_string(path: &Path, max: u64) -> Result<String, Error> {
    String::from_utf8(read(path, max)?).map_err(|error| {
        Error::of("read", path)(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
    })
}

/// Writes a file that no other process reads at the same time. Otherwise use [`crate::publish::file`].
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(Error::of("write", path))
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(Error::of("open", path))
}

/// Opens a file with the given options.
pub fn open_with(path: &Path, options: &OpenOptions) -> Result<File, Error> {
    options.open(path).map_err(Error::of("open", path))
}

/// Creates a file for writing, or truncates an existing one.
pub fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(Error::of("create", path))
}

/// Creates a file for writing. An existing file is an error.
pub fn create_new(path: &Path) -> Result<File, Error> {
    File::create_new(path).map_err(Error::of("create", path))
}

/// Opens a file for appending; creates it if it does not exist.
pub fn append(path: &Path) -> Result<File, Error> {
    OpenOptions::new().append(true).create(true).open(path).map_err(Error::of("open", path))
}

/// Creates a directory. An existing one is an error.
pub fn create_dir(path: &Path) -> Result<(), Error> {
    std::fs::create_dir(path).map_err(Error::of("create", path))
}

/// Creates a directory and its missing parents.
pub fn create_dir_all(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::of("create", path))
}

/// The entries of a directory, sorted by name. Entries that disappear during the call are left out.
pub fn list(path: &Path) -> Result<Vec<OwnEntry>, Error> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::of("list", path))? {
        let entry = entry.map_err(Error::of("list", path))?;
        let Ok(file_type) = entry.file_type() else { continue };
        entries.push(OwnEntry {
            name: entry.file_name(),
            path: entry.path(),
            is_dir: file_type.is_dir(),
            is_file: file_type.is_file(),
        });
    }
    entries.sort();
    Ok(entries)
}

/// The metadata of a file. Follows symbolic links.
pub fn metadata(path: &Path) -> Result<Metadata, Error> {
    std::fs::metadata(path).map_err(Error::of("examine", path))
}

/// The space of the file system of `path` that an ordinary user can fill, in bytes.
pub fn free_bytes(path: &Path) -> Result<u64, Error> {
    space(path).map(|(free, _)| free)
}

/// The same, and the size of the file system, in bytes.
pub fn space(path: &Path) -> Result<(u64, u64), Error> {
    let stat = rustix::fs::statvfs(path).map_err(Error::of("examine", path))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_bavail), bytes(stat.f_blocks)))
}

/// Whether a regular file exists. Follows symbolic links. Unlike [`Path::is_file`], it returns an error if the system
/// cannot answer.
pub fn is_file(path: &Path) -> Result<bool, Error> {
    Ok(existing(path)?.is_some_and(|meta| meta.is_file()))
}

/// Whether a directory exists. Follows symbolic links.
pub fn is_dir(path: &Path) -> Result<bool, Error> {
    Ok(existing(path)?.is_some_and(|meta| meta.is_dir()))
}

/// The metadata of a file; `None` if the path does not exist.
pub fn existing(path: &Path) -> Result<Option<Metadata>, Error> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if is_absent(error.kind()) => Ok(None),
        Err(error) => Err(Error::of("examine", path)(error)),
    }
}

/// The absolute path without symbolic links; `None` if the path does not exist.
pub fn canonical(path: &Path) -> Result<Option<PathBuf>, Error> {
    match path.canonicalize() {
        Ok(path) => Ok(Some(path)),
        Err(error) if is_absent(error.kind()) => Ok(None),
        Err(error) => Err(Error::of("resolve", path)(error)),
    }
}

/// Whether the error means that no file exists at the path: it is missing, a component is a regular file, or a name is
/// too long.
fn is_absent(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(kind, NotFound | NotADirectory | InvalidFilename | InvalidInput)
}

/// The target of a symbolic link.
pub fn read_link(path: &Path) -> Result<PathBuf, Error> {
    std::fs::read_link(path).map_err(Error::of("read the link", path))
}

/// Creates a symbolic link. Returns false if a file exists at `path`.
pub fn link(target: &Path, path: &Path) -> Result<bool, Error> {
    match std::os::unix::fs::symlink(target, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::of("create the link", path)(error)),
    }
}

/// Gives a file a second name, which is on the same file system. Copies it if the file system has no such links.
pub fn hard_link(from: &Path, to: &Path) -> Result<(), Error> {
    match std::fs::hard_link(from, to) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported | io::ErrorKind::TooManyLinks
            ) =>
        {
            copy(from, to).map(drop)
        }
        linked => linked.map_err(Error::of("link", to)),
    }
}

/// Copies a file and its permissions; returns the number of bytes.
pub fn copy(from: &Path, to: &Path) -> Result<u64, Error> {
    open(from)?;
    std::fs::copy(from, to).map_err(Error::of("write", to))
}

/// Renames a file or directory; replaces an existing file.
pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(Error::of("rename", from))
}

/// Removes a file. Returns false if it does not exist.
pub fn remove_file(path: &Path) -> Result<bool, Error> {
    removed(std::fs::remove_file(path), path)
}

/// Removes an empty directory. Returns false if it does not exist.
pub fn remove_dir(path: &Path) -> Result<bool, Error> {
    removed(std::fs::remove_dir(path), path)
}

/// Removes a directory with its contents. Returns false if it does not exist. Does not follow symbolic links. Untrusted
/// code may have written the contents: see [`Dir::remove_tree`].
pub fn remove_tree(path: &Path) -> Result<bool, Error> {
    let failed = |error: io::Error| Error::of("remove", path)(error);
    let Some(name) = path.file_name() else { return Err(failed(io::ErrorKind::InvalidInput.into())) };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let removed = Dir::open(parent).and_then(|parent| parent.remove_tree(name));
    match removed {
        Err(error) if error.is_not_found() => Ok(false),
        removed => removed.map_err(|error| failed(error.into())),
    }
}

fn removed(result: io::Result<()>, path: &Path) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::of("remove", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_operation_the_path_and_the_cause() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let text = |error: Error| error.to_string().replace(&dir.path().display().to_string(), "DIR");
        let missing = read(&path, 10).unwrap_err();
        assert!(missing.is_not_found());
        assert_eq!(text(missing), "cannot open DIR/file: No such file or directory (os error 2)");
        write(&path, "12345678901").unwrap();
        assert_eq!(text(read(&path, 10).unwrap_err()), "cannot read DIR/file: it is larger than 10 bytes");
        assert_eq!(read(&path, 11).unwrap().len(), 11);
        write(&path, [0xff]).unwrap();
        let invalid = read_to_string(&path, 10).unwrap_err();
        assert_eq!(invalid.kind(), io::ErrorKind::InvalidData);
        assert_eq!(io::Error::from(invalid).kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn only_a_missing_file_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let (file, looping) = (dir.path().join("file"), dir.path().join("loop"));
        write(&file, "").unwrap();
        std::os::unix::fs::symlink("loop", &looping).unwrap();
        assert!(is_file(&file).unwrap() && !is_dir(&file).unwrap() && is_dir(dir.path()).unwrap());
        for absent in [dir.path().join("x"), file.join("x"), dir.path().join("x".repeat(300)), "a\0b".into()]
        {
            assert!(existing(&absent).unwrap().is_none() && canonical(&absent).unwrap().is_none());
        }
        assert!(is_file(&looping).is_err() && is_dir(&looping).is_err() && canonical(&looping).is_err());
    }

    #[test]
    fn a_link_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        assert!(link(Path::new("a"), &path).unwrap() && !link(Path::new("b"), &path).unwrap());
        assert_eq!(read_link(&path).unwrap(), Path::new("a"));
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let zero = read(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(zero.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn removing_a_missing_file_is_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert!(!remove_file(&path).unwrap() && !remove_dir(&path).unwrap() && !remove_tree(&path).unwrap());
        create_dir_all(&path).unwrap();
        write(&path.join("c"), "").unwrap();
        let entries = list(&path).unwrap();
        assert!(entries.len() == 1 && entries[0].is_file && entries[0].path == path.join("c"));
        assert!(remove_dir(dir.path()).is_err());
        assert!(remove_tree(&dir.path().join("a")).unwrap());
    }
}
