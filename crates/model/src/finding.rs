//! Findings: what changed on a branch, as it is recorded and sent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::branch::BranchRef;
use crate::names::{CommitId, NameError, ResultKey, bad};

/// The maximum number of tests that a finding names.
pub const FINDING_TESTS_MAX: usize = 100;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Tests that passed before fail, confirmed by retries.
    Broke,
    /// They pass again.
    Fixed,
    /// A kernel that was built before does not build.
    BuildBroke,
    /// It builds again.
    BuildFixed,
    /// A test both fails and passes with the same kernel.
    FlakyBegan,
    /// A pass that took far longer than those before it.
    SuspiciousPass,
    /// A bisection named a first bad commit.
    Bisected,
    /// Enough runs passed to believe that a failure is fixed.
    BelievedFixed,
    /// Something of the farm needs an operator.
    Farm,
}

impl FindingKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Broke,
        Self::Fixed,
        Self::BuildBroke,
        Self::BuildFixed,
        Self::FlakyBegan,
        Self::SuspiciousPass,
        Self::Bisected,
        Self::BelievedFixed,
        Self::Farm,
    ];

    /// The name in configurations, JSON and the database: `build_broke`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Broke => "broke",
            Self::Fixed => "fixed",
            Self::BuildBroke => "build_broke",
            Self::BuildFixed => "build_fixed",
            Self::FlakyBegan => "flaky_began",
            Self::SuspiciousPass => "suspicious_pass",
            Self::Bisected => "bisected",
            Self::BelievedFixed => "believed_fixed",
            Self::Farm => "farm",
        }
    }

    /// The kind in words: `broke the build`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Broke => "broke",
            Self::Fixed => "fixed",
            Self::BuildBroke => "broke the build",
            Self::BuildFixed => "fixed the build",
            Self::FlakyBegan => "flaky",
            Self::SuspiciousPass => "suspicious pass",
            Self::Bisected => "first bad commit found",
            Self::BelievedFixed => "fix believed",
            Self::Farm => "farm",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FindingKind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            bad(
                "a kind of finding",
                text,
                "it must be broke, fixed, build_broke, build_fixed, flaky_began, suspicious_pass, bisected, \
                 believed_fixed or farm",
            )
        })
    }
}

/// A failure rate: `3 of 25`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingRate {
    /// The failures.
    pub failed: u32,
    /// The runs.
    pub runs: u32,
}

/// What changed on a branch. One cause is one finding: a crash that ten tests hit since one commit is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its id, from the branch, the kind, the cause and the first bad commit. The same change has the same id again.
    pub id: String,
    /// What changed.
    pub kind: FindingKind,
    /// The branch; `None` for a finding about the farm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<BranchRef>,
    /// The commit at which it shows: the first bad commit, or the first that passes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// The tests, at most [`FINDING_TESTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<ResultKey>,
    /// The number of tests.
    pub tests_total: u32,
    /// The crash title, the reason, the error of the build or the problem of the farm. One line.
    pub signature: String,
    /// The oldest commit that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<CommitId>,
    /// The newest older commit that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<CommitId>,
    /// The rate at which it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<FindingRate>,
    /// When it was found, in Unix seconds.
    pub at: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds() {
        for kind in FindingKind::ALL {
            assert_eq!(kind.name().parse::<FindingKind>().unwrap(), kind);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
        let error = "Broke".parse::<FindingKind>().unwrap_err().to_string();
        assert!(error.contains("believed_fixed"), "{error}");
    }
}
