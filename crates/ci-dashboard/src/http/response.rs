//! A response as data, and the parts of HTTP that depend on the request: conditions, ranges, content encodings.
//!
//! [`Response::finished`] adds the same security headers to every response, so that no handler can omit them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use bytes::Bytes;
use headers::{ContentLength, ContentRange, HeaderMapExt as _};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::conditional::{self, Selection, Validators};
use super::events::{EventSource, PREAMBLE, Step};
use super::public::VARY;
use super::{Rendered, Request};

/// No inline script or style, nothing from other sites, no framing.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A response to a client.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers, without `Content-Length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Whether the server is to answer the request once more, for the cache, after it has sent this response.
    pub needs_refresh: bool,
}

/// The source of the bytes of a body.
#[derive(Debug, Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A page or view; [`Response::negotiated`] selects its content encoding.
    Rendered(Arc<Rendered>),
    /// A part of an open file: `length` bytes from `start`.
    File {
        /// The file.
        file: File,
        /// The first byte.
        start: u64,
        /// The number of bytes.
        length: u64,
    },
    /// Server-sent events; the length is unknown.
    Events(Box<dyn EventSource>),
}

impl Body {
    /// The length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Empty | Self::Events(_) => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Rendered(rendered) => rendered.plain().len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// Writes the body. A file that has shrunk is an error, so that a truncated file is not mistaken for the complete
    /// one. Of an event source, writes the events that exist now.
    pub fn write_to(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Empty => Ok(()),
            Self::Bytes(bytes) => out.write_all(&bytes),
            Self::Rendered(rendered) => out.write_all(rendered.plain()),
            Self::File { mut file, start, length } => {
                file.seek(SeekFrom::Start(start))?;
                let copied = io::copy(&mut file.take(length), out)?;
                if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
            Self::Events(mut source) => {
                out.write_all(PREAMBLE.as_bytes())?;
                loop {
                    match source.poll() {
                        Step::Event(event) => out.write_all(event.as_bytes())?,
                        Step::End(event) => return out.write_all(event.as_bytes()),
                        Step::Wait | Step::Broken => return Ok(()),
                    }
                }
            }
        }
    }
}

/// The content types of responses.
pub mod content_type {
    /// A page.
    pub const HTML: &str = "text/html; charset=utf-8";
    /// A JSON view.
    pub const JSON: &str = "application/json";
    /// A log.
    pub const TEXT: &str = "text/plain; charset=utf-8";
    /// Server-sent events.
    pub const EVENTS: &str = "text/event-stream";
    /// Any other file.
    pub const BINARY: &str = "application/octet-stream";
}

impl Response {
    /// A complete body, which clients revalidate on every use.
    #[must_use]
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        Self { status, headers, body: Body::Bytes(body.into()), needs_refresh: false }
    }

    /// A page or view, to be [`negotiated`](Self::negotiated).
    #[must_use]
    pub fn rendered(content_type: &'static str, rendered: Arc<Rendered>) -> Self {
        Self { body: Body::Rendered(rendered), ..Self::new(StatusCode::OK, content_type, Bytes::new()) }
    }

    /// A redirection to another address of this site.
    #[must_use]
    pub fn redirect(status: StatusCode, location: &str) -> Self {
        let mut response = Self::new(status, content_type::TEXT, Bytes::new());
        if let Ok(location) = HeaderValue::from_str(location) {
            response.headers.insert(header::LOCATION, location);
        }
        response
    }

    /// The same response with an additional header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// A copy of a response with a body in memory.
    #[must_use]
    pub fn copied(&self) -> Option<Self> {
        let body = match &self.body {
            Body::Empty => Body::Empty,
            Body::Bytes(bytes) => Body::Bytes(bytes.clone()),
            Body::Rendered(rendered) => Body::Rendered(Arc::clone(rendered)),
            Body::File { .. } | Body::Events(_) => return None,
        };
        Some(Self { status: self.status, headers: self.headers.clone(), body, needs_refresh: false })
    }

    /// Applies a conditional or range request to a complete body with these validators.
    #[must_use]
    pub fn validated(mut self, request: &Request, validators: &Validators) -> Self {
        validators.write(&mut self.headers);
        if self.status != StatusCode::OK {
            return self;
        }
        let total = self.body.length();
        match conditional::evaluate(&request.headers, validators, total) {
            Selection::Full => {}
            Selection::NotModified => return self.not_modified(),
            Selection::Partial(range) => {
                self.status = StatusCode::PARTIAL_CONTENT;
                let (first, last) = (*range.start(), *range.end());
                if let Ok(range) = ContentRange::bytes(range, total) {
                    self.headers.typed_insert(range);
                }
                self.body = match self.body {
                    Body::File { file, start, .. } => {
                        Body::File { file, start: start + first, length: last - first + 1 }
                    }
                    other => Body::Bytes(slice(&other, first, last)),
                };
            }
            Selection::Unsatisfiable => {
                self.status = StatusCode::RANGE_NOT_SATISFIABLE;
                self.headers.typed_insert(ContentRange::unsatisfied_bytes(total));
                self.body = Body::Empty;
            }
        }
        self
    }

    fn not_modified(mut self) -> Self {
        self.status = StatusCode::NOT_MODIFIED;
        self.body = Body::Empty;
        self.headers.remove(header::CONTENT_TYPE);
        self.headers.remove(header::CONTENT_ENCODING);
        self
    }

    /// For a page or view: sends no body if the client has it, otherwise uses the best encoding that the client
    /// accepts. Pages are not served in ranges.
    #[must_use]
    pub fn negotiated(mut self, request: &Request) -> Self {
        let Body::Rendered(rendered) = &self.body else { return self };
        let rendered = Arc::clone(rendered);
        rendered.validators().write(&mut self.headers);
        if conditional::not_modified(&request.headers, rendered.validators()) {
            return self.not_modified();
        }
        let (bytes, coding) = rendered.encoded(request.header(header::ACCEPT_ENCODING).unwrap_or(""));
        self.body = Body::Bytes(bytes);
        if let Some(coding) = coding {
            self.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        self
    }

    /// Prevents caches from sending the response to clients that use another proxy.
    #[must_use]
    pub fn varied(mut self, request: &Request) -> Self {
        if request.is_forwarded {
            self.headers.append(header::VARY, HeaderValue::from_static(VARY));
        }
        self
    }

    /// The last step for every response: adds the headers that all responses have, and removes the body for `HEAD`.
    #[must_use]
    pub fn finished(mut self, method: &Method) -> Self {
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ] {
            self.headers.insert(name, HeaderValue::from_static(value));
        }
        if self.status != StatusCode::NOT_MODIFIED && !matches!(self.body, Body::Events(_)) {
            self.headers.typed_insert(ContentLength(self.body.length()));
        }
        if method == Method::HEAD {
            self.body = Body::Empty;
        }
        self
    }
}

fn slice(body: &Body, first: u64, last: u64) -> Bytes {
    let bytes = match body {
        Body::Bytes(bytes) => bytes,
        Body::Rendered(rendered) => rendered.plain(),
        Body::Empty | Body::File { .. } | Body::Events(_) => return Bytes::new(),
    };
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(at(first)..at(last.saturating_add(1)))
}
