//! `ci-status open`: opens a page of the dashboard in the browser, and prints its address.

use std::io::{self, Write};

use reqwest::Url;
use serde::Serialize;

use super::logs::TestAtCommit;
use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::screen;
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

impl Page {
    /// Opens the page in the browser: `$BROWSER`, or the one of the desktop. Without either, only the address is printed.
    pub fn show(&self) {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let has_desktop = variable("DISPLAY").or_else(|| variable("WAYLAND_DISPLAY")).is_some();
        for command in browsers(variable("BROWSER").as_deref(), has_desktop, &self.url) {
            if screen::run(&command).unwrap_or(false) {
                return;
            }
        }
    }
}

/// The commands that open an address, the preferred one first. `$BROWSER` is a list of commands separated by colons, in which `%s`
/// is the address; without it, the address is the last argument.
fn browsers(variable: Option<&str>, has_desktop: bool, url: &str) -> Vec<Vec<String>> {
    let command = |text: &str| {
        let words: Vec<String> = text.split_whitespace().map(|word| word.replace("%s", url)).collect();
        let with_address = if text.contains("%s") { None } else { Some(url.to_owned()) };
        words.into_iter().chain(with_address).collect::<Vec<_>>()
    };
    let named = variable.iter().flat_map(|list| list.split(':')).filter(|text| !text.trim().is_empty());
    let desktop = (variable.is_none() && has_desktop).then_some("xdg-open");
    named.chain(desktop).map(command).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_of_the_user_is_preferred() {
        let found = |variable, has_desktop| {
            let commands = browsers(variable, has_desktop, "http://x/ci");
            commands.iter().map(|command| command.join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(found(None, true), ["xdg-open http://x/ci"]);
        assert!(found(None, false).is_empty());
        assert_eq!(found(Some("w3m"), true), ["w3m http://x/ci"]);
        assert_eq!(
            found(Some("firefox --new-tab %s: :lynx"), false),
            ["firefox --new-tab http://x/ci", "lynx http://x/ci"]
        );
    }
}
