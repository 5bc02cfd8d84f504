//! The executor bodies.

pub mod batch;
pub mod command;
pub mod lines;
pub mod run;
