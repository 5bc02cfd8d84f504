//! What can be wrong with a configuration. Every message is one line: where, what, and the nearest valid name.

use std::path::PathBuf;

use crate::fault::Problem;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none.
    #[error("no configuration found; write {} or name one with --config (looked at: {})",
        places.first().map(|p| p.display().to_string()).unwrap_or_default(),
        places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound {
        /// Where it was looked for.
        places: Vec<PathBuf>,
    },
    /// A file or folder of it cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file's ending says neither TOML nor JSON5.
    #[error("{}: its name ends neither in .toml nor in .json5; rename it", path.display())]
    Format {
        /// Which.
        path: PathBuf,
    },
    /// Two files speak for one user.
    #[error("{}: user {user:?} has another file, {}; keep one", path.display(), other.display())]
    TwoFiles {
        /// The second.
        path: PathBuf,
        /// The user.
        user: model::UserName,
        /// The first.
        other: PathBuf,
    },
    /// A user's file whose name cannot be a user's.
    #[error("{}: {error}; rename the file", path.display())]
    UserName {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: model::NameError,
    },
    /// Something in a file is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        problem: Box<Problem>,
    },
}
