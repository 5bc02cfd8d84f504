//! A request for a kernel: source, configuration, and how to build it.

use std::path::PathBuf;

use model::CommitId;

use crate::check::UnmetOption;
use crate::error::BuildError;
use crate::flavor::Flavor;

/// The source of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSource {
    /// A folder with the source in its present state. It is never written to.
    WorkingTree(PathBuf),
    /// A commit of a repository, which may be bare.
    Commit {
        /// The repository.
        repo: PathBuf,
        /// The commit.
        commit: CommitId,
    },
}

/// A request for a kernel.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The source.
    pub source: KernelSource,
    /// The configuration.
    pub flavor: Flavor,
    /// The number of parallel compiles.
    pub jobs: usize,
    /// Whether make runs in the sandbox, without network and access to the host.
    pub sandbox: bool,
    /// Options that may end up without their value, by name, with or without `CONFIG_`.
    pub tolerate: Vec<String>,
    /// The log of make's output. Not written if the kernel is in the store.
    pub out_log: PathBuf,
}

impl BuildRequest {
    fn tolerates(&self, name: &str) -> bool {
        self.tolerate.iter().any(|text| text.trim().strip_prefix("CONFIG_").unwrap_or(text.trim()) == name)
    }

    /// An error if an option without its value is not tolerated.
    pub(crate) fn refuse(&self, unmet: &[UnmetOption]) -> Result<(), BuildError> {
        let refused: Vec<_> =
            unmet.iter().filter(|unmet| !self.tolerates(&unmet.option.name)).cloned().collect();
        if refused.is_empty() { Ok(()) } else { Err(BuildError::Requirements { unmet: refused }) }
    }
}
