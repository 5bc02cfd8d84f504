//! The commits of a branch with the builds of their kernels, as JSON.

use model::{BuiltKernel, CommitId, Counts};
use serde::{Deserialize, Serialize};

use crate::types::{Authorship, BranchEntry, duration, millis_of};

/// A commit of a branch. The view of a branch is a list of these, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRow {
    /// The full commit id.
    pub commit: String,
    /// Its message.
    pub message: String,
    /// The number of tests by status.
    #[serde(flatten)]
    pub counts: Counts,
    /// The sum of the durations of all tests in s.
    pub duration: u64,
    /// The same in ms; 0 if only seconds are known.
    #[serde(default)]
    pub duration_ms: u64,
    /// Its author and date.
    #[serde(flatten)]
    pub authorship: Authorship,
    /// The kernels that do not build, or build again; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildRow>,
}

impl CommitRow {
    /// Converts to the plain type; `None` if the commit id is not valid.
    #[must_use]
    pub fn entry(self) -> Option<BranchEntry> {
        Some(BranchEntry {
            commit: self.commit.parse().ok()?,
            message: self.message,
            authorship: self.authorship,
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
            authorship: entry.authorship.clone(),
            build: None,
        }
    }
}

/// The builds of a commit. The tests that did not run because of them are also in the counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRow {
    /// What does not build: `build`, `build of aarch64 kasan`; absent if everything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// The kernels that do not build; those of the most tests first.
    #[serde(default)]
    pub failed: Vec<FailedKernelRow>,
    /// The kernels with a build that this commit broke. Only in listings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broke: Vec<BuiltKernel>,
    /// The kernels with a build that this commit fixed. Only in listings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<BuiltKernel>,
}

/// A kernel that does not build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedKernelRow {
    /// The architecture and the flavor; each is absent if the tests select none.
    #[serde(flatten)]
    pub kernel: BuiltKernel,
    /// The first error.
    pub error: String,
    /// The number of tests that did not run because of it.
    pub tests: usize,
    /// One of these tests. Its artifacts have the log of the build.
    pub test: String,
    /// The first commit at which it does not build. Only in listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<CommitId>,
    /// The last commit at which it built. Only in listings, and if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<CommitId>,
}
