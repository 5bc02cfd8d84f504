//! A console log as lines. Positions are line numbers from 1.

use crate::stamp::{ConsoleLine, split};

/// The lines of a log.
pub(crate) fn lines(log: &str) -> Vec<ConsoleLine<'_>> {
    log.split('\n').map(split).collect()
}

/// Whether the log shows, before line `at` (from 0), a kernel that was up for a second or more and was not asked to
/// restart.
pub(crate) fn has_run(log: &str, at: usize) -> bool {
    let mut up = false;
    for raw in log.split('\n').take(at) {
        let line = split(raw);
        let Some(seconds) = line.stamps.split_once('[').and_then(|(_, rest)| rest.split('.').next()) else {
            continue;
        };
        up = up || seconds.trim().parse::<u32>().is_ok_and(|seconds| seconds >= 1);
        if ["reboot: ", "Rebooting in ", "kexec"].iter().any(|words| line.text.contains(words)) {
            return false;
        }
    }
    up
}
