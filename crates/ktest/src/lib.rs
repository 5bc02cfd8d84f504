//! The test runner: evaluates a `.ktest` file, gets its kernel, boots it, and gives each subtest a verdict.
//!
//! A farm and a laptop run the same `ktest run`. Everything it finds is reported as events (`model::event`).

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod access;
pub mod cli;
pub mod doctor;
pub mod live;
pub mod out;
pub mod pack;
pub mod report;
pub mod run;
