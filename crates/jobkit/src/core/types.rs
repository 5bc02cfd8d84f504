//! The numbers, orders and answers that pass in and out of the scheduler.

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
    /// A job; numbers rise in order of submission and are not used again.
    pub JobId
}
number! {
    /// A batch; numbers rise in order of claiming and are not used again.
    pub BatchId
}
number! {
    /// An executor; one that is removed and added again has a new number.
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

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Its executor said that it is done.
    Done,
    /// It failed too often for infrastructure reasons.
    Abandoned {
        /// One line: how often, where last, why.
        reason: String,
    },
    /// It was cancelled, or the Choir shut down before it was done.
    Cancelled,
    /// It was taken back while it was pending.
    Removed,
}

/// How to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Batches that run may end; pending jobs are cancelled.
    Drain,
    /// Batches that run are cancelled too.
    Abort,
}

/// How a batch ends. Its jobs that are done are done in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEnd {
    /// Nothing is left to be said. Jobs that are neither done nor cancelled make it an infrastructure error.
    Finished,
    /// The unfinished jobs go back to the queue; nobody is to blame.
    PutBack,
    /// Something other than the jobs broke, in one line. The unfinished jobs go back, rather to another host.
    Failed(String),
}

/// A batch that was given to an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who got it.
    pub executor: ExecutorId,
    /// Its number.
    pub batch: BatchId,
    /// What its jobs share.
    pub key: Arc<str>,
    /// The group of its jobs.
    pub group: Arc<str>,
    /// 1, and one more for each infrastructure error its jobs have been through.
    pub attempt: u32,
    /// Its jobs, in order; at least one.
    pub jobs: Vec<JobId>,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Here is a batch.
    Granted(Grant),
    /// Not now. The executor is waiting: an [`Effect::Granted`] or [`Effect::Dismissed`] will follow.
    Waiting,
    /// Never again.
    Gone,
}

/// What happened, to be acted upon by whoever drives the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A waiting executor got a batch.
    Granted(Grant),
    /// A waiting executor will get no batch any more.
    Dismissed(ExecutorId),
    /// All that is unfinished in a batch is to be stopped.
    CancelBatch(BatchId),
    /// A job ended. Exactly one for every job.
    Ended {
        /// Which.
        job: JobId,
        /// How.
        outcome: Outcome,
        /// The executor that had it last, if it was running.
        executor: Option<Arc<str>>,
    },
}
