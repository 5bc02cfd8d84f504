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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_run_for_a_second_unless_it_was_asked_to_restart() {
        for (log, run) in [
            ("[    1.000000] x", true),
            ("[    0.900000] x", false),
            ("[   12.000000] x\n[    0.100000] y", true),
            ("[    0.100000] x\n[    2.000000] y", true),
            ("[    2.000000] reboot: Restarting system", false),
            ("[    2.000000] x\n[    2.100000] Rebooting in 1 seconds..", false),
            ("x", false),
        ] {
            assert_eq!(has_run(log, 9), run, "{log}");
        }
        assert!(!has_run("x\n[    5.000000] y", 1));
    }
}
