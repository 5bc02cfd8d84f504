//! The tests of a commit by configuration: counts, a matrix of test files and configurations, and a grid of tests and commits.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{Counts, KeyParts, Status, TestConfiguration, select_configurations};

use crate::CommitStatuses;

/// The configurations of tests, the default one first and then by name, with their counts.
pub fn configuration_counts<'a>(
    tests: impl IntoIterator<Item = (&'a str, Status)>,
) -> Vec<(TestConfiguration<'a>, Counts)> {
    let mut found: HashMap<TestConfiguration<'a>, Counts> = HashMap::new();
    for (name, status) in tests {
        found.entry(TestConfiguration::of_key(name)).or_default().add(status);
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_cached_key(|(configuration, _)| order(*configuration));
    found
}

fn order(configuration: TestConfiguration<'_>) -> (bool, String) {
    (!configuration.is_default(), configuration.to_string())
}

/// Some test configurations, as the texts in result keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigurationSet(Vec<Box<str>>);

impl ConfigurationSet {
    /// The configurations among these tests that a text selects ([`select_configurations`]). The error has the names of all, for a hint.
    /// Without tests, nothing is selected.
    pub fn select<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<String>> {
        let present: BTreeSet<TestConfiguration<'a>> =
            names.into_iter().map(TestConfiguration::of_key).collect();
        let present: Vec<_> = present.into_iter().collect();
        let found = select_configurations(wanted, &present);
        if found.is_empty() && !present.is_empty() {
            return Err(present.iter().map(ToString::to_string).collect());
        }
        Ok(Self(found.iter().map(|configuration| configuration.as_str().into()).collect()))
    }

    /// Whether a test is in one of them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let found = TestConfiguration::of_key(name);
        self.0.iter().any(|configuration| **configuration == *found.as_str())
    }
}

/// Test files, or the subtests of one file, in all configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matrix<'a> {
    /// The columns, with their counts.
    pub configurations: Vec<(TestConfiguration<'a>, Counts)>,
    /// The rows: those with failures first, then by name.
    pub rows: Vec<MatrixRow<'a>>,
}

/// A row of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixRow<'a> {
    /// The test file or subtest.
    pub name: String,
    /// The counts in each configuration.
    pub cells: Vec<Counts>,
    /// A result key for each configuration with a test; of a subtest, there is no other one.
    pub keys: Vec<Option<&'a str>>,
}

/// The matrix of tests. `name_of` returns the row of a test, given the name that it has in the default configuration; `None` leaves it out.
pub fn matrix<'a>(
    tests: impl IntoIterator<Item = (&'a str, Status)>,
    mut name_of: impl FnMut(&str) -> Option<String>,
) -> Matrix<'a> {
    let mut found: BTreeMap<String, HashMap<TestConfiguration<'a>, (Counts, &'a str)>> = BTreeMap::new();
    let mut all: HashMap<TestConfiguration<'a>, Counts> = HashMap::new();
    for (key, status) in tests {
        let parts = KeyParts::of(key);
        let test: Cow<'_, str> = parts.test();
        let Some(name) = name_of(&test) else { continue };
        all.entry(parts.configuration).or_default().add(status);
        let cells = found.entry(name).or_default();
        cells.entry(parts.configuration).or_insert((Counts::default(), key)).0.add(status);
    }
    let mut configurations: Vec<_> = all.into_iter().collect();
    configurations.sort_by_cached_key(|(configuration, _)| order(*configuration));
    let row = |(name, cells): (String, HashMap<TestConfiguration<'a>, (Counts, &'a str)>)| {
        let of = |(configuration, _): &(TestConfiguration<'a>, Counts)| cells.get(configuration).copied();
        let found: Vec<_> = configurations.iter().map(of).collect();
        MatrixRow {
            name,
            cells: found.iter().map(|cell| cell.map(|(counts, _)| counts).unwrap_or_default()).collect(),
            keys: found.iter().map(|cell| cell.map(|(_, key)| key)).collect(),
        }
    };
    let mut rows: Vec<MatrixRow<'a>> = found.into_iter().map(row).collect();
    rows.sort_by_key(|row| Reverse(row.cells.iter().map(failing).max()));
    Matrix { configurations, rows }
}

/// The rank of a cell: one with failures, with tests that could not run, or neither.
fn failing(counts: &Counts) -> u8 {
    match counts {
        Counts { failed: 1.., .. } => 2,
        Counts { failed_to_run: 1.., .. } | Counts { unknown: 1.., .. } | Counts { flaky: 1.., .. } => 1,
        _ => 0,
    }
}

/// The tests of some commits with their statuses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grid {
    /// The tests: those that fail at the newest commit that has them first, then those with the most recent change, then by name.
    pub rows: Vec<GridRow>,
}

/// A test of a grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridRow {
    /// Its result key.
    pub name: String,
    /// Its status at each commit, newest first.
    pub statuses: Vec<Option<Status>>,
}

/// The tests of commits, newest first, whose names `is_wanted` accepts. Only `range` of the rows has statuses and is returned,
/// with the number of all.
pub fn grid(
    newest_first: &[CommitStatuses],
    range: std::ops::Range<usize>,
    is_wanted: impl Fn(&str) -> bool,
) -> (Grid, usize) {
    // The rank of each test: whether it fails, and how many commits ago its status changed.
    let mut ranks: BTreeMap<&str, (Status, usize, bool)> = BTreeMap::new();
    let mut above: Option<&CommitStatuses> = None;
    for (row, commit) in newest_first.iter().enumerate() {
        let is_same = above.is_some_and(|above| std::sync::Arc::ptr_eq(&above.names, &commit.names));
        let before = above.filter(|_| is_same);
        for (at, (name, status)) in commit.names.iter().zip(commit.statuses.iter()).enumerate() {
            // Most statuses are those of the commit above.
            if before.is_some_and(|above| above.statuses[at] == *status) {
                continue;
            }
            let rank = ranks.entry(name).or_insert((*status, usize::MAX, false));
            if rank.0 != *status && rank.1 == usize::MAX {
                rank.1 = row;
            }
            rank.2 |= status.has_failure() || *status == Status::Flaky;
        }
        above = Some(commit);
    }
    let mut order: Vec<(bool, bool, usize, &str)> = ranks
        .into_iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, (newest, changed, has_failed))| (newest != Status::Failed, !has_failed, changed, name))
        .collect();
    order.sort_unstable();
    let total = order.len();
    let range = range.start.min(total)..range.end.min(total);
    let row = |(.., name): &(bool, bool, usize, &str)| GridRow {
        name: (*name).to_owned(),
        statuses: newest_first.iter().map(|commit| commit.get(name)).collect(),
    };
    (Grid { rows: order[range].iter().map(row).collect() }, total)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const TESTS: [(&str, Status); 6] = [
        ("fs.a.one", Status::Passed),
        ("fs.a.two", Status::Failed),
        ("fs.a@ktest_arch=aarch64.one", Status::Failed),
        ("fs.a@ktest_arch=aarch64.two", Status::Passed),
        ("fs.a@debian_trixie.one", Status::NotRun),
        ("boot.boots", Status::Passed),
    ];

    #[test]
    fn counts_by_configuration() {
        let found = configuration_counts(TESTS);
        let words: Vec<String> = found
            .iter()
            .map(|(configuration, counts)| format!("{configuration} {}/{}", counts.failed, counts.total()))
            .collect();
        assert_eq!(words, ["default 1/3", "aarch64 1/2", "debian_trixie 0/1"]);
        let names = || TESTS.iter().map(|(name, _)| *name);
        let selected = ConfigurationSet::select("arch=aarch64", names());
        assert_eq!(selected, Ok(ConfigurationSet(vec!["@ktest_arch=aarch64".into()])));
        let selected: Vec<&str> = names().filter(|name| selected.as_ref().unwrap().has(name)).collect();
        assert_eq!(selected, ["fs.a@ktest_arch=aarch64.one", "fs.a@ktest_arch=aarch64.two"]);
        let known = vec!["default".into(), "debian_trixie".into(), "aarch64".into()];
        assert_eq!(ConfigurationSet::select("arm64", names()), Err(known));
        assert_eq!(ConfigurationSet::select("arm64", []), Ok(ConfigurationSet::default()));
    }

    #[test]
    fn files_by_configuration() {
        let file = |test: &str| Some(test.rsplit_once('.').map_or("", |(file, _)| file).to_owned());
        let found = matrix(TESTS, file);
        let rows: Vec<_> = found
            .rows
            .iter()
            .map(|row| (row.name.as_str(), row.cells.iter().map(Counts::total).collect::<Vec<_>>()))
            .collect();
        assert_eq!(rows, [("fs.a", vec![2, 2, 1]), ("boot", vec![1, 0, 0])]);
        let subtests = matrix(TESTS, |test| test.strip_prefix("fs.a.").map(str::to_owned));
        let two = &subtests.rows[1];
        assert_eq!((two.name.as_str(), two.keys[1]), ("two", Some("fs.a@ktest_arch=aarch64.two")));
        assert_eq!((two.keys[2], two.cells[2].total()), (None, 0));
        assert_eq!(matrix([], file), Matrix::default());
    }

    fn commit(statuses: &[(&str, Status)]) -> CommitStatuses {
        CommitStatuses {
            names: statuses.iter().map(|(name, _)| Box::from(*name)).collect(),
            statuses: statuses.iter().map(|(_, status)| *status).collect(),
        }
    }

    #[test]
    fn failing_and_changed_tests_come_first() {
        use Status::{Failed, NotRun, Passed};
        let newest = commit(&[("a", Passed), ("b", Passed), ("c", Failed), ("d", NotRun)]);
        let statuses: Arc<[Status]> = [Failed, Passed, Failed, NotRun].into();
        let same_tests = CommitStatuses { names: Arc::clone(&newest.names), statuses };
        let oldest = commit(&[("b", Failed), ("e", Passed)]);
        let commits = [newest, same_tests, oldest];
        let (found, total) = grid(&commits, 0..10, |_| true);
        let names: String = found.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!((names.as_str(), total), ("cabde", 5));
        assert_eq!(found.rows[1].statuses, [Some(Passed), Some(Failed), None]);
        let (page, total) = grid(&commits, 1..2, |name| name != "c");
        assert_eq!((page.rows[0].name.as_str(), page.rows.len(), total), ("b", 1, 4));
        assert_eq!(grid(&commits, 9..12, |_| true).0.rows, []);
        assert_eq!(grid(&[], 0..1, |_| true), (Grid::default(), 0));
    }
}
