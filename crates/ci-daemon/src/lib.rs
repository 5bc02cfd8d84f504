//! The daemon of the farm: fetches branches, plans, runs executors, publishes results.
//!
//! `watch` fetches, `plan` orders the jobs, `farm` decides what happens next, `executor` runs batches, `publisher`
//! writes results, `report` displays; `daemon` connects them. A verdict counts only when it is durable.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod audit;
pub mod believe;
pub mod bisect;
mod build_check;
pub mod cli;
pub mod daemon;
pub mod executor;
pub mod farm;
mod findings;
mod inherit;
mod known_failures;
mod log;
mod missing_kernels;
mod past_runs;
mod patches;
pub mod plan;
pub mod publisher;
mod pushes;
mod quota;
pub mod report;
pub mod requests;
pub mod rerun_many;
pub mod reserve_file;
pub mod retention;
mod senders;
pub mod service;
mod soak;
pub mod unlist;
mod upstream;
pub mod watch;

/// The daemon's work directory in the output directory: listings, and the files of runs until they are published.
const WORK: &str = "ci-daemon-work";
/// The directory of the executors' logs in the output directory.
pub const LOGS: &str = "ci-daemon-logs";
