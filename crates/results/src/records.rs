//! Records of long requests: one JSON file per record in a directory of its own. ci-daemon writes them, and continues from them
//! after a restart. Others only read them.

use std::path::Path;

use fsx::publish::Durability;
use model::ResultKey;
use serde::de::DeserializeOwned;

/// The size limit of a record in bytes.
const SIZE_MAX: u64 = 16 << 20;
/// The maximum number of records that are read.
const FILES_MAX: usize = 10_000;
/// The maximum length of an id.
pub(crate) const ID_MAX: usize = 100;

/// The end of the ids of a test.
pub(crate) fn id_end(test: &ResultKey) -> String {
    // FNV-1a: the id is the same on all machines and in all versions.
    let hash = test.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("-{:08x}", hash >> 32)
}

/// Whether the text can be an id, which is a file name.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.len() <= ID_MAX && text.bytes().all(allowed)
}

/// Writes a record. A reader sees the previous or the new one.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), fsx::Error> {
    if let Some(directory) = path.parent() {
        fsx::own::create_dir_all(directory)?;
    }
    fsx::publish::file(path, text, Durability::Synced)
}

/// Reads a record; `None` if there is none. The error is one line.
pub(crate) fn read<T: DeserializeOwned>(
    path: &Path,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<Option<T>, String> {
    let problem = |reason: &dyn std::fmt::Display| format!("{}: not read: {reason}", path.display());
    let text = match fsx::own::read_to_string(path, SIZE_MAX) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(problem(&error)),
    };
    let record: T = serde_json::from_str(&text).map_err(|error| problem(&error))?;
    check(&record).map_err(|error| problem(&error))?;
    Ok(Some(record))
}

/// The records of a directory with a wanted id, in any order, and the problems of those that cannot be read. The first record creates the
/// directory.
pub(crate) fn list<T>(
    directory: &Path,
    is_wanted: impl Fn(&str) -> bool,
    read: impl Fn(&str) -> Result<Option<T>, String>,
) -> (Vec<T>, Vec<String>) {
    list_newest(directory, FILES_MAX, is_wanted, read)
}

/// The same of at most `max` records: those that were written last.
pub(crate) fn list_newest<T>(
    directory: &Path,
    max: usize,
    is_wanted: impl Fn(&str) -> bool,
    read: impl Fn(&str) -> Result<Option<T>, String>,
) -> (Vec<T>, Vec<String>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let entries = match fsx::own::list(directory) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => {
            problems.push(error.to_string());
            Vec::new()
        }
    };
    let names = entries.iter().filter(|entry| entry.path.extension().is_some_and(|ending| ending == "json"));
    let mut paths: Vec<&Path> = names.map(|entry| entry.path.as_path()).collect();
    if paths.len() > max {
        let written = |path: &&Path| path.symlink_metadata().and_then(|data| data.modified()).ok();
        paths.sort_by_cached_key(|path| std::cmp::Reverse(written(path)));
    }
    let ids = paths.into_iter().filter_map(|path| path.file_stem()?.to_str()).filter(|id| is_wanted(id));
    for id in ids.take(max) {
        match read(id) {
            Ok(record) => found.extend(record),
            Err(problem) => problems.push(problem),
        }
    }
    (found, problems)
}
