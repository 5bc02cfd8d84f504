//! Test support: scratch git repositories, results directories, an sshd, a web server, hostile files, a file system that hangs. Used
//! as a dev-dependency only.
//!
//! Nothing here reads the user's configuration. Repositories and results are the same on every host, including the
//! commit ids. Errors panic.

mod configured;
mod file_server;
mod found;
mod hung;
mod pushed;
mod repo;
pub mod results_fixture;
mod sshd;
mod trap;

pub use configured::configured;
pub use file_server::FileServer;
pub use found::found;
pub use hung::HungFileSystem;
pub use pushed::pushed;
pub use repo::ScratchRepo;
pub use sshd::{Sshd, processes};
pub use trap::Trap;
