//! The control action: an operator drains or resumes a host or slot, cancels a batch, pauses or resumes a branch.
//!
//! The form is on the page `/ci/control`. The token is that of reruns, and is entered for each action; there is no cookie, so another site
//! cannot send a request on behalf of a user. The action only writes a request file, as `ci-status drain` does.

use http::{Method, StatusCode};
use regress::request::running_batch;
use results::Reader;
use results::requests::{CancelBatch, Drain, PauseBranch, RequestKind};

use super::request::{check_control_request, not_controlled};
use super::rerun::form_fields;
use super::submit::submit;
use super::token::Token;
use crate::http::{Request, Response};
use crate::problem::Problem;
use crate::route::{ControlAction, Format, Links};
use crate::views;

/// The control action of a server.
#[derive(Debug)]
pub struct Control {
    token: Token,
}

/// The fields of a form.
struct Fields(Vec<(String, String)>);

impl Fields {
    /// The last value; empty if it is absent.
    fn text(&self, name: &str) -> &str {
        self.0.iter().rev().find(|(other, _)| other == name).map_or("", |(_, value)| value.trim())
    }
}

impl Control {
    /// Requests of clients that send this token.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { token }
    }

    /// Answers a `POST`.
    #[must_use]
    pub fn answer(&self, reader: &Reader, request: &Request, body: &[u8]) -> Response {
        let status = Links { mount: &request.mount }.status();
        let answer = self.request(reader, request, body).map_or_else(
            |problem| views::error::view(&problem, request, Format::Html),
            |()| Response::redirect(StatusCode::SEE_OTHER, &status),
        );
        answer.finished(&Method::POST)
    }

    fn request(&self, reader: &Reader, request: &Request, body: &[u8]) -> Result<(), Problem> {
        // The token is checked first, so that a client without it gets no information.
        let fields = Fields(form_fields(request, body)?);
        if !self.token.is(fields.text("token")) {
            return Err(Problem::Refused("wrong token for reruns".into()));
        }
        let kind = kind(reader, &fields)?;
        check_control_request(reader, &kind)?;
        submit(reader, kind, request.client).map(drop)
    }
}

fn kind(reader: &Reader, fields: &Fields) -> Result<RequestKind, Problem> {
    let name = |error: model::NameError| Problem::BadRequest(error.to_string());
    let at = fields.text("at");
    let reason = Some(fields.text("reason")).filter(|text| !text.is_empty()).map(str::to_owned);
    let action = ControlAction::of_word(fields.text("do"));
    Ok(match action.ok_or_else(|| Problem::BadRequest("the form has no such action".into()))? {
        ControlAction::Drain => RequestKind::Drain(Drain { place: at.parse().map_err(name)?, reason }),
        ControlAction::Resume => RequestKind::Resume(at.parse().map_err(name)?),
        ControlAction::Cancel => {
            let snapshot = reader.snapshot()?.unwrap_or_default();
            let place = at.parse().map_err(name)?;
            let running = running_batch(&snapshot, &place).map_err(|error| not_controlled(&error))?;
            // The batch that the page showed; a later one is not cancelled.
            let started = match fields.text("batch") {
                "" => running.started,
                text => text.parse().map_err(|_| Problem::BadRequest("the batch is not a number".into()))?,
            };
            RequestKind::CancelBatch(CancelBatch { started, ..running })
        }
        ControlAction::Pause => {
            RequestKind::PauseBranch(PauseBranch { branch: at.parse().map_err(name)?, reason })
        }
        ControlAction::ResumeBranch => RequestKind::ResumeBranch(at.parse().map_err(name)?),
    })
}
