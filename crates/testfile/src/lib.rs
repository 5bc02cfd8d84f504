//! Test files on the host: find a file, list its subtests, evaluate its declarations.
//!
//! A test file is untrusted bash code: each call has a time limit and can run in the sandbox, and its output is
//! validated.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod call;
mod call_sandbox;
pub mod clones;
pub mod declare;
mod deps_cache;
mod find;
pub mod known_issues;
pub mod owners;
pub mod suites;
mod trust;

use std::path::PathBuf;

use model::{Arch, TestPath};

pub use call::parse_variables;
pub use declare::{Declarations, DeclareError};
pub use deps_cache::{clones_in, inherited_variables};
pub use trust::{Roots, Trust, reaches_host_through_qemu, refused};

/// Why a test file cannot be used. Each message is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum TestFileError {
    /// It does not exist.
    #[error("{0}: no such test file")]
    Missing(PathBuf),
    /// Its name does not end in `.ktest`.
    #[error("{0}: not a test file; its name must end in .ktest")]
    NotKtest(PathBuf),
    /// It is not executable.
    #[error("{0}: not executable; run chmod +x on it")]
    NotExecutable(PathBuf),
    /// It is not below a directory named `tests`.
    #[error("{0}: not below a directory named tests; pass --tests-dir DIR")]
    Outside(PathBuf),
    /// Its path cannot be used as the name of a result.
    #[error(transparent)]
    Name(#[from] model::NameError),
    /// A call of the file failed.
    #[error("{file} {call}: {problem}")]
    Call {
        /// The file.
        file: PathBuf,
        /// `deps` or `list-tests`.
        call: &'static str,
        /// The error, at most 400 characters.
        problem: String,
    },
    /// A failure of this host, not of the file.
    #[error("{file}: {problem}")]
    Host {
        /// The file.
        file: PathBuf,
        /// What failed.
        problem: String,
    },
    /// The sandbox does not work on this host.
    #[error("{file}: {source}")]
    Sandbox {
        /// The file.
        file: PathBuf,
        /// Why.
        source: sandbox::SandboxError,
    },
    /// A declaration is invalid.
    #[error("{file} {source}")]
    Declare {
        /// The file.
        file: PathBuf,
        /// The invalid declaration.
        source: DeclareError,
    },
}

impl TestFileError {
    /// Whether the host failed and not the file. Such an error never becomes a verdict.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        matches!(self, Self::Host { .. } | Self::Sandbox { .. })
    }

    /// Whether an operating system error for a file that the test file names is a failure of the host. A wrong name or
    /// a wrong type of file is not.
    pub(crate) fn is_failure_of_host(error: &std::io::Error) -> bool {
        use std::io::ErrorKind;
        !matches!(
            error.kind(),
            ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::PermissionDenied
                | ErrorKind::FileTooLarge
                | ErrorKind::InvalidData
                | ErrorKind::InvalidFilename
                | ErrorKind::InvalidInput
        )
    }
}

/// A test file and the tree that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFile {
    /// The absolute path of the file.
    pub path: PathBuf,
    /// The root of its tree: the parent directory of `tests/`.
    pub ktest_dir: PathBuf,
    /// Its name below `tests/`.
    pub test: TestPath,
}

/// The environment of a call of a test file on the host.
#[derive(Debug, Clone, Default)]
pub struct HostEnv {
    /// The guest's architecture; `None` means that of the host.
    pub arch: Option<Arch>,
    /// The output directory.
    pub out: PathBuf,
    /// The directory into which `require-git` clones.
    pub deps_dir: PathBuf,
    /// The output of `make kernelversion`.
    pub kernel_version: String,
    /// The test suites that the farm fetches.
    pub suites: Vec<suites::SuiteSource>,
    /// The variables that the user or the test group sets.
    pub env: Vec<(String, String)>,
    /// Run the call in the sandbox. Required for files that other users can change.
    pub sandboxed: bool,
    /// Whether declarations that access the host are refused.
    pub trust: Trust,
    /// The `ktest` command, with which a call outside the sandbox starts programs in it.
    pub ktest: Option<PathBuf>,
}

impl HostEnv {
    /// The environment in which a farm lists the subtests of a file, with the variables of its test group.
    pub fn for_listing(
        env: Vec<(String, String)>,
        suites: Vec<suites::SuiteSource>,
    ) -> Result<Self, fsx::Error> {
        let cache = kernel::Cache::from_env(|name| std::env::var_os(name)).ok();
        let deps_dir = cache.map(|cache| clones::of_listing(&cache, &env)).transpose()?.unwrap_or_default();
        Ok(Self { deps_dir, out: "ktest-out".into(), suites, env, sandboxed: true, ..Self::default() })
    }

    /// Whether the user or the test group lets the guest reach the network.
    fn grants_network(&self) -> bool {
        self.env.iter().any(|(name, value)| name == model::run_order::NETWORK_VARIABLE && value == "true")
    }
}

#[cfg(test)]
mod tests;
