//! Errors of runs on other hosts. Each message is one line that contains the host or the file, and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gitio::GitError;
use spawn::SpawnError;

/// A failure of a run on another host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The host cannot be reached.
    #[error("host {host}: {cause}")]
    Unreachable {
        /// The host.
        host: String,
        /// The cause.
        #[source]
        cause: ConnectError,
    },
    /// The host was recently unreachable and is not retried yet.
    #[error("host {host}: not tried again for {left_s} s: {cause}")]
    BackedOff {
        /// The host.
        host: String,
        /// The time until the next attempt, in seconds.
        left_s: u64,
        /// The error of the last attempt.
        cause: String,
    },
    /// The host responds, but cannot be used.
    #[error("host {host}: {problem}")]
    Unfit {
        /// The host.
        host: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The connection broke, or the host hangs.
    #[error("host {host}: {problem}; tests without a verdict run again on another host")]
    Lost {
        /// The host.
        host: String,
        /// What happened.
        problem: String,
    },
    /// A failure of this machine.
    #[error(transparent)]
    Local(#[from] LocalError),
}

/// Why no connection was established.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// ssh could not be run.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// ssh did not connect before the time limit.
    #[error("no connection within {} s", .0.as_secs())]
    TimeOut(Duration),
    /// ssh reported an error.
    #[error("{0}")]
    Ssh(String),
    /// sbatch reported an error.
    #[error("{0}")]
    Slurm(String),
}

/// A failure of this machine.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fsx::Error),
    /// A lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] fsx::lock::LockError),
    /// Something in a directory that untrusted code writes was refused.
    #[error(transparent)]
    Untrusted(#[from] fsx::untrusted::UntrustedError),
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A program could not be run.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A repository or the mirror cannot be used.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The kernel store failed.
    #[error(transparent)]
    Kernel(#[from] kernel::BuildError),
    /// The store does not have the kernel.
    #[error("the store of this host has no kernel {0}")]
    NoKernel(String),
    /// The tree contains no tests.
    #[error("{}: it has no directory \"tests\"", .0.display())]
    NoTests(PathBuf),
    /// The received tests are too large.
    #[error("the tests have more than {} MiB", .0 >> 20)]
    TestsTooLarge(u64),
    /// The other end sent an invalid name.
    #[error("{0:?} is not the name of {1}")]
    Name(String, &'static str),
    /// The directory of the ssh sockets belongs to another user.
    #[error("{}: belongs to another user or is accessible to others; remove it", .0.display())]
    SocketDir(PathBuf),
    /// The process that holds a slot does not exit.
    #[error("{}: the process that holds this lock cannot be killed", .0.display())]
    SlotHeld(PathBuf),
    /// The other end sent a message that is not allowed at this time.
    #[error("unexpected message from the other end; install the same ktest on both hosts")]
    UnexpectedMessage,
    /// A message of the other end cannot be read.
    #[error(transparent)]
    Protocol(#[from] crate::frame::ReadError),
    /// The other end has stopped reading.
    #[error("the connection was closed by the other end")]
    Closed,
    /// The description of a Slurm job is damaged.
    #[error("{}: {cause}", path.display())]
    Task {
        /// The file.
        path: PathBuf,
        /// The error of the parser.
        #[source]
        cause: serde_json::Error,
    },
}

impl LocalError {
    /// For `map_err`: adds the path to an error.
    pub(crate) fn io<E: Into<io::Error>>(path: &Path) -> impl Fn(E) -> Self {
        move |error| Self::Io { path: path.into(), source: error.into() }
    }
}

macro_rules! local_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for HostError {
            fn from(error: $error) -> Self {
                Self::Local(error.into())
            }
        })*
    };
}

local_errors!(
    fsx::Error,
    fsx::lock::LockError,
    fsx::untrusted::UntrustedError,
    SpawnError,
    GitError,
    kernel::BuildError
);
