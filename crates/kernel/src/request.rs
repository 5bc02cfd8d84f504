//! A request for a kernel: source, configuration, and how to build it.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use model::{CommitId, TrustDomain};

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
    /// Whose objects and compiler cache are used, and who may use the kernel; `None`: a developer's own.
    pub trust: Option<TrustDomain>,
    /// One kernel in this many is built a second time from nothing, and the images are compared; 0: none.
    pub verify_every: u32,
    /// The log of make's output. Not written if the kernel is in the store.
    pub out_log: PathBuf,
}

impl BuildRequest {
    /// Whether this build is one of those that are compared with a clean one. Random, so that no branch can foresee it.
    pub(crate) fn is_verified(&self) -> bool {
        let number = || RandomState::new().hash_one(());
        // Outside the sandbox the path of the objects is a part of their content.
        self.sandbox && self.verify_every > 0 && number() % u64::from(self.verify_every) == 0
    }

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
