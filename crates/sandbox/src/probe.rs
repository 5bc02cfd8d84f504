//! Checks that the sandbox works on this host. There is no fallback to a weaker sandbox.

use std::time::Duration;

use fsx::untrusted::Scratch;
use spawn::{Limits, SpawnError};
use tokio::sync::OnceCell;

use crate::builder::Sandbox;
use crate::resources::{PRLIMIT, can_limit};

/// Why the sandbox does not work on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// Bubblewrap is not installed.
    #[error("the sandbox does not start: bubblewrap is not installed; apt-get install bubblewrap")]
    NotInstalled,
    /// Bubblewrap lacks an option.
    #[error("the sandbox does not start: bubblewrap is too old ({0}); install version 0.8.0 or later")]
    TooOld(String),
    /// The program that sets the limits is missing.
    #[error("the sandbox does not start: {PRLIMIT} is missing; apt-get install util-linux")]
    NoPrlimit,
    /// Bubblewrap failed.
    #[error(
        "the sandbox does not start: {0}; allow this account to create user namespaces (see `ktest doctor`)"
    )]
    Refused(String),
    /// Bubblewrap could not be started, or this host cannot give the sandbox of root a directory to write to.
    #[error("the sandbox does not start: {0}")]
    NotStarted(String),
}

/// Checks that the sandbox works on this host. A success is cached for the lifetime of the process.
pub async fn probe() -> Result<(), SandboxError> {
    static WORKS: OnceCell<()> = OnceCell::const_new();
    WORKS.get_or_try_init(probe_now).await.copied()
}

/// Checks without the cache, to find out whether this host is the cause of a failure in the sandbox.
pub async fn probe_now() -> Result<(), SandboxError> {
    if !can_limit() {
        return Err(SandboxError::NoPrlimit);
    }
    let limits = Limits { time: Duration::from_secs(20), bytes: 1 << 20 };
    let not_started = |error: &dyn std::fmt::Display| SandboxError::NotStarted(error.to_string());
    let dir = Scratch::temporary().map_err(|error| not_started(&error))?;
    let sandbox = Sandbox::new().writable(dir.path(), "/ktest-probe").dir("/ktest-probe");
    match sandbox.command("touch").arg("file").output(limits).await {
        Ok(output) if output.exit.success() => Ok(()),
        Ok(output) => {
            let complaint = output.error_line();
            let text = String::from_utf8_lossy(&output.stderr);
            let unknown = text.lines().find(|line| line.contains("Unknown option"));
            Err(unknown.map_or(SandboxError::Refused(complaint), |line| SandboxError::TooOld(line.into())))
        }
        Err(SpawnError::NotFound { .. }) => Err(SandboxError::NotInstalled),
        Err(error @ SpawnError::Start { .. }) => Err(not_started(&error)),
        Err(error) => Err(SandboxError::Refused(error.to_string())),
    }
}
