//! Two commits, or the tips of two branches, side by side: what broke first, and what fails on both sides apart.

use askama::Template;
use model::{CommitId, Counts, Status};
use results::{CommitResults, Resolved, TestEntry};
use serde::Serialize;

use super::{CommitLink, Context};
use crate::compare::{Change, Kind, compare};
use crate::filter::Filter;
use crate::page::{CountItem, Crumb, Page, Plural as _, Symbol as _, Took, count_items, cut, split_key};
use crate::problem::Problem;
use crate::response::Response;
use crate::route::{BranchRef, CompareRoute, Form};

/// How many tests of a kind a page lists; the JSON has all.
const ROWS_MAX: usize = 200;
/// How many branches are offered to choose from.
const CHOICES_MAX: usize = 500;
/// How much of a reason is shown, in bytes.
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
    more: usize,
    rows: Vec<Row>,
}

struct Row {
    file: String,
    subtest: String,
    href: String,
    base: Option<Status>,
    head: Option<Status>,
    crash: String,
    reason: String,
    was: String,
    took: String,
}

/// A side as JSON.
#[derive(Serialize)]
struct SideView<'a> {
    commit: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<&'a str>,
    #[serde(flatten)]
    counts: Counts,
}

/// A test that differs, as JSON.
#[derive(Serialize)]
struct ChangeView<'a> {
    name: &'a str,
    change: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crash: Option<&'a str>,
}

#[derive(Serialize)]
struct CompareView<'a> {
    base: SideView<'a>,
    head: SideView<'a>,
    alike: usize,
    changes: Vec<ChangeView<'a>>,
}

/// A side that was found.
struct Side {
    at: Option<BranchRef>,
    results: CommitResults,
}

impl Side {
    fn counts(&self) -> Counts {
        self.results.counts()
    }

    fn keep(&mut self, filter: &Filter) {
        if !filter.is_all() {
            self.results.entries.retain(|entry| filter.wants(entry.key.as_str()));
        }
    }
}

/// The view.
pub fn view(context: Context<'_>, route: &CompareRoute, form: Form) -> Result<Response, Problem> {
    let filter = Filter::new(route.test.as_deref())?;
    if route.base.is_empty() || route.head.is_empty() {
        if form == Form::Json {
            return Err(Problem::BadRequest("name two commits or branches: compare=BASE..HEAD".into()));
        }
        return render(context, route, None);
    }
    let mut base = side(context, route, &route.base)?;
    let mut head = side(context, route, &route.head)?;
    base.keep(&filter);
    head.keep(&filter);
    if form == Form::Json {
        let (changes, alike) = compare(&base.results.entries, &head.results.entries);
        return context.json(&CompareView {
            base: side_view(&base),
            head: side_view(&head),
            alike,
            changes: changes.iter().map(change_view).collect(),
        });
    }
    render(context, route, Some((&base, &head)))
}

/// What a name stands for: a branch (of the user, or `user/branch`) whose newest tested commit is meant, a commit, the
/// first digits of one.
fn side(context: Context<'_>, route: &CompareRoute, name: &str) -> Result<Side, Problem> {
    let of_user = route.user.as_ref().map(|user| BranchRef { user: user.clone(), branch: name.into() });
    let named =
        name.split_once('/').map(|(user, branch)| BranchRef { user: user.into(), branch: branch.into() });
    for at in of_user.into_iter().chain(named) {
        let Some(entries) = context.store.reader().branch(&at.user, &at.branch).ok().flatten() else {
            continue;
        };
        let tested = entries.iter().find(|entry| entry.counts.total() > 0);
        let tested = tested.ok_or_else(|| {
            Problem::NotFound(format!("no commit of {} has been tested yet", cut(name, 100)))
        })?;
        return Ok(Side { results: results_of(context, &tested.commit, name)?, at: Some(at) });
    }
    let commit = match name.parse::<CommitId>() {
        Ok(commit) => commit,
        Err(_) => match context.store.reader().resolve_prefix(name)? {
            Resolved::One(commit) => commit,
            Resolved::None => {
                return Err(Problem::NotFound(format!(
                    "{} is no branch and no commit with results",
                    cut(name, 100)
                )));
            }
            Resolved::Many(commits) => {
                return Err(Problem::NotFound(format!(
                    "{} commits have an id that begins with {}; give more digits",
                    commits.len(),
                    cut(name, 100)
                )));
            }
        },
    };
    Ok(Side { results: results_of(context, &commit, name)?, at: None })
}

fn results_of(context: Context<'_>, commit: &CommitId, name: &str) -> Result<CommitResults, Problem> {
    let missing = || Problem::NotFound(format!("there are no results of {}", cut(name, 100)));
    context.store.reader().commit(commit)?.ok_or_else(missing)
}

fn side_view(side: &Side) -> SideView<'_> {
    SideView {
        commit: side.results.commit.as_str(),
        message: &side.results.message,
        user: side.at.as_ref().map(|at| at.user.as_str()),
        branch: side.at.as_ref().map(|at| at.branch.as_str()),
        counts: side.counts(),
    }
}

fn change_view<'a>(change: &'a Change<'a>) -> ChangeView<'a> {
    let told = told(change);
    ChangeView {
        name: change.name(),
        change: change.kind,
        base: change.base.map(|entry| entry.status),
        head: change.head.map(|entry| entry.status),
        reason: told.and_then(|entry| entry.reason.as_deref()),
        crash: told.and_then(|entry| entry.crash.as_deref()),
    }
}

/// The side whose reason is worth telling: the head's, and the base's where the head has none left.
fn told<'a>(change: &Change<'a>) -> Option<&'a TestEntry> {
    match change.kind {
        Kind::Fixed | Kind::Gone | Kind::Resumed => change.base,
        _ => change.head,
    }
}

fn render(
    context: Context<'_>,
    route: &CompareRoute,
    sides: Option<(&Side, &Side)>,
) -> Result<Response, Problem> {
    let links = context.links();
    let user = route.user.as_deref();
    let mut crumbs: Vec<Crumb> = user.map(|user| Crumb::link(user, links.user(user))).into_iter().collect();
    crumbs.push(Crumb::here("compare"));
    let mut page = Page::new("Compare", links, crumbs);
    let mut template_sections = Vec::new();
    let (mut pair, mut note) = (None, String::new());
    if let Some((base, head)) = sides {
        page.title = format!("{}..{} · ktest-ci", cut(&route.base, 40), cut(&route.head, 40));
        page.json = Some(context.json_address());
        let (changes, alike) = compare(&base.results.entries, &head.results.entries);
        template_sections = sections(context, &changes, base, head);
        pair = Some(Pair { base: line(context, base), head: line(context, head) });
        note = match (changes.is_empty(), alike) {
            (true, 0) => "Neither side has a test to compare.".into(),
            (true, alike) => format!("No difference: {} alike.", alike.plural("test")),
            (false, alike) => format!("{} alike.", alike.plural("test")),
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
        note,
    })
}

/// The branches that can be named: those of the user by their names, the others with theirs before.
fn choices(context: Context<'_>, route: &CompareRoute) -> Result<Vec<String>, Problem> {
    let users = context.store.reader().users()?;
    let own = |user: &String| route.user.as_ref() == Some(user);
    let mut names: Vec<(bool, String)> = users
        .iter()
        .flat_map(|(user, branches)| {
            branches.iter().map(move |branch| {
                if own(user) { (false, branch.clone()) } else { (true, format!("{user}/{branch}")) }
            })
        })
        .collect();
    names.sort();
    Ok(names.into_iter().take(CHOICES_MAX).map(|(_, name)| name).collect())
}

fn line(context: Context<'_>, side: &Side) -> SideLine {
    let links = context.links();
    SideLine {
        commit: CommitLink::new(links, side.at.as_ref(), &side.results.commit, &side.results.message),
        branch: side.at.as_ref().map(|at| (format!("{}/{}", at.user, at.branch), links.branch(at))),
        counts: count_items(&side.counts()),
    }
}

fn sections(context: Context<'_>, changes: &[Change<'_>], base: &Side, head: &Side) -> Vec<Section> {
    Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let of_kind: Vec<&Change<'_>> = changes.iter().filter(|change| change.kind == kind).collect();
            if of_kind.is_empty() {
                return None;
            }
            let (words, class, open) = words(kind);
            Some(Section {
                heading: format!("{} {words}", of_kind.len()),
                class,
                open,
                more: of_kind.len().saturating_sub(ROWS_MAX),
                rows: of_kind.iter().take(ROWS_MAX).map(|change| row(context, change, base, head)).collect(),
            })
        })
        .collect()
}

fn words(kind: Kind) -> (&'static str, &'static str, bool) {
    match kind {
        Kind::Broke => ("broke", "bad", true),
        Kind::Failing => ("failing, without a verdict to compare with", "bad", true),
        Kind::Fixed => ("fixed", "good", true),
        Kind::StillFailing => ("failing on both sides", "bad", true),
        Kind::Stopped => ("ran in the base and not in the head", "s-failed_to_run", true),
        Kind::Resumed => ("did not run in the base and passed in the head", "good", false),
        Kind::Slower => ("take much longer", "s-failed_to_run", true),
        Kind::Gone => ("only in the base", "mute", false),
        Kind::New => ("only in the head", "mute", false),
    }
}

fn row(context: Context<'_>, change: &Change<'_>, base: &Side, head: &Side) -> Row {
    let name = change.name();
    let (file, subtest) = match context.tests.split(name) {
        ("", whole) => split_key(whole),
        parts => parts,
    };
    let told = told(change);
    let commit = if change.head.is_some() { &head.results.commit } else { &base.results.commit };
    let crash = told.and_then(|entry| entry.crash.as_deref());
    let reason = told.and_then(|entry| entry.reason.as_deref());
    let mut href = context.links().test(commit.as_str(), name);
    if change.head.is_some_and(|entry| entry.status == Status::Failed) {
        href.push_str("#failure");
    }
    Row {
        file: file.into(),
        subtest: subtest.into(),
        href,
        base: change.base.map(|entry| entry.status),
        head: change.head.map(|entry| entry.status),
        crash: cut(crash.unwrap_or(""), REASON_MAX),
        reason: cut(crate::page::beyond_crash(reason, crash), REASON_MAX),
        was: change.base.map(|entry| Took(entry.duration).to_string()).unwrap_or_default(),
        took: change.head.map(|entry| Took(entry.duration).to_string()).unwrap_or_default(),
    }
}
