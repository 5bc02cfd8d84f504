//! The newest bisections and claims, and the state of a request, for programs. Only JSON.

use http::StatusCode;
use results::requests::{self, RequestState};
use results::{Reader, bisections, claims};
use serde::Serialize;

use crate::http::{Response, content_type};
use crate::problem::Problem;

/// The maximum number of records in a list.
const RECORDS_MAX: usize = 200;

#[derive(Serialize)]
struct RequestView {
    state: RequestState,
}

/// The bisections, newest first.
pub fn bisections(reader: &Reader) -> Result<Response, Problem> {
    json(&bisections::newest(reader.output_dir(), RECORDS_MAX))
}

/// The claims, newest first.
pub fn claims(reader: &Reader) -> Result<Response, Problem> {
    json(&claims::newest(reader.output_dir(), RECORDS_MAX))
}

/// How far ci-daemon is with a request.
pub fn request(reader: &Reader, file: &str) -> Result<Response, Problem> {
    json(&RequestView { state: requests::state(reader.output_dir(), file) })
}

fn json(value: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!("a record cannot be written as JSON: {error}");
        Problem::Store
    })?;
    Ok(Response::new(StatusCode::OK, content_type::JSON, body))
}
