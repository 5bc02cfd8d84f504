//! Adds source lines to a report, in a format that [`crate::reports`] reads: `f+0x1/0x2 fs/a.c:12`, and
//! `g fs/a.h:3 [inline]` before it for an inlined function. The caller looks the lines up.

use std::sync::LazyLock;

use regex::Regex;

use crate::frame::{self, Frame};
use crate::line::split;
use crate::report::Report;
use crate::title::canonical;
use crate::trouble::TroubleKind;

/// A position in the source of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLine {
    /// The function.
    pub function: String,
    /// Its source file.
    pub file: String,
    /// The line.
    pub line: u32,
}

impl Report {
    /// The report with source lines and without stamps, cut out of its `log`. `locate` returns the source lines of a
    /// frame, the inlined functions first; each of them gets a line of its own.
    #[must_use]
    pub fn decoded(&self, log: &str, mut locate: impl FnMut(&Frame) -> Vec<SourceLine>) -> String {
        let mut text = String::new();
        for raw in self.excerpt(log).lines() {
            let line = split(raw).text.trim_end();
            let frame = frame::parse(line).filter(|frame| frame.source.is_none() && frame.offset.is_some());
            let mut places = frame.map_or_else(Vec::new, |frame| locate(&frame));
            let own = places.pop();
            let indent = &line[..line.len() - line.trim_start().len()];
            for SourceLine { function, file, line } in places {
                text.push_str(&format!("{indent}{function} {file}:{line} [inline]\n"));
            }
            match own {
                Some(SourceLine { file, line: number, .. }) => {
                    text.push_str(&format!("{line} {file}:{number}\n"));
                }
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }
}

static PLACE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"([\w./+-]+\.(?:[chS]|rs)):(\d+)(?:.* (?:at )?([\w.]+)\+0x)?").expect("a regular expression")
});

/// SourceLine file and line of the function `guilty`, where the line that opens a report tells: of BUG(), WARN() and UBSAN,
/// unless they stand in what others call.
pub(crate) fn first_line(text: &str, kind: TroubleKind, guilty: &str) -> Option<(String, u32)> {
    if !matches!(kind, TroubleKind::KernelBug | TroubleKind::Warning | TroubleKind::Ubsan) {
        return None;
    }
    let found = PLACE.captures(text)?;
    let own = match found.get(3) {
        Some(function) => canonical(function.as_str()) == guilty,
        None => !["lib/", "include/", "rust/"].iter().any(|folder| found[1].contains(folder)),
    };
    own.then_some(())?;
    Some((found[1].trim_start_matches("./").to_owned(), found[2].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_lines_in_the_first_line() {
        for (text, kind, source) in [
            ("kernel BUG at fs/ext4/inode.c:4001!", TroubleKind::KernelBug, Some(("fs/ext4/inode.c", 4001))),
            ("kernel BUG at lib/list_debug.c:53!", TroubleKind::KernelBug, None),
            ("WARNING: CPU: 0 PID: 1 at fs/a.c:30 f+0x25/0x30", TroubleKind::Warning, Some(("fs/a.c", 30))),
            (
                "WARNING: CPU: 0 PID: 1 at lib/refcount.c:30 refcount_warn_saturate+0x25/0x30",
                TroubleKind::Warning,
                None,
            ),
            ("WARNING: fs/a.c:30 at f+0x25/0x30, CPU#0: rm/1", TroubleKind::Warning, Some(("fs/a.c", 30))),
            ("UBSAN: shift-out-of-bounds in ./fs/a.c:30:12", TroubleKind::Ubsan, Some(("fs/a.c", 30))),
            ("BUG: KASAN: use-after-free in f+0x25/0x30 fs/a.c:1", TroubleKind::Kasan, None),
            ("WARNING: possible", TroubleKind::Warning, None),
        ] {
            let source = source.map(|(file, line)| (file.to_owned(), line));
            assert_eq!(first_line(text, kind, "f"), source, "{text}");
        }
    }
}
