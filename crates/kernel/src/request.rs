//! A request for a kernel: the source, the configuration, and how to build it.

use std::path::PathBuf;

use model::{CommitId, TrustDomain};

use crate::check::UnmetOption;
use crate::error::BuildError;
use crate::flavor::Flavor;

/// The source of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSource {
    /// A directory with the source in its current state. It is never written to.
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
    /// The number of parallel compilers.
    pub jobs: usize,
    /// Whether make runs in the sandbox, without access to the network and the host.
    pub sandbox: bool,
    /// Options that may end up without their required value, by name, with or without `CONFIG_`.
    pub tolerate: Vec<String>,
    /// The trust domain that the objects, the compiler cache and the kernel belong to; `None` for a developer's own
    /// builds.
    pub trust: Option<TrustDomain>,
    /// One in this number of kernels is built again from scratch, and the images are compared; 0 disables this.
    pub verify_every: u32,
    /// One in this number of kernels that need no build, because their commit changes no file that is part of it, is built
    /// all the same and compared; with 0, all kernels are built.
    pub check_predicted: u32,
    /// The path for the output of make. Not written if the kernel is in the store.
    pub out_log: PathBuf,
}

/// The usual [`BuildRequest::check_predicted`].
pub const CHECK_PREDICTED: u32 = 20;

impl BuildRequest {
    /// Whether a kernel of another commit may be used. Outside the sandbox, make can read any file of the host.
    pub(crate) fn predicts(&self) -> bool {
        self.sandbox && self.check_predicted > 0
    }

    /// Whether this kernel is built although it is predicted. The choice is random, so that a branch cannot predict it.
    pub(crate) fn is_prediction_checked(&self) -> bool {
        fsx::random::bits().is_multiple_of(u64::from(self.check_predicted.max(1)))
    }

    /// Whether this build is compared with a clean one. The choice is random, so that a branch cannot predict it.
    pub(crate) fn is_verified(&self) -> bool {
        // Outside the sandbox, the content of the objects depends on their path.
        self.sandbox
            && self.verify_every > 0
            && fsx::random::bits().is_multiple_of(u64::from(self.verify_every))
    }

    fn tolerates(&self, name: &str) -> bool {
        self.tolerate.iter().any(|text| text.trim().strip_prefix("CONFIG_").unwrap_or(text.trim()) == name)
    }

    /// Returns an error if an unmet option is not tolerated.
    pub(crate) fn refuse(&self, unmet: &[UnmetOption]) -> Result<(), BuildError> {
        let refused: Vec<_> =
            unmet.iter().filter(|unmet| !self.tolerates(&unmet.option.name)).cloned().collect();
        if refused.is_empty() { Ok(()) } else { Err(BuildError::Requirements { unmet: refused }) }
    }
}
