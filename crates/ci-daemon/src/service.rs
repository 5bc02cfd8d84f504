//! What the service manager is told: ready, alive, stopping. Nothing where none listens (`NOTIFY_SOCKET`).

use sd_notify::NotifyState;

/// The daemon has begun its work.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon still goes round; to be said more often than every `WatchdogSec=`.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The daemon is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
