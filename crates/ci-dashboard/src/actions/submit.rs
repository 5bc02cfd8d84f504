//! Writes a request for ci-daemon.

use std::net::IpAddr;

use results::Reader;
use results::requests::{self, RequestKind};

use crate::problem::Problem;

/// The maximum number of open requests. The daemon takes them every two seconds, so more mean that it is not running.
const OPEN_MAX: usize = 500;

/// Writes a request, unless the same one is open. Returns the name of its file.
pub(super) fn submit(reader: &Reader, kind: RequestKind, client: Option<IpAddr>) -> Result<String, Problem> {
    let open = requests::pending(reader.output_dir());
    if let Some((file, _)) = open.iter().find(|(_, other)| *other == kind) {
        return Ok(file.clone());
    }
    if open.len() >= OPEN_MAX {
        let text = format!("{OPEN_MAX} requests are waiting; check that ci-daemon is running");
        return Err(Problem::Unavailable(text));
    }
    let what = words(&kind);
    let path = requests::submit(reader.output_dir(), kind, client).map_err(|error| {
        let directory = reader.output_dir().join(requests::DIRECTORY);
        tracing::error!("{}: the request cannot be written: {error}", directory.display());
        Problem::Unavailable("the request cannot be written; see the server's log".into())
    })?;
    tracing::info!("requested: {what}");
    Ok(path.file_name().map(|name| name.to_string_lossy().into()).unwrap_or_default())
}

fn words(kind: &RequestKind) -> String {
    match kind {
        RequestKind::Rerun(rerun) => format!("rerun of {} at {}", rerun.key, rerun.commit.short()),
        RequestKind::Unlist(branch) => format!("unlisting of {branch}"),
        RequestKind::Bisect(bisect) => format!("bisection of {} on {}", bisect.key, bisect.branch),
        RequestKind::CancelBisection(id) => format!("the end of bisection {id}"),
        RequestKind::Believe(believe) => format!("runs of {} on {}", believe.key, believe.branch),
        RequestKind::CancelBelieve(id) => format!("the end of claim {id}"),
        RequestKind::Drain(drain) => format!("drain of {}", drain.place),
        RequestKind::Resume(place) => format!("resumption of {place}"),
        RequestKind::CancelBatch(cancel) => {
            format!("the end of the batch on {}/{}", cancel.host, cancel.slot)
        }
        RequestKind::PauseBranch(pause) => format!("pause of {}", pause.branch),
        RequestKind::ResumeBranch(branch) => format!("resumption of {branch}"),
        RequestKind::Notify(_) => "a notification".into(),
    }
}
