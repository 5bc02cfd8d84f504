//! The executor bodies.

pub mod batch;
pub mod command;
mod live;
pub mod place;
pub mod run;
