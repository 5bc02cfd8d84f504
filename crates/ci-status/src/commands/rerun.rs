//! `ci-status rerun`: asks the daemon of this machine to run a test again.
//!
//! The request is a file (`results::requests`); the daemon looks every two seconds, takes it and removes it. The first
//! verdict stands; the new run is kept beside it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::{CommitId, ResultKey};
use results::requests;
use serde::Serialize;

use super::logs::Place;
use super::{Answer, to_json};
use crate::problem::Problem;
use crate::source::Source;
use crate::text;

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

/// Leaves the request and waits a moment for the daemon to take it.
pub fn run(source: &Source, commit: &str, test: &str) -> Result<Rerun, Problem> {
    let Some(output_dir) = source.results.folder() else { return Err(Problem::NotHere) };
    let Place { commit, key, .. } = Place::find(source, commit, test)?;
    let wanted = requests::Rerun { commit: commit.clone(), key: key.clone() };
    let path = requests::leave(output_dir, requests::What::Rerun(wanted))
        .map_err(|why| Problem::Request { path: output_dir.join(requests::FOLDER), why })?;
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
