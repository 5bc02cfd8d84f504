//! The executors: one task per slot, from the claim of a batch to its verdicts.

pub mod batch;
pub mod command;
mod live;
pub mod placement;
pub mod pool;
pub mod remote;
pub mod run;
mod work_file;
