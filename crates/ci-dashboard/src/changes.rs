//! What changed from commit to commit: newly failing, newly passing, and since when each failing test fails.
//!
//! A pure walk from the oldest commit to the newest over one status a test. A test is compared with its last verdict
//! that says something about it (Passed or Failed), so commits that were not tested or could not run hide no change;
//! how many such commits lie between is kept, since the change may be any of theirs.

use std::collections::HashMap;
use std::sync::Arc;

use model::Status;

/// A test, by its place in [`History::names`].
pub type TestId = u32;

/// The names of the tests of one commit, shared by all commits that have the same.
pub type Names = Arc<[Box<str>]>;

/// One commit's verdicts, in the order of its names.
#[derive(Debug, Clone)]
pub struct Verdicts {
    /// The tests.
    pub names: Names,
    /// Their statuses; as many as names.
    pub statuses: Arc<[Status]>,
}

/// What changed at one commit against the commits before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Failed here, passed before.
    pub broke: Vec<TestId>,
    /// Passed here, failed before.
    pub fixed: Vec<TestId>,
    /// How many could not run here and could before.
    pub stopped: usize,
    /// How many ran here and could not before.
    pub resumed: usize,
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A stretch of commits on which a test fails without a pass between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The test.
    pub test: TestId,
    /// The oldest commit that fails, as an index from the newest.
    pub first_bad: usize,
    /// The newest commit that fails.
    pub last_bad: usize,
    /// The newest commit before that passes; absent: it is not in sight.
    pub last_good: Option<usize>,
    /// The oldest commit after that passes; absent: it fails still.
    pub first_good: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The last verdict that says something, and the row it was given in.
    judged: Option<(Status, usize)>,
    /// Whether the last word was that it could not run.
    stopped: bool,
    /// Its last failure, in `failures`.
    failure: Option<usize>,
}

struct Row {
    /// From a place in the commit's list to the test.
    ids: Arc<[TestId]>,
    statuses: Arc<[Status]>,
    delta: Delta,
}

/// The walk over a branch.
#[derive(Default)]
pub struct History {
    names: Vec<Box<str>>,
    by_name: HashMap<Box<str>, TestId>,
    states: Vec<State>,
    rows: Vec<Option<Row>>,
    failures: Vec<Failure>,
    last: Option<Last>,
}

/// The last commit with results that was walked over.
struct Last {
    verdicts: Verdicts,
    ids: Arc<[TestId]>,
    row: usize,
}

/// The places at which two rows of the same length differ; equal stretches are skipped at the speed of memory.
fn differences(old: &[Status], new: &[Status]) -> Vec<usize> {
    const STRETCH: usize = 64;
    let mut places = Vec::new();
    for (number, (old, new)) in old.chunks(STRETCH).zip(new.chunks(STRETCH)).enumerate() {
        let unequal = old.iter().zip(new).fold(0, |bits, (old, new)| bits | (*old as u8 ^ *new as u8));
        if unequal != 0 {
            let differ = |at: &usize| old[*at] != new[*at];
            places.extend((0..old.len().min(new.len())).filter(differ).map(|at| number * STRETCH + at));
        }
    }
    places
}

impl History {
    /// Walks commits that are listed newest first; `None` is a commit without results.
    pub fn of(newest_first: impl DoubleEndedIterator<Item = Option<Verdicts>>) -> Self {
        let mut history = Self::default();
        for verdicts in newest_first.rev() {
            history.push(verdicts);
        }
        let last = history.last.take();
        history.settle_all(last.as_ref());
        history.number_from_newest();
        history
    }

    /// The name of a test.
    #[must_use]
    pub fn name(&self, test: TestId) -> &str {
        &self.names[test as usize]
    }

    /// What changed at a commit, counted from the newest.
    #[must_use]
    pub fn delta(&self, commit: usize) -> Option<&Delta> {
        self.row(commit).map(|row| &row.delta)
    }

    /// All failures: those that last first, then the latest mended; within each, the latest broken first.
    #[must_use]
    pub fn failures(&self) -> Vec<&Failure> {
        let mut sorted: Vec<_> = self.failures.iter().collect();
        sorted.sort_by(|a, b| {
            let key = |failure: &Failure| (failure.first_good.is_some(), failure.last_bad, failure.first_bad);
            key(a).cmp(&key(b)).then_with(|| self.name(a.test).cmp(self.name(b.test)))
        });
        sorted
    }

    /// The status of tests (sorted by name or not) at a commit, in the order given.
    pub fn statuses(&self, commit: usize, tests: &[TestId]) -> Vec<Option<Status>> {
        let Some(row) = self.row(commit) else { return vec![None; tests.len()] };
        let place = |test: TestId| {
            // Most lists are sorted by name and ids were given in that order; else look through.
            match row.ids.binary_search(&test) {
                Ok(at) => Some(at),
                Err(_) => row.ids.iter().position(|id| *id == test),
            }
        };
        tests.iter().map(|test| place(*test).map(|at| row.statuses[at])).collect()
    }

    fn row(&self, commit: usize) -> Option<&Row> {
        self.rows.get(self.rows.len().checked_sub(commit + 1)?)?.as_ref()
    }

    fn push(&mut self, verdicts: Option<Verdicts>) {
        let Some(verdicts) = verdicts else {
            self.rows.push(None);
            return;
        };
        let at = self.rows.len();
        let ids = self.ids_of(&verdicts.names);
        let mut delta = Delta::default();
        match self.last.take() {
            // The same tests as before: only those that changed matter, and they are few.
            Some(last) if Arc::ptr_eq(&last.ids, &ids) => {
                for place in differences(&last.verdicts.statuses, &verdicts.statuses) {
                    self.settle(ids[place], last.verdicts.statuses[place], last.row);
                    self.step(ids[place], verdicts.statuses[place], at, &mut delta);
                }
            }
            last => {
                self.settle_all(last.as_ref());
                for (id, status) in ids.iter().zip(verdicts.statuses.iter()) {
                    self.step(*id, *status, at, &mut delta);
                }
            }
        }
        let statuses = Arc::clone(&verdicts.statuses);
        self.rows.push(Some(Row { ids: Arc::clone(&ids), statuses, delta }));
        self.last = Some(Last { verdicts, ids, row: at });
    }

    /// Brings a test's state up to the row in which it last had this status: equal rows are not stepped through.
    fn settle(&mut self, test: TestId, status: Status, row: usize) {
        let state = &mut self.states[test as usize];
        match (status, state.failure) {
            (Status::Passed, _) => state.judged = Some((Status::Passed, row)),
            (Status::Failed, Some(failure)) => {
                state.judged = Some((Status::Failed, row));
                self.failures[failure].last_bad = row;
            }
            _ => {}
        }
    }

    fn settle_all(&mut self, last: Option<&Last>) {
        let Some(last) = last else { return };
        for (id, status) in last.ids.iter().zip(last.verdicts.statuses.iter()) {
            self.settle(*id, *status, last.row);
        }
    }

    fn step(&mut self, test: TestId, status: Status, at: usize, delta: &mut Delta) {
        let state = &mut self.states[test as usize];
        match status {
            Status::Passed => {
                if let (Some((Status::Failed, _)), Some(failure)) = (state.judged, state.failure) {
                    delta.fixed.push(test);
                    self.failures[failure].first_good = Some(at);
                }
                delta.resumed += usize::from(state.stopped);
                *state = State { judged: Some((Status::Passed, at)), stopped: false, failure: None };
            }
            Status::Failed => {
                match (state.judged, state.failure) {
                    (Some((Status::Failed, _)), Some(failure)) => self.failures[failure].last_bad = at,
                    (judged, _) => {
                        if judged.is_some() {
                            delta.broke.push(test);
                        }
                        state.failure = Some(self.failures.len());
                        let last_good = judged.map(|(_, row)| row);
                        let failure =
                            Failure { test, first_bad: at, last_bad: at, last_good, first_good: None };
                        self.failures.push(failure);
                    }
                }
                delta.resumed += usize::from(state.stopped);
                state.judged = Some((Status::Failed, at));
                state.stopped = false;
            }
            Status::FailedToRun => {
                delta.stopped += usize::from(!state.stopped);
                state.stopped = true;
            }
            Status::NotRun => state.stopped = false,
            Status::InProgress | Status::Unknown => {}
        }
    }

    fn ids_of(&mut self, names: &Names) -> Arc<[TestId]> {
        if let Some(last) = &self.last
            && (Arc::ptr_eq(&last.verdicts.names, names) || last.verdicts.names == *names)
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
                self.states.push(State::default());
                id
            })
            .collect()
    }

    fn number_from_newest(&mut self) {
        let newest = self.rows.len();
        let flip = |row: usize| newest - 1 - row;
        for failure in &mut self.failures {
            failure.first_bad = flip(failure.first_bad);
            failure.last_bad = flip(failure.last_bad);
            failure.last_good = failure.last_good.map(flip);
            failure.first_good = failure.first_good.map(flip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(names: &Names, letters: &str) -> Option<Verdicts> {
        let status = |letter| match letter {
            'p' => Status::Passed,
            'f' => Status::Failed,
            'r' => Status::FailedToRun,
            'n' => Status::NotRun,
            'i' => Status::InProgress,
            _ => Status::Unknown,
        };
        (letters != "-")
            .then(|| Verdicts { names: Arc::clone(names), statuses: letters.chars().map(status).collect() })
    }

    fn history(tests: &[&str], newest_first: &[&str]) -> History {
        let names: Names = tests.iter().map(|name| Box::from(*name)).collect();
        History::of(newest_first.iter().map(|letters| verdicts(&names, letters)))
    }

    #[test]
    fn a_failure_begins_and_ends_across_gaps() {
        let history = history(&["a", "b"], &["pp", "fp", "-", "fp", "rr", "pp", "pf"]);
        let deltas: Vec<_> = (0..7).map(|at| history.delta(at).cloned()).collect();
        assert_eq!(deltas[0].as_ref().unwrap().fixed, [0]);
        assert!(deltas[1].as_ref().unwrap().is_empty());
        assert!(deltas[2].is_none());
        assert_eq!(deltas[3], Some(Delta { broke: vec![0], resumed: 2, ..Delta::default() }));
        assert_eq!(deltas[4], Some(Delta { stopped: 2, ..Delta::default() }));
        assert_eq!(deltas[5].as_ref().unwrap().fixed, [1]);
        let failures = history.failures();
        assert_eq!(
            failures[0],
            &Failure { test: 0, first_bad: 3, last_bad: 1, last_good: Some(5), first_good: Some(0) }
        );
        assert_eq!(failures[1].last_good, None);
        assert_eq!(history.statuses(4, &[1, 0]), [Some(Status::FailedToRun); 2]);
        assert_eq!(history.statuses(2, &[1]), [None]);
    }

    #[test]
    fn a_test_that_always_failed_did_not_break_here() {
        let history = history(&["a"], &["f", "f"]);
        assert!(history.delta(1).unwrap().broke.is_empty());
        assert_eq!(history.failures()[0].last_good, None);
    }

    proptest::proptest! {
        /// Against the plain definition, one test at a time.
        #[test]
        fn deltas_are_those_of_the_definition(rows in proptest::collection::vec("[pfrni?]{3}|-", 0..12)) {
            let texts: Vec<&str> = rows.iter().map(String::as_str).collect();
            let history = history(&["a", "b", "c"], &texts);
            for test in 0..3u32 {
                let letter = |row: usize| texts[row].chars().nth(test as usize);
                for at in 0..texts.len() {
                    let before = (at + 1..texts.len()).filter_map(letter).find(|l| "pf".contains(*l));
                    let (broke, fixed) = history
                        .delta(at)
                        .map_or((false, false), |d| (d.broke.contains(&test), d.fixed.contains(&test)));
                    proptest::prop_assert_eq!(broke, letter(at) == Some('f') && before == Some('p'));
                    proptest::prop_assert_eq!(fixed, letter(at) == Some('p') && before == Some('f'));
                }
            }
            for failure in history.failures() {
                let letter = |row: usize| texts[row].chars().nth(failure.test as usize);
                proptest::prop_assert!(failure.last_bad <= failure.first_bad);
                proptest::prop_assert_eq!(letter(failure.first_bad), Some('f'));
                proptest::prop_assert_eq!(letter(failure.last_bad), Some('f'));
                let newer = (0..failure.last_bad).rev().find_map(|row| letter(row).filter(|l| "pf".contains(*l)));
                proptest::prop_assert_ne!(newer, Some('f'));
                proptest::prop_assert_eq!(newer == Some('p'), failure.first_good.is_some());
                let older = (failure.first_bad + 1..texts.len()).find(|row| letter(*row).is_some_and(|l| "pf".contains(l)));
                proptest::prop_assert_eq!(older, failure.last_good);
                proptest::prop_assert!((failure.last_bad..=failure.first_bad).all(|row| letter(row) != Some('p')));
            }
        }
    }
}
