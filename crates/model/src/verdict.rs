//! Verdicts and statuses. One table contains all spellings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The status of a subtest at a commit (docs/formats.md), in the order of the capnp enum. An attempt has one of
/// [`Status::STORED`]; [`Status::Flaky`] follows from several attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It is running, or was running when the daemon stopped.
    InProgress,
    /// The test passed.
    Passed,
    /// The test failed, or the kernel reported a problem while it ran.
    Failed,
    /// The test declined to run.
    NotRun,
    /// It could not be started: the kernel did not build, the test is missing, or the VM did not boot.
    FailedToRun,
    /// The status cannot be read.
    Unknown,
    /// It failed, and also passed at the same commit with the same kernel: the failure accuses no commit.
    Flaky,
}

/// (status, its spelling in text and JSON, its field in JSON counts).
const TABLE: [(Status, &str, &str); 7] = [
    (Status::InProgress, "In progress", "inprogress"),
    (Status::Passed, "Passed", "passed"),
    (Status::Failed, "Failed", "failed"),
    (Status::NotRun, "Not run", "notrun"),
    (Status::FailedToRun, "Failed to run", "failed_to_run"),
    (Status::Unknown, "Unknown", "unknown"),
    (Status::Flaky, "Flaky", "flaky"),
];

impl Status {
    /// The statuses of attempts, in the order of the capnp enum.
    pub const STORED: [Self; 6] =
        [Self::InProgress, Self::Passed, Self::Failed, Self::NotRun, Self::FailedToRun, Self::Unknown];

    /// All statuses, most urgent first: the order of counts and lists.
    pub const BY_URGENCY: [Self; 7] = [
        Self::Failed,
        Self::FailedToRun,
        Self::Unknown,
        Self::Flaky,
        Self::InProgress,
        Self::Passed,
        Self::NotRun,
    ];

    /// All statuses; those of attempts come first.
    pub const ALL: [Self; 7] = [
        Self::InProgress,
        Self::Passed,
        Self::Failed,
        Self::NotRun,
        Self::FailedToRun,
        Self::Unknown,
        Self::Flaky,
    ];

    /// The spelling in text and JSON: `Failed to run`.
    #[must_use]
    pub fn label(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Whether an attempt failed, flaky or not.
    #[must_use]
    pub fn has_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Flaky)
    }

    /// Whether the test ran to an end: it passed, or an attempt failed.
    #[must_use]
    pub fn is_judged(self) -> bool {
        self == Self::Passed || self.has_failure()
    }

    /// The spelling as a field or a CSS class: `failed_to_run`.
    #[must_use]
    pub fn field(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// True if it is a verdict, so that the farm does not run the job again by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::InProgress | Self::Unknown)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// The text is not a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a status; they are Passed, Failed, Not run, Failed to run, In progress, Unknown, Flaky"
)]
pub struct StatusError(String);

impl FromStr for Status {
    type Err = StatusError;
    /// Accepts both spellings of the table.
    fn from_str(text: &str) -> Result<Self, StatusError> {
        TABLE
            .iter()
            .find(|(_, label, field)| text == *label || text == *field)
            .map(|(status, ..)| *status)
            .ok_or_else(|| StatusError(text.chars().take(100).collect()))
    }
}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The result of an attempt of a subtest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status")]
pub enum Verdict {
    /// It passed, and the kernel reported no problem.
    Passed,
    /// It failed, or the kernel reported a problem while it ran.
    Failed {
        /// What failed, in one line.
        reason: String,
    },
    /// It declined to run.
    #[serde(rename = "Not run")]
    NotRun {
        /// The reason that the test gave, in one line.
        reason: String,
    },
    /// It could not be started.
    #[serde(rename = "Failed to run")]
    FailedToRun {
        /// The cause, in one line.
        reason: String,
    },
}

impl Verdict {
    /// The verdict that has this status; `None` if the status is not that of a verdict.
    #[must_use]
    pub fn of(status: Status, reason: Option<String>) -> Option<Self> {
        let reason = reason.unwrap_or_default();
        match status {
            Status::Passed => Some(Self::Passed),
            Status::Failed | Status::Flaky => Some(Self::Failed { reason }),
            Status::NotRun => Some(Self::NotRun { reason }),
            Status::FailedToRun => Some(Self::FailedToRun { reason }),
            Status::InProgress | Status::Unknown => None,
        }
    }

    /// The status to publish.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Passed => Status::Passed,
            Self::Failed { .. } => Status::Failed,
            Self::NotRun { .. } => Status::NotRun,
            Self::FailedToRun { .. } => Status::FailedToRun,
        }
    }

    /// The reason; `None` if it is empty or the subtest passed.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Failed { reason } | Self::NotRun { reason } | Self::FailedToRun { reason } => {
                (!reason.is_empty()).then_some(reason)
            }
        }
    }

    /// Whether it is Failed to run because of an error of the host, recognized by the error number in its reason. Such
    /// a verdict does not depend on the commit.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        matches!(self, Self::FailedToRun { reason } if has_host_error(reason))
    }
}

/// The Linux error numbers that indicate a fault of the host: EIO, EAGAIN, ENOMEM, ENFILE, EMFILE, ENOSPC, EROFS,
/// ESTALE, EDQUOT.
const HOST_ERRORS: [u32; 9] = [5, 11, 12, 23, 24, 28, 30, 116, 122];

/// Whether the text contains one of [`HOST_ERRORS`] in the format of Rust's standard library, which guests and test
/// files do not print.
#[must_use]
pub fn has_host_error(text: &str) -> bool {
    let numbers = text.split("(os error ").skip(1).filter_map(|rest| rest.split_once(')')?.0.parse().ok());
    numbers.into_iter().any(|number: u32| HOST_ERRORS.contains(&number))
}

/// The number of subtests with each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Passed.
    pub passed: u32,
    /// Failed.
    pub failed: u32,
    /// Not run.
    pub notrun: u32,
    /// Failed to run.
    pub failed_to_run: u32,
    /// In progress.
    pub inprogress: u32,
    /// Unknown.
    pub unknown: u32,
    /// Flaky; not counted as failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flaky: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde requires")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Counts {
    /// The count of one status.
    #[must_use]
    pub fn get(&self, status: Status) -> u32 {
        match status {
            Status::InProgress => self.inprogress,
            Status::Passed => self.passed,
            Status::Failed => self.failed,
            Status::NotRun => self.notrun,
            Status::FailedToRun => self.failed_to_run,
            Status::Unknown => self.unknown,
            Status::Flaky => self.flaky,
        }
    }

    /// The counts that are not zero, most urgent first.
    pub fn by_urgency(&self) -> impl Iterator<Item = (Status, u32)> + use<> {
        let counts = *self;
        let counted = Status::BY_URGENCY.into_iter().map(move |status| (status, counts.get(status)));
        counted.filter(|(_, count)| *count > 0)
    }

    /// The notation of counts in all commands and on all pages: `2 failed, 1 flaky, 57 passed`; `item` formats one count.
    pub fn words_with(&self, item: impl Fn(Status, String) -> String) -> String {
        let word = |(status, count): (Status, u32)| item(status, count_words(status, count));
        let words: Vec<String> = self.by_urgency().map(word).collect();
        if words.is_empty() { "no results".into() } else { words.join(", ") }
    }

    /// Adds a subtest.
    pub fn add(&mut self, status: Status) {
        let count = self.get_mut(status);
        *count = count.saturating_add(1);
    }

    /// Removes a subtest.
    pub fn remove(&mut self, status: Status) {
        let count = self.get_mut(status);
        *count = count.saturating_sub(1);
    }

    fn get_mut(&mut self, status: Status) -> &mut u32 {
        match status {
            Status::InProgress => &mut self.inprogress,
            Status::Passed => &mut self.passed,
            Status::Failed => &mut self.failed,
            Status::NotRun => &mut self.notrun,
            Status::FailedToRun => &mut self.failed_to_run,
            Status::Unknown => &mut self.unknown,
            Status::Flaky => &mut self.flaky,
        }
    }

    /// The sum.
    #[must_use]
    pub fn total(&self) -> u32 {
        Status::ALL.iter().map(|status| self.get(*status)).sum()
    }
}

/// One count: `2 failed`.
#[must_use]
pub fn count_words(status: Status, count: u32) -> String {
    format!("{count} {}", status.label().to_lowercase())
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words_with(|_, words| words))
    }
}

impl FromIterator<Status> for Counts {
    fn from_iter<I: IntoIterator<Item = Status>>(statuses: I) -> Self {
        let mut counts = Self::default();
        for status in statuses {
            counts.add(status);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_enum_order_and_reads_back() {
        for (at, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, at);
            assert_eq!(TABLE[at].0, status);
            assert_eq!(status.label().parse(), Ok(status));
            assert_eq!(status.field().parse(), Ok(status));
        }
        assert!("passed ".parse::<Status>().is_err());
    }

    #[test]
    fn host_errors_are_recognized_by_their_number() {
        for text in [
            "cannot create x: No space left on device (os error 28)",
            "bash: cannot be started: Too many open files (os error 24)",
            "a: No such file or directory (os error 2): Input/output error (os error 5)",
            "Disk quota exceeded (os error 122)",
        ] {
            assert!(Verdict::FailedToRun { reason: text.into() }.is_of_host(), "{text}");
            assert!(!Verdict::Failed { reason: text.into() }.is_of_host(), "{text}");
        }
        for text in [
            "",
            "(os error",
            "(os error )",
            "(os error 2)",
            "no such file",
            "No space left on device",
            "(os error 280)",
        ] {
            assert!(!Verdict::FailedToRun { reason: text.into() }.is_of_host(), "{text}");
        }
    }

    #[test]
    fn verdicts_as_json() {
        let json = serde_json::to_string(&Verdict::NotRun { reason: "no mkfs.xfs".into() }).unwrap();
        assert_eq!(json, r#"{"status":"Not run","reason":"no mkfs.xfs"}"#);
        assert_eq!(serde_json::from_str::<Verdict>(r#"{"status":"Passed"}"#).unwrap(), Verdict::Passed);
    }

    #[test]
    fn counts_have_one_notation() {
        use Status::{Failed, Flaky, NotRun, Passed};
        let counts: Counts = [Passed, Failed, Passed, NotRun, Flaky, Failed].into_iter().collect();
        assert_eq!(counts.to_string(), "2 failed, 1 flaky, 2 passed, 1 not run");
        assert_eq!(Counts::default().to_string(), "no results");
        let all: std::collections::BTreeSet<&str> =
            Status::BY_URGENCY.iter().map(|status| status.label()).collect();
        assert_eq!(all.len(), Status::ALL.len());
    }
}
