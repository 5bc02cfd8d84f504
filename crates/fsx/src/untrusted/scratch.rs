//! A temporary directory that untrusted code writes.

use std::io;
use std::path::{Path, PathBuf};

use crate::own;

/// A temporary directory for untrusted code. It is removed with its contents when the value is dropped, even if the code
/// removed permissions or created a tree of any depth there.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Creates a directory in `parent`, with a random name that starts with `prefix`.
    pub fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        Ok(Self { path: dir.keep() })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What remains is in a directory of temporary files.
        let _ = own::remove_tree(&self.path);
    }
}
