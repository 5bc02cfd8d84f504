//! Runs on other machines, over ssh or as Slurm jobs. Implements both ends.
//!
//! The local side of a run is a process that behaves like `ktest run --events`: it prints the same events and writes
//! the same files to its output directory. When it exits, everything that it started on the other machine exits soon
//! after.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod backoff;
pub mod check;
mod error;
pub mod frame;
pub mod kernels;
pub mod link;
mod mirror;
mod output_dir;
mod pack;
pub mod run;
pub mod serve;
mod slot;
pub mod slurm;
pub mod target;
mod tests_tree;
pub mod transfer;

pub use error::{ConnectError, HostError, LocalError};
