//! The only way to access directories that untrusted code writes: a branch's build, a guest, a test file, a worker
//! host, a user of the farm.
//!
//! A [`Dir`] is opened once, with a trusted path. Everything below it is named by a relative path and resolved from
//! that handle (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`), so no symbolic link is followed and nothing
//! outside the directory is read, written or removed. Only regular files with one link are opened, never a FIFO, a
//! socket or a device. Size limits count the bytes read; the size that the file system reports is not trusted. Each
//! call returns immediately or after an amount of work that its limits bound.
//!
//! Limitations: untrusted code that runs at the same time can change the directory between two calls, and an open file
//! between two reads. A caller whose decision depends on the content of a file must read it once. A file on a file
//! system that untrusted code serves (FUSE) can block a read.

mod error;
mod new_file;
mod resolve;
mod scratch;
#[cfg(test)]
mod tests;
mod tree;

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use error::links;
pub use error::{Problem, Reason, UntrustedError};
pub use new_file::NewFile;
use resolve::{Resolver, follow_below, lacks_permission, names, problem_on_the_way};
pub use scratch::Scratch;
pub use tree::{Copied, Special, TreeLimits};

/// A directory that untrusted code writes.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    resolver: Resolver,
}

/// The type of an entry of an untrusted directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

/// An entry of an untrusted directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// What it is.
    pub entry_type: EntryType,
}

/// The metadata of an entry. A symbolic link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub entry_type: EntryType,
    /// Its size in bytes as the file system reports it. A sparse file may occupy less.
    pub len: u64,
    /// The permission bits.
    pub mode: u32,
    /// The user id of its owner.
    pub owner: u32,
    /// The number of links.
    pub links: u64,
    /// The modification time. The owner of the file can set it to any value.
    pub modified: SystemTime,
}

impl EntryType {
    fn of(file_type: FileType) -> Self {
        match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Link,
            _ => Self::Special,
        }
    }
}

impl Dir {
    /// Opens the directory at `trusted`. Only this program and its user may control the components of this path. Links
    /// in it are followed.
    pub fn open(trusted: &Path) -> Result<Self, UntrustedError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, trusted, flags, Mode::empty())
            .map_err(|error| UntrustedError::new("open", trusted, Path::new(""), error))?;
        Ok(Self { fd, path: trusted.into(), resolver: Resolver::of_this_kernel() })
    }

    /// The path with which the directory was opened. For messages only: the path can refer to another directory by now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory below this one.
    pub fn dir(&self, relative: impl AsRef<Path>) -> Result<Self, UntrustedError> {
        let relative = relative.as_ref();
        let fd = self.open_dir_fd(relative).map_err(|reason| self.error("open", relative, reason))?;
        Ok(Self { fd, path: self.path.join(relative), resolver: self.resolver })
    }

    /// Creates a directory below this one, with its missing parents, and opens it. Existing directories and their
    /// contents are kept.
    pub fn create_dir_all(&self, relative: impl AsRef<Path>) -> Result<Self, UntrustedError> {
        let relative = relative.as_ref();
        let error = |reason| self.error("create", relative, reason);
        let mut dir = self.dir(".").map_err(|inner| error(inner.reason))?;
        for name in self.names(relative).map_err(error)? {
            match mkdirat(&dir.fd, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(error(errno.into())),
            }
            dir = dir.dir(name).map_err(|inner| error(inner.reason))?;
        }
        dir.path = self.path.join(relative);
        Ok(dir)
    }

    /// Opens a regular file with one link for reading. Its size has no limit: bound the read with [`Read::take`].
    pub fn open_file(&self, relative: impl AsRef<Path>) -> Result<File, UntrustedError> {
        let relative = relative.as_ref();
        self.regular(relative).map_err(|reason| self.error("read", relative, reason))
    }

    /// Opens a regular file that other programs publish in this directory, for reading. It may have several links, and
    /// symbolic links that stay below this directory are followed. Its size has no limit.
    pub fn open_published(&self, relative: impl AsRef<Path>) -> Result<File, UntrustedError> {
        let relative = relative.as_ref();
        let open = |flags| {
            let names = names(relative).ok_or(Problem::Outside)?;
            follow_below(self.resolver, self.fd.as_fd(), &names, flags).map_err(|error| match error {
                // The kernel reports a link that leads out of the directory, or a loop of links.
                Errno::XDEV => Problem::Outside.into(),
                Errno::LOOP => Problem::BelowSymbolicLink.into(),
                error => Reason::from(error),
            })
        };
        let regular =
            |stat: &Stat| Problem::of_type(stat).map_or(Ok(()), |problem| Err(Reason::from(problem)));
        let published = || {
            // Check the type before opening: opening a device can have side effects.
            regular(&fstat(open(OFlags::PATH)?)?)?;
            let file = File::from(open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
            regular(&fstat(&file)?)?;
            Ok::<_, Reason>(file)
        };
        published().map_err(|reason| self.error("read", relative, reason))
    }

    /// The content of a regular file of at most `max` bytes. A larger file is an error.
    pub fn read(&self, relative: impl AsRef<Path>, max: u64) -> Result<Vec<u8>, UntrustedError> {
        let relative = relative.as_ref();
        let (bytes, more) = self.read_start(relative, max)?;
        if more {
            return Err(self.error("read", relative, Problem::LargerThan(max)));
        }
        Ok(bytes)
    }

    /// Like [`Dir::read`], for text. Invalid UTF-8 is replaced.
    pub fn read_to_string(&self, relative: impl AsRef<Path>, max: u64) -> Result<String, UntrustedError> {
        Ok(String::from_utf8_lossy(&self.read(relative, max)?).into_owned())
    }

    /// The first `max` bytes of a regular file, and whether the file has more.
    pub fn read_start(
        &self,
        relative: impl AsRef<Path>,
        max: u64,
    ) -> Result<(Vec<u8>, bool), UntrustedError> {
        let relative = relative.as_ref();
        let mut bytes = Vec::new();
        let read = self.open_file(relative)?.take(max.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| self.error("read", relative, error))?;
        let more = bytes.len() as u64 > max;
        bytes.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        Ok((bytes, more))
    }

    /// The metadata of an entry; `None` if it does not exist.
    pub fn metadata(&self, relative: impl AsRef<Path>) -> Result<Option<Metadata>, UntrustedError> {
        let relative = relative.as_ref();
        match self.stat(relative) {
            Ok(stat) => Ok(Some(metadata(&stat))),
            Err(Reason::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(reason) => Err(self.error("examine", relative, reason)),
        }
    }

    /// The entries of a directory, sorted by name. More than `max` entries are an error.
    pub fn list(&self, relative: impl AsRef<Path>, max: u64) -> Result<Vec<Entry>, UntrustedError> {
        let relative = relative.as_ref();
        let list = || {
            let dir = self.open_dir_fd(relative)?;
            list_fd(&dir, max)
        };
        list().map_err(|reason| self.error("list", relative, reason))
    }

    /// Replaces a file with these bytes atomically. A link is replaced, and its target keeps its content. A directory
    /// at this path is an error. The directory of the file must exist.
    pub fn write(&self, relative: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<(), UntrustedError> {
        use std::io::Write;
        let relative = relative.as_ref();
        let mut file = self.new_file(relative)?;
        file.write_all(bytes.as_ref()).map_err(|error| self.error("write", relative, error))?;
        file.publish()
    }

    /// Starts a file that replaces `relative` when [`NewFile::publish`] is called. It is created exclusively, with a
    /// temporary name in the same directory, which must exist.
    pub fn new_file(&self, relative: impl AsRef<Path>) -> Result<NewFile, UntrustedError> {
        let relative = relative.as_ref();
        let create = || {
            let (parent, name) = self.parent(relative)?;
            NewFile::create(parent, name, self.path.join(relative))
        };
        create().map_err(|reason| self.error("create", relative, reason))
    }

    /// Creates a file for writing. Anything that exists at the path is an error. The directory of the file must exist.
    pub fn create_new(&self, relative: impl AsRef<Path>) -> Result<File, UntrustedError> {
        let relative = relative.as_ref();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let created = self.open_below(relative, flags, Mode::from_raw_mode(0o666));
        created.map(File::from).map_err(|error| self.error("create", relative, error))
    }

    /// Renames an entry. An existing file with the new name is replaced. Both directories must exist.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), UntrustedError> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let (from_parent, from_name) =
            self.parent(from).map_err(|reason| self.error("rename", from, reason))?;
        let (to_parent, to_name) = self.parent(to).map_err(|reason| self.error("rename", to, reason))?;
        rename_over((&from_parent, from_name), (&to_parent, to_name))
            .map_err(|reason| self.error("rename", from, reason))
    }

    /// Removes a file, a link or a special file. Returns false if it does not exist. A directory is an error.
    pub fn remove_file(&self, relative: impl AsRef<Path>) -> Result<bool, UntrustedError> {
        let relative = relative.as_ref();
        let remove = || {
            let (parent, name) = self.parent(relative)?;
            unlinkat(&parent, name, AtFlags::empty()).map_err(|error| match error {
                Errno::ISDIR if is_dir(&parent, name) => Problem::Directory.into(),
                error => Reason::from(error),
            })
        };
        match remove() {
            Ok(()) => Ok(true),
            Err(Reason::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(reason) => Err(self.error("remove", relative, reason)),
        }
    }

    /// The directory handle and the name of the last component.
    fn parent<'a>(&self, relative: &'a Path) -> Result<(OwnedFd, &'a OsStr), Reason> {
        let names = self.names(relative)?;
        let (last, above) = names.split_last().ok_or(Problem::Outside)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.open_names(above, flags, Mode::empty())?, last))
    }

    #[expect(clippy::unused_self, reason = "reads as a method like its callers")]
    fn names<'a>(&self, relative: &'a Path) -> Result<Vec<&'a OsStr>, Reason> {
        Ok(names(relative).ok_or(Problem::Outside)?)
    }

    fn regular(&self, relative: &Path) -> Result<File, Reason> {
        // Check the type before opening: opening a device can have side effects.
        if let Some(problem) = Problem::of_file(&self.stat(relative)?) {
            return Err(problem.into());
        }
        let file = File::from(self.open_below(relative, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?);
        match Problem::of_file(&fstat(&file)?) {
            Some(problem) => Err(problem.into()),
            None => Ok(file),
        }
    }

    fn stat(&self, relative: &Path) -> Result<Stat, Reason> {
        Ok(fstat(self.open_below(relative, OFlags::PATH, Mode::empty())?)?)
    }

    fn open_dir_fd(&self, relative: &Path) -> Result<OwnedFd, Reason> {
        let fd = self.open_below(relative, OFlags::PATH, Mode::empty())?;
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Directory => Ok(fd),
            FileType::Symlink => Err(Problem::SymbolicLink.into()),
            _ => Err(Problem::NotADirectory.into()),
        }
    }

    /// Opens a path below this directory without following links, and without checking its type.
    fn open_below(&self, relative: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Reason> {
        self.open_names(&self.names(relative)?, flags, mode)
    }

    fn open_names(&self, names: &[&OsStr], flags: OFlags, mode: Mode) -> Result<OwnedFd, Reason> {
        self.resolver.open(self.fd.as_fd(), names, flags, mode).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR => {
                problem_on_the_way(self.fd.as_fd(), names, flags).map_or_else(|| error.into(), Reason::from)
            }
            error => error.into(),
        })
    }

    /// Like [`Self::open_below`], for the lock module, which examines the error number.
    pub(crate) fn open_raw(&self, relative: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let names = names(relative).ok_or(Errno::XDEV)?;
        self.resolver.open(self.fd.as_fd(), &names, flags, mode)
    }

    /// The status of an entry. For a link, the status of the link itself.
    pub(crate) fn stat_raw(&self, relative: &Path) -> Result<Stat, Errno> {
        fstat(self.open_raw(relative, OFlags::PATH, Mode::empty())?)
    }

    fn error(&self, action: &'static str, relative: &Path, reason: impl Into<Reason>) -> UntrustedError {
        let reason = match reason.into() {
            Reason::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let lacks = names(relative).is_some_and(|names| lacks_permission(self.fd.as_fd(), &names));
                if lacks { Problem::NoPermission.into() } else { Reason::Io(error) }
            }
            reason => reason,
        };
        UntrustedError::new(action, &self.path, relative, reason)
    }
}

/// Renames a file. Replaces an existing entry unless it is a directory.
fn rename_over(from: (&OwnedFd, &OsStr), to: (&OwnedFd, &OsStr)) -> Result<(), Reason> {
    renameat(from.0, from.1, to.0, to.1).map_err(|error| {
        let refused = matches!(error, Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) && is_dir(to.0, to.1);
        if refused { Problem::Directory.into() } else { error.into() }
    })
}

fn is_dir(parent: &OwnedFd, name: &OsStr) -> bool {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
}

fn list_fd(dir: &OwnedFd, max: u64) -> Result<Vec<Entry>, Reason> {
    let mut entries = Vec::new();
    for entry in read_dir(dir)? {
        let entry = entry?;
        let name = os_name(entry.file_name());
        if name == "." || name == ".." {
            continue;
        }
        if entries.len() as u64 >= max {
            return Err(Problem::MoreEntriesThan(max).into());
        }
        let entry_type = match entry.file_type() {
            FileType::Unknown => match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            },
            known => known,
        };
        entries.push(Entry { name: name.into(), entry_type: EntryType::of(entry_type) });
    }
    entries.sort();
    Ok(entries)
}

/// Reads the entries of a directory, given a handle that may have been opened with `O_PATH`.
fn read_dir(dir: &OwnedFd) -> Result<rustix::fs::Dir, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::Dir::new(openat(dir, ".", flags, Mode::empty())?)
}

/// The name in a directory entry.
fn os_name(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// A name that untrusted code cannot predict.
fn random_name() -> OsString {
    format!(".{:016x}.tmp", crate::random::bits()).into()
}

fn metadata(stat: &Stat) -> Metadata {
    let seconds = Duration::from_secs(stat.st_mtime.unsigned_abs());
    let modified =
        if stat.st_mtime < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    Metadata {
        entry_type: EntryType::of(FileType::from_raw_mode(stat.st_mode)),
        len: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        owner: stat.st_uid,
        links: links(stat),
        modified: modified.unwrap_or(UNIX_EPOCH),
    }
}
