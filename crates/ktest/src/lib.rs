//! The test runner: reads a `.ktest` file, gets its kernel, boots it, and gives each subtest a verdict.
//!
//! The farm runs the same `ktest run` as a laptop; whatever it finds out it tells as events (`model::event`).

pub mod access;
pub mod cli;
pub mod doctor;
pub mod live;
pub mod out;
pub mod pack;
pub mod report;
pub mod run;
