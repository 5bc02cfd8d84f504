//! The states of jobs and executors, and their transitions. A test compares them with the diagrams in the README.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for an executor.
    Pending,
    /// In a batch.
    Running,
    /// Reported as done by its executor.
    Done,
    /// Given up after too many infrastructure errors.
    Abandoned,
    /// Cancelled, or not done when the Choir shut down.
    Cancelled,
    /// Removed from the queue by the submitter.
    Removed,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::Done, Self::Abandoned, Self::Cancelled, Self::Removed];

    /// All transitions.
    pub const TRANSITIONS: [(Self, Self); 7] = [
        (Self::Pending, Self::Running),
        (Self::Pending, Self::Cancelled),
        (Self::Pending, Self::Removed),
        (Self::Running, Self::Done),
        (Self::Running, Self::Pending),
        (Self::Running, Self::Abandoned),
        (Self::Running, Self::Cancelled),
    ];

    /// Whether the transition to `next` exists.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        Self::TRANSITIONS.contains(&(self, next))
    }

    /// Whether the job has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// The state of an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExecutorState {
    /// Without a batch.
    #[serde(rename = "idle")]
    Idle,
    /// With a batch.
    #[serde(rename = "busy")]
    Busy,
    /// Paused after an infrastructure error.
    #[serde(rename = "backing off")]
    BackingOff,
    /// Paused longer after several consecutive errors, then on probation for one batch.
    #[serde(rename = "quarantined")]
    Quarantined,
}

impl ExecutorState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Busy, Self::BackingOff, Self::Quarantined];

    /// All transitions.
    pub const TRANSITIONS: [(Self, Self); 8] = [
        (Self::Idle, Self::Busy),
        (Self::Busy, Self::Idle),
        (Self::Busy, Self::BackingOff),
        (Self::Busy, Self::Quarantined),
        (Self::BackingOff, Self::Idle),
        (Self::Quarantined, Self::Idle),
        (Self::Idle, Self::Quarantined),
        (Self::BackingOff, Self::Quarantined),
    ];

    /// Whether the transition to `next` exists.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        Self::TRANSITIONS.contains(&(self, next))
    }

    /// The name in texts and JSON: `backing off`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::BackingOff => "backing off",
            Self::Quarantined => "quarantined",
        }
    }
}

impl fmt::Display for ExecutorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}
