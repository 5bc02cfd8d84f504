//! The input of the farm: the configuration, the branches of the remotes, and the subtests of the test files.
//!
//! An input that cannot be read or fetched keeps its last good state, and the status snapshot contains the error.

pub mod branches;
pub mod fetch_loop;
pub mod hook;
pub mod listing;
pub mod local;
mod owners;
mod schedule;
pub mod settings;
pub mod suites;
