//! The delay before an unreachable host is tried again. It increases with every consecutive failure.
//!
//! It is stored in a file that all slots share and that survives a restart of the daemon.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The delay after the first failure, in seconds. It doubles with each further failure.
const FIRST_S: i64 = 5;
/// The maximum delay, in seconds.
const MAX_S: i64 = 600;

/// The health of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The number of consecutive failures.
    pub failures: u32,
    /// The time of the next attempt, in Unix seconds.
    pub retry_at: i64,
    /// The error of the last attempt.
    #[serde(rename = "why")]
    pub cause: String,
}

impl Health {
    /// Reads the stored health. An unreadable file counts as healthy.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let text = fsx::own::read_to_string(path, 1 << 20).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The time until the next attempt, in seconds; `None` if it is allowed now. A time beyond the maximum is the
    /// result of a wrong clock and is ignored.
    #[must_use]
    pub fn wait(&self, now: i64) -> Option<u64> {
        let left = self.retry_at.saturating_sub(now);
        (self.failures > 0 && left > 0 && left <= MAX_S).then_some(left.unsigned_abs())
    }

    /// The health after another failure.
    #[must_use]
    pub fn failed(&self, cause: &str, now: i64) -> Self {
        let failures = self.failures.saturating_add(1);
        let wait =
            FIRST_S.checked_shl(failures - 1).filter(|wait| *wait > 0).map_or(MAX_S, |wait| wait.min(MAX_S));
        Self { failures, retry_at: now.saturating_add(wait), cause: cause.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_grows_up_to_the_maximum() {
        let mut health = Health::default();
        assert_eq!(health.wait(0), None);
        let mut waits = Vec::new();
        for _ in 0..80 {
            health = health.failed("no route", 1000);
            waits.push(health.wait(1000).unwrap());
        }
        assert_eq!(waits[..8], [5, 10, 20, 40, 80, 160, 320, 600]);
        assert!(waits[8..].iter().all(|wait| *wait == 600));
        assert_eq!(health.wait(1600), None);
        // A clock that was set back by years does not block the host.
        assert_eq!(health.wait(-1_000_000), None);
    }
}
