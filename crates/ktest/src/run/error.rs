//! Why a run ends early: an error of the user or the infrastructure, or a reason that becomes a verdict.

use std::fmt;

use testfile::TestFileError;

use crate::out::OutError;

/// Why a run has no verdicts.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The test file cannot be used.
    #[error(transparent)]
    TestFile(TestFileError),
    /// The kernel source cannot be used.
    #[error("{0}")]
    Source(String),
    /// The selftests of the kernel source cannot be used, for example because they do not build.
    #[error("{0}")]
    Selftests(String),
    /// The repository has no such commit. A farm only requests commits of its repository, so there it is an
    /// infrastructure error.
    #[error("{0}")]
    Commit(String),
    /// The order is invalid.
    #[error("{0}")]
    Usage(String),
    /// An infrastructure error.
    #[error("{0}")]
    Infrastructure(String),
}

impl RunError {
    /// An infrastructure error.
    pub(crate) fn infrastructure(error: impl fmt::Display) -> Self {
        Self::Infrastructure(error.to_string())
    }

    /// The log of the run cannot be written.
    pub(crate) fn log(error: impl fmt::Display) -> Self {
        Self::Infrastructure(format!("cannot write the log: {error}"))
    }
}

impl From<TestFileError> for RunError {
    fn from(error: TestFileError) -> Self {
        if error.is_of_host() { Self::infrastructure(error) } else { Self::TestFile(error) }
    }
}

impl From<OutError> for RunError {
    /// An error of the output directory is one of this host, never of the commit or the test file. This includes a
    /// directory that is in use: `git bisect run` treats a usage error as bad.
    fn from(error: OutError) -> Self {
        Self::infrastructure(error)
    }
}

/// The remaining subtests cannot run. The cause is the commit or the test file, so each gets the verdict Failed to run.
#[derive(Debug)]
pub(super) struct CannotRun {
    pub(super) reason: String,
    /// The log of each subtest; empty if there is none.
    pub(super) log: Vec<u8>,
}

impl CannotRun {
    pub(super) fn because(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), log: Vec::new() }
    }
}

/// Why the rest of a run is skipped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The remaining subtests get a verdict.
    CannotRun(CannotRun),
    /// The run itself failed.
    Error(RunError),
}

impl From<RunError> for Stop {
    fn from(error: RunError) -> Self {
        Self::Error(error)
    }
}

impl From<OutError> for Stop {
    fn from(error: OutError) -> Self {
        Self::Error(error.into())
    }
}

impl From<CannotRun> for Stop {
    fn from(cannot: CannotRun) -> Self {
        Self::CannotRun(cannot)
    }
}
