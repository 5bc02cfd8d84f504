//! The views: each reads results, builds plain data, and renders it as a page or as the JSON of docs/formats.md.

mod bisection;
pub mod branch;
mod branch_queue;
mod branch_trend;
pub mod build;
mod build_lines;
pub mod changes;
pub mod commit;
mod commit_link;
mod commit_list;
mod commit_pages;
pub mod compare;
mod configuration_chips;
pub mod control;
pub mod coverage;
pub mod crashes;
mod culprit;
pub mod error;
pub mod eta;
pub mod failure_columns;
pub mod feed;
pub mod file;
pub mod findings;
mod fix;
pub mod flaky;
pub mod grid;
pub mod history;
pub mod home;
mod hosts;
pub mod log;
pub mod log_events;
pub mod matrix;
pub mod metrics;
mod pager;
pub mod range_diff;
pub mod records;
mod same_code;
mod same_patch;
mod sorting;
pub mod status;
mod suspicious;
pub mod test;
mod testlist;

use std::sync::Arc;

use askama::Template;
use model::StatusSnapshot;
use results::owners::Owners;
use serde::Serialize;

pub use commit_link::CommitLink;

use crate::http::{Encoded, Rendered, Request, Response, content_type};
use crate::page::{Crumb, Page};
use crate::problem::Problem;
use crate::repos::Repos;
use crate::route::{BranchRef, Links};
use crate::store::Store;
use crate::testfiles::TestFiles;

/// The age in seconds of a snapshot above which the daemon is considered stopped.
const STALE: i64 = 120;

/// The input of every view.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The results.
    pub store: &'a Store,
    /// The request.
    pub request: &'a Request,
    /// The test files in the configuration.
    pub tests: &'a TestFiles,
    /// The git repositories in the configuration.
    pub repos: &'a Repos,
    /// Whether pages offer reruns.
    pub reruns: bool,
    /// The branches in lists; `None` for all.
    pub only: Option<&'a [BranchRef]>,
    /// The current time, Unix seconds.
    pub now: i64,
}

impl<'a> Context<'a> {
    /// Links on this site.
    #[must_use]
    pub fn links(&self) -> Links<'a> {
        Links { mount: &self.request.mount }
    }

    /// The status snapshot; an empty one if the daemon does not run.
    #[must_use]
    pub fn snapshot(&self) -> StatusSnapshot {
        let snapshot = self.store.reader().snapshot().ok().flatten();
        let is_fresh = |snapshot: &StatusSnapshot| self.now.saturating_sub(snapshot.written) <= STALE;
        snapshot.filter(is_fresh).unwrap_or_default()
    }

    /// The owners of the test files; none if they cannot be read.
    #[must_use]
    pub fn owners(&self) -> Owners {
        self.store.reader().owners().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Owners::default()
        })
    }

    /// A page about a branch, which is below it in the breadcrumbs.
    pub fn branch_page(&self, at: &BranchRef, title: String, here: impl Into<String>) -> Page<'a> {
        let mut crumbs = commit::crumbs_of(self.links(), Some(at));
        crumbs.push(Crumb::here(here));
        let mut page = Page::new(title, self.links(), crumbs);
        page.json = Some(self.json_address());
        page.live = 15;
        page
    }

    /// A page from a template.
    pub fn html(&self, template: &impl Template) -> Result<Response, Problem> {
        self.text(content_type::HTML, template.render()?)
    }

    /// A JSON view.
    pub fn json(&self, view: &impl Serialize) -> Result<Response, Problem> {
        let body = serde_json::to_vec(view).map_err(|error| {
            tracing::error!("a view cannot be written as JSON: {error}");
            Problem::Render
        })?;
        Ok(Response::rendered(content_type::JSON, Arc::new(Rendered::new(body))))
    }

    /// Text of another type.
    pub fn text(&self, content_type: &'static str, text: String) -> Result<Response, Problem> {
        Ok(Response::rendered(content_type, Arc::new(Rendered::new(text))))
    }

    /// The address of the JSON form of this view.
    #[must_use]
    pub fn json_address(&self) -> String {
        let Request { mount, path, query, .. } = self.request;
        // The path and the query could be decoded, so they contain only characters that are allowed in an address.
        let separator = if query.is_empty() { "" } else { "&" };
        format!("{mount}{path}?{query}{separator}format=json")
    }
}

/// A test with the address of its page.
pub(crate) struct TestLink {
    /// Its name, truncated.
    pub(crate) name: String,
    /// The address.
    pub(crate) href: String,
}

/// The filter for the tests of one test file, encoded for an address.
pub(crate) fn prefix_pattern(prefix: &str) -> String {
    Encoded(&format!("^{}", regex::escape(prefix))).to_string()
}
