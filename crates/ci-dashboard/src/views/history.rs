//! One test along a branch: where it broke and was fixed, how long it took, and how often it passed on each host.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use askama::Template;
use belief::FixState;
use model::{CommitId, ResultKey, Status};
use regress::builds::is_unbuilt;
use regress::first_bad::{Stretch, stretches};
use regress::fix::{Fix, fixes, words};
use results::json::FlakyRow;
use results::{FlakyEntry, HistoryEntry, TestEntry, flaky_in};

use super::bisection::{self, Bar, BisectionLine};
use super::commit_pages::CommitPages;
use super::culprit::{self, Culprit, Elsewhere};
use super::fix::change_words;
use super::pager::Pager;
use super::sorting::{self, Column, Head, PageOrder};
use super::testlist::host;
use super::{CommitLink, Context};
use crate::http::Response;
use crate::page::{Page, Plural as _, Symbol as _, Took, When, cut, test_label};
use crate::problem::Problem;
use crate::route::{BranchRef, Format, TableQuery};

/// The maximum number of hosts on a page.
const HOSTS_MAX: usize = 100;
/// The height of the plot, in pixels.
const PLOT_HEIGHT: u64 = 72;

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryPage<'a> {
    page: Page<'a>,
    at: &'a BranchRef,
    branch_href: String,
    file: &'a str,
    subtest: &'a str,
    summary: String,
    flaky: String,
    fix: String,
    culprit: Option<Culprit>,
    elsewhere: Elsewhere,
    bisection: Option<BisectionLine>,
    plot: Option<Plot>,
    host_heads: Vec<Head>,
    hosts: Vec<HostLine>,
    heads: Vec<Head>,
    /// Whether the rows have the order of the commits.
    is_by_commit: bool,
    rows: Vec<Line>,
    pager: Pager,
}

/// The columns of the hosts.
const HOST_COLUMNS: [Column<HostLine>; 6] = [
    Column::up(("name", "Host"), "", |a, b| a.name.cmp(&b.name)),
    Column::down(("runs", "Runs"), "num", |a, b| b.runs.cmp(&a.runs)),
    Column::down(("passed", "Passed"), "num", |a, b| b.passed.cmp(&a.passed)),
    Column::down(("failed", "Failed"), "num", |a, b| b.failed.cmp(&a.failed)),
    Column::down(("rate", "Pass rate"), "num", |a, b| b.rate_order.cmp(&a.rate_order)),
    Column::down(("mean", "Mean of passes"), "num", |a, b| b.mean_order.cmp(&a.mean_order)),
];

/// A commit with a result, for an order.
struct Ran {
    row: usize,
    status: Status,
    took: Duration,
    host: String,
}

/// The columns of the commits.
const COLUMNS: [Column<Ran>; 5] = [
    Column::up(("commit", "Commit"), "", |a, b| a.row.cmp(&b.row)),
    Column::plain("Subject"),
    Column::up(("status", "Status"), "", |a, b| a.status.cmp(&b.status)),
    Column::down(("took", "Took"), "num", |a, b| b.took.cmp(&a.took)),
    Column::up(("host", "Host"), "", |a, b| a.host.cmp(&b.host)),
];

/// The maximum number of commits on a page that is not in the order of the commits.
const SORTED_MAX: usize = 100;

/// The runs on one host.
struct HostLine {
    name: String,
    runs: usize,
    passed: usize,
    failed: usize,
    rate: String,
    rate_order: Option<usize>,
    mean: String,
    mean_order: Option<Duration>,
}

struct Plot {
    /// One path for each status.
    bars: BTreeMap<&'static str, String>,
    width: u64,
    least: String,
    most: String,
    mean: String,
}

enum Line {
    Gap(usize),
    /// A suspect without a result.
    Suspect(CommitLink, Bar),
    Commit(Box<HistoryLine>),
}

struct HistoryLine {
    commit: CommitLink,
    log_href: String,
    red: bool,
    status: Status,
    /// Whether its kernel does not build.
    unbuilt: bool,
    change: String,
    change_class: &'static str,
    reason: String,
    /// The probability that it is the first bad commit.
    suspect: Option<Bar>,
    took: String,
    host: String,
}

/// The view.
pub fn view(
    context: Context<'_>,
    at: &BranchRef,
    key: &ResultKey,
    (from, part): (Option<&CommitId>, &TableQuery),
    format: Format,
) -> Result<Response, Problem> {
    let missing = || context.store.no_branch(at);
    let history = context.store.reader().history(at, key)?.ok_or_else(missing)?;
    if history.iter().all(|commit| commit.entry.is_none()) {
        return Err(context.store.no_test(at, key));
    }
    if format == Format::Json {
        return context.json(&regress::json::history(&history));
    }
    let links = context.links();
    let address = links.history(at, key.as_str());
    let names = sorting::names(&HOST_COLUMNS).chain(sorting::names(&COLUMNS));
    let order = PageOrder::new(part.sort.as_deref(), &address, names)?;
    let (heads, is_by_commit, shown, pager) = rows(&history, from, part, order)?;
    let mut hosts = hosts(&history);
    let (file, subtest) = context.tests.split(key.as_str());
    let found = bisection::newest(context, at, std::slice::from_ref(key));
    let fixes = fixes(&history);
    let label = test_label(key.as_str());
    let page = context.branch_page(at, format!("{label} on {}", at.branch), label);
    context.html(&HistoryPage {
        page,
        at,
        branch_href: links.branch(at),
        file,
        subtest,
        summary: summary(&history),
        flaky: flaky_in(&history)
            .map(|flaky| flaky_words(&FlakyEntry { key: key.clone(), flaky }))
            .unwrap_or_default(),
        fix: fix_words(&history, &fixes),
        elsewhere: elsewhere(context, at, key, &history),
        culprit: culprit(context, at, &history),
        bisection: found.as_ref().map(|found| bisection::line(context, found)),
        plot: plot(&history),
        host_heads: order.sort(&mut hosts, &HOST_COLUMNS)?,
        hosts,
        heads,
        is_by_commit,
        rows: lines(
            context,
            at,
            key,
            (&history, &fixes, shown, is_by_commit),
            &found.as_ref().map(bisection::bars).unwrap_or_default(),
        ),
        pager,
    })
}

/// The heads of the table of commits, whether it has their order, the rows of a page, and the links to the other pages. In
/// another order it has only the commits with a result.
fn rows(
    history: &[HistoryEntry],
    from: Option<&CommitId>,
    part: &TableQuery,
    order: PageOrder<'_>,
) -> Result<(Vec<Head>, bool, Vec<usize>, Pager), Problem> {
    let ran = |(row, commit): (usize, &HistoryEntry)| {
        let entry = commit.entry.as_ref()?;
        Some(Ran { row, status: entry.status(), took: entry.decisive.duration, host: host(entry) })
    };
    let mut ran: Vec<Ran> = history.iter().enumerate().filter_map(ran).collect();
    let heads = order.sort(&mut ran, &COLUMNS)?;
    if order.of(&COLUMNS).is_none() {
        let commits = history.iter().map(|entry| &entry.commit);
        let CommitPages { rows, pager } = CommitPages::new(commits, from, order.address)?;
        return Ok((heads, true, rows.collect(), pager));
    }
    let address = part.address(order.address.to_owned());
    let (page, pager) = Pager::of_rows(ran.len(), SORTED_MAX, part.page, &address);
    Ok((heads, false, ran[page].iter().map(|ran| ran.row).collect(), pager))
}

/// Since when the test fails; `None` if it passes again.
fn culprit(context: Context<'_>, at: &BranchRef, history: &[HistoryEntry]) -> Option<Culprit> {
    let stretch = newest_failures(history)?;
    let first = history[stretch.first_bad].entry.as_ref();
    let since = first.and_then(|entry| When::unix(entry.decisive.started?));
    let link = |row: usize| {
        let HistoryEntry { commit, message, authorship, .. } = &history[row];
        CommitLink::new(context, Some(at), commit, message, authorship)
    };
    // The block is about the branch, so that its commits are all named.
    Some(Culprit { is_here: false, ..Culprit::new(&stretch, stretch.last_bad, since, link) })
}

/// The failures on other branches, if the test fails on this one.
fn elsewhere(context: Context<'_>, at: &BranchRef, key: &ResultKey, history: &[HistoryEntry]) -> Elsewhere {
    let Some(stretch) = newest_failures(history) else { return Elsewhere::default() };
    let tips = culprit::also_fails_in(context, at, &history[stretch.last_bad].commit, key);
    Elsewhere::new(context, key, &tips)
}

/// The failures since the newest pass.
fn newest_failures(history: &[HistoryEntry]) -> Option<Stretch> {
    let statuses = history.iter().map(|commit| commit.entry.as_ref().map(TestEntry::status));
    stretches(statuses).into_iter().next().filter(Stretch::still_fails)
}

/// `fixed? 14 of 33 runs since 2dce4baa960c`, about the newest failure, until it is believed.
fn fix_words(history: &[HistoryEntry], fixes: &[Fix]) -> String {
    let newest = fixes.first().filter(|fix| fix.claim.state() == FixState::Unproven);
    let words = |fix: &Fix| format!("{} since {}", words(&fix.claim), history[fix.row].commit.short());
    newest.map(words).unwrap_or_default()
}

/// `flaky 3 of 25, 12 % (4 to 28 %) since 2dce4baa960c`, and the rates by load if it fails only under load.
fn flaky_words(test: &FlakyEntry) -> String {
    let row = FlakyRow::from(test);
    let load = row.only_under_load.map_or(String::new(), |load| format!(", {load}"));
    format!("{}, {} since {}{load}", test.flaky, row.rate, row.since.short())
}

fn summary(history: &[HistoryEntry]) -> String {
    let count = |wanted| {
        history
            .iter()
            .filter(|commit| commit.entry.as_ref().is_some_and(|entry| entry.status() == wanted))
            .count()
    };
    let (passed, failed) = (count(Status::Passed), count(Status::Failed));
    let flaky = count(Status::Flaky);
    match passed + failed + flaky {
        0 => format!("neither passed nor failed on {}", history.len().plural("commit")),
        judged => {
            let flaky = if flaky > 0 { format!(", flaky on {flaky}") } else { String::new() };
            format!("passed on {passed} of {} ({} %){flaky}", judged.plural("commit"), passed * 100 / judged)
        }
    }
}

/// The runs by host, hosts with the most runs first. Runs without a known host are left out.
fn hosts(history: &[HistoryEntry]) -> Vec<HostLine> {
    let mut hosts: BTreeMap<&str, Vec<&TestEntry>> = BTreeMap::new();
    for entry in history.iter().filter_map(|commit| commit.entry.as_ref()) {
        if let Some(host) = entry.decisive.host.as_ref().filter(|_| entry.decisive.status.is_final()) {
            hosts.entry(host.as_str()).or_default().push(entry);
        }
    }
    let line = |(name, entries): (&str, Vec<&TestEntry>)| {
        let count = |wanted| entries.iter().filter(|entry| entry.decisive.status == wanted).count();
        let (passed, failed) = (count(Status::Passed), count(Status::Failed));
        let took: Duration = entries
            .iter()
            .filter(|entry| entry.decisive.status == Status::Passed)
            .map(|entry| entry.decisive.duration)
            .sum();
        let rate_order = (passed * 100).checked_div(passed + failed);
        let mean_order = u32::try_from(passed).ok().and_then(|passed| took.checked_div(passed));
        HostLine {
            name: cut(name, 100),
            runs: entries.len(),
            passed,
            failed,
            rate: rate_order.map(|rate| format!("{rate} %")).unwrap_or_default(),
            rate_order,
            mean: mean_order.map(|mean| Took(mean).to_string()).unwrap_or_default(),
            mean_order,
        }
    };
    let mut lines: Vec<HostLine> = hosts.into_iter().map(line).collect();
    lines.sort_by(|a, b| b.runs.cmp(&a.runs).then_with(|| a.name.cmp(&b.name)));
    lines.truncate(HOSTS_MAX);
    lines
}

fn plot(history: &[HistoryEntry]) -> Option<Plot> {
    let entries: Vec<_> = history.iter().rev().map(|commit| commit.entry.as_ref()).collect();
    let durations =
        || entries.iter().flatten().map(|entry| entry.decisive.duration).filter(|took| !took.is_zero());
    let (least, most) = (durations().min()?, durations().max()?);
    let passes: Vec<Duration> = entries
        .iter()
        .flatten()
        .filter(|entry| entry.status() == Status::Passed)
        .map(|entry| entry.decisive.duration)
        .collect();
    let count = u64::try_from(entries.len()).ok().filter(|count| (2..=2000).contains(count))?;
    let step = (1000 / count).clamp(2, 14);
    let top = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut bars: BTreeMap<&'static str, String> = BTreeMap::new();
    for (entry, column) in entries.iter().zip(0u64..) {
        let Some(entry) = entry else { continue };
        let millis = u64::try_from(entry.decisive.duration.as_millis()).unwrap_or(u64::MAX);
        let height = (millis.saturating_mul(PLOT_HEIGHT) / top).clamp(3, PLOT_HEIGHT);
        let (x, y, width) = (column * step, PLOT_HEIGHT - height, (step - 1).max(1));
        let path = bars.entry(entry.status().field()).or_default();
        path.push_str(&format!("M{x} {y}h{width}V{PLOT_HEIGHT}h-{width}z"));
    }
    let mean = u32::try_from(passes.len())
        .ok()
        .filter(|count| *count > 0)
        .map(|count| passes.iter().sum::<Duration>() / count)
        .unwrap_or_default();
    Some(Plot {
        bars,
        width: count * step,
        least: Took(least).to_string(),
        most: Took(most).to_string(),
        mean: Took(mean).to_string(),
    })
}

fn lines(
    context: Context<'_>,
    at: &BranchRef,
    key: &ResultKey,
    (history, fixes, rows, is_by_commit): (&[HistoryEntry], &[Fix], Vec<usize>, bool),
    suspects: &HashMap<CommitId, Bar>,
) -> Vec<Line> {
    let links = context.links();
    let statuses = history.iter().map(|commit| commit.entry.as_ref().map(TestEntry::status));
    let stretches = stretches(statuses);
    let link = |commit: &HistoryEntry| {
        CommitLink::new(context, Some(at), &commit.commit, &commit.message, &commit.authorship)
    };
    let mut lines = Vec::new();
    for row in rows {
        let commit = &history[row];
        let Some(entry) = &commit.entry else {
            match (lines.last_mut(), suspects.get(&commit.commit)) {
                (_, Some(bar)) => {
                    lines.push(Line::Suspect(link(commit), bar.clone()));
                }
                (Some(Line::Gap(count)), None) => *count += 1,
                _ => lines.push(Line::Gap(1)),
            }
            continue;
        };
        // A stretch of failures shows its reason once at each end.
        let newer = row.checked_sub(1).and_then(|newer| history[newer].entry.as_ref());
        let same_reason = is_by_commit && newer.is_some_and(|newer| explanation(newer) == explanation(entry));
        let (change, change_class) = change(&stretches, fixes, row);
        lines.push(Line::Commit(Box::new(HistoryLine {
            commit: link(commit),
            log_href: links.test(commit.commit.as_str(), key.as_str()),
            red: change_class == "bad",
            status: entry.status(),
            unbuilt: is_unbuilt(entry),
            reason: if change.is_empty() && same_reason {
                String::new()
            } else {
                cut(explanation(entry), 240)
            },
            change,
            change_class,
            suspect: suspects.get(&commit.commit).cloned(),
            took: Took(entry.decisive.duration).to_string(),
            host: host(entry),
        })));
    }
    lines
}

/// What changed for the test at a row, and its style class.
fn change(stretches: &[Stretch], fixes: &[Fix], row: usize) -> (String, &'static str) {
    let broke = |stretch: &Stretch| stretch.first_bad == row && stretch.last_good.is_some();
    let passes = |stretch: &Stretch| stretch.first_good == Some(row);
    if stretches.iter().any(broke) {
        ("▼ broke".into(), "bad")
    } else if stretches.iter().any(passes) {
        let found = fixes.iter().find(|fix| fix.is_change && fix.row == row);
        change_words(found.map(|fix| &fix.claim))
    } else {
        (String::new(), "")
    }
}

fn explanation(entry: &TestEntry) -> &str {
    entry.decisive.crash.as_deref().or(entry.decisive.reason.as_deref()).unwrap_or("")
}
