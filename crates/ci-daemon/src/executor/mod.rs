//! The executor bodies.

pub mod batch;
