//! The copy of attempts in the order of tests, which answers the history of a test.
//!
//! In this order, the verdicts of a commit are far from each other, so that each would write a page of its own. Verdicts
//! are therefore copied later: those of many commits together, some tests at a time. Verdicts of tests that were copied
//! already change the copy at once.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::attempt::{columns, names};
use super::query::number;
use super::{Batch, Database};
use crate::error::{Error, Result};

/// The number of rows that are copied in one transaction.
const SLICE: usize = 300;
/// The time that one transaction may take. Pages that are not in memory make it longer.
const SLICE_TIME: Duration = Duration::from_millis(4);
/// The number of commits that wait for a copy when copying begins. A query of a history looks them up one by one.
const COMMITS_MAX: u64 = 200;
/// Verdicts wait for the copy if this many times the rows wait with which copying begins.
const URGENT: u64 = 10;

/// The condition `in_history < 2` is that of the index.
const COPY: &str = concat!(
    "INSERT OR REPLACE INTO history (test, commit_, ",
    names!(),
    ") SELECT a.test, a.commit_, ",
    columns!(),
    " FROM commit_ c INDEXED BY commit_not_in_history CROSS JOIN attempt a ON a.commit_ = c.id AND a.test >= ?1 AND a.test < ?2 \
     WHERE c.has_results = 1 AND c.in_history < 2 AND c.in_history = 1 ORDER BY a.test, a.commit_, a.n"
);
/// The first test from ?1 on that has rows to copy.
const NEXT: &str = "SELECT min((SELECT test FROM attempt WHERE commit_ = c.id AND test >= ?1 ORDER BY test LIMIT 1)) \
    FROM commit_ c INDEXED BY commit_not_in_history WHERE c.has_results = 1 AND c.in_history < 2 AND c.in_history = 1";

/// The progress of the copy.
#[derive(Debug)]
pub struct Progress {
    /// The number of waiting rows at which copying begins.
    limit: u64,
    /// The number of rows since the last copy, and of their commits.
    rows: u64,
    commits: u64,
    /// The tests below this one are copied of the commits that are being copied.
    pub(super) next_test: i64,
    is_copying: bool,
    /// The number of tests of a slice: at first, and of the next one.
    width: (i64, i64),
}

impl Progress {
    /// Notes a row that waits.
    pub(super) fn row(&mut self) {
        self.rows += 1;
    }

    /// Notes a commit that has results now.
    pub(super) fn commit(&mut self) {
        self.commits += 1;
    }
}

impl Database {
    /// Reads the progress that the last writer made.
    pub(super) fn progress(connection: &Connection, limit: u64) -> rusqlite::Result<Progress> {
        let sql = "SELECT next_test, w.* FROM history_copy, \
            (SELECT coalesce(sum((passed + failed + not_run + failed_to_run + unknown) * (in_history = 0)), 0), \
            count(*) - coalesce(sum(in_history), 0), coalesce(sum(in_history), 0) \
            FROM commit_ INDEXED BY commit_not_in_history WHERE has_results = 1 AND in_history < 2) w";
        connection.query_row(sql, [], |row| {
            let (next_test, copying) = (row.get(0)?, row.get(3)?);
            let (rows, commits) = (number(row, 1)?, number(row, 2)?);
            Ok(Progress { limit, rows, commits, next_test, is_copying: copying > 0, width: width(copying) })
        })
    }

    /// Whether [`Self::copy_some`] has something to do.
    pub fn wants_copy(&self) -> bool {
        let Progress { limit, rows, commits, is_copying, .. } = self.progress;
        is_copying || rows >= limit || commits >= COMMITS_MAX
    }

    /// Whether verdicts have to wait for a copy.
    pub fn needs_copy(&self) -> bool {
        self.progress.rows >= self.progress.limit.saturating_mul(URGENT)
    }

    /// Copies some rows. They become durable with the next verdict: if they are lost, they are copied again.
    pub fn copy_some(&mut self) -> Result<()> {
        self.relax(true)?;
        let result = if self.progress.is_copying { self.copy_slice() } else { self.begin_copy() };
        self.relax(false)?;
        if result.is_err() {
            // What was copied is uncertain.
            self.progress = Self::progress(&self.connection, self.progress.limit).map_err(self.error())?;
        }
        result
    }

    /// One transaction that becomes durable with the next verdict.
    pub fn write_later<T>(
        &mut self,
        change: impl FnOnce(&mut Batch<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.relax(true)?;
        let result = self.write(change);
        self.relax(false)?;
        result
    }

    /// Whether the next transaction is not synced.
    fn relax(&mut self, is_relaxed: bool) -> Result<()> {
        let sql = if is_relaxed { "PRAGMA synchronous = NORMAL" } else { "PRAGMA synchronous = FULL" };
        self.connection.execute_batch(sql).map_err(Error::database("write", &self.path))?;
        self.is_relaxed = is_relaxed;
        Ok(())
    }

    /// Selects the commits to copy: all that are not copied.
    fn begin_copy(&mut self) -> Result<()> {
        let commits = self.write(|batch| {
            batch.run("UPDATE history_copy SET next_test = 0", [])?;
            batch.run("UPDATE commit_ SET in_history = 1 WHERE has_results = 1 AND in_history < 2 AND in_history = 0", [])
        })?;
        self.ids.commits.clear();
        let (limit, width) = (self.progress.limit, width(i64::try_from(commits).unwrap_or(i64::MAX)));
        self.progress = Progress { limit, rows: 0, commits: 0, next_test: 0, is_copying: true, width };
        Ok(())
    }

    /// Copies the rows of the next tests, or ends the copy after the last test.
    fn copy_slice(&mut self) -> Result<()> {
        let Progress { next_test, width: (first, width), .. } = self.progress;
        let begun = Instant::now();
        let copied = self.write(|batch| {
            let next = batch.connection.prepare_cached(NEXT)?.query_row([next_test], |row| row.get(0))?;
            let Some(test) = next else {
                batch.run("UPDATE commit_ SET in_history = 2 WHERE has_results = 1 AND in_history < 2 AND in_history = 1", [])?;
                return Ok(None);
            };
            let test: i64 = test;
            let next = test.saturating_add(width);
            let copied = batch.run(COPY, [test, next])?;
            batch.run("UPDATE history_copy SET next_test = ?1", [next])?;
            Ok(Some((copied, next)))
        })?;
        let Some((copied, next)) = copied else {
            self.ids.commits.clear();
            self.progress.is_copying = false;
            return Ok(());
        };
        self.progress.next_test = next;
        self.progress.width.1 = match begun.elapsed() {
            took if took > SLICE_TIME => (width / 2).max(1),
            _ if copied > SLICE => first.min(width),
            took if copied < SLICE / 2 && took < SLICE_TIME / 4 => {
                width.saturating_mul(2).min(first.saturating_mul(16))
            }
            _ => width,
        };
        Ok(())
    }
}

/// The number of tests of a slice: at first, and of the next one.
fn width(commits: i64) -> (i64, i64) {
    let width = (i64::try_from(SLICE).unwrap_or(1) / commits.max(1)).max(1);
    (width, 1)
}
