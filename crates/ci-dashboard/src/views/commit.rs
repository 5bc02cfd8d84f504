//! A commit: its message and its tests, those that need somebody first; what passed is folded by test file where it
//! is much. The JSON has all of it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use askama::Template;
use model::{Counts, Status};
use results::json::CommitView;
use results::{BranchEntry, CommitResults, TestEntry};

use super::{CommitLink, Context, prefix_pattern};
use crate::filter::Filter;
use crate::page::{
    CountItem, Crumb, Page, Symbol as _, Took, URGENCY, When, beyond_crash, count_items, cut, subject,
    urgency,
};
use crate::problem::Problem;
use crate::request::Encoded;
use crate::response::Response;
use crate::route::{BranchRef, CommitRoute, Form};
use crate::since::{Since, since};

/// How many tests one page lists.
const ROWS_MAX: usize = 250;
/// How many test files one page lists.
const GROUPS_MAX: usize = 200;
/// How much of a message is shown, in bytes.
const MESSAGE_MAX: usize = 16 << 10;
/// How much of a reason a list shows, in bytes.
const REASON_MAX: usize = 180;

#[derive(Template)]
#[template(path = "commit.html")]
struct CommitPage<'a> {
    page: Page<'a>,
    subject: String,
    sha: &'a str,
    branch_href: Option<String>,
    branch_name: String,
    started: Option<When>,
    took: String,
    parent: Option<CommitLink>,
    child: Option<CommitLink>,
    body: String,
    headline: Option<Headline>,
    tabs: Vec<Tab>,
    form_action: String,
    form_hidden: Vec<(&'static str, String)>,
    test: &'a str,
    note: Option<String>,
    sections: Vec<Section>,
    groups_heading: String,
    groups: Vec<Group>,
    newer_page: Option<String>,
    older_page: Option<String>,
    page_words: String,
    command: String,
}

struct Headline {
    what: String,
    reason: String,
}

struct Tab {
    status: Option<Status>,
    label: String,
    count: u32,
    href: String,
    current: bool,
}

struct Section {
    heading: String,
    note: String,
    since: bool,
    rows: Vec<TestLine>,
}

struct TestLine {
    status: Status,
    href: String,
    file: String,
    subtest: String,
    new: bool,
    rate: String,
    crash: String,
    reason: String,
    since: Option<CommitLink>,
    since_words: &'static str,
    took: String,
    host: String,
}

struct Group {
    name: String,
    href: String,
    counts: Vec<CountItem>,
    took: String,
}

/// Where the commit stands on a branch.
struct Place {
    at: BranchRef,
    entries: Vec<BranchEntry>,
    row: usize,
}

/// The view.
pub fn view(context: Context<'_>, route: &CommitRoute, form: Form) -> Result<Response, Problem> {
    let filter = Filter::new(route.test.as_deref())?;
    let place = place(context, route)?;
    let results = match context.store.reader().commit(&route.sha)? {
        Some(results) => results,
        None => untested(route, place.as_ref())?,
    };
    let wanted = |entry: &TestEntry| {
        route.status.is_none_or(|status| entry.status == status) && filter.wants(entry.key.as_str())
    };
    if form == Form::Json {
        return context.json(&CommitView::new(&results, wanted));
    }
    context.store.learn(&results);
    render(context, route, place.as_ref(), &results, &filter)
}

/// A commit that is on a branch and has no results yet.
fn untested(route: &CommitRoute, place: Option<&Place>) -> Result<CommitResults, Problem> {
    let missing = || Problem::NotFound("there are no results of this commit".into());
    let place = place.ok_or_else(missing)?;
    Ok(CommitResults {
        commit: route.sha.clone(),
        message: place.entries[place.row].message.clone(),
        entries: Vec::new(),
    })
}

/// On the branch that the address names, else on the first branch that has the commit.
fn place(context: Context<'_>, route: &CommitRoute) -> Result<Option<Place>, Problem> {
    let on = |at: BranchRef, entries: Vec<BranchEntry>| {
        let row = entries.iter().position(|entry| entry.commit == route.sha)?;
        Some(Place { at, entries, row })
    };
    if let Some(at) = &route.at {
        return Ok(on(at.clone(), context.store.branch(at)?));
    }
    for (user, branches) in context.store.reader().users()? {
        for branch in branches {
            let at = BranchRef { user: user.clone(), branch };
            let Ok(entries) = context.store.branch(&at) else { continue };
            if let Some(place) = on(at, entries) {
                return Ok(Some(place));
            }
        }
    }
    Ok(None)
}

/// The addresses of this commit with other choices.
struct Addresses<'a> {
    base: String,
    test: &'a str,
    status: Option<Status>,
}

impl Addresses<'_> {
    fn with(&self, status: Option<Status>, test: &str, page: usize) -> String {
        let mut address = self.base.clone();
        let mut separator = if address.contains('?') { '&' } else { '?' };
        let mut add = |name: &str, value: &str| {
            address.push(separator);
            address.push_str(name);
            address.push('=');
            address.push_str(value);
            separator = '&';
        };
        if let Some(status) = status {
            add("status", status.field());
        }
        if !test.is_empty() {
            add("test", &Encoded(test).to_string());
        }
        if page > 0 {
            add("page", &page.to_string());
        }
        address
    }

    fn page(&self, page: usize) -> String {
        self.with(self.status, self.test, page)
    }
}

fn render(
    context: Context<'_>,
    route: &CommitRoute,
    place: Option<&Place>,
    results: &CommitResults,
    filter: &Filter,
) -> Result<Response, Problem> {
    let links = context.links();
    let at = place.map(|place| &place.at);
    let test = route.test.as_deref().unwrap_or("");
    let addresses = Addresses { base: links.commit(at, route.sha.as_str()), test, status: route.status };
    let neighbour = |row: Option<usize>| {
        let place = place?;
        let entry = place.entries.get(row?)?;
        Some(CommitLink::new(links, at, &entry.commit, &entry.message))
    };

    // What the pattern wants; the tabs count it, the status chooses among it.
    let matching: Vec<&TestEntry> =
        results.entries.iter().filter(|entry| filter.wants(entry.key.as_str())).collect();
    let counts: Counts = matching.iter().map(|entry| entry.status).collect();
    let mut chosen: Vec<&TestEntry> =
        matching.iter().copied().filter(|entry| route.status.is_none_or(|s| entry.status == s)).collect();
    chosen.sort_by_key(|entry| urgency(entry.status));
    let quiet = |entry: &TestEntry| matches!(entry.status, Status::Passed | Status::NotRun);
    let folded = route.status.is_none() && chosen.len() > ROWS_MAX;
    let (listed, folded_rows): (Vec<_>, Vec<_>) =
        if folded { chosen.into_iter().partition(|entry| !quiet(entry)) } else { (chosen, Vec::new()) };

    let pages = listed.len().div_ceil(ROWS_MAX).max(1);
    let number = route.page.min(pages - 1);
    let shown = &listed[number * ROWS_MAX..listed.len().min((number + 1) * ROWS_MAX)];
    let origins = origins(context, place, shown);
    let line = |entry: &TestEntry| test_line(context, route, place, &origins, entry);
    let sections = sections(shown, listed.len(), line);
    let groups = if number == 0 { groups(context, &folded_rows, &addresses) } else { Vec::new() };
    let more_groups = groups.len() > GROUPS_MAX;

    let mut page = Page::new(
        format!("{} {}", route.sha.short(), subject(&results.message, 60)),
        links,
        crumbs(context, place, route),
    );
    page.json = Some(context.json_address());
    page.live = if counts.inprogress > 0 { 2 } else { 0 };
    let template = CommitPage {
        page,
        subject: subject(&results.message, 300),
        sha: route.sha.as_str(),
        branch_href: at.map(|at| links.branch(at)),
        branch_name: at.map(|at| format!("{}/{}", at.user, at.branch)).unwrap_or_default(),
        started: results.entries.iter().filter_map(|entry| entry.started).min().and_then(When::unix),
        took: Took(matching.iter().map(|entry| entry.duration).sum()).to_string(),
        parent: neighbour(place.map(|place| place.row + 1)),
        child: neighbour(place.and_then(|place| place.row.checked_sub(1))),
        body: body(&results.message),
        headline: headline(&results.entries),
        tabs: tabs(&counts, &addresses),
        form_action: if at.is_some() { links.home() } else { addresses.base.clone() },
        form_hidden: form_hidden(route, at),
        test,
        note: note(results, &matching, test, more_groups),
        sections,
        groups_heading: groups_heading(&folded_rows),
        groups: groups.into_iter().take(GROUPS_MAX).collect(),
        newer_page: (number > 0).then(|| addresses.page(number - 1)),
        older_page: (number + 1 < pages).then(|| addresses.page(number + 1)),
        page_words: format!("page {} of {pages}", number + 1),
        command: shown
            .iter()
            .find(|entry| entry.status == Status::Failed)
            .and_then(|entry| context.tests.command(&route.sha, entry.key.as_str()))
            .unwrap_or_default(),
    };
    context.html(&template)
}

fn crumbs(context: Context<'_>, place: Option<&Place>, route: &CommitRoute) -> Vec<Crumb> {
    let links = context.links();
    let mut crumbs = Vec::new();
    if let Some(Place { at, .. }) = place {
        crumbs.push(Crumb::link(&at.user, links.user(&at.user)));
        crumbs.push(Crumb::link(&at.branch, links.branch(at)));
    }
    crumbs.push(Crumb::here(route.sha.short()));
    crumbs
}

fn form_hidden(route: &CommitRoute, at: Option<&BranchRef>) -> Vec<(&'static str, String)> {
    let mut hidden = Vec::new();
    if let Some(at) = at {
        hidden.push(("user", at.user.clone()));
        hidden.push(("branch", at.branch.clone()));
        hidden.push(("commit", route.sha.to_string()));
    }
    if let Some(status) = route.status {
        hidden.push(("status", status.field().into()));
    }
    hidden
}

/// All of the message but its subject.
fn body(message: &str) -> String {
    let rest = message.trim_start().split_once('\n').map_or("", |(_, rest)| rest);
    cut(rest.trim_matches('\n'), MESSAGE_MAX)
}

/// What all tests have in common when none could run: most likely a kernel that does not build.
fn headline(entries: &[TestEntry]) -> Option<Headline> {
    let first = entries.first()?;
    if !entries.iter().all(|entry| entry.status == Status::FailedToRun) {
        return None;
    }
    let reason = first.reason.clone().unwrap_or_default();
    let common = entries.iter().all(|entry| entry.reason == first.reason);
    Some(Headline {
        what: "Nothing could run at this commit.".into(),
        reason: if common { cut(&reason, 1000) } else { String::new() },
    })
}

fn tabs(counts: &Counts, addresses: &Addresses<'_>) -> Vec<Tab> {
    let mut tabs = vec![Tab {
        status: None,
        label: "All".into(),
        count: counts.total(),
        href: addresses.with(None, addresses.test, 0),
        current: addresses.status.is_none(),
    }];
    for status in URGENCY {
        let count = counts.get(status);
        if count > 0 || addresses.status == Some(status) {
            tabs.push(Tab {
                status: Some(status),
                label: status.label().into(),
                count,
                href: addresses.with(Some(status), addresses.test, 0),
                current: addresses.status == Some(status),
            });
        }
    }
    tabs
}

fn note(results: &CommitResults, matching: &[&TestEntry], test: &str, more_groups: bool) -> Option<String> {
    if results.entries.is_empty() {
        return Some("This commit has not been tested yet.".into());
    }
    if matching.is_empty() {
        return Some(format!("No test's name matches {test}"));
    }
    more_groups.then(|| format!("More than {GROUPS_MAX} test files; filter by name to see the others."))
}

/// Since which commit the failing tests of the page fail.
fn origins<'a>(
    context: Context<'_>,
    place: Option<&Place>,
    shown: &[&'a TestEntry],
) -> HashMap<&'a str, Since> {
    let Some(place) = place else { return HashMap::new() };
    let failing: Vec<&str> =
        shown.iter().filter(|entry| entry.status == Status::Failed).map(|entry| entry.key.as_str()).collect();
    let older = place.entries[place.row + 1..]
        .iter()
        .map(|entry| if entry.counts.total() == 0 { None } else { context.store.verdicts(&entry.commit) });
    since(&failing, older)
}

fn sections(shown: &[&TestEntry], all: usize, line: impl Fn(&TestEntry) -> TestLine) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut kinds: BTreeMap<usize, Vec<&TestEntry>> = BTreeMap::new();
    for entry in shown {
        kinds.entry(urgency(entry.status)).or_default().push(entry);
    }
    for (_, entries) in kinds {
        let status = entries[0].status;
        let mut rows: Vec<TestLine> = entries.iter().map(|entry| line(entry)).collect();
        rows.sort_by_key(|row| !row.new);
        if status == Status::FailedToRun {
            say_once(&mut rows);
        }
        let new = rows.iter().filter(|row| row.new).count();
        let note = match (status, new) {
            (Status::Failed, 1..) => format!("{new} of them new here"),
            _ if all > shown.len() => format!("{} of {all} tests on this page", shown.len()),
            _ => String::new(),
        };
        sections.push(Section {
            heading: format!("{} {}", entries.len(), status.label().to_lowercase()),
            note,
            since: status == Status::Failed,
            rows,
        });
    }
    sections
}

/// What keeps tests from running keeps many of them from it: the first says it for those that follow.
fn say_once(rows: &mut [TestLine]) {
    let mut said = String::new();
    for row in rows {
        if row.reason == said {
            row.reason.clear();
        } else {
            said.clone_from(&row.reason);
        }
    }
}

fn test_line(
    context: Context<'_>,
    route: &CommitRoute,
    place: Option<&Place>,
    origins: &HashMap<&str, Since>,
    entry: &TestEntry,
) -> TestLine {
    let links = context.links();
    let key = entry.key.as_str();
    let (file, subtest) = context.tests.split(key);
    let origin = origins.get(key);
    let (new, first_bad) = match (origin, place) {
        (Some(Since::Here), _) => (true, None),
        (Some(Since::Older(rows)), Some(place)) => {
            let at = &place.entries[place.row + 1 + rows];
            (false, Some(CommitLink::new(links, Some(&place.at), &at.commit, &at.message)))
        }
        _ => (false, None),
    };
    let mut href = links.test(route.sha.as_str(), key);
    if entry.status == Status::Failed {
        href.push_str("#failure");
    }
    TestLine {
        status: entry.status,
        href,
        file: file.into(),
        subtest: subtest.into(),
        new,
        rate: rate(entry),
        crash: cut(entry.crash.as_deref().unwrap_or(""), REASON_MAX),
        reason: cut(beyond_crash(entry.reason.as_deref(), entry.crash.as_deref()), REASON_MAX),
        since: first_bad,
        since_words: match origin {
            Some(Since::Here) => "this commit",
            Some(Since::Always) => "before what is kept",
            _ => "",
        },
        took: Took(entry.duration).to_string(),
        host: host(entry),
    }
}

/// `farm1/3`.
#[must_use]
pub fn host(entry: &TestEntry) -> String {
    match (&entry.host, entry.slot) {
        (Some(host), Some(slot)) => format!("{host}/{slot}"),
        (Some(host), None) => host.to_string(),
        (None, _) => String::new(),
    }
}

/// `3 of 25 failed`, where a test was tried more than once.
#[must_use]
pub fn rate(entry: &TestEntry) -> String {
    let failed = entry.attempts_in(Status::Failed);
    match (entry.attempts, failed) {
        (0 | 1, _) | (_, 0) => String::new(),
        (attempts, failed) => format!("{failed} of {attempts} failed"),
    }
}

fn groups_heading(entries: &[&TestEntry]) -> String {
    let passed = entries.iter().filter(|entry| entry.status == Status::Passed).count();
    match entries.len() - passed {
        0 => format!("{passed} passed"),
        rest => format!("{passed} passed, {rest} not run"),
    }
}

fn groups(context: Context<'_>, entries: &[&TestEntry], addresses: &Addresses<'_>) -> Vec<Group> {
    let mut groups: BTreeMap<&str, (Counts, Duration)> = BTreeMap::new();
    for entry in entries {
        let (file, _) = context.tests.split(entry.key.as_str());
        let (counts, took) = groups.entry(file).or_default();
        counts.add(entry.status);
        *took += entry.duration;
    }
    groups
        .into_iter()
        .map(|(file, (counts, took))| Group {
            name: if file.is_empty() { "(no test file)".into() } else { file.trim_end_matches('.').into() },
            href: {
                let mut href = addresses.with(None, "", 0);
                href.push(if href.contains('?') { '&' } else { '?' });
                href.push_str("test=");
                href.push_str(&prefix_pattern(file));
                href
            },
            counts: count_items(&counts),
            took: Took(took).to_string(),
        })
        .collect()
}
