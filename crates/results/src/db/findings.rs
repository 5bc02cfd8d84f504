//! Findings, and who was sent them.

use model::{BranchRef, CommitId, Finding, FindingRate};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::Batch;
use crate::findings::{FindingQuery, Mark, MarkKind, RecordedFinding, SenderState};
use crate::types::one_line;

const COLUMNS: &str = "SELECT n, id, at, kind, branch, sha, signature, first_bad, last_good, failed, runs, tests_total, tests FROM finding";

/// The findings of a query.
pub fn read(connection: &Connection, query: &FindingQuery<'_>) -> Result<Vec<RecordedFinding>> {
    let branch = query.branch.map(BranchRef::to_string);
    let order = if query.oldest_first { "ASC" } else { "DESC" };
    let of_branch = if branch.is_some() { "branch = ?1" } else { "?1 IS NULL" };
    let sql = format!("{COLUMNS} WHERE {of_branch} AND n > ?2 AND n < ?3 ORDER BY n {order} LIMIT ?4");
    let most = i64::try_from(query.most).unwrap_or(i64::MAX);
    let values = params![branch, query.after, query.before.unwrap_or(i64::MAX), most];
    all(connection, &sql, values)
}

/// The findings at a commit, oldest first.
pub fn at(connection: &Connection, commit: &CommitId) -> Result<Vec<RecordedFinding>> {
    all(connection, &format!("{COLUMNS} WHERE sha = ?1 ORDER BY n"), params![commit.as_str()])
}

/// The finding with this id, or with the only id that begins so.
pub fn find(connection: &Connection, id: &str) -> Result<Option<RecordedFinding>> {
    let sql = format!("{COLUMNS} WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2");
    let mut found = all(connection, &sql, params![id])?;
    Ok(if found.len() == 1 || found.first().is_some_and(|first| first.finding.id == id) {
        found.drain(..).next()
    } else {
        None
    })
}

fn all(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<Vec<RecordedFinding>> {
    let mut select = connection.prepare_cached(sql)?;
    let rows = select.query_map(values, |row| Ok((row.get(0)?, finding(row)?)))?;
    let mut found = Vec::new();
    for row in rows {
        // One of a later version is left out.
        let (n, Some(finding)) = row? else { continue };
        let marks = marks(connection, &finding.id)?;
        found.push(RecordedFinding { n, finding, marks });
    }
    Ok(found)
}

fn finding(row: &Row<'_>) -> Result<Option<Finding>> {
    let text = |at: usize| row.get::<_, Option<String>>(at);
    let commit = |at: usize| Ok::<_, rusqlite::Error>(text(at)?.and_then(|sha| sha.parse::<CommitId>().ok()));
    let Ok(kind) = row.get::<_, String>(3)?.parse() else { return Ok(None) };
    let rate = match (row.get(9)?, row.get(10)?) {
        (Some(failed), Some(runs)) => Some(FindingRate { failed, runs }),
        _ => None,
    };
    Ok(Some(Finding {
        id: row.get(1)?,
        kind,
        branch: text(4)?.and_then(|branch| branch.parse().ok()),
        commit: commit(5)?,
        tests: serde_json::from_str(&row.get::<_, String>(12)?).unwrap_or_default(),
        tests_total: row.get(11)?,
        signature: row.get(6)?,
        first_bad: commit(7)?,
        last_good: commit(8)?,
        rate,
        at: row.get(2)?,
    }))
}

fn marks(connection: &Connection, id: &str) -> Result<Vec<Mark>> {
    let mut select = connection.prepare_cached(
        "SELECT what, value, at, account FROM finding_mark WHERE finding = ?1 ORDER BY at, what",
    )?;
    let rows = select.query_map([id], |row| {
        let what = MarkKind::parse(&row.get::<_, String>(0)?, row.get(1)?);
        Ok((what, row.get(2)?, row.get(3)?))
    })?;
    let mark = |(what, at, account): (Option<MarkKind>, i64, String)| Some(Mark { what: what?, at, account });
    rows.filter_map(|row| row.map(mark).transpose()).collect()
}

/// What is known of a branch.
pub fn state(connection: &Connection, branch: &str) -> Result<Option<String>> {
    let mut select = connection.prepare_cached("SELECT known FROM finding_state WHERE branch = ?1")?;
    select.query_row([branch], |row| row.get(0)).optional()
}

/// The senders.
pub fn senders(connection: &Connection) -> Result<Vec<SenderState>> {
    let mut select =
        connection.prepare_cached("SELECT name, handled, at, error FROM sender ORDER BY name")?;
    let rows = select.query_map([], |row| {
        Ok(SenderState { name: row.get(0)?, handled: row.get(1)?, at: row.get(2)?, error: row.get(3)? })
    })?;
    rows.collect()
}

/// The number of the newest finding, 0 without one.
pub fn newest(connection: &Connection) -> Result<i64> {
    connection.prepare_cached("SELECT coalesce(max(n), 0) FROM finding")?.query_row([], |row| row.get(0))
}

/// The number of findings that a sender sent since a time.
pub fn sent_since(connection: &Connection, sender: &str, since: i64) -> Result<u32> {
    let mut select = connection.prepare_cached("SELECT count(*) FROM sent WHERE sender = ?1 AND at >= ?2")?;
    select.query_row(params![sender, since], |row| row.get(0))
}

/// Whether a sender sent a finding.
pub fn was_sent(connection: &Connection, sender: &str, n: i64) -> Result<bool> {
    let mut select = connection.prepare_cached("SELECT 1 FROM sent WHERE sender = ?1 AND finding = ?2")?;
    select.exists(params![sender, n])
}

impl Batch<'_> {
    /// Records findings that are new, and what is known of their branch from now on.
    pub(super) fn findings(&mut self, branch: &str, findings: &[Finding], known: &str) -> Result<()> {
        for finding in findings {
            self.finding(finding)?;
        }
        self.run("INSERT OR REPLACE INTO finding_state VALUES (?1, ?2)", params![branch, known]).map(drop)
    }

    fn finding(&mut self, finding: &Finding) -> Result<()> {
        let tests = serde_json::to_string(&finding.tests).unwrap_or_else(|_| "[]".into());
        self.run(
            "INSERT OR IGNORE INTO finding (id, at, kind, branch, sha, signature, first_bad, last_good, failed, runs, tests_total, tests) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                finding.id,
                finding.at,
                finding.kind.name(),
                finding.branch.as_ref().map(BranchRef::to_string),
                finding.commit.as_ref().map(CommitId::as_str),
                one_line(&finding.signature).unwrap_or_default(),
                finding.first_bad.as_ref().map(CommitId::as_str),
                finding.last_good.as_ref().map(CommitId::as_str),
                finding.rate.map(|rate| rate.failed),
                finding.rate.map(|rate| rate.runs),
                finding.tests_total,
                tests,
            ],
        )
        .map(drop)
    }

    /// Records how far a sender is, and the finding that it sent.
    pub(super) fn sender(&mut self, state: &SenderState, sent: Option<i64>) -> Result<()> {
        let SenderState { name, handled, at, error } = state;
        let error = error.as_deref().and_then(one_line);
        self.run("INSERT OR REPLACE INTO sender VALUES (?1, ?2, ?3, ?4)", params![name, handled, at, error])?;
        if let Some(n) = sent {
            self.run("INSERT OR REPLACE INTO sent VALUES (?1, ?2, ?3)", params![name, n, at])?;
        }
        Ok(())
    }

    /// Removes the state of a sender. What it sent stays.
    pub(super) fn sender_removed(&mut self, name: &str) -> Result<()> {
        self.run("DELETE FROM sender WHERE name = ?1", [name]).map(drop)
    }

    /// Records what somebody said of a finding.
    pub(super) fn mark_finding(&mut self, finding: &str, mark: &Mark) -> Result<()> {
        let value = mark.what.value();
        let value = value.as_deref().and_then(one_line);
        self.run(
            "INSERT OR REPLACE INTO finding_mark VALUES (?1, ?2, ?3, ?4, ?5)",
            params![finding, mark.at, mark.what.word(), value, one_line(&mark.account).unwrap_or_default()],
        )
        .map(drop)
    }
}
