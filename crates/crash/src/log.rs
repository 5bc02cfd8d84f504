//! A console log as lines: without prefixes, with who printed each. Positions are line numbers from 1.

use crate::prefix::{self, Caller};

/// A line of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Without prefix and ending.
    pub text: &'a str,
    pub caller: Option<Caller>,
}

/// The lines of a log. What stands before a printk stamp in the middle of a line (a login prompt, syslog's own
/// stamp) is taken off too.
pub(crate) fn lines(log: &str) -> Vec<Line<'_>> {
    log.split('\n').map(line).collect()
}

/// No message of the kernel is longer (CONSOLE_EXT_LOG_MAX is 8192 in all versions).
fn cut(raw: &str) -> &str {
    let mut end = raw.len().min(8192);
    while !raw.is_char_boundary(end) {
        end -= 1;
    }
    &raw[..end]
}

/// One line of a log.
pub(crate) fn line(raw: &str) -> Line<'_> {
    let raw = cut(raw);
    let stripped = prefix::strip(raw);
    if stripped.printk {
        return Line { text: stripped.text, caller: stripped.caller };
    }
    // `syzkaller login: [   36.852785][ T3615] text`
    let near = raw.char_indices().take(120).filter(|(_, c)| *c == '[');
    for (at, _) in near {
        let inner = prefix::strip(&raw[at..]);
        if inner.printk {
            return Line { text: inner.text, caller: inner.caller };
        }
    }
    Line { text: stripped.text, caller: None }
}

/// Whether a kernel had been up for a second or more before line `at` (from 0), and was not told to restart.
pub(crate) fn has_run(log: &str, at: usize) -> bool {
    let mut up = false;
    for raw in log.split('\n').take(at) {
        let Some((seconds, _)) = raw.trim_start().strip_prefix('[').and_then(|rest| rest.split_once('.'))
        else {
            continue;
        };
        up = up || seconds.trim().parse::<u32>().is_ok_and(|seconds| seconds >= 1);
        if ["reboot: ", "Rebooting in ", "kexec"].iter().any(|word| raw.contains(word)) {
            return false;
        }
    }
    up
}
