//! The failure of a command of the `ktest` command line.

use std::fmt::Display;
use std::process::ExitCode;

use crate::run::{KernelArgError, RunError};

/// An error message with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    /// A usage error: exit code 2.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// No verdict is possible: exit code 125.
    pub(crate) fn unjudged(message: impl Display) -> Self {
        Self { code: 125, message: message.to_string() }
    }

    /// Prints the message to standard error.
    pub(crate) fn print(&self) -> ExitCode {
        stdio::error("ktest", &self.message);
        ExitCode::from(self.code)
    }
}

impl From<stdio::OutputError> for Failure {
    fn from(error: stdio::OutputError) -> Self {
        Self::unjudged(error)
    }
}

impl From<KernelArgError> for Failure {
    fn from(error: KernelArgError) -> Self {
        if error.is_of_host() { Self::unjudged(error) } else { Self::usage(error) }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self { code: exit_code(&error), message: error.to_string() }
    }
}

/// The exit code of an error that ends a run.
pub(crate) fn exit_code(error: &RunError) -> u8 {
    match error {
        RunError::Infrastructure(_) => 125,
        RunError::TestFile(_)
        | RunError::Source(_)
        | RunError::Selftests(_)
        | RunError::Commit(_)
        | RunError::Usage(_) => 2,
    }
}
