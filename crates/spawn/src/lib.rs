//! Child processes. All other crates start processes with this one.
//!
//! A process is started from a list of arguments, in its own process group. Dropping its handle kills the whole group,
//! and the process is killed when its parent dies. The time and output of a captured process are limited.

mod cgroup;
mod child;
mod cmd;
mod devices;
mod error;
mod guard;
pub mod lines;
mod output;
mod package;
mod unprivileged;

pub use cgroup::{GroupLimits, Groups};
pub use child::Child;
pub use cmd::{Cmd, Stream, quote};
pub use error::SpawnError;
pub use output::{Exit, Limits, Output};
pub use unprivileged::Access;
