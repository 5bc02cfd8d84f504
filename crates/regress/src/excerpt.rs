//! The lines of a log that show why a test or a build failed.

use model::marker::Marker;
use model::run_order::AGAIN;

/// The length of an error in a verdict from which on it is cut, in characters.
const CUT: usize = 300;

/// Where a log of a test shows the failure. Lines are numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Focus {
    /// The line: the first one of the crash report, or else the failed marker, or else the last line.
    pub line: usize,
    /// The last line of the crash report; `None` without one.
    pub report_end: Option<usize>,
    /// The number of lines of the log.
    pub total: usize,
}

/// Where the log of a test shows the failure.
#[must_use]
pub fn focus(log: &str) -> Focus {
    let total = log.lines().count();
    if let Some(report) = crash::reports(log).first() {
        return Focus { line: report.start_line, report_end: Some(report.end_line), total };
    }
    let failed = |line: &str| matches!(Marker::parse(line), Some(Marker::Failed(_)));
    let marked = log.lines().enumerate().filter(|(_, line)| failed(line)).last();
    Focus { line: marked.map_or(total, |(at, _)| at + 1), report_end: None, total }
}

/// At most `most` lines of the log of a test: the start of the crash report, or else the lines up to the failed marker.
#[must_use]
pub fn of_test(log: &str, most: usize) -> Vec<&str> {
    let Focus { line, report_end, total } = focus(log);
    let (first, last) = match report_end {
        Some(end) => (line, end.min(line + most.saturating_sub(1))),
        None => ((line + 1).saturating_sub(most), line),
    };
    let first = first.max(1);
    log.lines().skip(first - 1).take(last.min(total).saturating_sub(first - 1)).collect()
}

/// At most `most` lines of the log of a build, from shortly before the line of the error on.
#[must_use]
pub fn of_build<'a>(log: &'a str, error: &str, most: usize) -> Vec<&'a str> {
    let lines: Vec<&str> = log.lines().collect();
    let at = build_error(&lines, error).unwrap_or(lines.len().saturating_sub(1));
    let first = at.saturating_sub(most / 4);
    lines.get(first..).unwrap_or_default().iter().take(most).copied().collect()
}

/// The index of the line of a build's log with this error. If it is not found, that of the first line that looks like an error.
#[must_use]
pub fn build_error(lines: &[&str], error: &str) -> Option<usize> {
    let is_cut = error.chars().count() >= CUT;
    let is_it = |line: &&str| {
        let line = line.replace(char::is_control, " ");
        let line = line.trim();
        if is_cut { line.contains(error) } else { line.ends_with(error) }
    };
    let exact = if error.is_empty() { None } else { lines.iter().position(is_it) };
    // The reason can be put together from several lines: `PLACE: error: TEXT`, `a.o: in function f: undefined reference to g`.
    let last_part = error.rsplit_once(": ").map_or(error, |(_, part)| part);
    let part = || {
        lines.iter().position(|line| last_part.len() > 8 && is_build_error(line) && line.contains(last_part))
    };
    exact.or_else(part).or_else(|| lines.iter().position(|line| is_build_error(line)))
}

/// Whether a line of a build's log looks like an error.
#[must_use]
pub fn is_build_error(line: &str) -> bool {
    ["error:", "error[", "undefined reference to", "Error 1", "*** "].iter().any(|sign| line.contains(sign))
        && !line.contains("(ignored)")
}

/// The command that repeats a test, from the note that its run added to the end of the log.
#[must_use]
pub fn command(log: &str) -> Option<&str> {
    // The note is behind the output of the guest, which therefore cannot replace it.
    let sign = format!(" ktest: {AGAIN}");
    let note = log.lines().rev().find_map(|line| line.split_once(sign.as_str()))?;
    let (_, command) = note.1.split_once(": ")?;
    // A log is untrusted: a command that a shell would not only run as `ktest` is left out.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " ~._-+:=/,@%".contains(c);
    (command.starts_with("ktest run ") && command.chars().all(is_plain)).then_some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: &str = "00500 [   12.000000] kernel BUG at fs/ext4/inode.c:123!\n\
        00500 [   12.000001] RIP: 0010:ext4_punch_hole+0x1/0x2\n00500 [   12.000002] ---[ end trace 0 ]---\n";

    fn numbered(count: usize) -> String {
        (1..=count).map(|line| format!("{line:05} word\n")).collect()
    }

    #[test]
    fn the_lines_of_a_crash_come_before_those_of_the_marker() {
        let log = format!("{}{CRASH}{}00999 ========= FAILED punch in 3s\n", numbered(500), numbered(500));
        let shown = of_test(&log, 30);
        assert!(shown[0].contains("kernel BUG") && shown.iter().any(|line| line.contains("end trace")));
        assert_eq!(of_test(&log, 1).len(), 1);
        let log = format!("{}00300 ========= FAILED punch in 3s\n{}", numbered(300), numbered(50));
        let shown = of_test(&log, 30);
        assert_eq!((shown.len(), shown[0]), (30, "00272 word"));
        assert!(shown[29].contains("FAILED"));
        assert_eq!(of_test("", 30), [""; 0]);
        assert_eq!(of_test("one\ntwo", 30), ["one", "two"]);
    }

    #[test]
    fn the_lines_of_a_build_are_at_the_error() {
        let log =
            format!("{}a.c:1:2: error: expected ';'\n{}", "  CC  b.o\n".repeat(100), "more\n".repeat(100));
        let shown = of_build(&log, "a.c:1:2: error: expected ';'", 20);
        assert_eq!((shown.len(), shown[5]), (20, "a.c:1:2: error: expected ';'"));
        assert_eq!(of_build("", "x", 20), [""; 0]);
    }

    #[test]
    fn only_a_plain_command_of_the_end_is_a_command() {
        let log = format!(
            "00001 ktest: {AGAIN}: ktest run evil\n00009 ktest: {AGAIN}: ktest run -k ~/linux a.ktest b"
        );
        assert_eq!(command(&log), Some("ktest run -k ~/linux a.ktest b"));
        for hostile in ["ktest run a; rm -rf /", "rm -rf /", "ktest run $(id)"] {
            assert_eq!(command(&format!("00001 ktest: {AGAIN}: {hostile}")), None);
        }
    }
}
