//! Paths in a configuration: relative paths are relative to the file that contains them, and `~/` is the home
//! directory.

use std::path::{Path, PathBuf};

use crate::fault::Fault;
use crate::node::Node;

/// The directories that relative paths are resolved against.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    dir: PathBuf,
    home: Option<PathBuf>,
}

impl Paths {
    /// The base directories for the file `path`.
    pub fn of(path: &Path) -> Self {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
        Self { dir, home: crate::find::home() }
    }

    pub fn resolve(&self, key: &str, node: &Node) -> Result<PathBuf, Fault> {
        Ok(self.join(node.str(key)?))
    }

    pub fn join(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => tidy(&self.dir.join(text)),
        }
    }
}

/// Removes `.` components. `..` stays, because its meaning depends on symbolic links.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}
