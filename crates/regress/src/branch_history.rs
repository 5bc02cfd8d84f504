//! The tests of a branch over all its commits: what each commit broke and fixed, and all stretches of failures.
//!
//! A single walk from the newest commit to the oldest, with a [`Search`] per test. If a commit has the same tests as
//! its neighbor, it costs only the tests with a different status.

use std::collections::HashMap;
use std::sync::Arc;

use model::Status;

use crate::first_bad::{Search, Stretch};
use crate::{CommitStatuses, Names};

/// A test, as an index into the list of test names of the branch.
pub type TestId = u32;

/// What changed at a commit, compared with the older commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Tests that fail here and passed before, sorted by name.
    pub broke: Vec<TestId>,
    /// Tests that pass here and failed before, sorted by name.
    pub fixed: Vec<TestId>,
    /// The number of tests that failed to run here, and did not before.
    pub stopped: usize,
    /// The number of tests that ran here, and failed to run before.
    pub resumed: usize,
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A stretch of failures of one test of the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The test.
    pub test: TestId,
    /// Where it fails.
    pub stretch: Stretch,
}

#[derive(Debug, Clone, Copy, Default)]
struct TestState {
    search: Search,
    /// The oldest verdict so far, and the oldest row that has it.
    verdict: Option<(Status, usize)>,
}

struct Row {
    /// The test of each status.
    ids: Arc<[TestId]>,
    statuses: Arc<[Status]>,
    delta: Delta,
}

/// The history of a branch. Rows are numbered from the newest commit, which is row 0.
#[derive(Default)]
pub struct BranchHistory {
    names: Vec<Box<str>>,
    by_name: HashMap<Box<str>, TestId>,
    states: Vec<TestState>,
    rows: Vec<Option<Row>>,
    failures: Vec<Failure>,
    last: Option<LastRow>,
}

/// The oldest row with results so far.
struct LastRow {
    commit: CommitStatuses,
    ids: Arc<[TestId]>,
    row: usize,
}

/// The indices at which two lists of the same length differ. Whole chunks are compared first, which the compiler
/// vectorizes.
fn differences(newer: &[Status], older: &[Status]) -> Vec<usize> {
    const CHUNK: usize = 64;
    let mut found = Vec::new();
    for (number, (newer, older)) in newer.chunks(CHUNK).zip(older.chunks(CHUNK)).enumerate() {
        let unequal = newer.iter().zip(older).fold(0, |bits, (a, b)| bits | (*a as u8 ^ *b as u8));
        if unequal != 0 {
            let differ = |at: &usize| newer[*at] != older[*at];
            found.extend((0..newer.len().min(older.len())).filter(differ).map(|at| number * CHUNK + at));
        }
    }
    found
}

impl BranchHistory {
    /// The history of commits listed newest first. `None` is a commit without results.
    pub fn new(newest_first: impl IntoIterator<Item = Option<CommitStatuses>>) -> Self {
        let mut history = Self::default();
        for commit in newest_first {
            history.push(commit);
        }
        history.finish();
        history
    }

    /// The name of a test.
    #[must_use]
    pub fn name(&self, test: TestId) -> &str {
        &self.names[test as usize]
    }

    /// What changed at a commit; `None` if it has no results.
    #[must_use]
    pub fn delta(&self, row: usize) -> Option<&Delta> {
        self.row(row).map(|row| &row.delta)
    }

    /// All failures. Tests that still fail come first, then the most recently fixed; within each group, the most
    /// recently broken come first.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// The statuses of `tests` at a commit, in the same order.
    #[must_use]
    pub fn statuses(&self, row: usize, tests: &[TestId]) -> Vec<Option<Status>> {
        tests.iter().map(|test| self.status(row, *test)).collect()
    }

    /// The status of a test at a commit.
    #[must_use]
    pub fn status(&self, row: usize, test: TestId) -> Option<Status> {
        let row = self.row(row)?;
        // Most lists are sorted by name, and ids are assigned in that order.
        let at = row.ids.binary_search(&test).ok().or_else(|| row.ids.iter().position(|id| *id == test))?;
        Some(row.statuses[at])
    }

    /// The tests with this status at a commit.
    #[must_use]
    pub fn tests_with(&self, row: usize, status: Status) -> Vec<TestId> {
        let Some(row) = self.row(row) else { return Vec::new() };
        let found = row.ids.iter().zip(row.statuses.iter()).filter(|(_, of)| **of == status);
        found.map(|(test, _)| *test).collect()
    }

    fn row(&self, row: usize) -> Option<&Row> {
        self.rows.get(row)?.as_ref()
    }

    fn push(&mut self, commit: Option<CommitStatuses>) {
        let Some(commit) = commit else {
            self.rows.push(None);
            return;
        };
        let row = self.rows.len();
        let ids = self.ids_of(&commit.names);
        let statuses = Arc::clone(&commit.statuses);
        self.rows.push(Some(Row { ids: Arc::clone(&ids), statuses, delta: Delta::default() }));
        match self.last.take() {
            Some(last) if Arc::ptr_eq(&last.ids, &ids) => {
                for at in differences(&last.commit.statuses, &commit.statuses) {
                    self.step(ids[at], last.commit.statuses[at], last.row);
                    self.step(ids[at], commit.statuses[at], row);
                }
            }
            last => {
                self.step_all(last.as_ref());
                for (id, status) in ids.iter().zip(commit.statuses.iter()) {
                    self.step(*id, *status, row);
                }
            }
        }
        self.last = Some(LastRow { commit, ids, row });
    }

    fn step_all(&mut self, last: Option<&LastRow>) {
        let Some(last) = last else { return };
        for (id, status) in last.ids.iter().zip(last.commit.statuses.iter()) {
            self.step(*id, *status, last.row);
        }
    }

    /// Processes the status of a test in the next older row, or again in the oldest row in which it is unchanged.
    fn step(&mut self, test: TestId, status: Status, row: usize) {
        if let Some(stretch) = self.states[test as usize].search.step(row, status) {
            self.failure(test, stretch);
        }
        if matches!(status, Status::InProgress | Status::Unknown) {
            return;
        }
        let newer = self.states[test as usize].verdict.replace((status, row));
        match (newer, status) {
            (Some((Status::FailedToRun, _)), Status::FailedToRun) => {}
            (Some((Status::FailedToRun, newer_row)), _) => self.delta_mut(newer_row).stopped += 1,
            (Some((Status::Passed | Status::Failed | Status::Flaky, newer_row)), Status::FailedToRun) => {
                self.delta_mut(newer_row).resumed += 1;
            }
            _ => {}
        }
    }

    fn failure(&mut self, test: TestId, stretch: Stretch) {
        if stretch.last_good.is_some() {
            self.delta_mut(stretch.first_bad).broke.push(test);
        }
        if let Some(row) = stretch.first_good {
            self.delta_mut(row).fixed.push(test);
        }
        self.failures.push(Failure { test, stretch });
    }

    /// The delta of a row that has results.
    fn delta_mut(&mut self, row: usize) -> &mut Delta {
        &mut self.rows[row].as_mut().expect("a status was read in this row").delta
    }

    fn finish(&mut self) {
        let last = self.last.take();
        self.step_all(last.as_ref());
        for test in 0..self.states.len() {
            let TestState { search, verdict } = self.states[test];
            let id = TestId::try_from(test).expect("the id was given as a TestId");
            if let Some(stretch) = search.finish() {
                self.failure(id, stretch);
            }
            if let Some((Status::FailedToRun, row)) = verdict {
                self.delta_mut(row).stopped += 1;
            }
        }
        let Self { rows, names, failures, .. } = self;
        let name = |test: &TestId| &names[*test as usize];
        for row in rows.iter_mut().flatten() {
            row.delta.broke.sort_unstable_by_key(name);
            row.delta.fixed.sort_unstable_by_key(name);
        }
        failures.sort_by(|a, b| {
            let key = |Failure { stretch, .. }: &Failure| {
                (stretch.first_good.is_some(), stretch.last_bad, stretch.first_bad)
            };
            key(a).cmp(&key(b)).then_with(|| name(&a.test).cmp(name(&b.test)))
        });
    }

    fn ids_of(&mut self, names: &Names) -> Arc<[TestId]> {
        if let Some(last) = &self.last
            && (Arc::ptr_eq(&last.commit.names, names) || last.commit.names == *names)
        {
            return Arc::clone(&last.ids);
        }
        names
            .iter()
            .map(|name| {
                if let Some(id) = self.by_name.get(name) {
                    return *id;
                }
                let id = TestId::try_from(self.names.len()).expect("fewer than 2^32 tests");
                self.names.push(name.clone());
                self.by_name.insert(name.clone(), id);
                self.states.push(TestState::default());
                id
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(names: &Names, letters: &str) -> Option<CommitStatuses> {
        let status = |letter| match letter {
            'p' => Status::Passed,
            'f' => Status::Failed,
            'r' => Status::FailedToRun,
            'n' => Status::NotRun,
            'k' => Status::Flaky,
            'i' => Status::InProgress,
            _ => Status::Unknown,
        };
        let statuses = letters.chars().map(status).collect();
        (letters != "-").then(|| CommitStatuses { names: Arc::clone(names), statuses })
    }

    fn history(tests: &[&str], newest_first: &[&str]) -> BranchHistory {
        let names: Names = tests.iter().map(|name| Box::from(*name)).collect();
        BranchHistory::new(newest_first.iter().map(|letters| commit(&names, letters)))
    }

    fn stretch(rows: std::ops::RangeInclusive<usize>, good: (Option<usize>, Option<usize>)) -> Stretch {
        let (first_good, last_good) = good;
        Stretch { last_bad: *rows.start(), first_bad: *rows.end(), last_good, first_good }
    }

    #[test]
    fn a_failure_starts_and_ends_across_gaps() {
        let history = history(&["a", "b"], &["pp", "fp", "-", "fp", "rr", "pp", "pf"]);
        let deltas: Vec<_> = (0..7).map(|row| history.delta(row).cloned()).collect();
        assert_eq!(deltas[0].as_ref().unwrap().fixed, [0]);
        assert!(deltas[1].as_ref().unwrap().is_empty());
        assert!(deltas[2].is_none());
        assert_eq!(deltas[3], Some(Delta { broke: vec![0], resumed: 2, ..Delta::default() }));
        assert_eq!(deltas[4], Some(Delta { stopped: 2, ..Delta::default() }));
        assert_eq!(deltas[5].as_ref().unwrap().fixed, [1]);
        let stretches: Vec<_> = history.failures().iter().map(|failure| failure.stretch).collect();
        assert_eq!(stretches, [stretch(1..=3, (Some(0), Some(5))), stretch(6..=6, (Some(5), None))]);
        assert_eq!(history.statuses(4, &[1, 0]), [Some(Status::FailedToRun); 2]);
        assert_eq!(history.statuses(2, &[1]), [None]);
    }

    #[test]
    fn a_flaky_test_breaks_and_is_fixed_nowhere() {
        let commits: Vec<&str> = (0..40).map(|row| if row % 2 == 0 { "kf" } else { "pp" }).collect();
        let history = history(&["flaky", "alternates"], &commits);
        let of = |wanted: fn(&Delta) -> &Vec<TestId>, test: TestId| {
            (0..40)
                .filter(|row| history.delta(*row).is_some_and(|delta| wanted(delta).contains(&test)))
                .count()
        };
        assert_eq!((of(|delta| &delta.broke, 0), of(|delta| &delta.fixed, 0)), (0, 0));
        assert_eq!((of(|delta| &delta.broke, 1), of(|delta| &delta.fixed, 1)), (20, 19));
        assert!(history.failures().iter().all(|failure| history.name(failure.test) == "alternates"));
        assert_eq!(history.statuses(0, &[0]), [Some(Status::Flaky)]);
    }

    #[test]
    fn a_test_that_always_failed_did_not_break_here() {
        let history = history(&["a"], &["f", "f"]);
        assert!(history.delta(1).unwrap().broke.is_empty());
        assert_eq!(history.failures()[0].stretch.last_good, None);
    }

    /// The definition of a delta for one test, with its statuses as letters, newest first.
    fn naive(letters: &[Option<char>], row: usize) -> (bool, bool, bool, bool) {
        let here = letters[row];
        let before = |wanted: &str| {
            letters[row + 1..].iter().flatten().find(|letter| wanted.contains(**letter)).copied()
        };
        let ran = matches!(here, Some('p' | 'f' | 'k'));
        let failed_to_run_before = before("pfrnk") == Some('r');
        (
            here == Some('f') && before("pf") == Some('p'),
            here == Some('p') && before("pf") == Some('f'),
            here == Some('r') && !failed_to_run_before,
            ran && failed_to_run_before,
        )
    }

    proptest::proptest! {
        /// The commits have different tests: each row has only some of the three.
        #[test]
        fn deltas_and_failures_match_the_definition(
            rows in proptest::collection::vec(("[pfrnki?]{3}|-", 0_usize..5), 0..12),
        ) {
            const SETS: [&[usize]; 5] = [&[0, 1, 2], &[0, 1, 2], &[0, 2], &[2], &[1, 0]];
            let all = ["a", "b", "c"];
            let sets = SETS.map(|set| -> Names { set.iter().map(|test| Box::from(all[*test])).collect() });
            let letter = |row: usize, test: usize| {
                let (letters, set) = &rows[row];
                (letters != "-" && SETS[*set].contains(&test)).then(|| letters.chars().nth(test)).flatten()
            };
            let history = BranchHistory::new((0..rows.len()).map(|row| {
                let (letters, set) = &rows[row];
                let kept: String = SETS[*set].iter().filter_map(|test| letter(row, *test)).collect();
                if letters == "-" { None } else { commit(&sets[*set], &kept) }
            }));
            let mut sums = vec![(0, 0); rows.len()];
            for (test, name) in all.iter().enumerate() {
                let letters: Vec<_> = (0..rows.len()).map(|row| letter(row, test)).collect();
                for (row, sum) in sums.iter_mut().enumerate() {
                    let has = |tests: &[TestId]| tests.iter().any(|id| history.name(*id) == *name);
                    let (broke, fixed) =
                        history.delta(row).map_or((false, false), |delta| (has(&delta.broke), has(&delta.fixed)));
                    let (broke_naive, fixed_naive, stopped, resumed) = naive(&letters, row);
                    proptest::prop_assert_eq!((broke, fixed), (broke_naive, fixed_naive));
                    sum.0 += usize::from(stopped);
                    sum.1 += usize::from(resumed);
                }
                let status = |letter: &Option<char>| letter.map(|letter| match letter {
                    'p' => Status::Passed,
                    'f' => Status::Failed,
                    'k' => Status::Flaky,
                    _ => Status::Unknown,
                });
                let mut of_test: Vec<_> = history
                    .failures()
                    .iter()
                    .filter(|failure| history.name(failure.test) == *name)
                    .map(|failure| failure.stretch)
                    .collect();
                of_test.sort_by_key(|stretch| stretch.last_bad);
                proptest::prop_assert_eq!(of_test, crate::first_bad::stretches(letters.iter().map(status)));
            }
            let counted = (0..rows.len()).map(|row| history.delta(row).map_or((0, 0), |d| (d.stopped, d.resumed)));
            proptest::prop_assert_eq!(counted.collect::<Vec<_>>(), sums);
        }
    }
}
