//! The executor bodies.

pub mod batch;
pub mod command;
pub mod lines;
mod live;
pub mod run;
