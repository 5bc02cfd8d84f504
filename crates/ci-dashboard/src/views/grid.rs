//! The grid of a branch: its tests at the newest commits with results. Failing and changed tests come first.

use askama::Template;
use model::Status;
use regress::CommitStatuses;
use regress::configurations::{GridRow, grid};
use regress::json::GridView;
use results::BranchEntry;

use super::branch::in_configurations;
use super::failure_columns::{self, COLUMN_WIDTH, ColumnPath};
use super::pager::Pager;
use super::{CommitLink, Context};
use crate::filter::Filter;
use crate::http::Response;
use crate::page::{Page, Plural as _};
use crate::problem::Problem;
use crate::route::{BranchRef, Format, with_parameter};

/// The number of commits.
const COMMITS: usize = 50;
/// The number of tests on a page.
const ROWS_MAX: usize = 60;
/// The height of the ids of the commits, in pixels.
const HEAD_HEIGHT: usize = 52;

#[derive(Template)]
#[template(path = "grid.html")]
struct GridPage<'a> {
    page: Page<'a>,
    at: &'a BranchRef,
    branch_href: String,
    test: &'a str,
    config: &'a str,
    all_href: String,
    summary: String,
    commits: Vec<CommitHead>,
    width: usize,
    head_height: usize,
    rows: Vec<Line>,
    pager: Pager,
}

/// The head of a column.
struct CommitHead {
    x: usize,
    commit: CommitLink,
}

struct Line {
    file: String,
    subtest: String,
    href: String,
    words: String,
    columns: Vec<ColumnPath>,
}

/// The view.
pub fn view(
    context: Context<'_>,
    at: &BranchRef,
    (test, config): (Option<&str>, Option<&str>),
    page: usize,
    format: Format,
) -> Result<Response, Problem> {
    let pattern = Filter::new(test)?;
    let entries = context.store.branch(at)?;
    let filter = in_configurations(context, &pattern, config, &entries)?;
    let read = |entry: BranchEntry| Some((context.store.statuses(&entry.commit)?, entry));
    let tested = entries.into_iter().filter(|entry| entry.counts.total() > 0).filter_map(read);
    let (statuses, entries): (Vec<CommitStatuses>, Vec<BranchEntry>) = tested.take(COMMITS).unzip();
    let of_page = |page: usize| {
        let start = page.saturating_mul(ROWS_MAX);
        grid(&statuses, start..start.saturating_add(ROWS_MAX), |name| filter.matches(name))
    };
    let (found, total) = of_page(page);
    let links = context.links();
    let address = [("test", test), ("config", config)]
        .iter()
        .filter_map(|(name, value)| Some((*name, (*value)?)))
        .fold(links.grid(at), |address, (name, value)| with_parameter(&address, name, value));
    let (number, pager) = Pager::new(total.div_ceil(ROWS_MAX), page, &address);
    let found = if page == number { found } else { of_page(number).0 };
    if format == Format::Json {
        return context.json(&GridView::new(entries.iter().map(|entry| &entry.commit), &found, total));
    }
    let head = |(column, entry): (usize, &BranchEntry)| CommitHead {
        x: column * COLUMN_WIDTH + COLUMN_WIDTH,
        commit: CommitLink::listed(context, at, entry),
    };
    context.html(&GridPage {
        page: context.branch_page(at, format!("Grid of {}", at.branch), "grid"),
        at,
        branch_href: links.branch(at),
        test: test.unwrap_or(""),
        config: config.unwrap_or(""),
        all_href: links.grid(at),
        summary: format!(
            "{} at the newest {} with results, newest left",
            total.plural("test"),
            entries.len().plural("commit")
        ),
        commits: entries.iter().enumerate().map(head).collect(),
        width: entries.len() * COLUMN_WIDTH + HEAD_HEIGHT / 2,
        head_height: HEAD_HEIGHT,
        rows: found.rows.iter().map(|row| line(context, at, row)).collect(),
        pager,
    })
}

fn line(context: Context<'_>, at: &BranchRef, row: &GridRow) -> Line {
    let (file, subtest) = context.tests.split(&row.name);
    Line {
        file: file.into(),
        subtest: subtest.into(),
        href: context.links().history(at, &row.name),
        words: words(&row.statuses),
        columns: failure_columns::paths(&row.statuses),
    }
}

/// `Failed, 3 commits; Passed, 47 commits`, newest first: what the columns show.
fn words(statuses: &[Option<Status>]) -> String {
    let runs: Vec<String> = statuses
        .chunk_by(|a, b| a == b)
        .take(8)
        .map(|run| {
            let status = run[0].map_or("no result", |status| status.label());
            format!("{status}, {}", run.len().plural("commit"))
        })
        .collect();
    runs.join("; ")
}
