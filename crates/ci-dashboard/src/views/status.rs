//! The live status from the daemon's snapshot: workers by host, queue and fair share, branches, problems.
//!
//! The snapshot is a file of another process, so its numbers and names are not trusted.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use model::StatusSnapshot;
use model::UserName;
use model::snapshot::{BatchStatus, ExecutorStatus};

use super::Context;
use super::eta::Estimator;
use crate::http::Response;
use crate::page::{Crumb, Page, Took, When, cut};
use crate::problem::Problem;
use crate::route::{BranchRef, Format};

/// The age in seconds above which the page warns about a stale snapshot.
const STALE: i64 = 30;
/// The most jobs listed.
const JOBS_MAX: usize = 100;
/// The maximum number of finished jobs in the list.
const FINISHED_MAX: usize = 20;

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
    hosts: Vec<HostBlock>,
    queues: Vec<Queue>,
    branches: Vec<BranchLine>,
    jobs: Vec<JobLine>,
}

struct Card {
    number: String,
    label: &'static str,
}

struct HostBlock {
    name: String,
    words: String,
    workers: Vec<WorkerLine>,
}

struct WorkerLine {
    name: String,
    state: String,
    symbol: &'static str,
    class: &'static str,
    problem: Option<String>,
    batch: Option<Batch>,
}

struct Batch {
    test: String,
    current: Option<String>,
    current_href: Option<String>,
    short: String,
    href: Option<String>,
    done: u32,
    subtests: u32,
    share: u32,
    since: Option<When>,
}

struct Queue {
    user: String,
    href: String,
    pending: u64,
    weight: String,
    usage: String,
    share: u32,
    percent: u32,
}

struct BranchLine {
    name: String,
    href: String,
    tip: String,
    tip_href: Option<String>,
    error: Option<String>,
    fetched: Option<When>,
    eta: String,
}

struct JobLine {
    id: u64,
    status: String,
    name: String,
    worker: String,
    started: Option<When>,
}

/// The view.
pub fn view(context: Context<'_>, format: Format) -> Result<Response, Problem> {
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
    context.html(&StatusPage {
        page,
        written: When::unix(snapshot.written),
        started: When::unix(snapshot.started),
        version: cut(&snapshot.version, 40),
        note,
        problems: snapshot.problems.iter().take(50).map(|problem| cut(problem, 500)).collect(),
        cards: cards(&snapshot),
        first_bad_commits: results::bisections::read_named(context.store.reader().output_dir())
            .map_or(String::new(), |named| named.to_string()),
        hosts: hosts(context, &snapshot.executors),
        queues: queues(context, &snapshot),
        branches: branches(context, &snapshot),
        jobs: jobs(&snapshot),
    })
}

fn cards(snapshot: &StatusSnapshot) -> Vec<Card> {
    let busy = snapshot.executors.iter().filter(|executor| executor.batch.is_some()).count();
    let broken =
        snapshot.executors.iter().filter(|executor| Health::of(&executor.state) == Health::Broken).count();
    let pending: u64 = snapshot.pending_by_group.values().sum();
    let running = snapshot.jobs.iter().filter(|job| job.status == "running").count();
    let mut cards = vec![
        Card { number: format!("{busy}/{}", snapshot.executors.len()), label: "workers busy" },
        Card { number: running.to_string(), label: "tests running" },
        Card { number: pending.to_string(), label: "tests queued" },
    ];
    if broken > 0 {
        cards.push(Card { number: broken.to_string(), label: "workers down" });
    }
    cards
}

#[derive(PartialEq, Eq)]
enum Health {
    Busy,
    Idle,
    Broken,
}

impl Health {
    fn of(state: &str) -> Self {
        match state {
            "busy" => Self::Busy,
            "idle" => Self::Idle,
            _ => Self::Broken,
        }
    }
}

fn hosts(context: Context<'_>, executors: &[ExecutorStatus]) -> Vec<HostBlock> {
    let mut hosts: BTreeMap<&str, Vec<&ExecutorStatus>> = BTreeMap::new();
    for executor in executors {
        hosts.entry(&executor.host).or_default().push(executor);
    }
    let block = |(name, executors): (&str, Vec<&ExecutorStatus>)| {
        let busy = executors.iter().filter(|executor| executor.batch.is_some()).count();
        HostBlock {
            name: cut(if name.is_empty() { "(no name)" } else { name }, 100),
            words: format!("{busy} of {} workers busy", executors.len()),
            workers: executors.into_iter().map(|executor| worker(context, executor)).collect(),
        }
    };
    hosts.into_iter().map(block).collect()
}

fn worker(context: Context<'_>, executor: &ExecutorStatus) -> WorkerLine {
    let (symbol, class) = match Health::of(&executor.state) {
        Health::Busy => ("▸", "s-inprogress"),
        Health::Idle => ("–", "s-notrun"),
        Health::Broken => ("!", "s-failed_to_run"),
    };
    let phase = executor.batch.as_ref().map(|batch| batch.phase.as_str()).filter(|phase| !phase.is_empty());
    WorkerLine {
        name: executor.name.rsplit('/').next().map(|slot| cut(slot, 40)).unwrap_or_default(),
        state: cut(phase.unwrap_or(&executor.state), 40),
        symbol,
        class,
        problem: executor.problem.as_deref().map(|problem| cut(problem, 300)),
        batch: executor.batch.as_ref().map(|running| batch(context, running)),
    }
}

fn batch(context: Context<'_>, batch: &BatchStatus) -> Batch {
    let links = context.links();
    let commit: Option<model::CommitId> = batch.commit.parse().ok();
    let key = || {
        let test: model::TestPath = batch.test.parse().ok()?;
        let subtest: model::SubtestName = batch.current.as_deref()?.parse().ok()?;
        model::ResultKey::new(&test, None, &model::Env::default(), &subtest).ok()
    };
    let current_href =
        commit.as_ref().zip(key()).map(|(commit, key)| links.test(commit.as_str(), key.as_str()));
    Batch {
        test: cut(&batch.test, 200),
        current: batch.current.as_deref().map(|current| cut(current, 150)),
        current_href,
        short: commit.as_ref().map_or_else(|| cut(&batch.commit, 40), |commit| commit.short().into()),
        href: commit.map(|commit| links.commit(None, commit.as_str())),
        done: batch.done,
        subtests: batch.subtests,
        share: share(f64::from(batch.done), f64::from(batch.subtests)),
        since: When::unix(batch.started),
    }
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
            weight: if (0.0..1e6).contains(&weight) { format!("{weight:.2}") } else { "?".into() },
            usage: Took(std::time::Duration::from_secs_f64(seconds.round())).to_string(),
            share: part,
            percent: part / 10,
        }
    };
    users.into_iter().map(queue).collect()
}

fn branches(context: Context<'_>, snapshot: &StatusSnapshot) -> Vec<BranchLine> {
    let links = context.links();
    let estimator = Estimator::new(context, snapshot);
    let line = |branch: &model::snapshot::BranchStatus| {
        let at = BranchRef::new(&branch.user, &branch.branch);
        let tip: Option<model::CommitId> = branch.tip.as_deref().and_then(|tip| tip.parse().ok());
        BranchLine {
            name: cut(&format!("{}/{}", at.user, at.branch), 200),
            href: links.branch(&at),
            tip: tip.as_ref().map(|tip| tip.short().into()).unwrap_or_default(),
            tip_href: tip.map(|tip| links.commit(Some(&at), tip.as_str())),
            error: branch.error.as_deref().map(|error| cut(error, 300)),
            fetched: branch.fetched.and_then(When::unix),
            eta: estimator.tip(&at).to_string(),
        }
    };
    snapshot.branches.iter().map(line).collect()
}

fn jobs(snapshot: &StatusSnapshot) -> Vec<JobLine> {
    let line = |job: &model::snapshot::JobStatus| JobLine {
        id: job.id,
        status: cut(&job.status, 40),
        name: cut(&job.name, 300),
        worker: cut(job.executor.as_deref().unwrap_or(""), 100),
        started: job.started.and_then(When::unix),
    };
    // Running jobs come first, then the most recently finished ones.
    let (running, finished): (Vec<_>, Vec<_>) = snapshot.jobs.iter().partition(|job| job.status == "running");
    running
        .into_iter()
        .chain(finished.into_iter().rev().take(FINISHED_MAX))
        .take(JOBS_MAX)
        .map(line)
        .collect()
}
