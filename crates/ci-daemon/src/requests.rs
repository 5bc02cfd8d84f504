//! What people ask of the running daemon, as files in `requests/` of the output directory: `ci-status rerun` and
//! `ci-daemon unlist` leave them.
//!
//! A request is moved to `requests/taken/` when it is taken and removed when it is over, so that a daemon that is killed
//! meanwhile finds it again. What cannot be read is removed and said, once it is old enough not to be half written.

use std::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use results::requests::{FOLDER, Request, SIZE_MAX, TAKEN, VERSION, What};

/// At most so many are taken at a time.
const AT_ONCE: usize = 1000;
/// After this time a file that makes no sense is no request that is still being written.
const SETTLED: Duration = Duration::from_secs(10);

/// A request that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenRequest {
    /// For what.
    pub what: What,
    /// The file; to be removed when the request is over.
    pub file: PathBuf,
}

/// What was found.
#[derive(Debug, Default)]
pub struct TakenRequests {
    /// Requests.
    pub requests: Vec<TakenRequest>,
    /// What was wrong, one line each.
    pub problems: Vec<String>,
}

/// Takes what was asked for since the last time. With `again`, also what an earlier daemon took and did not end.
#[must_use]
pub fn take(output_dir: &Path, again: bool) -> TakenRequests {
    let folder = output_dir.join(FOLDER);
    let taken = folder.join(TAKEN);
    let mut found = TakenRequests::default();
    if again {
        for entry in entries(&taken, &mut found) {
            read(&entry.path(), None, &mut found);
        }
    }
    for entry in entries(&folder, &mut found) {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        read(&entry.path(), Some((&taken, taken.join(name))), &mut found);
    }
    found
}

fn entries(folder: &Path, found: &mut TakenRequests) -> Vec<DirEntry> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            found.problems.push(format!("{}: requests cannot be read: {error}", folder.display()));
            return Vec::new();
        }
    };
    let files =
        entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    files.take(AT_ONCE).collect()
}

fn read(file: &Path, to: Option<(&Path, PathBuf)>, found: &mut TakenRequests) {
    let what = match parse(file) {
        Ok(what) => what,
        Err(why) => {
            let age = std::fs::metadata(file).and_then(|data| data.modified()).ok();
            let settled = age.and_then(|at| SystemTime::now().duration_since(at).ok());
            if to.is_none() || settled.is_none_or(|age| age >= SETTLED) {
                found.problems.push(format!("{}: not a request, removed: {why}", file.display()));
                finish(file);
            }
            return;
        }
    };
    let file = match to {
        None => file.to_owned(),
        Some((folder, to)) => {
            let moved = std::fs::create_dir_all(folder).and_then(|()| std::fs::rename(file, &to));
            match moved {
                Ok(()) => to,
                Err(error) => {
                    // Better run twice after a crash than never.
                    found.problems.push(format!("{}: cannot be taken: {error}", file.display()));
                    finish(file);
                    file.to_owned()
                }
            }
        }
    };
    found.requests.push(TakenRequest { what, file });
}

fn parse(file: &Path) -> Result<What, String> {
    if std::fs::metadata(file).map_err(|error| error.to_string())?.len() > SIZE_MAX {
        return Err(format!("it is longer than {SIZE_MAX} bytes"));
    }
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let request: Request = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if request.version != VERSION {
        return Err(format!("version {}, this daemon reads {VERSION}", request.version));
    }
    Ok(request.what)
}

/// The request is over.
pub fn finish(file: &Path) {
    if let Err(error) = std::fs::remove_file(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{}: cannot be removed: {error}", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_once_and_found_again_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        assert!(take(dir.path(), true).requests.is_empty());
        let folder = dir.path().join("requests");
        std::fs::create_dir(&folder).unwrap();
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let good = format!(r#"{{"version":1,"rerun":{{"commit":"{commit}","key":"fs.a.x"}}}}"#);
        std::fs::write(folder.join("a1.json"), &good).unwrap();
        std::fs::write(folder.join(".a2.json"), &good).unwrap();
        std::fs::write(folder.join("half"), "{").unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        let strange = ["{}", "[1]", r#"{"version":2,"rerun":{"commit":"0","key":"x"}}"#, "\0"];
        for (at, text) in strange.iter().enumerate() {
            let path = folder.join(format!("bad{at}.json"));
            std::fs::write(&path, text).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
        let found = take(dir.path(), false);
        assert_eq!(found.requests.len(), 1);
        let What::Rerun(rerun) = &found.requests[0].what else { panic!("{:?}", found.requests) };
        assert_eq!((rerun.commit.as_str(), rerun.key.as_str()), (commit, "fs.a.x"));
        assert_eq!(found.problems.len(), strange.len(), "{:?}", found.problems);
        assert!(take(dir.path(), false).requests.is_empty());
        // A daemon that starts anew takes it up.
        let found = take(dir.path(), true);
        assert_eq!(found.requests.len(), 1);
        finish(&found.requests[0].file);
        assert!(take(dir.path(), true).requests.is_empty());
        assert!(folder.join("half").exists() && folder.join(".a2.json").exists());
        let branch: model::BranchRef = "kmo/old".parse().unwrap();
        results::requests::leave(dir.path(), What::Unlist(branch.clone())).unwrap();
        let asked = take(dir.path(), false).requests;
        assert_eq!(asked.iter().map(|asked| &asked.what).collect::<Vec<_>>(), [&What::Unlist(branch)]);
    }
}
