//! A branch in the style of `git log`, with the tests that each commit broke and fixed. Failing tests are columns;
//! untested commits are collapsed.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use askama::Template;
use model::{CommitId, Status};
use regress::branch_history::{BranchHistory, Delta, Failure, TestId};
use regress::builds::{BuildHistory, CommitBuilds};
use regress::first_bad::untested_before;
use regress::{CommitStatuses, Names};
use results::BranchEntry;
use results::json::CommitRow;

use super::bisection::{self, Bar, BisectionLine};
use super::build_lines::{self, Banner, BuildLine};
use super::commit_link::unname_repeated;
use super::commit_pages::CommitPages;
use super::configuration_chips::{Chip, chips_of};
use super::eta::Estimator;
use super::failure_columns::{self, COLUMN_WIDTH, COLUMNS_MAX, ColumnLetter, ColumnPath};
use super::fix::{Claims, change_words};
use super::hosts::StoppedLine;
use super::suspicious::Counter;
use super::{CommitLink, Context, TestLink, findings, range_diff};
use crate::filter::Filter;
use crate::http::{Encoded, Response};
use crate::page::{CountItem, Crumb, Page, Plural as _, Took, When, cut, subject};
use crate::problem::Problem;
use crate::route::{BranchRef, Format};

/// The maximum length of a reason, in bytes.
const REASON_MAX: usize = 200;
/// The maximum number of broken or fixed tests listed for a commit.
const NAMED_MAX: usize = 3;

#[derive(Template)]
#[template(path = "branch.html")]
struct BranchPage<'a> {
    page: Page<'a>,
    at: &'a BranchRef,
    summary: String,
    /// Whether the filter matches no test.
    no_match: bool,
    tip: Option<CommitLink>,
    running: usize,
    selection: Selection<'a>,
    crashes_href: String,
    flaky_href: String,
    findings_href: String,
    compare_href: String,
    paused: Option<StoppedLine>,
    push: Option<(String, Option<When>)>,
    push_href: String,
    banners: Vec<Banner>,
    failing_heading: String,
    failing_note: String,
    failures: Vec<FailureLine>,
    fixed: Vec<FailureLine>,
    columns: usize,
    columns_width: usize,
    letters: Vec<ColumnLetter>,
    bisection: Option<BisectionLine>,
    rows: Vec<Line>,
    pages: CommitPages,
}

struct FailureLine {
    letter: String,
    href: String,
    file: String,
    subtest: String,
    reason: Option<String>,
    still_fails: bool,
    fix: String,
    fix_class: &'static str,
    first_bad: CommitLink,
    between: String,
    last_good: Option<CommitLink>,
    first_good: Option<CommitLink>,
}

enum Line {
    /// A commit without results, with what is being done for it.
    Progress(CommitLink, String),
    Fold(Vec<CommitLink>),
    /// A commit without results that a bisection suspects.
    Suspect(CommitLink, Bar),
    Commit(Box<CommitLine>),
}

/// Tests that pass again, with what their passes prove.
struct FixedTests {
    class: &'static str,
    lead: String,
    names: Vec<String>,
}

struct CommitLine {
    commit: CommitLink,
    red: bool,
    build: Vec<BuildLine>,
    progress: String,
    counts: Vec<CountItem>,
    took: String,
    columns: Vec<ColumnPath>,
    broke: Vec<TestLink>,
    broke_more: usize,
    broke_where: String,
    fixed: Vec<FixedTests>,
    fixed_more: usize,
    stopped: String,
    stopped_class: &'static str,
    suspicious: String,
    suspect: Option<Bar>,
}

/// The view.
pub fn view(
    context: Context<'_>,
    at: &BranchRef,
    (test, config, untested): (Option<&str>, Option<&str>, bool),
    from: Option<&CommitId>,
    format: Format,
) -> Result<Response, Problem> {
    let pattern = Filter::new(test)?;
    let mut entries = context.store.branch(at)?;
    let filter = in_configurations(context, &pattern, config, &entries)?;
    if format == Format::Json && filter.is_all() {
        return json(context, &entries, &context.store.build_history(&entries), untested);
    }
    let test_query = test.map(|test| format!("&test={}", Encoded(test))).unwrap_or_default();
    let config_query = config.map(|config| format!("&config={}", Encoded(config))).unwrap_or_default();
    let branch = context.links().branch(at);
    let address = format!("{branch}{test_query}{config_query}");
    let pages = CommitPages::new(entries.iter().map(|entry| &entry.commit), from, &address)?;
    // The builds are of all tests, filtered or not.
    let builds = context.store.build_history(&entries);
    let suspicious = match format {
        Format::Json => HashMap::new(),
        _ => suspicious_counts(context, &filter, &entries, pages.rows.clone()),
    };
    if !filter.is_all() {
        // Counts and durations of the matching tests, from the columns of the store.
        let wanted = |key: &model::ResultKey| filter.matches(key.as_str());
        let missing = || context.store.no_branch(at);
        entries = context.store.reader().branch_filtered(at, wanted)?.ok_or_else(missing)?;
    }
    if format == Format::Json {
        return json(context, &entries, &builds, untested);
    }
    let chips = chips(context, &entries, &pattern, config, &format!("{branch}{test_query}"));
    let mut matching = MatchingTests::new(&filter);
    let history = BranchHistory::new(entries.iter().map(|entry| {
        let statuses = (entry.counts.total() > 0).then(|| context.store.statuses(&entry.commit))??;
        Some(matching.of(statuses))
    }));
    let links = context.links();
    let selection = Selection {
        test: test.unwrap_or(""),
        config: config.unwrap_or(""),
        chips,
        all_href: branch,
        matrix_href: links.matrix_of_tip(at),
        grid_href: links.grid(at),
    };
    render(context, at, selection, &suspicious, pages, &entries, (&history, &builds))
}

/// The tests that are shown.
struct Selection<'a> {
    test: &'a str,
    config: &'a str,
    chips: Vec<Chip>,
    /// The page without a selection.
    all_href: String,
    matrix_href: String,
    grid_href: String,
}

impl Selection<'_> {
    fn is_all(&self) -> bool {
        self.test.is_empty() && self.config.is_empty()
    }
}

/// The filter for the selected configurations: those of the newest tests if it has one of them, or else those of all commits.
pub(super) fn in_configurations(
    context: Context<'_>,
    pattern: &Filter,
    config: Option<&str>,
    entries: &[BranchEntry],
) -> Result<Filter, Problem> {
    let mut known: Vec<Names> = Vec::new();
    let mut error = None;
    for entry in entries.iter().filter(|entry| config.is_some() && entry.counts.total() > 0) {
        let Some(CommitStatuses { names, .. }) = context.store.statuses(&entry.commit) else { continue };
        if known.iter().any(|known| Arc::ptr_eq(known, &names)) {
            continue;
        }
        let found = pattern.clone().in_configurations(config, names.iter().map(|name| &**name));
        match found {
            Ok(filter) => return Ok(filter),
            Err(problem) => error = error.or(Some(problem)),
        }
        known.push(names);
    }
    error.map_or_else(|| pattern.clone().in_configurations(config, []), Err)
}

/// The configurations at the newest commit with results. `entries` has the counts of the matching tests.
fn chips(
    context: Context<'_>,
    entries: &[BranchEntry],
    pattern: &Filter,
    config: Option<&str>,
    address: &str,
) -> Vec<Chip> {
    let mut tested = entries.iter().filter_map(|entry| {
        (entry.counts.total() > 0).then(|| context.store.statuses(&entry.commit)).flatten()
    });
    let Some(tip) = tested.next() else { return Vec::new() };
    let tests = tip.names.iter().zip(tip.statuses.iter()).map(|(name, status)| (&**name, *status));
    chips_of(tests.filter(|(name, _)| pattern.matches(name)), config, |config| {
        if config.is_empty() { address.to_owned() } else { format!("{address}&config={}", Encoded(config)) }
    })
}

/// The JSON view. Clients of the existing system expect only commits with results.
fn json(
    context: Context<'_>,
    entries: &[BranchEntry],
    builds: &BuildHistory,
    untested: bool,
) -> Result<Response, Problem> {
    let listed = entries.iter().enumerate().filter(|(_, entry)| untested || entry.counts.total() > 0);
    let row = |(row, entry)| CommitRow { build: builds.row(row, entries), ..CommitRow::from(entry) };
    context.json(&listed.map(row).collect::<Vec<_>>())
}

/// The tests that match a filter, for each commit. The filter runs once per set of tests.
struct MatchingTests<'a> {
    filter: &'a Filter,
    /// The most recent set of tests, the indices of the matching ones, and their names.
    last: Option<(Names, Vec<usize>, Names)>,
}

impl<'a> MatchingTests<'a> {
    fn new(filter: &'a Filter) -> Self {
        Self { filter, last: None }
    }

    fn of(&mut self, commit: CommitStatuses) -> CommitStatuses {
        if self.filter.is_all() {
            return commit;
        }
        let CommitStatuses { names, statuses } = commit;
        let same = self.last.as_ref().is_some_and(|(all, ..)| Arc::ptr_eq(all, &names));
        if !same {
            let keep: Vec<usize> = (0..names.len()).filter(|at| self.filter.matches(&names[*at])).collect();
            let kept = keep.iter().map(|at| names[*at].clone()).collect();
            self.last = Some((names, keep, kept));
        }
        let (_, keep, kept) = self.last.as_ref().expect("set above");
        CommitStatuses {
            names: Arc::clone(kept),
            statuses: keep.iter().filter_map(|at| statuses.get(*at).copied()).collect(),
        }
    }
}

fn render(
    context: Context<'_>,
    at: &BranchRef,
    selection: Selection<'_>,
    suspicious: &HashMap<CommitId, usize>,
    pages: CommitPages,
    entries: &[BranchEntry],
    (history, builds): (&BranchHistory, &BuildHistory),
) -> Result<Response, Problem> {
    let links = context.links();
    let running = entries.iter().filter(|entry| entry.counts.inprogress > 0).count();
    let is_flaky = entries.iter().any(|entry| entry.counts.flaky > 0);
    let all_failures = history.failures();
    let distinct = distinct(all_failures);
    let shown = &distinct[..distinct.len().min(COLUMNS_MAX)];
    let tests: Vec<TestId> = shown.iter().map(|failure| failure.test).collect();
    let commit = |row: usize| CommitLink::listed(context, at, &entries[row]);
    let mut claims = Claims::new(context, history, entries);
    let (failures, fixed) = shown
        .iter()
        .enumerate()
        .map(|(column, failure)| failure_line(context, at, &mut claims, column, failure, &commit))
        .partition(|line: &FailureLine| line.still_fails);
    let (failures, fixed) = (name_once(failures), name_once(fixed));
    let keys: Vec<model::ResultKey> =
        tests.iter().filter_map(|test| history.name(*test).parse().ok()).collect();
    let found = bisection::newest(context, at, &keys);
    let bars = found.as_ref().map(bisection::bars).unwrap_or_default();
    let snapshot = context.snapshot();
    let estimator = Estimator::new(context, &snapshot);
    let progress = |row: usize| estimator.progress(at, entries, row);
    let rows = lines(
        context,
        pages.rows.clone(),
        &mut claims,
        builds,
        &tests,
        (suspicious, &bars),
        (&commit, &progress),
    );
    context.html(&BranchPage {
        page: Page { description: description(context, history, entries), ..frame(context, at, running) },
        at,
        no_match: !selection.is_all() && entries.iter().all(|entry| entry.counts.total() == 0),
        summary: summary(entries, |entry| estimator.is_active(entry)),
        tip: (!entries.is_empty()).then(|| commit(0)),
        running,
        selection,
        crashes_href: if all_failures.is_empty() { String::new() } else { links.crashes(at) },
        flaky_href: if is_flaky { links.flaky(at) } else { String::new() },
        findings_href: findings::href(context, at),
        compare_href: links.compare(Some(&at.user), at.branch.as_str(), ""),
        paused: StoppedLine::of_branch(&context.snapshot(), at),
        push: range_diff::line(context, at, entries),
        push_href: links.range_diff(at, None),
        banners: build_lines::banners_of_branch(context, at, builds, entries),
        failing_heading: failing_heading(all_failures, is_unbuilt(builds, entries)),
        failing_note: failing_note(shown.len(), distinct.len()),
        failures,
        fixed,
        columns: tests.len(),
        columns_width: tests.len() * COLUMN_WIDTH,
        bisection: found.as_ref().map(|found| bisection::line(context, found)),
        letters: (0..tests.len()).map(ColumnLetter::new).collect(),
        rows,
        pages,
    })
}

fn frame<'a>(context: Context<'a>, at: &BranchRef, running: usize) -> Page<'a> {
    let links = context.links();
    let crumbs = vec![Crumb::link(&at.user, links.user(&at.user)), Crumb::here(&at.branch)];
    let mut page = Page::new(format!("{}/{}", at.user, at.branch), links, crumbs);
    page.json = Some(context.json_address());
    page.feed = Some(links.feed(at));
    page.live = if running > 0 { 3 } else { 15 };
    page
}

/// `2 broke, 1 fixed at 0123456789ab SUBJECT; 3 failed`, of the newest commit with results.
fn description(context: Context<'_>, history: &BranchHistory, entries: &[BranchEntry]) -> String {
    let Some(row) = entries.iter().position(|entry| entry.counts.total() > 0) else {
        return format!("{}, not tested yet", entries.len().plural("commit"));
    };
    let (short, subject) = (entries[row].commit.short(), subject(&entries[row].message, 100));
    let builds = context.store.failed_builds(&entries[row]);
    let (_, state) = build_lines::state(&entries[row].counts, builds.as_deref());
    let changes = history.delta(row).map(|delta| (delta.broke.len(), delta.fixed.len())).unwrap_or_default();
    let changes = match changes {
        (0, 0) => "nothing broke".into(),
        (broke, 0) => format!("{broke} broke"),
        (0, fixed) => format!("{fixed} fixed"),
        (broke, fixed) => format!("{broke} broke, {fixed} fixed"),
    };
    format!("{changes} at {short} {subject}; {state}")
}

fn summary(entries: &[BranchEntry], is_active: impl Fn(&BranchEntry) -> bool) -> String {
    let is_untested = |entry: &&BranchEntry| entry.counts.total() == 0 && !is_active(entry);
    let untested = entries.iter().filter(is_untested).count();
    let commits = entries.len().plural("commit");
    if untested > 0 { format!("{commits}, {untested} not tested") } else { commits.to_string() }
}

fn failing_note(shown: usize, failed: usize) -> String {
    if shown < failed {
        format!("{shown} of {failed} tests that failed on this branch")
    } else {
        String::new()
    }
}

fn failing_heading(failures: &[Failure], is_unbuilt: bool) -> String {
    let failing = failures.iter().filter(|failure| failure.stretch.still_fails()).count();
    match (failing, is_unbuilt) {
        (0, false) => "No test fails at the tip".into(),
        (0, true) => "No test failed at the last commit that builds".into(),
        (failing, false) => format!("{} failing now", failing.plural("test")),
        (failing, true) => format!("{} failed before the build did", failing.plural("test")),
    }
}

/// Whether no test ran at the newest commit with results because it does not build.
fn is_unbuilt(builds: &BuildHistory, entries: &[BranchEntry]) -> bool {
    let newest = entries.iter().position(|entry| entry.counts.total() > 0);
    newest.and_then(|row| builds.at(row)).is_some_and(CommitBuilds::is_total)
}

/// The number of suspicious passes by commit. The counts of `entries` are of all tests: a filter does not change which
/// commits are compared.
fn suspicious_counts(
    context: Context<'_>,
    filter: &Filter,
    entries: &[BranchEntry],
    rows: Range<usize>,
) -> HashMap<CommitId, usize> {
    let mut counter = Counter::new(context, filter);
    let tested = rows.filter(|row| entries[*row].counts.total() > 0);
    tested.map(|row| (entries[row].commit.clone(), counter.count(entries, row))).collect()
}

/// The latest failure of each test, in order.
fn distinct(failures: &[Failure]) -> Vec<&Failure> {
    let mut seen = std::collections::HashSet::new();
    failures.iter().filter(|failure| seen.insert(failure.test)).collect()
}

fn failure_line(
    context: Context<'_>,
    at: &BranchRef,
    claims: &mut Claims<'_>,
    column: usize,
    failure: &Failure,
    commit: &impl Fn(usize) -> CommitLink,
) -> FailureLine {
    let (history, entries) = (claims.history, claims.entries);
    let (name, stretch) = (history.name(failure.test), failure.stretch);
    let (file, subtest) = context.tests.split(name);
    let reason = name
        .parse()
        .ok()
        .and_then(|key| context.store.reader().entry(&entries[stretch.last_bad].commit, &key).ok()?)
        .and_then(|entry| entry.decisive.crash.or(entry.decisive.reason));
    let (fix, fix_class) = match stretch.first_good {
        Some(row) => change_words(claims.of(failure.test, row)),
        None => (String::new(), ""),
    };
    FailureLine {
        letter: failure_columns::letter(column).to_string(),
        href: context.links().history(at, name),
        file: file.into(),
        subtest: subtest.into(),
        reason: reason.map(|reason| cut(&reason, REASON_MAX)),
        still_fails: stretch.still_fails(),
        fix,
        fix_class,
        first_bad: commit(stretch.first_bad),
        between: match (stretch.last_good, stretch.untested_between()) {
            (None, _) => "or earlier".into(),
            (_, 0) => String::new(),
            (_, between) => format!("or {between} before"),
        },
        last_good: stretch.last_good.map(commit),
        first_good: stretch.first_good.map(commit),
    }
}

/// Names a first bad commit only in the first of the rows that have it.
fn name_once(mut lines: Vec<FailureLine>) -> Vec<FailureLine> {
    unname_repeated(lines.iter_mut().map(|line| &mut line.first_bad));
    lines
}

fn lines(
    context: Context<'_>,
    range: Range<usize>,
    claims: &mut Claims<'_>,
    builds: &BuildHistory,
    tests: &[TestId],
    (suspicious, bars): (&HashMap<CommitId, usize>, &HashMap<CommitId, Bar>),
    (commit, progress): (&impl Fn(usize) -> CommitLink, &impl Fn(usize) -> Option<String>),
) -> Vec<Line> {
    let (history, entries) = (claims.history, claims.entries);
    let mut lines: Vec<Line> = Vec::new();
    for row in range {
        let entry = &entries[row];
        let suspect = bars.get(&entry.commit).cloned();
        let progress = progress(row).unwrap_or_default();
        if entry.counts.total() == 0 {
            if !progress.is_empty() {
                lines.push(Line::Progress(commit(row), progress));
                continue;
            }
            if let Some(bar) = suspect {
                lines.push(Line::Suspect(commit(row), bar));
                continue;
            }
            match lines.last_mut() {
                Some(Line::Fold(fold)) => fold.push(commit(row)),
                _ => lines.push(Line::Fold(vec![commit(row)])),
            }
            continue;
        }
        let nothing = Delta::default();
        let delta = history.delta(row).unwrap_or(&nothing);
        let broke =
            delta.broke.iter().take(NAMED_MAX).map(|test| broke_link(context, entry, history.name(*test)));
        let fixed = fixed_tests(claims, row, &delta.fixed);
        let delta_of_others = without_unbuilt(delta, builds, row);
        let build = build_lines::lines(context, builds, entries, row);
        lines.push(Line::Commit(Box::new(CommitLine {
            commit: commit(row),
            red: !delta.broke.is_empty() || !builds.change(row).broke.is_empty(),
            build,
            progress,
            counts: build_lines::counts(&entry.counts, builds.at(row)),
            took: Took(entry.duration).to_string(),
            columns: failure_columns::paths(&history.statuses(row, tests)),
            broke_where: broke_where(untested_before(entries, row)),
            broke: broke.collect(),
            broke_more: delta.broke.len().saturating_sub(NAMED_MAX),
            fixed,
            fixed_more: delta.fixed.len().saturating_sub(NAMED_MAX),
            stopped_class: if delta_of_others.stopped > 0 { "s-failed_to_run" } else { "good" },
            stopped: stopped_words(context, entry, &delta_of_others),
            suspicious: suspicious_words(suspicious.get(&entry.commit).copied().unwrap_or(0)),
            suspect,
        })));
    }
    lines
}

/// Where tests broke that first fail at a commit with untested commits before it.
pub(super) fn broke_where(untested: usize) -> String {
    match untested {
        0 => String::new(),
        1 => " here or in the untested commit before it".into(),
        untested => format!(" here or in one of the {untested} untested commits before it"),
    }
}

/// A test that broke at a commit, and its log there, opened at the failure.
fn broke_link(context: Context<'_>, entry: &BranchEntry, name: &str) -> TestLink {
    let href = context.links().verdict(entry.commit.as_str(), name, Some(Status::Failed));
    TestLink { name: cut(name, 120), href }
}

/// The tests that pass again since a row, those with the same words together.
fn fixed_tests(claims: &mut Claims<'_>, row: usize, tests: &[TestId]) -> Vec<FixedTests> {
    let mut found: Vec<FixedTests> = Vec::new();
    for test in tests.iter().take(NAMED_MAX) {
        let (lead, class) = change_words(claims.of(*test, row));
        let name = cut(claims.history.name(*test), 120);
        match found.iter_mut().find(|fixed| fixed.lead == lead) {
            Some(fixed) => fixed.names.push(name),
            None => found.push(FixedTests { class, lead, names: vec![name] }),
        }
    }
    found
}

/// The change without the tests that did not run because a kernel does not build, which has a line of its own.
fn without_unbuilt(delta: &Delta, builds: &BuildHistory, row: usize) -> Delta {
    let not_run = builds.at(row).map_or(0, CommitBuilds::tests_not_run);
    Delta {
        stopped: delta.stopped.saturating_sub(not_run),
        resumed: delta.resumed.saturating_sub(builds.tests_resumed(row)),
        ..Delta::default()
    }
}

/// The tests that failed to run here but not before, or the reverse.
fn stopped_words(context: Context<'_>, entry: &BranchEntry, delta: &Delta) -> String {
    let all = |count: usize| u32::try_from(count).is_ok_and(|count| count >= entry.counts.total());
    match (delta.stopped, delta.resumed) {
        (0, 0) => String::new(),
        (0, resumed) => format!("▲ {} can run again", resumed.plural("test")),
        (stopped, _) if all(stopped) => match reason(context, entry) {
            Some(reason) => format!("! no test could run: {}", cut(&reason, REASON_MAX)),
            None => "! no test could run".into(),
        },
        (stopped, _) => format!("! {} failed to run", stopped.plural("test")),
    }
}

/// Why the first test of a commit failed to run; the others usually have the same reason.
fn reason(context: Context<'_>, entry: &BranchEntry) -> Option<String> {
    let statuses = context.store.statuses(&entry.commit)?;
    let key = statuses.names.first()?.parse().ok()?;
    context.store.reader().entry(&entry.commit, &key).ok()??.decisive.reason
}

fn suspicious_words(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => "1 suspicious pass".into(),
        count => format!("{count} suspicious passes"),
    }
}
