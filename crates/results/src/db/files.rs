//! The files of runs: which stream of which pack each of them is.

use std::time::Duration;

use model::{CommitId, ResultKey};
use rusqlite::{Connection, Result, Row, params};

use super::batch::{Batch, integer};
use crate::packs::{Region, StoredFile};
use crate::types::end_of_run;

const FILES: &str = "SELECT f.n, a.decisive, f.name, f.pack, f.offset, f.length, f.plain_bytes, a.started, a.duration_ms \
     FROM file f LEFT JOIN attempt a ON a.commit_ = f.commit_ AND a.test = f.test AND a.n = f.n \
     WHERE f.commit_ = (SELECT id FROM commit_ WHERE sha = ?1) AND f.test = (SELECT id FROM test WHERE key = ?2)";

/// The files of a test at a commit, of all its attempts.
pub fn files_of(connection: &Connection, commit: &CommitId, key: &ResultKey) -> Result<Vec<StoredFile>> {
    let mut select = connection.prepare_cached(FILES)?;
    let rows = select.query_map([commit.as_str(), key.as_str()], stored)?;
    // The names become names of files.
    rows.filter(|row| row.as_ref().map_or(true, |file| is_plain(&file.name))).collect()
}

/// The files with this name of the tests of a commit, of no particular attempt, by the key of the test.
pub fn files_named(
    connection: &Connection,
    commit: &CommitId,
    name: &str,
) -> Result<Vec<(String, StoredFile)>> {
    let mut select = connection.prepare_cached(
        "SELECT f.n, NULL, f.name, f.pack, f.offset, f.length, f.plain_bytes, NULL, NULL, t.key \
         FROM file f JOIN test t ON t.id = f.test \
         WHERE f.commit_ = (SELECT id FROM commit_ WHERE sha = ?1) AND f.n = 0 AND f.name = ?2",
    )?;
    let rows = select.query_map([commit.as_str(), name], |row| Ok((row.get(9)?, stored(row)?)))?;
    rows.filter(|row| row.as_ref().map_or(true, |(_, file)| is_plain(&file.name))).collect()
}

fn is_plain(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
}

fn stored(row: &Row<'_>) -> Result<StoredFile> {
    // Numbers that nothing can be at are refused when the pack is read.
    let number = |at| row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or(u64::MAX));
    let millis = u64::try_from(row.get::<_, Option<i64>>(8)?.unwrap_or(0)).unwrap_or(u64::MAX);
    Ok(StoredFile {
        attempt: row.get(0)?,
        decisive: row.get::<_, Option<bool>>(1)?.unwrap_or(false),
        name: row.get(2)?,
        region: Region { pack: row.get(3)?, offset: number(4)?, length: number(5)? },
        plain_bytes: number(6)?,
        ended: end_of_run(row.get(7)?, Duration::from_millis(millis)),
    })
}

impl Batch<'_> {
    /// Adds a file of an attempt, or of a test if `attempt` is 0; replaces the one that was there.
    pub fn file(
        &mut self,
        commit: &CommitId,
        key: &ResultKey,
        attempt: u32,
        name: &str,
        region: Region,
        plain_bytes: u64,
    ) -> Result<()> {
        let (commit, test) = (self.commit(commit)?, self.test(key)?);
        let Region { pack, offset, length } = region;
        self.run(
            "INSERT OR REPLACE INTO file (commit_, test, n, name, pack, offset, length, plain_bytes) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                commit,
                test,
                attempt,
                name,
                pack,
                integer(offset),
                integer(length),
                integer(plain_bytes)
            ],
        )?;
        self.mark(commit)
    }
}
