//! The colors of a log on a terminal: kernel trouble and failures red, passes green, other marker lines cyan. What the log itself
//! would color is removed.

use std::io::{self, Write};

use anstyle::Style;
use crash::line::{Classifier, LineClass, split};
use model::Status;
use model::marker::Marker;
use stdio::terminal::Filter;

use crate::text;

/// The maximum length of a line that is colored, in bytes; the rest of a longer one is written as it is.
const LINE_MAX: usize = 64 << 10;

/// A writer that colors the lines of a log.
pub struct LogColors<W: Write> {
    inner: W,
    classifier: Classifier,
    line: Vec<u8>,
}

impl<W: Write> LogColors<W> {
    /// Colors the lines that are written to it.
    pub fn new(inner: W) -> Self {
        Self { inner, classifier: Classifier::default(), line: Vec::new() }
    }

    fn style(&mut self, line: &str) -> Style {
        let line = split(line);
        let status = match Marker::parse_text(line.text) {
            Some(Marker::Failed(_) | Marker::Failure) => Status::Failed,
            Some(Marker::Passed(_) | Marker::Success) => Status::Passed,
            Some(_) => Status::InProgress,
            None => {
                return match self.classifier.line(&line) {
                    LineClass::Trouble => text::style(Status::Failed),
                    LineClass::Report => anstyle::AnsiColor::Red.on_default(),
                    LineClass::Plain | LineClass::Error | LineClass::Debug => Style::new(),
                };
            }
        };
        self.classifier.end_report();
        text::style(status)
    }

    fn end_line(&mut self) -> io::Result<()> {
        let mut plain = Vec::with_capacity(self.line.len());
        let mut filter = Filter::new(&mut plain);
        filter.write_all(&self.line)?;
        filter.finish()?;
        self.line.clear();
        let plain = String::from_utf8_lossy(&plain).into_owned();
        let (content, end) = plain.strip_suffix('\n').map_or((plain.as_str(), ""), |content| (content, "\n"));
        let style = self.style(content);
        write!(self.inner, "{style}{content}{style:#}{end}")
    }
}

impl<W: Write> Write for LogColors<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > LINE_MAX {
                self.end_line()?;
            }
        }
        Ok(bytes.len())
    }

    /// Also writes an incomplete line.
    fn flush(&mut self) -> io::Result<()> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_red_and_the_log_has_no_colors_of_its_own() {
        let log = b"00001 ========= TEST   punch\n00001 \x1b[32mfine\n00002 kernel BUG at fs/ext4/inode.c:1!\n00003 ========= FAILED punch in 2s\nhalf";
        let mut out = Vec::new();
        let mut colors = LogColors::new(&mut out);
        for piece in log.chunks(7) {
            colors.write_all(piece).unwrap();
        }
        colors.flush().unwrap();
        drop(colors);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("\u{1b}[36m"), "{text:?}");
        assert_eq!(lines[1], "00001 \u{fffd}[32mfine");
        assert!(
            lines[2].starts_with("\u{1b}[1m\u{1b}[31m") && lines[3].starts_with("\u{1b}[1m\u{1b}[31m"),
            "{text:?}"
        );
        assert_eq!(lines[4], "half");
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain.lines().count(), 5);
    }
}
