//! Why there is no kernel. The first variant is a verdict about the source; the others are not.

use std::path::{Path, PathBuf};

use debian::DebianError;
use gitio::GitError;
use spawn::SpawnError;

use crate::check::Unmet;

/// Why a build did not give a kernel. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The source does not compile or link: a verdict about the commit.
    #[error("does not build: {reason}")]
    DoesNotBuild {
        /// The first error, paths relative to the source: `fs/ext4/super.c:12:5: error: ...`.
        reason: String,
        /// make's whole output.
        log: PathBuf,
    },
    /// Required options did not take their value.
    #[error("{}", unmet_line(unmet))]
    Requirements {
        /// Each with the dependency that is not met.
        unmet: Vec<Unmet>,
    },
    /// There is no such source.
    #[error("{0}")]
    Source(String),
    /// This host cannot build: a program, memory or space is missing, or something was killed.
    #[error("{0}")]
    Infrastructure(String),
}

fn unmet_line(unmet: &[Unmet]) -> String {
    let list: Vec<String> = unmet.iter().map(ToString::to_string).collect();
    let names: Vec<String> = unmet.iter().map(|unmet| format!("--tolerate {}", unmet.option.name)).collect();
    format!("required options did not take: {} (or {})", list.join("; "), names.join(" "))
}

impl BuildError {
    /// An input or output error on `path`.
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::Infrastructure(format!("{}: {error}", path.display()))
    }
}

impl From<SpawnError> for BuildError {
    fn from(error: SpawnError) -> Self {
        Self::Infrastructure(error.to_string())
    }
}

impl From<DebianError> for BuildError {
    fn from(error: DebianError) -> Self {
        Self::Infrastructure(error.to_string())
    }
}

impl From<GitError> for BuildError {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Open { .. } | GitError::NoSuchCommit { .. } | GitError::Unborn { .. } => {
                Self::Source(error.to_string())
            }
            other => Self::Infrastructure(other.to_string()),
        }
    }
}
