//! The number of verdicts of a commit by status, host and kernel, so that a reader need not count them.

use std::collections::HashMap;

use model::{CommitId, HostName, KernelId, Status};
use rusqlite::{Result, params};

use super::batch::{Batch, code};
use crate::types::{Attempt, TestEntry};

/// What the verdicts are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Facet {
    status: Status,
    host: Option<HostName>,
    kernel: Option<KernelId>,
}

impl From<&Attempt> for Facet {
    fn from(attempt: &Attempt) -> Self {
        Self { status: attempt.status, host: attempt.host.clone(), kernel: attempt.kernel.clone() }
    }
}

/// The changes of the counts in one transaction.
#[derive(Debug, Default)]
pub struct Facets<'a> {
    changes: HashMap<&'a CommitId, HashMap<Facet, i64>>,
}

impl<'a> Facets<'a> {
    /// Notes that the entry of a test changed.
    pub fn change(&mut self, commit: &'a CommitId, old: Option<&TestEntry>, new: Option<&TestEntry>) {
        for (entry, change) in [(old, -1), (new, 1)] {
            // Others are no verdicts, and running tests are not in the database.
            if let Some(entry) = entry.filter(|entry| entry.decisive.status.is_final()) {
                let of = self.changes.entry(commit).or_default();
                *of.entry(Facet::from(&entry.decisive)).or_default() += change;
            }
        }
    }
}

impl Batch<'_> {
    /// Changes the counts.
    pub fn facets(&mut self, facets: &Facets<'_>) -> Result<()> {
        for (commit, changes) in &facets.changes {
            let commit = self.commit(commit)?;
            for (Facet { status, host, kernel }, change) in changes.iter().filter(|(_, change)| **change != 0)
            {
                let host = self.host(host.as_ref())?.unwrap_or(0);
                let kernel = self.kernel(kernel.as_ref())?.unwrap_or(0);
                self.run(
                    "INSERT INTO facet VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET tests = tests + ?5",
                    params![commit, code(*status), host, kernel, change],
                )?;
            }
            if changes.values().any(|change| *change < 0) {
                self.run("DELETE FROM facet WHERE commit_ = ?1 AND tests <= 0", [commit])?;
            }
        }
        Ok(())
    }

    /// Counts the verdicts of a commit.
    pub fn count_facets(&mut self, commit: &CommitId) -> Result<()> {
        let commit = self.commit(commit)?;
        self.run("DELETE FROM facet WHERE commit_ = ?1", [commit])?;
        self.run(
            "INSERT INTO facet SELECT commit_, status, coalesce(host, 0), coalesce(kernel, 0), count(*) FROM attempt \
             WHERE commit_ = ?1 AND decisive = 1 AND status BETWEEN 1 AND 4 GROUP BY 1, 2, 3, 4",
            [commit],
        )
        .map(drop)
    }
}
