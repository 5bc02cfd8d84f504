//! What a bisection is asked: the test, the signature, the commits, and what runs cost.

use std::time::Duration;

use model::{CommitId, ResultKey};

use crate::signature::Signature;
use crate::stats::Tally;

/// The prior of "no culprit", if the history of the test shows no flakiness.
const NO_CULPRIT: f64 = 0.1;
/// The prior of "no culprit", if it does.
const NO_CULPRIT_FLAKY: f64 = 0.4;
/// The flake rate from which a test counts as flaky for the prior.
const FLAKE_RATE: f64 = 0.02;

/// What is known of the kernel of a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KernelState {
    /// It must be built.
    #[default]
    ToBuild,
    /// It is in a store of the farm: a run needs no build.
    Stored,
    /// It does not build: the commit cannot be run, but may be the culprit.
    DoesNotBuild,
    /// It is the kernel of the parent: the commit cannot be the culprit, and its attempts count for the parent.
    SameAsParent,
}

/// What the change of a commit touches. It decides where the search looks first, never what it concludes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Change {
    /// A file with code that the test ran, according to gcov.
    Covered,
    /// Nothing is known.
    #[default]
    Unknown,
    /// Only files outside the build of the flavor.
    OutsideBuild,
}

impl Change {
    /// What is known of the files that a change touches.
    #[must_use]
    pub fn of(is_covered: bool, is_outside_build: bool) -> Self {
        match (is_covered, is_outside_build) {
            (true, _) => Self::Covered,
            (false, true) => Self::OutsideBuild,
            (false, false) => Self::Unknown,
        }
    }

    /// What is known from two sources. A change that touches code that the test ran is not outside the build.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Covered, _) | (_, Self::Covered) => Self::Covered,
            (Self::OutsideBuild, _) | (_, Self::OutsideBuild) => Self::OutsideBuild,
            (Self::Unknown, Self::Unknown) => Self::Unknown,
        }
    }

    pub(super) fn weight(self) -> f64 {
        match self {
            Self::Covered => 4.0,
            Self::Unknown => 1.0,
            Self::OutsideBuild => 0.25,
        }
    }
}

/// A commit that may be the culprit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// The commit.
    pub commit: CommitId,
    /// Its kernel.
    pub kernel: KernelState,
    /// What it touches.
    pub change: Change,
    /// Whether the test passes at another commit with the same patch.
    pub passes_on_other_base: bool,
    /// The second parent, if it is a merge: the search continues there if the merge is the culprit.
    pub second_parent: Option<CommitId>,
}

impl Suspect {
    /// A commit of which nothing is known.
    #[must_use]
    pub fn new(commit: CommitId) -> Self {
        Self {
            commit,
            kernel: KernelState::default(),
            change: Change::default(),
            passes_on_other_base: false,
            second_parent: None,
        }
    }

    /// How likely it is to be the culprit. It decides where the search looks first, never what it concludes.
    pub(super) fn weight(&self) -> f64 {
        self.change.weight() * if self.passes_on_other_base { 0.5 } else { 1.0 }
    }
}

/// The cost of a run, and of the build of a kernel that no store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// The time of one run.
    pub run: Duration,
    /// The time of one build.
    pub build: Duration,
}

/// The limits of a bisection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The number of runs of the search; those of the verification are not counted.
    pub runs: u32,
    /// The number of builds.
    pub builds: u32,
    /// The wall time, as reported with [`Bisection::elapsed`](super::Bisection::elapsed).
    pub wall: Duration,
}

impl Budget {
    /// 400 runs, 4 log2 n + 8 builds for n suspects, and this wall time.
    #[must_use]
    pub fn usual(suspects: usize, wall: Duration) -> Self {
        let builds = 4.0 * (suspects.max(1) as f64).log2() + 8.0;
        Self { runs: 400, builds: builds.floor() as u32, wall }
    }
}

/// The question of a bisection.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The test.
    pub test: ResultKey,
    /// The failure. Other failures are no observations.
    pub signature: Signature,
    /// The commit before the oldest suspect, and its kernel.
    pub base: Suspect,
    /// The suspects from oldest to newest along first parents. The last one is the head.
    pub suspects: Vec<Suspect>,
    /// The attempts at commits before the base, with failures of this signature: over the last [`COMMITS`](crate::COMMITS)
    /// commits. They are evidence of the rate before the culprit.
    pub earlier: Tally,
    /// What runs cost.
    pub cost: Cost,
    /// When to give up.
    pub budget: Budget,
}

impl Question {
    pub(super) fn no_culprit(&self) -> f64 {
        if self.earlier.rate().mean() > FLAKE_RATE { NO_CULPRIT_FLAKY } else { NO_CULPRIT }
    }
}

/// The question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// There are no suspects.
    #[error("no commits between base and head; the base must be an ancestor of the head")]
    NoSuspects,
    /// A commit is listed twice.
    #[error("commit {0} is listed twice")]
    Duplicate(CommitId),
    /// The base cannot have the kernel of its parent, because the parent is not listed.
    #[error("the kernel of the base {0} cannot be that of its parent")]
    Base(CommitId),
}

/// A commit that is not part of the bisection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("commit {0} is neither the base nor a suspect of this bisection")]
pub struct NotSuspected(pub CommitId);
