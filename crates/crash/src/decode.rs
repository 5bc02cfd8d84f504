//! Adds source lines to a report, in a format that [`crate::reports`] reads: `f+0x1/0x2 fs/a.c:12`, preceded by `g
//! fs/a.h:3 [inline]` for an inlined function. The caller looks up the source lines.

use crate::frame::{self, Frame};
use crate::report::Report;
use crate::stamp::split;

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
    /// The report in `log` with source lines and without stamps. `locate` returns the source lines of a frame, inlined
    /// functions first; each inlined function gets its own line.
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
