//! The status of a Choir: plain, serializable data. Pending jobs are included as counts only.

use std::collections::BTreeMap;

use serde::Serialize;

use super::types::{BatchId, JobId};
use crate::state::ExecutorState;

/// A snapshot of a Choir. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChoirStatus {
    /// Whether it accepts jobs; false after the start of a shutdown.
    pub accepting: bool,
    /// The number of pending jobs.
    pub pending: usize,
    /// The number of running jobs.
    pub running: usize,
    /// The numbers of jobs that ended.
    pub ended: EndCounts,
    /// The groups with jobs or usage.
    pub groups: BTreeMap<String, GroupStatus>,
    /// The executors, by name.
    pub executors: Vec<ExecutorStatus>,
    /// Pending jobs that no executor can take now.
    pub unplaceable: Vec<Unplaceable>,
}

/// The numbers of jobs that ended, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EndCounts {
    /// Done.
    pub done: u64,
    /// Given up after too many infrastructure errors.
    pub abandoned: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Removed from the queue.
    pub removed: u64,
}

impl EndCounts {
    /// The sum.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.done + self.abandoned + self.cancelled + self.removed
    }
}

/// A fair-share group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GroupStatus {
    /// Its weight.
    pub weight: f64,
    /// Executor time used, decayed, in seconds.
    pub usage: f64,
    /// Pending jobs.
    pub pending: usize,
    /// Running jobs.
    pub running: usize,
}

/// An executor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExecutorStatus {
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its state.
    pub state: ExecutorState,
    /// The time of its last change of state.
    pub since: i64,
    /// The end of its pause, if it is paused.
    pub rests_until: Option<i64>,
    /// Its batch.
    pub batch: Option<BatchStatus>,
    /// Consecutive infrastructure errors.
    pub failures: u32,
    /// Whether an error of its next batch causes another quarantine.
    pub on_probation: bool,
    /// Whether it was removed and no longer takes batches.
    pub leaving: bool,
    /// The last infrastructure error; cleared when a batch succeeds.
    pub problem: Option<String>,
    /// The path of its log.
    pub log: Option<String>,
}

/// The batch of an executor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchStatus {
    /// Its number.
    pub id: BatchId,
    /// The batch key of its jobs.
    pub key: String,
    /// The group of its jobs.
    pub group: String,
    /// The jobs that have not ended, in order.
    pub jobs: Vec<JobStatus>,
    /// The number of jobs that are done.
    pub done: usize,
    /// The time of its claim.
    pub since: i64,
}

/// A job in a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobStatus {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Whether its cancellation was requested.
    pub cancelling: bool,
}

/// Pending jobs that no executor can take, grouped by needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unplaceable {
    /// Their needs.
    pub needs: String,
    /// Their number.
    pub pending: usize,
}
