//! The daemon of the farm: fetches branches, plans, runs executors, publishes results.
//!
//! `watch` fetches, `plan` orders the jobs, `farm` decides what happens next, `executor` runs batches, `publisher` writes,
//! `report` shows; `daemon` wires them together. A verdict counts when it is durable, not before.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod audit;
pub mod cli;
pub mod daemon;
pub mod executor;
pub mod farm;
pub mod plan;
pub mod publisher;
mod quota;
pub mod report;
pub mod requests;
pub mod reserve_file;
pub mod retention;
pub mod service;
pub mod unlist;
pub mod watch;

/// The daemon's own folder below the output directory: listings, and the files of runs until they are published.
const WORK: &str = "ci-daemon-work";
/// The executors' logs, below the output directory.
pub const LOGS: &str = "ci-daemon-logs";
