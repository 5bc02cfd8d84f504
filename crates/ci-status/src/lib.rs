//! `ci-status`: queries CI results from a terminal.
//!
//! Each command is a function from a [`Context`] to plain data that prints itself as text or as JSON; [`cli`] parses,
//! connects and prints. The output does not depend on whether the results are in a directory or on a dashboard. Nothing
//! here writes results.

mod args;
pub mod backend;
pub mod cli;
pub mod commands;
mod context;
mod excerpt;
mod log_colors;
mod problem;
mod screen;
mod select;
mod text;

pub use context::{Context, ResultsLocation};
pub use problem::Problem;
