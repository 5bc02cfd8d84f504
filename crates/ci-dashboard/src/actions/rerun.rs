//! The rerun action: a client requests a rerun of a test at a commit.
//!
//! A user enters the token in the form on the test's page; a program sends it as `Authorization: Bearer`. There is no
//! cookie, so another site cannot send a request on behalf of a user. The action only writes a request file, as
//! `ci-status rerun` does.

use http::header::{self, HeaderValue};
use http::{HeaderName, Method, StatusCode};
use model::{CommitId, ResultKey, Status};
use results::{Reader, requests};
use serde::Serialize;

use super::submit::submit;
use super::token::{Token, bearer};
use crate::http::{Request, Response, content_type, request};
use crate::problem::Problem;
use crate::route::{Format, Links};
use crate::views;

/// The maximum size of the body of a rerun or request, in bytes.
pub const BODY_MAX: usize = 4 << 10;

/// The rerun action of a server.
#[derive(Debug)]
pub struct Rerun {
    token: Token,
}

#[derive(Serialize)]
struct Accepted<'a> {
    commit: &'a CommitId,
    test: &'a ResultKey,
}

impl Rerun {
    /// Reruns for clients that send this token.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { token }
    }

    /// Answers a `POST` for a commit and a test.
    #[must_use]
    pub fn answer(&self, reader: &Reader, request: &Request, body: &[u8], test: (&str, &str)) -> Response {
        let format = if bearer(&request.headers).is_some() { Format::Json } else { Format::Html };
        let answer = self.request(reader, request, body, test).map(|(sha, key)| match format {
            Format::Json => {
                let view = Accepted { commit: &sha, test: &key };
                let body = serde_json::to_vec(&view).unwrap_or_default();
                Response::new(StatusCode::ACCEPTED, content_type::JSON, body)
            }
            _ => {
                let page = Links { mount: &request.mount }.test(sha.as_str(), key.as_str());
                Response::redirect(StatusCode::SEE_OTHER, &page)
            }
        });
        let answer = answer.unwrap_or_else(|problem| {
            let mut response = views::error::view(&problem, request, format);
            if format == Format::Json && response.status == StatusCode::FORBIDDEN {
                response.status = StatusCode::UNAUTHORIZED;
                response.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        });
        answer.finished(&Method::POST)
    }

    fn request(
        &self,
        reader: &Reader,
        request: &Request,
        body: &[u8],
        (sha, key): (&str, &str),
    ) -> Result<(CommitId, ResultKey), Problem> {
        // The token is checked first, so that a client without it gets no information.
        let token = match bearer(&request.headers) {
            Some(token) => token,
            None => form_token(request, body)?,
        };
        if !self.token.is(&token) {
            return Err(Problem::Refused("wrong token for reruns".into()));
        }
        let name = |error: model::NameError| Problem::BadRequest(error.to_string());
        let (sha, key): (CommitId, ResultKey) = (sha.parse().map_err(name)?, key.parse().map_err(name)?);
        check_rerun(reader, &sha, &key)?;
        let rerun = requests::Rerun { commit: sha.clone(), key: key.clone() };
        submit(reader, requests::RequestKind::Rerun(rerun), request.client)?;
        Ok((sha, key))
    }
}

/// Whether a test can run again at a commit.
pub(super) fn check_rerun(reader: &Reader, sha: &CommitId, key: &ResultKey) -> Result<(), Problem> {
    let missing = || Problem::NotFound("no result of this test at this commit".into());
    let entry = reader.entry(sha, key)?.ok_or_else(missing)?;
    if entry.decisive.status == Status::InProgress {
        return Err(Problem::Conflict("this test is running right now".into()));
    }
    Ok(())
}

/// The token in a form that was sent from a page of this site.
fn form_token(request: &Request, body: &[u8]) -> Result<String, Problem> {
    let fields = form_fields(request, body)?;
    let token = fields.into_iter().find(|(name, _)| name == "token").map(|(_, token)| token);
    Ok(token.unwrap_or_default())
}

/// The fields of a form that was sent from a page of this site.
pub(super) fn form_fields(request: &Request, body: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let refused = |reason: &str| Err(Problem::Refused(reason.into()));
    // Browsers send the origin of the form. With older browsers, only the token protects the action.
    let site = request.header(HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return refused("the form was sent by another site");
    }
    let content_type = request.header(header::CONTENT_TYPE).unwrap_or("");
    if !content_type.starts_with("application/x-www-form-urlencoded") {
        return refused("send the token in the form, or as Authorization: Bearer TOKEN");
    }
    let pairs = std::str::from_utf8(body).ok().and_then(|body| request::pairs(body).ok());
    pairs.ok_or_else(|| Problem::BadRequest("the form cannot be decoded".into()))
}
