//! Generated from `schema/` by `cargo run -p results --example generate`. A test compares it; do not edit.

pub mod branch_log_capnp;
pub mod durations_capnp;
pub mod test_results_capnp;
