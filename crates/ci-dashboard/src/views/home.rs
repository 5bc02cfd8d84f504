//! The list of users and branches, with the state of each branch tip: newly broken and worst first, in pages.

use std::os::unix::fs::MetadataExt as _;

use askama::Template;
use model::{BranchName, Counts, Status, UserName, count_words};
use results::BranchEntry;
use results::json::UserView;

use super::branch_trend::{Failures, Sparkline};
use super::eta::Estimator;
use super::pager::Pager;
use super::{CommitLink, Context, build_lines};
use crate::filter::Filter;
use crate::http::Response;
use crate::page::{CountItem, Crumb, Page, Plural as _, Symbol as _, When, urgency};
use crate::problem::Problem;
use crate::route::{BranchRef, BranchesQuery, Format, with_parameter};

/// The number of commits of a branch that are searched for queued and running tests.
const PROGRESS_MAX: usize = 20;
/// The number of branches on a page.
const ROWS_MAX: usize = 40;

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    page: Page<'a>,
    heading: String,
    /// The user of the page; empty for all.
    user: String,
    find: &'a str,
    note: String,
    users: Vec<UserBlock>,
    pager: Pager,
}

struct UserBlock {
    name: String,
    href: String,
    branches_words: String,
    branches: Vec<BranchLine>,
}

struct BranchLine {
    name: String,
    href: String,
    tip: Option<Tip>,
    /// What is being done for the newest commit with queued or running tests.
    progress: String,
}

struct Tip {
    commit: CommitLink,
    state: Status,
    words: String,
    /// `2 new, 5 earlier`.
    failures: String,
    behind: String,
    counts: Vec<CountItem>,
    trend: Sparkline,
    tested: Option<When>,
}

/// A branch, and the place of its tip in the list: newly broken first, then the most urgent.
struct Ranked {
    at: BranchRef,
    entries: Vec<BranchEntry>,
    /// The row of the newest commit with results, and its failures.
    tip: Option<(usize, Failures)>,
    rank: (bool, usize, std::cmp::Reverse<usize>),
}

/// The page of all users.
pub fn home(context: Context<'_>, query: &BranchesQuery, format: Format) -> Result<Response, Problem> {
    let users: Vec<_> = context.store.reader().users()?.into_iter().collect();
    if format == Format::Json {
        let views: Vec<_> = users.into_iter().map(|(user, branches)| UserView { user, branches }).collect();
        return context.json(&views);
    }
    let page = Page::new("Branches", context.links(), Vec::new());
    render(context, page, "Branches".into(), None, query, &users)
}

/// The page of one user.
pub fn user(
    context: Context<'_>,
    user: &UserName,
    query: &BranchesQuery,
    format: Format,
) -> Result<Response, Problem> {
    let branches = context
        .store
        .reader()
        .branches(user)?
        .ok_or_else(|| Problem::NotFound("no such user, or no results for their branches yet".into()))?;
    if format == Format::Json {
        return context.json(&UserView { user: user.clone(), branches });
    }
    let page = Page::new(user.as_str(), context.links(), vec![Crumb::here(user.as_str())]);
    render(context, page, format!("Branches of {user}"), Some(user), query, &[(user.clone(), branches)])
}

fn render(
    context: Context<'_>,
    mut page: Page<'_>,
    heading: String,
    user: Option<&UserName>,
    query: &BranchesQuery,
    users: &[(UserName, Vec<BranchName>)],
) -> Result<Response, Problem> {
    page.live = 10;
    page.json = Some(context.json_address());
    let filter = Filter::new(query.find.as_deref())?;
    let groups = ranked(context, users, &filter);
    let all: usize = groups.iter().map(|(_, branches)| branches.len()).sum();
    let find = query.find.as_deref().unwrap_or("");
    let base = user.map_or_else(|| context.links().home(), |user| context.links().user(user));
    let address = if find.is_empty() { base } else { with_parameter(&base, "find", find) };
    let (mut left, mut pager) = Pager::of_rows(all, ROWS_MAX, query.page, &address);
    if !pager.position.is_empty() {
        pager.position.push_str(&format!(", {}", branches_words(all)));
    }
    let snapshot = context.snapshot();
    let estimator = Estimator::new(context, &snapshot);
    let mut blocks = Vec::new();
    for (user, branches) in &groups {
        let shown = left.start.min(branches.len())..left.end.min(branches.len());
        left = left.start.saturating_sub(branches.len())..left.end.saturating_sub(branches.len());
        if !shown.is_empty() {
            blocks.push(UserBlock {
                name: user.to_string(),
                href: context.links().user(user),
                branches_words: branches_words(branches.len()),
                branches: branches[shown].iter().map(|ranked| line(context, &estimator, ranked)).collect(),
            });
        }
    }
    context.html(&HomePage {
        page,
        heading,
        user: user.map(ToString::to_string).unwrap_or_default(),
        find,
        note: match (all, find) {
            (0, "") => String::new(),
            (0, find) => format!("No branch matches {find}."),
            _ => String::new(),
        },
        users: blocks,
        pager,
    })
}

fn branches_words(count: usize) -> String {
    if count == 1 { "1 branch".into() } else { format!("{count} branches") }
}

/// The branches that match, by user. The users with the worst branches come first.
fn ranked<'a>(
    context: Context<'_>,
    users: &'a [(UserName, Vec<BranchName>)],
    filter: &Filter,
) -> Vec<(&'a UserName, Vec<Ranked>)> {
    let of_user = |(user, branches): &'a (UserName, Vec<BranchName>)| {
        let matching = branches.iter().filter(|branch| filter.matches(&format!("{user}/{branch}")));
        let matching = matching.map(|branch| BranchRef::new(user, branch));
        let shown = matching.filter(|at| context.only.is_none_or(|only| only.contains(at)));
        let mut ranked: Vec<Ranked> = shown.map(|at| rank(context, at)).collect();
        ranked.sort_by(|a, b| (a.rank, &a.at.branch).cmp(&(b.rank, &b.at.branch)));
        (user, ranked)
    };
    let mut groups: Vec<_> = users.iter().map(of_user).filter(|(_, branches)| !branches.is_empty()).collect();
    groups.sort_by_key(|(_, branches)| branches[0].rank);
    groups
}

fn rank(context: Context<'_>, at: BranchRef) -> Ranked {
    // A branch with a listing that cannot be read is shown as not tested; the error is logged.
    let entries = context.store.branch(&at).unwrap_or_default();
    let row = entries.iter().position(|entry| entry.counts.total() > 0);
    let tip = row.map(|row| (row, Failures::new(context, &entries, row)));
    let rank = tip.as_ref().map_or((true, usize::MAX, std::cmp::Reverse(0)), |(row, failures)| {
        let (status, _) =
            build_lines::state(&entries[*row].counts, context.store.failed_builds(&entries[*row]).as_deref());
        (!failures.is_newly_broken(), urgency(status), std::cmp::Reverse(failures.total()))
    });
    Ranked { at, entries, tip, rank }
}

fn line(context: Context<'_>, estimator: &Estimator<'_>, ranked: &Ranked) -> BranchLine {
    let Ranked { at, entries, tip: found, .. } = ranked;
    let active: Vec<usize> =
        (0..entries.len().min(PROGRESS_MAX)).filter(|row| estimator.is_active(&entries[*row])).collect();
    let newest = active.first().and_then(|row| estimator.progress(at, entries, *row));
    BranchLine {
        name: at.branch.to_string(),
        href: context.links().branch(at),
        tip: found.as_ref().map(|(row, failures)| tip(context, ranked, *row, failures, active.len())),
        progress: newest.unwrap_or_default(),
    }
}

/// The newest commit with results.
fn tip(context: Context<'_>, ranked: &Ranked, behind: usize, failures: &Failures, in_progress: usize) -> Tip {
    let entry = &ranked.entries[behind];
    let builds = context.store.failed_builds(entry);
    let (state, words) = build_lines::state(&entry.counts, builds.as_deref());
    let blob = context.store.reader().output_dir().join(format!("{}.capnp", entry.commit));
    let tested = std::fs::metadata(blob).ok().and_then(|data| When::unix(data.mtime()));
    Tip {
        commit: CommitLink::listed(context, &ranked.at, entry),
        state,
        words,
        failures: failures.to_string(),
        behind: match behind.saturating_sub(in_progress) {
            0 => String::new(),
            behind => format!("{} not tested", behind.plural("newer commit")),
        },
        counts: build_lines::counts(&entry.counts, builds.as_deref()),
        trend: Sparkline::new(context, &ranked.entries),
        tested,
    }
}

/// The most urgent status of the counts, in words.
#[must_use]
pub fn state(counts: &Counts) -> (Status, String) {
    match counts.by_urgency().next() {
        Some((Status::Passed, _)) => (Status::Passed, "all passed".into()),
        Some((status, count)) if status != Status::NotRun => (status, count_words(status, count)),
        _ => (Status::NotRun, "all skipped".into()),
    }
}
