//! Results as plain data: what the writer keeps, the blobs hold and readers get.

use std::time::Duration;

use model::{CommitId, Counts, HostName, KernelId, ResultKey, Status, Verdict};
use serde::{Deserialize, Serialize};

/// The longest reason or crash title that is kept, in bytes; longer ones are cut.
pub const TEXT_MAX: usize = 4096;

/// The results of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitResults {
    /// The commit.
    pub commit: CommitId,
    /// Its message; empty where it is not known.
    pub message: String,
    /// One entry a test, sorted by key, no key twice.
    pub entries: Vec<TestEntry>,
}

impl CommitResults {
    /// How many tests stand in each status.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.entries.iter().map(|entry| entry.status).collect()
    }

    /// The durations of all tests together.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.entries.iter().map(|entry| entry.duration).sum()
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

/// One test at one commit: the attempt that stands, and the others beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestEntry {
    /// Which test.
    pub key: ResultKey,
    /// Its status.
    pub status: Status,
    /// How long it ran; zero while it runs. Whole seconds in results of the existing system.
    pub duration: Duration,
    /// When it started, Unix seconds.
    pub started: Option<i64>,
    /// One line: why it is not Passed.
    pub reason: Option<String>,
    /// The crash's title, where the kernel crashed.
    pub crash: Option<String>,
    /// The host it ran on.
    pub host: Option<HostName>,
    /// The slot of the host.
    pub slot: Option<u32>,
    /// The kernel it ran on.
    pub kernel: Option<KernelId>,
    /// SHA-256 (hex) of the boot image.
    pub image_hash: Option<String>,
    /// The number of the attempt that stands; 1 for the first, also while that one runs.
    pub attempt: u32,
    /// How many attempts there were; 1 in results of the existing system.
    pub attempts: u32,
    /// The size of the plain log in bytes; 0: no log, or not known.
    pub log_bytes: u64,
    /// The size of the plain log of the whole VM run in bytes; 0: no log, or not known.
    pub full_log_bytes: u64,
    /// The attempts that do not stand, by number.
    pub others: Vec<Attempt>,
}

impl TestEntry {
    /// An entry that has a key and a status and nothing else.
    #[must_use]
    pub fn new(key: ResultKey, status: Status) -> Self {
        Self {
            key,
            status,
            duration: Duration::ZERO,
            started: None,
            reason: None,
            crash: None,
            host: None,
            slot: None,
            kernel: None,
            image_hash: None,
            attempt: 1,
            attempts: 1,
            log_bytes: 0,
            full_log_bytes: 0,
            others: Vec::new(),
        }
    }

    /// How many of the attempts that ran, the standing one among them, ended in `status`: "3 of 25 failed".
    #[must_use]
    pub fn attempts_in(&self, status: Status) -> u32 {
        let others = self.others.iter().filter(|attempt| attempt.status == status).count();
        u32::from(self.status == status) + u32::try_from(others).unwrap_or(u32::MAX - 1)
    }
}

/// An attempt that does not stand: a confirmation run, or what a later attempt replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1 in the order in which the attempts ended.
    pub number: u32,
    /// How it ended.
    pub status: Status,
    /// How long it ran.
    pub duration: Duration,
    /// When it started, Unix seconds.
    pub started: Option<i64>,
    /// One line: why it is not Passed.
    pub reason: Option<String>,
    /// The crash's title.
    pub crash: Option<String>,
    /// The host it ran on.
    pub host: Option<HostName>,
    /// The slot of the host.
    pub slot: Option<u32>,
    /// The kernel it ran on.
    pub kernel: Option<KernelId>,
    /// SHA-256 (hex) of the boot image.
    pub image_hash: Option<String>,
    /// The size of the plain log in bytes; 0: none.
    pub log_bytes: u64,
    /// The size of the plain log of the whole VM run in bytes; 0: none.
    pub full_log_bytes: u64,
}

/// A verdict to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// The commit.
    pub commit: CommitId,
    /// The test.
    pub key: ResultKey,
    /// What the run concluded.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long the test ran.
    #[serde(rename = "duration_ms", with = "millis")]
    pub duration: Duration,
    /// When it started, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// The crash's title, where the kernel crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<String>,
    /// The host it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// The slot of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// The kernel it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelId>,
    /// SHA-256 (hex) of the boot image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_hash: Option<String>,
}

impl VerdictRecord {
    /// A record without the facts that need not be known.
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
        }
    }
}

impl VerdictRecord {
    /// The record with texts of bounded length.
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

/// What became of a recorded verdict. It is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The number of this attempt.
    pub attempt: u32,
    /// Whether it is the one that stands.
    pub stands: bool,
}

/// One commit of a branch's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchEntry {
    /// The commit.
    pub commit: CommitId,
    /// Its message.
    pub message: String,
    /// How many tests stand in each status.
    pub counts: Counts,
    /// The durations of all tests together.
    pub duration: Duration,
}

impl BranchEntry {
    /// The first line of the message.
    #[must_use]
    pub fn subject(&self) -> &str {
        subject(&self.message)
    }
}

/// How long a test took in the past, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDuration {
    /// The test.
    pub test: ResultKey,
    /// The mean of the runs that ended in Passed or Failed.
    pub mean: Duration,
    /// How many those were.
    pub nr: u64,
    /// How many of them passed.
    pub passed: u64,
    /// How many of them failed.
    pub failed: u64,
}

/// One commit in the history of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The commit.
    pub commit: CommitId,
    /// Its message.
    pub message: String,
    /// The test at that commit; `None`: no result.
    pub entry: Option<TestEntry>,
}

/// The longest commit message that is kept, in bytes.
const MESSAGE_MAX: usize = 64 << 10;

/// A commit message of bounded length.
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

/// The text without what is past [`TEXT_MAX`], on one line, `None` if nothing is left.
pub(crate) fn one_line(text: &str) -> Option<String> {
    let text = text.trim();
    let text: String = cut_to(text, TEXT_MAX).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!text.is_empty()).then_some(text)
}

/// What is said beyond this (136 years) is cut, so that no blob, file or host can make a sum of durations overflow.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(1 << 32);

/// Milliseconds where they agree with the seconds that every writer fills, else the seconds.
pub(crate) fn duration(millis: u64, seconds: u64) -> Duration {
    let said = if millis != 0 && (seconds == 0 || millis / 1000 == seconds) {
        Duration::from_millis(millis)
    } else {
        Duration::from_secs(seconds)
    };
    said.min(DURATION_MAX)
}
