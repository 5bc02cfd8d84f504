//! Errors of starting and running a process.

use std::io;
use std::time::Duration;

/// Why a command could not be run until it exits. A failure of the program itself is an [`Exit`](crate::Exit).
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program is not installed.
    #[error("{program}: not installed{hint}")]
    NotFound {
        /// The program.
        program: String,
        /// `; apt-get install PACKAGE`, or empty if the package is not known.
        hint: String,
    },
    /// It cannot be started.
    #[error("{program}: cannot be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// It exceeded its time limit and was killed.
    #[error("{program}: killed, it ran longer than {} s", limit.as_secs())]
    Time {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It printed nothing for its progress time limit and was killed.
    #[error("{program}: killed, it made no progress for {} s", limit.as_secs())]
    Idle {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It exceeded the limit of its output and was killed.
    #[error("{program}: killed, it printed more than {limit} bytes")]
    Size {
        /// The program.
        program: String,
        /// The limit.
        limit: usize,
    },
    /// Its input or output failed.
    #[error("{program}: {source}")]
    Io {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
}
