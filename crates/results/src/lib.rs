//! The result store: journal, one blob a commit, brotli logs.
//!
//! One [`Writer`] owns a folder of results; any number of [`Reader`]s, in any process, read it meanwhile. What is
//! published is replaced by rename, so a reader sees an old or a new file, never half of one. `docs/formats.md`
//! names the files; nothing outside this crate knows how results lie on disk.

pub mod branch_file;
pub mod codec;
pub mod disk;
mod error;
mod files;
mod folder;
mod history;
mod journal;
#[rustfmt::skip]
#[expect(clippy::all, clippy::pedantic, clippy::restriction)]
mod generated;
pub mod json;
pub mod layout;
mod logs;
mod peek;
mod reader;
pub mod requests;
pub mod retention;
mod segment;
mod state;
mod types;
pub mod vacuity;
mod verdicts;
mod writer;

pub use error::{Error, Result};
pub use history::{Statuses, Summary};
pub use journal::checked_line;
pub use layout::LogKind;
pub use logs::Log;
pub use reader::{PREFIX_MIN, Reader, Resolved};
pub use segment::{Recovery, inspect_segment};
pub use types::{
    Attempt, BranchEntry, CommitResults, HistoryEntry, Recorded, TEXT_MAX, TestDuration, TestEntry,
    VerdictRecord,
};
pub use verdicts::{KeyId, Verdicts};
pub use writer::{Tuning, Writer};
