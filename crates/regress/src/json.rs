//! The JSON views of comparisons and crashes: both the dashboard's `&format=json` and `ci-status --json` print these.
//!
//! Views of the store alone are in `results::json`. An absent field means unknown.

use model::{BranchRef, BuiltKernel, CommitId, Counts, Status};
use results::json::{FailedKernelRow, FixRow, HistoryRow, ListedRow, SinceRow, SuspicionRow};
use results::{Authorship, BranchEntry, CommitResults, HistoryEntry, TestEntry};
use serde::{Deserialize, Serialize};

use crate::branch_history::{BranchHistory, TestId};
use crate::compare::{Change, ChangeKind, Comparison};
pub use crate::configurations_json::{ConfigurationRow, GridView, GridViewRow, MatrixView, MatrixViewRow};
use crate::crash_groups::CrashGroup;
use crate::first_bad::Stretch;
use crate::fix::fixes;

/// The view of the history of a test.
#[must_use]
pub fn history(newest_first: &[HistoryEntry]) -> Vec<HistoryRow> {
    let mut rows: Vec<HistoryRow> = newest_first.iter().map(HistoryRow::from).collect();
    for fix in fixes(newest_first) {
        rows[fix.row].fix.get_or_insert_with(|| FixRow::from(&fix.claim));
    }
    rows
}

/// What a commit of a branch broke and fixed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesRow {
    /// The commit.
    pub commit: CommitId,
    /// The tests that fail here and passed before, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broke: Vec<String>,
    /// The tests that pass here and failed before, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<String>,
}

/// The commits that broke or fixed tests.
#[must_use]
pub fn changes(newest_first: &[BranchEntry], history: &BranchHistory) -> Vec<ChangesRow> {
    let names = |tests: &[TestId]| tests.iter().map(|test| history.name(*test).to_owned()).collect();
    let row = |(row, entry): (usize, &BranchEntry)| {
        let delta = history.delta(row).filter(|delta| !delta.broke.is_empty() || !delta.fixed.is_empty())?;
        let (broke, fixed) = (names(&delta.broke), names(&delta.fixed));
        Some(ChangesRow { commit: entry.commit.clone(), broke, fixed })
    };
    newest_first.iter().enumerate().filter_map(row).collect()
}

/// Since when a test fails. Row 0 of the stretch and of `newest_first` is the commit of the view.
#[must_use]
pub fn since(name: &str, newest_first: &[BranchEntry], stretch: &Stretch) -> SinceRow {
    SinceRow {
        name: name.into(),
        first_bad: ListedRow::from(&newest_first[stretch.first_bad]),
        last_good: stretch.last_good.map(|good| ListedRow::from(&newest_first[good])),
        untested_between: stretch.untested_between(),
        commits: stretch.first_bad + 1,
    }
}

/// The view of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareView {
    /// The older side.
    pub base: SideView,
    /// The newer side.
    pub head: SideView,
    /// The number of tests that are alike and not in `changes`.
    pub alike: usize,
    /// The tests that differ or fail on both sides, ordered by kind, then by name.
    pub changes: Vec<ChangeRow>,
    /// Tests of the head with a good verdict that may no longer be meaningful, compared with the base.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspicious: Vec<SuspicionRow>,
}

impl CompareView {
    /// The view of a comparison of two sides.
    #[must_use]
    pub fn new(
        base: &ComparedCommit,
        head: &ComparedCommit,
        found: &Comparison<'_>,
        suspicious: Vec<SuspicionRow>,
    ) -> Self {
        Self {
            base: base.into(),
            head: head.into(),
            alike: found.alike,
            changes: found.changes.iter().map(ChangeRow::from).collect(),
            suspicious,
        }
    }
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideView {
    /// The full commit id.
    pub commit: String,
    /// The commit message.
    pub message: String,
    /// The owner of the branch, if the side was given as a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The branch, if the side was given as a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Its author and date.
    #[serde(flatten)]
    pub authorship: Authorship,
    /// The number of tests by status.
    #[serde(flatten)]
    pub counts: Counts,
}

impl From<&ComparedCommit> for SideView {
    fn from(side: &ComparedCommit) -> Self {
        Self {
            commit: side.results.commit.to_string(),
            message: side.results.message.clone(),
            user: side.at.as_ref().map(|at| at.user.to_string()),
            branch: side.at.as_ref().map(|at| at.branch.to_string()),
            authorship: side.authorship.clone(),
            counts: side.results.counts(),
        }
    }
}

/// One commit of a comparison with its results.
#[derive(Debug)]
pub struct ComparedCommit {
    /// The branch, if the commit was given as a branch.
    pub at: Option<BranchRef>,
    /// Its author and date.
    pub authorship: Authorship,
    /// The results.
    pub results: CommitResults,
}

/// A test that differs between the sides, or fails on both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRow {
    /// The result key.
    pub name: String,
    /// The kind of change.
    pub change: ChangeKind,
    /// The status in the base; absent if there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Status>,
    /// The status in the head; absent if there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Status>,
    /// The reason on the side that explains the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The crash title on that side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<String>,
    /// What the passes of the head prove, if the test failed in the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<FixRow>,
}

impl From<&Change<'_>> for ChangeRow {
    fn from(change: &Change<'_>) -> Self {
        let explanation = change.explanation();
        Self {
            name: change.name().to_owned(),
            change: change.kind,
            base: change.base.map(TestEntry::status),
            head: change.head.map(TestEntry::status),
            reason: explanation.and_then(|entry| entry.decisive.reason.clone()),
            crash: explanation.and_then(|entry| entry.decisive.crash.clone()),
            fix: change.fix().as_ref().map(FixRow::from),
        }
    }
}

/// The builds of the kernels of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildView {
    /// The full commit id.
    pub commit: String,
    /// Its message.
    pub message: String,
    /// The kernels with a known result, by architecture and flavor.
    pub kernels: Vec<KernelBuildRow>,
    /// The builds that are running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub running: Vec<RunningBuild>,
}

/// The build of a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelBuildRow {
    /// The architecture and the flavor; each is absent if the tests select none.
    #[serde(flatten)]
    pub kernel: BuiltKernel,
    /// Whether it builds.
    pub builds: bool,
    /// The failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailedKernelRow>,
    /// The host of the longest build. With the fields below it is absent if no build is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The slot of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// The start, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// The duration in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// A build that is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningBuild {
    /// The architecture and the flavor; each is absent if the tests select none.
    #[serde(flatten)]
    pub kernel: BuiltKernel,
    /// The executor.
    pub executor: String,
    /// The test file of the batch.
    pub test: String,
    /// When it began, in Unix seconds.
    pub started: i64,
    /// The number of objects built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u32>,
    /// The number of objects to build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_total: Option<u32>,
}

/// A crash on a branch. The view of the crashes is a list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRow {
    /// The crash title.
    pub crash: String,
    /// Whether it is the latest verdict of a test that still fails.
    pub lasting: bool,
    /// The number of verdicts with this crash.
    pub count: usize,
    /// The oldest commit with this crash.
    pub first: CrashCommit,
    /// The newest commit with this crash.
    pub last: CrashCommit,
    /// The tests that it hit.
    pub tests: Vec<String>,
    /// The hosts on which it occurred.
    pub hosts: Vec<String>,
}

/// A commit at which a crash occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashCommit {
    /// The full commit id.
    pub commit: String,
    /// The commit message.
    pub message: String,
    /// Its author and date.
    #[serde(flatten)]
    pub authorship: Authorship,
    /// The start time of the first or last test that crashed, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
}

impl CrashRow {
    /// The row for a group of crashes on a branch; `newest_first` is the commits of the branch.
    #[must_use]
    pub fn new(group: &CrashGroup, newest_first: &[BranchEntry]) -> Self {
        let commit = |row: usize, started: Option<i64>| {
            let BranchEntry { commit, message, authorship, .. } = &newest_first[row];
            let (message, authorship) = (message.clone(), authorship.clone());
            CrashCommit { commit: commit.to_string(), message, authorship, started }
        };
        Self {
            crash: group.title.clone(),
            lasting: group.still_occurs,
            count: group.hits,
            first: commit(group.first_row, group.times.map(|(first, _)| first)),
            last: commit(group.last_row, group.times.map(|(_, last)| last)),
            tests: group.tests.iter().cloned().collect(),
            hosts: group.hosts.iter().cloned().collect(),
        }
    }
}
