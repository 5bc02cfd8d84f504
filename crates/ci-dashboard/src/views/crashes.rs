//! The crashes on a branch by their titles: one crash under ten tests is one line, two crashes under one test are two.
//!
//! A stretch of failures is looked at where it begins and where it ends, so that 500 commits are asked with a few reads
//! a failing test; a title that came and went inside one stretch is not told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use askama::Template;
use results::BranchEntry;
use serde::Serialize;

use super::{CommitLink, Context};
use crate::changes::{Failure, History};
use crate::page::{Crumb, Page, Plural as _, cut};
use crate::problem::Problem;
use crate::response::Response;
use crate::route::{BranchRef, Form};

/// How many stretches of failures are looked at.
const FAILURES_MAX: usize = 2000;
/// How many crashes a page lists.
const CRASHES_MAX: usize = 200;
/// How many tests one line names.
const TESTS_MAX: usize = 5;

/// One crash.
#[derive(Debug, Default, PartialEq, Eq)]
struct Group {
    /// The oldest row in which it was seen.
    first: usize,
    /// The newest.
    last: usize,
    tests: BTreeSet<String>,
    /// Whether a test that it befell still fails.
    lasting: bool,
}

#[derive(Template)]
#[template(path = "crashes.html")]
struct CrashesPage<'a> {
    page: Page<'a>,
    at: &'a BranchRef,
    branch_href: String,
    rows: Vec<CrashLine>,
    more: usize,
}

struct CrashLine {
    title: String,
    lasting: bool,
    first: CommitLink,
    last: CommitLink,
    span: String,
    tests: Vec<TestLink>,
    tests_more: usize,
}

struct TestLink {
    name: String,
    href: String,
}

#[derive(Serialize)]
struct CrashView<'a> {
    crash: &'a str,
    lasting: bool,
    first: SeenView<'a>,
    last: SeenView<'a>,
    tests: Vec<&'a str>,
}

#[derive(Serialize)]
struct SeenView<'a> {
    commit: &'a str,
    message: &'a str,
}

/// The view.
pub fn view(context: Context<'_>, at: &BranchRef, form: Form) -> Result<Response, Problem> {
    let entries = context.store.branch(at)?;
    let history = context.store.walk(&entries);
    let failures = history.failures();
    let title = |row: usize, test: &str| title(context, &entries, row, test);
    let groups = groups(&history, &failures, title);
    if form == Form::Json {
        let seen =
            |row: usize| SeenView { commit: entries[row].commit.as_str(), message: &entries[row].message };
        let views: Vec<_> = groups
            .iter()
            .map(|(title, group)| CrashView {
                crash: title,
                lasting: group.lasting,
                first: seen(group.first),
                last: seen(group.last),
                tests: group.tests.iter().map(String::as_str).collect(),
            })
            .collect();
        return context.json(&views);
    }
    let links = context.links();
    let crumbs = vec![
        Crumb::link(&at.user, links.user(&at.user)),
        Crumb::link(&at.branch, links.branch(at)),
        Crumb::here("crashes"),
    ];
    let mut page = Page::new(format!("Crashes on {}", at.branch), links, crumbs);
    page.json = Some(context.json_address());
    page.live = 15;
    let commit = |row: usize| CommitLink::new(links, Some(at), &entries[row].commit, &entries[row].message);
    let line = |(title, group): &(String, Group)| CrashLine {
        title: cut(title, 400),
        lasting: group.lasting,
        first: commit(group.first),
        last: commit(group.last),
        span: (group.first - group.last + 1).plural("commit").to_string(),
        tests: group
            .tests
            .iter()
            .take(TESTS_MAX)
            .map(|name| TestLink { name: cut(name, 200), href: links.history(at, name) })
            .collect(),
        tests_more: group.tests.len().saturating_sub(TESTS_MAX),
    };
    context.html(&CrashesPage {
        page,
        at,
        branch_href: links.branch(at),
        rows: groups.iter().take(CRASHES_MAX).map(line).collect(),
        more: groups.len().saturating_sub(CRASHES_MAX),
    })
}

fn title(context: Context<'_>, entries: &[BranchEntry], row: usize, test: &str) -> Option<String> {
    let key = test.parse().ok()?;
    context.store.reader().entry(&entries.get(row)?.commit, &key).ok()??.crash
}

/// The crashes, those that last first, the latest seen first; `title` says how a test crashed in a row.
fn groups(
    history: &History,
    failures: &[&Failure],
    title: impl Fn(usize, &str) -> Option<String>,
) -> Vec<(String, Group)> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut asked: HashMap<(usize, u32), Option<String>> = HashMap::new();
    for failure in failures.iter().take(FAILURES_MAX) {
        let name = history.name(failure.test);
        let mut rows = vec![failure.first_bad, failure.last_bad];
        rows.dedup();
        let titles: Vec<(usize, String)> = rows
            .into_iter()
            .filter_map(|row| {
                let title = asked.entry((row, failure.test)).or_insert_with(|| title(row, name)).clone();
                Some((row, title?))
            })
            .collect();
        for (row, title) in titles {
            let group =
                groups.entry(title).or_insert_with(|| Group { first: row, last: row, ..Group::default() });
            group.first = group.first.max(row);
            group.last = group.last.min(row);
            group.tests.insert(name.to_owned());
            group.lasting |= failure.first_good.is_none() && row == failure.last_bad;
        }
    }
    let mut sorted: Vec<_> = groups.into_iter().collect();
    sorted.sort_by_key(|(_, group)| (!group.lasting, group.last, group.first));
    sorted
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Status::{Failed, Passed};

    use super::*;
    use crate::changes::Verdicts;

    #[test]
    fn one_crash_is_one_line_and_two_are_two() {
        let names: Arc<[Box<str>]> = ["a", "b", "c"].map(Box::from).into();
        let rows =
            [[Failed, Passed, Failed], [Failed, Failed, Passed], [Failed, Passed, Passed], [Passed; 3]];
        let history = History::of(
            rows.iter()
                .map(|row| Some(Verdicts { names: Arc::clone(&names), statuses: row.as_slice().into() })),
        );
        let failures = history.failures();
        let title = |row: usize, test: &str| match (row, test) {
            (2, "a") | (1, "b") => Some("X".to_owned()),
            (0, "a") => Some("Y".to_owned()),
            _ => None,
        };
        let groups = groups(&history, &failures, title);
        let words =
            groups.iter().map(|(title, g)| (title.as_str(), g.first, g.last, g.tests.len(), g.lasting));
        assert_eq!(words.collect::<Vec<_>>(), [("Y", 0, 0, 1, true), ("X", 2, 1, 2, false)]);
    }
}
