//! Published files, byte for byte: logs as they are stored, blobs, the status snapshot.
//!
//! Paths are made of parsed names only, and every file is opened below the results' folder by the kernel's own rule
//! (`openat2` with `RESOLVE_BENEATH`), so a link that leads out of it is not followed.

use std::fs::File;
use std::path::Path;

use http::StatusCode;
use http::header;
use model::{CommitId, ResultKey};
use results::layout::Layout;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::conditional::Validators;
use crate::problem::Problem;
use crate::request::Request;
use crate::response::{Body, Response, kind};
use crate::route::{FileRoute, is_other};

/// How many further files of a result are listed.
const OTHERS_MAX: usize = 100;

/// The file that a route names.
pub fn serve(output_dir: &Path, file: &FileRoute, request: &Request) -> Result<Response, Problem> {
    let (path, content_type, brotli) = match file {
        FileRoute::Commit(sha) => (format!("{sha}.capnp"), kind::BINARY, false),
        FileRoute::Snapshot => (results::layout::SNAPSHOT.into(), kind::JSON, false),
        FileRoute::Artifact(sha, key, artifact) => {
            (format!("{sha}/{key}/{}", artifact.name()), kind::TEXT, artifact.is_brotli())
        }
        FileRoute::Other(sha, key, name) => {
            let brotli = name.ends_with(".br");
            let plain = brotli || [".txt", ".log", "config"].iter().any(|ending| name.ends_with(ending));
            (format!("{sha}/{key}/{name}"), if plain { kind::TEXT } else { kind::BINARY }, brotli)
        }
    };
    let missing = || Problem::NotFound("there is no such file".into());
    let saved = content_type == kind::BINARY && matches!(file, FileRoute::Other(..));
    let file = open_below(output_dir, &path).map_err(|error| match error {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::NAMETOOLONG => missing(),
        rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => {
            tracing::warn!("{path}: a link that leads out of the results; not served");
            missing()
        }
        error => {
            tracing::error!("{path}: cannot be opened: {error}");
            Problem::Store
        }
    })?;
    let metadata = file.metadata().map_err(|error| {
        tracing::error!("{path}: cannot be read: {error}");
        Problem::Store
    })?;
    if !metadata.is_file() {
        return Err(missing());
    }
    let mut response = Response::new(StatusCode::OK, content_type, Vec::new());
    response.body = Body::File { file, start: 0, length: metadata.len() };
    response.headers.remove(header::VARY);
    response = response.with(header::ACCEPT_RANGES, "bytes");
    if saved {
        response = response.with(header::CONTENT_DISPOSITION, "attachment");
    }
    if brotli {
        response = response.with(header::CONTENT_ENCODING, "br");
    }
    Ok(response.validated(request, &Validators::of_file(&metadata)))
}

/// The files of a result beside those that every result has, with their sizes in bytes, sorted.
#[must_use]
pub fn others(output_dir: &Path, sha: &CommitId, key: &ResultKey) -> Vec<(String, u64)> {
    let folder = Layout::new(output_dir).test(sha, key);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<(String, u64)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok().filter(|name| is_other(name))?;
            // Links are not followed: what one of them leads to is not listed.
            let data = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((name, data.len()))
        })
        .take(OTHERS_MAX)
        .collect();
    files.sort();
    files
}

fn open_below(dir: &Path, path: &str) -> rustix::io::Result<File> {
    let dir =
        rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // NONBLOCK: a FIFO in the place of a file must not hold a request.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve).map(File::from)
}
