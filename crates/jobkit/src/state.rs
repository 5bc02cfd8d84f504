//! The states of jobs and executors and the ways between them. The diagrams of the README are checked against this.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for an executor.
    Pending,
    /// It is in a batch.
    Running,
    /// The executor said that it is done.
    Done,
    /// It failed too often for infrastructure reasons.
    Abandoned,
    /// It was cancelled, or the Choir shut down before it was done.
    Cancelled,
    /// It was taken back by whoever submitted it.
    Removed,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::Done, Self::Abandoned, Self::Cancelled, Self::Removed];

    /// All the ways from one to another.
    pub const WAYS: [(Self, Self); 7] = [
        (Self::Pending, Self::Running),
        (Self::Pending, Self::Cancelled),
        (Self::Pending, Self::Removed),
        (Self::Running, Self::Done),
        (Self::Running, Self::Pending),
        (Self::Running, Self::Abandoned),
        (Self::Running, Self::Cancelled),
    ];

    /// Whether there is a way to `next`.
    #[must_use]
    pub fn leads_to(self, next: Self) -> bool {
        Self::WAYS.contains(&(self, next))
    }

    /// Whether the job is over.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// Where an executor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExecutorState {
    /// It could take a batch.
    #[serde(rename = "idle")]
    Idle,
    /// It has a batch.
    #[serde(rename = "busy")]
    Busy,
    /// Its last batch failed for infrastructure reasons; it rests for a while.
    #[serde(rename = "backing off")]
    BackingOff,
    /// Too many batches failed in a row; it rests for long and then gets one batch on probation.
    #[serde(rename = "quarantined")]
    Quarantined,
}

impl ExecutorState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Busy, Self::BackingOff, Self::Quarantined];

    /// All the ways from one to another.
    pub const WAYS: [(Self, Self); 8] = [
        (Self::Idle, Self::Busy),
        (Self::Busy, Self::Idle),
        (Self::Busy, Self::BackingOff),
        (Self::Busy, Self::Quarantined),
        (Self::BackingOff, Self::Idle),
        (Self::Quarantined, Self::Idle),
        (Self::Idle, Self::Quarantined),
        (Self::BackingOff, Self::Quarantined),
    ];

    /// Whether there is a way to `next`.
    #[must_use]
    pub fn leads_to(self, next: Self) -> bool {
        Self::WAYS.contains(&(self, next))
    }

    /// The spelling for people and JSON: `backing off`.
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
