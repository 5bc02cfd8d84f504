//! The record of a search in the output directory: `bisect/<id>.json`.

use std::path::{Path, PathBuf};

use belief::Signature;
use belief::bisect::{Record, State};
use fsx::publish::Durability;
use model::{CommitId, ResultKey};

/// The maximum size of a record, in bytes.
const MOST: u64 = 64 << 20;

/// The record of one search.
#[derive(Debug, Clone)]
pub(crate) struct RecordFile {
    id: String,
    path: PathBuf,
}

impl RecordFile {
    /// The record of a search between these commits.
    pub(crate) fn new(out: &Path, base: &CommitId, head: &CommitId) -> Self {
        let id = format!("{}-{}", base.short(), head.short());
        Self { path: out.join("bisect").join(format!("{id}.json")), id }
    }

    /// The id of the search.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The record of an interrupted search for the same failure of the same test; `None` if there is none. A merge as the result may
    /// be followed by the search in its commits.
    pub(crate) fn unfinished(&self, test: &ResultKey, signature: Option<&Signature>) -> Option<Record> {
        let text = fsx::own::read_to_string(&self.path, MOST).ok()?;
        let record: Record = serde_json::from_str(&text).ok()?;
        let same = record.test == *test && signature.is_none_or(|signature| record.signature == *signature);
        let is_open = matches!(record.state, State::Running | State::Culprit { second_parent: Some(_), .. });
        (same && is_open).then_some(record)
    }

    /// Writes it. A reader sees the old or the new record.
    pub(crate) fn write(&self, record: &Record) -> Result<(), fsx::Error> {
        if let Some(dir) = self.path.parent() {
            fsx::own::create_dir_all(dir)?;
        }
        let text = serde_json::to_vec_pretty(record).unwrap_or_default();
        fsx::publish::file(&self.path, text, Durability::Cached)
    }
}
