//! The crashes on a branch by title, with the tests that each hit and its first and last occurrence.

use askama::Template;
use regress::crash_groups::{CrashGroup, CrashGroups, of_results, of_table};
use regress::json::CrashRow;
use results::BranchEntry;

use super::pager::Pager;
use super::sorting::{self, Column, Head};
use super::{CommitLink, Context, TestLink};
use crate::http::Response;
use crate::page::{Page, Plural as _, When, cut};
use crate::problem::Problem;
use crate::route::{BranchRef, Format, TableQuery};

/// The maximum number of crashes on a page.
const CRASHES_MAX: usize = 40;
/// The maximum number of tests listed for a crash.
const TESTS_MAX: usize = 3;

/// The columns of the table. Rows of commits are counted from the newest one.
const COLUMNS: [Column<CrashGroup>; 7] = [
    Column::up(("title", "Crash, and tests it hit"), "wide", |a, b| a.title.cmp(&b.title)),
    Column::down(("now", "Now"), "", |a, b| b.still_occurs.cmp(&a.still_occurs)),
    Column::down(("first", "First seen"), "", |a, b| a.first_row.cmp(&b.first_row)),
    Column::down(("last", "Last seen"), "", |a, b| a.last_row.cmp(&b.last_row)),
    Column::down(("hits", "Hits"), "num", |a, b| b.hits.cmp(&a.hits)),
    Column::down(("commits", "Commits"), "num", |a, b| b.commits().cmp(&a.commits())),
    Column::plain("Hosts"),
];

#[derive(Template)]
#[template(path = "crashes.html")]
struct CrashesPage<'a> {
    page: Page<'a>,
    at: &'a BranchRef,
    branch_href: String,
    heads: Vec<Head>,
    rows: Vec<CrashLine>,
    total: usize,
    pager: Pager,
    is_sampled: bool,
}

struct CrashLine {
    title: String,
    still_occurs: bool,
    first: CommitLink,
    last: CommitLink,
    first_at: Option<When>,
    last_at: Option<When>,
    hits: usize,
    commits: usize,
    hosts: String,
    tests: Vec<TestLink>,
    tests_more: usize,
}

/// The view.
pub fn view(
    context: Context<'_>,
    at: &BranchRef,
    part: &TableQuery,
    format: Format,
) -> Result<Response, Problem> {
    let entries = context.store.branch(at)?;
    let mut found = found(context, at, &entries);
    if format == Format::Json {
        let rows: Vec<_> = found.groups.iter().map(|group| CrashRow::new(group, &entries)).collect();
        return context.json(&rows);
    }
    let links = context.links();
    let heads = sorting::sort(&mut found.groups, &COLUMNS, part.sort.as_deref(), &links.crashes(at))?;
    let address = part.address(links.crashes(at));
    let (rows, pager) = Pager::of_rows(found.groups.len(), CRASHES_MAX, part.page, &address);
    context.html(&CrashesPage {
        page: context.branch_page(at, format!("Crashes on {}", at.branch), "crashes"),
        at,
        branch_href: links.branch(at),
        heads,
        rows: found.groups[rows].iter().map(|group| line(context, at, &entries, group)).collect(),
        total: found.groups.len(),
        pager,
        is_sampled: found.is_sampled,
    })
}

/// The crashes from the table of the store, or, without a database, from the results.
fn found(context: Context<'_>, at: &BranchRef, entries: &[BranchEntry]) -> CrashGroups {
    let (store, reader) = (context.store, context.store.reader());
    match reader.crashes(at) {
        Some(table) => {
            let groups = of_table(entries, table, |commit| store.statuses(commit));
            CrashGroups { groups, is_sampled: false }
        }
        None => of_results(&store.history(entries), entries, |commit, key| reader.entry(commit, key).ok()?),
    }
}

fn line(context: Context<'_>, at: &BranchRef, entries: &[BranchEntry], group: &CrashGroup) -> CrashLine {
    let links = context.links();
    let commit = |row: usize| CommitLink::listed(context, at, &entries[row]);
    let (first, mut last) = (commit(group.first_row), commit(group.last_row));
    last.is_named = group.last_row != group.first_row;
    CrashLine {
        title: cut(&group.title, 400),
        still_occurs: group.still_occurs,
        first,
        last,
        first_at: group.times.and_then(|(first, _)| When::unix(first)),
        last_at: group.times.and_then(|(_, last)| When::unix(last)),
        hits: group.hits,
        commits: group.commits(),
        hosts: cut(&group.hosts.iter().map(String::as_str).collect::<Vec<_>>().join(" "), 200),
        tests: group
            .tests
            .iter()
            .take(TESTS_MAX)
            .map(|name| TestLink { name: cut(name, 200), href: links.history(at, name) })
            .collect(),
        tests_more: group.tests.len().saturating_sub(TESTS_MAX),
    }
}
