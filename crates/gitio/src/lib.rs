//! Git repositories: read with gix, fetched and checked out with the git command.
//!
//! Reading starts no process. What goes into a git command line are the types of `model`, which hold no options.

mod checkout;
mod command;
mod error;
mod fetch;
mod repo;
mod walk;

pub use checkout::Checkout;
pub use error::GitError;
pub use fetch::Fetched;
pub use repo::{CommitInfo, Head, Repo};
