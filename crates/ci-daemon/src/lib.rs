//! The farm's daemon: watches branches, plans, drives the executors, writes results.
//!
//! `scout` finds out what is wanted, `plan` says what runs next, `window` keeps the scheduler filled with it,
//! `executor` runs it, `daemon` ties them together. A verdict counts once it is durable, and only then.

pub mod again;
pub mod ballast;
pub mod cli;
pub mod clock;
pub mod daemon;
pub mod executor;
pub mod farm;
pub mod forget;
pub mod hook;
pub mod listing;
pub mod plan;
pub mod preview;
pub mod progress;
pub mod requests;
pub mod retention;
pub mod scout;
pub mod service;
pub mod settings;
pub mod simulate;
pub mod snapshot;
pub mod wants;
pub mod watch;
pub mod window;

/// The daemon's own folder below the output directory: listings, and what runs leave until it is published.
const WORK: &str = "ci-daemon-work";
/// The executors' logs, below the output directory.
pub const LOGS: &str = "ci-daemon-logs";
