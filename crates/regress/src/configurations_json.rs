//! The JSON views of the matrix and the grid.

use model::{CommitId, Counts, Status};
use serde::{Deserialize, Serialize};

use crate::configurations::{Grid, Matrix};

/// The matrix of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixView {
    /// The commit.
    pub commit: CommitId,
    /// The columns.
    pub configurations: Vec<ConfigurationRow>,
    /// The test files, or the subtests of one; those with failures first.
    pub rows: Vec<MatrixViewRow>,
}

/// A test configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationRow {
    /// Its name: `aarch64, kasan`.
    pub name: String,
    /// Its text in result keys; empty for the default one.
    pub key: String,
    /// Its tests.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A row of a matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixViewRow {
    /// The test file, dotted, or the subtest.
    pub name: String,
    /// The counts in each configuration, in the order of the columns; `None` without tests.
    pub cells: Vec<Option<Counts>>,
}

impl MatrixView {
    /// The view.
    #[must_use]
    pub fn new(commit: &CommitId, found: &Matrix<'_>) -> Self {
        let column = |(configuration, counts): &(model::TestConfiguration<'_>, Counts)| ConfigurationRow {
            name: configuration.to_string(),
            key: configuration.as_str().into(),
            counts: *counts,
        };
        let cell = |counts: &Counts| (counts.total() > 0).then_some(*counts);
        let rows = found
            .rows
            .iter()
            .map(|row| MatrixViewRow { name: row.name.clone(), cells: row.cells.iter().map(cell).collect() });
        Self {
            commit: commit.clone(),
            configurations: found.configurations.iter().map(column).collect(),
            rows: rows.collect(),
        }
    }
}

/// A page of the grid of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridView {
    /// The columns: the newest commits with results, newest first.
    pub commits: Vec<CommitId>,
    /// The number of tests on all pages.
    pub total: usize,
    /// The tests of this page.
    pub tests: Vec<GridViewRow>,
}

/// A test of a grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridViewRow {
    /// Its result key.
    pub name: String,
    /// Its status at each commit; `None` without a result.
    pub statuses: Vec<Option<Status>>,
}

impl GridView {
    /// The view.
    pub fn new<'a>(commits: impl Iterator<Item = &'a CommitId>, found: &Grid, total: usize) -> Self {
        let rows = found.rows.iter();
        let tests = rows.map(|row| GridViewRow { name: row.name.clone(), statuses: row.statuses.clone() });
        Self { commits: commits.cloned().collect(), total, tests: tests.collect() }
    }
}
