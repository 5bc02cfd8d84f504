//! The queries of the writer.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use model::{BranchRef, CommitId, Counts, Status};
use rusqlite::{Connection, OptionalExtension, Row};

use super::Database;
use super::attempt::{COLUMNS, Names, attempt, columns};
use crate::error::{Error, Result};
use crate::types::{Attempt, Authorship, BranchEntry, DURATION_MAX, Summary, TestDuration, TestEntry};

/// A commit of the database.
#[derive(Debug, Default)]
pub struct StoredCommit {
    pub message: String,
    /// Whether the database has its results. A commit that is only listed has none.
    pub has_results: bool,
    pub entries: Vec<TestEntry>,
}

/// The listing of a branch, newest commit first.
pub type Listing = (BranchRef, Vec<BranchEntry>);

const ATTEMPTS: &str = concat!(
    "SELECT ",
    columns!(),
    ", t.key FROM attempt a JOIN test t ON t.id = a.test WHERE a.commit_ = ?1 ORDER BY a.test, a.n"
);

const LISTINGS: &str = "SELECT u.name, b.name, c.sha, c.message, c.passed, c.failed, c.not_run, c.failed_to_run, c.unknown, \
     c.duration_ms, c.flaky, c.author, c.date FROM branch b JOIN user u ON u.id = b.user LEFT JOIN branch_commit l ON l.branch = b.id \
     LEFT JOIN commit_ c ON c.id = l.commit_ ORDER BY b.id, l.position DESC";

/// The results of a commit and its message.
pub fn stored_commit(connection: &Connection, path: &Path, commit: &CommitId) -> Result<StoredCommit> {
    let error = || Error::database("read", path);
    let found = connection
        .prepare_cached("SELECT id, message, has_results FROM commit_ WHERE sha = ?1")
        .and_then(|mut select| {
            let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, bool>(2)?));
            select.query_row([commit.as_str()], row).optional()
        });
    let Some((id, message, has_results)) = found.map_err(error())? else {
        return Ok(StoredCommit::default());
    };
    let mut entries: Vec<TestEntry> = Vec::new();
    for (key, decisive, attempt) in attempts(connection, id).map_err(error())? {
        match entries.last_mut().filter(|entry| entry.key.as_str() == key) {
            Some(entry) => entry.add(decisive, attempt),
            None => {
                entries.push(TestEntry { key: parse(path, &key)?, decisive: attempt, others: Vec::new() });
            }
        }
    }
    Ok(StoredCommit { message, has_results, entries })
}

/// The attempts at a commit, each with the key of its test and whether it gives the verdict.
fn attempts(connection: &Connection, commit: i64) -> rusqlite::Result<Vec<(String, bool, Attempt)>> {
    let mut names = Names::new(connection)?;
    let mut select = connection.prepare_cached(ATTEMPTS)?;
    let rows = select.query_map([commit], |row| {
        let (decisive, attempt) = attempt(row, &mut names)?;
        Ok((row.get(COLUMNS)?, decisive, attempt))
    })?;
    rows.collect()
}

fn parse<T: std::str::FromStr>(path: &Path, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::damaged(path, format_args!("{text:?} is not a valid name")))
}

impl Database {
    /// The results of a commit and its message.
    pub fn commit(&self, commit: &CommitId) -> Result<StoredCommit> {
        stored_commit(&self.connection, &self.path, commit)
    }

    pub(super) fn parse<T: std::str::FromStr>(&self, text: &str) -> Result<T> {
        parse(&self.path, text)
    }

    /// The sums over the results of a commit.
    pub fn summary(&self, commit: &CommitId) -> Result<Summary> {
        let sql = "SELECT passed, failed, not_run, failed_to_run, unknown, duration_ms, flaky FROM commit_ WHERE sha = ?1";
        let row = |row: &Row<'_>| summary(row, 0);
        self.connection
            .prepare_cached(sql)
            .and_then(|mut select| select.query_row([commit.as_str()], row).optional())
            .map(Option::unwrap_or_default)
            .map_err(self.error())
    }

    /// The author and date of a commit.
    pub fn authorship(&self, commit: &CommitId) -> Result<Authorship> {
        self.connection
            .prepare_cached("SELECT author, date FROM commit_ WHERE sha = ?1")
            .and_then(|mut select| select.query_row([commit.as_str()], |row| authorship(row, 0)).optional())
            .map(Option::unwrap_or_default)
            .map_err(self.error())
    }

    /// All listings.
    pub fn listings(&self) -> Result<Vec<Listing>> {
        let text = |row: &Row<'_>, at| row.get::<_, Option<String>>(at);
        let rows = self.connection.prepare(LISTINGS).and_then(|mut select| {
            let rows = select.query_map([], |row| {
                let commit = text(row, 2)?.zip(text(row, 3)?);
                let summary = if commit.is_some() { summary(row, 4)? } else { Summary::default() };
                let authorship = authorship(row, 11)?;
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, commit, authorship, summary))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        let mut listings: Vec<Listing> = Vec::new();
        for (user, branch, commit, authorship, summary) in rows.map_err(self.error())? {
            let name = BranchRef { user: self.parse(&user)?, branch: self.parse(&branch)? };
            if listings.last().is_none_or(|(last, _)| *last != name) {
                listings.push((name, Vec::new()));
            }
            let (Some((sha, message)), Some((_, entries))) = (commit, listings.last_mut()) else { continue };
            let commit = self.parse(&sha)?;
            let Summary { counts, duration } = summary;
            entries.push(BranchEntry { commit, message, authorship, counts, duration });
        }
        Ok(listings)
    }

    /// The past durations of the tests that ran.
    pub fn durations(&self) -> Result<Vec<TestDuration>> {
        let sql = "SELECT key, mean_ms, runs, passed, failed FROM test WHERE runs > 0";
        let rows = self.connection.prepare(sql).and_then(|mut select| {
            let rows = select.query_map([], |row| {
                let key: String = row.get(0)?;
                Ok((key, duration(row, 1)?, number(row, 2)?, number(row, 3)?, number(row, 4)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        rows.map_err(self.error())?
            .into_iter()
            .map(|(key, mean, nr, passed, failed)| {
                Ok(TestDuration { test: self.parse(&key)?, mean, nr, passed, failed })
            })
            .collect()
    }

    /// The commits with results that the published files may lack.
    pub fn unpublished(&self) -> Result<HashSet<CommitId>> {
        self.commits_of("SELECT c.sha FROM unpublished p JOIN commit_ c ON c.id = p.commit_")
    }

    /// The commits that have results.
    pub fn commits(&self) -> Result<HashSet<CommitId>> {
        self.commits_of("SELECT sha FROM commit_ WHERE has_results")
    }

    fn commits_of(&self, sql: &str) -> Result<HashSet<CommitId>> {
        let rows = self.connection.prepare(sql).and_then(|mut select| {
            select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        });
        rows.map_err(self.error())?.iter().map(|sha| self.parse(sha)).collect()
    }

    /// The number of tests with a verdict, and of attempts, at a commit.
    pub fn count(&self, commit: &CommitId) -> Result<(u64, u64)> {
        let sql = "SELECT coalesce(sum(decisive), 0), count(*) FROM attempt \
                   WHERE commit_ = (SELECT id FROM commit_ WHERE sha = ?1)";
        self.connection
            .prepare_cached(sql)
            .and_then(|mut select| {
                select.query_row([commit.as_str()], |row| Ok((number(row, 0)?, number(row, 1)?)))
            })
            .map_err(self.error())
    }

    /// Whether the import is complete.
    pub fn is_imported(&self) -> Result<bool> {
        self.connection
            .query_row("SELECT EXISTS (SELECT 1 FROM import)", [], |row| row.get(0))
            .map_err(self.error())
    }
}

pub(super) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0))
}

pub(super) fn duration(row: &Row<'_>, at: usize) -> rusqlite::Result<Duration> {
    Ok(Duration::from_millis(number(row, at)?).min(DURATION_MAX))
}

fn authorship(row: &Row<'_>, at: usize) -> rusqlite::Result<Authorship> {
    let (author, date): (Option<String>, Option<i64>) = (row.get(at)?, row.get(at + 1)?);
    Ok(Authorship { author: author.unwrap_or_default(), date: date.unwrap_or_default() })
}

pub(super) fn summary(row: &Row<'_>, at: usize) -> rusqlite::Result<Summary> {
    let (failed, flaky): (u32, u32) = (row.get(at + 1)?, row.get(at + 6)?);
    let counts = Counts {
        passed: row.get(at)?,
        failed: failed.saturating_sub(flaky),
        notrun: row.get(at + 2)?,
        failed_to_run: row.get(at + 3)?,
        inprogress: 0,
        unknown: row.get(at + 4)?,
        flaky,
    };
    Ok(Summary { counts, duration: Duration::from_millis(number(row, at + 5)?) })
}

pub(super) fn status(row: &Row<'_>, at: usize) -> rusqlite::Result<Status> {
    let status = usize::try_from(row.get::<_, i64>(at)?).ok().and_then(|code| Status::STORED.get(code));
    Ok(status.copied().unwrap_or(Status::Unknown))
}
