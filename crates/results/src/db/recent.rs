//! The durations of the newest runs of every test.

use std::collections::{HashMap, HashSet};

use model::{HostName, ResultKey, Status};
use rusqlite::{Connection, Result};

use super::attempt::{NameTable, parse};
use super::query::duration;
use crate::types::RecentRun;

const NOT_COPIED: &str = "SELECT id FROM commit_ INDEXED BY commit_not_in_history \
    WHERE has_results = 1 AND in_history < 2 ORDER BY id DESC";
const OF_COMMIT: &str = "SELECT test, host, duration_ms FROM attempt WHERE commit_ = ?1 AND status IN (?2, ?3) AND ran_at IS NULL \
    ORDER BY test, n DESC";
const OF_TEST: &str = "SELECT commit_, host, duration_ms FROM history WHERE test = ?1 AND status IN (?2, ?3) AND ran_at IS NULL \
    ORDER BY commit_ DESC, n DESC LIMIT ?4";

/// Calls `each` for every test that passed or failed, with its newest runs, newest commit first, at most `most`. Commits are
/// in the order in which they were first seen.
pub fn recent_runs(
    connection: &Connection,
    most: usize,
    each: &mut dyn FnMut(ResultKey, &[RecentRun]),
) -> Result<()> {
    let (passed, failed) = (Status::Passed as i64, Status::Failed as i64);
    let mut hosts: NameTable<'_, HostName> =
        NameTable::new(connection, "SELECT name FROM host WHERE id = ?1", parse)?;
    // The rows that are not yet in the order of tests.
    let ids =
        connection.prepare(NOT_COPIED)?.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>>>()?;
    let mut newest: HashMap<i64, Vec<RecentRun>> = HashMap::new();
    let mut select = connection.prepare(OF_COMMIT)?;
    for id in &ids {
        let mut rows = select.query([*id, passed, failed])?;
        while let Some(row) = rows.next()? {
            let runs = newest.entry(row.get(0)?).or_default();
            if runs.len() < most {
                runs.push(RecentRun { host: hosts.get(row.get(1)?)?, duration: duration(row, 2)? });
            }
        }
    }
    let not_copied: HashSet<i64> = ids.into_iter().collect();
    let mut tests = connection.prepare("SELECT id, key FROM test WHERE runs > 0")?;
    let mut tests = tests.query([])?;
    let mut select = connection.prepare(OF_TEST)?;
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    while let Some(test) = tests.next()? {
        let id: i64 = test.get(0)?;
        let Some(key) = parse(test.get_ref(1)?.as_str()?) else { continue };
        let mut runs = newest.remove(&id).unwrap_or_default();
        if runs.len() < most {
            let mut rows = select.query([id, passed, failed, limit])?;
            while let Some(row) = rows.next()?
                && runs.len() < most
            {
                if !not_copied.contains(&row.get(0)?) {
                    runs.push(RecentRun { host: hosts.get(row.get(1)?)?, duration: duration(row, 2)? });
                }
            }
        }
        each(key, &runs);
    }
    Ok(())
}
