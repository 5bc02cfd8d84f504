//! Commits with the same patch, on other bases.

use model::{BranchRef, CommitId, Counts};
use rusqlite::{Connection, Result, params};

use super::{Batch, query};

/// The commits with results, the patch of another commit and another source tree, the newest first.
const SAME: &str = "SELECT c.sha, c.passed, c.failed, c.not_run, c.failed_to_run, c.unknown, c.duration_ms, c.flaky FROM commit_ h CROSS JOIN patch p ON p.commit_ = h.id AND p.name <> '' \
    CROSS JOIN patch o ON o.name = p.name AND o.name <> '' AND o.commit_ <> h.id \
    CROSS JOIN commit_ c ON c.id = o.commit_ AND c.has_results = 1 AND (h.tree IS NULL OR c.tree IS NOT h.tree) \
    WHERE h.sha = ?1 ORDER BY c.id DESC LIMIT ?2";
/// The commits of a branch without a known patch, the newest first.
const UNKNOWN: &str = "SELECT c.sha FROM user u JOIN branch b ON b.user = u.id AND b.name = ?2 \
    CROSS JOIN branch_commit l ON l.branch = b.id CROSS JOIN commit_ c ON c.id = l.commit_ \
    WHERE u.name = ?1 AND NOT EXISTS (SELECT 1 FROM patch WHERE commit_ = c.id) ORDER BY l.position DESC LIMIT ?3";

/// At most `most` other commits with results and the patch of this commit, the newest first, with the counts of their tests.
pub fn same(connection: &Connection, commit: &CommitId, most: usize) -> Result<Vec<(CommitId, Counts)>> {
    let mut select = connection.prepare_cached(SAME)?;
    let found = select.query_map(params![commit.as_str(), limit(most)], |row| {
        Ok((row.get::<_, String>(0)?, query::summary(row, 1)?.counts))
    })?;
    found.filter_map(|row| row.map(|(sha, counts)| Some((sha.parse().ok()?, counts))).transpose()).collect()
}

/// At most `most` commits of a branch without a known patch, the newest first.
pub fn unknown(connection: &Connection, branch: &BranchRef, most: usize) -> Result<Vec<CommitId>> {
    let mut select = connection.prepare_cached(UNKNOWN)?;
    let values = params![branch.user.as_str(), branch.branch.as_str(), limit(most)];
    let found = select.query_map(values, |row| row.get::<_, String>(0))?;
    found.filter_map(|sha| sha.map(|sha| sha.parse().ok()).transpose()).collect()
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

impl Batch<'_> {
    /// Records the patch of a commit.
    pub(super) fn patch(&mut self, commit: &CommitId, patch: Option<&str>) -> Result<()> {
        let id = self.commit(commit)?;
        self.run("INSERT OR REPLACE INTO patch VALUES (?1, ?2)", params![id, patch.unwrap_or("")]).map(drop)
    }
}
