//! `ci-status rerun`: asks the daemon of this machine to run a test again.
//!
//! The request is a file in `output_dir/requests/`, written under another name first and renamed; the daemon looks
//! every two seconds, takes it and removes it. The first verdict stands; the new run is kept beside it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{CommitId, ResultKey};
use serde::Serialize;

use super::logs::Place;
use super::{Answer, to_json};
use crate::problem::Problem;
use crate::source::Source;
use crate::text;

/// The folder of requests, below `output_dir`.
const FOLDER: &str = "requests";
/// The version of the requests.
const VERSION: u32 = 1;
/// How long the daemon is given to take it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request that was left.
#[derive(Debug, Serialize)]
pub struct Rerun {
    commit: CommitId,
    test: ResultKey,
    /// Whether the daemon has taken it.
    taken: bool,
    /// The file, while it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<PathBuf>,
}

#[derive(Serialize)]
struct Request<'a> {
    version: u32,
    rerun: Wanted<'a>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    commit: &'a CommitId,
    key: &'a ResultKey,
}

/// Leaves the request and waits a moment for the daemon to take it.
pub fn run(source: &Source, commit: &str, test: &str) -> Result<Rerun, Problem> {
    let Some(output_dir) = source.results.folder() else { return Err(Problem::NotHere) };
    let Place { commit, key, .. } = Place::find(source, commit, test)?;
    let folder = output_dir.join(FOLDER);
    let path = leave(&folder, &commit, &key).map_err(|why| Problem::Request { path: folder, why })?;
    let runs = source
        .results
        .snapshot()?
        .is_some_and(|snapshot| source.now.saturating_sub(snapshot.written) <= super::workers::STALE);
    let since = Instant::now();
    while runs && path.exists() && since.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    let taken = !path.exists();
    Ok(Rerun { commit, test: key, taken, request: (!taken).then_some(path) })
}

fn leave(folder: &Path, commit: &CommitId, key: &ResultKey) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    // The daemon may be another user's.
    let mode = fs::Permissions::from_mode(0o644);
    let mut file =
        tempfile::Builder::new().prefix(".").suffix(".tmp").permissions(mode).tempfile_in(folder)?;
    let request = Request { version: VERSION, rerun: Wanted { commit, key } };
    serde_json::to_writer(&mut file, &request)?;
    file.as_file().sync_all()?;
    // The random name of the temporary file is the request's, too.
    let name = file.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.trim_start_matches('.').trim_end_matches(".tmp").to_owned();
    let path = folder.join(format!("{name}.json"));
    file.persist_noclobber(&path)?;
    Ok(path)
}

impl Answer for Rerun {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { commit, test, .. } = self;
        let commit = text::paint(text::COMMIT, commit.short());
        match &self.request {
            None => writeln!(out, "ci-daemon runs {test} at {commit} again; its first verdict stands"),
            Some(path) => {
                let path = text::clean(&path.display().to_string());
                writeln!(out, "{test} at {commit} runs again once ci-daemon takes the request ({path})")
            }
        }
    }
}
