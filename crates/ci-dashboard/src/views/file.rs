//! Published files: logs as stored, blobs, the status snapshot, artifacts.
//!
//! Logs and artifacts are in packs or, in results of earlier versions, in files of their own. Paths are built from parsed
//! names only. `fsx` opens every file below the results directory, so that no link leads outside and only regular files
//! are opened.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use fsx::untrusted::{Dir, EntryType, Reason};
use model::{CommitId, ResultKey};
use results::{PackedFile, Reader};

use crate::http::conditional::{Validators, short_digest};
use crate::http::files::{self, Presentation};
use crate::http::{Body, Request, Response, content_type};
use crate::problem::Problem;
use crate::route::{FileRoute, is_artifact_name};

/// The maximum number of artifacts that are listed.
const ARTIFACTS_MAX: usize = 100;
/// A directory with more entries is listed as empty.
const ENTRIES_MAX: u64 = 10_000;

/// Serves the file that a route selects.
pub fn view(reader: &Reader, file: &FileRoute, request: &Request) -> Result<Response, Problem> {
    let (path, presentation) = locate(file);
    if let Some(packed) = packed(reader, file) {
        return serve_packed(&packed, presentation, request);
    }
    let missing = || Problem::NotFound("no such file".into());
    let opened = Dir::open(reader.output_dir()).and_then(|dir| dir.open_published(&path));
    if opened.as_ref().is_err_and(fsx::untrusted::UntrustedError::is_not_found)
        && let Some(response) = generated(reader, file, presentation, request)?
    {
        return Ok(response);
    }
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

/// The status or the duration of a test without a directory.
fn generated(
    reader: &Reader,
    file: &FileRoute,
    presentation: Presentation,
    request: &Request,
) -> Result<Option<Response>, Problem> {
    let FileRoute::Result(sha, key, file) = file else { return Ok(None) };
    let Some(entry) = reader.entry(sha, key)? else { return Ok(None) };
    let Some(text) = results::status_text(&entry, file.name()) else { return Ok(None) };
    let bytes = text.into_bytes();
    let validators = Validators::of_tag(&short_digest(&bytes), entry.decisive.ended());
    Ok(Some(files::respond(Body::Bytes(bytes.into()), &validators, presentation, request)))
}

/// The file in a pack, if it is in one.
fn packed(reader: &Reader, file: &FileRoute) -> Option<PackedFile> {
    match file {
        FileRoute::Result(sha, key, file) if file.is_brotli() => reader.packed(sha, key, file.name()),
        FileRoute::Artifact(sha, key, name) => reader.packed(sha, key, name),
        FileRoute::Commit(_) | FileRoute::Snapshot | FileRoute::Bisection(_) | FileRoute::Result(..) => None,
    }
}

fn serve_packed(
    packed: &PackedFile,
    presentation: Presentation,
    request: &Request,
) -> Result<Response, Problem> {
    let (file, start, length) = packed.open()?;
    let data = file.metadata().map_err(|error| {
        tracing::error!("{}: cannot be read: {error}", packed.path().display());
        Problem::Store
    })?;
    // Files that are not of one run: when the pack was last written.
    let modified = packed.ended().or_else(|| data.modified().ok());
    // With the inode: retention may have removed an earlier pack of this number.
    let tag = format!("{}-{:x}", packed.tag(), data.ino());
    let validators = Validators::of_tag(&tag, modified);
    Ok(files::respond(Body::File { file, start, length }, &validators, presentation, request))
}

/// The path of a file below the results directory, and how it is presented to a browser.
fn locate(file: &FileRoute) -> (String, Presentation) {
    let plain = |content_type| Presentation { content_type, brotli: false, attachment: false };
    match file {
        FileRoute::Commit(sha) => (format!("{sha}.capnp"), plain(content_type::BINARY)),
        FileRoute::Snapshot => (results::layout::SNAPSHOT.into(), plain(content_type::JSON)),
        FileRoute::Bisection(id) => {
            (format!("{}/{id}.json", results::bisections::DIRECTORY), plain(content_type::JSON))
        }
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
pub fn artifacts(reader: &Reader, sha: &CommitId, key: &ResultKey) -> Vec<(String, u64)> {
    let mut files: BTreeMap<String, u64> = unpacked_artifacts(reader, sha, key).unwrap_or_default();
    let packed = reader.packed_files(sha, key).into_iter().filter(|row| is_artifact_name(&row.name));
    files.extend(packed.map(|row| (row.name, row.bytes)));
    files.into_iter().take(ARTIFACTS_MAX).collect()
}

/// The artifacts in files of their own; none without a directory of the test.
fn unpacked_artifacts(reader: &Reader, sha: &CommitId, key: &ResultKey) -> Option<BTreeMap<String, u64>> {
    let dir = Dir::open(reader.output_dir()).and_then(|dir| dir.dir(format!("{sha}/{key}"))).ok()?;
    let entries = dir.list(".", ENTRIES_MAX).ok()?;
    let files = entries
        .into_iter()
        .filter(|entry| entry.entry_type == EntryType::File)
        .filter_map(|entry| {
            let name = entry.name.into_string().ok().filter(|name| is_artifact_name(name))?;
            let data = dir.metadata(&name).ok()??;
            Some((name, data.len))
        })
        .take(ARTIFACTS_MAX)
        .collect();
    Some(files)
}
