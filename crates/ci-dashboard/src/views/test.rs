//! The page of a test at a commit: its verdict, and its log opened at the failure.

use askama::Template;
use model::{BuiltKernel, Status};
use regress::builds::is_unbuilt;
use results::json::{BranchTipRow, ControlRow, FixRow, TestRow, TestView};
use results::{Attempt, Authorship, CommitResults, TestEntry, requests};

use super::bisection::{self, BisectionLine};
use super::commit::{crumbs_of, place};
use super::culprit::{self, Culprit, Elsewhere};
use super::fix::ClaimHere;
use super::log::{LogView, load};
use super::testlist::{BranchPosition, host, rate};
use super::{CommitLink, Context, file};
use crate::http::{Encoded, Response};
use crate::logtext::readable;
use crate::page::{Bytes, Crumb, Page, Symbol as _, Took, When, beyond_crash, cut, test_label, urgency};
use crate::problem::Problem;
use crate::route::{BranchRef, Format, Links, TestRoute};

/// The maximum number of failing tests listed next to the log.
const FAILING_MAX: usize = 60;
/// The maximum number of bytes of a crash report that are shown.
const REPORT_MAX: u64 = 128 << 10;

#[derive(Template)]
#[template(path = "test.html")]
struct TestPage<'a> {
    page: Page<'a>,
    file: &'a str,
    subtest: &'a str,
    status: Status,
    took: String,
    host: String,
    started: Option<When>,
    kernel: &'a str,
    suite: String,
    load: String,
    rate: String,
    /// What the passes since a failure prove, and the style class.
    fix: Option<(String, &'static str)>,
    ran_at: Option<SourceLink>,
    commit_href: String,
    commit: CommitLink,
    history_href: Option<String>,
    branch_name: String,
    crash: String,
    reason: String,
    /// The owners of the test file.
    owners: Vec<String>,
    /// The report of a known failure.
    known_link: String,
    report: String,
    tone: &'static str,
    controls: Vec<ControlLine>,
    culprit: Option<Culprit>,
    elsewhere: Elsewhere,
    bisection: Option<BisectionLine>,
    attempts: Vec<AttemptLine>,
    retries: String,
    tabs: Vec<LogTab>,
    log: Option<LogView>,
    no_log: &'static str,
    /// The page of the build, if the kernel does not build.
    build_href: String,
    command: String,
    failing: Vec<FailingLine>,
    failing_more: usize,
    artifacts: Vec<ArtifactLine>,
    rerun: Option<RerunForm>,
}

/// The result at the commit at which an inherited attempt ran.
struct SourceLink {
    href: String,
    short: String,
}

/// The form for a rerun.
struct RerunForm {
    action: String,
    /// Whether a rerun is requested and not finished.
    requested: bool,
}

/// A failing test of the commit.
struct FailingLine {
    status: Status,
    name: String,
    href: String,
    current: bool,
}

struct ArtifactLine {
    name: String,
    href: String,
    size: String,
}

/// The same test elsewhere.
struct ControlLine {
    status: Status,
    place: String,
    href: String,
}

struct AttemptLine {
    number: u32,
    /// Its log, if it has one.
    log: Option<String>,
    status: Status,
    reason: String,
    took: String,
    host: String,
    load: String,
}

struct LogTab {
    label: &'static str,
    href: String,
    current: bool,
}

/// What is known about a failure from other results.
struct Findings {
    /// The commit on a branch.
    place: Option<BranchPosition>,
    controls: Vec<ControlRow>,
    also_fails_in: Vec<BranchTipRow>,
}

impl Findings {
    fn new(
        context: Context<'_>,
        results: &CommitResults,
        entry: &TestEntry,
        format: Format,
    ) -> Result<Self, Problem> {
        // JSON shows the branch only through what is known about a failure and its fix.
        let has_controls = entry.status().has_failure();
        let wants_place = has_controls || entry.status() == Status::Passed || format != Format::Json;
        let place = if wants_place { place(context, None, &results.commit)? } else { None };
        let before = place.as_ref().filter(|_| has_controls).and_then(|place| before(context, place));
        let controls = regress::controls(results, before.as_ref(), entry);
        let also_fails_in = match &place {
            Some(place) if entry.status() == Status::Failed => {
                culprit::also_fails_in(context, &place.at, &results.commit, &entry.key)
            }
            _ => Vec::new(),
        };
        Ok(Self { place, controls, also_fails_in })
    }

    /// What a pass proves of an earlier failure.
    fn fix(&self, context: Context<'_>, test: &TestRoute, entry: &TestEntry) -> Option<ClaimHere> {
        let place = self.place.as_ref().filter(|_| entry.status() == Status::Passed)?;
        ClaimHere::of(context, &place.at, &test.key, &test.sha)
    }

    /// The commit on a branch, if the test failed there.
    fn failed(&self, entry: &TestEntry) -> Option<&BranchPosition> {
        self.place.as_ref().filter(|_| entry.status() == Status::Failed)
    }
}

/// The view.
pub fn view(context: Context<'_>, test: &TestRoute, format: Format) -> Result<Response, Problem> {
    let missing = || Problem::NotFound("no result of this test at this commit".into());
    let results = context.store.reader().commit(&test.sha)?.ok_or_else(missing)?;
    let entry = results.get(&test.key).ok_or_else(missing)?;
    let findings = Findings::new(context, &results, entry, format)?;
    if format == Format::Json {
        let artifacts = context.store.reader().artifacts(&test.sha, &test.key)?;
        let since = findings.failed(entry).and_then(|place| culprit::since(context, place, &test.key));
        let fix = findings.fix(context, test, entry).map(|here| FixRow::from(&here.claim));
        let Findings { controls, also_fails_in, .. } = findings;
        let test = TestRow::from(entry);
        let owners = context.owners().of(&entry.key).to_vec();
        return context.json(&TestView { test, artifacts, controls, since, fix, also_fails_in, owners });
    }
    render(context, test, &results, entry, &findings)
}

fn render(
    context: Context<'_>,
    test: &TestRoute,
    results: &CommitResults,
    entry: &TestEntry,
    findings: &Findings,
) -> Result<Response, Problem> {
    let links = context.links();
    let Findings { place, controls, also_fails_in } = findings;
    let at = place.as_ref().map(|place| &place.at);
    let (test_file, subtest) = context.tests.split(test.key.as_str());
    let commit_href = links.commit(at, test.sha.as_str());
    let label = test_label(test.key.as_str());
    let title = format!("{} {label} {}", entry.status(), test.sha.short());
    let mut page = Page::new(title, links, crumbs(links, at, test, &commit_href, &label));
    page.json = Some(context.json_address());
    page.description = description(entry);
    // The verdict is shown even if the log is damaged; errors of the request are reported.
    let (log, damaged) = log_or_damaged(context, test)?;
    let rerun = (context.reruns && entry.status() != Status::InProgress).then(|| rerun_form(context, test));
    // Refresh until its log exists; from then on, the events of the log report the end.
    let starting = entry.status() == Status::InProgress && log.is_none();
    page.live = if starting || rerun.as_ref().is_some_and(|rerun| rerun.requested) { 2 } else { 0 };
    let template = TestPage {
        page,
        file: test_file,
        subtest,
        status: entry.status(),
        took: Took(entry.decisive.duration).to_string(),
        host: host(entry),
        started: entry.decisive.started.and_then(When::unix),
        kernel: entry.decisive.kernel.as_ref().map_or("", |kernel| kernel.short()),
        suite: suite(&entry.decisive),
        owners: context.owners().of(&entry.key).iter().map(ToString::to_string).collect(),
        load: load_of(&entry.decisive),
        rate: rate(entry),
        fix: findings.fix(context, test, entry).map(|claim| claim.words()),
        ran_at: ran_at(links, entry),
        commit_href,
        commit: commit_link(context, place.as_ref(), results),
        history_href: at.map(|at| links.history(at, test.key.as_str())),
        branch_name: at.map(|at| at.branch.to_string()).unwrap_or_default(),
        crash: entry.decisive.crash.as_deref().map(|crash| cut(crash, 1000)).unwrap_or_default(),
        reason: reason(entry),
        known_link: entry.decisive.known_issue().and_then(|known| known.link).unwrap_or_default(),
        report: report(context, test)?,
        tone: if entry.status() == Status::Failed { "bad" } else { "warn" },
        controls: controls.iter().map(|control| control_line(links, control)).collect(),
        culprit: findings.failed(entry).and_then(|place| culprit::culprit(context, place, &test.key)),
        elsewhere: Elsewhere::new(context, &test.key, also_fails_in),
        bisection: place
            .as_ref()
            .filter(|_| entry.status().has_failure())
            .and_then(|place| bisection_of(context, place, test)),
        attempts: attempts(context, test, entry),
        retries: retries(entry),
        tabs: tabs(context, test),
        log,
        no_log: no_log(damaged, entry),
        build_href: build_href(links, test, entry),
        command: context.tests.command(&test.sha, test.key.as_str()).unwrap_or_default(),
        failing_more: failing_entries(results).count().saturating_sub(FAILING_MAX),
        failing: failing(context, test, results),
        artifacts: artifacts(context, test),
        rerun,
    };
    context.html(&template)
}

/// The commit of the page.
fn commit_link(context: Context<'_>, place: Option<&BranchPosition>, results: &CommitResults) -> CommitLink {
    match place {
        Some(place) => CommitLink::listed(context, &place.at, &place.entries[place.row]),
        None => CommitLink::new(context, None, &results.commit, &results.message, &Authorship::default()),
    }
}

fn crumbs(
    links: Links<'_>,
    at: Option<&BranchRef>,
    test: &TestRoute,
    commit_href: &str,
    label: &str,
) -> Vec<Crumb> {
    let mut crumbs = crumbs_of(links, at);
    crumbs.push(Crumb::link(test.sha.short(), commit_href.into()));
    crumbs.push(Crumb::here(label));
    crumbs
}

/// Why no log is shown.
fn no_log(damaged: bool, entry: &TestEntry) -> &'static str {
    let status = entry.status();
    if is_unbuilt(entry) {
        "The kernel does not build, so the test did not run."
    } else if damaged {
        "The log is damaged and cannot be shown. The link Raw downloads it as stored."
    } else if status == Status::FailedToRun {
        "It never started; there is no log."
    } else {
        "There is no log of this test."
    }
}

/// The page of the build of a kernel that does not build; empty if it does.
fn build_href(links: Links<'_>, test: &TestRoute, entry: &TestEntry) -> String {
    let kernel = BuiltKernel::of_key(test.key.as_str()).filter(|_| is_unbuilt(entry));
    kernel.map_or(String::new(), |kernel| links.build(test.sha.as_str(), Some(&kernel)))
}

/// The tests of the commit that failed, are running or have no readable status. Those of a kernel that does not build did not fail.
fn failing_entries(results: &CommitResults) -> impl Iterator<Item = &TestEntry> {
    let is_failing = |entry: &&TestEntry| {
        !matches!(entry.status(), Status::Passed | Status::NotRun | Status::Flaky) && !is_unbuilt(entry)
    };
    results.entries.iter().filter(is_failing)
}

/// The failing tests around this one, for the list next to the log; empty if there are no others.
fn failing(context: Context<'_>, test: &TestRoute, results: &CommitResults) -> Vec<FailingLine> {
    let mut entries: Vec<&TestEntry> = failing_entries(results).collect();
    entries.sort_by_key(|entry| urgency(entry.status()));
    // The part of the list around this test.
    let here = entries.iter().position(|entry| entry.key == test.key);
    let start =
        here.unwrap_or(0).saturating_sub(FAILING_MAX / 2).min(entries.len().saturating_sub(FAILING_MAX));
    let shown = &entries[start..entries.len().min(start + FAILING_MAX)];
    if shown.iter().all(|entry| entry.key == test.key) {
        return Vec::new();
    }
    let line = |entry: &&TestEntry| {
        let key = entry.key.as_str();
        FailingLine {
            status: entry.status(),
            name: test_label(key),
            href: context.links().verdict(test.sha.as_str(), key, Some(entry.status())),
            current: entry.key == test.key,
        }
    };
    shown.iter().map(line).collect()
}

/// The artifacts of the run.
fn artifacts(context: Context<'_>, test: &TestRoute) -> Vec<ArtifactLine> {
    let base = context.links().test(test.sha.as_str(), test.key.as_str());
    let line = |(name, bytes): (String, u64)| ArtifactLine {
        href: format!("{base}{}", Encoded(&name)),
        size: Bytes(bytes).to_string(),
        name,
    };
    file::artifacts(context.store.reader(), &test.sha, &test.key).into_iter().map(line).collect()
}

fn rerun_form(context: Context<'_>, test: &TestRoute) -> RerunForm {
    let open = requests::pending_reruns(context.store.reader().output_dir());
    RerunForm {
        action: format!("{}rerun", context.links().test(test.sha.as_str(), test.key.as_str())),
        requested: open.iter().any(|open| open.commit == test.sha && open.key == test.key),
    }
}

/// The verdict in one line, for previews of a link.
fn description(entry: &TestEntry) -> String {
    let why = reason(entry);
    let separator = if why.is_empty() { "" } else { ": " };
    cut(&format!("{}{separator}{why}", entry.status()), 300)
}

fn reason(entry: &TestEntry) -> String {
    cut(beyond_crash(entry.decisive.reason.as_deref(), entry.decisive.crash.as_deref()), 2000)
}

/// The crash report, with source lines if they are known.
fn report(context: Context<'_>, test: &TestRoute) -> Result<String, Problem> {
    let Some(report) = context.store.reader().open_artifact(&test.sha, &test.key, "crash")? else {
        return Ok(String::new());
    };
    let (bytes, _) = report.read(REPORT_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first paragraph is the title, which the page already shows.
    let text = text.split_once("\n\n").map_or(&*text, |(_, report)| report);
    Ok(text.lines().map(|line| readable(line) + "\n").collect())
}

/// The results of the commit before, in the order of the branch.
fn before(context: Context<'_>, place: &BranchPosition) -> Option<CommitResults> {
    context.store.reader().commit(&place.entries.get(place.row + 1)?.commit).ok()?
}

/// The log, and whether it is damaged.
fn log_or_damaged(context: Context<'_>, test: &TestRoute) -> Result<(Option<LogView>, bool), Problem> {
    match load(context, test) {
        Err(Problem::Store) => Ok((None, true)),
        loaded => Ok((loaded?, false)),
    }
}

/// The result of the bisection that explains the failure.
fn bisection_of(context: Context<'_>, place: &BranchPosition, test: &TestRoute) -> Option<BisectionLine> {
    let found = bisection::newest(context, &place.at, std::slice::from_ref(&test.key))?;
    let explains = bisection::explains(&found, place.entries.iter().map(|entry| &entry.commit), &test.sha);
    explains.then(|| bisection::line(context, &found))
}

fn control_line(links: Links<'_>, control: &ControlRow) -> ControlLine {
    let place = match control.control.as_str() {
        "before" => format!("at the commit before, {}", control.commit.short()),
        other => match other.strip_prefix("variant ") {
            Some(variant) => format!("variant {variant} with the same kernel"),
            None => format!("on {other} with the same kernel"),
        },
    };
    ControlLine { status: control.status, place, href: links.test(control.commit.as_str(), &control.name) }
}

fn attempts(context: Context<'_>, test: &TestRoute, entry: &TestEntry) -> Vec<AttemptLine> {
    let files = if entry.others.is_empty() {
        Vec::new()
    } else {
        context.store.reader().artifacts(&test.sha, &test.key).unwrap_or_default()
    };
    let log = |attempt: &Attempt| {
        let name = format!("attempt.{}/log.br", attempt.number);
        let base = context.links().test(test.sha.as_str(), test.key.as_str());
        files.iter().any(|file| file.name == name).then(|| format!("{base}{name}"))
    };
    entry
        .others
        .iter()
        .map(|attempt| AttemptLine {
            number: attempt.number,
            log: log(attempt),
            status: attempt.status,
            reason: cut(attempt.crash.as_deref().or(attempt.reason.as_deref()).unwrap_or(""), 300),
            took: Took(attempt.duration).to_string(),
            host: attempt.host.as_ref().map(ToString::to_string).unwrap_or_default(),
            load: load_of(attempt),
        })
        .collect()
}

fn ran_at(links: Links<'_>, entry: &TestEntry) -> Option<SourceLink> {
    let source = entry.decisive.ran_at.as_ref()?;
    let href = links.verdict(source.as_str(), entry.key.as_str(), Some(entry.status()));
    Some(SourceLink { href, short: source.short().to_owned() })
}

/// The number of attempts after the first.
fn retries(entry: &TestEntry) -> String {
    match entry.others.len() {
        1 => "1 retry".into(),
        count => format!("{count} retries"),
    }
}

/// `xfstests 63a297240d1e`.
fn suite(attempt: &Attempt) -> String {
    let suite = attempt.conditions.suite.as_ref();
    suite.map(|suite| format!("{} {}", suite.name, suite.commit.short())).unwrap_or_default()
}

/// `150 %, alone`: the load of the host, and whether it had no other work.
fn load_of(attempt: &Attempt) -> String {
    let load = attempt.conditions.load.map(|percent| format!("{percent} %"));
    let alone = attempt.conditions.alone.filter(|alone| *alone).map(|_| "alone".to_owned());
    load.into_iter().chain(alone).collect::<Vec<_>>().join(", ")
}

fn tabs(context: Context<'_>, test: &TestRoute) -> Vec<LogTab> {
    let base = context.links().test(test.sha.as_str(), test.key.as_str());
    let mut tabs = Vec::new();
    let has = |kind| context.store.reader().log(&test.sha, &test.key, kind).ok().flatten();
    let own = has(results::LogKind::Subtest);
    let full = has(results::LogKind::Full);
    if own.is_some() {
        tabs.push(LogTab { label: "This test's log", href: base.clone(), current: !test.full });
    }
    if full.is_some() {
        tabs.push(LogTab { label: "Full console log", href: format!("{base}?log=full"), current: test.full });
    }
    if let Some(log) = if test.full { full } else { own } {
        let name = match (test.full, log.is_live()) {
            (false, false) => "log.br",
            (false, true) => "log",
            (true, false) => "full_log.br",
            (true, true) => "full_log",
        };
        tabs.push(LogTab { label: "Raw", href: format!("{base}{name}"), current: false });
    }
    tabs
}
