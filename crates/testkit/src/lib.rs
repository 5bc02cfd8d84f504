//! What the tests share: scratch git repositories, result directories.
//!
//! Nothing here reads the configuration of whoever runs the tests; what it makes is the same on every machine, down
//! to the commit ids. Being for tests, it panics where something cannot be made.

mod repo;
pub mod results_fixture;
mod sshd;

pub use repo::ScratchRepo;
pub use sshd::{Sshd, processes};
