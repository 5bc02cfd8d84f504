//! The page of the builds of a commit: each kernel, the part of the log around the first error, and the tests that did not run.

use std::time::Duration;

use askama::Template;
use model::{BuiltKernel, CommitId, ResultKey};
use regress::activity::{self, Activity};
use regress::builds::{CommitBuilds, FailedKernels, is_unbuilt};
use regress::json::{BuildView, KernelBuildRow, RunningBuild};
use results::CommitResults;
use results::json::FailedKernelRow;
use results::notes::{BuildOutcome, StoredBuild};

use super::build_lines::{Banner, BuildPosition};
use super::commit::{crumbs_of, place};
use super::{CommitLink, Context};
use crate::build_log::Excerpt;
use crate::http::Response;
use crate::page::{Bytes, Crumb, Page, Plural as _, Took, When, cut, subject};
use crate::problem::Problem;
use crate::route::{BranchRef, Format};

/// The name of the artifact.
const LOG: &str = "build.log";
/// The maximum number of bytes of a log that are read.
const READ_MAX: u64 = 16 << 20;
/// The maximum number of logs on a page.
const LOGS_MAX: usize = 4;
/// The maximum number of tests that are listed.
const TESTS_MAX: usize = 500;

#[derive(Template)]
#[template(path = "build.html")]
struct BuildPage<'a> {
    page: Page<'a>,
    commit: CommitLink,
    branch: Option<(String, String)>,
    kernel: &'a str,
    all_href: String,
    running: Vec<String>,
    note: &'static str,
    banners: Vec<Banner>,
    kernels: Vec<KernelLine>,
    logs: Vec<LogPart>,
    tests_heading: String,
    tests: Vec<(String, String)>,
    tests_more: usize,
}

struct KernelLine {
    name: String,
    href: String,
    builds: bool,
    tests: String,
    took: String,
    host: String,
    started: Option<When>,
}

/// The log of a build that failed.
struct LogPart {
    part: String,
    error: String,
    excerpt: Option<Excerpt>,
    whole: Option<(String, String)>,
    cut: bool,
}

/// What the page is made from.
struct Builds<'a> {
    results: CommitResults,
    at: Option<BranchRef>,
    position: BuildPosition,
    stored: Vec<StoredBuild>,
    /// Only the kernel with this name.
    kernel: Option<&'a str>,
}

/// The view.
pub fn view(
    context: Context<'_>,
    sha: &CommitId,
    kernel: Option<&str>,
    format: Format,
) -> Result<Response, Problem> {
    let builds = read(context, sha, kernel)?;
    let snapshot = context.snapshot();
    let running = activity::of_commit(&snapshot, sha.as_str(), context.now);
    let running: Vec<Activity<'_>> = running
        .into_iter()
        .filter(|activity| activity.is_build() && builds.is_wanted(activity.kernel()))
        .collect();
    let rows = builds.rows();
    if kernel.is_some() && rows.is_empty() && running.is_empty() {
        return Err(Problem::NotFound("no kernel of this commit has this architecture and flavor".into()));
    }
    if format == Format::Json {
        return context.json(&BuildView {
            commit: sha.to_string(),
            message: builds.results.message.clone(),
            kernels: rows,
            running: running.iter().map(running_row).collect(),
        });
    }
    render(context, sha, &builds, rows, &running)
}

fn running_row(activity: &Activity<'_>) -> RunningBuild {
    let batch = activity.batch;
    RunningBuild {
        kernel: batch.kernel.clone(),
        executor: activity.executor.into(),
        test: batch.test.clone(),
        started: batch.phase_started.unwrap_or(batch.started),
        objects: batch.objects,
        objects_total: batch.objects_total,
    }
}

fn read<'a>(context: Context<'_>, sha: &CommitId, kernel: Option<&'a str>) -> Result<Builds<'a>, Problem> {
    let place = place(context, None, sha)?;
    let reader = context.store.reader();
    let message = || place.as_ref().map(|place| place.entries[place.row].message.clone());
    let mut results = match (reader.commit(sha)?, message()) {
        (Some(results), _) => results,
        (None, Some(message)) => CommitResults { commit: sha.clone(), message, entries: Vec::new() },
        (None, None) => return Err(Problem::NotFound("no results for this commit".into())),
    };
    if results.message.is_empty() {
        results.message = message().unwrap_or_default();
    }
    let position = BuildPosition::new(context, place.as_ref(), &results);
    let stored = reader.builds(sha);
    Ok(Builds { results, at: place.map(|place| place.at), position, stored, kernel })
}

impl Builds<'_> {
    fn is_wanted(&self, kernel: &BuiltKernel) -> bool {
        self.kernel.is_none_or(|wanted| kernel.to_string() == wanted)
    }

    /// What does not build, of the wanted kernels.
    fn failed(&self) -> Vec<FailedKernels> {
        let mut failed = self.position.failed();
        failed.retain(|failed| failed.kernels.iter().any(|kernel| self.is_wanted(kernel)));
        failed
    }

    fn rows(&self) -> Vec<KernelBuildRow> {
        let of_tests = CommitBuilds::from(&self.results);
        let mut rows: Vec<KernelBuildRow> = Vec::new();
        for (kernel, failure) in of_tests.kernels() {
            let builds = failure.is_none();
            rows.push(KernelBuildRow { kernel: kernel.clone(), builds, ..KernelBuildRow::default() });
        }
        // A kernel can be ready before a test has a verdict.
        for build in &self.stored {
            if rows.iter().all(|row| row.kernel != build.kernel) {
                let builds = build.outcome != BuildOutcome::Failed;
                rows.push(KernelBuildRow {
                    kernel: build.kernel.clone(),
                    builds,
                    ..KernelBuildRow::default()
                });
            }
        }
        rows.retain(|row| self.is_wanted(&row.kernel));
        rows.sort_by(|a, b| a.kernel.cmp(&b.kernel));
        for row in &mut rows {
            row.failure = self.failure(&of_tests, &row.kernel);
            // The others took it from the store.
            let own = self.stored.iter().filter(|build| build.kernel == row.kernel);
            if let Some(build) = own.max_by_key(|build| build.duration) {
                row.host.clone_from(&build.host);
                (row.slot, row.started) = (build.slot, Some(build.started));
                row.duration_ms = u64::try_from(build.duration.as_millis()).ok();
            }
        }
        rows
    }

    fn failure(&self, of_tests: &CommitBuilds, kernel: &BuiltKernel) -> Option<FailedKernelRow> {
        let failure = of_tests.failure(kernel)?;
        let BuildPosition { history, entries, row } = &self.position;
        let stretch = history.stretch(kernel, *row);
        let commit = |row: usize| Some(entries.get(row)?.commit.clone());
        Some(FailedKernelRow {
            kernel: kernel.clone(),
            error: failure.error.clone(),
            tests: failure.tests,
            test: failure.test.clone(),
            first_bad: stretch.and_then(|stretch| commit(stretch.first_bad)),
            last_good: stretch.and_then(|stretch| commit(stretch.last_good?)),
        })
    }
}

fn render(
    context: Context<'_>,
    sha: &CommitId,
    builds: &Builds<'_>,
    rows: Vec<KernelBuildRow>,
    running: &[Activity<'_>],
) -> Result<Response, Problem> {
    let links = context.links();
    let at = builds.at.as_ref();
    let mut crumbs = crumbs_of(links, at);
    crumbs.push(Crumb::link(sha.short(), links.commit(at, sha.as_str())));
    crumbs.push(Crumb::here("build"));
    let title = format!("Build of {} {}", sha.short(), subject(&builds.results.message, 60));
    let mut page = Page::new(title, links, crumbs);
    page.json = Some(context.json_address());
    page.live = if running.is_empty() { 15 } else { 2 };
    let failed = builds.failed();
    let banners = builds.position.banners(context, at, &failed);
    let tests = not_run(context, sha, builds);
    context.html(&BuildPage {
        page,
        commit: builds.position.link(context, at),
        branch: at.map(|at| (at.to_string(), links.branch(at))),
        kernel: builds.kernel.unwrap_or_default(),
        all_href: if builds.kernel.is_some() { links.build(sha.as_str(), None) } else { String::new() },
        running: running.iter().map(|activity| running_words(activity)).collect(),
        note: match (rows.is_empty(), running.is_empty()) {
            (true, true) => "No kernel of this commit is built yet.",
            _ => "",
        },
        banners,
        kernels: rows.into_iter().map(|row| kernel_line(context, sha, row)).collect(),
        logs: failed
            .iter()
            .take(LOGS_MAX)
            .map(|failed| log_part(context, sha, failed))
            .collect::<Result<_, _>>()?,
        tests_heading: format!("{} not run: the kernel does not build", tests.len().plural("test")),
        tests_more: tests.len().saturating_sub(TESTS_MAX),
        tests: tests.into_iter().take(TESTS_MAX).collect(),
    })
}

fn running_words(activity: &Activity<'_>) -> String {
    let kernel = activity.kernel();
    let kernel = if kernel.is_default() { String::new() } else { format!(" {kernel}") };
    cut(&format!("{activity},{kernel} for {}", activity.batch.test), 300)
}

fn kernel_line(context: Context<'_>, sha: &CommitId, row: KernelBuildRow) -> KernelLine {
    let name = if row.kernel.is_default() { "default".into() } else { row.kernel.to_string() };
    KernelLine {
        name: cut(&name, 200),
        href: context.links().build(sha.as_str(), Some(&row.kernel)),
        builds: row.builds,
        tests: row
            .failure
            .map_or(String::new(), |failure| format!("{} not run", failure.tests.plural("test"))),
        took: Took(Duration::from_millis(row.duration_ms.unwrap_or(0))).to_string(),
        host: match (row.host, row.slot) {
            (Some(host), Some(slot)) => format!("{host}/{slot}"),
            (host, _) => host.unwrap_or_default(),
        },
        started: row.started.and_then(When::unix),
    }
}

/// The tests without a verdict because of the build: name and address.
fn not_run(context: Context<'_>, sha: &CommitId, builds: &Builds<'_>) -> Vec<(String, String)> {
    let entries = builds.results.entries.iter().filter(|entry| is_unbuilt(entry));
    let keys = entries.map(|entry| entry.key.as_str());
    let wanted = keys.filter(|key| BuiltKernel::of_key(key).is_some_and(|kernel| builds.is_wanted(&kernel)));
    wanted.map(|key| (key.to_owned(), context.links().test(sha.as_str(), key))).collect()
}

fn log_part(context: Context<'_>, sha: &CommitId, failed: &FailedKernels) -> Result<LogPart, Problem> {
    let mut part = LogPart {
        part: failed.part.clone(),
        error: cut(&failed.failure.error, 1000),
        excerpt: None,
        whole: None,
        cut: false,
    };
    let Ok(key) = failed.failure.test.parse::<ResultKey>() else { return Ok(part) };
    let reader = context.store.reader();
    let Some(log) = reader.open_artifact(sha, &key, LOG)? else { return Ok(part) };
    let (bytes, all) = log.read(READ_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    part.excerpt = Some(Excerpt::new(&text, &failed.failure.error));
    part.cut = !all;
    let href = format!("{}{LOG}.br", context.links().test(sha.as_str(), key.as_str()));
    part.whole = Some((href, if all { Bytes(bytes.len() as u64).to_string() } else { String::new() }));
    Ok(part)
}
