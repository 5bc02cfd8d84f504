//! Which commits have a directory per test, and who wrote it.

use model::{CommitId, ResultKey};
use rusqlite::{Connection, OptionalExtension, Result as SqlResult, params};

use super::Database;
use super::batch::Batch;
use crate::error::Result;

/// The directory of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeState {
    /// Of an earlier version or of the ktest system: never removed.
    Kept,
    /// Derived from the database, and not complete.
    Writing,
    /// Derived from the database, and complete.
    Written,
}

impl TreeState {
    const ALL: [Self; 3] = [Self::Kept, Self::Writing, Self::Written];

    fn of_code(code: i64) -> Self {
        let known = usize::try_from(code).ok().and_then(|code| Self::ALL.get(code));
        // What is unknown is not removed.
        known.copied().unwrap_or(Self::Kept)
    }
}

impl Database {
    /// The directories.
    pub fn trees(&self) -> Result<Vec<(CommitId, TreeState)>> {
        let sql = "SELECT c.sha, d.state FROM directory d JOIN commit_ c ON c.id = d.commit_";
        let rows = self.connection.prepare(sql).and_then(|mut select| {
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<SqlResult<Vec<(String, i64)>>>()
        });
        rows.map_err(self.error())?
            .iter()
            .map(|(sha, code)| Ok((self.parse(sha)?, TreeState::of_code(*code))))
            .collect()
    }

    /// The directory of a commit.
    pub fn tree(&self, commit: &CommitId) -> Result<Option<TreeState>> {
        let sql = "SELECT state FROM directory WHERE commit_ = (SELECT id FROM commit_ WHERE sha = ?1)";
        self.connection
            .prepare_cached(sql)
            .and_then(|mut select| select.query_row([commit.as_str()], |row| row.get(0)).optional())
            .map(|code: Option<i64>| code.map(TreeState::of_code))
            .map_err(self.error())
    }

    /// Whether a commit has results.
    pub fn has_results(&self, commit: &CommitId) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM commit_ WHERE sha = ?1 AND has_results = 1)";
        self.connection
            .prepare_cached(sql)
            .and_then(|mut select| select.query_row([commit.as_str()], |row| row.get(0)))
            .map_err(self.error())
    }
}

impl Batch<'_> {
    /// Sets the state of the directory of a commit; `None`: it has none.
    pub fn tree(&mut self, commit: &CommitId, state: Option<TreeState>) -> SqlResult<()> {
        let id = self.commit(commit)?;
        match state {
            Some(state) => {
                self.run("INSERT OR REPLACE INTO directory VALUES (?1, ?2)", params![id, state as i64])
            }
            None => self.run("DELETE FROM directory WHERE commit_ = ?1", [id]),
        }
        .map(drop)
    }
}

/// The tests that ran at a commit.
pub fn tests_of(connection: &Connection, commit: &CommitId) -> SqlResult<Vec<ResultKey>> {
    let sql = "SELECT DISTINCT t.key FROM attempt a JOIN test t ON t.id = a.test \
               WHERE a.commit_ = (SELECT id FROM commit_ WHERE sha = ?1)";
    let mut select = connection.prepare_cached(sql)?;
    let keys = select.query_map([commit.as_str()], |row| row.get::<_, String>(0))?;
    // A key that is none names no file.
    keys.filter_map(|key| key.map(|key| key.parse().ok()).transpose()).collect()
}
