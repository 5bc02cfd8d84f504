//! The failure columns of a branch page: one column per failing test, so that a reader sees at which commit it turns
//! red.
//!
//! A column is thick where the test fails, thin where it passes, half thick where it is flaky, dashed where it failed
//! to run, and empty where there is no result: the shape carries the status, and the color repeats it. One `path` per status and row keeps a row
//! small.

use model::Status;

/// The maximum number of tests with a column.
pub const COLUMNS_MAX: usize = 18;
/// The width of a column, in pixels.
pub const COLUMN_WIDTH: usize = 11;

/// All columns of one status in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnPath {
    /// The last letter of the style class.
    pub class: char,
    /// The shapes, as SVG path data in a row of height 10.
    pub path: String,
}

/// The letter of a column: a to z.
#[must_use]
pub fn letter(column: usize) -> char {
    char::from(b'a' + u8::try_from(column % 26).unwrap_or(0))
}

/// The shapes of one row, given the status of the test of each column.
#[must_use]
pub fn paths(statuses: &[Option<Status>]) -> Vec<ColumnPath> {
    let mut paths: Vec<ColumnPath> = Vec::new();
    for (column, status) in statuses.iter().enumerate() {
        let left = column * COLUMN_WIDTH;
        let (class, shape) = match status {
            Some(Status::Failed) => ('f', format!("M{} 0h7v10h-7z", left + 2)),
            Some(Status::Flaky) => ('k', format!("M{} 0h7v4h-7zM{} 4h1v6h-1z", left + 2, left + 5)),
            Some(Status::Passed) => ('p', format!("M{} 0h1v10h-1z", left + 5)),
            Some(Status::FailedToRun | Status::Unknown) => {
                ('r', format!("M{} 0h3v3h-3zM{0} 6h3v3h-3z", left + 4))
            }
            Some(Status::InProgress) => ('i', format!("M{} 3h3v4h-3z", left + 4)),
            Some(Status::NotRun) => ('n', format!("M{} 4h1v2h-1z", left + 5)),
            None => continue,
        };
        match paths.iter_mut().find(|path| path.class == class) {
            Some(path) => path.path.push_str(&shape),
            None => paths.push(ColumnPath { class, path: shape }),
        }
    }
    paths
}

/// The letter above a column.
pub(super) struct ColumnLetter {
    pub(super) x: usize,
    pub(super) letter: char,
}

impl ColumnLetter {
    pub(super) fn new(column: usize) -> Self {
        Self { x: column * COLUMN_WIDTH + COLUMN_WIDTH / 2, letter: letter(column) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_statuses_share_a_path() {
        let row = paths(&[Some(Status::Failed), None, Some(Status::Failed), Some(Status::Passed)]);
        assert_eq!(row[0], ColumnPath { class: 'f', path: "M2 0h7v10h-7zM24 0h7v10h-7z".into() });
        assert_eq!(row[1].class, 'p');
        assert_eq!(row.len(), 2);
        assert_eq!((letter(0), letter(25)), ('a', 'z'));
    }
}
