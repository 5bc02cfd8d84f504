//! Requests to the running daemon: files in `requests/` of the output directory, written by `ci-status rerun`, the dashboard
//! and `ci-daemon unlist`.
//!
//! A request is moved to `requests/taken/` when the daemon starts to handle it, and removed when it is finished, so
//! that the next daemon finds the requests of one that was killed. The files are untrusted, because other users write
//! them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::audit::Requester;
use fsx::untrusted::{Dir, EntryType, UntrustedError};
use results::requests::{DIRECTORY, Request, RequestKind, SIZE_MAX, TAKEN, VERSION};

/// The maximum number of requests that are taken at a time.
const AT_ONCE: usize = 1000;
/// The maximum number of files in the directory.
const FILES_MAX: u64 = 100_000;
/// A malformed file that is younger than this may be incomplete.
const SETTLED: Duration = Duration::from_secs(10);

/// A request that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenRequest {
    /// What is requested.
    pub kind: RequestKind,
    /// Who requested it; `None` if an earlier daemon took it.
    pub requester: Option<Requester>,
    /// The file, to be removed when the request is finished.
    pub file: PathBuf,
}

/// The requests that were taken.
#[derive(Debug, Default)]
pub struct TakenRequests {
    /// The requests.
    pub requests: Vec<TakenRequest>,
    /// The problems, one line each.
    pub problems: Vec<String>,
}

/// Why a file is not a request.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    File(#[from] UntrustedError),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("it has version {0}; this daemon reads version {VERSION}")]
    Version(u32),
}

/// Takes the new requests. If `unfinished` is set, also those that an earlier daemon took and did not finish.
#[must_use]
pub fn take(output_dir: &Path, unfinished: bool) -> TakenRequests {
    let mut found = TakenRequests::default();
    let directory = match Dir::open(&output_dir.join(DIRECTORY)) {
        Ok(directory) => directory,
        Err(error) => {
            // The directory is created by the first request.
            if !error.is_not_found() {
                found.problems.push(format!("requests cannot be read: {error}"));
            }
            return found;
        }
    };
    if unfinished && let Ok(taken) = directory.dir(TAKEN) {
        for name in files(&taken, &mut found) {
            read(&taken, &name, None, &mut found);
        }
    }
    for name in files(&directory, &mut found) {
        if !name.as_encoded_bytes().starts_with(b".") {
            read(&directory, &name, Some(TAKEN.as_ref()), &mut found);
        }
    }
    found
}

fn files(directory: &Dir, found: &mut TakenRequests) -> Vec<std::ffi::OsString> {
    match directory.list("", FILES_MAX) {
        Ok(entries) => {
            let files = entries.into_iter().filter(|entry| entry.entry_type == EntryType::File);
            files.take(AT_ONCE).map(|entry| entry.name).collect()
        }
        Err(error) => {
            found.problems.push(format!("requests cannot be read: {error}"));
            Vec::new()
        }
    }
}

/// Reads one request, and moves it to the directory `to` if it is given.
fn read(directory: &Dir, name: &OsStr, to: Option<&Path>, found: &mut TakenRequests) {
    let file = directory.path().join(name);
    let request = match parse(directory, name) {
        Ok(request) => request,
        Err(error) => {
            let modified = directory.metadata(name).ok().flatten().map(|data| data.modified);
            let age = modified.and_then(|at| SystemTime::now().duration_since(at).ok());
            if to.is_none() || age.is_none_or(|age| age >= SETTLED) {
                found.problems.push(format!("{}: not a request, removed: {error}", file.display()));
                finish(&file);
            }
            return;
        }
    };
    // Read the owner of the file before it is moved.
    let owner = directory.metadata(name).ok().flatten().filter(|_| to.is_some()).map(|data| data.owner);
    let requester = owner.map(|uid| Requester::owner(uid, request.address));
    let moved = to.map(|to| {
        directory.create_dir_all(to)?;
        directory.rename(name, to.join(name))?;
        Ok::<_, UntrustedError>(directory.path().join(to).join(name))
    });
    let file = match moved {
        None => file,
        Some(Ok(taken)) => taken,
        Some(Err(error)) => {
            // It is better to run a request twice after a crash than to lose it.
            found.problems.push(format!("{}: cannot be moved to {TAKEN}/: {error}", file.display()));
            finish(&file);
            file
        }
    };
    found.requests.push(TakenRequest { kind: request.kind, requester, file });
}

fn parse(directory: &Dir, name: &OsStr) -> Result<Request, RequestError> {
    let request: Request = serde_json::from_slice(&directory.read(name, SIZE_MAX)?)?;
    if request.version != VERSION {
        return Err(RequestError::Version(request.version));
    }
    Ok(request)
}

/// Removes the file of a finished request.
pub fn finish(file: &Path) {
    if let Err(error) = fsx::own::remove_file(file) {
        tracing::warn!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_once_and_found_again_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        assert!(take(dir.path(), true).requests.is_empty());
        let directory = dir.path().join("requests");
        std::fs::create_dir(&directory).unwrap();
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let good = format!(r#"{{"version":1,"rerun":{{"commit":"{commit}","key":"fs.a.x"}}}}"#);
        std::fs::write(directory.join("a1.json"), &good).unwrap();
        std::fs::write(directory.join(".a2.json"), &good).unwrap();
        std::fs::write(directory.join("half"), "{").unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        let strange = ["{}", "[1]", r#"{"version":2,"rerun":{"commit":"0","key":"x"}}"#, "\0"];
        for (at, text) in strange.iter().enumerate() {
            let path = directory.join(format!("bad{at}.json"));
            std::fs::write(&path, text).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
        let found = take(dir.path(), false);
        assert_eq!(found.requests.len(), 1);
        let RequestKind::Rerun(rerun) = &found.requests[0].kind else { panic!("{:?}", found.requests) };
        assert_eq!((rerun.commit.as_str(), rerun.key.as_str()), (commit, "fs.a.x"));
        assert_eq!(found.problems.len(), strange.len(), "{:?}", found.problems);
        assert!(take(dir.path(), false).requests.is_empty());
        // The next daemon takes it.
        let found = take(dir.path(), true);
        assert_eq!(found.requests.len(), 1);
        assert_eq!(found.requests[0].requester, None, "it was recorded when it was taken");
        finish(&found.requests[0].file);
        assert!(take(dir.path(), true).requests.is_empty());
        assert!(directory.join("half").exists() && directory.join(".a2.json").exists());
        let branch: model::BranchRef = "kmo/old".parse().unwrap();
        results::requests::submit(
            dir.path(),
            RequestKind::Unlist(branch.clone()),
            Some([192, 0, 2, 1].into()),
        )
        .unwrap();
        let taken = take(dir.path(), false).requests;
        let Some(Requester::File { uid, address, .. }) = &taken[0].requester else { panic!("{taken:?}") };
        assert_eq!((*uid, *address), (rustix::process::getuid().as_raw(), Some([192, 0, 2, 1].into())));
        assert_eq!(
            taken.iter().map(|request| &request.kind).collect::<Vec<_>>(),
            [&RequestKind::Unlist(branch)]
        );
    }
}
