//! Notifications to the service manager: ready, alive, stopping. None are sent without `NOTIFY_SOCKET`.

use sd_notify::NotifyState;

/// The daemon is ready.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that the daemon is alive. Call it more often than `WatchdogSec=`.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Reports that the daemon is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager cannot be notified: {error}");
    }
}
