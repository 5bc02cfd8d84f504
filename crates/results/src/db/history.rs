//! The queries of readers: one test at many commits, one test at one commit, the crashes of a branch.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use model::{BranchRef, CommitId, ResultKey};
use rusqlite::{Connection, OptionalExtension, Result};

use super::attempt::{COLUMNS, NameTable, Names, attempt, columns, parse};
use crate::types::{Attempt, CrashEntry, HistoryEntry, TestEntry};

/// The attempts of a test at a range of commits in the table in the order of tests, and those that are not copied to it.
const HISTORY: &str = concat!(
    "SELECT ",
    columns!(),
    ", a.commit_ FROM history a WHERE a.test = ?1 AND a.commit_ BETWEEN ?2 AND ?3 UNION ALL SELECT ",
    columns!(),
    ", a.commit_ FROM commit_ c INDEXED BY commit_not_in_history \
     CROSS JOIN attempt a ON a.commit_ = c.id AND a.test = ?1 WHERE c.has_results = 1 AND c.in_history < 2 \
     AND c.id BETWEEN ?2 AND ?3 AND (c.in_history = 0 OR ?1 >= (SELECT next_test FROM history_copy))"
);
const ENTRY: &str =
    concat!("SELECT ", columns!(), " FROM attempt a WHERE a.commit_ = ?1 AND a.test = ?2 ORDER BY a.n");
const BRANCH: &str = "SELECT b.id, b.listing_hash FROM user u JOIN branch b ON b.user = u.id WHERE u.name = ?1 AND b.name = ?2";
const LISTED: &str = "SELECT commit_ FROM branch_commit WHERE branch = ?1 ORDER BY position DESC";
const COMMITS: &str = "SELECT c.id, c.sha FROM branch_commit l CROSS JOIN commit_ c ON c.id = l.commit_ \
    WHERE l.branch = ?1 ORDER BY l.position DESC";
const STORED: &str = "SELECT c.id FROM branch_commit l CROSS JOIN commit_ c ON c.id = l.commit_ \
    WHERE l.branch = ?1 AND c.has_results = 1";
/// Only the index is read.
const CRASHES: &str = "SELECT a.commit_, a.test, a.n, a.crash, a.decisive, a.started, a.host FROM branch_commit l \
    CROSS JOIN attempt a INDEXED BY crash_by_commit ON a.commit_ = l.commit_ AND a.crash IS NOT NULL \
    WHERE l.branch = ?1 ORDER BY l.position DESC";

fn test_id(connection: &Connection, key: &ResultKey) -> Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT id FROM test WHERE key = ?1")?;
    select.query_row([key.as_str()], |row| row.get(0)).optional()
}

/// The number of a branch, and the hash of its listing.
pub(super) fn branch_id(connection: &Connection, at: &BranchRef) -> Result<Option<(i64, Option<i64>)>> {
    let names = [at.user.as_str(), at.branch.as_str()];
    connection.prepare_cached(BRANCH)?.query_row(names, |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// A hash of the commits of a listing in their order, and of their number.
pub(super) fn ids_hash<'a>(commits: impl Iterator<Item = &'a CommitId>) -> i64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = PRIME;
    for commit in commits {
        for word in commit.as_str().as_bytes().chunks(8) {
            let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            hash = (hash ^ word).wrapping_mul(PRIME).rotate_left(29);
        }
    }
    hash.cast_signed()
}

/// The number of commits by which the published listing of a branch can differ from the one in the database.
const LISTING_LAG: usize = 100;
/// The number of commits from which on two threads read a history.
const SPLIT_MIN: usize = 2000;

/// What the database has of a branch.
#[derive(Debug)]
pub struct Listing {
    branch: i64,
    /// The hash of the listing.
    hash: Option<i64>,
    /// The numbers of the commits of the listing, sorted, each with its place in the listing.
    listed: Vec<(i64, usize)>,
}

/// The attempts of a test at commits of a listing, each with the index of its commit and whether it gives the verdict.
pub type TestRows = Vec<(usize, bool, Attempt)>;

/// The listing of a branch; `None` if the branch is not in the database.
pub fn listing(connection: &Connection, at: &BranchRef) -> Result<Option<Listing>> {
    let Some((branch, hash)) = branch_id(connection, at)? else { return Ok(None) };
    let mut select = connection.prepare_cached(LISTED)?;
    let ids = select.query_map([branch], |row| row.get(0))?;
    let mut listed: Vec<(i64, usize)> =
        ids.zip(0..).map(|(id, place)| Ok((id?, place))).collect::<Result<_>>()?;
    listed.sort_unstable();
    Ok(Some(Listing { branch, hash, listed }))
}

impl Listing {
    /// The ranges of commits that two threads read; one range if the branch has few commits.
    pub fn ranges(&self) -> (RangeInclusive<i64>, Option<RangeInclusive<i64>>) {
        if self.listed.len() < SPLIT_MIN {
            return (i64::MIN..=i64::MAX, None);
        }
        let middle = self.listed[self.listed.len() / 2].0;
        (i64::MIN..=middle - 1, Some(middle..=i64::MAX))
    }

    /// The attempts of a test at the commits in the range.
    pub fn rows(
        &self,
        connection: &Connection,
        key: &ResultKey,
        range: &RangeInclusive<i64>,
    ) -> Result<TestRows> {
        let Self { listed, .. } = self;
        let mut attempts = Vec::new();
        let Some(test) = test_id(connection, key)? else { return Ok(attempts) };
        attempts.reserve(listed.len());
        let mut next = listed.partition_point(|(commit, _)| commit < range.start());
        let mut names = Names::new(connection)?;
        let mut select = connection.prepare_cached(HISTORY)?;
        let mut rows = select.query([&test, range.start(), range.end()])?;
        while let Some(row) = rows.next()? {
            let commit: i64 = row.get(COLUMNS)?;
            // Most rows are in the order of the commits.
            let found = match listed.get(next) {
                Some((of, _)) if *of == commit => Ok(next),
                _ => listed.binary_search_by_key(&commit, |(commit, _)| *commit),
            };
            if let Ok(found) = found {
                next = found + 1;
                let (decisive, attempt) = attempt(row, &mut names)?;
                attempts.push((found, decisive, attempt));
            }
        }
        Ok(attempts)
    }

    /// Fills in the attempts at the commits of the published listing.
    pub fn fill(
        self,
        connection: &Connection,
        key: &ResultKey,
        rows: TestRows,
        history: &mut [HistoryEntry],
    ) -> Result<Places> {
        let Self { branch, hash, listed } = self;
        let is_same = listed.len() == history.len()
            && hash == Some(ids_hash(history.iter().map(|entry| &entry.commit)));
        let places: Vec<(i64, Option<usize>)> = if is_same {
            listed.into_iter().map(|(id, place)| (id, Some(place))).collect()
        } else {
            let found = find(connection, branch, history)?;
            listed.into_iter().map(|(id, _)| (id, found.get(&id).copied())).collect()
        };
        for (at, decisive, attempt) in rows {
            if let (_, Some(place)) = places[at] {
                TestEntry::add_to(&mut history[place].entry, key, decisive, attempt);
            }
        }
        Ok(Places { branch, places })
    }
}

/// The commits of a branch in the database.
#[derive(Debug)]
pub struct Places {
    branch: i64,
    /// The number of each, sorted, with its place in the published listing, if it is there.
    places: Vec<(i64, Option<usize>)>,
}

/// The places, by number, of the commits in a published listing that differs from the one in the database.
fn find(connection: &Connection, branch: i64, history: &[HistoryEntry]) -> Result<HashMap<i64, usize>> {
    let mut select = connection.prepare_cached(COMMITS)?;
    let (mut rows, mut next, mut places) =
        (select.query([branch])?, 0, HashMap::with_capacity(history.len()));
    while let Some(row) = rows.next()? {
        let sha = row.get_ref(1)?.as_str()?;
        // The two listings have the same order.
        let mut listed = history.iter().enumerate().skip(next).take(LISTING_LAG);
        let Some((place, _)) = listed.find(|(_, entry)| entry.commit.as_str() == sha) else { continue };
        next = place + 1;
        places.insert(row.get(0)?, place);
    }
    Ok(places)
}

impl Places {
    /// Which commits of the listing have results here.
    pub fn stored(&self, connection: &Connection, history: &[HistoryEntry]) -> Result<Vec<bool>> {
        let mut is_stored: Vec<bool> = history.iter().map(|entry| entry.entry.is_some()).collect();
        if is_stored.contains(&false) {
            let mut select = connection.prepare_cached(STORED)?;
            let mut rows = select.query([self.branch])?;
            while let Some(row) = rows.next()? {
                let commit: i64 = row.get(0)?;
                let found = self.places.binary_search_by_key(&commit, |(commit, _)| *commit);
                if let Some(place) = found.ok().and_then(|found| self.places[found].1) {
                    is_stored[place] = true;
                }
            }
        }
        Ok(is_stored)
    }
}

/// One test at one commit. `None` if the commit has no results here, `Some(None)` if it has none of the test.
pub fn entry(
    connection: &Connection,
    commit: &CommitId,
    key: &ResultKey,
) -> Result<Option<Option<TestEntry>>> {
    let commit: Option<i64> = connection
        .prepare_cached("SELECT id FROM commit_ WHERE sha = ?1 AND has_results")?
        .query_row([commit.as_str()], |row| row.get(0))
        .optional()?;
    let Some(commit) = commit else { return Ok(None) };
    let Some(test) = test_id(connection, key)? else { return Ok(Some(None)) };
    let mut names = Names::new(connection)?;
    let mut select = connection.prepare_cached(ENTRY)?;
    let mut rows = select.query([commit, test])?;
    let mut entry = None;
    while let Some(row) = rows.next()? {
        let (decisive, attempt) = attempt(row, &mut names)?;
        TestEntry::add_to(&mut entry, key, decisive, attempt);
    }
    Ok(Some(entry))
}

/// The attempts that crashed at the commits of a branch, newest commit first; `None` if the branch is not in the
/// database.
pub fn crashes(connection: &Connection, at: &BranchRef) -> Result<Option<Vec<CrashEntry>>> {
    let Some((branch, _)) = branch_id(connection, at)? else { return Ok(None) };
    let mut commits = NameTable::new(connection, "SELECT sha FROM commit_ WHERE id = ?1", parse)?;
    let mut tests = NameTable::new(connection, "SELECT key FROM test WHERE id = ?1", parse)?;
    let mut names = Names::new(connection)?;
    let mut select = connection.prepare_cached(CRASHES)?;
    let (mut rows, mut found) = (select.query([branch])?, Vec::new());
    while let Some(row) = rows.next()? {
        let (commit, key) = (commits.get(row.get(0)?)?, tests.get(row.get(1)?)?);
        let title = names.crash.get(row.get(3)?)?;
        // Names that are not valid are left out.
        let (Some(commit), Some(key), Some(title)) = (commit, key, title) else { continue };
        found.push(CrashEntry {
            commit,
            key,
            attempt: row.get(2)?,
            title,
            decisive: row.get(4)?,
            started: row.get(5)?,
            host: names.host.get(row.get(6)?)?,
        });
    }
    Ok(Some(found))
}
