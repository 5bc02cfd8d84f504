//! `ci-status`: query CI results from a terminal.
//!
//! Each command is a function from a [`Context`] to plain data that prints itself as text or as JSON; [`cli`] parses,
//! wires and prints. Commands cannot tell whether the results are in a folder or behind a dashboard. Nothing here
//! writes results.

mod args;
pub mod backend;
pub mod cli;
pub mod commands;
mod context;
mod excerpt;
mod problem;
mod screen;
mod select;
mod text;

pub use context::{Context, ResultsLocation};
pub use problem::Problem;
