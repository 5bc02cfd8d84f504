//! The number of crashes of a branch by title and commit, so that a reader need not count them.

use rusqlite::Result;

use super::batch::Batch;

/// Counts those of the commits of branch ?1 from position ?2 on.
const COUNT_BRANCH: &str = "INSERT OR REPLACE INTO branch_crash SELECT l.branch, a.crash, l.position, count(*) \
    FROM branch_commit l CROSS JOIN attempt a INDEXED BY crash_by_commit ON a.commit_ = l.commit_ AND a.crash IS NOT NULL \
    WHERE l.branch = ?1 AND l.position >= ?2 GROUP BY a.crash, l.position";
/// Counts those of one title at a commit, on all branches.
const COUNT_COMMIT: &str = "INSERT OR REPLACE INTO branch_crash SELECT l.branch, ?2, l.position, \
    (SELECT count(*) FROM attempt INDEXED BY crash_by_commit WHERE commit_ = ?1 AND crash = ?2) \
    FROM branch_commit l WHERE l.commit_ = ?1";

impl Batch<'_> {
    /// Counts the crashes of the attempts that this transaction added.
    pub(super) fn count_crashes(&mut self) -> Result<()> {
        for (commit, crash) in std::mem::take(&mut self.crashed) {
            self.run(COUNT_COMMIT, [commit, crash])?;
        }
        Ok(())
    }

    /// Counts the crashes at the commits of a listing from this position on.
    pub(super) fn count_crashes_from(&mut self, branch: i64, position: i64) -> Result<()> {
        self.run(COUNT_BRANCH, [branch, position]).map(drop)
    }

    /// Removes the crashes at the commits of a listing below this position.
    pub(super) fn drop_crashes_below(&mut self, branch: i64, position: i64) -> Result<()> {
        self.run("DELETE FROM branch_crash WHERE branch = ?1 AND position < ?2", [branch, position]).map(drop)
    }

    /// Removes the crashes at a commit, before its attempts are removed.
    pub(super) fn drop_crashes_of(&mut self, commit: i64) -> Result<()> {
        self.crashed.retain(|(of, _)| *of != commit);
        let sql = "DELETE FROM branch_crash AS c WHERE EXISTS (SELECT 1 FROM branch_commit l \
            WHERE l.commit_ = ?1 AND l.branch = c.branch AND l.position = c.position)";
        let is_listed = "SELECT 1 FROM branch_commit WHERE commit_ = ?1 LIMIT 1";
        if self.number(is_listed, [commit])?.is_some() {
            self.run(sql, [commit])?;
        }
        Ok(())
    }
}
