//! Finds the first bad commit of a test, from its statuses at the commits of a branch, newest first.
//!
//! Only Passed and Failed count. A commit without such a verdict (not tested, not built, skipped) neither starts nor
//! ends a stretch of failures, but it may be the culprit, see [`Stretch::untested_between`].

use std::collections::HashMap;

use model::{Counts, Status};
use results::BranchEntry;

use crate::{CommitStatuses, Lookup};

/// A stretch of commits at which a test fails, without a pass in between. Rows are numbered from the newest commit,
/// which is row 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The oldest failing commit.
    pub first_bad: usize,
    /// The newest failing commit.
    pub last_bad: usize,
    /// The newest older commit that passes; `None` if no older commit of the range passes.
    pub last_good: Option<usize>,
    /// The oldest newer commit that passes; `None` if the test still fails.
    pub first_good: Option<usize>,
}

impl Stretch {
    /// Whether the test still fails.
    #[must_use]
    pub fn still_fails(&self) -> bool {
        self.first_good.is_none()
    }

    /// The number of commits between the last good and the first bad commit. Each of them may be the culprit.
    #[must_use]
    pub fn untested_between(&self) -> usize {
        self.last_good.map_or(0, |good| good.saturating_sub(self.first_bad + 1))
    }
}

/// The state of the search for one test.
#[derive(Debug, Clone, Copy, Default)]
pub struct Search {
    /// The oldest pass seen so far.
    passed: Option<usize>,
    /// The stretch for which no older pass has been found yet.
    open: Option<Stretch>,
}

impl Search {
    /// Processes the status of the next older row. Returns the stretch of failures that a pass in this row completes.
    ///
    /// If neighboring rows have equal statuses, the oldest of them is enough for a search that is already in that
    /// state.
    pub fn step(&mut self, row: usize, status: Status) -> Option<Stretch> {
        match status {
            Status::Passed => {
                self.passed = Some(row);
                self.open.take().map(|open| Stretch { last_good: Some(row), ..open })
            }
            Status::Failed => {
                match &mut self.open {
                    Some(open) => open.first_bad = row,
                    None => {
                        let first_good = self.passed;
                        self.open =
                            Some(Stretch { first_bad: row, last_bad: row, last_good: None, first_good });
                    }
                }
                None
            }
            // Flaky: it both passes and fails here, so it neither begins nor ends a stretch.
            Status::NotRun | Status::FailedToRun | Status::InProgress | Status::Unknown | Status::Flaky => {
                None
            }
        }
    }

    /// The stretch of failures without an older pass, at the end of the range.
    #[must_use]
    pub fn finish(self) -> Option<Stretch> {
        self.open
    }
}

/// All stretches of failures of one test, newest first.
pub fn stretches(newest_first: impl IntoIterator<Item = Option<Status>>) -> Vec<Stretch> {
    let mut search = Search::default();
    let mut found = Vec::new();
    for (row, status) in newest_first.into_iter().enumerate() {
        found.extend(status.and_then(|status| search.step(row, status)));
    }
    found.extend(search.finish());
    found
}

/// The first bad commit of each test that fails at a commit. Row 0 is that commit, row 1 its parent.
///
/// `older` yields the statuses of the parent, the grandparent and so on (`None`: no results). It is read until an older
/// pass is found for every test, which usually takes one or two commits.
pub fn first_bad<'a>(
    failing: &[&'a str],
    older: impl IntoIterator<Item = Option<CommitStatuses>>,
) -> HashMap<&'a str, Stretch> {
    let mut found = HashMap::with_capacity(failing.len());
    let begin = |name: &&'a str| {
        let mut search = Search::default();
        search.step(0, Status::Failed);
        (*name, search)
    };
    let mut open: Vec<(&str, Search)> = failing.iter().map(begin).collect();
    let mut older = older.into_iter().zip(1..);
    let mut lookup = Lookup::default();
    while !open.is_empty() {
        let Some((commit, row)) = older.next() else { break };
        let Some(commit) = commit else { continue };
        open.retain_mut(|(name, search)| {
            let stretch = lookup.get(&commit, name).and_then(|status| search.step(row, status));
            found.extend(stretch.map(|stretch| (*name, stretch)));
            stretch.is_none()
        });
    }
    found.extend(open.into_iter().filter_map(|(name, search)| Some((name, search.finish()?))));
    found
}

/// The number of commits directly before `row` at which no test passed or failed. A test that fails at `row` may have
/// been broken by any of them.
#[must_use]
pub fn untested_before(newest_first: &[BranchEntry], row: usize) -> usize {
    let judged = |counts: &Counts| counts.passed + counts.failed > 0;
    let older = newest_first.get(row + 1..).unwrap_or_default();
    older.iter().take_while(|entry| !judged(&entry.counts)).count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Names;

    fn status(letter: char) -> Option<Status> {
        Some(match letter {
            'p' => Status::Passed,
            'f' => Status::Failed,
            'r' => Status::FailedToRun,
            'n' => Status::NotRun,
            'k' => Status::Flaky,
            'i' => Status::InProgress,
            '?' => Status::Unknown,
            _ => return None,
        })
    }

    fn of(newest_first: &str) -> Vec<Stretch> {
        stretches(newest_first.chars().map(status))
    }

    fn stretch(rows: std::ops::RangeInclusive<usize>, good: (Option<usize>, Option<usize>)) -> Stretch {
        let (first_good, last_good) = good;
        Stretch { last_bad: *rows.start(), first_bad: *rows.end(), last_good, first_good }
    }

    #[test]
    fn stretches_of_one_test() {
        assert_eq!(of(""), []);
        assert_eq!(of("-r-"), []);
        assert_eq!(of("-p-p"), []);
        assert_eq!(of("-frf-pf"), [stretch(1..=3, (None, Some(5))), stretch(6..=6, (Some(5), None))]);
        assert_eq!(of("-frf-pf")[0].untested_between(), 1);
        assert_eq!(of("ff-"), [stretch(0..=1, (None, None))]);
        // A flaky failure is no first bad commit, but its commit may be what made the test flaky.
        assert_eq!(of("kpkpk"), []);
        assert_eq!(of("kfkp"), [stretch(1..=1, (None, Some(3)))]);
        assert_eq!(of("kfkp")[0].untested_between(), 1);
        assert_eq!(of("p-prfp"), [stretch(4..=4, (Some(2), Some(5)))]);
    }

    #[test]
    fn the_search_stops_when_every_test_has_passed() {
        let names: Names = ["a", "b", "c"].map(Box::from).into();
        let row = |letters: &str| {
            let statuses = letters.chars().filter_map(status).collect();
            Some(CommitStatuses { names: Arc::clone(&names), statuses })
        };
        let rows = [row("rrr"), row("pff"), None, row("fpf")];
        let found = first_bad(&["a", "b", "c"], rows.clone());
        assert_eq!(found["a"], stretch(0..=0, (None, Some(2))));
        assert_eq!(found["b"], stretch(0..=2, (None, Some(4))));
        assert_eq!(found["c"], stretch(0..=4, (None, None)));
        let mut read = 0;
        first_bad(&["a"], rows.into_iter().inspect(|_| read += 1));
        assert_eq!(read, 2);
    }

    /// The definition, row by row: a failing row belongs to the stretch between the nearest passes.
    fn naive(letters: &[char]) -> Vec<Stretch> {
        let mut found: Vec<Stretch> = Vec::new();
        for row in (0..letters.len()).filter(|row| letters[*row] == 'f') {
            let first_good = (0..row).rev().find(|row| letters[*row] == 'p');
            let last_good = (row..letters.len()).find(|row| letters[*row] == 'p');
            let newest = first_good.map_or(0, |good| good + 1);
            let oldest = last_good.unwrap_or(letters.len());
            let failing: Vec<usize> = (newest..oldest).filter(|row| letters[*row] == 'f').collect();
            let (last_bad, first_bad) = (failing[0], failing[failing.len() - 1]);
            found.push(Stretch { first_bad, last_bad, last_good, first_good });
        }
        found.dedup();
        found
    }

    proptest::proptest! {
        #[test]
        fn stretches_match_the_definition(letters in "[pfrnki?-]{0,20}") {
            let found = of(&letters);
            let letters: Vec<char> = letters.chars().collect();
            proptest::prop_assert_eq!(&found, &naive(&letters));
        }

        /// A search that stops early gives the same result as a search of the whole branch.
        #[test]
        fn the_first_bad_commit_of_a_failing_test(older in "[pfrnki?-]{0,20}") {
            let names: Names = ["a"].map(Box::from).into();
            let row = |letter| Some(CommitStatuses { names: Arc::clone(&names), statuses: [status(letter)?].into() });
            let found = first_bad(&["a"], older.chars().map(row));
            proptest::prop_assert_eq!(found["a"], of(&format!("f{older}"))[0]);
        }
    }
}
