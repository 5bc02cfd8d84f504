//! The coverage of the kernel's source at a commit: by test file, directory and source file.
//!
//! The coverage artifacts (`coverage.info.br`) are merged once per commit and cached: there are few, and each is read once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use ::coverage::{Coverage, FileCoverage, Function, Totals};
use askama::Template;
use model::{CommitId, ResultKey};
use results::{CommitResults, Log, TestEntry};
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

/// The merged coverage of a commit.
pub struct CommitCoverage {
    by_test: BTreeMap<String, Part>,
    all: Part,
}

/// The coverage of some tests, with the totals of each file.
#[derive(Default)]
struct Part {
    coverage: Coverage,
    totals: BTreeMap<String, Totals>,
}

impl From<Coverage> for Part {
    fn from(coverage: Coverage) -> Self {
        let totals = coverage.files.iter().map(|(name, file)| (name.clone(), file.totals())).collect();
        Self { coverage, totals }
    }
}

impl Part {
    /// The totals of the files in a directory or of one file; of all if `path` is empty.
    fn inside<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, Totals)> {
        let is_inside = move |name: &str| {
            path.is_empty()
                || name == path
                || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        };
        let files = self.totals.iter().map(|(name, totals)| (name.as_str(), *totals));
        files.filter(move |(name, _)| is_inside(name))
    }

    fn sum(&self, path: &str) -> Totals {
        let mut sum = Totals::default();
        self.inside(path).for_each(|(_, totals)| sum += totals);
        sum
    }

    fn lines(&self) -> usize {
        self.coverage.files.values().map(|file| file.lines.len() + 4 * file.functions.len()).sum()
    }
}

impl CommitCoverage {
    fn new(by_test: BTreeMap<String, Coverage>) -> Self {
        let mut all = Coverage::default();
        by_test.values().for_each(|coverage| all.merge(coverage.clone()));
        let by_test = by_test.into_iter().map(|(name, coverage)| (name, coverage.into())).collect();
        Self { by_test, all: all.into() }
    }

    /// The memory that it takes, in bytes, roughly.
    pub fn weight(&self) -> usize {
        let lines = self.all.lines() + self.by_test.values().map(Part::lines).sum::<usize>();
        lines.saturating_mul(24)
    }
}

/// What a page is about: the files in a directory or one file, of the tests of one test file or of all.
struct Shown<'a> {
    path: &'a str,
    test: &'a str,
    total: Totals,
    files: Vec<(&'a str, Totals)>,
    /// If the path is that of a file.
    file: Option<&'a FileCoverage>,
    tests: Vec<(&'a str, Totals)>,
}

/// The coverage of a directory or file of the source (empty for all) by a test file (empty for all).
pub fn view(
    context: Context<'_>,
    sha: &CommitId,
    path: &str,
    test: &str,
    format: Format,
) -> Result<Response, Problem> {
    let found = gather(context, sha)?;
    let part = if test.is_empty() { Some(&found.all) } else { found.by_test.get(test) };
    let files: Vec<_> = part.iter().flat_map(|part| part.inside(path)).collect();
    let Some(part) = part.filter(|_| !files.is_empty()) else {
        return Err(Problem::NotFound("no coverage data for this commit or path".into()));
    };
    let shown = Shown {
        path,
        test,
        total: part.sum(path),
        files,
        file: part.coverage.files.get(path),
        tests: found.by_test.iter().map(|(name, part)| (name.as_str(), part.sum(path))).collect(),
    };
    match format {
        Format::Json => json(context, sha, &shown),
        _ => html(context, sha, &shown),
    }
}

fn json<'a>(context: Context<'_>, sha: &CommitId, shown: &Shown<'a>) -> Result<Response, Problem> {
    let missed = shown.file.map(FileCoverage::missed).unwrap_or_default();
    let parts = |parts: &[(&'a str, Totals)]| {
        parts.iter().map(|&(name, totals)| PartView { name, totals: totals.into() }).collect()
    };
    context.json(&CoverageView {
        commit: sha.as_str(),
        totals: shown.total.into(),
        tests: parts(&shown.tests),
        files: parts(&shown.files),
        functions: shown.file.into_iter().flat_map(|file| &file.functions).map(function_view).collect(),
        missed: missed.iter().map(|lines| (*lines.start(), *lines.end())).collect(),
    })
}

fn html(context: Context<'_>, sha: &CommitId, shown: &Shown<'_>) -> Result<Response, Problem> {
    let Shown { path, test, .. } = *shown;
    let missed = shown.file.map(FileCoverage::missed).unwrap_or_default();
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
    let directories = directories(&shown.files);
    let by_directory = path.is_empty() && directories.len() > 1;
    let rows = |parts: &mut dyn Iterator<Item = (&str, Totals)>| {
        parts.map(|(name, totals)| row(name, name, test, totals)).collect()
    };
    let parts: Vec<Row> = match (shown.file.is_some(), by_directory) {
        (true, _) => Vec::new(),
        (_, true) => rows(&mut directories.into_iter()),
        (_, false) => rows(&mut shown.files.iter().copied()),
    };
    context.html(&CoveragePage {
        page,
        short: sha.short(),
        commit_href,
        path,
        test,
        all_href,
        any_test_href: links.coverage(sha.as_str(), path, ""),
        total: share(shown.total),
        tests: shown.tests.iter().map(|(name, totals)| row(name, path, name, *totals)).collect(),
        parts_heading: if by_directory { "By directory" } else { "By file" },
        parts_more: parts.len().saturating_sub(ROWS_MAX),
        parts: parts.into_iter().take(ROWS_MAX).collect(),
        functions: functions(shown.file.map(|file| &file.functions)),
        missed: missed.iter().map(stretch).collect(),
    })
}

/// The coverage by test file. The tests of a run share one artifact; each is read once. What was merged before is cached.
fn gather(context: Context<'_>, sha: &CommitId) -> Result<Arc<CommitCoverage>, Problem> {
    let missing = || Problem::NotFound("no results for this commit".into());
    let results = context.store.reader().commit(sha)?.ok_or_else(missing)?;
    let (mut seen, mut runs, mut hasher) = (HashSet::new(), Vec::new(), DefaultHasher::new());
    for (key, found) in artifacts(context, &results)? {
        let Ok(identity) = found.identity() else { continue };
        if !seen.insert(identity) || seen.len() > RUNS_MAX {
            continue;
        }
        let (file, _) = context.tests.split(key.as_str());
        let file = file.trim_end_matches('.').to_owned();
        (identity, &file).hash(&mut hasher);
        runs.push((file, found));
    }
    Ok(context.store.coverage((sha.clone(), hasher.finish()), || CommitCoverage::new(merged(runs))))
}

/// The artifacts of the tests of a commit. Those in packs are found by one query per commit at which tests ran.
fn artifacts(context: Context<'_>, results: &CommitResults) -> Result<Vec<(ResultKey, Log)>, Problem> {
    let (reader, sha) = (context.store.reader(), &results.commit);
    let mut packed: HashMap<&CommitId, HashMap<ResultKey, Log>> = HashMap::new();
    let sources = results.entries.iter().filter_map(|entry| entry.decisive.ran_at.as_ref());
    for source in sources.chain([sha]) {
        packed.entry(source).or_insert_with(|| reader.packed_artifacts(source, NAME));
    }
    let mut found = Vec::new();
    let is_in_files = packed.values().all(HashMap::is_empty);
    for entry in &results.entries {
        let log = if is_in_files {
            reader.open_artifact(sha, &entry.key, NAME)?
        } else {
            let of = |source: &CommitId| packed.get(source)?.get(&entry.key).cloned();
            of(sha).or_else(|| of(entry.decisive.ran_at.as_ref()?))
        };
        found.extend(log.map(|log| (entry.key.clone(), log)));
    }
    Ok(found)
}

fn merged(runs: Vec<(String, Log)>) -> BTreeMap<String, Coverage> {
    let mut by_test: BTreeMap<String, Coverage> = BTreeMap::new();
    for (file, found) in runs {
        let coverage = by_test.entry(file).or_default();
        match read(&found) {
            Ok(found) => coverage.merge(found),
            Err(error) => tracing::warn!("{}: coverage not read: {error}", found.path().display()),
        }
    }
    by_test
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
fn directories<'a>(files: &[(&'a str, Totals)]) -> BTreeMap<&'a str, Totals> {
    let directory = |name: &'_ str| name.rfind('/').unwrap_or(name.len());
    let mut directories: BTreeMap<&str, Totals> =
        files.iter().map(|(name, _)| (&name[..directory(name)], Totals::default())).collect();
    for &(name, totals) in files {
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
        let part = Part::from(all);
        let files: Vec<_> = part.inside("").collect();
        let sums: Vec<_> =
            directories(&files).into_iter().map(|(name, sum)| (name, sum.lines_hit, sum.lines)).collect();
        assert_eq!(sums, [("d.c", 1, 2), ("fs", 2, 4), ("fs/ext4", 1, 2), ("include/linux", 0, 2)]);
    }
}
