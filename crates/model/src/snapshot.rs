//! The status snapshot `ci-daemon-status.json`: what the daemon is doing, rewritten every two seconds.
//!
//! `jobs`, `pending_by_group`, `fairshare` and `executors` are what existing clients read (formats.md); the rest is
//! ours. A reader takes every field as optional.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::branch::{BranchName, BranchRef, UserName};

/// The snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusSnapshot {
    /// When it was written, Unix seconds.
    pub written: i64,
    /// When the daemon started, Unix seconds.
    pub started: i64,
    /// The daemon's process id.
    pub pid: u32,
    /// The daemon's version.
    pub version: String,
    /// Jobs that are claimed or ended lately; pending ones are only counted.
    pub jobs: Vec<JobStatus>,
    /// How many jobs wait, by fair-share group (user).
    pub pending_by_group: BTreeMap<UserName, u64>,
    /// How many of them wait, by commit; commits without any are left out. Absent from older daemons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_by_commit: Option<BTreeMap<String, u64>>,
    /// Whether there is more to be done than what is counted here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_to_plan: bool,
    /// Decayed usage by fair-share group.
    pub fairshare: BTreeMap<UserName, FairShare>,
    /// The executors.
    pub executors: Vec<ExecutorStatus>,
    /// The branches and how the last fetch went.
    pub branches: Vec<BranchStatus>,
    /// What is wrong and needs an operator: broken configuration, unreadable results, a full disk. Empty is well.
    pub problems: Vec<String>,
}

impl StatusSnapshot {
    /// Whether results of this commit may be to come: some of its jobs wait or run, or not all work is planned yet.
    #[must_use]
    pub fn has_work_for(&self, commit: &str) -> bool {
        let waits = match &self.pending_by_commit {
            Some(pending) => pending.get(commit).is_some_and(|count| *count > 0),
            // An older daemon counts by user only.
            None => self.pending_by_group.values().any(|count| *count > 0),
        };
        let runs =
            |executor: &ExecutorStatus| executor.batch.as_ref().is_some_and(|batch| batch.commit == commit);
        waits || self.more_to_plan || self.executors.iter().any(runs)
    }
}

/// A job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobStatus {
    /// Its number in the Choir.
    pub id: u64,
    /// `<short commit> <result key>`.
    pub name: String,
    /// `running`, `done`, `failed` (infrastructure) or `cancelled`.
    pub status: String,
    /// Who runs it.
    pub executor: Option<String>,
    /// When it was claimed, Unix seconds.
    pub started: Option<i64>,
    /// The executor's log, relative to `output_dir`.
    pub log: Option<String>,
}

/// A fair-share group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FairShare {
    /// Its weight.
    pub weight: f64,
    /// Seconds of executor time used, decayed.
    pub usage: f64,
}

/// An executor: one slot of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecutorStatus {
    /// `<host>/<slot>`.
    pub name: String,
    /// Its host.
    pub host: String,
    /// `idle`, `busy`, `backing off` or `quarantined`.
    pub state: String,
    /// What it runs.
    pub batch: Option<BatchStatus>,
    /// Why it is not well, and since when, where it is not.
    pub problem: Option<String>,
}

/// A batch in an executor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchStatus {
    /// The commit.
    pub commit: String,
    /// The test file.
    pub test: String,
    /// How many subtests it holds, and how many have their verdict.
    pub subtests: u32,
    /// See `subtests`.
    pub done: u32,
    /// The subtest that runs now.
    pub current: Option<String>,
    /// `building`, `booting` or `testing`.
    pub phase: String,
    /// When it was claimed, Unix seconds.
    pub started: i64,
}

/// A watched branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BranchStatus {
    /// The owner.
    pub user: UserName,
    /// The branch of that user.
    pub branch: BranchName,
    /// Its tip when it was last fetched.
    #[serde(default)]
    pub tip: Option<String>,
    /// When it was last fetched with success, Unix seconds.
    #[serde(default)]
    pub fetched: Option<i64>,
    /// Why the last fetch failed.
    #[serde(default)]
    pub error: Option<String>,
}

impl BranchStatus {
    /// A branch that was not fetched yet.
    #[must_use]
    pub fn new(name: &BranchRef) -> Self {
        let BranchRef { user, branch } = name.clone();
        Self { user, branch, tip: None, fetched: None, error: None }
    }
}
