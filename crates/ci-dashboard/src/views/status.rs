//! The live status from the daemon's snapshot: workers by host, queue and fair share, branches, problems.
//!
//! The snapshot is a file of another process, so its numbers and names are not trusted.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use model::snapshot::DiskStatus;
use model::{ByteSize, StatusSnapshot, UserName};

use super::Context;
use super::branch_queue::{self, BranchLine, branches};
use super::hosts::{Health, HostLine, hosts, other_problems};
use super::sorting::{self, Column, Head, PageOrder};
use crate::http::Response;
use crate::page::{Crumb, Page, Took, When, cut};
use crate::problem::Problem;
use crate::route::Format;

/// The age in seconds above which the page warns about a stale snapshot.
const STALE: i64 = 30;
/// The maximum number of running jobs in the list. The lines of the hosts show what runs.
const RUNNING_MAX: usize = 20;
/// The maximum number of finished jobs in the list.
const FINISHED_MAX: usize = 20;

/// The maximum number of file systems that are shown.
const DISKS_MAX: usize = 4;

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage<'a> {
    page: Page<'a>,
    written: Option<When>,
    started: Option<When>,
    version: String,
    note: Option<String>,
    problems: Vec<String>,
    cards: Vec<Card>,
    /// `of 214 named, 211 held`; empty if there are none.
    first_bad_commits: String,
    hosts: Vec<HostLine>,
    queue_heads: Vec<Head>,
    queues: Vec<Queue>,
    branch_heads: Vec<Head>,
    branches: Vec<BranchLine>,
    job_heads: Vec<Head>,
    jobs: Vec<JobLine>,
    /// The number of running jobs that are not listed.
    jobs_more: usize,
}

struct Card {
    number: String,
    label: String,
}

/// The columns of the queue by user.
const QUEUE_COLUMNS: [Column<Queue>; 5] = [
    Column::up(("user", "User"), "", |a, b| a.user.cmp(&b.user)),
    Column::down(("pending", "Queued"), "num", |a, b| b.pending.cmp(&a.pending)),
    Column::down(("weight", "Weight"), "num", |a, b| b.weight_order.total_cmp(&a.weight_order)),
    Column::down(("usage", "Recent usage"), "num", |a, b| b.share.cmp(&a.share)),
    Column::plain_in("Share of usage", "cap"),
];

/// The columns of the recent jobs.
const JOB_COLUMNS: [Column<JobLine>; 5] = [
    Column::down(("job", "Job"), "", |a, b| b.id.cmp(&a.id)),
    Column::up(("job-state", "State"), "", |a, b| a.status.cmp(&b.status)),
    Column::up(("name", "Name"), "cap", |a, b| a.name.cmp(&b.name)),
    Column::up(("worker", "Worker"), "", |a, b| a.worker.cmp(&b.worker)),
    Column::down(("started", "Started"), "num", |a, b| b.started.cmp(&a.started)),
];

struct Queue {
    user: String,
    href: String,
    pending: u64,
    weight: String,
    weight_order: f64,
    usage: String,
    share: u32,
    percent: u32,
}

struct JobLine {
    id: u64,
    status: String,
    name: String,
    worker: String,
    started: Option<When>,
}

/// The view.
pub fn view(context: Context<'_>, sort: Option<&str>, format: Format) -> Result<Response, Problem> {
    let snapshot = context.store.reader().snapshot()?;
    if format == Format::Json {
        let snapshot =
            snapshot.ok_or_else(|| Problem::NotFound("ci-daemon has not written its status yet".into()))?;
        return context.json(&snapshot);
    }
    let mut page = Page::new("Live status", context.links(), vec![Crumb::here("status")]);
    page.live = 2;
    page.json = Some(context.json_address());
    let note = match &snapshot {
        None => {
            Some("ci-daemon has not written its status yet. Start it with: ci-daemon --config FILE".into())
        }
        Some(snapshot) if context.now - snapshot.written > STALE => {
            Some("ci-daemon seems to have stopped: the status is out of date.".into())
        }
        Some(_) => None,
    };
    let snapshot = snapshot.unwrap_or_default();
    let (mut jobs, jobs_more) = jobs(&snapshot);
    let (mut queues, mut branches) = (queues(context, &snapshot), branches(context, &snapshot));
    let names = sorting::names(&QUEUE_COLUMNS).chain(sorting::names(&branch_queue::COLUMNS));
    let address = context.links().status();
    let order = PageOrder::new(sort, &address, names.chain(sorting::names(&JOB_COLUMNS)))?;
    context.html(&StatusPage {
        page,
        written: When::unix(snapshot.written),
        started: When::unix(snapshot.started),
        version: cut(&snapshot.version, 40),
        note,
        problems: other_problems(&snapshot).take(50).map(|problem| cut(problem, 500)).collect(),
        cards: cards(&snapshot),
        first_bad_commits: results::bisections::read_named(context.store.reader().output_dir())
            .map_or(String::new(), |named| named.to_string()),
        hosts: hosts(context, &snapshot),
        queue_heads: order.sort(&mut queues, &QUEUE_COLUMNS)?,
        queues,
        branch_heads: order.sort(&mut branches, &branch_queue::COLUMNS)?,
        branches,
        job_heads: order.sort(&mut jobs, &JOB_COLUMNS)?,
        jobs,
        jobs_more,
    })
}

fn cards(snapshot: &StatusSnapshot) -> Vec<Card> {
    let busy = snapshot.executors.iter().filter(|executor| executor.batch.is_some()).count();
    let broken = snapshot.executors.iter().filter(|executor| Health::of(executor) == Health::Broken).count();
    let pending: u64 = snapshot.pending_by_group.values().sum();
    let running = snapshot.jobs.iter().filter(|job| job.status == "running").count();
    let mut cards = vec![
        Card { number: format!("{busy}/{}", snapshot.executors.len()), label: "workers busy".into() },
        Card { number: running.to_string(), label: "tests running".into() },
        Card { number: pending.to_string(), label: "tests queued".into() },
    ];
    if broken > 0 {
        cards.push(Card { number: broken.to_string(), label: "workers down".into() });
    }
    let drained =
        snapshot.executors.iter().filter(|executor| Health::of(executor) == Health::Drained).count();
    if drained > 0 {
        cards.push(Card { number: drained.to_string(), label: "workers drained".into() });
    }
    let disk = |disk: &DiskStatus| {
        let files = if disk.name == "cache" { "kernels" } else { "results" };
        Card {
            number: ByteSize(disk.free).rounded(),
            label: format!("free of {} for {files}", ByteSize(disk.total).rounded()),
        }
    };
    cards.extend(snapshot.disks.iter().take(DISKS_MAX).map(disk));
    cards
}

/// The fraction of `part` in `whole`, in thousandths.
fn share(part: f64, whole: f64) -> u32 {
    let share = (part / whole * 1000.0).round();
    if share.is_finite() && share > 0.0 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
        let share = share.min(1000.0) as u32;
        share
    } else {
        0
    }
}

fn queues(context: Context<'_>, snapshot: &StatusSnapshot) -> Vec<Queue> {
    let users: BTreeSet<&UserName> =
        snapshot.pending_by_group.keys().chain(snapshot.fairshare.keys()).collect();
    let total: f64 = snapshot.fairshare.values().sum();
    let queue = |user: &UserName| {
        let of = |table: &BTreeMap<UserName, f64>| table.get(user).copied().unwrap_or_default();
        let (usage, weight) = (of(&snapshot.fairshare), of(&snapshot.weights));
        let part = share(usage, total);
        let seconds = if usage.is_finite() { usage.clamp(0.0, 1e9) } else { 0.0 };
        Queue {
            user: cut(user.as_str(), 100),
            href: context.links().user(user),
            pending: snapshot.pending_by_group.get(user).copied().unwrap_or(0),
            weight_order: weight,
            weight: if (0.0..1e6).contains(&weight) { format!("{weight:.2}") } else { "?".into() },
            usage: Took(std::time::Duration::from_secs_f64(seconds.round())).to_string(),
            share: part,
            percent: part / 10,
        }
    };
    users.into_iter().map(queue).collect()
}

/// Running jobs first, then the most recently ended ones; and the number of running jobs left out.
fn jobs(snapshot: &StatusSnapshot) -> (Vec<JobLine>, usize) {
    let line = |job: &model::snapshot::JobStatus| JobLine {
        id: job.id,
        status: cut(&job.status, 40),
        name: cut(&job.name, 300),
        worker: cut(job.executor.as_deref().unwrap_or(""), 100),
        started: job.started.and_then(When::unix),
    };
    let (running, finished): (Vec<_>, Vec<_>) = snapshot.jobs.iter().partition(|job| job.status == "running");
    let more = running.len().saturating_sub(RUNNING_MAX);
    let finished = finished.into_iter().rev().take(FINISHED_MAX);
    (running.into_iter().take(RUNNING_MAX).chain(finished).map(line).collect(), more)
}
