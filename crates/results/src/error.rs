//! The errors of the store. Each message states what failed, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory of the results is missing.
    #[error("{}: no results here; set output_dir (or --output-dir) to the directory that ci-daemon writes to", .0.display())]
    NoResults(PathBuf),
    /// An operation on a file failed.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The operation: "read", "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An operation on the database failed.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Database {
        /// The operation: "read", "write".
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The database has a schema of a newer version.
    #[error("{}: written by a newer ci-daemon (schema {found}, this one reads up to {known}); use that version, or restore a backup", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The newest version that this program reads.
        known: i64,
    },
    /// The content of a file is damaged.
    #[error("{}: damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another writer has locked the directory.
    #[error("{}: another ci-daemon is writing here{}; stop it first", dir.display(), pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    Locked {
        /// The directory of the results.
        dir: PathBuf,
        /// Its process id, if it can be read.
        pid: Option<u32>,
    },
    /// A branch with a user name and branch name that are too long for a file name.
    #[error(
        "branch {branch} cannot be stored: user and branch together are longer than a file name can be (240 bytes)"
    )]
    BranchName {
        /// The branch.
        branch: model::BranchRef,
    },
    /// A write on behalf of several callers failed; each gets the message.
    #[error("{0}")]
    Write(String),
    /// The writer is closed, or its thread has ended.
    #[error("the result store is closed")]
    Closed,
}

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.into(), source }
    }

    pub(crate) fn database(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { doing, path: path.into(), source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.into(), reason: reason.to_string() }
    }
}
