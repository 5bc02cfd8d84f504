//! A scheduler of jobs onto executors: batches, weighted fair share, executor health.
//!
//! Two layers. [`core::Scheduler`] is the whole of the decisions as synchronous code over plain data, with the time
//! passed in; it can be simulated. [`Choir`] is the async shell around it: executors are async bodies that claim
//! batches. A job that was submitted ends exactly once, whatever its executors do; see [`Outcome`].
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
mod status;

pub use batch::{Batch, Executor};
pub use choir::Choir;
pub use config::{ChoirConfig, HealthConfig, LogConfig};
pub use core::{BatchId, JobId, Outcome, Shutdown};
pub use handles::{Cancellation, ChoirError, End, Job, PendingJob};
pub use log::ExecutorLog;
pub use needs::{Needs, Requirement};
pub use spec::{ExecutorSpec, JobSpec};
pub use state::{ExecutorState, JobState};
pub use status::{BatchStatus, ChoirStatus, EndCounts, ExecutorStatus, GroupStatus, JobStatus, Unplaceable};
