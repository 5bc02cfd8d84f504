//! `ci-status open`: the address of a page of the dashboard.

use std::io::{self, Write};

use reqwest::Url;
use serde::Serialize;

use super::logs::TestAtCommit;
use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select::{self, SelectedCommit};

/// A page.
#[derive(Debug, Serialize)]
pub struct Page {
    url: String,
}

/// The page of a branch, of a commit, or of a test at a commit; without a name, the start page.
pub fn run(context: &Context, name: Option<&str>, test: Option<&str>) -> Result<Page, Problem> {
    let address = context.address.as_deref().ok_or(Problem::NoDashboard)?;
    let mut url = crate::backend::base(address)?;
    match (name, test) {
        (None, _) => extend(&mut url, &["ci"]),
        (Some(name), Some(test)) => {
            let found = TestAtCommit::find(context, name, test)?;
            extend(&mut url, &["c", found.commit.as_str(), found.key.as_str(), ""]);
            if found.status().has_failure() {
                url.set_fragment(Some("failure"));
            }
        }
        (Some(name), None) => {
            let SelectedCommit { commit, at } = select::commit_or_branch(context, Some(name))?;
            extend(&mut url, &["ci"]);
            match at.filter(|_| !commit.as_str().starts_with(name)) {
                Some(at) => {
                    let names = [("user", at.user.as_str()), ("branch", at.branch.as_str())];
                    url.query_pairs_mut().extend_pairs(names);
                }
                None => drop(url.query_pairs_mut().append_pair("commit", commit.as_str())),
            }
        }
    }
    Ok(Page { url: url.into() })
}

fn extend(url: &mut Url, segments: &[&str]) {
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
}

impl Answer for Page {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.url)
    }
}
