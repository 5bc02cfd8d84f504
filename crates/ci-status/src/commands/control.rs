//! `ci-status drain`, `resume`, `cancel` and `pause`: stop hosts, batches and branches, and start them again.
//!
//! The request is a file on the machine of the daemon, as for `ci-status rerun`.

use std::io::{self, Write};
use std::path::PathBuf;

use model::{BranchRef, HostOrSlot, StatusSnapshot};
use regress::request::{check_control, running_batch};
use results::requests::{Drain, PauseBranch, RequestKind, RequestState};
use serde::Serialize;
use stdio::terminal;

use super::rerun::{request_path, state, submit};
use super::{Answer, to_json};
use crate::args::Control;
use crate::context::Context;
use crate::problem::Problem;
use crate::select;

/// A request that was written.
#[derive(Debug, Serialize)]
pub struct Requested {
    #[serde(flatten)]
    kind: RequestKind,
    /// Whether the daemon has taken it.
    taken: bool,
    /// The request file, if it was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<PathBuf>,
}

/// Requests it, and waits until the daemon takes it.
pub fn run(context: &Context, command: &Control) -> Result<Requested, Problem> {
    let snapshot = context.backend.snapshot()?.ok_or(Problem::NoSnapshot)?;
    let kind = kind(context, &snapshot, command)?;
    check_control(&snapshot, &kind)?;
    let file = submit(context, kind.clone())?;
    let waits = state(context, &file)? == RequestState::Waiting;
    Ok(Requested { kind, taken: !waits, request: waits.then(|| request_path(context, &file)) })
}

fn kind(context: &Context, snapshot: &StatusSnapshot, command: &Control) -> Result<RequestKind, Problem> {
    Ok(match command {
        Control::Drain { place, reason } => {
            RequestKind::Drain(Drain { place: place.clone(), reason: reason.clone() })
        }
        Control::Cancel { slot } => RequestKind::CancelBatch(running_batch(snapshot, slot)?),
        Control::Pause { branch, reason } => RequestKind::PauseBranch(PauseBranch {
            branch: select::branch(context, Some(branch))?,
            reason: reason.clone(),
        }),
        Control::Resume { what } => resumed(context, snapshot, what)?,
    })
}

/// A text can name a slot and a branch: what is stopped is meant.
fn resumed(context: &Context, snapshot: &StatusSnapshot, text: &str) -> Result<RequestKind, Problem> {
    let place: Option<HostOrSlot> = text.parse().ok();
    let branch: Option<BranchRef> = text.parse().ok();
    let drained = place.clone().filter(|place| snapshot.drained.iter().any(|it| place.includes(&it.place)));
    let paused = branch.filter(|branch| snapshot.paused.iter().any(|it| it.branch == *branch));
    match (drained, paused, place) {
        (Some(place), ..) => Ok(RequestKind::Resume(place)),
        (None, Some(branch), _) => Ok(RequestKind::ResumeBranch(branch)),
        (None, None, Some(place)) if snapshot.executors.iter().any(|it| place.has(&it.name)) => {
            Ok(RequestKind::Resume(place))
        }
        (None, None, _) => Ok(RequestKind::ResumeBranch(select::branch(context, Some(text))?)),
    }
}

impl Answer for Requested {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let words = match &self.kind {
            RequestKind::Drain(drain) => {
                format!("{} takes no new batches; what runs there finishes", drain.place)
            }
            RequestKind::Resume(place) => format!("{place} takes batches again"),
            RequestKind::CancelBatch(cancel) => {
                format!("the batch of {}/{} stops; a rerun runs its tests again", cancel.host, cancel.slot)
            }
            RequestKind::PauseBranch(pause) => {
                format!("no further tests of {} start; what runs finishes", pause.branch)
            }
            RequestKind::ResumeBranch(branch) => format!("the tests of {branch} run again"),
            _ => String::new(),
        };
        match &self.request {
            None => writeln!(out, "{}", terminal::line(&words)),
            Some(path) => {
                let path = terminal::line(&path.display().to_string());
                writeln!(out, "requested; ci-daemon has not taken {path} yet")
            }
        }
    }
}
