//! What can go wrong with the store; each message says what, where and what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder of the results is not there.
    #[error("{}: no results here; set output_dir (or --output-dir) to the folder ci-daemon writes to", .0.display())]
    NoResults(PathBuf),
    /// The operating system refused.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another writer has the folder.
    #[error("{}: another ci-daemon is writing here{}; stop it first", dir.display(), pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    Locked {
        /// The folder of the results.
        dir: PathBuf,
        /// Its process id, where it can be read.
        pid: Option<u32>,
    },
    /// A branch whose user and name are too long for the name of its file.
    #[error(
        "branch {branch} cannot be stored: user and branch together are longer than a file name can be (240 bytes)"
    )]
    BranchName {
        /// The branch.
        branch: model::BranchRef,
    },
    /// A write failed; it was tried on behalf of several callers, each is told.
    #[error("{0}")]
    Write(String),
    /// The writer has been closed or its thread is gone.
    #[error("the result store is closed")]
    Closed,
}

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.into(), source }
    }

    pub(crate) fn damaged(path: &Path, why: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.into(), why: why.to_string() }
    }
}
