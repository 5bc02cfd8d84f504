//! The result store: a database from which one blob per commit is published, and brotli-compressed logs.
//!
//! One [`Writer`] owns a results directory; any number of [`Reader`]s, in any process, read it at the same time.
//! Published files are replaced by rename, so a reader sees either the old or the new file, never a mix.
//! `docs/formats.md` describes the files; no other crate depends on their layout.

pub mod bisections;
pub mod branch_file;
pub mod claims;
pub mod codec;
mod db;
mod directory;
pub mod disk;
mod durations;
mod error;
mod files;
pub mod findings;
mod flaky;
mod history;
mod import;
mod journal;
#[rustfmt::skip]
#[expect(clippy::all, clippy::pedantic, clippy::restriction)]
mod generated;
pub mod json;
pub mod layout;
mod logs;
pub mod notes;
pub mod owners;
mod pack_header;
mod packs;
mod peek;
pub mod pushes;
mod reader;
mod records;
pub mod requests;
pub mod retention;
mod segment;
mod state;
mod tree;
mod types;
mod verdicts;
mod writer;

pub use db::backup;
pub use error::{Error, Result};
pub use flaky::{FlakyEntry, flaky_in};
pub use history::Statuses;
pub use import::Imported;
pub use journal::checked_line;
pub use layout::LogKind;
pub use logs::Log;
pub use packs::PackedFile;
pub use reader::{PREFIX_MIN, Reader, Resolved};
pub use segment::{Recovery, inspect_segment};
pub use tree::{Exported, export_tree, status_text};
pub use types::{
    Attempt, Authorship, BranchEntry, CommitDetails, CommitResults, CrashEntry, HistoryEntry, RecentRun,
    Recorded, Summary, TEXT_MAX, TestDuration, TestEntry, TestParts, VerdictRecord, sources,
};
pub use verdicts::{KeyId, VerdictSet};
pub use writer::{Opened, PlainFile, Tuning, Writer};
