//! A log for people: which lines matter, where the failure is, and the page of lines around a place.
//!
//! One pass over text that is bounded before it comes here; a line's class is decided from that line and whether a
//! crash report runs at it.

use model::marker::Marker;

/// How many lines one page shows.
pub const PAGE_LINES: usize = 2000;
/// A log up to this many lines is one page.
const WHOLE_LINES: usize = 3000;
/// How much of a line is shown, in bytes.
const LINE_MAX: usize = 2000;
/// How many landmarks are listed.
const MARKS_MAX: usize = 30;
/// How many lines a crash report may have.
const REPORT_MAX: usize = 120;

/// What kind of line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// Nothing special.
    Plain,
    /// The kernel is in trouble: the first line of a report.
    Crash,
    /// A line of a crash report.
    Report,
    /// A kernel or test warning, an error message.
    Warning,
    /// Of a level below what a console usually shows.
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

/// A line that is worth a jump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landmark {
    /// Its number, from 1.
    pub line: usize,
    /// What it is.
    pub kind: LineKind,
    /// What it says, without its time stamps.
    pub text: String,
}

/// A log, looked through.
#[derive(Debug)]
pub struct LogText<'a> {
    lines: Vec<&'a str>,
    kinds: Vec<LineKind>,
    /// The lines worth a jump, in order.
    pub marks: Vec<Landmark>,
    /// The line at which the failure shows, from 1.
    pub failure: Option<usize>,
}

/// The lines of one page: from `first` to `last`, numbered from 1, both included.
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
    /// Its style class; empty for a plain one.
    pub class: &'static str,
    /// The time stamps at its start.
    pub stamp: &'a str,
    /// The rest, cut to a readable length, without control characters.
    pub text: String,
}

impl<'a> LogText<'a> {
    /// Looks through a log.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let mut kinds = Vec::with_capacity(lines.len());
        let mut report = 0usize;
        for line in &lines {
            let (stamps, rest) = split_stamps(line);
            let kind = match (kind_of(rest, report > 0), level(stamps)) {
                (LineKind::Plain, Some(0..=4)) => LineKind::Warning,
                (LineKind::Plain, Some(7)) => LineKind::Debug,
                (kind, _) => kind,
            };
            report = match kind {
                LineKind::Crash => REPORT_MAX,
                LineKind::Report if !ends_report(rest) => report - 1,
                _ => 0,
            };
            kinds.push(kind);
        }
        let marks = marks(&lines, &kinds);
        let failure = failure(&kinds);
        Self { lines, kinds, marks, failure }
    }

    /// How many lines there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.lines.len()
    }

    /// The page that holds `line`; without one, that of the failure, else the last.
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

    /// The numbers of the lines that `wants` them, without their time stamps, at most `limit`, and how many there are.
    pub fn matching(&self, mut wants: impl FnMut(&str) -> bool, limit: usize) -> (Vec<usize>, usize) {
        let (mut numbers, mut count) = (Vec::new(), 0);
        for (at, line) in self.lines.iter().enumerate() {
            if wants(split_stamps(line).1) {
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

    /// The lines of these numbers, as far as they are there.
    #[must_use]
    pub fn lines_at(&self, numbers: &[usize]) -> Vec<ShownLine<'a>> {
        numbers
            .iter()
            .filter_map(|&number| {
                let line: &'a str = self.lines.get(number.checked_sub(1)?)?;
                let (stamp, rest) = split_stamps(line);
                let class = self.kinds[number - 1].class();
                Some(ShownLine { number, class, stamp, text: readable(rest) })
            })
            .collect()
    }
}

/// Without terminal sequences and control characters, cut where it is longer than anyone reads.
#[must_use]
pub fn readable(line: &str) -> String {
    let mut text = String::with_capacity(line.len().min(LINE_MAX));
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if text.len() >= LINE_MAX {
            text.push_str(&format!(" … ({} bytes; the raw log has all)", line.len()));
            break;
        }
        match c {
            '\u{1b}' => {
                // ESC [ parameters final-byte; anything else after ESC is one character.
                if chars.next() == Some('[') {
                    while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
            }
            '\t' => text.push('\t'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                text.push('\u{fffd}');
            }
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

/// The level of a kernel message (0 emergency to 7 debug), where its stamps begin with it as `<6>`: the facility is
/// above the lowest three bits (syslog(2)).
fn level(stamps: &str) -> Option<u8> {
    let (number, _) = stamps[stamps.find('<')? + 1..].split_once('>')?;
    number.parse::<u16>().ok().map(|number| (number % 8) as u8)
}

/// The stamps at the start of a line: `00012 `, `<6>`, `[   12.345678] `, `[  T77] `, each or none.
#[must_use]
pub fn split_stamps(line: &str) -> (&str, &str) {
    let mut at = 0;
    let run_seconds =
        line.len() > 6 && line.as_bytes()[..5].iter().all(u8::is_ascii_digit) && line.as_bytes()[5] == b' ';
    if run_seconds {
        at = 6;
    }
    if let Some((number, _)) = line[at..].strip_prefix('<').and_then(|rest| rest.split_once('>'))
        && (1..=3).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
    {
        at += number.len() + 2;
    }
    loop {
        let rest = &line[at..];
        let blank = rest.len() - rest.trim_start_matches(' ').len();
        let Some(inner) = rest[blank..].strip_prefix('[') else { break };
        let Some(end) = inner.find(']') else { break };
        let stamp = inner[..end].trim();
        let known = !stamp.is_empty()
            && stamp.len() < 24
            && stamp.trim_start_matches(['T', 'C']).bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !known {
            break;
        }
        at += blank + end + 2;
        if line[at..].starts_with(' ') {
            at += 1;
        }
    }
    line.split_at(at)
}

/// How a report of the kernel begins, as ktest-contract.md lists them.
const TROUBLE: [&str; 24] = [
    "kernel BUG at",
    "BUG: ",
    "WARNING: ",
    "Oops: ",
    "Oops[",
    "general protection fault",
    "Internal error:",
    "Kernel panic - not syncing",
    "Unable to handle kernel",
    "UBSAN: ",
    "KASAN: ",
    "KCSAN: ",
    "KMSAN: ",
    "possible circular locking dependency",
    "possible recursive locking",
    "suspicious RCU usage",
    "INFO: task ",
    "INFO: rcu",
    "rcu: INFO:",
    "watchdog: BUG: soft lockup",
    "soft lockup - CPU",
    "hard LOCKUP",
    "divide error:",
    "invalid opcode:",
];

/// Those of [`TROUBLE`] that follow another line of the same report.
const CPU_TROUBLE: [&str; 5] =
    ["Oops: ", "Oops[", "general protection fault", "divide error:", "invalid opcode:"];

fn kind_of(rest: &str, in_report: bool) -> LineKind {
    match Marker::parse(rest) {
        Some(Marker::Start(_)) => return LineKind::Start,
        Some(Marker::Passed(_) | Marker::NotRun(..) | Marker::Success) => return LineKind::Passed,
        Some(Marker::Failed(_) | Marker::Failure) => return LineKind::Failed,
        Some(Marker::Watchdog(_) | Marker::Monitor(_)) => return LineKind::Plain,
        None => {}
    }
    let begins = TROUBLE.iter().any(|trouble| rest.starts_with(trouble));
    if rest.starts_with("ktest: failed:") {
        return LineKind::Failed;
    }
    // The processor's own line stands inside the report that the kernel's word began.
    let inner = CPU_TROUBLE.iter().any(|trouble| rest.starts_with(trouble));
    if begins && !(in_report && inner) {
        return LineKind::Crash;
    }
    if in_report {
        return LineKind::Report;
    }
    let lower = |word: &str| {
        rest.len() >= word.len() && rest.as_bytes()[..word.len()].eq_ignore_ascii_case(word.as_bytes())
    };
    let warns = lower("error")
        || lower("warning")
        || lower("fatal")
        || rest.contains(": error: ")
        || rest.contains("EXT4-fs error")
        || rest.contains(" error (device")
        || rest.contains("Assertion ");
    if warns { LineKind::Warning } else { LineKind::Plain }
}

fn ends_report(rest: &str) -> bool {
    rest.starts_with("---[ end") || rest.is_empty()
}

/// Where a reader wants to be: the first crash, else the last failed marker, else the last warning.
fn failure(kinds: &[LineKind]) -> Option<usize> {
    let first = |wanted| kinds.iter().position(|kind| *kind == wanted);
    let last = |wanted| kinds.iter().rposition(|kind| *kind == wanted);
    first(LineKind::Crash)
        .or_else(|| {
            let failed = last(LineKind::Failed)?;
            // What went wrong stands above the verdict.
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
    // Where there are too many, crashes and failures stay.
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
            let text = readable(split_stamps(lines[at]).1.trim_start_matches(['=', ' ']));
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
        assert_eq!(split_stamps("00001 <3>[    1.000000] disk").1, "disk");
        assert_eq!(split_stamps("<script>[1.0] x").1, "<script>[1.0] x");
        assert_eq!(log.matching(|text| text.contains("no"), 1), (vec![4], 2));
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
    fn terminal_sequences_and_direction_overrides_go() {
        assert_eq!(readable("\u{1b}[31mred\u{1b}[0m\u{7} a\u{202e}b"), "red a\u{fffd}b");
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
