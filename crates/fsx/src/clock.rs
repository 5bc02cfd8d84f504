//! The wall clock. Only the edges of a program read it; all other code takes the time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01 00:00 UTC; 0 if the clock is set to an earlier time.
#[must_use]
pub fn unix_seconds() -> i64 {
    i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970-01-01 00:00 UTC; 0 if the clock is set to an earlier time.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_units_agree() {
        let (before, ms, after) = (unix_seconds(), unix_ms(), unix_seconds());
        let seconds = i64::try_from(ms / 1000).unwrap();
        assert!((before..=after).contains(&seconds), "{before} {ms} {after}");
    }
}
