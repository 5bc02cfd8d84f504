//! The changes of one transaction.

use std::time::Duration;

use model::{BranchRef, CommitId, Counts, ResultKey, Status};
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::Ids;
use crate::types::{Attempt, CommitDetails, TestDuration, TestEntry, TestParts, millis_of, subject};

/// A transaction in progress.
pub struct Batch<'a> {
    pub(super) connection: &'a Connection,
    pub(super) ids: &'a mut Ids,
}

/// Converts a number to the type that SQLite stores.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn code(status: Status) -> i64 {
    Status::ALL.iter().zip(0..).find(|(of, _)| **of == status).map_or(5, |(_, code)| code)
}

impl Batch<'_> {
    pub(super) fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize> {
        self.connection.prepare_cached(sql)?.execute(values)
    }

    fn number(&self, sql: &str, values: impl rusqlite::Params) -> Result<Option<i64>> {
        self.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
    }

    /// The number of a commit. A new commit is added.
    pub(super) fn commit(&mut self, commit: &CommitId) -> Result<i64> {
        if let Some(id) = self.ids.commits.get(commit) {
            return Ok(*id);
        }
        let id = match self.number("SELECT id FROM commit_ WHERE sha = ?1", [commit.as_str()])? {
            Some(id) => id,
            None => {
                self.run("INSERT INTO commit_ (sha) VALUES (?1)", [commit.as_str()])?;
                self.connection.last_insert_rowid()
            }
        };
        self.ids.commits.insert(commit.clone(), id);
        Ok(id)
    }

    pub(super) fn test(&mut self, key: &ResultKey) -> Result<i64> {
        if let Some(id) = self.ids.tests.get(key) {
            return Ok(*id);
        }
        let id = match self.number("SELECT id FROM test WHERE key = ?1", [key.as_str()])? {
            Some(id) => id,
            None => {
                self.run("INSERT INTO test (key) VALUES (?1)", [key.as_str()])?;
                self.connection.last_insert_rowid()
            }
        };
        self.ids.tests.insert(key.clone(), id);
        Ok(id)
    }

    /// Adds the parts of a test's key, once per process.
    pub fn parts(&mut self, key: &ResultKey, parts: &TestParts) -> Result<()> {
        let test = self.test(key)?;
        if !self.ids.parts.insert(test) {
            return Ok(());
        }
        let env = |name: &str| parts.env.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
        let pairs: Vec<String> = parts.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.run(
            "UPDATE test SET file = ?2, subtest = ?3, kernel = ?4, arch = ?5, image = ?6, env = ?7 WHERE id = ?1",
            params![
                test,
                parts.file.as_str(),
                parts.subtest.as_str(),
                parts.kernel.as_ref().map(model::StoreKernel::as_str),
                env("ktest_arch"),
                env("ktest_image"),
                pairs.join(","),
            ],
        )
        .map(drop)
    }

    /// Adds the details of a commit, unless it has some or is not in the database.
    pub fn details(&mut self, commit: &CommitId, details: &CommitDetails) -> Result<()> {
        self.run(
            "UPDATE commit_ SET tree = ?2, author = ?3, date = ?4 WHERE sha = ?1 AND tree IS NULL",
            params![commit.as_str(), details.tree, details.author, details.date],
        )
        .map(drop)
    }

    /// The number of a name in a table of names.
    fn name(&mut self, table: &'static str, column: &str, name: Option<&str>) -> Result<Option<i64>> {
        let Some(name) = name else { return Ok(None) };
        let at = (table, name.to_owned());
        if let Some(id) = self.ids.names.get(&at) {
            return Ok(Some(*id));
        }
        let id = match self.number(&format!("SELECT id FROM {table} WHERE {column} = ?1"), [name])? {
            Some(id) => id,
            None => {
                self.run(&format!("INSERT INTO {table} ({column}) VALUES (?1)"), [name])?;
                self.connection.last_insert_rowid()
            }
        };
        self.ids.names.insert(at, id);
        Ok(Some(id))
    }

    /// Adds an attempt. If it gives the verdict, it replaces the previous decisive attempt of the test.
    pub fn attempt(
        &mut self,
        commit: &CommitId,
        key: &ResultKey,
        attempt: &Attempt,
        decisive: bool,
    ) -> Result<()> {
        let (commit, test) = (self.commit(commit)?, self.test(key)?);
        let crash = self.name("crash", "title", attempt.crash.as_deref())?;
        let host = self.name("host", "name", attempt.host.as_ref().map(model::HostName::as_str))?;
        let kernel = self.name("kernel", "name", attempt.kernel.as_ref().map(model::KernelId::as_str))?;
        let image = self.name("image", "name", attempt.image_hash.as_deref())?;
        if decisive && attempt.number > 1 {
            self.run("UPDATE attempt SET decisive = 0 WHERE commit_ = ?1 AND test = ?2", [commit, test])?;
        }
        self.run(
            "INSERT OR REPLACE INTO attempt (commit_, test, n, decisive, status, started, duration_ms, reason, crash, \
             host, slot, kernel, image, log_bytes, full_log_bytes) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                commit,
                test,
                attempt.number,
                decisive,
                code(attempt.status),
                attempt.started,
                integer(millis_of(attempt.duration)),
                attempt.reason,
                crash,
                host,
                attempt.slot,
                kernel,
                image,
                integer(attempt.log_bytes),
                integer(attempt.full_log_bytes)
            ],
        )?;
        self.run("INSERT OR IGNORE INTO unpublished VALUES (?1, ?2)", [commit, test]).map(drop)
    }

    /// Records that the published files of these tests may be older than the results of the commit.
    pub fn unpublished<'b>(
        &mut self,
        commit: &CommitId,
        keys: impl IntoIterator<Item = &'b ResultKey>,
    ) -> Result<()> {
        let commit = self.commit(commit)?;
        self.run("INSERT OR IGNORE INTO unpublished VALUES (?1, 0)", [commit])?;
        for key in keys {
            let test = self.test(key)?;
            self.run("INSERT OR IGNORE INTO unpublished VALUES (?1, ?2)", [commit, test])?;
        }
        Ok(())
    }

    /// Adds all attempts of a test.
    pub fn entry(&mut self, commit: &CommitId, entry: &TestEntry) -> Result<()> {
        for other in &entry.others {
            self.attempt(commit, &entry.key, other, false)?;
        }
        self.attempt(commit, &entry.key, &entry.decisive, true)
    }

    /// Sets the size of a log.
    pub fn log(&mut self, commit: &CommitId, key: &ResultKey, n: u32, full: bool, bytes: u64) -> Result<()> {
        let (commit, test) = (self.commit(commit)?, self.test(key)?);
        let sql = if full {
            "UPDATE attempt SET full_log_bytes = ?4 WHERE commit_ = ?1 AND test = ?2 AND n = ?3"
        } else {
            "UPDATE attempt SET log_bytes = ?4 WHERE commit_ = ?1 AND test = ?2 AND n = ?3"
        };
        self.run(sql, params![commit, test, n, integer(bytes)])?;
        self.run("INSERT OR IGNORE INTO unpublished VALUES (?1, 0)", [commit]).map(drop)
    }

    /// Sets the message of a commit.
    pub fn message(&mut self, commit: &CommitId, message: &str) -> Result<()> {
        let id = self.commit(commit)?;
        self.run(
            "UPDATE commit_ SET message = ?2, subject = ?3 WHERE id = ?1",
            params![id, message, subject(message)],
        )?;
        self.run("INSERT OR IGNORE INTO unpublished VALUES (?1, 0)", [id]).map(drop)
    }

    /// Sets the counts of a commit. From then on, the commit has results.
    pub fn sums(&mut self, commit: &CommitId, counts: Counts, duration: Duration) -> Result<()> {
        let id = self.commit(commit)?;
        self.run(
            "UPDATE commit_ SET has_results = 1, passed = ?2, failed = ?3, not_run = ?4, failed_to_run = ?5, \
             unknown = ?6, duration_ms = ?7 WHERE id = ?1",
            params![
                id,
                counts.passed,
                counts.failed,
                counts.notrun,
                counts.failed_to_run,
                counts.unknown,
                integer(millis_of(duration))
            ],
        )
        .map(drop)
    }

    /// Sets the past durations of a test.
    pub fn duration(&mut self, of: &TestDuration) -> Result<()> {
        let test = self.test(&of.test)?;
        self.run(
            "UPDATE test SET runs = ?2, passed = ?3, failed = ?4, mean_ms = ?5 WHERE id = ?1",
            params![
                test,
                integer(of.nr),
                integer(of.passed),
                integer(of.failed),
                integer(millis_of(of.mean))
            ],
        )
        .map(drop)
    }

    /// Records that the published files contain all changes of the commit.
    pub fn published(&mut self, commit: &CommitId) -> Result<()> {
        let id = self.commit(commit)?;
        self.run("DELETE FROM unpublished WHERE commit_ = ?1", [id]).map(drop)
    }

    /// Removes the results of a commit.
    pub fn remove(&mut self, commit: &CommitId) -> Result<()> {
        let id = self.commit(commit)?;
        self.run("DELETE FROM attempt WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM file WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM directory WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM unpublished WHERE commit_ = ?1", [id])?;
        self.run(
            "UPDATE commit_ SET has_results = 0, passed = 0, failed = 0, not_run = 0, failed_to_run = 0, \
             unknown = 0, duration_ms = 0 WHERE id = ?1",
            [id],
        )?;
        self.ids.commits.remove(commit);
        self.run(
            "DELETE FROM commit_ WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM branch_commit WHERE commit_ = ?1)",
            [id],
        )
        .map(drop)
    }

    fn branch(&mut self, branch: &BranchRef) -> Result<i64> {
        let user = branch.user.as_str();
        self.run("INSERT OR IGNORE INTO user (name) VALUES (?1)", [user])?;
        self.run(
            "INSERT OR IGNORE INTO branch (user, name) SELECT id, ?2 FROM user WHERE name = ?1",
            [user, branch.branch.as_str()],
        )?;
        let sql = "SELECT b.id FROM branch b JOIN user u ON u.id = b.user WHERE u.name = ?1 AND b.name = ?2";
        self.connection.prepare_cached(sql)?.query_row([user, branch.branch.as_str()], |row| row.get(0))
    }

    /// Changes the listing of a branch from `old` to `new`, both newest commit first.
    pub fn listing(
        &mut self,
        branch: &BranchRef,
        old: &[(CommitId, String)],
        new: &[(CommitId, String)],
    ) -> Result<()> {
        let branch = self.branch(branch)?;
        // A push adds commits at the newer end, and those beyond the limit are removed at the older end.
        let added = old
            .first()
            .and_then(|(newest, _)| new.iter().position(|(commit, _)| commit == newest))
            .filter(|added| {
                old.iter().map(|(commit, _)| commit).zip(&new[*added..]).all(|(a, (b, _))| a == b)
            })
            .filter(|added| new.len() - added <= old.len());
        let newest = "SELECT coalesce(max(position), -1) FROM branch_commit WHERE branch = ?1";
        let newest = self.number(newest, [branch])?.unwrap_or(-1);
        let (added, mut position) = match added {
            Some(added) => {
                let kept = i64::try_from(new.len() - added).unwrap_or(0);
                let oldest = newest - kept + 1;
                self.run("DELETE FROM branch_commit WHERE branch = ?1 AND position < ?2", [branch, oldest])?;
                (added, newest + 1)
            }
            None => {
                self.run("DELETE FROM branch_commit WHERE branch = ?1", [branch])?;
                (new.len(), 0)
            }
        };
        for (commit, message) in new[..added].iter().rev() {
            let id = self.commit(commit)?;
            self.run(
                "UPDATE commit_ SET message = ?2, subject = ?3 WHERE id = ?1 AND message = ''",
                params![id, message, subject(message)],
            )?;
            self.run("INSERT INTO branch_commit VALUES (?1, ?2, ?3)", [branch, position, id])?;
            position += 1;
        }
        Ok(())
    }

    /// Removes the listing of a branch.
    pub fn unlist(&mut self, branch: &BranchRef) -> Result<()> {
        let id = self.branch(branch)?;
        self.run("DELETE FROM branch_commit WHERE branch = ?1", [id])?;
        self.run("DELETE FROM branch WHERE id = ?1", [id]).map(drop)
    }

    /// Records that the import is complete.
    pub fn imported(&mut self, at: i64, numbers: [u64; 6]) -> Result<()> {
        let [commits, tests, attempts, branches, durations, records] = numbers.map(integer);
        self.run(
            "INSERT INTO import VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![at, commits, tests, attempts, branches, durations, records],
        )
        .map(drop)
    }
}
