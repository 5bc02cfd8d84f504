//! Searches commits for suspicious passes, for pages, JSON and the command line.
//!
//! It compares columns (names, statuses, durations) of a commit with those of older ones, and reads in full only the
//! few results that may be suspicious, so that a page with many commits stays cheap.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::{CommitId, ResultKey, Status};
use results::{CommitResults, RecentRun, TestDuration, TestEntry};

use super::{PASSES_LEAST, PASSES_MOST, Pass, Suspicion, SuspiciousPass, Typical, is_fraction};
use crate::{CommitStatuses, Names};

/// The minimum number of passes that take at least as long as their median.
const MAJORITY: usize = PASSES_LEAST.div_ceil(2);

/// The number of passes at commits of any branch that are read: most hosts of a farm run a test sooner or later.
pub const PASSES_READ: usize = 10 * PASSES_MOST;

/// The columns of one commit.
#[derive(Debug, Clone)]
pub struct Columns {
    statuses: CommitStatuses,
    durations: Arc<[Duration]>,
}

impl Columns {
    /// The columns; `None` if they do not have the same tests, because the results were replaced between two reads.
    #[must_use]
    pub fn new(statuses: CommitStatuses, durations: impl Into<Arc<[Duration]>>) -> Option<Self> {
        let durations = durations.into();
        (durations.len() == statuses.names.len() && durations.len() == statuses.statuses.len())
            .then_some(Self { statuses, durations })
    }

    /// The names of the tests.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.statuses.names
    }

    /// The statuses.
    #[must_use]
    pub fn into_statuses(self) -> CommitStatuses {
        self.statuses
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let CommitStatuses { names, statuses } = &self.statuses;
        let rows = names.iter().zip(statuses.iter()).zip(self.durations.iter());
        rows.map(|((key, status), duration)| Row { key, status: *status, duration: *duration })
    }

    fn row<'a>(&self, key: &'a str) -> Option<Row<'a>> {
        let CommitStatuses { names, statuses } = &self.statuses;
        let at = names.binary_search_by(|other| (**other).cmp(key)).ok()?;
        Some(Row { key, status: statuses[at], duration: self.durations[at] })
    }

    /// The duration of test `at` of `names` if it passed. Most commits share their names, so that no search is needed.
    fn passed_at(&self, names: &Names, at: usize) -> Option<Duration> {
        if !Arc::ptr_eq(names, self.names()) {
            return self.passed_in(&names[at]);
        }
        (self.statuses.statuses[at] == Status::Passed).then(|| self.durations[at])
    }

    /// The duration of a test if it passed.
    fn passed_in(&self, key: &str) -> Option<Duration> {
        self.row(key).filter(|row| row.status == Status::Passed).map(|row| row.duration)
    }
}

impl From<&CommitResults> for Columns {
    fn from(results: &CommitResults) -> Self {
        let entries = &results.entries;
        let names = entries.iter().map(|entry| Box::from(entry.key.as_str())).collect();
        let statuses = entries.iter().map(TestEntry::status).collect();
        let durations = entries.iter().map(|entry| entry.decisive.duration).collect();
        Self { statuses: CommitStatuses { names, statuses }, durations }
    }
}

/// A test in the columns of a commit.
#[derive(Debug, Clone, Copy)]
struct Row<'a> {
    key: &'a str,
    status: Status,
    duration: Duration,
}

/// The source of the results. A commit that cannot be read is treated as one without results.
pub trait Source {
    /// The columns of a commit, sorted by name.
    fn columns(&self, commit: &CommitId) -> Option<Columns>;
    /// The result of a test at a commit.
    fn entry(&self, commit: &CommitId, key: &ResultKey) -> Option<TestEntry>;
    /// The mean duration of each test over all branches, if that is known.
    fn means(&self) -> Vec<TestDuration> {
        Vec::new()
    }
    /// The newest passes of a test at commits of any branch that started before the result at this commit, at most [`PASSES_READ`].
    fn past(&self, _commit: &CommitId, _entry: &TestEntry) -> Vec<RecentRun> {
        Vec::new()
    }
}

/// A commit to search, and the commits that it is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The commit.
    pub now: &'a CommitId,
    /// Older commits, newest first. Skipped and missing tests are compared with the first one, durations with all.
    pub older: &'a [&'a CommitId],
    /// Whether all results of the commit are there; only then can a test be [`Suspicion::Gone`].
    pub complete: bool,
}

/// Columns with the numbers of their names.
struct Loaded {
    columns: Columns,
    ids: Rc<[usize]>,
}

/// A search over several commits, which share the results that were read.
pub struct Search<S> {
    source: S,
    /// The remaining number of results that may be checked in full.
    limit: usize,
    loaded: HashMap<CommitId, Option<Rc<Loaded>>>,
    ids: HashMap<Box<str>, usize>,
    /// The numbers of the names of each set of tests: most commits share one set.
    sets: Vec<(Names, Rc<[usize]>)>,
    /// The longest pass of each test in all columns that were read, by number.
    longest: Vec<Duration>,
    /// The mean duration of each test over all branches, once it is needed.
    means: OnceCell<HashMap<ResultKey, Duration>>,
}

impl<S: Source> Search<S> {
    /// A search that reads from `source` and checks at most `limit` results in full.
    pub fn new(source: S, limit: usize) -> Self {
        let (loaded, ids, sets, longest) = (HashMap::new(), HashMap::new(), Vec::new(), Vec::new());
        Self { source, limit, loaded, ids, sets, longest, means: OnceCell::new() }
    }

    /// The suspicious passes of a commit, among the tests for which `wanted` returns true, sorted by key.
    pub fn find(&mut self, compared: Compared<'_>, wanted: impl Fn(&str) -> bool) -> Vec<SuspiciousPass> {
        let older: Vec<_> = compared.older.iter().map(|commit| (*commit, self.load(commit))).collect();
        let Some(now) = self.load(compared.now) else { return Vec::new() };
        let mut keys = BTreeSet::new();
        if let Some((_, Some(before))) = older.first() {
            keys.extend(stopped(&before.columns, &now.columns, compared.complete));
        }
        let older: Vec<(&CommitId, Rc<Loaded>)> = older
            .iter()
            .filter_map(|(commit, loaded)| Some((*commit, Rc::clone(loaded.as_ref()?))))
            .collect();
        keys.extend(self.faster(&now, &older));
        keys.extend(self.faster_than_elsewhere(&now, &older));
        let keys: Vec<&str> = keys.into_iter().filter(|key| wanted(key)).take(self.limit).collect();
        self.limit -= keys.len();
        let check = |key: &str| {
            let has_result = now.columns.row(key).is_some();
            self.check(compared, &older, key.parse().ok()?, has_result)
        };
        keys.into_iter().filter_map(check).collect()
    }

    fn load(&mut self, commit: &CommitId) -> Option<Rc<Loaded>> {
        if let Some(loaded) = self.loaded.get(commit) {
            return loaded.clone();
        }
        let loaded = self.source.columns(commit).map(|columns| {
            let ids = self.ids_of(&columns.statuses.names);
            for (row, id) in columns.rows().zip(ids.iter()).filter(|(row, _)| row.status == Status::Passed) {
                self.longest[*id] = self.longest[*id].max(row.duration);
            }
            Rc::new(Loaded { columns, ids })
        });
        self.loaded.insert(commit.clone(), loaded.clone());
        loaded
    }

    fn ids_of(&mut self, names: &Names) -> Rc<[usize]> {
        if let Some((_, ids)) = self.sets.iter().find(|(known, _)| Arc::ptr_eq(known, names)) {
            return Rc::clone(ids);
        }
        let mut ids = Vec::with_capacity(names.len());
        for name in names.iter() {
            ids.push(*self.ids.entry(name.clone()).or_insert_with(|| {
                self.longest.push(Duration::ZERO);
                self.longest.len() - 1
            }));
        }
        let ids: Rc<[usize]> = ids.into();
        self.sets.push((Arc::clone(names), Rc::clone(&ids)));
        ids
    }

    /// The tests that passed in a fraction of the duration of enough older passes for the median to be that long.
    fn faster<'a>(&self, now: &'a Loaded, older: &'a [(&CommitId, Rc<Loaded>)]) -> Vec<&'a str> {
        let names = now.columns.names();
        let rows = now.columns.rows().zip(now.ids.iter()).enumerate();
        let passed = rows.filter(|(_, (row, _))| row.status == Status::Passed);
        let may_be = passed.filter(|(_, (row, id))| is_fraction(row.duration, self.longest[**id]));
        may_be
            .filter(|(at, (row, _))| {
                let passes = older.iter().filter_map(|(_, old)| old.columns.passed_at(names, *at));
                passes.filter(|before| is_fraction(row.duration, *before)).nth(MAJORITY - 1).is_some()
            })
            .map(|(_, (row, _))| row.key)
            .collect()
    }

    /// The tests that have few older passes, and passed in a fraction of their mean duration over all branches.
    fn faster_than_elsewhere<'a>(&self, now: &'a Loaded, older: &[(&CommitId, Rc<Loaded>)]) -> Vec<&'a str> {
        let names = now.columns.names();
        // Most commits have the same tests as older ones.
        let has_same_tests = |(_, old): &(&CommitId, Rc<Loaded>)| Arc::ptr_eq(old.columns.names(), names);
        if older.get(PASSES_LEAST - 1).is_some_and(has_same_tests) {
            return Vec::new();
        }
        let means = self
            .means
            .get_or_init(|| self.source.means().into_iter().map(|test| (test.test, test.mean)).collect());
        let is_short = |row: &Row<'_>| {
            row.status == Status::Passed
                && row.key.parse().is_ok_and(|key: ResultKey| {
                    means.get(&key).is_some_and(|mean| is_fraction(row.duration, *mean))
                })
        };
        let passes =
            |at: usize| older.iter().filter(move |(_, old)| old.columns.passed_at(names, at).is_some());
        now.columns
            .rows()
            .enumerate()
            .filter(|(at, row)| is_short(row) && passes(*at).nth(PASSES_LEAST - 1).is_none())
            .map(|(_, row)| row.key)
            .collect()
    }

    /// Why a test is suspicious, given its complete results.
    fn check(
        &self,
        compared: Compared<'_>,
        older: &[(&CommitId, Rc<Loaded>)],
        key: ResultKey,
        has_result: bool,
    ) -> Option<SuspiciousPass> {
        let suspicion = match self.source.entry(compared.now, &key) {
            // It was removed after the columns were read.
            None if has_result => return None,
            None => Suspicion::Gone,
            Some(now) if now.decisive.status == Status::NotRun => {
                Suspicion::Skipped { reason: now.decisive.reason }
            }
            Some(now) => {
                let host = now.decisive.host.as_ref();
                let passes = self.passes(older, &key, host);
                let on_any_branch = passes.len() < PASSES_LEAST;
                let pass = |RecentRun { host, duration }| Pass { host, duration };
                let past = || self.source.past(compared.now, &now).into_iter().map(pass).collect();
                let passes: Vec<Pass> = if on_any_branch { past() } else { passes };
                let before = Typical::on(host, &passes)?;
                let now = now.decisive.duration;
                before.is_far_above(now).then_some(Suspicion::Faster { now, before, on_any_branch })?
            }
        };
        Some(SuspiciousPass { key, suspicion })
    }

    /// The passes of a test at older commits, newest first, until there are enough on this host.
    fn passes(
        &self,
        older: &[(&CommitId, Rc<Loaded>)],
        key: &ResultKey,
        host: Option<&model::HostName>,
    ) -> Vec<Pass> {
        let (mut passes, mut own) = (Vec::new(), 0);
        let passed = older.iter().filter(|(_, old)| old.columns.passed_in(key.as_str()).is_some());
        for entry in passed.filter_map(|(commit, _)| self.source.entry(commit, key)) {
            if entry.decisive.status == Status::Passed {
                own += usize::from(entry.decisive.host.as_ref() == host);
                passes.push(Pass { host: entry.decisive.host, duration: entry.decisive.duration });
            }
            if own == PASSES_MOST {
                break;
            }
        }
        passes
    }
}

/// The tests that are skipped or gone, from the columns of two commits, both sorted by key. For `complete`, see
/// [`Compared::complete`].
fn stopped<'a>(before: &'a Columns, now: &'a Columns, complete: bool) -> Vec<&'a str> {
    let is_skipped = |old: Status, new: Status| old == Status::Passed && new == Status::NotRun;
    if Arc::ptr_eq(before.names(), now.names()) {
        let rows = before.rows().zip(now.rows()).filter(|(old, new)| is_skipped(old.status, new.status));
        return rows.map(|(old, _)| old.key).collect();
    }
    let (mut skipped, mut gone) = (Vec::new(), Vec::new());
    let mut rows = now.rows().peekable();
    for old in before.rows() {
        while rows.next_if(|new| new.key < old.key).is_some() {}
        match rows.next_if(|new| new.key == old.key) {
            Some(new) if is_skipped(old.status, new.status) => skipped.push(old.key),
            None if complete && old.status.is_judged() => gone.push(old.key),
            _ => {}
        }
    }
    if !gone.is_empty() {
        let files: HashSet<&str> =
            now.rows().filter(|row| has_verdict(row.status)).filter_map(|row| file(row.key)).collect();
        gone.retain(|key| file(key).is_some_and(|file| files.contains(file)));
    }
    skipped.extend(gone);
    skipped
}

fn has_verdict(status: Status) -> bool {
    status.is_judged() || status == Status::NotRun
}

/// The name of a test without its last part.
fn file(key: &str) -> Option<&str> {
    key.rsplit_once('.').map(|(file, _)| file)
}

#[cfg(test)]
mod tests;
