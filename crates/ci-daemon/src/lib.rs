//! The farm's daemon: watches branches, plans, drives the executors, writes results.

pub mod executor;
pub mod listing;
pub mod plan;
pub mod settings;
pub mod snapshot;
pub mod watch;
pub mod window;
