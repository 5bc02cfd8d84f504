//! Results as plain data, shared by the writer, the blobs and the readers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::{
    CommitId, Conditions, Counts, Env, HostName, KernelId, KnownFailure, ResultKey, Status, StoreKernel,
    SubtestName, TestPath, TrustDomain, Verdict,
};
use serde::{Deserialize, Serialize};

/// The length limit of a reason or crash title in bytes; longer ones are cut.
pub const TEXT_MAX: usize = 4096;

/// The results of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitResults {
    /// The commit.
    pub commit: CommitId,
    /// Its message; empty if unknown.
    pub message: String,
    /// One entry per test, sorted by key, without duplicates.
    pub entries: Vec<TestEntry>,
}

impl CommitResults {
    /// The number of tests by status.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.entries.iter().map(TestEntry::status).collect()
    }

    /// The sum of the durations of all tests.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.entries.iter().map(|entry| entry.decisive.duration).sum()
    }

    /// The entry of one test.
    #[must_use]
    pub fn get(&self, key: &ResultKey) -> Option<&TestEntry> {
        self.entries.binary_search_by(|entry| entry.key.cmp(key)).ok().map(|at| &self.entries[at])
    }

    /// The first line of the message.
    #[must_use]
    pub fn subject(&self) -> &str {
        subject(&self.message)
    }
}

pub(crate) fn subject(message: &str) -> &str {
    message.trim_start().lines().next().unwrap_or("").trim_end()
}

/// One test at one commit, with all its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestEntry {
    /// The test.
    pub key: ResultKey,
    /// The attempt that gives the verdict, or the running one.
    pub decisive: Attempt,
    /// The other attempts: retries, reruns, and attempts that failed to run before the decisive one.
    pub others: Vec<Attempt>,
}

impl TestEntry {
    /// Adds an attempt. If it gives the verdict, it takes the place of the one that did.
    pub(crate) fn add(&mut self, decisive: bool, attempt: Attempt) {
        let other = if decisive { std::mem::replace(&mut self.decisive, attempt) } else { attempt };
        self.others.push(other);
    }

    /// Adds an attempt to an entry that may not exist yet.
    pub(crate) fn add_to(entry: &mut Option<Self>, key: &ResultKey, decisive: bool, attempt: Attempt) {
        match entry {
            Some(entry) => entry.add(decisive, attempt),
            None => *entry = Some(Self { key: key.clone(), decisive: attempt, others: Vec::new() }),
        }
    }

    /// An entry with only a key and a status.
    #[must_use]
    pub fn new(key: ResultKey, status: Status) -> Self {
        Self { key, decisive: Attempt::new(status), others: Vec::new() }
    }

    /// The attempt with this number.
    #[must_use]
    pub fn attempt(&self, number: u32) -> Option<&Attempt> {
        std::iter::once(&self.decisive).chain(&self.others).find(|attempt| attempt.number == number)
    }

    /// The number of attempts.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        u32::try_from(self.others.len()).unwrap_or(u32::MAX - 1) + 1
    }

    /// The number of attempts that ended with `status`, as in "3 of 25 failed".
    #[must_use]
    pub fn attempts_in(&self, status: Status) -> u32 {
        let others = self.others.iter().filter(|attempt| attempt.status == status).count();
        u32::from(self.decisive.status == status) + u32::try_from(others).unwrap_or(u32::MAX - 1)
    }
}

/// The commits at which the inherited ones among these verdicts ran, each with their number, those of the most tests first.
#[must_use]
pub fn sources<'a>(entries: impl IntoIterator<Item = &'a TestEntry>) -> Vec<(&'a CommitId, usize)> {
    let mut tests: BTreeMap<&CommitId, usize> = BTreeMap::new();
    for source in entries.into_iter().filter_map(|entry| entry.decisive.ran_at.as_ref()) {
        *tests.entry(source).or_default() += 1;
    }
    let mut sources: Vec<(&CommitId, usize)> = tests.into_iter().collect();
    sources.sort_by_key(|(_, tests)| std::cmp::Reverse(*tests));
    sources
}

/// How long a run of a test took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentRun {
    /// The host on which it ran.
    pub host: Option<HostName>,
    /// Its duration.
    pub duration: Duration,
}

/// One execution of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1, in the order in which the attempts ended.
    pub number: u32,
    /// Its status.
    pub status: Status,
    /// How long it ran; zero while it is running. Whole seconds in results of the existing system.
    pub duration: Duration,
    /// The start time, in Unix seconds.
    pub started: Option<i64>,
    /// One line: why it did not pass.
    pub reason: Option<String>,
    /// The crash title, if the kernel crashed.
    pub crash: Option<String>,
    /// The host on which it ran.
    pub host: Option<HostName>,
    /// The slot of the host.
    pub slot: Option<u32>,
    /// The kernel on which it ran.
    pub kernel: Option<KernelId>,
    /// SHA-256 (hex) of the boot image.
    pub image_hash: Option<Arc<str>>,
    /// The size of the plain log in bytes; 0 if there is no log or the size is unknown.
    pub log_bytes: u64,
    /// The size of the plain log of the whole VM run in bytes; 0 if there is no log or the size is unknown.
    pub full_log_bytes: u64,
    /// What it depended on.
    pub conditions: Conditions,
    /// The commit at which it ran, if this commit inherits it.
    pub ran_at: Option<CommitId>,
}

/// The end of a run; `None` if the start is unknown or not before the year 4000, which dates in headers cannot have.
pub(crate) fn end_of_run(started: Option<i64>, duration: Duration) -> Option<SystemTime> {
    const LAST: u64 = 1 << 36;
    let end = u64::try_from(started?).ok()?.checked_add(duration.as_secs()).filter(|end| *end < LAST)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end))
}

impl Attempt {
    /// The entry of a known failure, if the verdict is one.
    #[must_use]
    pub fn known_issue(&self) -> Option<KnownFailure> {
        self.reason.as_deref().filter(|_| self.status == Status::NotRun).and_then(KnownFailure::of_reason)
    }

    /// When it ended, to the second, if that is known.
    #[must_use]
    pub fn ended(&self) -> Option<SystemTime> {
        end_of_run(self.started, self.duration)
    }

    /// The first attempt, with only a status.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self {
            number: 1,
            status,
            duration: Duration::ZERO,
            started: None,
            reason: None,
            crash: None,
            host: None,
            slot: None,
            kernel: None,
            image_hash: None,
            log_bytes: 0,
            full_log_bytes: 0,
            conditions: Conditions::default(),
            ran_at: None,
        }
    }
}

/// The parts of a test's key. From the key alone, the end of the file name cannot be determined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestParts {
    /// The test file.
    pub file: TestPath,
    /// The subtest.
    pub subtest: SubtestName,
    /// The kernel of the store; `None` for a kernel that is built from the commit.
    pub kernel: Option<StoreKernel>,
    /// The environment of the run.
    pub env: Env,
}

/// The details of a commit object other than its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitDetails {
    /// The id of the tree.
    pub tree: String,
    /// Name and address of the author.
    pub author: String,
    /// The committer date, Unix seconds.
    pub date: i64,
}

/// Who wrote a commit, and when it was committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorship {
    /// Name and address of the author; empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The committer date, Unix seconds; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub date: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_unknown(date: &i64) -> bool {
    *date == 0
}

impl Authorship {
    /// The name of the author, or else the address; empty if both are unknown.
    #[must_use]
    pub fn name(&self) -> &str {
        let (name, address) = self.author.split_once('<').unwrap_or((&self.author, ""));
        match name.trim() {
            "" => address.trim_end_matches('>').trim(),
            name => name,
        }
    }
}

impl From<&CommitDetails> for Authorship {
    fn from(details: &CommitDetails) -> Self {
        Self { author: details.author.clone(), date: details.date }
    }
}

/// A verdict to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// The commit.
    pub commit: CommitId,
    /// The test.
    pub key: ResultKey,
    /// The verdict of the run.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long the test ran.
    #[serde(rename = "duration_ms", with = "millis")]
    pub duration: Duration,
    /// When it started, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// The crash title, if the kernel crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<String>,
    /// The host on which it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The slot of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// The kernel on which it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelId>,
    /// SHA-256 (hex) of the boot image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_hash: Option<String>,
    /// What the attempt depended on.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// The commit at which it ran, if `commit` inherits the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_at: Option<CommitId>,
    /// The trust domain of the batch, if it is known.
    #[serde(skip)]
    pub domain: Option<TrustDomain>,
    /// The parts of the key, if they are known.
    #[serde(skip)]
    pub parts: Option<Box<TestParts>>,
}

impl VerdictRecord {
    /// A record with only the required fields.
    #[must_use]
    pub fn new(commit: CommitId, key: ResultKey, verdict: Verdict, duration: Duration) -> Self {
        Self {
            commit,
            key,
            verdict,
            duration,
            started: None,
            crash: None,
            host: None,
            slot: None,
            kernel: None,
            image_hash: None,
            conditions: Conditions::default(),
            ran_at: None,
            domain: None,
            parts: None,
        }
    }
}

impl VerdictRecord {
    /// Cuts the texts to their length limit.
    pub(crate) fn cut(mut self) -> Self {
        if let Verdict::Failed { reason } | Verdict::NotRun { reason } | Verdict::FailedToRun { reason } =
            &mut self.verdict
        {
            *reason = one_line(reason).unwrap_or_default();
        }
        self.crash = self.crash.as_deref().and_then(one_line);
        self.image_hash = self.image_hash.as_deref().and_then(one_line);
        self
    }
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(super::millis_of(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

pub(crate) fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The result of recording a verdict, which is now durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The number of this attempt.
    pub attempt: u32,
    /// Whether this attempt gives the verdict of the test.
    pub decisive: bool,
}

/// The sums over some tests of a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number of tests by status.
    pub counts: Counts,
    /// The sum of the durations of all tests.
    pub duration: Duration,
}

impl Summary {
    pub(crate) fn add(&mut self, status: Status, duration: Duration) {
        self.counts.add(status);
        self.duration += duration;
    }

    pub(crate) fn of(results: &CommitResults, mut keep: impl FnMut(&ResultKey) -> bool) -> Self {
        let mut summary = Self::default();
        for entry in results.entries.iter().filter(|entry| keep(&entry.key)) {
            summary.add(entry.status(), entry.decisive.duration);
        }
        summary
    }
}

/// One commit of the listing of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchEntry {
    /// The commit.
    pub commit: CommitId,
    /// Its message.
    pub message: String,
    /// Its author and date.
    pub authorship: Authorship,
    /// The number of tests by status.
    pub counts: Counts,
    /// The sum of the durations of all tests.
    pub duration: Duration,
}

impl BranchEntry {
    /// The first line of the message.
    #[must_use]
    pub fn subject(&self) -> &str {
        subject(&self.message)
    }
}

/// The past durations and results of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDuration {
    /// The test.
    pub test: ResultKey,
    /// The mean duration of the runs that passed or failed.
    pub mean: Duration,
    /// The number of those runs.
    pub nr: u64,
    /// The number of runs that passed.
    pub passed: u64,
    /// The number of runs that failed.
    pub failed: u64,
}

/// One commit in the history of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The commit.
    pub commit: CommitId,
    /// Its message.
    pub message: String,
    /// Its author and date.
    pub authorship: Authorship,
    /// The test at that commit; `None` if it has no result.
    pub entry: Option<TestEntry>,
}

/// An attempt that crashed the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashEntry {
    /// The commit.
    pub commit: CommitId,
    /// The test.
    pub key: ResultKey,
    /// The number of the attempt.
    pub attempt: u32,
    /// The crash title.
    pub title: String,
    /// Whether the attempt gives the verdict.
    pub decisive: bool,
    /// When it started, Unix seconds.
    pub started: Option<i64>,
    /// The host on which it ran.
    pub host: Option<HostName>,
}

/// The length limit of a commit message in bytes.
const MESSAGE_MAX: usize = 64 << 10;

/// Cuts a commit message to its length limit.
pub(crate) fn cut(message: &str) -> &str {
    cut_to(message, MESSAGE_MAX)
}

fn cut_to(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The text on one line, cut to [`TEXT_MAX`]; `None` if it is empty.
pub(crate) fn one_line(text: &str) -> Option<String> {
    let text = text.trim();
    let text: String = cut_to(text, TEXT_MAX).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!text.is_empty()).then_some(text)
}

/// The maximum duration (136 years), so that no blob, file or host can make a sum of durations overflow.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(1 << 32);

/// The duration in ms if it agrees with the seconds, which every writer sets; otherwise the seconds.
pub(crate) fn duration(millis: u64, seconds: u64) -> Duration {
    let given = if millis != 0 && (seconds == 0 || millis / 1000 == seconds) {
        Duration::from_millis(millis)
    } else {
        Duration::from_secs(seconds)
    };
    given.min(DURATION_MAX)
}
