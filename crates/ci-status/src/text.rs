//! How things look on a terminal: colours of statuses, durations, columns. Colours are always written; where the output
//! is no terminal, [`anstream`] takes them out again.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Effects, Style};
use model::{Counts, Status};

/// The style of a status.
pub fn style(status: Status) -> Style {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    match status {
        Status::Passed => colour(AnsiColor::Green),
        Status::Failed => colour(AnsiColor::Red).bold(),
        Status::FailedToRun => colour(AnsiColor::Magenta),
        Status::InProgress => colour(AnsiColor::Cyan),
        Status::NotRun => FAINT,
        Status::Unknown => colour(AnsiColor::Yellow),
    }
}

/// What matters less.
pub const FAINT: Style = Style::new().effects(Effects::DIMMED);
/// A commit's id.
pub const COMMIT: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
/// A heading.
pub const HEADING: Style = Style::new().bold();

/// A text in a style.
pub fn paint(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The order in which statuses are told: what needs a look first.
pub const BY_CONCERN: [Status; 6] = [
    Status::Failed,
    Status::FailedToRun,
    Status::Unknown,
    Status::InProgress,
    Status::NotRun,
    Status::Passed,
];

/// The counts that are not zero, in words: `1 failed, 12 passed`.
pub fn counts(counts: &Counts) -> String {
    let mut parts = Vec::new();
    for status in BY_CONCERN {
        let count = counts.get(status);
        if count > 0 {
            parts.push(paint(style(status), format_args!("{count} {}", status.label().to_lowercase())));
        }
    }
    if parts.is_empty() { "no results".into() } else { parts.join(", ") }
}

/// A duration for people: `850 ms`, `12.3 s`, `3m 12s`, `2h 05m`.
pub fn duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.as_millis());
    match seconds {
        0 if millis == 0 => "0 s".into(),
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A number of bytes for people: `812 B`, `14.2 KiB`, `3.1 MiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let unit = (1..=units.len()).rev().find(|unit| bytes >> (10 * unit) > 0);
    match unit {
        None => format!("{bytes} B"),
        Some(unit) => {
            let tenths = (u128::from(bytes) * 10) >> (10 * unit);
            format!("{}.{} {}", tenths / 10, tenths % 10, units[unit - 1])
        }
    }
}

/// How long ago a moment was, in Unix seconds.
pub fn ago(then: i64, now: i64) -> String {
    let seconds = u64::try_from(now.saturating_sub(then)).unwrap_or(0);
    match seconds {
        0..60 => format!("{seconds} s ago"),
        _ => format!("{} ago", duration(Duration::from_secs(seconds))),
    }
}

/// Columns: each as wide as its widest cell, the last as it comes.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

/// One cell.
#[derive(Debug)]
pub struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    /// A cell of text, to the left.
    pub fn left(text: impl fmt::Display) -> Self {
        Self { text: clean(&text.to_string()), style: Style::new(), right: false }
    }

    /// A cell of numbers, to the right.
    pub fn right(text: impl fmt::Display) -> Self {
        Self { right: true, ..Self::left(text) }
    }

    /// The cell in a style.
    pub fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

impl Table {
    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let pad = widths[at] - cell.text.chars().count();
                let (before, after) = if cell.right { (pad, 0) } else { (0, pad) };
                let after = if at + 1 == row.len() { 0 } else { after + 2 };
                let text = if cell.text.is_empty() { String::new() } else { paint(cell.style, &cell.text) };
                write!(line, "{:before$}{text}{:after$}", "", "")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The text without what a terminal would obey: commit messages and reasons are other people's.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Passes bytes on, but for those that a terminal would obey.
#[derive(Debug)]
pub struct Tame<W: Write> {
    inner: W,
    /// The last byte was the first half of a character, maybe of a control character (U+0080 to U+009F).
    half: bool,
}

impl<W: Write> Tame<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, half: false }
    }
}

impl<W: Write> Write for Tame<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let half = std::mem::replace(&mut self.half, byte == 0xc2);
            match byte {
                0x80..=0x9f if half => out.push(b'?'),
                _ => {
                    if half {
                        out.push(0xc2);
                    }
                    match byte {
                        b'\n' | b'\t' | b' '..=0x7e | 0x80.. if byte != 0xc2 => out.push(byte),
                        0xc2 | b'\r' => {}
                        _ => out.push(b'?'),
                    }
                }
            }
        }
        self.inner.write_all(&out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let text = |ms| duration(Duration::from_millis(ms));
        assert_eq!(
            [text(0), text(850), text(12_345), text(192_000), text(7_500_000)],
            ["0 s", "850 ms", "12.3 s", "3m 12s", "2h 05m"]
        );
        assert_eq!([ago(95, 100), ago(0, 7200), ago(9, 5)], ["5 s ago", "2h 00m ago", "0 s ago"]);
    }

    #[test]
    fn logs_are_tame_on_a_terminal() {
        let tame = |parts: &[&str]| {
            let mut out = Vec::new();
            let mut writer = Tame::new(&mut out);
            for part in parts {
                writer.write_all(part.as_bytes()).unwrap();
            }
            String::from_utf8(out).unwrap()
        };
        assert_eq!(tame(&["a\tb\r\n", "\u{1b}[2J\u{7}"]), "a\tb\n?[2J?");
        assert_eq!(tame(&["ü£", "\u{9b}2J é"]), "ü£?2J é");
    }

    #[test]
    fn tables_line_up_and_obey_nobody() {
        let mut table = Table::default();
        table.row([Cell::left("a"), Cell::right(1), Cell::left("x")]);
        table.row([Cell::left("bcd"), Cell::right(100), Cell::left("\u{1b}[2Jy")]);
        assert_eq!(table.to_string(), "a      1  x\nbcd  100  \u{fffd}[2Jy\n");
    }
}
