//! What can be asked for beyond reading, the second of two: that a test runs again. Off unless the server was given a
//! token; a CGI program never has it.
//!
//! A person gives the token in the form on the test's page, a program as `Authorization: Bearer`. There is no cookie, so
//! no other site can ask in somebody's name. All that is written is a request, as `ci-status rerun` leaves it.

use http::header::{self, HeaderValue};
use http::{HeaderName, Method, StatusCode};
use model::{CommitId, ResultKey, Status};
use results::{Reader, requests};
use serde::Serialize;

use crate::problem::Problem;
use crate::request::{self, Request};
use crate::response::{Response, kind};
use crate::route::{Form, Links};
use crate::token::{Token, bearer};
use crate::views;

/// The longest body that is read, in bytes.
pub const BODY_MAX: usize = 4 << 10;
/// How many requests may be open: the daemon takes them every two seconds, so many more are a mistake.
const OPEN_MAX: usize = 500;

/// Who may ask.
#[derive(Debug)]
pub struct Rerun {
    token: Token,
}

#[derive(Serialize)]
struct Asked<'a> {
    commit: &'a CommitId,
    test: &'a ResultKey,
}

impl Rerun {
    /// For whoever has the token.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { token }
    }

    /// Answers a `POST`; `None` if its path asks for something else.
    #[must_use]
    pub fn answer(&self, reader: &Reader, request: &Request, body: &[u8]) -> Option<Response> {
        let segments = request::segments(&request.path).ok()?;
        let [first, sha, key, last] = segments.as_slice() else { return None };
        if (first.as_str(), last.as_str()) != ("c", "rerun") {
            return None;
        }
        let form = if bearer(&request.headers).is_some() { Form::Json } else { Form::Html };
        let answer = self.asked(reader, request, body, (sha, key)).map(|(sha, key)| match form {
            Form::Json => {
                let asked = Asked { commit: &sha, test: &key };
                Response::new(
                    StatusCode::ACCEPTED,
                    kind::JSON,
                    serde_json::to_vec(&asked).unwrap_or_default(),
                )
            }
            _ => {
                let page = Links { mount: &request.mount }.test(sha.as_str(), key.as_str());
                let mut response = Response::redirect(&page);
                response.status = StatusCode::SEE_OTHER;
                response
            }
        });
        let answer = answer.unwrap_or_else(|problem| {
            let mut response = views::error::view(&problem, request, form);
            if form == Form::Json && response.status == StatusCode::FORBIDDEN {
                response.status = StatusCode::UNAUTHORIZED;
                response.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        });
        Some(answer.finished(&Method::POST))
    }

    fn asked(
        &self,
        reader: &Reader,
        request: &Request,
        body: &[u8],
        (sha, key): (&str, &str),
    ) -> Result<(CommitId, ResultKey), Problem> {
        // The token first: who does not know it learns nothing.
        let given = match bearer(&request.headers) {
            Some(given) => given.to_owned(),
            None => self.form_token(request, body)?,
        };
        if !self.token.is(&given) {
            return Err(Problem::Refused("this is not the token for running tests again".into()));
        }
        let name = |error: model::NameError| Problem::BadRequest(error.to_string());
        let (sha, key): (CommitId, ResultKey) = (sha.parse().map_err(name)?, key.parse().map_err(name)?);
        let missing = || Problem::NotFound("there is no result of this test at this commit".into());
        let entry = reader.entry(&sha, &key)?.ok_or_else(missing)?;
        if entry.status == Status::InProgress {
            return Err(Problem::Conflict("this test runs just now".into()));
        }
        let open = requests::open(reader.output_dir());
        if open.iter().any(|open| open.commit == sha && open.key == key) {
            return Ok((sha, key));
        }
        if open.len() >= OPEN_MAX {
            let text = format!("{OPEN_MAX} requests wait already; does ci-daemon run?");
            return Err(Problem::Unavailable(text));
        }
        let rerun = requests::Rerun { commit: sha.clone(), key: key.clone() };
        requests::leave(reader.output_dir(), requests::What::Rerun(rerun)).map_err(|error| {
            let folder = reader.output_dir().join(requests::FOLDER);
            tracing::error!("{}: no request can be left: {error}", folder.display());
            Problem::Unavailable("the request cannot be left here; the server's log says why".into())
        })?;
        tracing::info!("{key} at {} runs again: somebody with the token asked", sha.short());
        Ok((sha, key))
    }

    /// The token in a form that a page of ours sent.
    fn form_token(&self, request: &Request, body: &[u8]) -> Result<String, Problem> {
        let refused = |why: &str| Err(Problem::Refused(why.into()));
        // A browser says whose page the form stood on; older ones do not, and the token alone must do.
        let from = request.header(HeaderName::from_static("sec-fetch-site"));
        if from.is_some_and(|from| !matches!(from, "same-origin" | "none")) {
            return refused("the form came from another site");
        }
        let content_type = request.header(header::CONTENT_TYPE).unwrap_or("");
        if !content_type.starts_with("application/x-www-form-urlencoded") {
            return refused("give the token in the form, or as Authorization: Bearer TOKEN");
        }
        let pairs = std::str::from_utf8(body).ok().and_then(|body| request::pairs(body).ok());
        let pairs = pairs.ok_or_else(|| Problem::BadRequest("the form cannot be read".into()))?;
        let token = pairs.into_iter().find(|(name, _)| name == "token").map(|(_, token)| token);
        Ok(token.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_addresses_are_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        let rerun = Rerun::new(Token::new("0123456789abcdef"));
        for path in ["/", "/c/x/rerun", "/c/x/y/rerun/z", "/c/x/y/log", "/d/x/y/rerun", "/c/%/y/rerun"] {
            assert!(rerun.answer(&reader, &Request::get(path), b"").is_none(), "{path}");
        }
    }
}
