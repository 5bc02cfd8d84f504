//! The part of a log to show first: the crash report if there is one, or else the lines before the failed marker.

use std::io::{self, Write};

use regress::excerpt::{Focus, focus};

/// A log with at most this many lines is shown completely.
const WHOLE: usize = 120;
/// The number of lines shown above and below a crash report.
const AROUND_CRASH: usize = 15;
/// The number of lines shown above and below a failed marker.
const AROUND_MARKER: (usize, usize) = (60, 5);
/// The maximum length of a report that is shown completely, in lines.
const REPORT_MAX: usize = 200;

/// A range of lines of a log, numbered from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excerpt {
    /// The first line shown.
    pub first: usize,
    /// The last line shown.
    pub last: usize,
    /// The line that shows the failure.
    pub failure: usize,
    total: usize,
}

/// The lines around the failure; `None` if the log is short enough to be shown completely.
pub fn excerpt(log: &str) -> Option<Excerpt> {
    let Focus { line, report_end, total } = focus(log);
    if total <= WHOLE {
        return None;
    }
    let (first, last) = match report_end {
        Some(end) => {
            (line.saturating_sub(AROUND_CRASH), end.min(line.saturating_add(REPORT_MAX)) + AROUND_CRASH)
        }
        None => (line.saturating_sub(AROUND_MARKER.0), line + AROUND_MARKER.1),
    };
    Some(Excerpt { first: first.max(1), last: last.min(total), failure: line, total })
}

impl Excerpt {
    /// Writes the lines, with a note about the omitted lines.
    pub fn write(&self, log: &str, out: &mut dyn Write) -> io::Result<()> {
        let lines = |count: usize| if count == 1 { "line".into() } else { format!("{count} lines") };
        if self.first > 1 {
            writeln!(out, "[... {} above; --full prints all ...]", lines(self.first - 1))?;
        }
        for line in log.lines().skip(self.first - 1).take(self.last + 1 - self.first) {
            writeln!(out, "{line}")?;
        }
        if self.last < self.total {
            writeln!(out, "[... {} below; --full prints all ...]", lines(self.total - self.last))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: usize) -> String {
        (1..=count).map(|line| format!("{line:05} word\n")).collect()
    }

    #[test]
    fn short_logs_are_shown_completely() {
        assert_eq!(excerpt(""), None);
        assert_eq!(excerpt(&numbered(120)), None);
    }

    #[test]
    fn an_excerpt_starts_at_the_crash() {
        let crash = "00500 [   12.000000] kernel BUG at fs/ext4/inode.c:123!\n\
            00500 [   12.000001] RIP: 0010:ext4_punch_hole+0x1/0x2\n00500 [   12.000002] ---[ end trace 0 ]---\n";
        let log = format!("{}{crash}{}00999 ========= FAILED punch in 3s\n", numbered(500), numbered(500));
        let excerpt = excerpt(&log).unwrap();
        assert_eq!((excerpt.failure, excerpt.first), (501, 486));
        let mut out = Vec::new();
        excerpt.write(&log, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("[... 485 lines above; --full prints all ...]\n00486 word\n"), "{text}");
        assert!(text.contains("end trace"), "{text}");
        assert!(text.trim_end().ends_with("below; --full prints all ...]"), "{text}");
    }

    #[test]
    fn without_a_crash_an_excerpt_is_at_the_marker_or_the_end() {
        let log = format!("{}00300 ========= FAILED punch in 3s\n{}", numbered(300), numbered(50));
        let found = excerpt(&log).unwrap();
        assert_eq!((found.first, found.failure, found.last), (241, 301, 306));
        let found = excerpt(&numbered(300)).unwrap();
        assert_eq!((found.first, found.failure, found.last), (240, 300, 300));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        #[test]
        fn an_excerpt_is_within_the_log(lines in proptest::collection::vec("(BUG: x|========= FAILED a in 1s|\\PC{0,9})", 0..200)) {
            let log = lines.join("\n");
            if let Some(found) = excerpt(&log) {
                let total = log.lines().count();
                proptest::prop_assert!(1 <= found.first && found.first <= found.failure, "{found:?} of {total}");
                proptest::prop_assert!(found.failure <= found.last && found.last <= total, "{found:?} of {total}");
                found.write(&log, &mut Vec::new()).unwrap();
            }
        }
    }
}
