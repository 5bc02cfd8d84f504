//! The matrix of a commit: test files, or the subtests of one file, in all configurations.

use askama::Template;
use model::{CommitId, Counts, Status};
use regress::CommitStatuses;
use regress::configurations::{Matrix, MatrixRow, matrix};
use regress::json::MatrixView;

use super::commit::{crumbs_of, place};
use super::pager::Pager;
use super::{CommitLink, Context};
use crate::http::Response;
use crate::page::{CountItem, Crumb, Page, Plural as _, Symbol as _, count_items, cut};
use crate::problem::Problem;
use crate::route::{BranchRef, CommitOrBranch, Format, with_parameter};

/// The maximum number of configurations on a page.
const COLUMNS_MAX: usize = 24;
/// The maximum number of cells on a page.
const CELLS_MAX: usize = 270;
/// The maximum number of rows on a page.
const ROWS_MAX: usize = 100;

#[derive(Template)]
#[template(path = "matrix.html")]
struct MatrixPage<'a> {
    page: Page<'a>,
    /// The test file, if this is the matrix of its subtests.
    file: &'a str,
    commit: CommitLink,
    branch_href: Option<String>,
    branch_name: String,
    summary: String,
    columns: Vec<Column>,
    columns_more: usize,
    rows: Vec<Row>,
    pager: Pager,
}

/// A configuration.
struct Column {
    name: String,
    href: String,
    counts: Vec<CountItem>,
}

/// A test file or a subtest.
struct Row {
    name: String,
    href: String,
    cells: Vec<Option<Cell>>,
}

/// The tests of a row in one configuration.
struct Cell {
    /// The most urgent status.
    status: Status,
    /// The configuration, for narrow screens.
    label: String,
    /// `✗ 3 of 100`.
    text: String,
    /// The same for readers who do not see it.
    words: String,
    href: String,
}

/// The view.
pub fn view(
    context: Context<'_>,
    of: &CommitOrBranch,
    file: Option<&str>,
    page: usize,
    format: Format,
) -> Result<Response, Problem> {
    let (commit, statuses) = selected(context, of)?;
    let tests = statuses.names.iter().zip(statuses.statuses.iter());
    let tests = tests.map(|(name, status)| (&**name, *status));
    let found = matrix(tests, |test| {
        let (of, subtest) = context.tests.split(test);
        let of = of.trim_end_matches('.');
        match file {
            None => Some(of.to_owned()),
            Some(file) => (of == file).then(|| subtest.to_owned()),
        }
    });
    if let Some(file) = file.filter(|_| found.rows.is_empty()) {
        return Err(no_file(context, &statuses, file));
    }
    if format == Format::Json {
        return context.json(&MatrixView::new(&commit, &found));
    }
    render(context, of, &commit, (file.unwrap_or(""), page), &found)
}

/// The commit and its tests.
fn selected(context: Context<'_>, of: &CommitOrBranch) -> Result<(CommitId, CommitStatuses), Problem> {
    let commit = match of {
        CommitOrBranch::Commit(commit) => commit.clone(),
        CommitOrBranch::Branch(at) => {
            let entries = context.store.branch(at)?;
            let tested = entries.into_iter().find(|entry| entry.counts.total() > 0);
            let none = || Problem::NotFound("no commit of this branch has results".into());
            tested.ok_or_else(none)?.commit
        }
    };
    let none = || Problem::NotFound("no results for this commit".into());
    let statuses = context.store.statuses(&commit).ok_or_else(none)?;
    Ok((commit, statuses))
}

fn no_file(context: Context<'_>, statuses: &CommitStatuses, wanted: &str) -> Problem {
    let files: std::collections::BTreeSet<&str> = statuses
        .names
        .iter()
        .map(|name| context.tests.split(name).0.split('@').next().unwrap_or_default().trim_end_matches('.'))
        .take(100_000)
        .collect();
    let nearest = config::nearest(wanted, files.into_iter().take(1000));
    Problem::NotFound(format!("no test file {:?} at this commit{}", cut(wanted, 100), nearest.question()))
}

fn render(
    context: Context<'_>,
    of: &CommitOrBranch,
    commit: &CommitId,
    (file, page): (&str, usize),
    found: &Matrix<'_>,
) -> Result<Response, Problem> {
    let links = context.links();
    let at = match of {
        CommitOrBranch::Commit(_) => None,
        CommitOrBranch::Branch(at) => Some(at),
    };
    let place = place(context, at, commit)?;
    let at = place.as_ref().map(|place| &place.at);
    let link = match &place {
        Some(place) => CommitLink::listed(context, &place.at, &place.entries[place.row]),
        None => CommitLink::new(context, None, commit, "", &results::Authorship::default()),
    };
    let columns = found.configurations.len().min(COLUMNS_MAX);
    let per_page = (CELLS_MAX / columns.max(1)).clamp(10, ROWS_MAX);
    let address = links.matrix(commit.as_str(), Some(file).filter(|file| !file.is_empty()));
    let (shown, pager) = Pager::of_rows(found.rows.len(), per_page, page, &address);
    let noun = if file.is_empty() { "test file" } else { "subtest" };
    let (rows, configurations) = (found.rows.len(), found.configurations.len());
    context.html(&MatrixPage {
        page: frame(context, at, commit, file),
        file,
        branch_href: at.map(|at| links.branch(at)),
        branch_name: at.map(ToString::to_string).unwrap_or_default(),
        summary: format!("{}, {}", rows.plural(noun), configurations.plural("test configuration")),
        columns: columns_of(&link, found),
        columns_more: configurations.saturating_sub(COLUMNS_MAX),
        rows: found.rows[shown].iter().map(|row| line(context, (commit, &link), file, found, row)).collect(),
        commit: link,
        pager,
    })
}

fn frame<'a>(context: Context<'a>, at: Option<&BranchRef>, commit: &CommitId, file: &str) -> Page<'a> {
    let links = context.links();
    let mut crumbs = crumbs_of(links, at);
    crumbs.push(Crumb::link(commit.short(), links.commit(at, commit.as_str())));
    if file.is_empty() {
        crumbs.push(Crumb::here("matrix"));
    } else {
        crumbs.push(Crumb::link("matrix", links.matrix(commit.as_str(), None)));
        crumbs.push(Crumb::here(file));
    }
    let mut page = Page::new(format!("Matrix of {}", commit.short()), links, crumbs);
    page.json = Some(context.json_address());
    page.live = 15;
    page
}

fn columns_of(commit: &CommitLink, found: &Matrix<'_>) -> Vec<Column> {
    let column = |(configuration, counts): &(model::TestConfiguration<'_>, Counts)| {
        let name = configuration.to_string();
        Column {
            href: with_parameter(&commit.href, "config", &name),
            name: cut(&name, 100),
            counts: count_items(counts),
        }
    };
    found.configurations.iter().take(COLUMNS_MAX).map(column).collect()
}

fn line(
    context: Context<'_>,
    (commit, link): (&CommitId, &CommitLink),
    file: &str,
    found: &Matrix<'_>,
    row: &MatrixRow<'_>,
) -> Row {
    let links = context.links();
    let cell = |(at, counts): (usize, &Counts)| {
        let configuration = found.configurations[at].0.to_string();
        let items = count_items(counts);
        let status = items.first()?.status;
        let key = row.keys[at].unwrap_or_default();
        let href = if file.is_empty() {
            let (of, _) = context.tests.split(key);
            let filtered = with_parameter(&link.href, "test", &format!("^{}", regex::escape(of)));
            with_parameter(&filtered, "config", &configuration)
        } else {
            links.verdict(commit.as_str(), key, Some(status))
        };
        let (count, total) = (counts.get(status), counts.total());
        let text = match (file.is_empty(), count == total) {
            (false, _) => status.symbol().to_owned(),
            (true, true) => format!("{} {total}", status.symbol()),
            (true, false) => format!("{} {count}/{total}", status.symbol()),
        };
        let words = items.iter().map(|item| format!("{} {}", item.count, item.label)).collect::<Vec<_>>();
        // The label contains the text, so that speech input finds the link by what is on the page.
        let words = format!("{text} {}: {}", cut(&configuration, 60), words.join(", "));
        Some(Cell { status, text, words, label: cut(&configuration, 60), href })
    };
    Row {
        name: if row.name.is_empty() { "(no test file)".into() } else { row.name.clone() },
        href: if file.is_empty() && !row.name.is_empty() {
            links.matrix(commit.as_str(), Some(&row.name))
        } else {
            String::new()
        },
        cells: row.cells.iter().enumerate().take(COLUMNS_MAX).map(cell).collect(),
    }
}
