//! The crashes on a branch, grouped by title: one crash in ten tests is one group, and two crashes in one test are two.
//!
//! From the table of crashes, which the store keeps for each branch, all are grouped. Only the statuses of the crashed tests are
//! looked up, at their commits and at the newest ones. Without the table, each crash is read from the file of its commit: every
//! failed verdict of the branch is read, up to a limit. Above the limit, only the first and last commit of a stretch of failures are read,
//! and the result is marked as sampled.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{CommitId, ResultKey, Status};
use results::{BranchEntry, CrashEntry, TestEntry};

use crate::branch_history::BranchHistory;
use crate::{CommitStatuses, Lookup};

/// The maximum number of stretches of failures that are read.
const STRETCHES_MAX: usize = 2000;
/// The maximum number of verdicts read before stretches are sampled. Each verdict needs a few small reads.
const VERDICTS_MAX: usize = 3000;

/// The crash of one test at one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crash {
    /// The crash title.
    pub title: String,
    /// The host that the test ran on.
    pub host: Option<String>,
    /// The start time of the test, in Unix seconds.
    pub started: Option<i64>,
}

/// All occurrences of a crash title. Rows are numbered from the newest commit, which is row 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrashGroup {
    /// The crash title.
    pub title: String,
    /// The oldest commit with the crash.
    pub first_row: usize,
    /// The newest commit with the crash.
    pub last_row: usize,
    /// The number of verdicts with the crash.
    pub hits: usize,
    /// The tests that it hit.
    pub tests: BTreeSet<String>,
    /// The hosts on which it occurred.
    pub hosts: BTreeSet<String>,
    /// The times of the first and last occurrence, in Unix seconds.
    pub times: Option<(i64, i64)>,
    /// Whether it is the latest verdict of a test that still fails.
    pub still_occurs: bool,
}

impl CrashGroup {
    fn new(title: String, row: usize) -> Self {
        Self { title, first_row: row, last_row: row, ..Self::default() }
    }

    /// The number of commits from the first to the last occurrence.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.first_row - self.last_row + 1
    }

    fn add(&mut self, row: usize, test: &str, crash: Crash, is_latest: bool) {
        self.first_row = self.first_row.max(row);
        self.last_row = self.last_row.min(row);
        self.hits += 1;
        self.tests.insert(test.to_owned());
        self.hosts.extend(crash.host);
        if let Some(at) = crash.started {
            let (first, last) = self.times.unwrap_or((at, at));
            self.times = Some((first.min(at), last.max(at)));
        }
        self.still_occurs |= is_latest;
    }
}

/// The crashes of a branch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrashGroups {
    /// The groups that still occur first, then the most recent ones.
    pub groups: Vec<CrashGroup>,
    /// Whether some stretches of failures were not read in full.
    pub is_sampled: bool,
}

/// Groups the crashes of a branch. `flaky_rows` are the commits with flaky failures. `crash` reads the crash of a test at a
/// row, if it crashed.
pub fn crash_groups(
    history: &BranchHistory,
    flaky_rows: impl IntoIterator<Item = usize>,
    mut crash: impl FnMut(usize, &str) -> Option<Crash>,
) -> CrashGroups {
    let mut groups: BTreeMap<String, CrashGroup> = BTreeMap::new();
    let failures = history.failures();
    let (mut read, mut is_sampled) = (0, failures.len() > STRETCHES_MAX);
    for failure in failures.iter().take(STRETCHES_MAX) {
        let (name, stretch) = (history.name(failure.test), failure.stretch);
        let rows = stretch.last_bad..=stretch.first_bad;
        let rows: BTreeSet<usize> = if rows.clone().count() <= VERDICTS_MAX - read {
            let failed = |row: &usize| history.statuses(*row, &[failure.test]) == [Some(Status::Failed)];
            rows.filter(failed).collect()
        } else {
            is_sampled |= rows.count() > 2;
            [stretch.first_bad, stretch.last_bad].into()
        };
        read += rows.len();
        for row in rows {
            let is_latest = stretch.still_fails() && row == stretch.last_bad;
            add(&mut groups, row, name, crash(row, name), is_latest);
        }
    }
    let flaky = flaky_rows.into_iter().flat_map(|row| {
        history.tests_with(row, Status::Flaky).into_iter().map(move |test| (row, history.name(test)))
    });
    for (row, name) in flaky.take(VERDICTS_MAX) {
        add(&mut groups, row, name, crash(row, name), false);
    }
    CrashGroups { groups: sorted(groups), is_sampled }
}

/// Groups crashes, given by row and test. Those of tests that did not fail at their row are left out. `status` is the status
/// of a test at a row.
pub fn groups_of_table<'a>(
    crashes: impl IntoIterator<Item = (usize, &'a str, Crash)>,
    mut status: impl FnMut(usize, &str) -> Option<Status>,
) -> Vec<CrashGroup> {
    let mut groups: BTreeMap<String, CrashGroup> = BTreeMap::new();
    // The row of the newest verdict of a test that passed or failed.
    let mut newest: HashMap<&str, usize> = HashMap::new();
    for (row, test, crash) in crashes {
        let of_crash = status(row, test);
        if !matches!(of_crash, Some(Status::Failed | Status::Flaky)) {
            continue;
        }
        let is_latest = of_crash == Some(Status::Failed)
            && match newest.entry(test) {
                Entry::Occupied(found) => *found.get() == row,
                Entry::Vacant(entry) => {
                    let is_judged =
                        |row: &usize| matches!(status(*row, test), Some(Status::Passed | Status::Failed));
                    *entry.insert((0..row).find(is_judged).unwrap_or(row)) == row
                }
            };
        add(&mut groups, row, test, Some(crash), is_latest);
    }
    sorted(groups)
}

/// The groups that still occur first, then the most recent ones.
fn sorted(groups: BTreeMap<String, CrashGroup>) -> Vec<CrashGroup> {
    let mut groups: Vec<CrashGroup> = groups.into_values().collect();
    groups.sort_by_key(|group| (!group.still_occurs, group.last_row, group.first_row));
    groups
}

/// Groups the crashes of a branch, newest commit first, from the table of its crashes, also newest first. `statuses` has the
/// statuses of a commit.
pub fn of_table(
    entries: &[BranchEntry],
    table: Vec<CrashEntry>,
    mut statuses: impl FnMut(&CommitId) -> Option<CommitStatuses>,
) -> Vec<CrashGroup> {
    let rows: HashMap<&CommitId, usize> =
        entries.iter().enumerate().map(|(row, entry)| (&entry.commit, row)).collect();
    let mut known: HashMap<usize, Option<CommitStatuses>> = HashMap::new();
    let mut lookup = Lookup::default();
    let status = |row: usize, test: &str| {
        let read = || (entries[row].counts.total() > 0).then(|| statuses(&entries[row].commit)).flatten();
        lookup.get(known.entry(row).or_insert_with(read).as_ref()?, test)
    };
    let decisive = table.into_iter().filter(|crash| crash.decisive);
    let found: Vec<(usize, CrashEntry)> =
        decisive.filter_map(|crash| Some((*rows.get(&crash.commit)?, crash))).collect();
    let crashes = found.iter().map(|(row, CrashEntry { key, title, started, host, .. })| {
        let host = host.as_ref().map(ToString::to_string);
        (*row, key.as_str(), Crash { title: title.clone(), host, started: *started })
    });
    groups_of_table(crashes, status)
}

/// Groups the crashes of a branch, newest commit first, from the results of each failed test.
pub fn of_results(
    history: &BranchHistory,
    entries: &[BranchEntry],
    entry: impl Fn(&CommitId, &ResultKey) -> Option<TestEntry>,
) -> CrashGroups {
    let flaky = entries.iter().enumerate().filter(|(_, entry)| entry.counts.flaky > 0).map(|(row, _)| row);
    crash_groups(history, flaky, |row, test| {
        let attempt = entry(&entries.get(row)?.commit, &test.parse().ok()?)?.decisive;
        let host = attempt.host.map(|host| host.to_string());
        Some(Crash { title: attempt.crash?, host, started: attempt.started })
    })
}

fn add(
    groups: &mut BTreeMap<String, CrashGroup>,
    row: usize,
    test: &str,
    crash: Option<Crash>,
    is_latest: bool,
) {
    let Some(crash) = crash else { return };
    let title = crash.title.clone();
    let group = groups.entry(title.clone()).or_insert_with(|| CrashGroup::new(title, row));
    group.add(row, test, crash, is_latest);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Status::{Failed, Flaky, InProgress, NotRun, Passed};
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;
    use crate::Names;

    fn history(rows: &[&[Status]]) -> BranchHistory {
        let tests = rows.first().map_or(0, |row| row.len());
        let names: Names = ('a'..).take(tests).map(|name| Box::from(name.to_string())).collect();
        BranchHistory::new(
            rows.iter()
                .map(|row| Some(CommitStatuses { names: Arc::clone(&names), statuses: (*row).into() })),
        )
    }

    #[test]
    fn crashes_are_grouped_by_title() {
        let history = history(&[
            &[Failed, Passed, Failed],
            &[Failed, Failed, Passed],
            &[Failed, Passed, Passed],
            &[Passed, Flaky, Passed],
        ]);
        // Within one stretch of failures, test `a` crashes in three ways.
        let crash = |row: usize, test: &str| {
            let title = match (row, test) {
                (2, "a") | (1, "b") => "X",
                // A flaky crash is a crash.
                (3, "b") => "W",
                (1, "a") => "Z",
                (0, "a") => "Y",
                _ => return None,
            };
            let started = Some(100 - i64::try_from(row).unwrap());
            Some(Crash { title: title.into(), host: Some(format!("farm{row}")), started })
        };
        let CrashGroups { groups, is_sampled } = crash_groups(&history, [3], crash);
        assert!(!is_sampled);
        let found = groups.iter().map(|group| {
            let sizes = (group.hits, group.tests.len(), group.hosts.len());
            (group.title.as_str(), group.first_row, group.last_row, sizes, group.still_occurs)
        });
        assert_eq!(
            found.collect::<Vec<_>>(),
            [
                ("Y", 0, 0, (1, 1, 1), true),
                ("Z", 1, 1, (1, 1, 1), false),
                ("X", 2, 1, (2, 2, 2), false),
                ("W", 3, 3, (1, 1, 1), false)
            ]
        );
        assert_eq!((groups[2].times, groups[2].commits()), (Some((98, 99)), 2));
    }

    #[test]
    fn long_stretches_are_sampled() {
        let rows = vec![[Failed; 2].as_slice(); VERDICTS_MAX];
        let history = history(&rows);
        let mut read = 0;
        let found = crash_groups(&history, [], |_, _| {
            read += 1;
            Some(Crash { title: "X".into(), ..Crash::default() })
        });
        assert!(found.is_sampled);
        assert_eq!((read, found.groups[0].commits()), (VERDICTS_MAX + 2, VERDICTS_MAX));
    }

    proptest! {
        /// The table and the history have the same groups.
        #[test]
        fn the_table_is_as_good_as_the_history(
            letters in proptest::collection::vec(proptest::collection::vec(0..6usize, 3), 1..8),
        ) {
            let rows: Vec<Vec<Status>> = letters
                .iter()
                .map(|row| row.iter().map(|at| [Failed, Failed, Passed, Flaky, NotRun, InProgress][*at]).collect())
                .collect();
            let history = history(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let crash = |row: usize, test: &str| {
                let title = format!("title {}", (row + test.len()) % 3);
                Crash { title, host: Some("farm".into()), started: None }
            };
            let flaky = (0..rows.len()).filter(|row| rows[*row].contains(&Flaky));
            let of_history = crash_groups(&history, flaky, |row, test| Some(crash(row, test)));
            let names = ["a", "b", "c"];
            let place = |test: &str| names.iter().position(|name| *name == test).unwrap();
            let all = (0..rows.len()).flat_map(|row| names.map(|name| (row, name, crash(row, name))));
            let of_table = groups_of_table(all, |row, test| Some(rows[row][place(test)]));
            prop_assert_eq!(of_table, of_history.groups);
        }
    }
}
