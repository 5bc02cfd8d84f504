//! An Atom feed of what commits broke and fixed on a branch, and a badge with the state of its tip.

use askama::Template;
use http::header::{self, HeaderValue};
use model::{Finding, FindingKind, Status};
use regress::branch_history::{BranchHistory, TestId};
use regress::builds::{BuildHistory, FailedKernels};
use results::findings::FindingQuery;
use results::{BranchEntry, TestEntry};

use super::commit_link::author;
use super::{Context, build_lines};
use crate::http::Response;
use crate::page::{Plural as _, When, cut, subject};
use crate::problem::Problem;
use crate::route::BranchRef;

/// The maximum number of commits in the feed.
const ENTRIES_MAX: usize = 50;
/// The maximum number of tests in an entry.
const NAMED_MAX: usize = 100;
/// The width of a character in the badge, in pixels.
const LETTER: usize = 7;

#[derive(Template)]
#[template(path = "feed.xml")]
struct Feed {
    title: String,
    id: String,
    href: String,
    updated: String,
    entries: Vec<Entry>,
}

struct Entry {
    title: String,
    id: String,
    href: String,
    updated: String,
    author: String,
    text: String,
}

#[derive(Template)]
#[template(path = "badge.svg")]
struct Badge<'a> {
    label: &'a str,
    words: &'a str,
    fill: &'static str,
    split: usize,
    width: usize,
}

/// What broke and what is fixed, newest first.
pub fn atom(context: Context<'_>, at: &BranchRef) -> Result<Response, Problem> {
    let listed = context.store.branch(at)?;
    let is_recorded = context.store.reader().has_findings();
    let entries = if is_recorded { recorded(context, at, &listed) } else { derived(context, at, &listed) };
    let feed = Feed {
        title: format!("{}/{}: regressions", cut(at.user.as_str(), 100), cut(at.branch.as_str(), 200)),
        id: id(at, None),
        href: absolute(context, &context.links().branch(at)),
        updated: entries.iter().map(|entry| entry.updated.clone()).max().unwrap_or_else(|| iso(0)),
        entries,
    };
    let xml = stdio::xml::text(&feed.render()?).into_owned();
    context.text("application/atom+xml; charset=utf-8", xml)
}

/// What a daemon found, newest first.
fn recorded(context: Context<'_>, at: &BranchRef, listed: &[BranchEntry]) -> Vec<Entry> {
    let query = FindingQuery { branch: Some(at), most: ENTRIES_MAX * 4, ..FindingQuery::default() };
    let found = context.store.reader().findings(&query).into_iter();
    found.filter_map(|found| of_finding(context, at, listed, &found.finding)).take(ENTRIES_MAX).collect()
}

/// The entry of a finding; `None` for one that accuses no commit.
fn of_finding(
    context: Context<'_>,
    at: &BranchRef,
    listed: &[BranchEntry],
    finding: &Finding,
) -> Option<Entry> {
    let tests = (finding.tests_total as usize).plural("test");
    let words = match finding.kind {
        FindingKind::Broke => format!("{tests} broke"),
        FindingKind::Fixed => format!("{tests} fixed"),
        FindingKind::BuildBroke => "the build broke".into(),
        FindingKind::BuildFixed => "the build is fixed".into(),
        FindingKind::Bisected => format!("first bad commit of {tests} found"),
        FindingKind::BelievedFixed => format!("{tests} fixed, proven by repeated runs"),
        FindingKind::FlakyBegan | FindingKind::SuspiciousPass | FindingKind::Farm => return None,
    };
    let commit = finding.commit.as_ref()?;
    let entry = listed.iter().find(|entry| entry.commit == *commit);
    let mut text =
        format!("{} {}\n{}\n", commit.short(), entry.map(by).unwrap_or_default(), finding.signature);
    for test in finding.tests.iter().take(NAMED_MAX) {
        text.push_str(&format!("{test}\n"));
    }
    let subject = entry.map_or_else(|| commit.short().to_owned(), |entry| subject(&entry.message, 120));
    Some(Entry {
        title: format!("{words}: {subject}"),
        id: format!("urn:ktest-ci:finding:{}", finding.id),
        href: absolute(context, &context.links().commit(Some(at), commit.as_str())),
        updated: iso(finding.at),
        author: entry.map(|entry| author(&entry.authorship)).unwrap_or_default(),
        text,
    })
}

/// The commits of a branch whose results were recorded without findings.
fn derived(context: Context<'_>, at: &BranchRef, listed: &[BranchEntry]) -> Vec<Entry> {
    let history = context.store.history(listed);
    let snapshot = context.snapshot();
    let builds = context.store.build_history(listed);
    let of_row = |(row, entry): (usize, &BranchEntry)| {
        let broke = history.delta(row).is_some_and(|delta| !delta.broke.is_empty());
        let has_jobs = || snapshot.has_jobs_of(entry.commit.as_str());
        let broke = broke.then(|| broken(context, at, &history, (row, entry), has_jobs())).flatten();
        broken_build(context, at, &builds, (row, entry)).into_iter().chain(broke).collect::<Vec<_>>()
    };
    listed.iter().enumerate().flat_map(of_row).take(ENTRIES_MAX).collect()
}

/// `by Mira, 2026-12-01 07:00`; empty if neither is known.
fn by(entry: &BranchEntry) -> String {
    let author = author(&entry.authorship);
    match (author.is_empty(), When::unix(entry.authorship.date)) {
        (true, None) => String::new(),
        (true, Some(date)) => format!("of {date}"),
        (false, None) => format!("by {author}"),
        (false, Some(date)) => format!("by {author}, {date}"),
    }
}

/// The commit with the tests that it broke, without failures that a retry can still show to be flaky if it `has_jobs`: what is in a
/// feed is not taken back. `None` if none is left.
fn broken(
    context: Context<'_>,
    at: &BranchRef,
    history: &BranchHistory,
    (row, listed): (usize, &BranchEntry),
    has_jobs: bool,
) -> Option<Entry> {
    let broke = history.delta(row).map(|delta| delta.broke.as_slice()).unwrap_or_default();
    let results = context.store.reader().commit(&listed.commit).ok().flatten();
    let entry = |name: &str| results.as_ref()?.get(&name.parse().ok()?);
    let is_shown =
        |test: &&TestId| !(has_jobs && entry(history.name(**test)).is_some_and(TestEntry::may_be_flaky));
    let broke: Vec<&TestId> = broke.iter().filter(is_shown).collect();
    if broke.is_empty() {
        return None;
    }
    let mut updated = 0;
    let (author, by) = (author(&listed.authorship), by(listed));
    let mut text = format!("{} {by}\n", listed.commit.short());
    for test in broke.iter().take(NAMED_MAX) {
        let name = history.name(**test);
        let entry = entry(name);
        let reason = entry
            .and_then(|entry| entry.decisive.crash.as_deref().or(entry.decisive.reason.as_deref()))
            .unwrap_or("");
        updated =
            entry.and_then(|entry| entry.decisive.started).map_or(updated, |started| started.max(updated));
        text.push_str(&format!("{name}: {}\n", cut(reason, 300)));
    }
    Some(Entry {
        title: format!("{} broke: {}", broke.len().plural("test"), subject(&listed.message, 120)),
        id: id(at, Some(listed)),
        href: absolute(context, &context.links().commit(Some(at), listed.commit.as_str())),
        updated: iso(updated),
        author,
        text,
    })
}

/// The commit with the error of the build that it broke; `None` if it broke none.
fn broken_build(
    context: Context<'_>,
    at: &BranchRef,
    builds: &BuildHistory,
    (row, listed): (usize, &BranchEntry),
) -> Option<Entry> {
    let broke = builds.change(row).broke;
    let failed = builds.failed(row).into_iter();
    let failed: Vec<FailedKernels> =
        failed.filter(|failed| failed.kernels.iter().any(|kernel| broke.contains(kernel))).collect();
    let first = failed.first()?;
    let mut text = String::new();
    for FailedKernels { part, failure, .. } in &failed {
        let lead = if part.is_empty() { String::new() } else { format!("{part}: ") };
        let tests = failure.tests.plural("test");
        text.push_str(&format!("{lead}{}\n{tests} not run\n", cut(&failure.error, 300)));
    }
    let test = first.failure.test.parse().ok();
    let entry = test.and_then(|key| context.store.reader().entry(&listed.commit, &key).ok().flatten());
    Some(Entry {
        title: format!("the build broke: {}", subject(&listed.message, 120)),
        author: author(&listed.authorship),
        id: format!("{}:build", id(at, Some(listed))),
        href: absolute(context, &context.links().build(listed.commit.as_str(), None)),
        updated: iso(entry.and_then(|entry| entry.decisive.started).unwrap_or(0)),
        text,
    })
}

/// An id for a branch and commit that does not depend on the address of the site.
fn id(at: &BranchRef, entry: Option<&BranchEntry>) -> String {
    use crate::http::Encoded;
    let commit = entry.map(|entry| format!(":{}", entry.commit)).unwrap_or_default();
    format!("urn:ktest-ci:{}:{}{commit}", Encoded(at.user.as_str()), Encoded(at.branch.as_str()))
}

/// The absolute address, if the origin of the site is known.
fn absolute(context: Context<'_>, path: &str) -> String {
    format!("{}{path}", context.request.origin.as_deref().unwrap_or_default())
}

fn iso(seconds: i64) -> String {
    When::unix(seconds.max(1)).map(|when| when.iso().to_string()).unwrap_or_default()
}

/// The state of the newest commit with results, as an image.
pub fn badge(context: Context<'_>, at: &BranchRef) -> Result<Response, Problem> {
    let listed = context.store.branch(at)?;
    let tip = listed.iter().find(|entry| entry.counts.total() > 0);
    let (status, words) = tip.map_or_else(
        || (Status::Unknown, "not tested".to_owned()),
        |tip| build_lines::state(&tip.counts, context.store.failed_builds(tip).as_deref()),
    );
    let fill = match status {
        Status::Passed => "#1d7440",
        Status::Failed => "#b3231a",
        Status::FailedToRun | Status::Flaky => "#8a5300",
        Status::InProgress => "#1a5fa6",
        Status::NotRun | Status::Unknown => "#5b626b",
    };
    let label = "ktest";
    let split = label.len() * LETTER + 12;
    let width = split + words.chars().count() * LETTER + 12;
    let picture = Badge { label, words: &words, fill, split, width }.render()?;
    let mut response = context.text("image/svg+xml", picture)?;
    response.headers.insert(
        header::HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
    Ok(response)
}
