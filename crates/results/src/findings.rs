//! The findings of the farm, as recorded: the stream, what each sender was sent, and what people said of them.

use std::fmt;

use model::{BranchRef, CommitId, Finding};

use crate::db;
use crate::reader::Reader;

/// The name under which [`crate::notes::Note::Findings`] records the state of the farm: that of a branch has a slash.
pub const FARM: &str = "farm";

/// A finding with its place in the stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RecordedFinding {
    /// Its number: findings have increasing numbers.
    pub n: i64,
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// What people said of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// What somebody said of a finding.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// The meaning.
    #[serde(flatten)]
    pub what: MarkKind,
    /// When, in Unix seconds.
    pub at: i64,
    /// The address or the account.
    pub account: String,
}

/// The meaning of a mark.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "what", content = "value")]
pub enum MarkKind {
    /// The commit with this title fixes it.
    Fix(String),
    /// It is the finding with this id.
    Dup(String),
    /// It is no fault of the kernel.
    Invalid,
    /// The test is flaky.
    Flaky,
    /// Nothing is sent about it until this time, in Unix seconds.
    Mute(i64),
}

impl MarkKind {
    /// The word in the database.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fix(_) => "fix",
            Self::Dup(_) => "dup",
            Self::Invalid => "invalid",
            Self::Flaky => "flaky",
            Self::Mute(_) => "mute",
        }
    }

    pub(crate) fn value(&self) -> Option<String> {
        match self {
            Self::Fix(title) => Some(title.clone()),
            Self::Dup(id) => Some(id.clone()),
            Self::Invalid | Self::Flaky => None,
            Self::Mute(until) => Some(until.to_string()),
        }
    }

    pub(crate) fn parse(word: &str, value: Option<String>) -> Option<Self> {
        Some(match (word, value) {
            ("fix", Some(title)) => Self::Fix(title),
            ("dup", Some(id)) => Self::Dup(id),
            ("invalid", _) => Self::Invalid,
            ("flaky", _) => Self::Flaky,
            ("mute", Some(until)) => Self::Mute(until.parse().ok()?),
            _ => return None,
        })
    }

    /// Whether nothing is sent about the finding. `now` in Unix seconds.
    #[must_use]
    pub fn silences(&self, now: i64) -> bool {
        match self {
            Self::Fix(_) => false,
            Self::Dup(_) | Self::Invalid | Self::Flaky => true,
            Self::Mute(until) => now < *until,
        }
    }
}

/// `fix: ext4: check the length`.
impl fmt::Display for MarkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fix(value) | Self::Dup(value) => write!(f, "{}: {value}", self.word()),
            Self::Mute(_) | Self::Invalid | Self::Flaky => f.write_str(self.word()),
        }
    }
}

/// What a sender has done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SenderState {
    /// The name in the configuration.
    pub name: String,
    /// The number of the newest finding that it has handled: sent, or left out by its rules.
    pub handled: i64,
    /// When that changed, in Unix seconds.
    pub at: i64,
    /// Why the next finding is not sent yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which findings to read.
#[derive(Debug, Clone, Default)]
pub struct FindingQuery<'a> {
    /// Only those of this branch.
    pub branch: Option<&'a BranchRef>,
    /// Only those with a greater number.
    pub after: i64,
    /// Only those with a smaller number.
    pub before: Option<i64>,
    /// At most this many.
    pub most: usize,
    /// Oldest first.
    pub oldest_first: bool,
}

impl Reader {
    /// Findings, the newest first if not asked otherwise. Reads the database; without one, there are none.
    #[must_use]
    pub fn findings(&self, query: &FindingQuery<'_>) -> Vec<RecordedFinding> {
        self.database.query(|connection| db::findings::read(connection, query)).unwrap_or_default()
    }

    /// Whether a daemon records findings in this directory.
    #[must_use]
    pub fn has_findings(&self) -> bool {
        self.finding_state(FARM).flatten().is_some()
    }

    /// The finding with this id, or with the only id that begins so.
    #[must_use]
    pub fn finding(&self, id: &str) -> Option<RecordedFinding> {
        self.database.query(|connection| db::findings::find(connection, id)).flatten()
    }

    /// The findings at a commit.
    #[must_use]
    pub fn findings_at(&self, commit: &CommitId) -> Vec<RecordedFinding> {
        self.database.query(|connection| db::findings::at(connection, commit)).unwrap_or_default()
    }

    /// What is known of a branch, as recorded with [`crate::notes::Note::Findings`]; the inner `None` if nothing is recorded. `None` if it
    /// cannot be read.
    #[must_use]
    pub fn finding_state(&self, branch: &str) -> Option<Option<String>> {
        self.database.query(|connection| db::findings::state(connection, branch))
    }

    /// The senders that have handled a finding.
    #[must_use]
    pub fn senders(&self) -> Vec<SenderState> {
        self.database.query(db::findings::senders).unwrap_or_default()
    }

    /// How far a sender is: the inner `None` if it has handled nothing yet. `None` if it cannot be read.
    #[must_use]
    pub fn sender(&self, name: &str) -> Option<Option<SenderState>> {
        let senders = self.database.query(db::findings::senders)?;
        Some(senders.into_iter().find(|state| state.name == name))
    }

    /// The number of the newest finding, 0 without one; `None` if it cannot be read.
    #[must_use]
    pub fn newest_finding(&self) -> Option<i64> {
        self.database.query(db::findings::newest)
    }

    /// When a sender sent something since this time, in Unix seconds.
    #[must_use]
    pub fn sent_since(&self, sender: &str, since: i64) -> u32 {
        self.database.query(|connection| db::findings::sent_since(connection, sender, since)).unwrap_or(0)
    }

    /// Whether a sender sent the finding with this number.
    #[must_use]
    pub fn was_sent(&self, sender: &str, n: i64) -> bool {
        self.database.query(|connection| db::findings::was_sent(connection, sender, n)).unwrap_or(false)
    }
}
