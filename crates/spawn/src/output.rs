//! How a process ended, what it printed, and the limits of both.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

/// How a process ended. Death by a signal is never success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

impl Exit {
    /// True if it exited with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => Self::Code(code),
            None => Self::Signal(status.signal().unwrap_or(0)),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => {
                write!(f, "killed by signal {signal}")?;
                match Signal::from_named_raw(*signal) {
                    Some(Signal::XFSZ) => write!(f, ": it wrote a file larger than the limit"),
                    Some(Signal::XCPU) => write!(f, ": it exceeded the limit of CPU time"),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The result of a process with captured output.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The last line of standard error that is not empty. Most programs report their failure there.
    #[must_use]
    pub fn error_line(&self) -> String {
        let text = self.error_text();
        text.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it printed no error message")
            .trim()
            .into()
    }
}

/// Limits of a process with captured output.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Wall time.
    pub time: Duration,
    /// Bytes of standard output and of standard error, each.
    pub bytes: usize,
}

impl Limits {
    /// A time limit in seconds, and 64 MiB of output.
    #[must_use]
    pub fn seconds(seconds: u64) -> Self {
        Self { time: Duration::from_secs(seconds), bytes: 64 << 20 }
    }
}
