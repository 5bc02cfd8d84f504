//! Errors of operations in an untrusted directory.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

/// A failed or refused operation in an untrusted directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {reason}", .dir.join(.relative).display())]
pub struct UntrustedError {
    /// A verb: "read", "create", "remove".
    pub action: &'static str,
    /// The path by which the directory was opened. For messages only.
    pub dir: PathBuf,
    /// The path below the directory.
    pub relative: PathBuf,
    /// The cause.
    pub reason: Reason,
}

/// Why an operation in an untrusted directory failed.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Untrusted code created something that is refused.
    #[error("it {0}")]
    Refused(Problem),
    /// The system reported an error.
    #[error("{0}")]
    Io(#[source] io::Error),
}

/// What is wrong with a path or a file. The text completes "it ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It is a symbolic link.
    SymbolicLink,
    /// A directory above it is a symbolic link.
    BelowSymbolicLink,
    /// It is a FIFO.
    Fifo,
    /// It is a socket.
    Socket,
    /// It is a character device.
    CharacterDevice,
    /// It is a block device.
    BlockDevice,
    /// It is a directory where a file is expected.
    Directory,
    /// It is a file, or below a file, where a directory is expected.
    NotADirectory,
    /// The file has other names: writing to it would change another file, and reading it could disclose one.
    Links(u64),
    /// The file is larger than this many bytes.
    LargerThan(u64),
    /// The tree has more than this many bytes.
    MoreBytesThan(u64),
    /// The directory or tree has more than this many entries.
    MoreEntriesThan(u64),
    /// The tree is deeper than this many levels.
    DeeperThan(u32),
    /// The path is absolute, empty, or contains "..".
    Outside,
    /// Other processes add entries while it is removed.
    KeepsGrowing,
    /// Its owner has no permission to use it, or a directory above it.
    NoPermission,
}

impl Problem {
    /// Why the entry cannot be used as a file; `None` for a regular file.
    pub(crate) fn of_type(stat: &Stat) -> Option<Self> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => None,
            FileType::Symlink => Some(Self::SymbolicLink),
            FileType::Directory => Some(Self::Directory),
            FileType::Fifo => Some(Self::Fifo),
            FileType::Socket => Some(Self::Socket),
            FileType::BlockDevice => Some(Self::BlockDevice),
            FileType::CharacterDevice | FileType::Unknown => Some(Self::CharacterDevice),
        }
    }

    /// Why the entry cannot be used as a file; checks the number of links too.
    pub(crate) fn of_file(stat: &Stat) -> Option<Self> {
        let links = links(stat);
        Self::of_type(stat).or((links > 1).then_some(Self::Links(links)))
    }
}

/// The number of links of a file. The width of the field differs between architectures.
pub(crate) fn links(stat: &Stat) -> u64 {
    fn widen(count: impl Into<u64>) -> u64 {
        count.into()
    }
    widen(stat.st_nlink)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SymbolicLink => f.write_str("is a symbolic link"),
            Self::BelowSymbolicLink => f.write_str("is below a symbolic link"),
            Self::Fifo => f.write_str("is a FIFO"),
            Self::Socket => f.write_str("is a socket"),
            Self::CharacterDevice => f.write_str("is a character device"),
            Self::BlockDevice => f.write_str("is a block device"),
            Self::Directory => f.write_str("is a directory"),
            Self::NotADirectory => f.write_str("is not a directory"),
            Self::Links(count) => write!(f, "has {count} links"),
            Self::LargerThan(bytes) => write!(f, "is larger than {bytes} bytes"),
            Self::MoreBytesThan(bytes) => write!(f, "contains more than {bytes} bytes"),
            Self::MoreEntriesThan(count) => write!(f, "has more than {count} entries"),
            Self::DeeperThan(levels) => write!(f, "is more than {levels} levels deep"),
            Self::Outside => f.write_str("is not a path below the directory"),
            Self::KeepsGrowing => f.write_str("is still being written to"),
            Self::NoPermission => f.write_str("lacks a permission for its owner"),
        }
    }
}

impl From<Problem> for Reason {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<Errno> for Reason {
    /// An error number alone does not prove that untrusted code is the cause: the file system may have failed. The
    /// caller checks what is at the path.
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl UntrustedError {
    pub(crate) fn new(action: &'static str, dir: &Path, relative: &Path, reason: impl Into<Reason>) -> Self {
        Self { action, dir: dir.into(), relative: relative.into(), reason: reason.into() }
    }

    /// True if the file or directory does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(&self.reason, Reason::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// What untrusted code did wrong; `None` for an error of the system.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        match self.reason {
            Reason::Refused(problem) => Some(problem),
            Reason::Io(_) => None,
        }
    }
}

impl From<UntrustedError> for io::Error {
    fn from(error: UntrustedError) -> Self {
        let kind = match &error.reason {
            Reason::Refused(_) => io::ErrorKind::InvalidData,
            Reason::Io(error) => error.kind(),
        };
        Self::new(kind, error)
    }
}
