//! The lanes of a branch: one column a failing test, so that the eye sees at which commit a line turns red.
//!
//! A lane is thick where the test fails, thin where it passes, dashed where it could not run, absent where nothing is
//! known: the shape says it, the colour only repeats it. One `path` a status and row keeps a row's bytes few.

use model::Status;

/// How many tests get a lane.
pub const LANES_MAX: usize = 20;
/// The width of a lane.
pub const LANE_WIDTH: usize = 11;

/// The lanes of one status in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanePath {
    /// The style class's last letter.
    pub class: char,
    /// The shapes, as SVG path data in a row of height 10.
    pub path: String,
}

/// The letter of a lane: a to z.
#[must_use]
pub fn letter(lane: usize) -> char {
    char::from(b'a' + u8::try_from(lane % 26).unwrap_or(0))
}

/// The shapes of one row, from the status of each lane's test.
#[must_use]
pub fn paths(statuses: &[Option<Status>]) -> Vec<LanePath> {
    let mut paths: Vec<LanePath> = Vec::new();
    for (lane, status) in statuses.iter().enumerate() {
        let left = lane * LANE_WIDTH;
        let (class, shape) = match status {
            Some(Status::Failed) => ('f', format!("M{} 0h7v10h-7z", left + 2)),
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
            None => paths.push(LanePath { class, path: shape }),
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_statuses_share_a_path() {
        let row = paths(&[Some(Status::Failed), None, Some(Status::Failed), Some(Status::Passed)]);
        assert_eq!(row[0], LanePath { class: 'f', path: "M2 0h7v10h-7zM24 0h7v10h-7z".into() });
        assert_eq!(row[1].class, 'p');
        assert_eq!(row.len(), 2);
        assert_eq!((letter(0), letter(25)), ('a', 'z'));
    }
}
