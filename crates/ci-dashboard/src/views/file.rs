//! Published files: logs as stored, blobs, the status snapshot, artifacts.
//!
//! Paths are built from parsed names only. `fsx` opens every file below the results directory, so that no link leads
//! outside and only regular files are opened.

use std::io;
use std::path::Path;

use fsx::untrusted::{Dir, EntryType, Reason};
use model::{CommitId, ResultKey};

use crate::http::files::{self, Presentation};
use crate::http::{Request, Response, content_type};
use crate::problem::Problem;
use crate::route::{FileRoute, is_artifact_name};

/// The maximum number of artifacts that are listed.
const ARTIFACTS_MAX: usize = 100;
/// A directory with more entries is listed as empty.
const ENTRIES_MAX: u64 = 10_000;

/// Serves the file that a route selects.
pub fn view(output_dir: &Path, file: &FileRoute, request: &Request) -> Result<Response, Problem> {
    let (path, presentation) = locate(file);
    let missing = || Problem::NotFound("no such file".into());
    let opened = Dir::open(output_dir).and_then(|dir| dir.open_published(&path));
    let file = opened.map_err(|error| match &error.reason {
        Reason::Refused(_) => {
            tracing::warn!("{error}");
            missing()
        }
        Reason::Io(io) => match io.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
                missing()
            }
            _ => {
                tracing::error!("{error}");
                Problem::Store
            }
        },
    })?;
    let unreadable = |error| {
        tracing::error!("{path}: cannot be read: {error}");
        Problem::Store
    };
    files::serve(file, presentation, request).map_err(unreadable)
}

/// The path of a file below the results directory, and how it is presented to a browser.
fn locate(file: &FileRoute) -> (String, Presentation) {
    let plain = |content_type| Presentation { content_type, brotli: false, attachment: false };
    match file {
        FileRoute::Commit(sha) => (format!("{sha}.capnp"), plain(content_type::BINARY)),
        FileRoute::Snapshot => (results::layout::SNAPSHOT.into(), plain(content_type::JSON)),
        FileRoute::Result(sha, key, file) => {
            let presentation = Presentation { brotli: file.is_brotli(), ..plain(content_type::TEXT) };
            (format!("{sha}/{key}/{}", file.name()), presentation)
        }
        FileRoute::Artifact(sha, key, name) => {
            let brotli = name.ends_with(".br");
            let text = brotli || [".txt", ".log", "config"].iter().any(|ending| name.ends_with(ending));
            let presentation = if text {
                Presentation { brotli, ..plain(content_type::TEXT) }
            } else {
                Presentation { attachment: true, ..plain(content_type::BINARY) }
            };
            (format!("{sha}/{key}/{name}"), presentation)
        }
    }
}

/// The artifacts of a result with their sizes in bytes, sorted by name.
#[must_use]
pub fn artifacts(output_dir: &Path, sha: &CommitId, key: &ResultKey) -> Vec<(String, u64)> {
    let Ok(dir) = Dir::open(output_dir).and_then(|dir| dir.dir(format!("{sha}/{key}"))) else {
        return Vec::new();
    };
    let Ok(entries) = dir.list(".", ENTRIES_MAX) else { return Vec::new() };
    let mut files: Vec<(String, u64)> = entries
        .into_iter()
        .filter(|entry| entry.entry_type == EntryType::File)
        .filter_map(|entry| {
            let name = entry.name.into_string().ok().filter(|name| is_artifact_name(name))?;
            let data = dir.metadata(&name).ok()??;
            Some((name, data.len))
        })
        .take(ARTIFACTS_MAX)
        .collect();
    files.sort();
    files
}
