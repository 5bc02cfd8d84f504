//! The attempts of the tests of a branch that failed and passed at one of its newest commits.

use model::{BranchRef, ResultKey};
use rusqlite::{Connection, Result, params};

use super::attempt::{COLUMNS, NameTable, Names, attempt, columns, parse};
use super::batch::integer;
use super::history::branch_id;
use crate::flaky::AtCommit;
use crate::types::TestEntry;

/// Few attempts are not decisive; the index has only these.
const ATTEMPTS: &str = concat!(
    "WITH newest AS MATERIALIZED (SELECT l.commit_ AS id, l.position FROM branch_commit l \
     CROSS JOIN commit_ c ON c.id = l.commit_ WHERE l.branch = ?1 AND c.has_results = 1 \
     ORDER BY l.position DESC LIMIT ?2), \
     both AS MATERIALIZED (SELECT DISTINCT o.test FROM newest CROSS JOIN attempt o INDEXED BY other_attempt \
     ON o.commit_ = newest.id AND o.decisive = 0 WHERE o.status IN (1, 2) AND EXISTS (SELECT 1 FROM attempt b \
     WHERE b.commit_ = o.commit_ AND b.test = o.test AND b.status = 3 - o.status)) SELECT ",
    columns!(),
    ", a.commit_, a.test FROM newest CROSS JOIN both CROSS JOIN attempt a ON a.commit_ = newest.id AND a.test = both.test \
     ORDER BY newest.position DESC, a.test, a.n"
);

/// These tests at the newest commits with results, newest commit first; `None` if the branch is not in the database.
pub fn attempts(connection: &Connection, at: &BranchRef) -> Result<Option<Vec<(ResultKey, AtCommit)>>> {
    let Some((branch, _)) = branch_id(connection, at)? else { return Ok(None) };
    let mut commits = NameTable::new(connection, "SELECT sha FROM commit_ WHERE id = ?1", parse)?;
    let mut tests = NameTable::new(connection, "SELECT key FROM test WHERE id = ?1", parse::<ResultKey>)?;
    let mut names = Names::new(connection)?;
    let mut select = connection.prepare_cached(ATTEMPTS)?;
    let mut rows = select.query(params![branch, integer(belief::COMMITS as u64)])?;
    let mut found: Vec<(ResultKey, AtCommit)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (decisive, attempt) = attempt(row, &mut names)?;
        // Names that are not valid are left out.
        let (Some(commit), Some(key)) = (commits.get(row.get(COLUMNS)?)?, tests.get(row.get(COLUMNS + 1)?)?)
        else {
            continue;
        };
        match found.last_mut().filter(|(of, (at, _))| *of == key && *at == commit) {
            Some((_, (_, entry))) => entry.add(decisive, attempt),
            None => {
                let entry = TestEntry { key: key.clone(), decisive: attempt, others: Vec::new() };
                found.push((key, (commit, entry)));
            }
        }
    }
    Ok(Some(found))
}
