//! Files and directories that only this program and its user write. The functions are those of [`std::fs`] with
//! errors that carry the operation and the path, and with a bound for what is read into memory.
//!
//! They follow symbolic links. A directory that untrusted code writes is accessed with [`crate::untrusted::Dir`].

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::Error;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnEntry {
    /// Its name in the directory.
    pub name: OsString,
    /// Its path: the directory's, and the name.
    pub path: PathBuf,
    /// True for a directory; a symbolic link is none.
    pub is_dir: bool,
    /// True for a regular file; a symbolic link is none.
    pub is_file: bool,
}

/// The content of a file of at most `max` bytes; a larger one is an error.
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

/// Writes a file that no other process reads at the same time; for others use [`crate::publish::file`].
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

/// Creates a file, or empties it, for writing.
pub fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(Error::of("create", path))
}

/// Creates a file for writing; an existing one is an error.
pub fn create_new(path: &Path) -> Result<File, Error> {
    File::create_new(path).map_err(Error::of("create", path))
}

/// Opens a file for appending; creates it if it does not exist.
pub fn append(path: &Path) -> Result<File, Error> {
    OpenOptions::new().append(true).create(true).open(path).map_err(Error::of("open", path))
}

/// Creates a directory; an existing one is an error.
pub fn create_dir(path: &Path) -> Result<(), Error> {
    std::fs::create_dir(path).map_err(Error::of("create", path))
}

/// Creates a directory and those above it that do not exist.
pub fn create_dir_all(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(Error::of("create", path))
}

/// The entries of a directory, sorted by name; an entry that vanishes meanwhile is left out.
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

/// What the file system records of a file; a symbolic link is followed.
pub fn metadata(path: &Path) -> Result<Metadata, Error> {
    std::fs::metadata(path).map_err(Error::of("examine", path))
}

/// Whether a regular file exists; a symbolic link is followed. Unlike [`Path::is_file`] it does not report a failure of the
/// system as "no".
pub fn is_file(path: &Path) -> Result<bool, Error> {
    Ok(existing(path)?.is_some_and(|meta| meta.is_file()))
}

/// Whether a directory exists; a symbolic link is followed.
pub fn is_dir(path: &Path) -> Result<bool, Error> {
    Ok(existing(path)?.is_some_and(|meta| meta.is_dir()))
}

/// What the file system records of a file; `None` if nothing exists at this path.
pub fn existing(path: &Path) -> Result<Option<Metadata>, Error> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if is_absent(error.kind()) => Ok(None),
        Err(error) => Err(Error::of("examine", path)(error)),
    }
}

/// The absolute path without symbolic links; `None` if nothing exists at this path.
pub fn canonical(path: &Path) -> Result<Option<PathBuf>, Error> {
    match path.canonicalize() {
        Ok(path) => Ok(Some(path)),
        Err(error) if is_absent(error.kind()) => Ok(None),
        Err(error) => Err(Error::of("resolve", path)(error)),
    }
}

/// Whether no file can have the path: it does not exist, or it leads through a file, or a name is too long.
fn is_absent(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(kind, NotFound | NotADirectory | InvalidFilename | InvalidInput)
}

/// The target of a symbolic link.
pub fn read_link(path: &Path) -> Result<PathBuf, Error> {
    std::fs::read_link(path).map_err(Error::of("read the link", path))
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

/// Removes a file; returns false if there is none.
pub fn remove_file(path: &Path) -> Result<bool, Error> {
    removed(std::fs::remove_file(path), path)
}

/// Removes an empty directory; returns false if there is none.
pub fn remove_dir(path: &Path) -> Result<bool, Error> {
    removed(std::fs::remove_dir(path), path)
}

/// Removes a directory with its contents; returns false if there is none. It does not follow symbolic links.
pub fn remove_tree(path: &Path) -> Result<bool, Error> {
    removed(std::fs::remove_dir_all(path), path)
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
    fn reading_ends_at_the_bound() {
        let zero = read(Path::new("/dev/zero"), 1000).unwrap_err();
        assert_eq!(zero.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn removing_nothing_is_no_error() {
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
