//! `ci-status`: the command line over the results.
//!
//! Each command is a function from a [`Source`] to plain data that prints itself as text or as JSON; [`cli`] only
//! parses, wires and prints. Nothing here can write results.

pub mod cli;
pub mod commands;
mod problem;
mod select;
mod source;
mod text;

pub use problem::Problem;
pub use source::Source;
