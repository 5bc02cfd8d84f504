//! The crashes on a branch by their titles: one crash under ten tests is one line, two crashes under one test are two.
//!
//! Every failed verdict of the branch is looked at, up to a limit; beyond it a stretch of failures is looked at where it
//! begins and where it ends, and the page says that it is so.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use model::Status;
use results::BranchEntry;
use serde::Serialize;

use super::{CommitLink, Context};
use crate::changes::{Failure, History};
use crate::page::{Crumb, Page, Plural as _, When, cut};
use crate::problem::Problem;
use crate::response::Response;
use crate::route::{BranchRef, Form};

/// How many stretches of failures are looked at.
const FAILURES_MAX: usize = 2000;
/// How many verdicts are looked at beyond the ends of stretches; each is a few small reads.
const LOOKS_MAX: usize = 3000;
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
    /// In how many verdicts.
    count: usize,
    tests: BTreeSet<String>,
    hosts: BTreeSet<String>,
    /// When it was first and last seen, Unix seconds.
    times: Option<(i64, i64)>,
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
    all_seen: bool,
}

struct CrashLine {
    title: String,
    lasting: bool,
    first: CommitLink,
    last: CommitLink,
    first_at: Option<When>,
    last_at: Option<When>,
    span: String,
    count: String,
    hosts: String,
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
    count: usize,
    first: SeenView<'a>,
    last: SeenView<'a>,
    tests: Vec<&'a str>,
    hosts: Vec<&'a str>,
}

#[derive(Serialize)]
struct SeenView<'a> {
    commit: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<i64>,
}

/// The view.
pub fn view(context: Context<'_>, at: &BranchRef, form: Form) -> Result<Response, Problem> {
    let entries = context.store.branch(at)?;
    let history = context.store.walk(&entries);
    let failures = history.failures();
    let look = |row: usize, test: &str| look(context, &entries, row, test);
    let (groups, all_seen) = groups(&history, &failures, look);
    if form == Form::Json {
        let seen = |row: usize, started: Option<i64>| SeenView {
            commit: entries[row].commit.as_str(),
            message: &entries[row].message,
            started,
        };
        let views: Vec<_> = groups
            .iter()
            .map(|(title, group)| CrashView {
                crash: title,
                lasting: group.lasting,
                count: group.count,
                first: seen(group.first, group.times.map(|(first, _)| first)),
                last: seen(group.last, group.times.map(|(_, last)| last)),
                tests: group.tests.iter().map(String::as_str).collect(),
                hosts: group.hosts.iter().map(String::as_str).collect(),
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
        first_at: group.times.and_then(|(first, _)| When::unix(first)),
        last_at: group.times.and_then(|(_, last)| When::unix(last)),
        span: (group.first - group.last + 1).plural("commit").to_string(),
        count: group.count.plural("time").to_string(),
        hosts: cut(&group.hosts.iter().map(String::as_str).collect::<Vec<_>>().join(" "), 200),
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
        all_seen,
    })
}

/// A crash of one test at one commit.
#[derive(Debug, Clone, Default)]
struct Crashed {
    title: String,
    host: Option<String>,
    started: Option<i64>,
}

fn look(context: Context<'_>, entries: &[BranchEntry], row: usize, test: &str) -> Option<Crashed> {
    let key = test.parse().ok()?;
    let entry = context.store.reader().entry(&entries.get(row)?.commit, &key).ok()??;
    Some(Crashed {
        title: entry.crash?,
        host: entry.host.map(|host| host.to_string()),
        started: entry.started,
    })
}

/// The crashes, those that last first, the latest seen first, and whether every failed verdict was looked at; `look` says
/// how a test crashed in a row.
fn groups(
    history: &History,
    failures: &[&Failure],
    look: impl Fn(usize, &str) -> Option<Crashed>,
) -> (Vec<(String, Group)>, bool) {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let (mut looks, mut all_seen) = (0, failures.len() <= FAILURES_MAX);
    for failure in failures.iter().take(FAILURES_MAX) {
        let name = history.name(failure.test);
        let stretch = failure.last_bad..=failure.first_bad;
        let rows: BTreeSet<usize> = if looks + stretch.clone().count() <= LOOKS_MAX {
            let failed = |row: &usize| history.statuses(*row, &[failure.test]) == [Some(Status::Failed)];
            stretch.filter(failed).collect()
        } else {
            all_seen &= stretch.count() <= 2;
            [failure.first_bad, failure.last_bad].into()
        };
        looks += rows.len();
        for row in rows {
            let Some(Crashed { title, host, started }) = look(row, name) else { continue };
            let group =
                groups.entry(title).or_insert_with(|| Group { first: row, last: row, ..Group::default() });
            group.first = group.first.max(row);
            group.last = group.last.min(row);
            group.count += 1;
            group.tests.insert(name.to_owned());
            group.hosts.extend(host);
            if let Some(at) = started {
                let (first, last) = group.times.unwrap_or((at, at));
                group.times = Some((first.min(at), last.max(at)));
            }
            group.lasting |= failure.first_good.is_none() && row == failure.last_bad;
        }
    }
    let mut sorted: Vec<_> = groups.into_iter().collect();
    sorted.sort_by_key(|(_, group)| (!group.lasting, group.last, group.first));
    (sorted, all_seen)
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
        // Test `a` crashes one way, then, within the same stretch of failures, another, then the third.
        let look = |row: usize, test: &str| {
            let title = match (row, test) {
                (2, "a") | (1, "b") => "X",
                (1, "a") => "Z",
                (0, "a") => "Y",
                _ => return None,
            };
            let started = Some(100 - i64::try_from(row).unwrap());
            Some(Crashed { title: title.into(), host: Some(format!("farm{row}")), started })
        };
        let (groups, all_seen) = groups(&history, &failures, look);
        assert!(all_seen);
        let words = groups.iter().map(|(title, g)| {
            (title.as_str(), g.first, g.last, g.count, g.tests.len(), g.hosts.len(), g.lasting)
        });
        assert_eq!(
            words.collect::<Vec<_>>(),
            [("Y", 0, 0, 1, 1, 1, true), ("Z", 1, 1, 1, 1, 1, false), ("X", 2, 1, 2, 2, 2, false)]
        );
        assert_eq!(groups[2].1.times, Some((98, 99)));
    }
}
