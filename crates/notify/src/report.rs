//! All that a message says of a finding.

use model::{CommitId, Finding, FindingRate};
use serde::Serialize;

/// A finding with everything that a message says of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// The address of its page; empty if the farm has none.
    pub url: String,
    /// The oldest commit that fails.
    #[serde(rename = "first_bad_commit", skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<CommitInfo>,
    /// The newest older commit that passes.
    #[serde(rename = "last_good_commit", skip_serializing_if = "Option::is_none")]
    pub last_good: Option<CommitInfo>,
    /// The commit at which it shows.
    #[serde(rename = "at_commit", skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitInfo>,
    /// How often the test failed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<FindingRate>,
    /// Other branches on which it fails.
    pub elsewhere: Vec<String>,
    /// The lines of the log that show it.
    pub log: Vec<String>,
    /// The address of the log; empty if the farm has no pages.
    pub log_url: String,
    /// The commands that repeat the test.
    pub reproduce: Vec<String>,
    /// The address of the configuration of the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_url: Option<String>,
    /// The owner of the test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// A commit in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommitInfo {
    /// Its id.
    pub id: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// The name of its author.
    pub author: String,
    /// The mail address of its author.
    pub email: String,
    /// The id of the mail with the patch, without angle brackets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Its address on the web.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}
