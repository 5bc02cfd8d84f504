//! A stored file as a response: its unchanged bytes, with validators and ranges.

use std::fs::File;
use std::io;

use headers::{AcceptRanges, HeaderMapExt as _};
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::conditional::Validators;
use super::{Body, Request, Response};

/// How a stored file is presented to the client.
#[derive(Debug, Clone, Copy)]
pub struct Presentation {
    /// Its type.
    pub content_type: &'static str,
    /// Whether its bytes are compressed with brotli, which the client decompresses.
    pub brotli: bool,
    /// Whether a browser saves it instead of displaying it.
    pub attachment: bool,
}

/// Serves the open regular file `file`, or the part of it that the request selects.
pub fn serve(file: File, presentation: Presentation, request: &Request) -> io::Result<Response> {
    let metadata = file.metadata()?;
    let body = Body::File { file, start: 0, length: metadata.len() };
    Ok(respond(body, &Validators::of_file(&metadata), presentation, request))
}

/// The stored bytes `body`, or the part of them that the request selects.
pub fn respond(
    body: Body,
    validators: &Validators,
    presentation: Presentation,
    request: &Request,
) -> Response {
    let mut response = Response::new(StatusCode::OK, presentation.content_type, Vec::new());
    response.body = body;
    response.headers.remove(header::VARY);
    response.headers.typed_insert(AcceptRanges::bytes());
    if presentation.attachment {
        response.headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
    if presentation.brotli {
        response.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    response.validated(request, validators)
}
