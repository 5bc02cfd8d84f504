//! Observations: one attempt, as the questions of this crate see it.

use std::fmt;
use std::time::Duration;

use model::{CommitId, HostName, Status};
use serde::{Deserialize, Serialize};

use crate::signature::Signature;
use crate::stats::Tally;

/// Identifies an experiment: two attempts with equal names ran the same kernel image with the same test in the same environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Experiment(pub String);

/// Hosts of the same class run tests alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostClass(pub String);

impl HostClass {
    /// The class of a host: hosts with names that differ only in numbers are alike (`farm*`).
    #[must_use]
    pub fn of(host: &HostName) -> Self {
        let mut class = String::new();
        for c in host.as_str().chars() {
            match c {
                '0'..='9' if class.ends_with('*') => {}
                '0'..='9' => class.push('*'),
                c => class.push(c),
            }
        }
        Self(class)
    }
}

impl fmt::Display for HostClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The test passed.
    Passed,
    /// The test failed.
    Failed {
        /// Which failure it was.
        signature: Signature,
    },
    /// Not run, Failed to run, or an infrastructure error: it is no evidence.
    NoVerdict,
}

impl Outcome {
    /// The outcome of an attempt with this status, reason and crash title.
    #[must_use]
    pub fn of(status: Status, reason: Option<&str>, crash: Option<&str>) -> Self {
        match status {
            Status::Passed => Self::Passed,
            Status::Failed => Self::Failed { signature: Signature::new(crash, reason.unwrap_or("")) },
            _ => Self::NoVerdict,
        }
    }

    /// The outcome as a tally of one; `None` without a verdict.
    #[must_use]
    pub fn tally(&self) -> Option<Tally> {
        match self {
            Self::Passed => Some(Tally::new(0, 1)),
            Self::Failed { .. } => Some(Tally::new(1, 0)),
            Self::NoVerdict => None,
        }
    }

    /// The signature of a failure.
    #[must_use]
    pub fn signature(&self) -> Option<&Signature> {
        match self {
            Self::Failed { signature } => Some(signature),
            Self::Passed | Self::NoVerdict => None,
        }
    }
}

/// One attempt of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The commit that was tested.
    pub commit: CommitId,
    /// The commit at which it ran, if `commit` inherits it.
    pub ran_at: Option<CommitId>,
    /// The experiment.
    pub experiment: Experiment,
    /// The outcome.
    pub outcome: Outcome,
    /// How long the subtest ran.
    pub duration: Duration,
    /// Whether it ran until its time limit: then the duration is not the time at which it failed.
    pub timed_out: bool,
    /// The host it ran on.
    pub host: HostName,
    /// The class of that host.
    pub host_class: HostClass,
    /// Whether nothing else of the farm ran on that host, if it is known.
    pub alone: Option<bool>,
    /// The end of the attempt, in ms since the epoch.
    pub at_ms: u64,
}
