//! Why there is no kernel. [`BuildError::DoesNotBuild`] is a verdict about the source; a failure of this host is never
//! reported as one. Every message is one line.

use std::path::{Path, PathBuf};

use debian::DebianError;
use fsx::untrusted::{Reason, UntrustedError};
use gitio::GitError;
use pkgrepo::RepoError;
use sandbox::SandboxError;
use spawn::SpawnError;

use crate::check::UnmetOption;
use crate::state::BeginError;

/// Why a build did not produce a kernel.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The source does not compile or link: a verdict about the commit.
    #[error("does not build: {reason}")]
    DoesNotBuild {
        /// The first error, with paths relative to the source: `fs/ext4/super.c:12:5: error: ...`.
        reason: String,
        /// The complete output of make.
        log: PathBuf,
    },
    /// Required options did not get their value.
    #[error("{}", unmet_line(unmet))]
    Requirements {
        /// Each with its unmet dependency.
        unmet: Vec<UnmetOption>,
    },
    /// The request specifies something that cannot be built.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// This host cannot build.
    #[error(transparent)]
    Infrastructure(#[from] InfrastructureError),
}

/// A request that cannot be built: invalid names, or a source without a kernel.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The repository or the commit does not exist.
    #[error(transparent)]
    Git(GitError),
    /// The commit contains no kernel.
    #[error("commit {0}: not a kernel source tree, it has no Kconfig; see -k")]
    NoKconfig(String),
    /// git refuses to write the files of the commit.
    #[error(transparent)]
    InvalidTree(GitError),
    /// The directory contains no kernel source.
    #[error("{}: not a kernel source tree; give one with -k", .0.display())]
    NoSourceTree(PathBuf),
    /// The working tree contains build products, which make would use instead of those in the object directory.
    #[error(
        "{}: was built in place; run `make mrproper` in it first (it deletes .config, keep a copy)",
        .0.display()
    )]
    BuiltInPlace(PathBuf),
    /// make does not support this path.
    #[error(
        "{}: kernels cannot be built at a path with spaces or colons; move it (KTEST_CACHE_DIR sets the cache)",
        .0.display()
    )]
    UnusablePath(PathBuf),
    /// The directory contains no finished build.
    #[error("{}: no built kernel for {arch} in this directory; build one there, or use -k debian/trixie", dir.display())]
    NotBuilt {
        /// The directory.
        dir: PathBuf,
        /// The architecture of the run.
        arch: model::Arch,
    },
    /// Neither the modules nor the boot image of a kernel have its release.
    #[error("{}: the release of vmlinuz is not known; add lib/modules/RELEASE", .0.display())]
    NoRelease(PathBuf),
    /// The release in the source's Makefile is not a valid directory name.
    #[error("{0:?} is not a kernel release; see the source's Makefile")]
    Release(String),
    /// The kernel has no such make target for its configuration.
    #[error("make {0}: this kernel has no such target")]
    NoTarget(String),
    /// The compiler name is not accepted.
    #[error("{0:?} is not a compiler; write gcc, gcc-13, clang, clang-17 or a path")]
    Compiler(String),
    /// An argument of `config-make` is not an assignment.
    #[error("make argument {0:?} is not of the form NAME=VALUE")]
    MakeArgument(String),
    /// A make target contains characters that no target has.
    #[error("{0:?} is not a make target")]
    MakeTarget(String),
    /// The base configuration cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    BaseConfig {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        cause: std::io::Error,
    },
    /// The kernel was stored without headers.
    #[error(
        "kernel {id} ({release}): the store has no headers of it; kernels built here with MODULES=y have them"
    )]
    NoHeaders {
        /// The short id.
        id: String,
        /// Its release.
        release: String,
    },
}

/// A failure of this host: a program, memory or disk space is missing, or a process was killed.
#[derive(Debug, thiserror::Error)]
pub enum InfrastructureError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fsx::Error),
    /// A lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] fsx::lock::LockError),
    /// The operating system reported an error for a file in a directory that a build writes.
    #[error(transparent)]
    Untrusted(UntrustedError),
    /// A file operation in a library failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A program could not be run.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// git failed.
    #[error(transparent)]
    Git(GitError),
    /// The mirror does not have the distribution kernel.
    #[error("kernel {name} {}: {cause}", model::KERNEL_NOT_FOUND)]
    KernelNotFound {
        /// The complete name.
        name: model::StoreKernel,
        /// The cause.
        cause: String,
    },
    /// A package of another repository is not available.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A distribution package is not available.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// A program is missing.
    #[error("{program}: not installed; apt-get install {package}")]
    Missing {
        /// The program.
        program: String,
        /// The package that contains it.
        package: &'static str,
    },
    /// A C header is missing.
    #[error("gelf.h is missing; apt-get install libelf-dev")]
    MissingLibelf,
    /// A program failed.
    #[error("{program}: {complaint}")]
    Program {
        /// The program and what it did.
        program: String,
        /// Its last error line.
        complaint: String,
    },
    /// make failed because of this host: a full disk, no memory.
    #[error("{reason}; see {}", log.display())]
    Make {
        /// The first line that indicates it.
        reason: String,
        /// The complete output of make.
        log: PathBuf,
    },
    /// make exceeded its time limit.
    #[error("make: killed, it ran longer than {0} s")]
    MakeTimeOut(u64),
    /// A kernel differs from a clean build of the same source: a cache is damaged, or the build is not reproducible.
    #[error(
        "{}: flavor {flavor}, image {cached}, of a clean build {clean}; the objects and the compiler cache of this trust \
         domain were removed, and the next attempt is a clean build",
        model::CACHED_BUILD_DIFFERS
    )]
    CachedBuildDiffers {
        /// The flavor.
        flavor: String,
        /// The hash of the image.
        cached: String,
        /// The hash of the image of the clean build, or why it failed.
        clean: String,
    },
    /// A file operation exceeded its time limit.
    #[error("{action} took longer than {seconds} s; is the disk hung?")]
    FilesTimeOut {
        /// What it did.
        action: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// The build sandbox does not start.
    #[error(
        "{0}; or build with --no-sandbox (then a branch's Makefile has your permissions and network access)"
    )]
    Sandbox(#[source] SandboxError),
    /// The package lacks something that a kernel needs.
    #[error("package {package}: it contains {missing}")]
    Package {
        /// Its name and version.
        package: String,
        /// What is missing, such as "no modules".
        missing: &'static str,
    },
    /// The cache directory is not known.
    #[error("neither KTEST_CACHE_DIR nor HOME is set; set one")]
    NoCacheDir,
    /// A kernel received from another host is not accepted.
    #[error("kernel {id}: {problem}")]
    Received {
        /// The short id.
        id: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A task of this process panicked.
    #[error("a task of the build failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

fn unmet_line(unmet: &[UnmetOption]) -> String {
    let list: Vec<String> = unmet.iter().map(ToString::to_string).collect();
    let names: Vec<String> = unmet.iter().map(|unmet| format!("--tolerate {}", unmet.option.name)).collect();
    format!("required options are unmet: {}; to build anyway: {}", list.join("; "), names.join(" "))
}

impl InfrastructureError {
    /// For `map_err`: adds the path to an [`std::io::Error`].
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { path: path.into(), source }
    }

    pub(crate) fn program(program: impl Into<String>, complaint: String) -> Self {
        Self::Program { program: program.into(), complaint }
    }
}

impl From<GitError> for BuildError {
    fn from(error: GitError) -> Self {
        match error {
            GitError::InvalidTree { .. } => SourceError::InvalidTree(error).into(),
            GitError::Open { .. }
            | GitError::NoSuchCommit { .. }
            | GitError::NoSuchPath { .. }
            | GitError::Unborn { .. } => SourceError::Git(error).into(),
            other => InfrastructureError::Git(other).into(),
        }
    }
}

/// Implements `?` conversions from errors of this host to [`BuildError`].
macro_rules! host_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for BuildError {
            fn from(error: $error) -> Self {
                Self::Infrastructure(error.into())
            }
        })*
    };
}

host_errors!(fsx::Error, fsx::lock::LockError, SpawnError, DebianError, tokio::task::JoinError);

/// Why compiling or packing did not produce a kernel, before the path of the log is known.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// The source is the cause.
    Failed {
        /// The reason.
        reason: String,
        /// Whether another attempt would fail in the same way, so that the failure can be stored.
        certain: bool,
    },
    /// Anything else.
    Other(BuildError),
}

impl<E: Into<BuildError>> From<E> for CompileError {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl From<BeginError> for CompileError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::State(error) => error.into(),
            BeginError::Objects(error) => error.into(),
        }
    }
}

impl From<UntrustedError> for CompileError {
    /// A link, a FIFO or a missing file in the build's output was caused by the branch's Makefile.
    fn from(error: UntrustedError) -> Self {
        let name = error.relative.display().to_string();
        match &error.reason {
            Reason::Refused(problem) => {
                Self::Failed { reason: format!("the build left {name:?}: it {problem}"), certain: false }
            }
            Reason::Io(_) if error.is_not_found() => {
                Self::Failed { reason: format!("the build did not create {name:?}"), certain: false }
            }
            Reason::Io(_) => Self::Other(InfrastructureError::Untrusted(error).into()),
        }
    }
}
