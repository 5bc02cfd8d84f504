//! The JSON views of formats.md as types; the dashboard's `&format=json` and `ci-status --json` both print these.
//!
//! The fields that formats.md names come first, in its order; those after them are ours and absent when not known.
//! Each view reads back into the plain types, so that who has only JSON shows the same as who has the files.

use model::{BranchName, Counts, Status, StatusSnapshot, UserName};
use serde::{Deserialize, Serialize};

use crate::types::{Attempt, BranchEntry, CommitResults, HistoryEntry, TestEntry, duration, millis_of};
use crate::vacuity::{Alarm, Suspicion};

/// A user and the branches: one object of the list of users, and the whole view of one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// The user.
    pub user: UserName,
    /// The branches, sorted.
    pub branches: Vec<BranchName>,
}

/// One commit of a branch's view, which is a list of these, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRow {
    /// The full commit id.
    pub commit: String,
    /// Its message.
    pub message: String,
    /// How many tests stand in each status.
    #[serde(flatten)]
    pub counts: Counts,
    /// The durations of all tests together, in s.
    pub duration: u64,
    /// The same in ms; 0 where only seconds are known.
    #[serde(default)]
    pub duration_ms: u64,
}

impl CommitRow {
    /// What the row says; `None` if its commit id is none.
    #[must_use]
    pub fn entry(self) -> Option<BranchEntry> {
        Some(BranchEntry {
            commit: self.commit.parse().ok()?,
            message: self.message,
            counts: self.counts,
            duration: duration(self.duration_ms, self.duration),
        })
    }
}

impl From<&BranchEntry> for CommitRow {
    fn from(entry: &BranchEntry) -> Self {
        Self {
            commit: entry.commit.to_string(),
            message: entry.message.clone(),
            counts: entry.counts,
            duration: entry.duration.as_secs(),
            duration_ms: millis_of(entry.duration),
        }
    }
}

/// The view of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitView {
    /// The full commit id.
    pub commit: String,
    /// Its message.
    pub message: String,
    /// The tests, sorted by name.
    pub tests: Vec<TestRow>,
    /// Tests that seem to test nothing any more, compared with the commit before; absent: none, or not looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspicious: Vec<SuspicionRow>,
}

/// A test that still counts as good and seems to test nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspicionRow {
    /// The result key.
    pub name: String,
    /// `collapsed`, `stopped applying`, `vanished`.
    pub suspicion: String,
    /// In words.
    pub what: String,
}

impl From<&Alarm> for SuspicionRow {
    fn from(alarm: &Alarm) -> Self {
        let word = match alarm.suspicion {
            Suspicion::Collapsed { .. } => "collapsed",
            Suspicion::StoppedApplying { .. } => "stopped applying",
            Suspicion::Vanished => "vanished",
        };
        let (name, what) = (alarm.key.to_string(), alarm.suspicion.to_string());
        Self { name, suspicion: word.into(), what }
    }
}

impl CommitView {
    /// The view of those tests that `keep` wants.
    pub fn new(results: &CommitResults, mut keep: impl FnMut(&TestEntry) -> bool) -> Self {
        Self {
            commit: results.commit.to_string(),
            message: results.message.clone(),
            tests: results.entries.iter().filter(|entry| keep(entry)).map(TestRow::from).collect(),
            suspicious: Vec::new(),
        }
    }

    /// What the view says, without tests whose names are no result keys; `None` if its commit id is none.
    #[must_use]
    pub fn results(self) -> Option<CommitResults> {
        let mut entries: Vec<TestEntry> = self.tests.into_iter().filter_map(TestRow::entry).collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        Some(CommitResults { commit: self.commit.parse().ok()?, message: self.message, entries })
    }
}

/// One test of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRow {
    /// The result key.
    pub name: String,
    /// `Passed`, `Failed`, `Not run`, `Failed to run`, `In progress`, `Unknown`.
    pub status: Status,
    /// In s.
    pub duration: u64,
    /// In ms.
    #[serde(default)]
    pub duration_ms: u64,
    /// When it started, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// One line: why it is not Passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The crash's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<String>,
    /// The host it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The slot of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// The kernel's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// SHA-256 (hex) of the boot image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_hash: Option<String>,
    /// The size of the plain log in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// The size of the plain log of the VM run in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_log_bytes: Option<u64>,
    /// The attempts that do not stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_attempts: Vec<AttemptRow>,
}

impl From<&TestEntry> for TestRow {
    fn from(entry: &TestEntry) -> Self {
        Self {
            name: entry.key.to_string(),
            status: entry.status,
            duration: entry.duration.as_secs(),
            duration_ms: millis_of(entry.duration),
            started: entry.started,
            reason: entry.reason.clone(),
            crash: entry.crash.clone(),
            host: entry.host.as_ref().map(ToString::to_string),
            slot: entry.slot,
            kernel: entry.kernel.as_ref().map(ToString::to_string),
            image_hash: entry.image_hash.clone(),
            log_bytes: (entry.log_bytes != 0).then_some(entry.log_bytes),
            full_log_bytes: (entry.full_log_bytes != 0).then_some(entry.full_log_bytes),
            other_attempts: entry.others.iter().map(AttemptRow::from).collect(),
        }
    }
}

impl TestRow {
    /// What the row says; `None` if its name is no result key. Names of hosts and kernels that are none are left out.
    #[must_use]
    pub fn entry(self) -> Option<TestEntry> {
        let others: Vec<Attempt> = self.other_attempts.into_iter().map(AttemptRow::attempt).collect();
        let attempt = (1..).find(|number| others.iter().all(|other| other.number != *number));
        Some(TestEntry {
            duration: duration(self.duration_ms, self.duration),
            started: self.started,
            reason: self.reason,
            crash: self.crash,
            host: self.host.and_then(|host| host.parse().ok()),
            slot: self.slot,
            kernel: self.kernel.and_then(|kernel| kernel.parse().ok()),
            image_hash: self.image_hash,
            attempt: attempt.unwrap_or(1),
            attempts: u32::try_from(others.len()).unwrap_or(u32::MAX - 1) + 1,
            log_bytes: self.log_bytes.unwrap_or(0),
            full_log_bytes: self.full_log_bytes.unwrap_or(0),
            others,
            ..TestEntry::new(self.name.parse().ok()?, self.status)
        })
    }
}

/// An attempt that does not stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// Its number.
    pub attempt: u32,
    /// How it ended.
    pub status: Status,
    /// In ms.
    pub duration_ms: u64,
    /// When it started, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// One line: why it is not Passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The crash's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<String>,
    /// The host it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl From<&Attempt> for AttemptRow {
    fn from(attempt: &Attempt) -> Self {
        Self {
            attempt: attempt.number,
            status: attempt.status,
            duration_ms: millis_of(attempt.duration),
            started: attempt.started,
            reason: attempt.reason.clone(),
            crash: attempt.crash.clone(),
            host: attempt.host.as_ref().map(ToString::to_string),
        }
    }
}

impl AttemptRow {
    fn attempt(self) -> Attempt {
        Attempt {
            number: self.attempt,
            status: self.status,
            duration: duration(self.duration_ms, 0),
            started: self.started,
            reason: self.reason,
            crash: self.crash,
            host: self.host.and_then(|host| host.parse().ok()),
            slot: None,
            kernel: None,
            image_hash: None,
            log_bytes: 0,
            full_log_bytes: 0,
        }
    }
}

/// One commit in the history of a test; the view is a list of these, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// The full commit id.
    pub commit: String,
    /// Its message.
    pub message: String,
    /// The test at that commit; absent: no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestRow>,
}

impl From<&HistoryEntry> for HistoryRow {
    fn from(entry: &HistoryEntry) -> Self {
        Self {
            commit: entry.commit.to_string(),
            message: entry.message.clone(),
            test: entry.entry.as_ref().map(TestRow::from),
        }
    }
}

impl HistoryRow {
    /// What the row says; `None` if its commit id is none.
    #[must_use]
    pub fn entry(self) -> Option<HistoryEntry> {
        Some(HistoryEntry {
            commit: self.commit.parse().ok()?,
            message: self.message,
            entry: self.test.and_then(TestRow::entry),
        })
    }
}

/// A file that a test left behind; the view of a test's artifacts is a list of these, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRow {
    /// Its path below the test's folder.
    pub name: String,
    /// Its size as it is stored.
    pub bytes: u64,
}

/// The view of one test at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestView {
    /// As in the view of the commit.
    #[serde(flatten)]
    pub test: TestRow,
    /// What it left behind.
    #[serde(default)]
    pub artifacts: Vec<ArtifactRow>,
}

/// The workers: what the status snapshot says of them.
pub type WorkersView = StatusSnapshot;

/// A view that could not be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// One line.
    pub error: String,
}
