//! `ci-status`: the command line over the results.
//!
//! Each command is a function from a [`Source`] to plain data that prints itself as text or as JSON; [`cli`] only
//! parses, wires and prints. A source is a folder or a dashboard, and commands cannot tell which. Nothing here can
//! write results.

mod args;
pub mod cli;
pub mod commands;
mod excerpt;
pub mod origin;
mod problem;
mod screen;
mod select;
mod source;
mod text;

pub use problem::Problem;
pub use source::{Asked, Source};
