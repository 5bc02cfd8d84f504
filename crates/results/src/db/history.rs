//! The queries of readers: one test at many commits, one test at one commit, the crashes of a branch.

use std::collections::HashMap;

use model::{BranchRef, CommitId, HostName, KernelId, ResultKey};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, Row};

use super::query::{duration, number, status};
use crate::types::{Attempt, CrashEntry, TestEntry};

/// The columns that [`attempt`] reads.
macro_rules! columns {
    () => {
        "n, decisive, status, started, duration_ms, reason, crash, host, slot, kernel, image, log_bytes, full_log_bytes"
    };
}

const HISTORY: &str = concat!(
    "SELECT ",
    columns!(),
    ", commit_ FROM attempt INDEXED BY attempt_by_test WHERE test = ?1 ORDER BY commit_, n"
);
const ENTRY: &str =
    concat!("SELECT ", columns!(), " FROM attempt WHERE commit_ = ?1 AND test = ?2 ORDER BY n");
const BRANCH: &str =
    "SELECT b.id FROM user u JOIN branch b ON b.user = u.id WHERE u.name = ?1 AND b.name = ?2";
const COMMITS: &str = "SELECT c.id, c.sha FROM branch_commit l CROSS JOIN commit_ c ON c.id = l.commit_ \
    WHERE l.branch = ?1 AND c.has_results ORDER BY l.position DESC";
const CRASHES: &str = "SELECT a.n, c.sha, t.key, x.title, a.status, a.decisive, a.started, h.name FROM branch_commit l \
    CROSS JOIN attempt a INDEXED BY crash_by_commit ON a.commit_ = l.commit_ AND a.crash IS NOT NULL \
    JOIN commit_ c ON c.id = a.commit_ JOIN test t ON t.id = a.test JOIN crash x ON x.id = a.crash \
    LEFT JOIN host h ON h.id = a.host WHERE l.branch = ?1 ORDER BY l.position DESC, a.test, a.n";

/// A cache of names: each name is read and parsed once.
struct NameTable<'a, T> {
    select: CachedStatement<'a>,
    known: HashMap<i64, Option<T>>,
}

impl<'a, T: std::str::FromStr + Clone> NameTable<'a, T> {
    fn new(connection: &'a Connection, select: &str) -> Result<Self> {
        Ok(Self { select: connection.prepare_cached(select)?, known: HashMap::new() })
    }

    fn get(&mut self, id: Option<i64>) -> Result<Option<T>> {
        let Some(id) = id else { return Ok(None) };
        if let Some(name) = self.known.get(&id) {
            return Ok(name.clone());
        }
        let name =
            self.select.query_row([id], |row| Ok(row.get_ref(0)?.as_str()?.parse().ok())).optional()?;
        Ok(self.known.entry(id).or_insert(name.flatten()).clone())
    }
}

/// The names that attempts refer to.
struct Names<'a> {
    crash: NameTable<'a, String>,
    host: NameTable<'a, HostName>,
    kernel: NameTable<'a, KernelId>,
    image: NameTable<'a, String>,
}

impl<'a> Names<'a> {
    fn new(connection: &'a Connection) -> Result<Self> {
        Ok(Self {
            crash: NameTable::new(connection, "SELECT title FROM crash WHERE id = ?1")?,
            host: NameTable::new(connection, "SELECT name FROM host WHERE id = ?1")?,
            kernel: NameTable::new(connection, "SELECT name FROM kernel WHERE id = ?1")?,
            image: NameTable::new(connection, "SELECT name FROM image WHERE id = ?1")?,
        })
    }
}

/// Whether the attempt gives the verdict, and the attempt.
fn attempt(row: &Row<'_>, names: &mut Names<'_>) -> Result<(bool, Attempt)> {
    let attempt = Attempt {
        number: row.get(0)?,
        status: status(row, 2)?,
        started: row.get(3)?,
        duration: duration(row, 4)?,
        reason: row.get(5)?,
        crash: names.crash.get(row.get(6)?)?,
        host: names.host.get(row.get(7)?)?,
        slot: row.get(8)?,
        kernel: names.kernel.get(row.get(9)?)?,
        image_hash: names.image.get(row.get(10)?)?,
        log_bytes: number(row, 11)?,
        full_log_bytes: number(row, 12)?,
    };
    Ok((row.get(1)?, attempt))
}

fn add(entry: &mut Option<TestEntry>, key: &ResultKey, decisive: bool, attempt: Attempt) {
    match entry {
        None => *entry = Some(TestEntry { key: key.clone(), decisive: attempt, others: Vec::new() }),
        Some(entry) if decisive => {
            let other = std::mem::replace(&mut entry.decisive, attempt);
            entry.others.push(other);
        }
        Some(entry) => entry.others.push(attempt),
    }
}

fn test_id(connection: &Connection, key: &ResultKey) -> Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT id FROM test WHERE key = ?1")?;
    select.query_row([key.as_str()], |row| row.get(0)).optional()
}

fn branch_id(connection: &Connection, at: &BranchRef) -> Result<Option<i64>> {
    let names = [at.user.as_str(), at.branch.as_str()];
    connection.prepare_cached(BRANCH)?.query_row(names, |row| row.get(0)).optional()
}

/// One test at a commit, by the id of the commit.
pub type StoredHistory = Vec<(Box<str>, Option<TestEntry>)>;

/// One test at the commits of a branch that have results here, newest first. `None` if the branch is not in the
/// database.
pub fn history(connection: &Connection, at: &BranchRef, key: &ResultKey) -> Result<Option<StoredHistory>> {
    let Some(branch) = branch_id(connection, at)? else { return Ok(None) };
    let (mut history, mut rows_of) = (Vec::new(), HashMap::new());
    let mut select = connection.prepare_cached(COMMITS)?;
    let mut rows = select.query([branch])?;
    while let Some(row) = rows.next()? {
        rows_of.insert(row.get::<_, i64>(0)?, history.len());
        history.push((row.get_ref(1)?.as_str()?.into(), None));
    }
    if let Some(test) = test_id(connection, key)? {
        let mut names = Names::new(connection)?;
        let mut select = connection.prepare_cached(HISTORY)?;
        let mut rows = select.query([test])?;
        while let Some(row) = rows.next()? {
            if let Some(at) = rows_of.get(&row.get(13)?) {
                let (decisive, attempt) = attempt(row, &mut names)?;
                add(&mut history[*at].1, key, decisive, attempt);
            }
        }
    }
    Ok(Some(history))
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
        add(&mut entry, key, decisive, attempt);
    }
    Ok(Some(entry))
}

/// The attempts that crashed at the commits of a branch, newest commit first; `None` if the branch is not in the
/// database.
pub fn crashes(connection: &Connection, at: &BranchRef) -> Result<Option<Vec<CrashEntry>>> {
    let Some(branch) = branch_id(connection, at)? else { return Ok(None) };
    let mut select = connection.prepare_cached(CRASHES)?;
    let rows = select.query_map([branch], |row| {
        let (commit, key) = (row.get_ref(1)?.as_str()?.parse().ok(), row.get_ref(2)?.as_str()?.parse().ok());
        Ok(commit
            .zip(key)
            .map(|(commit, key)| (commit, key, row.get(0), row.get(3), row.get(5), row.get(6), row.get(7))))
    })?;
    let mut found = Vec::new();
    for row in rows {
        let Some((commit, key, attempt, title, decisive, started, host)) = row? else { continue };
        let host: Option<String> = host?;
        found.push(CrashEntry {
            commit,
            key,
            attempt: attempt?,
            title: title?,
            decisive: decisive?,
            started: started?,
            host: host.and_then(|host| host.parse().ok()),
        });
    }
    Ok(Some(found))
}
