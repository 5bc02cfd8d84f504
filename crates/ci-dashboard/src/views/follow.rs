//! The lines of a growing log, from a place that the client has.

use http::{HeaderName, StatusCode};
use model::{CommitId, ResultKey};
use results::{LogKind, Reader};

use crate::follow::Follow;
use crate::problem::Problem;
use crate::request::Request;
use crate::response::{Body, Response, kind};

/// Answers a request for the lines from `from` (`BYTES:LINES`) on; what the client last received counts more.
pub fn view(
    reader: &Reader,
    sha: &CommitId,
    key: &ResultKey,
    full: bool,
    from: Option<&str>,
    request: &Request,
) -> Result<Response, Problem> {
    let missing = || Problem::NotFound("there is no result of this test at this commit".into());
    reader.entry(sha, key)?.ok_or_else(missing)?;
    let from = request.header(HeaderName::from_static("last-event-id")).or(from);
    let (bytes, lines) = match from {
        None => (0, 0),
        Some(from) => from
            .split_once(':')
            .and_then(|(bytes, lines)| Some((bytes.parse().ok()?, lines.parse().ok()?)))
            .ok_or_else(|| Problem::BadRequest("from takes BYTES:LINES, as the events' ids are".into()))?,
    };
    let kind = if full { LogKind::Full } else { LogKind::Subtest };
    let follow = Follow::new(reader.clone(), sha.clone(), key.clone(), kind, (bytes, lines));
    let mut response = Response::new(StatusCode::OK, kind::EVENTS, Vec::new());
    response.headers.remove(http::header::VARY);
    response.body = Body::Follow(Box::new(follow));
    // A proxy that collects the events would make them late.
    Ok(response.with(HeaderName::from_static("x-accel-buffering"), "no"))
}
