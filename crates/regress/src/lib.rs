//! Regressions: what changed between two commits, the first bad commit of a test, and suspicious passes.
//!
//! Pure functions over results that the caller has read: no clock, no I/O. The dashboard and `ci-status` present these
//! values, so a page, a table and its JSON always agree.

pub mod activity;
pub mod branch_history;
pub mod builds;
pub mod compare;
pub mod configurations;
mod configurations_json;
mod control;
pub mod crash_groups;
pub mod eta;
pub mod excerpt;
pub mod findings;
pub mod first_bad;
pub mod fix;
pub mod json;
pub mod range_diff;
pub mod request;
mod statuses;
pub mod suspicious;

pub use control::controls;
pub use statuses::{CommitStatuses, Lookup, Names};
