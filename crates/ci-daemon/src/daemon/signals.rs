//! The signals that stop the daemon.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::DaemonError;
use crate::audit::{AuditAction, AuditLog, Requester};

/// The signals that stop the daemon.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

pub(super) fn listen(kind: SignalKind) -> Result<Signal, DaemonError> {
    signal(kind).map_err(|source| DaemonError::Io { action: "cannot listen to signals", source })
}

impl Signals {
    pub fn listen() -> Result<Self, DaemonError> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Completes when the daemon must stop.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

pub(super) async fn forward(mut signal: Signal, fetch_now: watch::Sender<()>, audit: AuditLog) {
    while signal.recv().await.is_some() && fetch_now.send(()).is_ok() {
        audit.record(AuditAction::Fetch, Requester::Signal);
        tracing::info!("SIGUSR1: fetching now");
    }
}
