//! A log as displayed on the log page: the class of each line, the line of the failure, and the lines of one page.
//!
//! A single pass over text of limited size. [`crash::line`] classifies the lines, as for verdicts and titles; this
//! module adds the marker lines.

use crash::line::{Classifier, ConsoleLine, LineClass, split};
use crash::terminal;
use model::marker::Marker;

/// The number of lines per page.
pub const PAGE_LINES: usize = 2000;
/// A log of up to this many lines is shown on one page.
const WHOLE_LINES: usize = 3000;
/// The maximum length of a displayed line, in bytes.
const LINE_MAX: usize = 2000;
/// The maximum number of landmarks that are listed.
const MARKS_MAX: usize = 30;

/// The kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// Nothing special.
    Plain,
    /// The first line of a kernel report.
    Crash,
    /// A further line of a kernel report.
    Report,
    /// A warning or an error message, of the kernel or of a program.
    Warning,
    /// A kernel message of level debug.
    Debug,
    /// A subtest starts.
    Start,
    /// A subtest passed, or does not apply.
    Passed,
    /// A subtest failed.
    Failed,
}

impl LineKind {
    /// The style class.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Crash => "k",
            Self::Report => "c",
            Self::Warning => "w",
            Self::Debug => "d",
            Self::Start => "m",
            Self::Passed => "mp",
            Self::Failed => "mf",
        }
    }
}

/// A line that the page links to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landmark {
    /// Its number, from 1.
    pub line: usize,
    /// Its kind.
    pub kind: LineKind,
    /// Its text without stamps.
    pub text: String,
}

/// A log with the kinds of its lines.
#[derive(Debug)]
pub struct LogText<'a> {
    lines: Vec<&'a str>,
    kinds: Vec<LineKind>,
    /// The lines that the page links to, in order.
    pub marks: Vec<Landmark>,
    /// The line of the failure, from 1.
    pub failure: Option<usize>,
}

/// The lines of one page, from `first` to `last` inclusive, numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first line.
    pub first: usize,
    /// The last line.
    pub last: usize,
}

/// A line of a page.
#[derive(Debug)]
pub struct ShownLine<'a> {
    /// Its number, from 1.
    pub number: usize,
    /// Its style class; empty for a plain line.
    pub class: &'static str,
    /// The stamps at its start.
    pub stamp: &'a str,
    /// The rest of the line, cut to a readable length, without control characters.
    pub text: String,
}

impl<'a> LogText<'a> {
    /// Classifies the lines of a log.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let mut kinds = Vec::with_capacity(lines.len());
        let mut classifier = Classifier::default();
        for line in &lines {
            kinds.push(kind_of(&split(line), &mut classifier));
        }
        let marks = marks(&lines, &kinds);
        let failure = failure(&kinds);
        Self { lines, kinds, marks, failure }
    }

    /// The number of lines.
    #[must_use]
    pub fn total(&self) -> usize {
        self.lines.len()
    }

    /// The page that contains `line`. Without a line, the page of the failure, or else the last page.
    #[must_use]
    pub fn window(&self, line: Option<usize>) -> Window {
        let total = self.lines.len();
        if total <= WHOLE_LINES {
            return Window { first: 1, last: total };
        }
        let line = line.or(self.failure).unwrap_or(total).clamp(1, total);
        let page = (line - 1) / PAGE_LINES;
        Window { first: page * PAGE_LINES + 1, last: ((page + 1) * PAGE_LINES).min(total) }
    }

    /// All lines.
    #[must_use]
    pub fn all(&self) -> Vec<ShownLine<'a>> {
        self.shown(Window { first: 1, last: self.lines.len() })
    }

    /// The numbers of the first `limit` lines that match, and the number of all matching lines. The stamps of a line
    /// are not matched.
    pub fn matching(&self, mut matches: impl FnMut(&str) -> bool, limit: usize) -> (Vec<usize>, usize) {
        let (mut numbers, mut count) = (Vec::new(), 0);
        for (at, line) in self.lines.iter().enumerate() {
            if matches(split(line).leading_stamps(line).1) {
                count += 1;
                if numbers.len() < limit {
                    numbers.push(at + 1);
                }
            }
        }
        (numbers, count)
    }

    /// The lines of a page.
    #[must_use]
    pub fn shown(&self, window: Window) -> Vec<ShownLine<'a>> {
        self.lines_at(&(window.first..=window.last).collect::<Vec<_>>())
    }

    /// The lines with these numbers; numbers outside of the log are left out.
    #[must_use]
    pub fn lines_at(&self, numbers: &[usize]) -> Vec<ShownLine<'a>> {
        numbers
            .iter()
            .filter_map(|&number| {
                let line: &'a str = self.lines.get(number.checked_sub(1)?)?;
                let (stamp, rest) = split(line).leading_stamps(line);
                let class = self.kinds[number - 1].class();
                Some(ShownLine { number, class, stamp, text: readable(rest) })
            })
            .collect()
    }
}

/// A line without terminal sequences and control characters, cut to a readable length.
#[must_use]
pub fn readable(line: &str) -> String {
    let mut text = String::with_capacity(line.len().min(LINE_MAX));
    for c in terminal::visible(line) {
        if text.len() >= LINE_MAX {
            text.push_str(&format!(" … ({} bytes; the raw log has all)", line.len()));
            break;
        }
        match c {
            // Logs of other systems have the overwritten text, too.
            '\r' | '\u{8}' => {}
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                text.push('\u{fffd}');
            }
            c => text.push(c),
        }
    }
    text
}

/// The kind of the next line of a log: that of a marker line, or else the class of the line as a kernel message.
fn kind_of(line: &ConsoleLine<'_>, classifier: &mut Classifier) -> LineKind {
    let kind = match Marker::parse_text(line.text) {
        Some(Marker::Start(_)) => LineKind::Start,
        Some(Marker::Passed(_) | Marker::NotRun(..) | Marker::Success) => LineKind::Passed,
        Some(Marker::Failed(_) | Marker::Failure) => LineKind::Failed,
        Some(Marker::Watchdog(_) | Marker::Monitor(_) | Marker::ExpectedReboot) => LineKind::Plain,
        None if line.text.starts_with("ktest: failed:") => LineKind::Failed,
        None => {
            return match classifier.line(line) {
                LineClass::Plain => LineKind::Plain,
                LineClass::Trouble => LineKind::Crash,
                LineClass::Report => LineKind::Report,
                LineClass::Error => LineKind::Warning,
                LineClass::Debug => LineKind::Debug,
            };
        }
    };
    classifier.end_report();
    kind
}

/// The line at which the page opens: the first kernel report, or else the last warning before the last failed marker.
fn failure(kinds: &[LineKind]) -> Option<usize> {
    let first = |wanted| kinds.iter().position(|kind| *kind == wanted);
    let last = |wanted| kinds.iter().rposition(|kind| *kind == wanted);
    first(LineKind::Crash)
        .or_else(|| {
            let failed = last(LineKind::Failed)?;
            // The cause is above the verdict.
            Some(kinds[..failed].iter().rposition(|kind| *kind == LineKind::Warning).unwrap_or(failed))
        })
        .map(|at| at + 1)
}

fn marks(lines: &[&str], kinds: &[LineKind]) -> Vec<Landmark> {
    let all: Vec<usize> = kinds
        .iter()
        .enumerate()
        .filter(|(_, kind)| {
            matches!(kind, LineKind::Crash | LineKind::Start | LineKind::Passed | LineKind::Failed)
        })
        .map(|(at, _)| at)
        .collect();
    // If there are too many, only crashes and failures are listed.
    let some: Vec<usize> = if all.len() > MARKS_MAX {
        all.into_iter()
            .filter(|at| matches!(kinds[*at], LineKind::Crash | LineKind::Failed))
            .take(MARKS_MAX)
            .collect()
    } else {
        all
    };
    some.into_iter()
        .map(|at| {
            let text = readable(split(lines[at]).text.trim_start_matches(['=', ' ']));
            Landmark { line: at + 1, kind: kinds[at], text: crate::page::cut(&text, 140) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "00000 ========= TEST   punch\n00001 [   12.345678] EXT4-fs (vdb): mounted\n\
        00002 [   13.000001][  T77] kernel BUG at fs/ext4/extents.c:3211!\n00002 [   13.1] RIP: 0010:ext4_x+0x1/0x2\n\
        00002 [   13.2] ---[ end trace 0000 ]---\n00003 next\n00004 ========= FAILED punch in 3s\n";

    #[test]
    fn the_crash_is_found_and_marked() {
        let log = LogText::new(LOG);
        assert_eq!(log.failure, Some(3));
        let kinds: Vec<_> = log.kinds.iter().map(|kind| kind.class()).collect();
        assert_eq!(kinds, ["m", "", "k", "c", "c", "", "mf"]);
        assert_eq!(log.marks.iter().map(|mark| mark.line).collect::<Vec<_>>(), [1, 3, 7]);
        assert_eq!(log.marks[1].text, "kernel BUG at fs/ext4/extents.c:3211!");
        let shown = log.shown(log.window(None));
        assert_eq!((shown[2].stamp, shown[2].number), ("00002 [   13.000001][  T77] ", 3));
    }

    #[test]
    fn levels_of_kernel_messages() {
        let log = LogText::new(
            "00001 <3>[    1.000000] disk on fire\n<6>[1.0] fine\n<15>[1.0] dbg\n<x>[1.0] no\n<9999> no\n",
        );
        let kinds: Vec<_> = log.kinds.iter().map(|kind| kind.class()).collect();
        assert_eq!(kinds, ["w", "", "d", "", ""]);
        let shown: Vec<_> = log.all().into_iter().map(|line| line.text).collect();
        assert_eq!(shown[0], "disk on fire");
        assert_eq!(shown[3], "<x>[1.0] no");
        assert_eq!(log.matching(|text| text.contains("no"), 1), (vec![4], 2));
    }

    #[test]
    fn the_page_marks_the_lines_that_affect_verdicts() {
        for line in [
            "CFI failure at f+0x1/0x2 (target: g+0x0/0x2; expected type: 0x1234)",
            "[    1.000000] [ BUG: Invalid wait context ]",
            "[    1.000000] BUG kmalloc-64 (Not tainted): Poison overwritten",
            "40%[    1.000000] INFO: task w:1 blocked for more than 120 seconds.",
        ] {
            assert_eq!(LogText::new(line).kinds, [LineKind::Crash], "{line}");
            assert!(crash::trouble(line).is_some(), "{line}");
        }
        let program = LogText::new("WARNING: ext4 signature detected on /dev/vdb");
        assert_eq!(program.kinds, [LineKind::Warning]);
        let unfinished = LogText::new("40%[    1.000000] kernel BUG at a.c:1!");
        assert_eq!(unfinished.marks[0].text, "kernel BUG at a.c:1!");
        assert_eq!(unfinished.all()[0].text, "40%[    1.000000] kernel BUG at a.c:1!");
    }

    #[test]
    fn a_long_log_opens_at_the_failure() {
        let mut text = "x\n".repeat(10_000);
        text.push_str("========= FAILED a in 1s\n");
        text.push_str(&"y\n".repeat(5000));
        let log = LogText::new(&text);
        assert_eq!(log.window(None), Window { first: 10_001, last: 12_000 });
        assert_eq!(log.window(Some(1)), Window { first: 1, last: 2000 });
        assert_eq!(log.window(Some(usize::MAX)), Window { first: 14_001, last: 15_001 });
        assert_eq!(LogText::new("").window(None), Window { first: 1, last: 0 });
        assert!(LogText::new("").shown(Window { first: 1, last: 0 }).is_empty());
    }

    #[test]
    fn terminal_sequences_and_direction_overrides_are_removed() {
        assert_eq!(readable("\u{1b}[31mred\u{1b}[0m\u{7} a\u{202e}b"), "red a\u{fffd}b");
        assert_eq!(readable("\u{1b}]0;title\u{7}a\u{1b}Pq#0\u{1b}\\b\u{9d}0;t\u{9c}c\u{1b}(Bd"), "abcd");
        assert_eq!(readable("\u{1b}[1\u{e4} \u{1b}"), "\u{e4} ", "no text is hidden");
        assert!(readable(&"x".repeat(100_000)).len() < 2100);
    }

    proptest::proptest! {
        #[test]
        fn no_log_panics(text in "(\\PC|\n|\u{1b}|\\[|\\]|[0-9 .T]){0,200}", line in proptest::option::of(0usize..9)) {
            let log = LogText::new(&text);
            let _ = log.shown(log.window(line));
        }
    }
}
