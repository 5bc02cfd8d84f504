//! How long a host that could not be reached is left alone: longer with every failure in a row.
//!
//! What is remembered lies in a file, so that all slots and a new daemon share it.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// After the first failure, in seconds; doubled with each.
const FIRST_S: i64 = 5;
/// At most.
const MOST_S: i64 = 600;

/// What is remembered of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Failures in a row.
    pub failures: u32,
    /// When it may be tried again, Unix seconds.
    pub retry_at: i64,
    /// What was wrong the last time.
    pub why: String,
}

impl Health {
    /// Reads what is remembered; rubbish is nothing.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Seconds until the next try; `None`: now. A time that is too far away is of a clock that was wrong.
    #[must_use]
    pub fn wait(&self, now: i64) -> Option<u64> {
        let left = self.retry_at.saturating_sub(now);
        (self.failures > 0 && left > 0 && left <= MOST_S).then_some(left.unsigned_abs())
    }

    /// One more failure.
    #[must_use]
    pub fn failed(&self, why: &str, now: i64) -> Self {
        let failures = self.failures.saturating_add(1);
        let wait = FIRST_S
            .checked_shl(failures - 1)
            .filter(|wait| *wait > 0)
            .map_or(MOST_S, |wait| wait.min(MOST_S));
        Self { failures, retry_at: now.saturating_add(wait), why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_each_time_and_never_for_ever() {
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
        // A clock that jumped back by years does not bar the host.
        assert_eq!(health.wait(-1_000_000), None);
    }
}
