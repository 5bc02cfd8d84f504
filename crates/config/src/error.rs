//! The errors of a configuration. Every message is one line.

use std::path::{Path, PathBuf};

use crate::fault::Problem;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file was found.
    #[error("no configuration found; write {} or name one with --config (not found: {})",
        paths.first().map(|p| p.display().to_string()).unwrap_or_default(),
        paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound {
        /// The paths that do not exist.
        paths: Vec<PathBuf>,
    },
    /// A file or directory cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The file name ends neither in `.toml` nor in `.json5`.
    #[error("{}: its name ends neither in .toml nor in .json5; rename it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A user has two files.
    #[error("{}: user {user:?} already has the file {}; remove one", path.display(), other.display())]
    TwoFiles {
        /// The second.
        path: PathBuf,
        /// The user.
        user: model::UserName,
        /// The first.
        other: PathBuf,
    },
    /// The name of a user's file is not a user name.
    #[error("{}: {error}; rename the file", path.display())]
    UserName {
        /// The file.
        path: PathBuf,
        /// The error.
        error: model::NameError,
    },
    /// A user's file is empty, for example because the disk is full or an editor is writing it.
    #[error("{}: the file is empty; remove it if the user has no branches", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// An error at a line of a file.
    #[error("{}:{line}: {problem}", path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The error.
        problem: Box<Problem>,
    },
}

impl ConfigError {
    /// The file or directory that cannot be used.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::NotFound { .. } => None,
            Self::Read { path, .. }
            | Self::Format { path }
            | Self::TwoFiles { path, .. }
            | Self::UserName { path, .. }
            | Self::EmptyFile { path }
            | Self::At { path, .. } => Some(path),
        }
    }
}
