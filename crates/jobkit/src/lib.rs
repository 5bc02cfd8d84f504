//! A scheduler that assigns jobs to executors: batches, weighted fair share, executor health.
//!
//! [`core::Scheduler`] makes the decisions: synchronous code over plain data, with the time as an argument. [`Choir`] is the
//! async shell around it: executors are async functions that claim batches. Each submitted job ends exactly once; see
//! [`Outcome`].
#![doc = include_str!("../README.md")]

mod batch;
mod choir;
mod choir_state;
mod config;
pub mod core;
mod handles;
mod log;
mod needs;
mod shared;
mod shutdown;
mod spec;
mod state;

pub use batch::{Batch, Executor};
pub use choir::Choir;
pub use config::{ChoirConfig, HealthConfig, LogConfig};
pub use core::{
    BatchId, BatchStatus, ChoirStatus, EndCounts, ExecutorStatus, GroupStatus, JobId, JobStatus, Outcome,
    Shutdown, Unplaceable,
};
pub use handles::{Cancellation, ChoirError, End, Job, PendingJob};
pub use log::ExecutorLog;
pub use needs::{Needs, Requirement};
pub use spec::{ExecutorSpec, JobSpec};
pub use state::{ExecutorState, JobState};
