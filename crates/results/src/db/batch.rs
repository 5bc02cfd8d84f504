//! The changes of one transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{BranchRef, CommitId, Conditions, Counts, HostName, KernelId, ResultKey, Status};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, params};

use super::attempt::{bits, names};
use super::copy::Progress;
use super::history::ids_hash;
use super::{Ids, KnownCommit};
use crate::types::{Attempt, CommitDetails, TestDuration, TestEntry, TestParts, millis_of, subject};

/// A transaction in progress.
pub struct Batch<'a> {
    pub(super) connection: &'a Connection,
    pub(super) ids: &'a mut Ids,
    pub(super) progress: &'a mut Progress,
    /// The statements of every verdict.
    add_attempt: Option<CachedStatement<'a>>,
    set_duration: Option<CachedStatement<'a>>,
    /// The commits and titles of the crashes that were added.
    pub(super) crashed: BTreeSet<(i64, i64)>,
}

/// Adds a row to a table of attempts, `attempt` or `history`.
macro_rules! insert {
    ($table:literal) => {
        concat!(
            "INSERT OR REPLACE INTO ",
            $table,
            " (commit_, test, ",
            names!(),
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)"
        )
    };
}

/// The number of a name in a table of names; a new name is added. The statements are constant, so that they are prepared
/// once.
macro_rules! name {
    ($connection:expr, $known:expr, $table:literal, $column:literal, $name:expr) => {
        match $name {
            None => None,
            Some(name) => Some(match $known.get(name) {
                Some(id) => *id,
                None => {
                    let select = concat!("SELECT id FROM ", $table, " WHERE ", $column, " = ?1");
                    let insert = concat!("INSERT INTO ", $table, " (", $column, ") VALUES (?1)");
                    let id = number_of($connection, select, insert, name)?;
                    $known.insert(name.to_owned(), id);
                    id
                }
            }),
        }
    };
}

fn number_of(connection: &Connection, select: &str, insert: &str, name: &str) -> Result<i64> {
    let found = connection.prepare_cached(select)?.query_row([name], |row| row.get(0)).optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    connection.prepare_cached(insert)?.execute([name])?;
    Ok(connection.last_insert_rowid())
}

/// Converts a number to the type that SQLite stores.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn code(status: Status) -> i64 {
    Status::STORED.iter().zip(0..).find(|(of, _)| **of == status).map_or(5, |(_, code)| code)
}

impl<'a> Batch<'a> {
    pub(super) fn new(connection: &'a Connection, ids: &'a mut Ids, progress: &'a mut Progress) -> Self {
        Self { connection, ids, progress, add_attempt: None, set_duration: None, crashed: BTreeSet::new() }
    }
}

/// Runs a statement that is prepared once per transaction.
fn run_kept<'a>(
    kept: &mut Option<CachedStatement<'a>>,
    connection: &'a Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<usize> {
    let statement = match kept {
        Some(statement) => statement,
        None => kept.insert(connection.prepare_cached(sql)?),
    };
    statement.execute(values)
}

impl Batch<'_> {
    pub(super) fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize> {
        self.connection.prepare_cached(sql)?.execute(values)
    }

    pub(super) fn number(&self, sql: &str, values: impl rusqlite::Params) -> Result<Option<i64>> {
        self.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
    }

    /// The number of a commit. A new commit is added.
    pub(super) fn commit(&mut self, commit: &CommitId) -> Result<i64> {
        self.known(commit).map(|known| known.id)
    }

    fn known(&mut self, commit: &CommitId) -> Result<KnownCommit> {
        if let Some(known) = self.ids.commits.get(commit) {
            return Ok(*known);
        }
        let found = self
            .connection
            .prepare_cached("SELECT id, has_results, in_history FROM commit_ WHERE sha = ?1")?
            .query_row([commit.as_str()], |row| {
                Ok(KnownCommit { id: row.get(0)?, has_results: row.get(1)?, in_history: row.get(2)? })
            })
            .optional()?;
        let known = match found {
            Some(known) => known,
            None => {
                self.run("INSERT INTO commit_ (sha) VALUES (?1)", [commit.as_str()])?;
                KnownCommit { id: self.connection.last_insert_rowid(), has_results: false, in_history: 0 }
            }
        };
        self.ids.commits.insert(commit.clone(), known);
        Ok(known)
    }

    /// Whether the attempts of a test at a commit are copied to the table in the order of tests.
    fn is_copied(&self, commit: KnownCommit, test: i64) -> bool {
        match commit.in_history {
            0 => false,
            1 => test < self.progress.next_test,
            _ => true,
        }
    }

    pub(super) fn test(&mut self, key: &ResultKey) -> Result<i64> {
        if let Some((_, id)) = self.ids.last_test.as_ref().filter(|(last, _)| last == key) {
            return Ok(*id);
        }
        let id = self.known_test(key)?;
        self.ids.last_test = Some((key.clone(), id));
        Ok(id)
    }

    fn known_test(&mut self, key: &ResultKey) -> Result<i64> {
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

    pub(super) fn host(&mut self, host: Option<&HostName>) -> Result<Option<i64>> {
        let Self { connection, ids, .. } = self;
        Ok(name!(connection, ids.hosts, "host", "name", host.map(HostName::as_str)))
    }

    pub(super) fn kernel(&mut self, kernel: Option<&KernelId>) -> Result<Option<i64>> {
        let Self { connection, ids, .. } = self;
        Ok(name!(connection, ids.kernels, "kernel", "name", kernel.map(KernelId::as_str)))
    }

    pub(super) fn image(&mut self, image: Option<&str>) -> Result<Option<i64>> {
        let Self { connection, ids, .. } = self;
        Ok(name!(connection, ids.images, "image", "name", image))
    }

    /// Records that a commit inherits an attempt. Returns the number of the commit at which it ran.
    fn heir(&mut self, source: &CommitId, commit: i64) -> Result<i64> {
        let source = self.commit(source)?;
        self.run("INSERT OR IGNORE INTO heir VALUES (?1, ?2)", [source, commit])?;
        Ok(source)
    }

    /// Adds an attempt. If it gives the verdict, it replaces the previous decisive attempt of the test.
    pub fn attempt(
        &mut self,
        commit: &CommitId,
        key: &ResultKey,
        attempt: &Attempt,
        decisive: bool,
    ) -> Result<()> {
        let (known, test) = (self.known(commit)?, self.test(key)?);
        let commit = known.id;
        let ran_at = attempt.ran_at.as_ref().map(|source| self.heir(source, commit)).transpose()?;
        let (host, kernel) = (self.host(attempt.host.as_ref())?, self.kernel(attempt.kernel.as_ref())?);
        let image = self.image(attempt.image_hash.as_deref())?;
        let Conditions { suite, experiment, load, alone } = &attempt.conditions;
        let Self { connection, ids, .. } = self;
        let suite = suite.as_ref().map(ToString::to_string);
        let suite = name!(connection, ids.suites, "suite", "name", suite.as_deref());
        let crash = name!(connection, ids.crashes, "crash", "title", attempt.crash.as_deref());
        self.crashed.extend(crash.map(|crash| (commit, crash)));
        if let Some(key) = experiment.filter(|_| ran_at.is_none()) {
            self.experiment(commit, key)?;
        }
        let is_copied = self.is_copied(known, test);
        if decisive && attempt.number > 1 {
            self.run("UPDATE attempt SET decisive = 0 WHERE commit_ = ?1 AND test = ?2", [commit, test])?;
            if is_copied {
                self.run("UPDATE history SET decisive = 0 WHERE commit_ = ?1 AND test = ?2", [commit, test])?;
            }
        }
        let row = params![
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
            integer(attempt.full_log_bytes),
            suite,
            experiment.map(bits),
            load,
            ran_at,
            alone
        ];
        run_kept(&mut self.add_attempt, self.connection, insert!("attempt"), row)?;
        if is_copied {
            self.run(insert!("history"), row)?;
        } else {
            self.progress.row();
        }
        self.mark(commit)
    }

    /// Records that the published files of a commit may be older than its results.
    pub(super) fn mark(&mut self, commit: i64) -> Result<()> {
        if self.ids.unpublished.insert(commit) {
            self.run("INSERT OR IGNORE INTO unpublished VALUES (?1)", [commit])?;
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
        let (known, test) = (self.known(commit)?, self.test(key)?);
        let (commit, column) = (known.id, if full { "full_log_bytes" } else { "log_bytes" });
        let values = params![commit, test, n, integer(bytes)];
        let of = "WHERE commit_ = ?1 AND test = ?2 AND n = ?3";
        self.run(&format!("UPDATE attempt SET {column} = ?4 {of}"), values)?;
        if self.is_copied(known, test) {
            self.run(&format!("UPDATE history SET {column} = ?4 {of}"), values)?;
        }
        self.mark(commit)
    }

    /// Sets the message of a commit.
    pub fn message(&mut self, commit: &CommitId, message: &str) -> Result<()> {
        let id = self.commit(commit)?;
        self.run(
            "UPDATE commit_ SET message = ?2, subject = ?3 WHERE id = ?1",
            params![id, message, subject(message)],
        )?;
        self.mark(id)
    }

    /// Sets the counts of a commit. From then on, the commit has results.
    pub fn sums(&mut self, commit: &CommitId, counts: Counts, duration: Duration) -> Result<()> {
        let KnownCommit { id, has_results, in_history } = self.known(commit)?;
        if !has_results {
            self.progress.commit();
            self.ids.commits.insert(commit.clone(), KnownCommit { id, has_results: true, in_history });
        }
        self.run(
            "UPDATE commit_ SET has_results = 1, passed = ?2, failed = ?3, not_run = ?4, failed_to_run = ?5, \
             unknown = ?6, duration_ms = ?7, flaky = ?8 WHERE id = ?1",
            params![
                id,
                counts.passed,
                counts.failed + counts.flaky,
                counts.notrun,
                counts.failed_to_run,
                counts.unknown,
                integer(millis_of(duration)),
                counts.flaky
            ],
        )
        .map(drop)
    }

    /// Sets the past durations of a test.
    pub fn duration(&mut self, of: &TestDuration) -> Result<()> {
        let test = self.test(&of.test)?;
        let sql = "UPDATE test SET runs = ?2, passed = ?3, failed = ?4, mean_ms = ?5 WHERE id = ?1";
        let [runs, passed, failed, mean] = [of.nr, of.passed, of.failed, millis_of(of.mean)].map(integer);
        let values = [test, runs, passed, failed, mean];
        run_kept(&mut self.set_duration, self.connection, sql, values).map(drop)
    }

    /// Records that the published files contain the results of a commit.
    pub fn published(&mut self, commit: &CommitId) -> Result<()> {
        let id = self.commit(commit)?;
        self.ids.unpublished.remove(&id);
        self.run("DELETE FROM unpublished WHERE commit_ = ?1", [id]).map(drop)
    }

    /// Removes the results of a commit.
    pub fn remove(&mut self, commit: &CommitId) -> Result<()> {
        let id = self.commit(commit)?;
        self.drop_crashes_of(id)?;
        let tests = "(SELECT test FROM attempt WHERE commit_ = ?1)";
        self.run(&format!("DELETE FROM history WHERE commit_ = ?1 AND test IN {tests}"), [id])?;
        let keys = "(SELECT experiment FROM attempt WHERE commit_ = ?1)";
        self.run(&format!("DELETE FROM experiment WHERE commit_ = ?1 AND key IN {keys}"), [id])?;
        self.ids.experiments.retain(|(commit, _)| *commit != id);
        self.remove_code_of(id)?;
        self.run("DELETE FROM patch WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM attempt WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM facet WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM file WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM build WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM directory WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM heir WHERE commit_ = ?1", [id])?;
        self.run("DELETE FROM tested WHERE commit_ = ?1", [id])?;
        self.ids.tested.retain(|(commit, _)| *commit != id);
        self.ids.unpublished.remove(&id);
        self.run("DELETE FROM unpublished WHERE commit_ = ?1", [id])?;
        self.run(
            "UPDATE commit_ SET has_results = 0, in_history = 0, passed = 0, failed = 0, not_run = 0, failed_to_run = 0, \
             unknown = 0, duration_ms = 0, flaky = 0 WHERE id = ?1",
            [id],
        )?;
        self.ids.commits.remove(commit);
        self.run(
            "DELETE FROM commit_ WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM branch_commit WHERE commit_ = ?1) \
             AND NOT EXISTS (SELECT 1 FROM heir WHERE source = ?1)",
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
        let (added, first) = match added {
            Some(added) => {
                let kept = i64::try_from(new.len() - added).unwrap_or(0);
                let oldest = newest - kept + 1;
                if self
                    .run("DELETE FROM branch_commit WHERE branch = ?1 AND position < ?2", [branch, oldest])?
                    > 0
                {
                    self.drop_crashes_below(branch, oldest)?;
                }
                (added, newest + 1)
            }
            None => {
                self.run("DELETE FROM branch_commit WHERE branch = ?1", [branch])?;
                self.drop_crashes_below(branch, i64::MAX)?;
                (new.len(), 0)
            }
        };
        for (position, (commit, message)) in (first..).zip(new[..added].iter().rev()) {
            let id = self.commit(commit)?;
            self.run(
                "UPDATE commit_ SET message = ?2, subject = ?3 WHERE id = ?1 AND message = ''",
                params![id, message, subject(message)],
            )?;
            self.run("INSERT INTO branch_commit VALUES (?1, ?2, ?3)", [branch, position, id])?;
        }
        self.count_crashes_from(branch, first)?;
        let hash = ids_hash(new.iter().map(|(commit, _)| commit));
        self.run("UPDATE branch SET listing_hash = ?2 WHERE id = ?1", [branch, hash]).map(drop)
    }

    /// Removes the listing of a branch.
    pub fn unlist(&mut self, branch: &BranchRef) -> Result<()> {
        let id = self.branch(branch)?;
        self.run("DELETE FROM branch_commit WHERE branch = ?1", [id])?;
        self.drop_crashes_below(id, i64::MAX)?;
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
