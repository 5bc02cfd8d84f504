//! A log as a part of a test's page: read with a limit, looked through, cut to a page.

use results::LogKind;

use super::Context;
use crate::filter::Filter;
use crate::logtext::{LogText, Window};
use crate::page::Plural as _;
use crate::problem::Problem;
use crate::route::TestRoute;

/// How much of a log is looked through, in bytes; the raw log has all.
const READ_MAX: u64 = 16 << 20;

/// How many lines a search shows.
const FOUND_MAX: usize = 1000;

/// A page of a log.
pub struct LogView {
    /// The lines worth a jump.
    pub marks: Vec<MarkLine>,
    /// What the reader must know: that it is cut.
    pub note: Option<String>,
    /// The lines.
    pub lines: Vec<LogLine>,
    /// The first line's number.
    pub first: usize,
    /// The last line's number.
    pub last: usize,
    /// How many lines there are.
    pub total: usize,
    /// The page before.
    pub earlier: Option<String>,
    /// The page after.
    pub later: Option<String>,
    /// Where a growing log's lines come from.
    pub follow: Option<String>,
    /// What was looked for; empty: nothing, and the lines are a page of the log.
    pub find: String,
    /// How many lines match, in words.
    pub found: String,
    /// The address of the log without a search.
    pub whole: String,
}

/// A line worth a jump.
pub struct MarkLine {
    /// Its number.
    pub line: usize,
    /// Where it is.
    pub href: String,
    /// Its style class.
    pub class: &'static str,
    /// What it says.
    pub text: String,
}

/// A line.
pub struct LogLine {
    /// Its number.
    pub number: usize,
    /// Where it is: on this page, or on the page that holds it.
    pub href: String,
    /// Its style class.
    pub class: &'static str,
    /// Its time stamps.
    pub stamp: String,
    /// The rest.
    pub text: String,
    /// Whether the failure shows here.
    pub failure: bool,
}

/// The page of the log that is asked for; `None` if there is no log.
pub fn load(context: Context<'_>, test: &TestRoute) -> Result<Option<LogView>, Problem> {
    let kind = if test.full { LogKind::Full } else { LogKind::Subtest };
    let Some(log) = context.store.reader().log(&test.sha, &test.key, kind)? else { return Ok(None) };
    let (bytes, all) = log.read(READ_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let looked = LogText::new(&text);
    let window = looked.window(test.line);
    let find = test.find.as_deref().map(Filter::ignoring_case).transpose()?;
    let (numbers, found) = match &find {
        Some(find) => looked.matching(|line| find.matches(line), FOUND_MAX),
        None => ((window.first..=window.last).collect(), 0),
    };
    let base = context.links().test(test.sha.as_str(), test.key.as_str());
    let address = |line: usize| {
        let full = if test.full { "log=full&" } else { "" };
        format!("{base}?{full}line={line}#L{line}")
    };
    let total = looked.total();
    let lines = looked
        .lines_at(&numbers)
        .into_iter()
        .map(|line| LogLine {
            number: line.number,
            href: if find.is_some() { address(line.number) } else { format!("#L{}", line.number) },
            class: line.class,
            stamp: line.stamp.into(),
            text: line.text,
            failure: looked.failure == Some(line.number),
        })
        .collect();
    let marks = looked
        .marks
        .iter()
        .map(|mark| MarkLine {
            line: mark.line,
            href: if find.is_none() && inside(window, mark.line) {
                format!("#L{}", mark.line)
            } else {
                address(mark.line)
            },
            class: mark_class(mark.kind.class()),
            text: mark.text.clone(),
        })
        .collect();
    Ok(Some(LogView {
        marks,
        note: (!all).then(|| {
            format!("This is the first {} MiB of the log; the raw log has all of it.", READ_MAX >> 20)
        }),
        lines,
        first: window.first,
        last: window.last,
        total,
        earlier: (find.is_none() && window.first > 1).then(|| address(window.first - 1)),
        later: (find.is_none() && window.last < total).then(|| address(window.last + 1)),
        follow: (log.is_live() && find.is_none() && window.last == total && all).then(|| {
            // The last line may be half written: it comes again, whole.
            let (bytes, lines) = match text.rfind('\n') {
                Some(_) if text.ends_with('\n') => (bytes.len(), total),
                newline => (
                    bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1),
                    newline.map_or(0, |_| total - 1),
                ),
            };
            format!("{base}follow?{}from={bytes}:{lines}", if test.full { "log=full&" } else { "" })
        }),
        found: match found {
            _ if find.is_none() => String::new(),
            0 => format!("no line of {total} matches"),
            found if found > FOUND_MAX => format!("the first {FOUND_MAX} of {found} lines that match"),
            found => format!("{} of {total} match", found.plural("line")),
        },
        find: test.find.as_deref().unwrap_or("").into(),
        whole: if test.full { format!("{base}?log=full") } else { base },
    }))
}

fn inside(window: Window, line: usize) -> bool {
    (window.first..=window.last).contains(&line)
}

/// A landmark's colour is that of the status it stands for.
fn mark_class(class: &'static str) -> &'static str {
    match class {
        "k" | "mf" => "s-failed",
        "mp" => "s-passed",
        _ => "mute",
    }
}
