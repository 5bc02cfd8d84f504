//! Runs on other machines: what is sent there, what comes back, and what becomes of both when the line breaks.
//!
//! A batch on another host is a process here that looks like `ktest run --events`: it prints the same events, leaves the
//! same files in its output folder, and when it is gone, what it started over there is gone soon after.

pub mod backoff;
pub mod check;
pub mod frame;
pub mod kernels;
pub mod link;
pub mod lock;
pub mod pack;
pub mod run;
pub mod serve;
pub mod slurm;
pub mod target;

/// The version of the language between `ktest host run` and `ktest host serve`.
pub const PROTOCOL: u32 = 2;

/// Why a host did not do what was asked. Each is one line that names the host or the place, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It cannot be reached.
    #[error("host {host}: {why}")]
    Unreachable {
        /// Which.
        host: String,
        /// What ssh says.
        why: String,
    },
    /// It was not reached lately and is left alone for a while.
    #[error("host {host}: not tried again for {left_s} s: {why}")]
    BackedOff {
        /// Which.
        host: String,
        /// Seconds until the next try.
        left_s: u64,
        /// What was wrong the last time.
        why: String,
    },
    /// What answers there cannot be used.
    #[error("host {host}: {what}")]
    Unfit {
        /// Which.
        host: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The line broke, or the host hangs.
    #[error("host {host}: {what}; what has no verdict runs again elsewhere")]
    Lost {
        /// Which.
        host: String,
        /// How.
        what: String,
    },
    /// Something on this side.
    #[error("{0}")]
    Here(String),
}

impl HostError {
    /// A fault of this machine's files.
    pub(crate) fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Here(format!("{}: {error}", path.display()))
    }
}

impl From<spawn::SpawnError> for HostError {
    fn from(error: spawn::SpawnError) -> Self {
        Self::Here(error.to_string())
    }
}
