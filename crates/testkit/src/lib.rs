//! Test support: scratch git repositories, result directories, an sshd. Used as a dev-dependency only.
//!
//! Nothing here reads the configuration of the user. Repositories and results are the same on every host, down to the
//! commit ids. Errors panic.

mod repo;
pub mod results_fixture;
mod sshd;

pub use repo::ScratchRepo;
pub use sshd::{Sshd, processes};
