//! The coverage of the kernel's source at a commit: by test file, directory and source file.
//!
//! The coverage artifacts (`coverage.info.br`) are merged for each request; there are few, and each is read once.

use std::collections::{BTreeMap, HashSet};

use ::coverage::{Coverage, Function, Totals};
use askama::Template;
use model::CommitId;
use results::{Log, TestEntry};
use serde::Serialize;

use super::Context;
use crate::http::Response;
use crate::page::{Crumb, Page};
use crate::problem::Problem;
use crate::route::Format;

/// The name of the artifact.
const NAME: &str = "coverage.info";
/// The maximum number of bytes of an artifact that are read.
const READ_MAX: u64 = 256 << 20;
/// The maximum number of artifacts that a page reads.
const RUNS_MAX: usize = 500;
/// The maximum number of rows of a table.
const ROWS_MAX: usize = 1000;

#[derive(Template)]
#[template(path = "coverage.html")]
struct CoveragePage<'a> {
    page: Page<'a>,
    short: &'a str,
    commit_href: String,
    path: &'a str,
    test: &'a str,
    all_href: String,
    any_test_href: String,
    total: Share,
    tests: Vec<Row>,
    parts_heading: &'static str,
    parts: Vec<Row>,
    parts_more: usize,
    functions: Vec<FunctionLine>,
    missed: Vec<String>,
}

/// Totals as text.
struct Share {
    percent: String,
    /// For a bar, 0 to 100.
    width: u64,
    lines: String,
    functions: String,
}

struct Row {
    name: String,
    href: String,
    share: Share,
}

struct FunctionLine {
    name: String,
    line: u32,
    calls: u64,
}

#[derive(Serialize)]
struct TotalsView {
    lines: u64,
    lines_hit: u64,
    functions: u64,
    functions_hit: u64,
}

impl From<Totals> for TotalsView {
    fn from(totals: Totals) -> Self {
        let Totals { lines, lines_hit, functions, functions_hit } = totals;
        Self { lines, lines_hit, functions, functions_hit }
    }
}

#[derive(Serialize)]
struct CoverageView<'a> {
    commit: &'a str,
    totals: TotalsView,
    /// The coverage of each test file.
    tests: Vec<PartView<'a>>,
    /// The source files.
    files: Vec<PartView<'a>>,
    /// The functions; only for a single source file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    functions: Vec<FunctionView<'a>>,
    /// The first and last line of each range that was not executed; only for a single source file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missed: Vec<(u32, u32)>,
}

#[derive(Serialize)]
struct PartView<'a> {
    name: &'a str,
    #[serde(flatten)]
    totals: TotalsView,
}

#[derive(Serialize)]
struct FunctionView<'a> {
    name: &'a str,
    line: u32,
    calls: u64,
}

/// Whether a commit has coverage; checks one test of each test file.
pub(super) fn exists(context: Context<'_>, entries: &[TestEntry], sha: &CommitId) -> bool {
    let mut last = None;
    entries.iter().any(|entry| {
        let (file, _) = context.tests.split(entry.key.as_str());
        let first = last.replace(file) != Some(file);
        first && matches!(context.store.reader().open_artifact(sha, &entry.key, NAME), Ok(Some(_)))
    })
}

/// The coverage of a directory or file of the source (empty for all) by a test file (empty for all).
pub fn view(
    context: Context<'_>,
    sha: &CommitId,
    path: &str,
    test: &str,
    format: Format,
) -> Result<Response, Problem> {
    let by_test = gather(context, sha)?;
    let mut all = Coverage::default();
    for (name, coverage) in &by_test {
        if test.is_empty() || test == name {
            all.merge(coverage.clone());
        }
    }
    let inside = |name: &str| {
        path.is_empty() || name == path || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    };
    all.files.retain(|name, _| inside(name));
    if all.files.is_empty() {
        return Err(Problem::NotFound("no coverage data for this commit or path".into()));
    }
    let tests: Vec<(&str, Totals)> = by_test
        .iter()
        .map(|(name, coverage)| {
            let mut totals = Totals::default();
            coverage
                .files
                .iter()
                .filter(|(file, _)| inside(file))
                .for_each(|(_, file)| totals += file.totals());
            (name.as_str(), totals)
        })
        .collect();
    match format {
        Format::Json => json(context, sha, &all, path, &tests),
        _ => html(context, sha, &all, (path, test), &tests),
    }
}

fn json(
    context: Context<'_>,
    sha: &CommitId,
    all: &Coverage,
    path: &str,
    tests: &[(&str, Totals)],
) -> Result<Response, Problem> {
    let file = all.files.get(path);
    let missed = file.map(::coverage::FileCoverage::missed).unwrap_or_default();
    let part = |name, totals: Totals| PartView { name, totals: totals.into() };
    context.json(&CoverageView {
        commit: sha.as_str(),
        totals: all.totals().into(),
        tests: tests.iter().map(|(name, totals)| part(name, *totals)).collect(),
        files: all.files.iter().map(|(name, file)| part(name, file.totals())).collect(),
        functions: file.into_iter().flat_map(|file| &file.functions).map(function_view).collect(),
        missed: missed.iter().map(|lines| (*lines.start(), *lines.end())).collect(),
    })
}

fn html(
    context: Context<'_>,
    sha: &CommitId,
    all: &Coverage,
    (path, test): (&str, &str),
    tests: &[(&str, Totals)],
) -> Result<Response, Problem> {
    let file = all.files.get(path);
    let missed = file.map(::coverage::FileCoverage::missed).unwrap_or_default();
    let links = context.links();
    let commit_href = links.commit(None, sha.as_str());
    let all_href = links.coverage(sha.as_str(), "", test);
    let mut crumbs = vec![Crumb::link(sha.short(), commit_href.clone())];
    if path.is_empty() {
        crumbs.push(Crumb::here("coverage"));
    } else {
        crumbs.push(Crumb::link("coverage", all_href.clone()));
        crumbs.push(Crumb::here(path));
    }
    let mut page = Page::new(format!("Coverage {}", sha.short()), links, crumbs);
    page.json = Some(context.json_address());
    let row = |name: &str, path: &str, test: &str, totals: Totals| Row {
        name: name.into(),
        href: links.coverage(sha.as_str(), path, test),
        share: share(totals),
    };
    let directories = directories(all);
    let by_directory = path.is_empty() && directories.len() > 1;
    let parts: Vec<Row> = match (file.is_some(), by_directory) {
        (true, _) => Vec::new(),
        (_, true) => directories.iter().map(|(name, totals)| row(name, name, test, *totals)).collect(),
        (_, false) => all.files.iter().map(|(name, file)| row(name, name, test, file.totals())).collect(),
    };
    context.html(&CoveragePage {
        page,
        short: sha.short(),
        commit_href,
        path,
        test,
        all_href,
        any_test_href: links.coverage(sha.as_str(), path, ""),
        total: share(all.totals()),
        tests: tests.iter().map(|(name, totals)| row(name, path, name, *totals)).collect(),
        parts_heading: if by_directory { "By directory" } else { "By file" },
        parts_more: parts.len().saturating_sub(ROWS_MAX),
        parts: parts.into_iter().take(ROWS_MAX).collect(),
        functions: functions(file.map(|file| &file.functions)),
        missed: missed.iter().map(stretch).collect(),
    })
}

/// The coverage by test file. The tests of a run share one artifact; each is read once.
fn gather(context: Context<'_>, sha: &CommitId) -> Result<BTreeMap<String, Coverage>, Problem> {
    let reader = context.store.reader();
    let missing = || Problem::NotFound("no results for this commit".into());
    let results = reader.commit(sha)?.ok_or_else(missing)?;
    let mut seen = HashSet::new();
    let mut by_test: BTreeMap<String, Coverage> = BTreeMap::new();
    for entry in &results.entries {
        let Some(found) = reader.open_artifact(sha, &entry.key, NAME)? else { continue };
        let Ok(identity) = found.identity() else { continue };
        if !seen.insert(identity) || seen.len() > RUNS_MAX {
            continue;
        }
        let (file, _) = context.tests.split(entry.key.as_str());
        let coverage = by_test.entry(file.trim_end_matches('.').to_owned()).or_default();
        match read(&found) {
            Ok(found) => coverage.merge(found),
            Err(error) => tracing::warn!("{}: coverage not read: {error}", found.path().display()),
        }
    }
    Ok(by_test)
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Log(#[from] results::Error),
    #[error(transparent)]
    Format(#[from] ::coverage::InfoError),
}

fn read(found: &Log) -> Result<Coverage, ReadError> {
    let (bytes, _) = found.read(READ_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).parse()?)
}

/// The totals of each directory that contains files, including its subdirectories, as on its own page.
fn directories(all: &Coverage) -> BTreeMap<&str, Totals> {
    let directory = |name: &'_ str| name.rfind('/').unwrap_or(name.len());
    let mut directories: BTreeMap<&str, Totals> =
        all.files.keys().map(|name| (&name[..directory(name)], Totals::default())).collect();
    for (name, file) in &all.files {
        let totals = file.totals();
        let ends = name.match_indices('/').map(|(at, _)| at);
        for end in ends.chain((!name.contains('/')).then_some(name.len())) {
            if let Some(sum) = directories.get_mut(&name[..end]) {
                *sum += totals;
            }
        }
    }
    directories
}

fn functions(functions: Option<&BTreeMap<String, Function>>) -> Vec<FunctionLine> {
    let line = |(name, function): (&String, &Function)| FunctionLine {
        name: name.clone(),
        line: function.line,
        calls: function.calls,
    };
    let mut lines: Vec<FunctionLine> = functions.into_iter().flatten().map(line).collect();
    // Uncalled functions first, each group in source order.
    lines.sort_by_key(|line| (line.calls > 0, line.line));
    lines
}

fn function_view<'a>((name, function): (&'a String, &'a Function)) -> FunctionView<'a> {
    FunctionView { name, line: function.line, calls: function.calls }
}

fn stretch(lines: &std::ops::RangeInclusive<u32>) -> String {
    match (lines.start(), lines.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}\u{2013}{last}"),
    }
}

fn share(totals: Totals) -> Share {
    let tenths = (totals.lines_hit * 1000).checked_div(totals.lines).unwrap_or(0);
    Share {
        percent: format!("{}.{} %", tenths / 10, tenths % 10),
        width: tenths / 10,
        lines: format!("{} of {}", totals.lines_hit, totals.lines),
        functions: format!("{} of {}", totals.functions_hit, totals.functions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_a_directory_include_its_subdirectories() {
        let file = |name: &str, hit: u32| format!("SF:{name}\nDA:1,{hit}\nDA:2,0\nend_of_record\n");
        let all: Coverage =
            [file("fs/a.c", 1), file("fs/ext4/b.c", 1), file("include/linux/c.h", 0), file("d.c", 1)]
                .concat()
                .parse()
                .unwrap();
        let sums: Vec<_> =
            directories(&all).into_iter().map(|(name, sum)| (name, sum.lines_hit, sum.lines)).collect();
        assert_eq!(sums, [("d.c", 1, 2), ("fs", 2, 4), ("fs/ext4", 1, 2), ("include/linux", 0, 2)]);
    }
}
