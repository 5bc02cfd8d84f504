//! Published files: logs as stored, blobs, the status snapshot, artifacts.
//!
//! Paths are built from parsed names only. Every file is opened below the results' directory with `openat2` and
//! `RESOLVE_BENEATH`, so that no link leads out of it.

use std::fs::File;
use std::path::Path;

use model::{CommitId, ResultKey};
use results::layout::Layout;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::http::files::{self, Presentation};
use crate::http::{Request, Response, content_type};
use crate::problem::Problem;
use crate::route::{FileRoute, is_artifact_name};

/// The most artifacts that are listed.
const ARTIFACTS_MAX: usize = 100;

/// The file that a route names.
pub fn view(output_dir: &Path, file: &FileRoute, request: &Request) -> Result<Response, Problem> {
    let (path, presentation) = locate(file);
    let missing = || Problem::NotFound("no such file".into());
    let file = open_below(output_dir, &path).map_err(|error| match error {
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => missing(),
        Errno::XDEV | Errno::LOOP => {
            tracing::warn!("{path}: not served, a link leads out of the results");
            missing()
        }
        error => {
            tracing::error!("{path}: cannot be opened: {error}");
            Problem::Store
        }
    })?;
    let unreadable = |error| {
        tracing::error!("{path}: cannot be read: {error}");
        Problem::Store
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(missing());
    }
    files::serve(file, presentation, request).map_err(unreadable)
}

/// The path of a file below the results' directory, and how a browser gets it.
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
    let directory = Layout::new(output_dir).test(sha, key);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<(String, u64)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok().filter(|name| is_artifact_name(name))?;
            // The metadata of the entry itself: a link is not a regular file, so it is not listed.
            let data = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((name, data.len()))
        })
        .take(ARTIFACTS_MAX)
        .collect();
    files.sort();
    files
}

fn open_below(dir: &Path, path: &str) -> rustix::io::Result<File> {
    let dir =
        rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // NONBLOCK: opening a FIFO must not block the request.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve).map(File::from)
}
