//! The request action: a program requests a bisection, the runs that prove a fix, the end of either, a rerun, or that a host, a batch or
//! a branch stops, as `ci-status` does on the daemon's machine.
//!
//! The body is the JSON of a request file ([`results::requests`]). The token is that of reruns, as `Authorization: Bearer`. The action
//! only writes a request file.

use belief::Confidence;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use model::{BranchRef, ResultKey};
use regress::request::{NotControlled, check_believe, check_bisect, check_control};
use results::requests::{Believe, Bisect, Request as Body, RequestKind, VERSION};
use results::{BranchEntry, HistoryEntry, Reader, bisections, claims};
use serde::Serialize;

use super::rerun::check_rerun;
use super::submit::submit;
use super::token::{Token, bearer};
use crate::http::{Request, Response, content_type};
use crate::problem::Problem;
use crate::route::Format;
use crate::views;

/// The request action of a server.
#[derive(Debug)]
pub struct Requests {
    token: Token,
}

#[derive(Serialize)]
struct Accepted {
    /// The name of the request file.
    request: String,
}

impl Requests {
    /// Requests of clients that send this token.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { token }
    }

    /// Answers a `POST`.
    #[must_use]
    pub fn answer(&self, reader: &Reader, request: &Request, body: &[u8]) -> Response {
        let answer = self.request(reader, request, body).map(|file| {
            let body = serde_json::to_vec(&Accepted { request: file }).unwrap_or_default();
            Response::new(StatusCode::ACCEPTED, content_type::JSON, body)
        });
        let answer = answer.unwrap_or_else(|problem| {
            let mut response = views::error::view(&problem, request, Format::Json);
            if response.status == StatusCode::FORBIDDEN {
                response.status = StatusCode::UNAUTHORIZED;
                response.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        });
        answer.finished(&Method::POST)
    }

    fn request(&self, reader: &Reader, request: &Request, body: &[u8]) -> Result<String, Problem> {
        // The token is checked first, so that a client without it gets no information.
        if !bearer(&request.headers).is_some_and(|token| self.token.is(&token)) {
            return Err(Problem::Refused("send the token for reruns as Authorization: Bearer TOKEN".into()));
        }
        let parsed: Body = serde_json::from_slice(body)
            .map_err(|error| Problem::BadRequest(format!("the body is not a request: {error}")))?;
        if parsed.version != VERSION {
            return Err(Problem::BadRequest(format!("version {} is not supported", parsed.version)));
        }
        check(reader, &parsed.kind)?;
        submit(reader, parsed.kind, request.client)
    }
}

/// Refuses what the daemon would refuse.
fn check(reader: &Reader, kind: &RequestKind) -> Result<(), Problem> {
    let refused = |error: &dyn std::error::Error| Problem::BadRequest(error.to_string());
    let output_dir = reader.output_dir();
    match kind {
        RequestKind::Rerun(rerun) => check_rerun(reader, &rerun.commit, &rerun.key),
        RequestKind::Bisect(Bisect { branch, key, range }) => {
            let (listed, entries) = test_of(reader, branch, key)?;
            check_bisect(&listed, &entries, range.as_ref()).map_err(|error| refused(&error))
        }
        RequestKind::Believe(Believe { branch, key, confidence }) => {
            let (_, entries) = test_of(reader, branch, key)?;
            let confidence = Confidence::try_from(f64::from(*confidence)).map_err(|error| refused(&error))?;
            check_believe(&entries, confidence).map_err(|error| refused(&error))
        }
        RequestKind::CancelBisection(id) => {
            let found = bisections::read(output_dir, id).ok().flatten();
            let runs = found.is_some_and(|found| !found.record.state.is_final());
            runs.then_some(()).ok_or_else(|| Problem::NotFound("no such bisection is running".into()))
        }
        RequestKind::CancelBelieve(id) => {
            let found = claims::read(output_dir, id).ok().flatten();
            let runs = found.is_some_and(|found| !found.state.is_final());
            runs.then_some(()).ok_or_else(|| Problem::NotFound("no such claim is running".into()))
        }
        RequestKind::Drain(_)
        | RequestKind::Resume(_)
        | RequestKind::CancelBatch(_)
        | RequestKind::PauseBranch(_)
        | RequestKind::ResumeBranch(_) => check_control_request(reader, kind),
        RequestKind::Notify(_) => Err(Problem::BadRequest(
            "send a finding on the machine of ci-daemon: ci-status --local notify send".into(),
        )),
        RequestKind::Unlist(_) => {
            Err(Problem::BadRequest("unlist a branch on the machine of ci-daemon: ci-daemon unlist".into()))
        }
    }
}

/// Refuses to stop or resume what the farm does not have.
pub(super) fn check_control_request(reader: &Reader, kind: &RequestKind) -> Result<(), Problem> {
    let snapshot = reader.snapshot()?.unwrap_or_default();
    check_control(&snapshot, kind).map_err(|error| not_controlled(&error))
}

pub(super) fn not_controlled(error: &NotControlled) -> Problem {
    let text = error.to_string();
    match error {
        NotControlled::Reason | NotControlled::NoSlot(_) => Problem::BadRequest(text),
        NotControlled::NoHost(_) | NotControlled::NoBranch(_) => Problem::NotFound(text),
        NotControlled::NotDrained(_) | NotControlled::NoBatch(_) | NotControlled::NotPaused(_) => {
            Problem::Conflict(text)
        }
    }
}

/// The commits of a branch, and the results of a test there.
fn test_of(
    reader: &Reader,
    branch: &BranchRef,
    key: &ResultKey,
) -> Result<(Vec<BranchEntry>, Vec<HistoryEntry>), Problem> {
    let missing = || Problem::NotFound("no such branch".into());
    let listed = reader.branch(branch)?.ok_or_else(missing)?;
    let entries = reader.history(branch, key)?.ok_or_else(missing)?;
    if entries.iter().all(|row| row.entry.is_none()) {
        return Err(Problem::NotFound("the branch has no result of this test".into()));
    }
    Ok((listed, entries))
}
