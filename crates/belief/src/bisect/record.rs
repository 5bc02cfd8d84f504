//! The record of a bisection, `bisect/<id>.json`.

use model::{CommitId, HostName, ResultKey};
use serde::{Deserialize, Serialize};

use crate::signature::Signature;
use crate::stats::{FailureRate, Tally};

/// The state of a bisection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// More runs are needed.
    Running,
    /// The first bad commit is found and verified.
    Culprit {
        /// The first bad commit.
        culprit: CommitId,
        /// The newest older commit that was run to verify it.
        parent: CommitId,
        /// The second parent, if the culprit is a merge: the search continues there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        second_parent: Option<CommitId>,
    },
    /// The first bad commit is in a range.
    Range {
        /// The range.
        range: CommitRange,
        /// Why it is not narrowed down.
        because: Limit,
    },
    /// The failure has no culprit: it occurs at one rate since before the base.
    NotConfirmed {
        /// That rate.
        rate: FailureRate,
    },
    /// There is no answer.
    Unresolved {
        /// Why.
        because: Limit,
    },
    /// The user canceled it.
    Cancelled,
}

impl State {
    /// Whether its result is final.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Running)
    }
}

/// Why a bisection ended without a first bad commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The budget of runs is used up.
    Runs,
    /// The budget of builds is used up.
    Builds,
    /// The wall time is over.
    WallTime,
    /// The commits of the range cannot be told apart, because all but the newest do not build.
    DoesNotBuild,
    /// No commit can be run.
    NothingToRun,
    /// The runs of the verification did not confirm it.
    Verification,
}

/// Neighboring suspects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRange {
    /// The oldest commit that may be the culprit.
    pub oldest: CommitId,
    /// The newest one.
    pub newest: CommitId,
    /// The number of commits.
    pub commits: usize,
}

/// Why a commit was run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The verdict was known before the bisection began. It is not counted as a run.
    Known,
    /// It was the run with the largest gain per cost.
    Selected {
        /// The expected gain of information in bits.
        gain_bits: f64,
        /// The cost in seconds.
        cost_s: f64,
    },
    /// To verify the result.
    Verification(Arm),
}

/// What a run of the verification shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The first bad commit fails.
    Culprit,
    /// Its parent does not.
    Parent,
    /// The tip does not fail without the commit.
    Revert,
}

/// Runs of one commit on one host, for one purpose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The commit.
    pub commit: CommitId,
    /// The number of runs, including those without a verdict.
    pub runs: u32,
    /// Failures with the signature.
    pub fails: u32,
    /// Failures with another signature.
    pub other: u32,
    /// Passes.
    pub passes: u32,
    /// The kernel image, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The host, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Why it was run.
    pub why: Why,
}

impl Step {
    /// The runs that are observations.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally::new(self.fails, self.passes)
    }
}

/// The probability of a suspect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// The commit.
    pub commit: CommitId,
    /// The probability that it is the first bad commit.
    pub probability: f64,
}

/// The rates before and after the most probable culprit, as observed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Before.
    pub old: FailureRate,
    /// From the culprit on.
    pub new: FailureRate,
}

/// The runs that verify a result, in fresh VMs on hosts of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// The number of runs of each commit.
    pub runs_each: u32,
    /// The runs of the first bad commit.
    pub culprit: Tally,
    /// The runs of its parent.
    pub parent: Tally,
    /// Fisher's one-sided p.
    pub p: f64,
    /// Whether the result is confirmed: p is at most 0.01, and the signature was seen.
    pub confirmed: bool,
    /// The runs of the tip without the commit, if the revert applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<Tally>,
    /// Whether all of these passed.
    pub revert_fixes: bool,
}

/// The newest commit without the first bad one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revert {
    /// The commit that is reverted.
    pub culprit: CommitId,
    /// The newest commit.
    pub tip: CommitId,
    /// The commit on top of it that reverts the culprit.
    pub commit: CommitId,
}

/// The record of a bisection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The id of the bisection.
    pub id: String,
    /// The test.
    pub test: ResultKey,
    /// The failure.
    pub signature: Signature,
    /// The base.
    pub base: CommitId,
    /// The newest suspect.
    pub head: CommitId,
    /// The state.
    #[serde(flatten)]
    pub state: State,
    /// The most probable suspects, at most 20.
    pub posterior: Vec<Suspicion>,
    /// The probability that no suspect is the culprit.
    pub no_culprit: f64,
    /// The rates before and after the most probable culprit.
    pub rates: Rates,
    /// The attempts at commits before the base.
    #[serde(default)]
    pub earlier: Tally,
    /// What was run, in its order.
    pub steps: Vec<Step>,
    /// The verification, once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// The newest commit without the first bad one, if the revert applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<Revert>,
    /// The searches that found the merges in which this one continues, outermost first. Their first bad commits are the merges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outer: Vec<Record>,
    /// The runs of the search and of the verification.
    pub runs: u32,
    /// The builds.
    pub builds: u32,
    /// The wall time in seconds.
    pub wall_s: f64,
}
