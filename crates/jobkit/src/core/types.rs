//! The types of the scheduler's interface.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $vis:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        $vis struct $name(pub(in crate::core) u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of a job, increasing in order of submission. Never reused.
    pub JobId
}
number! {
    /// The number of a batch, increasing in order of claims. Never reused.
    pub BatchId
}
number! {
    /// The number of an executor. An executor that is added again gets a new number.
    pub ExecutorId
}
macro_rules! readable {
    ($($name:ident),*) => {
        $(impl $name {
            /// As a number, from 1.
            #[must_use]
            pub fn get(self) -> u64 {
                self.0
            }
        })*
    };
}

readable!(JobId, BatchId, ExecutorId);

number! { pub(super) GroupId }
number! { pub(super) ClassId }
number! { pub(super) LaneId }
number! { pub(super) ProfileId }

/// The outcome of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Reported as done by its executor.
    Done,
    /// Given up after too many infrastructure errors.
    Abandoned {
        /// One line: the number of errors, the last executor, its reason.
        reason: String,
    },
    /// Cancelled, or not done when the Choir shut down.
    Cancelled,
    /// Removed from the queue by the submitter.
    Removed,
}

/// The mode of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Running batches can finish; pending jobs are cancelled.
    Drain,
    /// Running batches are cancelled too.
    Abort,
}

/// The end of a batch. It does not affect jobs that are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEnd {
    /// The executor has finished. If jobs are neither done nor cancelled, this is an infrastructure error.
    Finished,
    /// The unfinished jobs return to the queue. This does not count as an error.
    PutBack,
    /// An infrastructure error, in one line. The unfinished jobs return to the queue, preferably for another host.
    Failed(String),
}

/// A batch granted to an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The executor.
    pub executor: ExecutorId,
    /// Its number.
    pub batch: BatchId,
    /// The batch key of its jobs.
    pub key: Arc<str>,
    /// The group of its jobs.
    pub group: Arc<str>,
    /// 1 plus the number of infrastructure errors of its jobs.
    pub attempt: u32,
    /// Its jobs, in order; at least one.
    pub jobs: Vec<JobId>,
}

/// The result of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A batch.
    Granted(Grant),
    /// The executor waits; an [`Effect::Granted`] or [`Effect::Dismissed`] follows.
    Waiting,
    /// The executor no longer gets batches.
    Gone,
}

/// An effect that the caller has to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A batch was granted to a waiting executor.
    Granted(Grant),
    /// A waiting executor no longer gets batches.
    Dismissed(ExecutorId),
    /// Stop the unfinished jobs of a batch.
    CancelBatch(BatchId),
    /// A job ended. Exactly one per job.
    Ended {
        /// The job.
        job: JobId,
        /// Its outcome.
        outcome: Outcome,
        /// The executor of its last batch, if it was running.
        executor: Option<Arc<str>>,
    },
}
