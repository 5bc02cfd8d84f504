//! Compares two commits, or the newest tested commits of two branches. Regressions come first.

use std::collections::HashMap;

use askama::Template;
use model::{CommitId, Status, UserName};
use regress::builds::{CommitBuilds, is_unbuilt};
use regress::compare::{Change, ChangeKind, Comparison, Direction, KINDS, KindRow, compare};
use regress::first_bad::Stretch;
use regress::fix::words;
use regress::json::{CompareView, ComparedCommit};
use regress::suspicious::{SuspiciousPass, from_base};
use results::json::SuspicionRow;
use results::{CommitResults, Resolved, TestEntry};

use super::commit::place;
use super::commit_link::unname_repeated;
use super::pager::Pager;
use super::testlist::{BranchPosition, first_bads};
use super::{CommitLink, Context, build_lines, suspicious};
use crate::filter::Filter;
use crate::http::Response;
use crate::page::{CountItem, Crumb, Page, Plural as _, Symbol as _, Took, cut, split_key};
use crate::problem::Problem;
use crate::route::{BranchRef, CompareRoute, Format, with_parameter};

/// The number of tests on a page.
const ROWS_MAX: usize = 60;
/// The number of tests of each kind for which the page of all kinds has space.
const OF_EACH_KIND: usize = 5;
/// The maximum number of branches in the form.
const CHOICES_MAX: usize = 200;
/// The maximum length of a reason, in bytes.
const REASON_MAX: usize = 240;

#[derive(Template)]
#[template(path = "compare.html")]
struct ComparePage<'a> {
    page: Page<'a>,
    route: &'a CompareRoute,
    choices: Vec<String>,
    pair: Option<Pair>,
    swap: String,
    sections: Vec<Section>,
    pager: Pager,
    /// The page of all kinds, if this one is of one kind.
    all_href: String,
    note: String,
}

struct Pair {
    base: SideLine,
    head: SideLine,
}

struct SideLine {
    commit: CommitLink,
    branch: Option<(String, String)>,
    counts: Vec<CountItem>,
}

struct Section {
    heading: String,
    class: &'static str,
    open: bool,
    /// The number of tests that are not on the page, and the list that has them.
    more: usize,
    list_href: String,
    rows: Vec<Row>,
}

struct Row {
    file: String,
    subtest: String,
    href: String,
    base: Option<Verdict>,
    head: Option<Verdict>,
    crash: String,
    reason: String,
    fix: String,
    first_bad: Option<CommitLink>,
    was: String,
    took: String,
}

/// The status of a side, and whether its kernel does not build.
struct Verdict {
    status: Status,
    unbuilt: bool,
}

impl From<&TestEntry> for Verdict {
    fn from(entry: &TestEntry) -> Self {
        Self { status: entry.status(), unbuilt: is_unbuilt(entry) }
    }
}

/// Removes the tests that do not match.
fn retain(entries: &mut Vec<TestEntry>, filter: &Filter) {
    if !filter.is_all() {
        entries.retain(|entry| filter.matches(entry.key.as_str()));
    }
}

/// The view.
pub fn view(context: Context<'_>, route: &CompareRoute, format: Format) -> Result<Response, Problem> {
    let filter = Filter::new(route.test.as_deref())?;
    if route.base.is_empty() || route.head.is_empty() {
        if format == Format::Json {
            return Err(Problem::BadRequest("give two commits or branches: compare=BASE..HEAD".into()));
        }
        return render(context, route, None);
    }
    let mut base = side(context, route, &route.base)?;
    let mut head = side(context, route, &route.head)?;
    let suspicious = match format {
        Format::Json => suspicious_passes(context, &filter, &base, &head)?,
        _ => Vec::new(),
    };
    retain(&mut base.results.entries, &filter);
    retain(&mut head.results.entries, &filter);
    if format == Format::Json {
        let found = compare(&base.results.entries, &head.results.entries);
        let suspicious = suspicious.iter().map(SuspicionRow::from).collect();
        return context.json(&CompareView::new(&base, &head, &found, suspicious));
    }
    render(context, route, Some((&base, &head)))
}

/// The suspicious passes of the head compared with the base and the commits before it.
fn suspicious_passes(
    context: Context<'_>,
    filter: &Filter,
    base: &ComparedCommit,
    head: &ComparedCommit,
) -> Result<Vec<SuspiciousPass>, Problem> {
    let place = place(context, base.at.as_ref(), &base.results.commit)?;
    let listing = place.as_ref().map_or(&[][..], |place| &place.entries);
    let older = from_base(&base.results.commit, listing);
    Ok(suspicious::of_commit(context, filter, &head.results, &older))
}

/// The side selected by a name: the newest tested commit of a branch (of the user, or `user/branch`), or a commit by
/// its full or abbreviated id.
fn side(context: Context<'_>, route: &CompareRoute, name: &str) -> Result<ComparedCommit, Problem> {
    let of_user = route.user.as_ref().zip(name.parse().ok());
    let of_user = of_user.map(|(user, branch)| BranchRef { user: user.clone(), branch });
    let named = name.parse::<BranchRef>().ok();
    for at in of_user.into_iter().chain(named) {
        let Some(entries) = context.store.reader().branch(&at).ok().flatten() else {
            continue;
        };
        let tested = entries.iter().find(|entry| entry.counts.total() > 0);
        let tested = tested
            .ok_or_else(|| Problem::NotFound(format!("no commit of {} is tested yet", cut(name, 100))))?;
        let results = results_of(context, &tested.commit, name)?;
        return Ok(ComparedCommit { results, authorship: tested.authorship.clone(), at: Some(at) });
    }
    let commit = match name.parse::<CommitId>() {
        Ok(commit) => commit,
        Err(_) => match context.store.reader().resolve_prefix(name)? {
            Resolved::One(commit) => commit,
            Resolved::None => {
                return Err(Problem::NotFound(format!(
                    "{} is neither a branch nor a commit with results",
                    cut(name, 100)
                )));
            }
            Resolved::Many(commits) => {
                return Err(Problem::NotFound(format!(
                    "{} commit ids begin with {}; give more digits",
                    commits.len(),
                    cut(name, 100)
                )));
            }
        },
    };
    let listed = context.store.reader().listed(&commit)?;
    let mut results = results_of(context, &commit, name)?;
    let (message, authorship) = listed.map(|entry| (entry.message, entry.authorship)).unwrap_or_default();
    if results.message.is_empty() {
        results.message = message;
    }
    Ok(ComparedCommit { results, authorship, at: None })
}

fn results_of(context: Context<'_>, commit: &CommitId, name: &str) -> Result<CommitResults, Problem> {
    let missing = || Problem::NotFound(format!("no results for {}", cut(name, 100)));
    context.store.reader().commit(commit)?.ok_or_else(missing)
}

fn render(
    context: Context<'_>,
    route: &CompareRoute,
    sides: Option<(&ComparedCommit, &ComparedCommit)>,
) -> Result<Response, Problem> {
    let links = context.links();
    let user = route.user.as_ref();
    let mut crumbs: Vec<Crumb> = user.map(|user| Crumb::link(user, links.user(user))).into_iter().collect();
    crumbs.push(Crumb::here("compare"));
    let mut page = Page::new("Compare", links, crumbs);
    let mut template_sections = Vec::new();
    let (mut pair, mut pager, mut note) = (None, Pager::default(), String::new());
    let test = route.test.as_deref().unwrap_or("");
    let all_href = links.compare(user, &route.base, &route.head);
    let all_href = if test.is_empty() { all_href } else { with_parameter(&all_href, "test", test) };
    if let Some((base, head)) = sides {
        page.title = format!("{}..{} · ktest-ci", cut(&route.base, 40), cut(&route.head, 40));
        page.json = Some(context.json_address());
        let found = compare(&base.results.entries, &head.results.entries);
        (template_sections, pager) = sections(context, &found, (base, head), route, &all_href)?;
        pair = Some(Pair { base: line(context, base), head: line(context, head) });
        note = match (found.changes.is_empty(), found.alike) {
            (true, 0) => "Neither side has a test to compare.".into(),
            (true, alike) => format!("No differences ({}).", alike.plural("test")),
            (false, alike) => format!("{} without a difference.", alike.plural("test")),
        };
    }
    let swap = links.compare(user, &route.head, &route.base);
    context.html(&ComparePage {
        page,
        route,
        choices: choices(context, route)?,
        pair,
        swap,
        sections: template_sections,
        pager,
        all_href: if route.kind.is_some() { all_href } else { String::new() },
        note,
    })
}

/// The branches in the form: those of the user by name, the others as `user/branch`.
fn choices(context: Context<'_>, route: &CompareRoute) -> Result<Vec<String>, Problem> {
    let users = context.store.reader().users()?;
    let own = |user: &UserName| route.user.as_ref() == Some(user);
    let mut names: Vec<(bool, String)> = users
        .iter()
        .flat_map(|(user, branches)| {
            branches.iter().map(move |branch| {
                if own(user) { (false, branch.to_string()) } else { (true, format!("{user}/{branch}")) }
            })
        })
        .collect();
    names.sort();
    Ok(names.into_iter().take(CHOICES_MAX).map(|(_, name)| name).collect())
}

fn line(context: Context<'_>, side: &ComparedCommit) -> SideLine {
    let links = context.links();
    SideLine {
        commit: CommitLink::new(
            context,
            side.at.as_ref(),
            &side.results.commit,
            &side.results.message,
            &side.authorship,
        ),
        branch: side.at.as_ref().map(|at| (at.to_string(), links.branch(at))),
        counts: build_lines::counts(&side.results.counts(), Some(&CommitBuilds::from(&side.results))),
    }
}

/// The changes of one kind that are on the page.
struct Shown<'a, 'f> {
    kind: KindRow,
    changes: &'f [Change<'a>],
    all: usize,
}

/// The changes on the page, and the links between the pages of one kind. `address` is that of the page of all kinds.
fn sections(
    context: Context<'_>,
    found: &Comparison<'_>,
    (base, head): (&ComparedCommit, &ComparedCommit),
    route: &CompareRoute,
    address: &str,
) -> Result<(Vec<Section>, Pager), Problem> {
    let (shown, pager) = match &route.kind {
        Some(kind) => {
            let kind = kind_of(kind)?;
            let address = with_parameter(address, "kind", &field(kind));
            let of_kind = found.by_kind().find(|(row, _)| row.kind == kind);
            let total = of_kind.map_or(0, |(_, changes)| changes.len());
            let (rows, pager) = Pager::of_rows(total, ROWS_MAX, route.page, &address);
            let shown = of_kind.map(|(kind, changes)| Shown { kind, changes: &changes[rows], all: total });
            (shown.into_iter().collect(), pager)
        }
        None => (of_all_kinds(found), Pager::default()),
    };
    let first_bads = FirstBads::new(context, &shown, head);
    let section = |Shown { kind, changes, all }: &Shown<'_, '_>| {
        let row = |change: &Change<'_>| {
            let first_bad = first_bads.of(context, change);
            Row { first_bad, ..row(context, change, base, head) }
        };
        let mut rows: Vec<Row> = changes.iter().map(row).collect();
        unname_repeated(rows.iter_mut().filter_map(|row| row.first_bad.as_mut()));
        let (class, open) = look(*kind);
        Section {
            heading: format!("{all} {}", kind.label),
            class,
            open: open || route.kind.is_some(),
            more: if route.kind.is_some() { 0 } else { all - changes.len() },
            list_href: with_parameter(address, "kind", &field(kind.kind)),
            rows,
        }
    };
    Ok((shown.iter().map(section).collect(), pager))
}

/// The first changes of each kind, and more of the first kinds.
fn of_all_kinds<'a, 'f>(found: &'f Comparison<'a>) -> Vec<Shown<'a, 'f>> {
    let least = |changes: &[Change<'_>]| changes.len().min(OF_EACH_KIND);
    let mut left = ROWS_MAX.saturating_sub(found.by_kind().map(|(_, changes)| least(changes)).sum());
    let shown = |(kind, changes): (KindRow, &'f [Change<'a>])| {
        let more = (changes.len() - least(changes)).min(left);
        left -= more;
        Shown { kind, changes: &changes[..least(changes) + more], all: changes.len() }
    };
    found.by_kind().map(shown).collect()
}

/// The name of a kind in addresses, as in JSON.
fn field(kind: ChangeKind) -> String {
    serde_json::to_string(&kind).unwrap_or_default().trim_matches('"').to_owned()
}

fn kind_of(text: &str) -> Result<ChangeKind, Problem> {
    let kinds: Vec<String> = KINDS.iter().map(|row| field(row.kind)).collect();
    let found = KINDS.iter().find(|row| field(row.kind) == text);
    found.map(|row| row.kind).ok_or_else(|| {
        let hint = config::Hint::new("kinds", text, kinds.iter().map(String::as_str));
        Problem::BadRequest(format!("no kind of changes {:?}{hint}", cut(text, 100)))
    })
}

/// The first bad commits of the tests that fail in the head.
struct FirstBads<'a> {
    place: Option<BranchPosition>,
    stretches: HashMap<&'a str, Stretch>,
}

impl<'a> FirstBads<'a> {
    fn new(context: Context<'_>, shown: &[Shown<'a, '_>], head: &ComparedCommit) -> Self {
        // A listing that cannot be read hides no change.
        let place = place(context, head.at.as_ref(), &head.results.commit).ok().flatten();
        let changes = shown.iter().flat_map(|shown| shown.changes);
        let failing: Vec<&TestEntry> = changes.filter_map(|change| change.head).collect();
        let stretches = first_bads(context, place.as_ref(), &failing);
        Self { place, stretches }
    }

    fn of(&self, context: Context<'_>, change: &Change<'_>) -> Option<CommitLink> {
        let BranchPosition { at, entries, row } = self.place.as_ref()?;
        let stretch = self.stretches.get(change.name())?;
        stretch.last_good?;
        Some(CommitLink::listed(context, at, &entries[row + stretch.first_bad]))
    }
}

/// The style class of a kind, and whether its section is expanded, which it is if it needs attention.
fn look(kind: KindRow) -> (&'static str, bool) {
    match kind.direction {
        Direction::Worse => ("bad", true),
        // One failure of the build, which the counts name.
        Direction::Doubtful => ("s-failed_to_run", kind.kind != ChangeKind::NotBuilt),
        Direction::Better => ("good", kind.kind == ChangeKind::Fixed),
        Direction::Neutral => ("mute", kind.kind == ChangeKind::Fixed),
    }
}

fn row(context: Context<'_>, change: &Change<'_>, base: &ComparedCommit, head: &ComparedCommit) -> Row {
    let name = change.name();
    let (file, subtest) = match context.tests.split(name) {
        ("", whole) => split_key(whole),
        parts => parts,
    };
    let explanation = change.explanation();
    let commit = if change.head.is_some() { &head.results.commit } else { &base.results.commit };
    let crash = explanation.and_then(|entry| entry.decisive.crash.as_deref());
    let reason = explanation.and_then(|entry| entry.decisive.reason.as_deref());
    let status = change.head.map(results::TestEntry::status);
    Row {
        file: file.into(),
        subtest: subtest.into(),
        href: context.links().verdict(commit.as_str(), name, status),
        base: change.base.map(Verdict::from),
        head: change.head.map(Verdict::from),
        crash: cut(crash.unwrap_or(""), REASON_MAX),
        reason: cut(crate::page::beyond_crash(reason, crash), REASON_MAX),
        fix: change.fix().as_ref().map(words).unwrap_or_default(),
        first_bad: None,
        was: change.base.map(|entry| Took(entry.decisive.duration).to_string()).unwrap_or_default(),
        took: change.head.map(|entry| Took(entry.decisive.duration).to_string()).unwrap_or_default(),
    }
}
