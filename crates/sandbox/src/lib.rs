//! The sandbox for untrusted code on the host: the only command line of bubblewrap in the programs.
//!
//! It is an allow-list. The sandboxed program sees `/usr`, the files of `/etc` that programs need to start, and the
//! directories that the caller adds. It has no network, no capabilities and no inherited environment, and cannot create
//! user namespaces or set-user-ID files. Everything except a private `/tmp`, `/dev/shm` and the writable directories is read-only.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod builder;
mod escape;
mod probe;
mod resources;
mod seccomp;

pub use builder::{Network, RootEntry, Sandbox, root_entries};
pub use escape::{Attempt, try_to_escape};
pub use probe::{SandboxError, probe, probe_now};
pub use resources::Resources;
