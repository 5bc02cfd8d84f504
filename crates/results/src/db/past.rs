//! The newest passes of a test before a point in time, at any commit.

use model::{CommitId, HostName, ResultKey, Status};
use rusqlite::{Connection, Result, params};

use super::attempt::{NameTable, parse};
use super::query::duration;
use crate::types::RecentRun;

const NOT_COPIED: &str = "SELECT a.host, a.duration_ms FROM commit_ c INDEXED BY commit_not_in_history \
    CROSS JOIN attempt a ON a.commit_ = c.id AND a.test = (SELECT id FROM test WHERE key = ?1) \
    WHERE c.has_results = 1 AND c.in_history < 2 AND c.sha != ?2 AND a.status = ?3 AND a.ran_at IS NULL AND a.started < ?4 \
    ORDER BY c.id DESC, a.n DESC LIMIT ?5";
const COPIED: &str = "SELECT a.host, a.duration_ms FROM history a CROSS JOIN commit_ c ON c.id = a.commit_ \
    WHERE a.test = (SELECT id FROM test WHERE key = ?1) AND c.in_history = 2 AND c.sha != ?2 AND a.status = ?3 \
    AND a.ran_at IS NULL AND a.started < ?4 ORDER BY a.commit_ DESC, a.n DESC LIMIT ?5";

/// The newest passes of a test that started before a time (Unix seconds) at other commits, at most `most`. Commits are in the order
/// in which they were first seen.
pub fn passes_before(
    connection: &Connection,
    key: &ResultKey,
    commit: &CommitId,
    before: i64,
    most: usize,
) -> Result<Vec<RecentRun>> {
    let mut hosts: NameTable<'_, HostName> =
        NameTable::new(connection, "SELECT name FROM host WHERE id = ?1", parse)?;
    let mut found = Vec::new();
    for query in [NOT_COPIED, COPIED] {
        let left = i64::try_from(most - found.len()).unwrap_or(i64::MAX);
        let mut select = connection.prepare_cached(query)?;
        let mut rows =
            select.query(params![key.as_str(), commit.as_str(), Status::Passed as i64, before, left])?;
        while let Some(row) = rows.next()? {
            found.push(RecentRun { host: hosts.get(row.get(0)?)?, duration: duration(row, 1)? });
        }
    }
    Ok(found)
}
