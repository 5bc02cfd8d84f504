//! The views: each reads what it shows, builds plain data, and renders it as a page or as the JSON of formats.md.

pub mod arrival;
pub mod branch;
pub mod commit;
pub mod compare;
pub mod crashes;
pub mod error;
pub mod feed;
pub mod history;
pub mod home;
pub mod lanes;
pub mod log;
pub mod metrics;
pub mod status;
pub mod test;
mod testlist;

use askama::Template;
use http::StatusCode;
use model::CommitId;
use serde::Serialize;

use crate::conditional::Validators;
use crate::page::subject;
use crate::problem::Problem;
use crate::request::{Encoded, Request};
use crate::response::{Body, Response, kind};
use crate::route::{BranchRef, Links};
use crate::store::Store;
use crate::testfiles::TestFiles;

/// What every view is given.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The results.
    pub store: &'a Store,
    /// The request.
    pub request: &'a Request,
    /// The test files that are known.
    pub tests: &'a TestFiles,
    /// The time, Unix seconds.
    pub now: i64,
}

impl<'a> Context<'a> {
    /// Links on this site.
    #[must_use]
    pub fn links(&self) -> Links<'a> {
        Links { mount: &self.request.mount }
    }

    /// A page of a template, revalidated by its content.
    pub fn html(&self, template: &impl Template) -> Result<Response, Problem> {
        Ok(self.finish(kind::HTML, template.render()?.into_bytes()))
    }

    /// A JSON view, revalidated by its content.
    pub fn json(&self, view: &impl Serialize) -> Result<Response, Problem> {
        let body = serde_json::to_vec(view).map_err(|error| {
            tracing::error!("a view cannot be written as JSON: {error}");
            Problem::Render
        })?;
        Ok(self.finish(kind::JSON, body))
    }

    /// Text of another type, revalidated by its content.
    pub fn text(&self, content_type: &'static str, text: String) -> Result<Response, Problem> {
        Ok(self.finish(content_type, text.into_bytes()))
    }

    fn finish(&self, content_type: &'static str, body: Vec<u8>) -> Response {
        let response = Response::new(StatusCode::OK, content_type, Vec::new());
        let validators = Validators::of_bytes(&body);
        let mut response = Response { body: Body::Bytes(body), ..response };
        // Pages are not served in ranges: they may be compressed after this.
        let mut conditions = self.request.clone();
        conditions.headers.remove(http::header::RANGE);
        response = response.validated(&conditions, &validators);
        response.compressed(self.request)
    }

    /// The address of this view as JSON.
    #[must_use]
    pub fn json_address(&self) -> String {
        let Request { mount, path, query, .. } = self.request;
        // The path and query were decoded before a view is made, so they hold nothing but what an address may.
        let separator = if query.is_empty() { "" } else { "&" };
        format!("{mount}{path}?{query}{separator}format=json")
    }
}

/// A commit as pages name it.
#[derive(Debug, Clone)]
pub struct CommitLink {
    /// The first twelve digits.
    pub short: String,
    /// Its subject, cut.
    pub subject: String,
    /// Its page.
    pub href: String,
}

impl CommitLink {
    /// On a branch, where that is known.
    #[must_use]
    pub fn new(links: Links<'_>, at: Option<&BranchRef>, commit: &CommitId, message: &str) -> Self {
        Self {
            short: commit.short().into(),
            subject: subject(message, 160),
            href: links.commit(at, commit.as_str()),
        }
    }
}

/// The pattern that matches the tests of one test file, encoded for an address.
pub(crate) fn prefix_pattern(prefix: &str) -> String {
    Encoded(&format!("^{}", regex::escape(prefix))).to_string()
}
