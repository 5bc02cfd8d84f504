//! The error type of the modules that work with paths.

use std::io;
use std::path::{Path, PathBuf};

/// A failed file operation. The message names the operation, the path and the cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct Error {
    /// A verb: "read", "create", "remove".
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl Error {
    /// For `map_err`: adds the operation and the path to an [`io::Error`].
    pub fn of<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl Fn(E) -> Self {
        move |error| Self { action, path: path.into(), source: error.into() }
    }

    /// True if the file or directory does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// The kind of the cause.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
