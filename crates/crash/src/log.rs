//! A console log as lines. Line numbers start at 1.

use crate::stamp::{ConsoleLine, split};

/// The lines of a log.
pub(crate) fn lines(log: &str) -> Vec<ConsoleLine<'_>> {
    log.split('\n').map(split).collect()
}

/// Whether the log before line `at` (counted from 0) shows a kernel that ran for at least one second and was not asked
/// to restart.
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
