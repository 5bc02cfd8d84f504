//! Reads the results of a commit from the files `<sha>/<key>/{status,duration}` if its blob is missing or damaged. They
//! contain only statuses and whole seconds; reasons, hosts and kernels are only in blobs.

use model::marker::status_of_file;
use model::{CommitId, ResultKey, Status};

use crate::error::Result;
use crate::files;
use crate::layout::Layout;
use crate::types::{CommitResults, TestEntry, duration, one_line};

/// The size limit of a status file, which contains one line.
const STATUS_MAX: u64 = 8192;

/// The results of a commit; `None` if it has no directory.
pub fn read(layout: &Layout, commit: &CommitId) -> Result<Option<CommitResults>> {
    let dir = layout.commit(commit);
    if !dir.is_dir() {
        return Ok(None);
    }
    let mut entries = Vec::new();
    for name in files::names(&dir)? {
        if let Ok(key) = name.parse::<ResultKey>() {
            entries.extend(read_test(layout, commit, key)?);
        }
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Some(CommitResults { commit: commit.clone(), message: String::new(), entries }))
}

/// The result of a test; `None` without a status file.
pub fn read_test(layout: &Layout, commit: &CommitId, key: ResultKey) -> Result<Option<TestEntry>> {
    let dir = layout.test(commit, &key);
    let Some(text) = files::read_text(&dir.join("status"), STATUS_MAX)? else { return Ok(None) };
    let mut entry = TestEntry::new(key, status_of_file(&text));
    if entry.decisive.status == Status::NotRun {
        entry.decisive.reason = text.split_once(": ").and_then(|(_, reason)| one_line(reason));
    }
    let seconds = files::read_text(&dir.join("duration"), 64)?;
    entry.decisive.duration = duration(0, seconds.and_then(|text| text.trim().parse().ok()).unwrap_or(0));
    Ok(Some(entry))
}
