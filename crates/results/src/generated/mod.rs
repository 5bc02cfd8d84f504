//! What `cargo run -p results --example generate` makes of `schema/`; checked by a test, not edited.

pub mod branch_log_capnp;
pub mod durations_capnp;
pub mod test_results_capnp;
