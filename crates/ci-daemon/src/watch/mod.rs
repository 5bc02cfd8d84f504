//! The input of the farm: the configuration, the branches at their remotes, the subtests of the test files.
//!
//! Whatever cannot be read or fetched keeps its last good state and becomes a problem to show.

pub mod branches;
pub mod fetch_loop;
pub mod hook;
pub mod listing;
pub mod settings;
