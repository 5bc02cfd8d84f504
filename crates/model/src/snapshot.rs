//! The status snapshot `ci-daemon-status.json`, which the daemon rewrites every two seconds.
//!
//! Existing clients read `jobs`, `pending_by_group`, `fairshare` and `executors` (docs/formats.md); their fields have the
//! names and types that these clients expect. Readers treat every field as optional.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::branch::{BranchName, BranchRef, UserName};
use crate::control::{Drained, Paused};
use crate::host_report::HostReport;
use crate::kernel_build::BuiltKernel;

/// The snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusSnapshot {
    /// The time at which it was written, in Unix seconds.
    pub written: i64,
    /// The start time of the daemon, in Unix seconds.
    pub started: i64,
    /// The daemon's process id.
    pub pid: u32,
    /// The daemon's version.
    pub version: String,
    /// Jobs that are claimed or ended recently; queued jobs are only counted.
    pub jobs: Vec<JobStatus>,
    /// The number of queued jobs by fair-share group (user).
    pub pending_by_group: BTreeMap<UserName, u64>,
    /// The number of queued jobs by commit; commits without queued jobs are left out. `None` if an old daemon wrote the
    /// snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_by_commit: Option<BTreeMap<String, u64>>,
    /// True if there are more jobs than these counts include.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_to_plan: bool,
    /// Seconds of executor time used, decayed, by fair-share group.
    #[serde(deserialize_with = "usage")]
    pub fairshare: BTreeMap<UserName, f64>,
    /// The weights of the fair-share groups.
    pub weights: BTreeMap<UserName, f64>,
    /// The executors.
    pub executors: Vec<ExecutorStatus>,
    /// What the hosts did recently.
    pub hosts: Vec<HostStatus>,
    /// The file systems of this machine that the daemon writes to.
    pub disks: Vec<DiskStatus>,
    /// The branches with the result of their last fetch.
    pub branches: Vec<BranchStatus>,
    /// The hosts and slots that take no new batches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drained: Vec<Drained>,
    /// The branches with tests that do not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paused: Vec<Paused>,
    /// Problems that need an operator: an invalid configuration, unreadable results, a full disk.
    pub problems: Vec<String>,
}

impl StatusSnapshot {
    /// True if more results of this commit may follow: some of its jobs are queued or running, or not all work is
    /// planned.
    #[must_use]
    pub fn has_work_for(&self, commit: &str) -> bool {
        self.has_jobs_of(commit) || self.more_to_plan
    }

    /// True if jobs of this commit are queued or running, such as the retries of its failures.
    #[must_use]
    pub fn has_jobs_of(&self, commit: &str) -> bool {
        // An old daemon counts by user only.
        let may_wait =
            self.pending_by_commit.is_none() && self.pending_by_group.values().any(|count| *count > 0);
        may_wait || self.is_active(commit)
    }

    /// The same, but false for jobs of which an old daemon does not say whether they are of this commit.
    #[must_use]
    pub fn is_active(&self, commit: &str) -> bool {
        let pending = self.pending_by_commit.as_ref().and_then(|pending| pending.get(commit));
        let runs =
            |executor: &ExecutorStatus| executor.batch.as_ref().is_some_and(|batch| batch.commit == commit);
        pending.is_some_and(|count| *count > 0) || self.executors.iter().any(runs)
    }
}

/// A job of the Choir.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobStatus {
    /// Its number in Choir.
    pub id: u64,
    /// `<short commit> <result key>`.
    pub name: String,
    /// `running`, `completed`, `failed` (infrastructure) or `cancelled`.
    pub status: String,
    /// Its fair-share group.
    pub group: Option<UserName>,
    /// The executor that runs it.
    pub executor: Option<String>,
    /// The time at which it was claimed, in Unix seconds.
    pub started: Option<i64>,
    /// The time since it was claimed, or until it ended if it has ended; in seconds, 0 if unknown.
    pub elapsed_secs: u64,
    /// The executor's log, relative to `output_dir`.
    #[serde(alias = "log")]
    pub log_path: Option<String>,
}

/// The usages in a snapshot. Old daemons wrote the weights in the same table.
fn usage<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<UserName, f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Share {
        Usage(f64),
        Old { usage: f64 },
    }
    let shares = BTreeMap::<UserName, Share>::deserialize(from)?;
    let usage = |share| match share {
        Share::Usage(usage) | Share::Old { usage } => usage,
    };
    Ok(shares.into_iter().map(|(user, share)| (user, usage(share))).collect())
}

/// An executor: one slot of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecutorStatus {
    /// `<host>/<slot>`.
    pub name: String,
    /// Its host.
    pub host: String,
    /// `idle`, `busy`, `backing off`, `quarantined` or `drained`.
    pub state: String,
    /// The batch that it runs.
    pub batch: Option<BatchStatus>,
    /// The numbers of the jobs of that batch.
    pub current_jobs: Vec<u64>,
    /// Its log, relative to `output_dir`.
    pub log_path: Option<String>,
    /// Why it is not healthy, and since when.
    pub problem: Option<String>,
}

/// A batch on an executor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchStatus {
    /// The commit.
    pub commit: String,
    /// The test file.
    pub test: String,
    /// The number of subtests.
    pub subtests: u32,
    /// The number of subtests that have a verdict.
    pub done: u32,
    /// The running subtest.
    pub current: Option<String>,
    /// `building`, `booting` or `testing`.
    pub phase: String,
    /// The time at which it was claimed, in Unix seconds.
    pub started: i64,
    /// The time at which its phase began, in Unix seconds; `None` if an old daemon wrote the snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase_started: Option<i64>,
    /// The number of objects built, while the kernel is being built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<u32>,
    /// The number of objects to build, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects_total: Option<u32>,
    /// The kernel: its architecture and flavor.
    #[serde(flatten)]
    pub kernel: BuiltKernel,
}

/// What a host did since the start of the daemon, in the last 24 hours at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostStatus {
    /// The host.
    pub name: String,
    /// The begin of this time, in Unix seconds.
    pub since: i64,
    /// The number of verdicts.
    pub tests: u64,
    /// Slot time in which kernels were built, found or downloaded, in seconds.
    pub building_s: u64,
    /// Slot time in which VMs booted, in seconds.
    pub booting_s: u64,
    /// Slot time in which subtests ran, in seconds.
    pub testing_s: u64,
    /// Slot time without work, in seconds.
    pub idle_s: u64,
    /// The load at the end of the last attempt or in the newest report, in percent of its processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<u32>,
    /// When that was, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_at: Option<i64>,
    /// Its newest report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<HostReport>,
    /// When it was sent, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<i64>,
}

impl HostStatus {
    /// The number of verdicts per hour. `now` in Unix seconds.
    #[must_use]
    pub fn tests_per_hour(&self, now: i64) -> u64 {
        // Less than a minute says nothing about an hour.
        let seconds = now.saturating_sub(self.since).max(60).unsigned_abs();
        self.tests.saturating_mul(3600) / seconds
    }

    /// The slot time in seconds by its use.
    #[must_use]
    pub fn slot_seconds(&self) -> [(&'static str, u64); 4] {
        [
            ("building", self.building_s),
            ("booting", self.booting_s),
            ("testing", self.testing_s),
            ("idle", self.idle_s),
        ]
    }

    /// How the slot time was used: `31 % building, 5 % booting, 50 % testing, 14 % idle`; `None` if none is counted.
    #[must_use]
    pub fn shares(&self) -> Option<String> {
        let uses = self.slot_seconds();
        let all = uses.iter().fold(0u64, |sum, (_, seconds)| sum.saturating_add(*seconds));
        let percent = |seconds: u64| (u128::from(seconds) * 100 + u128::from(all) / 2) / u128::from(all);
        let word = |(what, seconds): (&str, u64)| format!("{} % {what}", percent(seconds));
        (all > 0).then(|| uses.map(word).join(", "))
    }
}

/// The space of a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskStatus {
    /// What it is used for: `results` or `cache`.
    pub name: String,
    /// The space that the daemon can fill, in bytes.
    pub free: u64,
    /// Its size, in bytes.
    pub total: u64,
}

/// A watched branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BranchStatus {
    /// The owner.
    pub user: UserName,
    /// The branch of that user.
    pub branch: BranchName,
    /// The tip at the last fetch.
    #[serde(default)]
    pub tip: Option<String>,
    /// The time of the last successful fetch, in Unix seconds.
    #[serde(default)]
    pub fetched: Option<i64>,
    /// Why the last fetch failed.
    #[serde(default)]
    pub error: Option<String>,
}

impl BranchStatus {
    /// A branch before its first fetch.
    #[must_use]
    pub fn new(name: &BranchRef) -> Self {
        let BranchRef { user, branch } = name.clone();
        Self { user, branch, tip: None, fetched: None, error: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_host() {
        let mut host = HostStatus { since: 1000, tests: 30, ..HostStatus::default() };
        assert_eq!((host.tests_per_hour(1000 + 1800), host.tests_per_hour(1000)), (60, 1800));
        assert_eq!(host.shares(), None);
        (host.building_s, host.testing_s, host.idle_s) = (1, 2, u64::MAX);
        assert_eq!(host.shares().as_deref(), Some("0 % building, 0 % booting, 0 % testing, 100 % idle"));
        host.idle_s = 0;
        assert_eq!(host.shares().as_deref(), Some("33 % building, 0 % booting, 67 % testing, 0 % idle"));
    }

    #[test]
    fn a_snapshot_of_an_old_daemon_is_read() {
        let old = r#"{"jobs":[{"id":1,"name":"n","status":"done","executor":null,"started":null,"log":"l"}],
            "fairshare":{"a":{"weight":2.0,"usage":61.5}}}"#;
        let snapshot: StatusSnapshot = serde_json::from_str(old).unwrap();
        assert_eq!(snapshot.fairshare["a"], 61.5);
        assert_eq!(snapshot.jobs[0].log_path.as_deref(), Some("l"));
        let new = serde_json::to_string(&snapshot).unwrap();
        assert!(
            new.contains(r#""fairshare":{"a":61.5}"#),
            "a number, as the existing live page expects: {new}"
        );
        assert_eq!(serde_json::from_str::<StatusSnapshot>(&new).unwrap(), snapshot);
    }
}
