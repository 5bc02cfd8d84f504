//! The findings of a branch: what broke and what is fixed, newest first, and those of the farm as JSON.

use std::collections::HashMap;

use askama::Template;
use model::{CommitId, FindingKind, ResultKey};
use results::BranchEntry;
use results::findings::{FindingQuery, RecordedFinding};

use super::pager::Pager;
use super::{CommitLink, Context};
use crate::http::Response;
use crate::page::{Page, Plural as _, When, cut};
use crate::problem::Problem;
use crate::route::{BranchRef, Format};

/// The maximum number of findings on a page.
const ROWS_MAX: usize = 50;
/// The maximum number of findings that are read.
const READ_MAX: usize = 1000;
/// The maximum number of tests of a finding that are named.
const NAMED_MAX: usize = 3;

#[derive(Template)]
#[template(path = "findings.html")]
struct FindingsPage<'a> {
    page: Page<'a>,
    at: &'a BranchRef,
    branch_href: String,
    feed_href: String,
    rows: Vec<FindingLine>,
    total: usize,
    pager: Pager,
}

struct FindingLine {
    id: String,
    at: Option<When>,
    class: &'static str,
    symbol: &'static str,
    words: &'static str,
    what: String,
    tests: Vec<(String, String)>,
    more: String,
    commit: Option<CommitLink>,
    rate: String,
    /// The first bad commit of a fix.
    since: Option<CommitLink>,
    marks: String,
}

/// The view of a branch.
pub fn view(context: Context<'_>, at: &BranchRef, page: usize, format: Format) -> Result<Response, Problem> {
    let entries = context.store.branch(at)?;
    let query = FindingQuery { branch: Some(at), most: READ_MAX, ..FindingQuery::default() };
    let found = context.store.reader().findings(&query);
    if format == Format::Json {
        return context.json(&found);
    }
    let listed: HashMap<&CommitId, &BranchEntry> =
        entries.iter().map(|entry| (&entry.commit, entry)).collect();
    let links = context.links();
    let address = links.findings(at);
    let (rows, pager) = Pager::of_rows(found.len(), ROWS_MAX, page, &address);
    context.html(&FindingsPage {
        page: context.branch_page(at, format!("Findings on {}", at.branch), "findings"),
        at,
        branch_href: links.branch(at),
        feed_href: links.feed(at),
        rows: found[rows].iter().map(|found| line(context, at, &listed, found)).collect(),
        total: found.len(),
        pager,
    })
}

/// The address of the findings of a branch; empty if nothing was found.
pub fn href(context: Context<'_>, at: &BranchRef) -> String {
    let query = FindingQuery { branch: Some(at), most: 1, ..FindingQuery::default() };
    let is_empty = context.store.reader().findings(&query).is_empty();
    if is_empty { String::new() } else { context.links().findings(at) }
}

/// The findings of all branches and of the farm, newest first.
pub fn all(context: Context<'_>) -> Result<Response, Problem> {
    context
        .json(&context.store.reader().findings(&FindingQuery { most: READ_MAX, ..FindingQuery::default() }))
}

fn line(
    context: Context<'_>,
    at: &BranchRef,
    listed: &HashMap<&CommitId, &BranchEntry>,
    found: &RecordedFinding,
) -> FindingLine {
    let finding = &found.finding;
    let (class, symbol) = look(finding.kind);
    let link = |commit: &Option<CommitId>| {
        let commit = commit.as_ref()?;
        Some(match listed.get(commit) {
            Some(entry) => CommitLink::listed(context, at, entry),
            None => CommitLink::new(context, Some(at), commit, "", &results::Authorship::default()),
        })
    };
    let href = |test: &ResultKey| match &finding.commit {
        Some(commit) => context.links().test(commit.as_str(), test.as_str()),
        None => context.links().history(at, test.as_str()),
    };
    let more = (finding.tests_total as usize).saturating_sub(NAMED_MAX.min(finding.tests.len()));
    let marks: Vec<String> = found.marks.iter().map(|mark| mark.what.to_string()).collect();
    FindingLine {
        id: finding.id.clone(),
        at: When::unix(finding.at),
        class,
        symbol,
        words: finding.kind.words(),
        what: cut(&finding.signature, 300),
        tests: finding.tests.iter().take(NAMED_MAX).map(|test| (test.to_string(), href(test))).collect(),
        more: match (more, finding.tests.is_empty()) {
            (0, _) => String::new(),
            (_, true) => more.plural("test").to_string(),
            (_, false) => format!("and {}", more.plural("more test")),
        },
        commit: link(&finding.commit),
        rate: finding.rate.map_or(String::new(), |rate| format!("{} of {} runs", rate.failed, rate.runs)),
        since: link(&finding.first_bad).filter(|_| finding.first_bad != finding.commit),
        marks: cut(&marks.join(", "), 200),
    }
}

/// The class and the symbol of a kind, as in the lists of commits.
fn look(kind: FindingKind) -> (&'static str, &'static str) {
    match kind {
        FindingKind::Broke | FindingKind::BuildBroke | FindingKind::Bisected => ("s-failed", "▼"),
        FindingKind::Fixed | FindingKind::BuildFixed | FindingKind::BelievedFixed => ("s-passed", "▲"),
        FindingKind::FlakyBegan | FindingKind::SuspiciousPass => ("s-flaky", "≈"),
        FindingKind::Farm => ("s-failed_to_run", "!"),
    }
}
