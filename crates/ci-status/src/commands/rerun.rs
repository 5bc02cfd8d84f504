//! `ci-status rerun`: requests a rerun of a test from the daemon on this machine.
//!
//! The request is a file (`results::requests`) that the daemon takes within two seconds.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{CommitId, ResultKey};
use results::requests;
use serde::Serialize;
use stdio::terminal;

use super::logs::TestAtCommit;
use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::text;

/// How long to wait for the daemon.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that was written.
#[derive(Debug, Serialize)]
pub struct Rerun {
    commit: CommitId,
    test: ResultKey,
    /// Whether the daemon has taken it.
    taken: bool,
    /// The request file, if it was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<PathBuf>,
}

/// Writes the request and waits until the daemon takes it.
pub fn run(context: &Context, commit: &str, test: &str) -> Result<Rerun, Problem> {
    let Some(output_dir) = context.backend.directory() else { return Err(Problem::NotLocal) };
    let TestAtCommit { commit, key, .. } = TestAtCommit::find(context, commit, test)?;
    let wanted = requests::Rerun { commit: commit.clone(), key: key.clone() };
    let path = submit(context, output_dir, requests::RequestKind::Rerun(wanted))?;
    let taken = !path.exists();
    Ok(Rerun { commit, test: key, taken, request: (!taken).then_some(path) })
}

/// Writes a request, and waits until a running daemon takes it.
pub(super) fn submit(
    context: &Context,
    output_dir: &Path,
    kind: requests::RequestKind,
) -> Result<PathBuf, Problem> {
    let path = requests::submit(output_dir, kind, None)
        .map_err(|reason| Problem::Request { path: output_dir.join(requests::DIRECTORY), reason })?;
    let runs = context
        .backend
        .snapshot()?
        .is_some_and(|snapshot| context.now.saturating_sub(snapshot.written) <= super::workers::STALE);
    if runs {
        wait_until(|| !path.exists());
    }
    Ok(path)
}

/// Whether the daemon has not finished the request: it waits for the branch.
pub(super) fn is_waiting(output_dir: &Path, request: &Path) -> bool {
    let taken = output_dir.join(requests::DIRECTORY).join(requests::TAKEN);
    request.file_name().is_some_and(|name| taken.join(name).exists())
}

/// The account that requested something, in words; `None` is the farm itself.
pub(super) fn requested_by(account: Option<&str>) -> String {
    account.map_or("the farm".into(), |account| format!("by {account}"))
}

/// Waits for the daemon, but not for long.
pub(super) fn wait_until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() && start.elapsed() < TAKE_TIMEOUT {
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Answer for Rerun {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { commit, test, .. } = self;
        let commit = text::paint(text::COMMIT, commit.short());
        match &self.request {
            None => writeln!(out, "rerun of {test} at {commit} is queued; the first verdict stays"),
            Some(path) => {
                let path = terminal::line(&path.display().to_string());
                writeln!(out, "rerun of {test} at {commit} is requested; ci-daemon has not taken {path} yet")
            }
        }
    }
}
