//! A branch as `git log` reads, with what each commit changed: the tests that broke and were mended, the failing tests
//! as lanes, commits without results folded.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use model::{Counts, Status};
use results::BranchEntry;
use results::json::CommitRow;

use super::alarms::{self, Watch};
use super::lanes::{self, LANE_WIDTH, LANES_MAX, LanePath};
use super::{CommitLink, Context};
use crate::changes::{Delta, Failure, History, Names, TestId, Verdicts};
use crate::filter::Filter;
use crate::page::{CountItem, Crumb, Page, Plural as _, Took, count_items, cut};
use crate::problem::Problem;
use crate::response::Response;
use crate::route::{BranchRef, Form};

/// How many commits a page shows.
const COMMITS_MAX: usize = 500;
/// How many tests a commit's change names.
const NAMED_MAX: usize = 4;

#[derive(Template)]
#[template(path = "branch.html")]
struct BranchPage<'a> {
    page: Page<'a>,
    at: &'a BranchRef,
    summary: String,
    tip: Option<CommitLink>,
    running: usize,
    test: &'a str,
    all_href: String,
    crashes_href: String,
    compare_href: String,
    failing_heading: String,
    failing_note: String,
    failures: Vec<FailureLine>,
    mended: Vec<FailureLine>,
    lanes: usize,
    lanes_width: usize,
    letters: Vec<LaneLetter>,
    rows: Vec<Line>,
    newer: Option<String>,
    older: Option<String>,
}

struct LaneLetter {
    x: usize,
    letter: char,
}

struct FailureLine {
    letter: String,
    href: String,
    file: String,
    subtest: String,
    reason: Option<String>,
    lasting: bool,
    first_bad: CommitLink,
    between: String,
    last_good: Option<CommitLink>,
    first_good: Option<CommitLink>,
}

enum Line {
    Fold(Vec<CommitLink>),
    Commit(Box<CommitLine>),
}

struct CommitLine {
    commit: CommitLink,
    red: bool,
    counts: Vec<CountItem>,
    took: String,
    lanes: Vec<LanePath>,
    broke: Vec<String>,
    broke_more: usize,
    unsure: usize,
    fixed: Vec<String>,
    fixed_more: usize,
    stopped: String,
    stopped_class: &'static str,
    look: usize,
}

/// The view.
pub fn view(
    context: Context<'_>,
    at: &BranchRef,
    test: Option<&str>,
    from: Option<&model::CommitId>,
    form: Form,
) -> Result<Response, Problem> {
    let filter = Filter::new(test)?;
    let mut entries = context.store.branch(at)?;
    if form == Form::Json && filter.is_all() {
        let rows: Vec<_> = entries.iter().map(CommitRow::from).collect();
        return context.json(&rows);
    }
    let start = match from {
        None => 0,
        Some(from) => entries
            .iter()
            .position(|entry| entry.commit == *from)
            .ok_or_else(|| Problem::NotFound("this commit is not (or no longer) on the branch".into()))?,
    };
    if !filter.is_all() {
        // The counts and durations of what is wanted, from the store's own columns.
        let wanted = |key: &model::ResultKey| filter.wants(key.as_str());
        let missing = || Problem::NotFound("there is no such branch".into());
        entries =
            context.store.reader().branch_filtered(&at.user, &at.branch, wanted)?.ok_or_else(missing)?;
    }
    if form == Form::Json {
        let rows: Vec<_> = entries.iter().map(CommitRow::from).collect();
        return context.json(&rows);
    }
    let mut sieve = Sieve::new(&filter);
    let history = History::of(entries.iter().map(|entry| {
        let verdicts = (entry.counts.total() > 0).then(|| context.store.verdicts(&entry.commit))??;
        Some(sieve.wanted(verdicts))
    }));
    render(context, at, test.unwrap_or(""), &filter, start, &entries, &history)
}

/// Keeps what a filter wants of one commit after the other, and asks it once for each set of tests.
struct Sieve<'a> {
    filter: &'a Filter,
    last: Option<(Names, Vec<usize>, Names)>,
}

impl<'a> Sieve<'a> {
    fn new(filter: &'a Filter) -> Self {
        Self { filter, last: None }
    }

    fn wanted(&mut self, verdicts: Verdicts) -> Verdicts {
        if self.filter.is_all() {
            return verdicts;
        }
        let Verdicts { names, statuses } = verdicts;
        let same = self.last.as_ref().is_some_and(|(of, ..)| Arc::ptr_eq(of, &names));
        if !same {
            let keep: Vec<usize> = (0..names.len()).filter(|at| self.filter.wants(&names[*at])).collect();
            let kept = keep.iter().map(|at| names[*at].clone()).collect();
            self.last = Some((names, keep, kept));
        }
        let (_, keep, kept) = self.last.as_ref().expect("set above");
        Verdicts {
            names: Arc::clone(kept),
            statuses: keep.iter().filter_map(|at| statuses.get(*at).copied()).collect(),
        }
    }
}

fn render(
    context: Context<'_>,
    at: &BranchRef,
    test: &str,
    filter: &Filter,
    start: usize,
    entries: &[BranchEntry],
    history: &History,
) -> Result<Response, Problem> {
    let links = context.links();
    let mut page = Page::new(
        format!("{}/{}", at.user, at.branch),
        links,
        vec![Crumb::link(&at.user, links.user(&at.user)), Crumb::here(&at.branch)],
    );
    page.json = Some(context.json_address());
    page.feed = Some(format!("{}&format=atom", links.branch(at)));
    let running = entries.iter().filter(|entry| entry.counts.inprogress > 0).count();
    let waiting = entries.iter().filter(|entry| entry.counts.total() == 0).count();
    page.live = if running > 0 { 3 } else { 15 };

    let all_failures = history.failures();
    let shown: Vec<&Failure> = distinct(&all_failures).into_iter().take(LANES_MAX).collect();
    let tests: Vec<TestId> = shown.iter().map(|failure| failure.test).collect();
    let commit = |row: usize| {
        let entry = &entries[row];
        CommitLink::new(links, Some(at), &entry.commit, &entry.message)
    };
    let lasting = all_failures.iter().filter(|failure| failure.first_good.is_none()).count();
    let all = distinct(&all_failures).len();
    let (failures, mended) = shown
        .iter()
        .enumerate()
        .map(|(lane, failure)| failure_line(context, at, history, entries, lane, failure, &commit))
        .partition(|line: &FailureLine| line.lasting);
    let end = entries.len().min(start + COMMITS_MAX);
    let mut watch = Watch::new(context, filter);
    let mut look = HashMap::new();
    let tested = (start..end).filter(|row| entries[*row].counts.total() > 0);
    for row in tested.take(alarms::COMMITS_MAX) {
        look.insert(row, watch.at(entries, row).len());
    }
    let rows = lines(entries, start..end, history, &tests, &look, &commit);
    let page_link = |row: usize| {
        let base = links.branch(at);
        format!("{base}&test={}&from={}", crate::request::Encoded(test), entries[row].commit)
    };
    let template = BranchPage {
        page,
        at,
        summary: format!(
            "{}{}",
            entries.len().plural("commit"),
            if waiting > 0 { format!(", {waiting} not tested") } else { String::new() }
        ),
        tip: (!entries.is_empty()).then(|| commit(0)),
        running,
        test,
        all_href: links.branch(at),
        crashes_href: if all_failures.is_empty() { String::new() } else { links.crashes(at) },
        compare_href: links.compare(Some(&at.user), &at.branch, ""),
        failing_heading: match lasting {
            0 => "Nothing fails now".into(),
            _ => format!("{} failing now", lasting.plural("test")),
        },
        failing_note: if all > shown.len() {
            format!("{} of the {all} tests that failed on this branch are listed", shown.len())
        } else {
            String::new()
        },
        failures,
        mended,
        lanes: tests.len(),
        lanes_width: tests.len() * LANE_WIDTH,
        letters: (0..tests.len())
            .map(|lane| LaneLetter { x: lane * LANE_WIDTH + LANE_WIDTH / 2, letter: lanes::letter(lane) })
            .collect(),
        rows,
        newer: (start > 0).then(|| links.branch(at)),
        older: (end < entries.len()).then(|| page_link(end)),
    };
    context.html(&template)
}

/// The latest failure of each test, in order.
fn distinct<'a>(failures: &[&'a Failure]) -> Vec<&'a Failure> {
    let mut seen = std::collections::HashSet::new();
    failures.iter().copied().filter(|failure| seen.insert(failure.test)).collect()
}

fn failure_line(
    context: Context<'_>,
    at: &BranchRef,
    history: &History,
    entries: &[BranchEntry],
    lane: usize,
    failure: &Failure,
    commit: &impl Fn(usize) -> CommitLink,
) -> FailureLine {
    let name = history.name(failure.test);
    let (file, subtest) = context.tests.split(name);
    let reason = name
        .parse()
        .ok()
        .and_then(|key| context.store.reader().entry(&entries[failure.last_bad].commit, &key).ok()?)
        .and_then(|entry| entry.crash.or(entry.reason));
    let between = failure.last_good.map_or(0, |good| good.saturating_sub(failure.first_bad + 1));
    FailureLine {
        letter: lanes::letter(lane).to_string(),
        href: context.links().history(at, name),
        file: file.into(),
        subtest: subtest.into(),
        reason: reason.map(|reason| cut(&reason, 200)),
        lasting: failure.first_good.is_none(),
        first_bad: commit(failure.first_bad),
        between: match (failure.last_good, between) {
            (None, _) => "or earlier".into(),
            (_, 0) => String::new(),
            (_, between) => format!("or {between} before"),
        },
        last_good: failure.last_good.map(commit),
        first_good: failure.first_good.map(commit),
    }
}

fn lines(
    entries: &[BranchEntry],
    range: std::ops::Range<usize>,
    history: &History,
    tests: &[TestId],
    look: &HashMap<usize, usize>,
    commit: &impl Fn(usize) -> CommitLink,
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in range {
        let entry = &entries[row];
        if entry.counts.total() == 0 {
            match lines.last_mut() {
                Some(Line::Fold(fold)) => fold.push(commit(row)),
                _ => lines.push(Line::Fold(vec![commit(row)])),
            }
            continue;
        }
        let nothing = Delta::default();
        let delta = history.delta(row).unwrap_or(&nothing);
        let (broke, broke_more) = named(history, &delta.broke);
        let (fixed, fixed_more) = named(history, &delta.fixed);
        lines.push(Line::Commit(Box::new(CommitLine {
            commit: commit(row),
            red: !delta.broke.is_empty(),
            counts: count_items(&entry.counts),
            took: Took(entry.duration).to_string(),
            lanes: lanes::paths(&history.statuses(row, tests)),
            unsure: unjudged_before(entries, row, &delta.broke),
            broke,
            broke_more,
            fixed,
            fixed_more,
            stopped_class: if delta.stopped > 0 { "s-failed_to_run" } else { "good" },
            stopped: stopped_words(delta, &entry.counts),
            look: look.get(&row).copied().unwrap_or(0),
        })));
    }
    lines
}

/// How many commits right before this one have no verdict that could say it was they.
fn unjudged_before(entries: &[BranchEntry], row: usize, broke: &[TestId]) -> usize {
    if broke.is_empty() {
        return 0;
    }
    let judged = |counts: &Counts| counts.get(Status::Passed) + counts.get(Status::Failed) > 0;
    entries[row + 1..].iter().take_while(|entry| !judged(&entry.counts)).count()
}

fn named(history: &History, tests: &[TestId]) -> (Vec<String>, usize) {
    let named = tests.iter().take(NAMED_MAX).map(|test| cut(history.name(*test), 120)).collect();
    (named, tests.len().saturating_sub(NAMED_MAX))
}

fn stopped_words(delta: &Delta, counts: &Counts) -> String {
    match (delta.stopped, delta.resumed) {
        (0, 0) => String::new(),
        (0, resumed) => format!(
            "▲ {} again",
            if resumed == 1 { "1 test runs".into() } else { format!("{resumed} tests run") }
        ),
        (stopped, _) if u32::try_from(stopped).is_ok_and(|stopped| stopped >= counts.total()) => {
            "! nothing could run".into()
        }
        (stopped, _) => format!("! {} could not run", stopped.plural("test")),
    }
}
