//! The page of a commit: its message and its tests, failures first. If there are many tests, those that passed are
//! counted by test file. The JSON view has all tests.

use askama::Template;
use model::{CommitId, Counts, Status};
use regress::builds::{self, is_unbuilt};
use regress::suspicious::{SuspiciousPass, earlier};
use results::json::{CommitView, OwnersRow, SameCodeRow, SamePatchRow, SinceRow, SuspicionRow};
use results::{BranchEntry, CommitResults, TestEntry};

use super::build_lines::{self, Banner, BuildPosition};
use super::commit_list::{Item, Listing};
use super::configuration_chips::{Chip, chips_of};
use super::eta::Estimator;
use super::pager::Pager;
use super::same_code::{self, SameCodeLine};
use super::same_patch::{self, SamePatchLine};
use super::testlist::{
    Addresses, BranchPosition, Group, Section, first_bads, groups, groups_heading, has_reason, sections,
    test_line,
};
use super::{CommitLink, Context, coverage, suspicious};
use crate::filter::Filter;
use crate::http::Response;
use crate::page::{Crumb, Page, Plural as _, Symbol as _, Took, When, cut, subject};
use crate::problem::Problem;
use crate::route::{BranchRef, CommitRoute, Format, Links};

/// The maximum number of test files on a page.
const GROUPS_MAX: usize = 30;
/// The maximum number of suspicious passes on a page.
const SUSPICIOUS_MAX: usize = 20;
/// The maximum number of bytes of a message that are shown.
const MESSAGE_MAX: usize = 16 << 10;

#[derive(Template)]
#[template(path = "commit.html")]
struct CommitPage<'a> {
    page: Page<'a>,
    subject: String,
    sha: &'a str,
    /// The commit in the listing of its branch.
    this: Option<CommitLink>,
    branch_href: Option<String>,
    branch_name: String,
    started: Option<When>,
    took: String,
    parent: Option<CommitLink>,
    child: Option<CommitLink>,
    compare_href: String,
    coverage_href: String,
    body: String,
    banners: Vec<Banner>,
    headline: Option<Headline>,
    unbuilt: Option<UnbuiltLine>,
    tabs: Vec<Tab>,
    chips: Vec<Chip>,
    matrix_href: String,
    form_action: String,
    form_hidden: Vec<(&'static str, String)>,
    test: &'a str,
    suspicious: Vec<SuspiciousLine>,
    suspicious_more: usize,
    /// What is being done for the commit.
    progress: String,
    note: Option<String>,
    same_patch: Vec<SamePatchLine>,
    same_code: Vec<SameCodeLine>,
    inherited: Vec<InheritedLine>,
    sections: Vec<Section>,
    groups_heading: String,
    groups: Vec<Group>,
    groups_more: usize,
    /// The reason of all tests on the page, if it is selected, and the page without it.
    reason: &'a str,
    all_reasons_href: String,
    pager: Pager,
    command: String,
}

/// A suspicious pass.
struct SuspiciousLine {
    file: String,
    subtest: String,
    href: String,
    what: String,
}

/// The tests of the commit that ran at another one.
struct InheritedLine {
    tests: String,
    href: String,
    short: String,
}

/// The tests that did not run because a kernel does not build.
struct UnbuiltLine {
    tests: String,
    build_href: String,
    list_href: String,
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
/// The view.
pub fn view(context: Context<'_>, route: &CommitRoute, format: Format) -> Result<Response, Problem> {
    let pattern = Filter::new(route.test.as_deref())?;
    let place = place(context, route.at.as_ref(), &route.sha)?;
    let mut results = match context.store.reader().commit(&route.sha)? {
        Some(results) => results,
        None => untested(route, place.as_ref())?,
    };
    if results.message.is_empty() {
        let listed = context.store.reader().listed(&route.sha)?;
        results.message = listed.map(|entry| entry.message).unwrap_or_default();
    }
    let names = results.entries.iter().map(|entry| entry.key.as_str());
    let filter = pattern.clone().in_configurations(route.config.as_deref(), names)?;
    let wanted = |entry: &TestEntry| {
        route.status.is_none_or(|status| entry.status() == status) && is_selected(route, &filter, entry)
    };
    context.store.cache_names(&results);
    let same_code = same_code_rows(context, route, &filter);
    let same_patch = context.store.reader().same_patch(&route.sha);
    let suspicious =
        place.as_ref().filter(|_| route.status.is_none() && route.page == 0).map_or_else(Vec::new, |place| {
            suspicious::of_commit(context, &filter, &results, &earlier(&place.entries, place.row))
        });
    if format == Format::Json {
        let suspicious = suspicious.iter().map(SuspicionRow::from).collect();
        let owners =
            OwnersRow::of_failed(&context.owners(), results.entries.iter().filter(|entry| wanted(entry)));
        let build = builds::view(&results);
        let view = CommitView { build, owners, same_code, same_patch, ..CommitView::new(&results, wanted) };
        let Some(place) = &place else { return context.json(&CommitView { suspicious, ..view }) };
        let authorship = place.entries[place.row].authorship.clone();
        let since = since(context, place, results.entries.iter().filter(|entry| wanted(entry)));
        return context.json(&CommitView { suspicious, authorship, since, ..view });
    }
    render(
        context,
        route,
        place.as_ref(),
        &results,
        (&pattern, &filter),
        (&suspicious, &same_code, &same_patch),
    )
}

/// Whether the filter and the selected reason match a test.
fn is_selected(route: &CommitRoute, filter: &Filter, entry: &TestEntry) -> bool {
    filter.matches(entry.key.as_str())
        && route.reason.as_deref().is_none_or(|reason| has_reason(entry, reason))
}

/// The tests that wait for an idle slot, of those that match the filter.
fn same_code_rows(context: Context<'_>, route: &CommitRoute, filter: &Filter) -> Vec<SameCodeRow> {
    if route.status.is_some() || route.page > 0 {
        return Vec::new();
    }
    let rows = context.store.reader().same_code_rows(&route.sha).into_iter();
    rows.filter(|row| filter.matches(&row.name)).collect()
}

/// Since when the failed ones of these tests fail.
fn since<'a>(
    context: Context<'_>,
    place: &BranchPosition,
    entries: impl Iterator<Item = &'a TestEntry>,
) -> Vec<SinceRow> {
    let entries: Vec<&TestEntry> = entries.collect();
    let mut found: Vec<_> = first_bads(context, Some(place), &entries).into_iter().collect();
    found.sort_unstable_by_key(|(name, _)| *name);
    let listed = &place.entries[place.row..];
    found.iter().map(|(name, stretch)| regress::json::since(name, listed, stretch)).collect()
}

/// An empty result for a commit that is on a branch and has not been tested yet.
fn untested(route: &CommitRoute, place: Option<&BranchPosition>) -> Result<CommitResults, Problem> {
    let missing = || Problem::NotFound("no results for this commit".into());
    let place = place.ok_or_else(missing)?;
    Ok(CommitResults {
        commit: route.sha.clone(),
        message: place.entries[place.row].message.clone(),
        entries: Vec::new(),
    })
}

/// Whether a branch lists the commit.
pub(crate) fn is_listed(context: Context<'_>, commit: &CommitId) -> Result<bool, Problem> {
    Ok(place(context, None, commit)?.is_some())
}

/// The position of a commit on a branch, or on the first branch that has it.
pub(super) fn place(
    context: Context<'_>,
    at: Option<&BranchRef>,
    commit: &CommitId,
) -> Result<Option<BranchPosition>, Problem> {
    let on = |at: BranchRef, entries: Vec<BranchEntry>| {
        let row = entries.iter().position(|entry| entry.commit == *commit)?;
        Some(BranchPosition { at, entries, row })
    };
    if let Some(at) = at {
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

/// The address of the comparison with the parent; empty if either commit is untested.
fn compare_href(
    links: Links<'_>,
    route: &CommitRoute,
    place: Option<&BranchPosition>,
    results: &CommitResults,
) -> String {
    place
        .filter(|_| !results.entries.is_empty())
        .and_then(|place| Some((&place.at.user, place.entries.get(place.row + 1)?)))
        .filter(|(_, parent)| parent.counts.total() > 0)
        .map(|(user, parent)| links.compare(Some(user), parent.commit.as_str(), route.sha.as_str()))
        .unwrap_or_default()
}

fn coverage_href(context: Context<'_>, route: &CommitRoute, results: &CommitResults) -> String {
    if coverage::exists(context, &results.entries, &route.sha) {
        context.links().coverage(route.sha.as_str(), "", "")
    } else {
        String::new()
    }
}

fn failing_command(context: Context<'_>, route: &CommitRoute, items: &[Item<'_>]) -> String {
    items
        .iter()
        .map(Item::first)
        .find(|entry| entry.status() == Status::Failed)
        .and_then(|entry| context.tests.command(&route.sha, entry.key.as_str()))
        .unwrap_or_default()
}

fn suspicious_lines(
    context: Context<'_>,
    at: Option<&BranchRef>,
    passes: &[SuspiciousPass],
) -> Vec<SuspiciousLine> {
    passes.iter().take(SUSPICIOUS_MAX).map(|pass| suspicious_line(context, at, pass)).collect()
}

fn render(
    context: Context<'_>,
    route: &CommitRoute,
    place: Option<&BranchPosition>,
    results: &CommitResults,
    (pattern, filter): (&Filter, &Filter),
    (suspicious, same_code, same_patch): (&[SuspiciousPass], &[SameCodeRow], &[SamePatchRow]),
) -> Result<Response, Problem> {
    let links = context.links();
    let at = place.map(|place| &place.at);
    let test = route.test.as_deref().unwrap_or("");
    let addresses = addresses(links, at, route);
    let neighbour = |row: Option<usize>| {
        let place = place?;
        let entry = place.entries.get(row?)?;
        Some(CommitLink::listed(context, at?, entry))
    };

    // The tests that match the filter. The tabs count them, and the status selects among them.
    let matching: Vec<&TestEntry> =
        results.entries.iter().filter(|entry| is_selected(route, filter, entry)).collect();
    let counts: Counts = matching.iter().map(|entry| entry.status()).collect();
    let listing = Listing::new(context, place, route, &matching);
    let (items, number, pager) = listing.page(route.page, &addresses.page(0));
    let shown: Vec<&TestEntry> = items.iter().flat_map(Item::tests).copied().collect();
    let first_bads = first_bads(context, place, &shown);
    let line = |entry: &TestEntry| test_line(context, route, place, &first_bads, entry);
    let sections = sections(items, &listing.totals, &addresses, line);
    let groups = if number == 0 { groups(context, &listing.folded, &addresses) } else { Vec::new() };

    let progress = place.and_then(|place| progress(context, place)).unwrap_or_default();
    let template = CommitPage {
        page: frame(context, place, route, results, &counts),
        subject: subject(&results.message, 300),
        sha: route.sha.as_str(),
        this: neighbour(place.map(|place| place.row)),
        branch_href: at.map(|at| links.branch(at)),
        branch_name: at.map(|at| format!("{}/{}", at.user, at.branch)).unwrap_or_default(),
        started: started(results),
        took: Took(matching.iter().map(|entry| entry.decisive.duration).sum()).to_string(),
        parent: neighbour(place.map(|place| place.row + 1)),
        child: neighbour(place.and_then(|place| place.row.checked_sub(1))),
        compare_href: compare_href(links, route, place, results),
        coverage_href: coverage_href(context, route, results),
        body: body(&results.message),
        banners: banners(context, place, results),
        headline: headline(&results.entries),
        unbuilt: unbuilt(links, route, &matching, &addresses),
        tabs: tabs(&counts, &addresses),
        chips: chips(route, results, pattern, &addresses),
        matrix_href: matrix_href(links, results),
        form_action: if at.is_some() { links.home() } else { addresses.base.clone() },
        form_hidden: form_hidden(route, at),
        test,
        suspicious: suspicious_lines(context, at, suspicious),
        suspicious_more: suspicious.len().saturating_sub(SUSPICIOUS_MAX),
        note: note(results, &matching, (test, &progress)),
        progress,
        same_patch: same_patch::lines(context, &route.sha, same_patch),
        same_code: same_code::lines(context, at, same_code),
        inherited: inherited(links, at, &matching),
        sections,
        groups_heading: groups_heading(&listing.folded),
        groups_more: groups.len().saturating_sub(GROUPS_MAX),
        groups: groups.into_iter().take(GROUPS_MAX).collect(),
        reason: addresses.reason,
        all_reasons_href: Addresses { reason: "", ..addresses.clone() }.page(0),
        pager,
        command: failing_command(context, route, items),
    };
    context.html(&template)
}

fn frame<'a>(
    context: Context<'a>,
    place: Option<&BranchPosition>,
    route: &CommitRoute,
    results: &CommitResults,
    counts: &Counts,
) -> Page<'a> {
    let title = format!("{} {}", route.sha.short(), subject(&results.message, 60));
    let mut page = Page::new(title, context.links(), crumbs(context, place, route));
    page.json = Some(context.json_address());
    page.live = if counts.inprogress > 0 { 2 } else { 0 };
    if results.entries.is_empty() {
        page.description = "not tested yet".into();
    } else {
        let all = results.counts();
        let listed = place.map(|place| &place.entries[place.row]);
        let builds = listed.and_then(|entry| context.store.failed_builds(entry));
        let (_, state) = build_lines::state(&all, builds.as_deref());
        page.description =
            format!("{state}; {} of {} passed", all.passed, (all.total() as usize).plural("test"));
    }
    page
}

fn progress(context: Context<'_>, place: &BranchPosition) -> Option<String> {
    let snapshot = context.snapshot();
    Estimator::new(context, &snapshot).progress(&place.at, &place.entries, place.row)
}

fn inherited(links: Links<'_>, at: Option<&BranchRef>, entries: &[&TestEntry]) -> Vec<InheritedLine> {
    let line = |(source, tests): (&CommitId, usize)| InheritedLine {
        tests: tests.plural("test").to_string(),
        href: links.commit(at, source.as_str()),
        short: source.short().to_owned(),
    };
    results::sources(entries.iter().copied()).into_iter().map(line).collect()
}

fn suspicious_line(context: Context<'_>, at: Option<&BranchRef>, pass: &SuspiciousPass) -> SuspiciousLine {
    let key = pass.key.as_str();
    let (file, subtest) = context.tests.split(key);
    SuspiciousLine {
        file: file.into(),
        subtest: subtest.into(),
        href: at.map(|at| context.links().history(at, key)).unwrap_or_default(),
        what: cut(&pass.suspicion.to_string(), 300),
    }
}

/// The breadcrumbs up to the branch.
pub(super) fn crumbs_of(links: Links<'_>, at: Option<&BranchRef>) -> Vec<Crumb> {
    let Some(at) = at else { return Vec::new() };
    vec![Crumb::link(&at.user, links.user(&at.user)), Crumb::link(&at.branch, links.branch(at))]
}

fn crumbs(context: Context<'_>, place: Option<&BranchPosition>, route: &CommitRoute) -> Vec<Crumb> {
    let mut crumbs = crumbs_of(context.links(), place.map(|place| &place.at));
    crumbs.push(Crumb::here(route.sha.short()));
    crumbs
}

fn form_hidden(route: &CommitRoute, at: Option<&BranchRef>) -> Vec<(&'static str, String)> {
    let mut hidden = Vec::new();
    if let Some(at) = at {
        hidden.push(("user", at.user.to_string()));
        hidden.push(("branch", at.branch.to_string()));
        hidden.push(("commit", route.sha.to_string()));
    }
    if let Some(config) = &route.config {
        hidden.push(("config", config.clone()));
    }
    if let Some(reason) = &route.reason {
        hidden.push(("reason", reason.clone()));
    }
    if let Some(status) = route.status {
        hidden.push(("status", status.field().into()));
    }
    hidden
}

/// The message without its subject.
fn body(message: &str) -> String {
    let rest = message.trim_start().split_once('\n').map_or("", |(_, rest)| rest);
    cut(rest.trim_matches('\n'), MESSAGE_MAX)
}

/// The kernels that do not build.
fn banners(context: Context<'_>, place: Option<&BranchPosition>, results: &CommitResults) -> Vec<Banner> {
    if !results.entries.iter().any(is_unbuilt) {
        return Vec::new();
    }
    let position = BuildPosition::new(context, place, results);
    position.banners(context, place.map(|place| &place.at), &position.failed())
}

fn unbuilt(
    links: Links<'_>,
    route: &CommitRoute,
    matching: &[&TestEntry],
    addresses: &Addresses<'_>,
) -> Option<UnbuiltLine> {
    let tests = matching.iter().filter(|entry| is_unbuilt(entry)).count();
    (tests > 0 && route.status.is_none()).then(|| UnbuiltLine {
        tests: tests.plural("test").to_string(),
        build_href: links.build(route.sha.as_str(), None),
        list_href: addresses.with(Some(Status::FailedToRun), addresses.test, 0),
    })
}

/// The common reason if no test could run, other than a kernel that does not build.
fn headline(entries: &[TestEntry]) -> Option<Headline> {
    let first = entries.first()?;
    let could_not_run = |entry: &TestEntry| entry.status() == Status::FailedToRun && !is_unbuilt(entry);
    if !entries.iter().all(could_not_run) {
        return None;
    }
    let reason = first.decisive.reason.clone().unwrap_or_default();
    let common = entries.iter().all(|entry| entry.decisive.reason == first.decisive.reason);
    Some(Headline {
        what: "No test could run at this commit.".into(),
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
    for status in Status::BY_URGENCY {
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

fn addresses<'a>(links: Links<'_>, at: Option<&BranchRef>, route: &'a CommitRoute) -> Addresses<'a> {
    let text = |parameter: &'a Option<String>| parameter.as_deref().unwrap_or("");
    let (test, config) = (text(&route.test), text(&route.config));
    let reason = text(&route.reason);
    Addresses { base: links.commit(at, route.sha.as_str()), test, config, reason, status: route.status }
}

/// The matrix of the commit; empty if it is untested.
fn matrix_href(links: Links<'_>, results: &CommitResults) -> String {
    if results.entries.is_empty() { String::new() } else { links.matrix(results.commit.as_str(), None) }
}

fn started(results: &CommitResults) -> Option<When> {
    results.entries.iter().filter_map(|entry| entry.decisive.started).min().and_then(When::unix)
}

/// The configurations of the tests that match the pattern.
fn chips(
    route: &CommitRoute,
    results: &CommitResults,
    pattern: &Filter,
    addresses: &Addresses<'_>,
) -> Vec<Chip> {
    let tests = results.entries.iter().map(|entry| (entry.key.as_str(), entry.status()));
    let tests = tests.filter(|(name, _)| pattern.matches(name));
    let of_configuration = |config: &str| Addresses { config, ..addresses.clone() }.page(0);
    chips_of(tests, route.config.as_deref(), of_configuration)
}

fn note(results: &CommitResults, matching: &[&TestEntry], (test, progress): (&str, &str)) -> Option<String> {
    if results.entries.is_empty() && !progress.is_empty() {
        return None;
    }
    if results.entries.is_empty() {
        return Some("This commit is not tested yet.".into());
    }
    if matching.is_empty() {
        return Some(if test.is_empty() {
            "No test matches.".into()
        } else {
            format!("No test matches {test}.")
        });
    }
    None
}
