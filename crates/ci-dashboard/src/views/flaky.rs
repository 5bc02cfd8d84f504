//! The flaky tests of a branch, with their failure rates over the newest commits.

use std::collections::HashMap;

use askama::Template;
use model::CommitId;
use results::json::FlakyRow;
use results::{BranchEntry, FlakyEntry};

use super::pager::Pager;
use super::sorting::{self, Column, Head};
use super::{CommitLink, Context};
use crate::http::Response;
use crate::page::{Page, Plural as _, cut};
use crate::problem::Problem;
use crate::route::{BranchRef, Format, TableQuery};

/// The maximum number of tests on a page.
const TESTS_MAX: usize = 100;

/// The columns of the table.
const COLUMNS: [Column<FlakyEntry>; 6] = [
    Column::up(("test", "Test"), "wide", |a, b| a.key.cmp(&b.key)),
    Column::down(("rate", "Rate"), "", |a, b| b.flaky.rate.mean().total_cmp(&a.flaky.rate.mean())),
    Column::plain("Interval"),
    Column::plain("Since"),
    Column::down(("commits", "Commits"), "num", |a, b| b.flaky.experiments.cmp(&a.flaky.experiments)),
    Column::plain("Hosts"),
];

#[derive(Template)]
#[template(path = "flaky.html")]
struct FlakyPage<'a> {
    page: Page<'a>,
    at: &'a BranchRef,
    branch_href: String,
    heads: Vec<Head>,
    rows: Vec<FlakyLine>,
    total: usize,
    pager: Pager,
}

struct FlakyLine {
    file: String,
    subtest: String,
    href: String,
    rate: String,
    share: String,
    since: Option<CommitLink>,
    commits: usize,
    hosts: String,
    load: String,
}

/// The view.
pub fn view(
    context: Context<'_>,
    at: &BranchRef,
    part: &TableQuery,
    format: Format,
) -> Result<Response, Problem> {
    let missing = || context.store.no_branch(at);
    let mut found = context.store.reader().flaky(at)?.ok_or_else(missing)?;
    if format == Format::Json {
        return context.json(&found.iter().map(FlakyRow::from).collect::<Vec<_>>());
    }
    let entries = context.store.branch(at)?;
    let listed: HashMap<&CommitId, &BranchEntry> =
        entries.iter().map(|entry| (&entry.commit, entry)).collect();
    let links = context.links();
    found.sort_by(|a, b| b.flaky.rate.mean().total_cmp(&a.flaky.rate.mean()));
    let heads = sorting::sort(&mut found, &COLUMNS, part.sort.as_deref(), &links.flaky(at))?;
    let address = part.address(links.flaky(at));
    let (rows, pager) = Pager::of_rows(found.len(), TESTS_MAX, part.page, &address);
    context.html(&FlakyPage {
        page: context.branch_page(at, format!("Flaky tests on {}", at.branch), "flaky"),
        at,
        branch_href: links.branch(at),
        heads,
        rows: found[rows].iter().map(|entry| line(context, at, &listed, entry)).collect(),
        total: found.len(),
        pager,
    })
}

fn line(
    context: Context<'_>,
    at: &BranchRef,
    listed: &HashMap<&CommitId, &BranchEntry>,
    entry: &FlakyEntry,
) -> FlakyLine {
    let links = context.links();
    let row = FlakyRow::from(entry);
    let (file, subtest) = context.tests.split(&row.name);
    let since = listed.get(&entry.flaky.since);
    let hosts: Vec<String> =
        entry.flaky.by_class.iter().map(|(class, rate)| format!("{class}: {rate}")).collect();
    FlakyLine {
        file: file.into(),
        subtest: subtest.into(),
        href: links.history(at, &row.name),
        rate: entry.flaky.to_string(),
        share: row.rate.to_string(),
        since: since.map(|entry| CommitLink::listed(context, at, entry)),
        commits: row.commits,
        hosts: cut(&hosts.join(", "), 200),
        load: row.only_under_load.map_or(String::new(), |load| load.to_string()),
    }
}
