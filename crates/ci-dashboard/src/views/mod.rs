//! The views: each reads what it shows, builds plain data, and renders it as a page or as the JSON of formats.md.

pub mod branch;
pub mod commit;
pub mod compare;
pub mod coverage;
pub mod crashes;
pub mod error;
pub mod eta;
pub mod failure_columns;
pub mod feed;
pub mod file;
pub mod history;
pub mod home;
pub mod log;
pub mod log_events;
pub mod metrics;
pub mod status;
mod suspicious;
pub mod test;
mod testlist;

use std::sync::Arc;

use askama::Template;
use model::CommitId;
use serde::Serialize;

use crate::http::{Encoded, Rendered, Request, Response, content_type};
use crate::page::subject;
use crate::problem::Problem;
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
    /// Whether a test can be run again from here.
    pub reruns: bool,
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
        self.text(content_type::HTML, template.render()?)
    }

    /// A JSON view, revalidated by its content.
    pub fn json(&self, view: &impl Serialize) -> Result<Response, Problem> {
        let body = serde_json::to_vec(view).map_err(|error| {
            tracing::error!("a view cannot be written as JSON: {error}");
            Problem::Render
        })?;
        Ok(Response::rendered(content_type::JSON, Arc::new(Rendered::new(body))))
    }

    /// Text of another type, revalidated by its content.
    pub fn text(&self, content_type: &'static str, text: String) -> Result<Response, Problem> {
        Ok(Response::rendered(content_type, Arc::new(Rendered::new(text))))
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
