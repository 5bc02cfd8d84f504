//! The test runner: evaluates a `.ktest` file, gets its kernel, boots it, and determines a verdict for each subtest.
//!
//! A farm and a developer use the same `ktest run`. All its results are reported as events (`model::event`).

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod access;
mod bisect;
pub mod cli;
pub mod doctor;
pub mod live;
pub mod out;
pub mod pack;
pub mod report;
pub mod run;
