//! What a Choir says about itself: plain data to be serialised. Pending jobs appear as counts only.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::core::{BatchId, JobId};
use crate::state::ExecutorState;

/// A snapshot of a Choir. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChoirStatus {
    /// Whether it takes on work: not after a shutdown began.
    pub accepting: bool,
    /// How many jobs wait.
    pub pending: usize,
    /// How many jobs are in batches.
    pub running: usize,
    /// How jobs ended so far.
    pub ended: EndCounts,
    /// The groups that have jobs or a share used up lately.
    pub groups: BTreeMap<String, GroupStatus>,
    /// The executors, by name.
    pub executors: Vec<ExecutorStatus>,
    /// Pending jobs that no executor can take as things are.
    pub unplaceable: Vec<Unplaceable>,
}

/// How jobs ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EndCounts {
    /// Done.
    pub done: u64,
    /// Given up after too many infrastructure errors.
    pub abandoned: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Taken back.
    pub removed: u64,
}

impl EndCounts {
    /// All of them together.
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
    /// Jobs that wait.
    pub pending: usize,
    /// Jobs in batches.
    pub running: usize,
}

/// An executor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExecutorStatus {
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Where it stands.
    pub state: ExecutorState,
    /// Since when.
    pub since: i64,
    /// When it may take a batch again, while it rests.
    pub rests_until: Option<i64>,
    /// What it runs.
    pub batch: Option<BatchStatus>,
    /// Infrastructure failures in a row.
    pub failures: u32,
    /// Whether its next batch decides between health and another quarantine.
    pub on_probation: bool,
    /// Whether it takes no further batch.
    pub leaving: bool,
    /// The last infrastructure error, until a batch ends well.
    pub problem: Option<String>,
    /// Its log.
    pub log: Option<String>,
}

/// A batch in an executor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchStatus {
    /// Its number.
    pub id: BatchId,
    /// What its jobs share.
    pub key: String,
    /// The group of its jobs.
    pub group: String,
    /// The jobs that have not ended, in order.
    pub jobs: Vec<JobStatus>,
    /// How many are done.
    pub done: usize,
    /// When it was claimed.
    pub since: i64,
}

/// A job in a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobStatus {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Whether its cancellation was asked for.
    pub cancelling: bool,
}

/// Pending jobs that nobody can take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unplaceable {
    /// What they need.
    pub needs: String,
    /// How many they are.
    pub pending: usize,
}
