//! The result store: journal, one blob a commit, brotli logs.
//!
//! One [`Writer`] owns a folder of results; any number of [`Reader`]s, in any process, read it meanwhile. What is
//! published is replaced by rename, so a reader sees an old or a new file, never half of one. formats.md (`docs/`)
//! names the files; nothing outside this crate knows how results lie on disk.

pub mod branch_file;
pub mod codec;
mod error;
mod files;
mod folder;
#[rustfmt::skip]
#[expect(clippy::all, clippy::pedantic, clippy::restriction)]
mod generated;
pub mod json;
pub mod layout;
mod logs;
mod reader;
mod types;

pub use error::{Error, Result};
pub use layout::LogKind;
pub use logs::Log;
pub use reader::{PREFIX_MIN, Reader, Resolved};
pub use types::{
    Attempt, BranchEntry, CommitResults, HistoryEntry, Recorded, TEXT_MAX, TestDuration, TestEntry,
    VerdictRecord,
};
