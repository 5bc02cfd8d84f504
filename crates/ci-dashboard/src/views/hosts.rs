//! The hosts of the status page: one line each, which unfolds to its workers. Hosts with problems are first.
//!
//! The snapshot is a file of another process, so its numbers and names are not trusted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::snapshot::{BatchStatus, ExecutorStatus, HostStatus};

use model::{BranchRef, HostOrSlot, StatusSnapshot, Stopped};

use super::Context;
use crate::page::{Plural as _, When, cut};
use crate::route::ControlAction;

/// The hosts of a farm with at most this many workers are unfolded: they fit on a screen.
const UNFOLDED_MAX: usize = 12;
/// The most different activities named of a host.
const ACTIVITIES_MAX: usize = 6;
/// The activities in the order in which they are named. Others are before `idle`.
const ACTIVITIES: [&str; 3] = ["building", "booting", "testing"];

/// A host.
pub(super) struct HostLine {
    pub(super) id: String,
    pub(super) name: String,
    /// `7 of 8 busy`.
    pub(super) busy: String,
    /// `2 building, 5 testing, 1 idle`.
    pub(super) activities: String,
    /// `load 87 %, 412 tests per hour`; empty if nothing is known.
    pub(super) figures: String,
    /// `31 % building, 5 % booting, 50 % testing, 14 % idle`, of the time since then.
    pub(super) shares: Option<(String, Option<When>)>,
    pub(super) class: &'static str,
    pub(super) symbol: &'static str,
    pub(super) problem: Option<String>,
    /// `3 infrastructure errors`; empty if there are none.
    pub(super) errors: String,
    pub(super) last_error: Option<When>,
    /// Who drained all of it.
    pub(super) drained: Option<StoppedLine>,
    /// The form that drains or resumes it: label, address.
    pub(super) control: Option<(&'static str, String)>,
    /// `3.1 GiB of 64.0 GiB memory free, ...`, and when it was measured; empty if nothing is known.
    pub(super) report: String,
    pub(super) reported: Option<When>,
    pub(super) is_open: bool,
    pub(super) workers: Vec<WorkerLine>,
}

/// Who stopped something.
pub(super) struct StoppedLine {
    /// `by kmo: new disk`.
    pub(super) words: String,
    pub(super) at: Option<When>,
}

impl StoppedLine {
    /// Who paused a branch.
    pub(super) fn of_branch(snapshot: &StatusSnapshot, at: &BranchRef) -> Option<Self> {
        let paused = snapshot.paused.iter().find(|paused| paused.branch == *at)?;
        Some(Self::of(&paused.stopped))
    }

    pub(super) fn of(stopped: &Stopped) -> Self {
        Self { words: cut(&stopped.to_string(), 400), at: When::unix(stopped.at) }
    }
}

pub(super) struct WorkerLine {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) class: &'static str,
    pub(super) problem: Option<String>,
    pub(super) batch: Option<Batch>,
    /// Who drained it, if not the whole host is drained.
    pub(super) drained: Option<StoppedLine>,
    /// The form that cancels its batch, drains or resumes it: label, address.
    pub(super) control: Option<(&'static str, String)>,
}

pub(super) struct Batch {
    pub(super) test: String,
    pub(super) current: Option<String>,
    pub(super) current_href: Option<String>,
    pub(super) short: String,
    pub(super) href: Option<String>,
    /// `2 of 3`.
    pub(super) done: String,
    pub(super) since: Option<When>,
}

/// Whether a worker can run batches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Busy,
    Idle,
    Drained,
    Broken,
}

impl Health {
    pub(super) fn of(executor: &ExecutorStatus) -> Self {
        match executor.state.as_str() {
            "busy" => Self::Busy,
            "idle" => Self::Idle,
            "drained" => Self::Drained,
            _ => Self::Broken,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Busy => "s-inprogress",
            Self::Idle | Self::Drained => "s-notrun",
            Self::Broken => "s-failed_to_run",
        }
    }
}

/// The order of the hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// No worker is usable.
    Down,
    /// Some workers are not usable, or there were infrastructure errors.
    Sick,
    /// No worker takes batches.
    Drained,
    Busy,
    Idle,
}

/// The jobs of a host that ended recently with an infrastructure error.
#[derive(Default)]
struct Errors {
    count: usize,
    last: i64,
}

/// The hosts, in the order of the page.
pub(super) fn hosts(context: Context<'_>, snapshot: &StatusSnapshot) -> Vec<HostLine> {
    let mut hosts: BTreeMap<&str, Vec<&ExecutorStatus>> = BTreeMap::new();
    for executor in &snapshot.executors {
        hosts.entry(&executor.host).or_default().push(executor);
    }
    let mut errors = errors(snapshot);
    let is_open = hosts.len() == 1 || snapshot.executors.len() <= UNFOLDED_MAX;
    let line = |(name, executors): (&str, Vec<&ExecutorStatus>)| {
        let errors = errors.remove(name).unwrap_or_default();
        let rank = rank(&executors, &errors);
        (rank, host(context, snapshot, name, (&executors, &errors, rank), is_open))
    };
    let mut lines: Vec<(Rank, HostLine)> = hosts.into_iter().map(line).collect();
    lines.sort_by_key(|(rank, _)| *rank);
    lines.into_iter().map(|(_, line)| line).collect()
}

fn errors(snapshot: &StatusSnapshot) -> HashMap<&str, Errors> {
    let host_of: HashMap<&str, &str> =
        snapshot.executors.iter().map(|executor| (executor.name.as_str(), executor.host.as_str())).collect();
    let mut errors: HashMap<&str, Errors> = HashMap::new();
    for job in snapshot.jobs.iter().filter(|job| job.status == "failed") {
        let Some(host) = job.executor.as_deref().and_then(|executor| host_of.get(executor)) else { continue };
        let of_host = errors.entry(host).or_default();
        of_host.count += 1;
        let ended = job.started.unwrap_or(0).saturating_add_unsigned(job.elapsed_secs);
        of_host.last = of_host.last.max(ended);
    }
    errors
}

fn rank(executors: &[&ExecutorStatus], errors: &Errors) -> Rank {
    let has = |health| executors.iter().any(|executor| Health::of(executor) == health);
    match (has(Health::Broken), has(Health::Busy), has(Health::Idle)) {
        (true, false, false) => Rank::Down,
        (true, ..) => Rank::Sick,
        _ if errors.count > 0 => Rank::Sick,
        (_, false, false) => Rank::Drained,
        (_, true, _) => Rank::Busy,
        _ => Rank::Idle,
    }
}

fn host(
    context: Context<'_>,
    snapshot: &StatusSnapshot,
    name: &str,
    (executors, errors, rank): (&[&ExecutorStatus], &Errors, Rank),
    is_open: bool,
) -> HostLine {
    let busy = executors.iter().filter(|executor| executor.batch.is_some()).count();
    let figures = snapshot.hosts.iter().find(|host| host.name == name);
    let drained =
        snapshot.drained.iter().find(|it| it.place.host.as_str() == name && it.place.slot.is_none());
    let drained_slots = snapshot.drained.iter().any(|it| it.place.host.as_str() == name);
    let action = if drained_slots { ControlAction::Resume } else { ControlAction::Drain };
    let (symbol, class) = match rank {
        Rank::Down => ("✗", "s-failed"),
        Rank::Sick => ("!", "s-failed_to_run"),
        Rank::Drained => ("‖", "s-notrun"),
        Rank::Busy => ("▸", "s-inprogress"),
        Rank::Idle => ("–", "s-notrun"),
    };
    let host_name = name.to_owned();
    let name = cut(if name.is_empty() { "(no name)" } else { name }, 100);
    HostLine {
        id: name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect(),
        name,
        busy: format!("{busy} of {} busy", executors.len()),
        activities: activities(executors),
        figures: figures.map_or(String::new(), |figures| figures_words(figures, context.now)),
        shares: figures.and_then(|figures| Some((figures.shares()?, When::unix(figures.since)))),
        class,
        symbol,
        problem: problem(executors),
        errors: match errors.count {
            0 => String::new(),
            count => count.plural("infrastructure error").to_string(),
        },
        last_error: When::unix(errors.last),
        drained: drained.map(|it| StoppedLine::of(&it.stopped)),
        control: control(context, action, &host_name, None),
        report: figures.and_then(|figures| figures.report).map_or(String::new(), |report| report.to_string()),
        reported: figures.and_then(|figures| When::unix(figures.reported?)),
        is_open,
        workers: executors
            .iter()
            .map(|executor| worker(context, snapshot, executor, drained.is_some()))
            .collect(),
    }
}

/// `load 87 %, 412 tests per hour`.
fn figures_words(figures: &HostStatus, now: i64) -> String {
    let load = figures.load.map(|load| format!("load {load} %"));
    let tests = (figures.tests > 0).then(|| {
        let tests = usize::try_from(figures.tests_per_hour(now)).unwrap_or(usize::MAX);
        format!("{} per hour", tests.plural("test"))
    });
    load.into_iter().chain(tests).collect::<Vec<_>>().join(", ")
}

/// What a worker does, in one or two words.
fn activity(executor: &ExecutorStatus) -> &str {
    let phase = executor.batch.as_ref().map(|batch| batch.phase.as_str());
    phase.filter(|phase| !phase.is_empty()).unwrap_or(&executor.state)
}

/// `2 building, 5 testing, 1 idle`.
fn activities(executors: &[&ExecutorStatus]) -> String {
    let mut counts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for executor in executors {
        let word = activity(executor);
        let known = ACTIVITIES.iter().position(|activity| *activity == word);
        let place = known.unwrap_or(ACTIVITIES.len() + usize::from(word == "idle"));
        *counts.entry((place, word)).or_default() += 1;
    }
    let more = counts.len().saturating_sub(ACTIVITIES_MAX);
    let mut words: Vec<String> = counts
        .iter()
        .take(ACTIVITIES_MAX)
        .map(|((_, word), count)| {
            format!("{count} {}", cut(if word.is_empty() { "unknown" } else { word }, 40))
        })
        .collect();
    if more > 0 {
        words.push(format!("{more} other states"));
    }
    words.join(", ")
}

/// The problem that most workers of a host have.
fn problem(executors: &[&ExecutorStatus]) -> Option<String> {
    let broken = executors.iter().filter(|executor| Health::of(executor) == Health::Broken);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for problem in broken.filter_map(|executor| executor.problem.as_deref()) {
        *counts.entry(problem).or_default() += 1;
    }
    let (problem, _) = counts.iter().max_by_key(|(_, count)| **count)?;
    let more = match counts.len() - 1 {
        0 => String::new(),
        others => format!(" (and {})", others.plural("other problem")),
    };
    Some(format!("{}{more}", cut(problem, 300)))
}

/// The label and the address of the form for an action, if this site accepts requests.
pub(super) fn control(
    context: Context<'_>,
    action: ControlAction,
    at: &str,
    batch: Option<i64>,
) -> Option<(&'static str, String)> {
    let label = match action {
        ControlAction::Drain => "drain",
        ControlAction::Resume | ControlAction::ResumeBranch => "resume",
        ControlAction::Cancel => "cancel",
        ControlAction::Pause => "pause",
    };
    context.reruns.then(|| (label, context.links().control(action, at, batch)))
}

fn worker(
    context: Context<'_>,
    snapshot: &StatusSnapshot,
    executor: &ExecutorStatus,
    is_host_drained: bool,
) -> WorkerLine {
    let is_own = |place: &HostOrSlot| place.slot.is_some() && place.has(&executor.name);
    let drained = snapshot.drained.iter().find(|drained| is_own(&drained.place));
    let (action, batch_start) = match &executor.batch {
        Some(batch) => (Some(ControlAction::Cancel), Some(batch.started)),
        None if drained.is_some() => (Some(ControlAction::Resume), None),
        // The host is resumed.
        None if is_host_drained => (None, None),
        None => (Some(ControlAction::Drain), None),
    };
    WorkerLine {
        name: executor.name.rsplit('/').next().map(|slot| cut(slot, 40)).unwrap_or_default(),
        state: cut(activity(executor), 40),
        class: Health::of(executor).class(),
        problem: executor.problem.as_deref().map(|problem| cut(problem, 300)),
        batch: executor.batch.as_ref().map(|running| batch(context, running)),
        drained: drained.map(|drained| StoppedLine::of(&drained.stopped)),
        control: action.and_then(|action| control(context, action, &executor.name, batch_start)),
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
        done: format!("{} of {}", batch.done, batch.subtests),
        since: When::unix(batch.started),
    }
}

/// The problems that no line of a host shows.
pub(super) fn other_problems(snapshot: &StatusSnapshot) -> impl Iterator<Item = &str> {
    let broken = snapshot.executors.iter().filter(|executor| Health::of(executor) == Health::Broken);
    let names: BTreeSet<&str> = broken.map(|executor| executor.name.as_str()).collect();
    let is_of_worker = move |problem: &str| {
        let rest = problem.strip_prefix("executor ").unwrap_or("");
        rest.split_once(" is quarantined: ").is_some_and(|(name, _)| names.contains(name))
    };
    snapshot.problems.iter().map(String::as_str).filter(move |problem| !is_of_worker(problem))
}
