//! The JSON views of docs/formats.md: the dashboard's `&format=json` and `ci-status --json` both print these.
//!
//! The fields that every dashboard has come first; the others are absent if unknown. Each view can be converted back to
//! the plain types, so that a client with only the JSON shows the same as one with the files.

use std::fmt;

use belief::{FailureRate, FixClaim, FixState, HostClass};
use model::{
    BranchName, CommitId, Conditions, Counts, KnownFailure, Owner, Status, StatusSnapshot, UserName,
};
use serde::{Deserialize, Serialize};

mod listing;
mod owners;

pub use self::listing::{BuildRow, CommitRow, FailedKernelRow};
pub use self::owners::OwnersRow;
use crate::flaky::FlakyEntry;
use crate::types::{
    Attempt, Authorship, BranchEntry, CommitResults, HistoryEntry, TestEntry, duration, millis_of,
};

/// A user and the branches: the view of one user; the view of all users is a list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// The user.
    pub user: UserName,
    /// The branches, sorted.
    pub branches: Vec<BranchName>,
}

/// The view of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitView {
    /// The full commit id.
    pub commit: String,
    /// Its message.
    pub message: String,
    /// Its author and date.
    #[serde(flatten)]
    pub authorship: Authorship,
    /// The tests, sorted by name.
    pub tests: Vec<TestRow>,
    /// Suspicious passes, compared with an older commit; absent if there are none or the search was not made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspicious: Vec<SuspicionRow>,
    /// Since when the failed tests fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub since: Vec<SinceRow>,
    /// The kernels that do not build; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildRow>,
    /// The owners of the failed tests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<OwnersRow>,
    /// Tests without a verdict that wait for an idle slot: they ran at other commits whose kernels have the same code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same_code: Vec<SameCodeRow>,
    /// Other commits with results and the same patch, on other bases, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same_patch: Vec<SamePatchRow>,
}

/// A commit with the same patch on another base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamePatchRow {
    /// The commit.
    pub commit: CommitId,
    /// The number of its tests with each status.
    pub counts: Counts,
}

/// A test that waits for an idle slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameCodeRow {
    /// The result key.
    pub name: String,
    /// A commit at which it ran with the same code.
    pub commit: CommitId,
    /// Its status there.
    pub status: Status,
}

/// A commit of a listing, without results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRow {
    /// The commit.
    pub commit: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// Its author and date.
    #[serde(flatten)]
    pub authorship: Authorship,
}

impl From<&BranchEntry> for ListedRow {
    fn from(entry: &BranchEntry) -> Self {
        let (commit, authorship) = (entry.commit.clone(), entry.authorship.clone());
        Self { commit, subject: entry.subject().to_owned(), authorship }
    }
}

/// Since when a test fails on a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinceRow {
    /// The result key.
    pub name: String,
    /// The first bad commit.
    pub first_bad: ListedRow,
    /// The last good commit; absent if no older commit of the branch passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<ListedRow>,
    /// The number of commits between them. Each may be the first bad one.
    pub untested_between: usize,
    /// The number of commits from the first bad one to the commit of the view.
    pub commits: usize,
}

/// The newest commit of a branch that has results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchTipRow {
    /// The owner of the branch.
    pub user: UserName,
    /// The branch.
    pub branch: BranchName,
    /// The commit.
    pub commit: CommitId,
}

/// A suspicious pass: a good verdict that may no longer be meaningful.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspicionRow {
    /// The result key.
    pub name: String,
    /// `collapsed`, `stopped applying`, `vanished`.
    pub suspicion: String,
    /// The suspicion as a sentence.
    pub what: String,
}

impl CommitView {
    /// The view of the tests for which `keep` returns true.
    pub fn new(results: &CommitResults, mut keep: impl FnMut(&TestEntry) -> bool) -> Self {
        Self {
            commit: results.commit.to_string(),
            message: results.message.clone(),
            authorship: Authorship::default(),
            tests: results.entries.iter().filter(|entry| keep(entry)).map(TestRow::from).collect(),
            suspicious: Vec::new(),
            since: Vec::new(),
            build: None,
            owners: Vec::new(),
            same_code: Vec::new(),
            same_patch: Vec::new(),
        }
    }

    /// Converts to the plain type, without tests that have an invalid result key; `None` if the commit id is not valid.
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
    /// The duration in s.
    pub duration: u64,
    /// The duration in ms.
    #[serde(default)]
    pub duration_ms: u64,
    /// When it started, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// One line: why it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The entry of a known failure, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_issue: Option<KnownFailure>,
    /// The crash title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<String>,
    /// The host that it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The slot of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// The kernel id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// SHA-256 (hex) of the boot image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_hash: Option<String>,
    /// What it depended on.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// The commit at which it ran, if this commit inherits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited_from: Option<CommitId>,
    /// The size of the plain log in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// The size of the plain log of the VM run in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_log_bytes: Option<u64>,
    /// Present if the failure is flaky; its status is `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaky: Option<FlakyAttempts>,
    /// The attempts other than the decisive one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_attempts: Vec<AttemptRow>,
}

/// The attempts of a flaky test at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlakyAttempts {
    /// The number that failed.
    pub failed: u32,
    /// The number that failed or passed.
    pub runs: u32,
}

impl FlakyAttempts {
    fn of(entry: &TestEntry) -> Option<Self> {
        let failed = entry.attempts_in(Status::Failed);
        let runs = failed + entry.attempts_in(Status::Passed);
        (entry.status() == Status::Flaky).then_some(Self { failed, runs })
    }
}

impl From<&TestEntry> for TestRow {
    fn from(entry: &TestEntry) -> Self {
        let attempt = &entry.decisive;
        Self {
            name: entry.key.to_string(),
            status: attempt.status,
            duration: attempt.duration.as_secs(),
            duration_ms: millis_of(attempt.duration),
            started: attempt.started,
            reason: attempt.reason.clone(),
            known_issue: attempt.known_issue(),
            crash: attempt.crash.clone(),
            host: attempt.host.as_ref().map(ToString::to_string),
            slot: attempt.slot,
            kernel: attempt.kernel.as_ref().map(ToString::to_string),
            image_hash: attempt.image_hash.as_deref().map(Into::into),
            conditions: attempt.conditions.clone(),
            inherited_from: attempt.ran_at.clone(),
            log_bytes: (attempt.log_bytes != 0).then_some(attempt.log_bytes),
            full_log_bytes: (attempt.full_log_bytes != 0).then_some(attempt.full_log_bytes),
            flaky: FlakyAttempts::of(entry),
            other_attempts: entry.others.iter().map(AttemptRow::from).collect(),
        }
    }
}

impl TestRow {
    /// Converts to the plain type; `None` if the name is not a result key. Invalid host names and kernel ids are left
    /// out.
    #[must_use]
    pub fn entry(self) -> Option<TestEntry> {
        let others: Vec<Attempt> = self.other_attempts.into_iter().map(AttemptRow::attempt).collect();
        let number = (1..).find(|number| others.iter().all(|other| other.number != *number));
        let decisive = Attempt {
            number: number.unwrap_or(1),
            status: self.status,
            duration: duration(self.duration_ms, self.duration),
            started: self.started,
            reason: self.reason,
            crash: self.crash,
            host: self.host.and_then(|host| host.parse().ok()),
            slot: self.slot,
            kernel: self.kernel.and_then(|kernel| kernel.parse().ok()),
            image_hash: self.image_hash.map(Into::into),
            log_bytes: self.log_bytes.unwrap_or(0),
            full_log_bytes: self.full_log_bytes.unwrap_or(0),
            conditions: self.conditions,
            ran_at: self.inherited_from,
        };
        Some(TestEntry { key: self.name.parse().ok()?, decisive, others })
    }
}

/// An attempt other than the decisive one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// Its number.
    pub attempt: u32,
    /// Its status.
    pub status: Status,
    /// The duration in ms.
    pub duration_ms: u64,
    /// When it started, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// One line: why it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The entry of a known failure, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_issue: Option<KnownFailure>,
    /// The crash title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<String>,
    /// The host that it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The kernel id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What it depended on.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// The commit at which it ran, if this commit inherits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited_from: Option<CommitId>,
}

impl From<&Attempt> for AttemptRow {
    fn from(attempt: &Attempt) -> Self {
        Self {
            attempt: attempt.number,
            status: attempt.status,
            duration_ms: millis_of(attempt.duration),
            started: attempt.started,
            reason: attempt.reason.clone(),
            known_issue: attempt.known_issue(),
            crash: attempt.crash.clone(),
            host: attempt.host.as_ref().map(ToString::to_string),
            kernel: attempt.kernel.as_ref().map(ToString::to_string),
            conditions: attempt.conditions.clone(),
            inherited_from: attempt.ran_at.clone(),
        }
    }
}

impl AttemptRow {
    fn attempt(self) -> Attempt {
        Attempt {
            number: self.attempt,
            duration: duration(self.duration_ms, 0),
            started: self.started,
            reason: self.reason,
            crash: self.crash,
            host: self.host.and_then(|host| host.parse().ok()),
            kernel: self.kernel.and_then(|kernel| kernel.parse().ok()),
            conditions: self.conditions,
            ran_at: self.inherited_from,
            ..Attempt::new(self.status)
        }
    }
}

/// A commit in the history of a test. The view is a list of these, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// The full commit id.
    pub commit: String,
    /// Its message.
    pub message: String,
    /// Its author and date.
    #[serde(flatten)]
    pub authorship: Authorship,
    /// The test at that commit; absent if it has no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestRow>,
    /// Present at the first commit that passes after failures: what its passes and those of newer commits prove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<FixRow>,
}

/// What the passes since a failure prove, with a confidence of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixRow {
    /// `unproven`, `fixed`, `still_fails`.
    pub state: FixState,
    /// The number of passes that count.
    pub passes: u32,
    /// The number of passes that prove the fix.
    pub needed: u32,
    /// The number of passes that do not count, because they are much shorter than the failures; absent if 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub too_short: u32,
    /// The attempts that failed where the test failed.
    pub failed: u32,
    /// The attempts that failed or passed there.
    pub runs: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl From<&FixClaim> for FixRow {
    fn from(claim: &FixClaim) -> Self {
        Self {
            state: claim.state(),
            passes: claim.passes(),
            needed: claim.needed(),
            too_short: claim.early_passes(),
            failed: claim.evidence().failures(),
            runs: claim.evidence().attempts(),
        }
    }
}

impl From<&HistoryEntry> for HistoryRow {
    fn from(entry: &HistoryEntry) -> Self {
        Self {
            commit: entry.commit.to_string(),
            message: entry.message.clone(),
            authorship: entry.authorship.clone(),
            test: entry.entry.as_ref().map(TestRow::from),
            fix: None,
        }
    }
}

impl HistoryRow {
    /// Converts to the plain type; `None` if the commit id is not valid.
    #[must_use]
    pub fn entry(self) -> Option<HistoryEntry> {
        Some(HistoryEntry {
            commit: self.commit.parse().ok()?,
            message: self.message,
            authorship: self.authorship,
            entry: self.test.and_then(TestRow::entry),
        })
    }
}

/// A flaky test of a branch. The view is a list of these, sorted by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlakyRow {
    /// The result key.
    pub name: String,
    /// The failure rate over the newest 100 commits with results.
    #[serde(flatten)]
    pub rate: RateRow,
    /// The oldest of these commits at which it failed and passed.
    pub since: CommitId,
    /// The number of commits at which it did so.
    pub commits: usize,
    /// The rate per class of hosts: hosts with names that differ only in numbers.
    pub hosts: Vec<HostRow>,
    /// The rates with and without other work on the host, if the test fails only with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_under_load: Option<LoadRow>,
}

/// The failure rates of a test by the load of its host.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadRow {
    /// That of attempts with other batches on the host.
    pub loaded: RateRow,
    /// That of attempts that had the host to themselves.
    pub alone: RateRow,
}

/// `only under load: 5 of 9 with other work on the host, 0 of 8 alone`
impl fmt::Display for LoadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loaded, alone } = self;
        write!(
            f,
            "only under load: {} of {} with other work on the host, {} of {} alone",
            loaded.failed, loaded.runs, alone.failed, alone.runs
        )
    }
}

/// A failure rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RateRow {
    /// The number of attempts that failed.
    pub failed: u32,
    /// The number of attempts that failed or passed.
    pub runs: u32,
    /// The lower end of the 95 % interval (Jeffreys), from 0 to 1.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// A failure rate on a class of hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostRow {
    /// The name of the hosts, with `*` in place of numbers.
    pub host: String,
    /// The failure rate there.
    #[serde(flatten)]
    pub rate: RateRow,
}

impl From<FailureRate> for RateRow {
    fn from(rate: FailureRate) -> Self {
        // Four digits, so that each reader of the text has the same number.
        let rounded = |share: f64| (share * 1e4).round() / 1e4;
        Self { failed: rate.failures, runs: rate.attempts, low: rounded(rate.low), high: rounded(rate.high) }
    }
}

/// `33 % (22 to 46 %)`: the share that failed, and the interval.
impl fmt::Display for RateRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = f64::from(self.failed) / f64::from(self.runs.max(1));
        write!(f, "{:.0} % ({:.0} to {:.0} %)", share * 100.0, self.low * 100.0, self.high * 100.0)
    }
}

impl From<&FlakyEntry> for FlakyRow {
    fn from(FlakyEntry { key, flaky }: &FlakyEntry) -> Self {
        let host = |(class, rate): (&HostClass, &FailureRate)| HostRow {
            host: class.to_string(),
            rate: (*rate).into(),
        };
        Self {
            name: key.to_string(),
            rate: flaky.rate.into(),
            since: flaky.since.clone(),
            commits: flaky.experiments,
            hosts: flaky.by_class.iter().map(host).collect(),
            only_under_load: flaky.load.fails_only_under_load().then(|| LoadRow {
                loaded: flaky.load.loaded.rate().into(),
                alone: flaky.load.alone.rate().into(),
            }),
        }
    }
}

/// An artifact of a test; lists are sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRow {
    /// Its path below the directory of the test.
    pub name: String,
    /// Its stored size.
    pub bytes: u64,
}

/// The same test elsewhere, with which a failure is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRow {
    /// `before` for the commit before this one, or the file system or `variant NAME` with which it ran on the same kernel.
    pub control: String,
    /// The commit.
    pub commit: CommitId,
    /// The result key.
    pub name: String,
    /// Its status there.
    pub status: Status,
}

/// The view of one test at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestView {
    /// The row of the view of the commit.
    #[serde(flatten)]
    pub test: TestRow,
    /// Its artifacts.
    #[serde(default)]
    pub artifacts: Vec<ArtifactRow>,
    /// What a failure is compared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<ControlRow>,
    /// Since when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<SinceRow>,
    /// What its pass and those of newer commits prove, if it failed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<FixRow>,
    /// The other branches at whose newest tested commit it fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_fails_in: Vec<BranchTipRow>,
    /// The owners of its test file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Owner>,
}

/// The view of the workers, which is the status snapshot.
pub type WorkersView = StatusSnapshot;

/// The view of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// One line.
    pub error: String,
}
