//! `ci-status rerun`: requests a rerun of a test.
//!
//! The request is a file (`results::requests`) on the machine of the daemon, which takes it within two seconds. This program writes it,
//! or a dashboard.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::{CommitId, ResultKey};
use results::requests::{self, RequestState};
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

/// Requests it, and waits until the daemon takes it.
pub fn run(context: &Context, commit: &str, test: &str) -> Result<Rerun, Problem> {
    let TestAtCommit { commit, key, .. } = TestAtCommit::find(context, commit, test)?;
    let wanted = requests::Rerun { commit: commit.clone(), key: key.clone() };
    let file = submit(context, requests::RequestKind::Rerun(wanted))?;
    let waits = state(context, &file)? == RequestState::Waiting;
    Ok(Rerun { commit, test: key, taken: !waits, request: waits.then(|| request_path(context, &file)) })
}

/// Writes a request, and waits until a running daemon takes it. Returns the name of its file.
pub(super) fn submit(context: &Context, kind: requests::RequestKind) -> Result<String, Problem> {
    let file = context.backend.submit(kind)?;
    let runs = context
        .backend
        .snapshot()?
        .is_some_and(|snapshot| context.now.saturating_sub(snapshot.written) <= super::workers::STALE);
    if runs {
        wait_while(context, &file, RequestState::Waiting)?;
    }
    Ok(file)
}

/// How far the daemon is with a request.
pub(super) fn state(context: &Context, file: &str) -> Result<RequestState, Problem> {
    context.backend.request_state(file)
}

/// The request file, as this machine sees it.
pub(super) fn request_path(context: &Context, file: &str) -> PathBuf {
    let directory = context.backend.directory();
    directory.map_or_else(|| file.into(), |directory| directory.join(requests::DIRECTORY).join(file))
}

/// The account that requested something, in words; `None` is the farm itself.
pub(super) fn requested_by(account: Option<&str>) -> String {
    account.map_or("the farm".into(), |account| format!("by {account}"))
}

/// Waits while a request has this state, but not for long. Returns its state then.
pub(super) fn wait_while(
    context: &Context,
    file: &str,
    while_in: RequestState,
) -> Result<RequestState, Problem> {
    let start = Instant::now();
    let pause = if context.backend.directory().is_some() { 50 } else { 500 };
    loop {
        let now = state(context, file)?;
        if now != while_in || start.elapsed() >= TAKE_TIMEOUT {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(pause));
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
