//! Git repositories: read with gix; fetched, pushed and checked out with the git command.
//!
//! Only this crate starts git. Reading starts no process. Command lines are built from types of `model`, which cannot
//! contain options.

mod changes;
mod checkout;
mod clone;
mod command;
mod commit_object;
mod error;
mod fetch;
mod merge;
mod own_ref;
mod patch_id;
mod push;
mod range_diff;
mod repo;
mod revision;
mod size;
mod tree;
mod walk;

pub use changes::{ChangeKind, TreeChange};
pub use checkout::Checkout;
pub use clone::{clone_public, is_public};
pub use error::GitError;
pub use fetch::Fetched;
pub use push::SshRemote;
pub use range_diff::{CommitRange, RangePair};
pub use repo::{CommitInfo, Head, Repo};
pub use revision::{Revision, RevisionError};
