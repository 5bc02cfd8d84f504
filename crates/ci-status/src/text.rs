//! Text output: colors of statuses, durations, tables. Colors are always written; [`anstream`] removes them if the
//! output is not a terminal.

use std::fmt::{self, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Effects, Style};
use model::{ByteSize, Counts, Status};
use regress::builds;
use results::Authorship;
use results::json::BuildRow;
use stdio::terminal;

/// The maximum length of a name, in characters.
const NAME_MAX: usize = 60;

/// The style of a status.
pub fn style(status: Status) -> Style {
    let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
    match status {
        Status::Passed => color(AnsiColor::Green),
        Status::Failed => color(AnsiColor::Red).bold(),
        Status::FailedToRun => color(AnsiColor::Magenta),
        Status::Flaky => color(AnsiColor::Yellow),
        Status::InProgress => color(AnsiColor::Cyan),
        Status::NotRun => FAINT,
        Status::Unknown => color(AnsiColor::Yellow),
    }
}

/// The style of less important text.
pub const FAINT: Style = Style::new().effects(Effects::DIMMED);
/// The style of commit ids.
pub const COMMIT: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
/// The style of headings.
pub const HEADING: Style = Style::new().bold();

/// A text in a style.
pub fn paint(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The counts that are not zero: `1 failed, 12 passed`.
pub fn counts(counts: &Counts) -> String {
    counts.words_with(|status, words| paint(style(status), words))
}

/// The counts of a commit with these builds: `build failed, 12 passed`. A kernel that does not build is no failure of its tests.
pub fn results(all: &Counts, build: Option<&BuildRow>) -> String {
    let Some((build, what)) = build.and_then(|build| Some((build, build.what.as_deref()?))) else {
        return counts(all);
    };
    let failed = paint(style(Status::Failed), format_args!("{what} failed"));
    let others = builds::other_counts(all, build);
    if others.total() == 0 { failed } else { format!("{failed}, {}", counts(&others)) }
}

/// A duration: `850 ms`, `12.3 s`, `3m 12s`, `2h 05m`.
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

/// A size: `812 B`, `14.2 KiB`, `3.1 MiB`.
pub fn bytes(bytes: u64) -> String {
    ByteSize(bytes).rounded()
}

/// The time between two moments, in Unix seconds: `5 s`, `2h 00m`, `3 d`.
pub fn elapsed(then: i64, now: i64) -> String {
    let seconds = u64::try_from(now.saturating_sub(then)).unwrap_or(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        172_800.. => format!("{} d", seconds / 86_400),
        _ => duration(Duration::from_secs(seconds)),
    }
}

/// The age of a moment, in Unix seconds: `5 s ago`.
pub fn ago(then: i64, now: i64) -> String {
    format!("{} ago", elapsed(then, now))
}

/// Author and age of a commit: `Kim, 3 d ago`; empty if both are unknown.
pub fn by(authorship: &Authorship, now: i64) -> String {
    let name: String = terminal::line(authorship.name()).chars().take(NAME_MAX).collect();
    let age = if authorship.date > 0 { ago(authorship.date, now) } else { String::new() };
    [name, age].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// A table: each column is as wide as its widest cell, and the last one is not padded.
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
    /// A left-aligned cell.
    pub fn left(text: impl fmt::Display) -> Self {
        Self { text: terminal::line(&text.to_string()), style: Style::new(), right: false }
    }

    /// A right-aligned cell.
    pub fn right(text: impl fmt::Display) -> Self {
        Self { right: true, ..Self::left(text) }
    }

    /// Sets the style.
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
    fn table_cells_line_up_without_control_characters() {
        let mut table = Table::default();
        table.row([Cell::left("a"), Cell::right(1), Cell::left("x")]);
        table.row([Cell::left("bcd"), Cell::right(100), Cell::left("\u{1b}[2Jy")]);
        assert_eq!(table.to_string(), "a      1  x\nbcd  100  \u{fffd}[2Jy\n");
    }
}
