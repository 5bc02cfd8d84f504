//! The log on the page of a test: read with a size limit, classified, and cut to one page.

use results::LogKind;

use super::Context;
use crate::filter::Filter;
use crate::logtext::{LogText, Window};
use crate::page::Plural as _;
use crate::problem::Problem;
use crate::route::TestRoute;

/// The maximum number of bytes of a log that are shown; the raw log is complete.
const READ_MAX: u64 = 16 << 20;

/// The maximum number of lines that a search shows.
const FOUND_MAX: usize = 1000;

/// A page of a log.
pub struct LogView {
    /// The important lines.
    pub marks: Vec<MarkLine>,
    /// A note that the log is truncated.
    pub note: Option<String>,
    /// The lines.
    pub lines: Vec<LogLine>,
    /// The number of the first line.
    pub first: usize,
    /// The number of the last line.
    pub last: usize,
    /// The number of lines of the log.
    pub total: usize,
    /// The address of the previous page.
    pub earlier: Option<String>,
    /// The address of the next page.
    pub later: Option<String>,
    /// The address of the events of a growing log.
    pub follow: Option<String>,
    /// The search pattern; empty if the lines are a page of the log.
    pub find: String,
    /// The number of lines that match, in words.
    pub found: String,
    /// The address of the log without the search.
    pub whole: String,
}

/// An important line.
pub struct MarkLine {
    /// Its number.
    pub line: usize,
    /// Its address.
    pub href: String,
    /// Its style class.
    pub class: &'static str,
    /// Its text.
    pub text: String,
}

/// A line.
pub struct LogLine {
    /// Its number.
    pub number: usize,
    /// Its address: on this page, or on the page that contains it.
    pub href: String,
    /// Its style class.
    pub class: &'static str,
    /// Its time stamps.
    pub stamp: String,
    /// The text after the time stamps.
    pub text: String,
    /// Whether this is the line of the failure.
    pub failure: bool,
}

/// The requested page of the log; `None` if there is no log.
pub fn load(context: Context<'_>, test: &TestRoute) -> Result<Option<LogView>, Problem> {
    let kind = if test.full { LogKind::Full } else { LogKind::Subtest };
    let Some(log) = context.store.reader().log(&test.sha, &test.key, kind)? else { return Ok(None) };
    let (bytes, all) = log.read(READ_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let log_text = LogText::new(&text);
    let window = log_text.window(test.line);
    let find = test.find.as_deref().map(|find| Filter::new(Some(find))).transpose()?;
    let (numbers, found) = match &find {
        Some(find) => log_text.matching(|line| find.matches(line), FOUND_MAX),
        None => ((window.first..=window.last).collect(), 0),
    };
    let base = context.links().test(test.sha.as_str(), test.key.as_str());
    let address = |line: usize| {
        let full = if test.full { "log=full&" } else { "" };
        format!("{base}?{full}line={line}#L{line}")
    };
    let total = log_text.total();
    let lines = log_text
        .lines_at(&numbers)
        .into_iter()
        .map(|line| LogLine {
            number: line.number,
            href: if find.is_some() { address(line.number) } else { format!("#L{}", line.number) },
            class: line.class,
            stamp: line.stamp.into(),
            text: line.text,
            failure: log_text.failure == Some(line.number),
        })
        .collect();
    let on_page = |line| find.is_none() && inside(window, line);
    let href = |line| if on_page(line) { format!("#L{line}") } else { address(line) };
    let marks = log_text.marks.iter().map(|mark| MarkLine {
        line: mark.line,
        href: href(mark.line),
        class: mark_class(mark.kind.class()),
        text: mark.text.clone(),
    });
    let marks = marks.collect();
    Ok(Some(LogView {
        marks,
        note: (!all).then(too_large),
        lines,
        first: window.first,
        last: window.last,
        total,
        earlier: (find.is_none() && window.first > 1).then(|| address(window.first - 1)),
        later: (find.is_none() && window.last < total).then(|| address(window.last + 1)),
        follow: (log.is_live() && find.is_none() && window.last == total && all).then(|| {
            let (bytes, lines) = complete_lines(&bytes, total);
            format!("{base}follow?{}from={bytes}:{lines}", if test.full { "log=full&" } else { "" })
        }),
        found: if find.is_some() { found_text(found, total) } else { String::new() },
        find: test.find.as_deref().unwrap_or("").into(),
        whole: if test.full { format!("{base}?log=full") } else { base },
    }))
}

/// The bytes and the lines of a live log without an incomplete last line, which is sent again later.
fn complete_lines(bytes: &[u8], total: usize) -> (usize, usize) {
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(at) if at + 1 == bytes.len() => (bytes.len(), total),
        Some(at) => (at + 1, total - 1),
        None => (0, 0),
    }
}

fn too_large() -> String {
    let shown = READ_MAX >> 20;
    format!("Too large to display: only the first {shown} MiB are shown. The raw log is complete.")
}

fn found_text(found: usize, total: usize) -> String {
    match found {
        0 => format!("none of {total} lines match"),
        found if found > FOUND_MAX => format!("first {FOUND_MAX} of {found} matching lines"),
        found => format!("{} of {total} match", found.plural("line")),
    }
}

fn inside(window: Window, line: usize) -> bool {
    (window.first..=window.last).contains(&line)
}

/// The style class of an important line, with the color of its status.
fn mark_class(class: &'static str) -> &'static str {
    match class {
        "k" | "mf" => "s-failed",
        "mp" => "s-passed",
        _ => "mute",
    }
}
