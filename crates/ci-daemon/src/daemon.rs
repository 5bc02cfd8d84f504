//! The daemon: connects the fetch loop, the farm, the executors and the publisher, and runs until nothing is left to do
//! or a signal stops it.
//!
//! Invariant: no reported verdict is lost when the daemon is stopped or killed at any time. The next start clears the
//! marks of running tests and repeats every job without a verdict.

mod left;
mod signals;

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::ConfigError;
use fsx::clock::unix_seconds as now;
use jobkit::{Choir, ChoirConfig, End, LogConfig, Shutdown};
use model::StatusSnapshot;
use results::bisections::{self, BisectionRecord};
use results::requests::RequestKind;
use results::{Error, Tuning, Writer};
use std::sync::Arc;
use tokio::signal::unix::SignalKind;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use self::signals::{Signals, forward, listen};
use crate::audit::{AuditAction, AuditLog};
use crate::bisect;
use crate::bisect::repository::GitAnswer;
use crate::executor::placement;
use crate::executor::pool::ExecutorPool;
use crate::executor::run::ExecutorEvent;
use crate::farm::{Command, Farm, FarmEvent, Identity, RecordedVerdicts, unconfirmed};
use crate::findings::FindingRecorder;
use crate::inherit::{inherit, unchecked};
use crate::known_failures::Rejudge;
use crate::missing_kernels::MissingKernels;
use crate::plan::PlannedJob;
use crate::publisher::Publisher;
use crate::pushes::PushRecorder;
use crate::report::progress::Progress;
use crate::senders::{self, Senders};
use crate::soak::OpenClaims;
use crate::watch::fetch_loop::{FetchLoop, View, listing_store};
use crate::watch::hook::HookListener;
use crate::watch::local;
use crate::{build_check, quota, requests, retention, service};

/// The interval at which requests are read.
const REQUESTS: Duration = Duration::from_secs(1);
/// The interval at which the status snapshot is written.
const SNAPSHOT: Duration = Duration::from_secs(2);
/// The interval at which expired results are removed, and first bad commits are chosen to be verified again.
const RETENTION: Duration = Duration::from_secs(3600);
/// The first cycle of `--once` waits for slow remotes up to their own time limits.
const FIRST: Duration = Duration::from_secs(3600);
/// Up to this number, the remaining jobs are counted exactly for the progress display.
const COUNTED: usize = 100_000;
/// The time for executors to stop their batches.
const ABORT_GRACE: Duration = Duration::from_secs(8);
/// The signals that stop the daemon.
pub const STOP_SIGNALS: [SignalKind; 2] = [SignalKind::terminate(), SignalKind::interrupt()];
/// The maximum time from such a signal until the process exits, even if a file system hangs.
pub const STOP: Duration = Duration::from_millis(9500);
/// The time for a run to exit after its last verdict when nothing else is left to do.
const LAST: Duration = Duration::from_secs(60);

/// The options of the daemon.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The `ktest` command.
    pub ktest: PathBuf,
    /// End when nothing is left to do.
    pub once: bool,
    /// Test at most this number of jobs.
    pub limit: Option<usize>,
    /// Test again what failed to run.
    pub clear_failed_to_run: bool,
}

/// How the daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was left to do.
    Done,
    /// Nothing was left to do for the branches that could be read, on the kernels that could be had. The problems of the
    /// others are listed.
    Unread(Vec<String>),
    /// A signal stopped it.
    Stopped,
}

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is invalid at the start.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The result store.
    #[error(transparent)]
    Results(#[from] Error),
    /// The `ktest` command does not exist.
    #[error("{}: no such command; install ktest next to ci-daemon, or give --ktest PATH", .0.display())]
    NoKtest(PathBuf),
    /// There are no slots.
    #[error("no host can run anything; add [host.local] with slots = N to the configuration")]
    NoHosts,
    /// No branch could be fetched.
    #[error("no branch could be fetched; the first error: {0}")]
    NoBranches(String),
    /// An operating system error.
    #[error("{action}: {source}")]
    Io {
        /// The failed action.
        action: &'static str,
        /// The reason.
        source: std::io::Error,
    },
}

/// Runs the daemon. Must be called on a multi-threaded runtime.
pub async fn run(options: &Options, progress: &mut Progress) -> Result<Ending, DaemonError> {
    if !options.ktest.is_file() {
        return Err(DaemonError::NoKtest(options.ktest.clone()));
    }
    let mut signals = Signals::listen()?;
    let fetch_signal = listen(SignalKind::user_defined1())?;
    let mut fetch_loop = FetchLoop::new(&options.config, &listing_store())?;
    let top = &fetch_loop.config().top;
    let tuning = Tuning {
        compat_tree: top.compat_tree,
        retry_failed_to_run: options.clear_failed_to_run,
        ..Tuning::default()
    };
    let writer = open(&top.output_dir, tuning).await?;
    let identity = Identity { started: now(), pid: std::process::id() };
    let output_dir = writer.output_dir().display();
    tracing::info!(config = %options.config.display(), %output_dir, "ci-daemon starts");
    write_first_snapshot(&writer, identity)?;
    for branch in local::list_branches(fetch_loop.config(), &writer).await {
        tracing::info!(%branch, "listed as it was last fetched");
    }
    progress.message("fetching the branches");
    let first = tokio::select! {
        view = fetch_loop.cycle_once(if options.once { FIRST } else { Duration::ZERO }) => view,
        () = signals.stop() => return Ok(Ending::Stopped),
    };
    if options.once {
        check_first(&first)?;
    }
    let (views_to, views) = mpsc::channel(1);
    let (fetch_now_to, fetch_now) = watch::channel(());
    let audit = AuditLog::of(writer.output_dir());
    let hook = HookListener::new(fetch_now_to.clone(), audit.clone());
    let (mut parts, inbox) = Parts::new(options, first, writer, identity, progress, hook, views);
    let fetching = tokio::spawn(fetch_loop.run(views_to, fetch_now));
    let fetch_signals = tokio::spawn(forward(fetch_signal, fetch_now_to, audit));
    service::ready();
    let ending = tokio::select! {
        () = signals.stop() => Ending::Stopped,
        () = parts.drive(inbox) => Ending::Done,
    };
    service::stopping();
    fetch_signals.abort();
    // Stops the fetches as well.
    fetching.abort();
    let unread: Vec<String> =
        parts.farm.view().fetch_errors().chain(parts.missing_kernels.errors()).collect();
    tokio::select! {
        () = parts.end(&ending) => {}
        () = signals.stop() => tracing::warn!("stopped immediately"),
    }
    Ok(if ending == Ending::Done && !unread.is_empty() { Ending::Unread(unread) } else { ending })
}

/// Replaces the snapshot of the previous daemon.
fn write_first_snapshot(writer: &Writer, identity: Identity) -> Result<(), DaemonError> {
    let Identity { started, pid } = identity;
    let version = model::build::version().into();
    writer.write_snapshot(&StatusSnapshot {
        written: started,
        started,
        pid,
        version,
        ..Default::default()
    })?;
    Ok(())
}

/// Opens the results for writing, for a daemon that has just started.
async fn open(output_dir: &Path, tuning: Tuning) -> Result<Writer, DaemonError> {
    let writer = Writer::open_with(output_dir, tuning)?;
    let opened = writer.opened();
    if opened.imported.commits > 0 {
        let results::Imported { commits, tests, attempts, .. } = opened.imported;
        tracing::info!("imported into results.db: {commits} commits, {tests} verdicts, {attempts} attempts");
    }
    if opened.unpublished > 0 {
        tracing::info!("the files of {} commits are published again", opened.unpublished);
    }
    // Remove unpublished files of interrupted runs. The store is locked, so no run writes there.
    clear_work(&output_dir.join(crate::WORK));
    let stale = writer.clear_stale_in_progress().await?;
    if stale > 0 {
        tracing::info!("{stale} tests were running when the last daemon ended; they run again");
    }
    Ok(writer)
}

fn clear_work(dir: &Path) {
    let Ok(entries) = fsx::own::list(dir) else { return };
    for path in entries.into_iter().map(|entry| entry.path).filter(|path| path.is_dir()) {
        if let Err(error) = fsx::own::remove_tree(&path) {
            tracing::warn!("{error}");
        }
    }
}

/// With `--once`, a farm without hosts or branches is an error.
fn check_first(view: &View) -> Result<(), DaemonError> {
    if placement::slots(&view.config).is_empty() {
        return Err(DaemonError::NoHosts);
    }
    let nothing = view.branches.values().all(|branch| branch.commits.is_empty());
    let error = view.branches.values().find_map(|branch| branch.error.clone());
    match error {
        Some(error) if nothing => Err(DaemonError::NoBranches(error)),
        _ => Ok(()),
    }
}

/// The channels on which the daemon receives.
#[derive(Debug)]
struct Inbox {
    /// New views of the fetch loop.
    views: mpsc::Receiver<View>,
    /// Jobs that end.
    ends: mpsc::UnboundedReceiver<End<Arc<PlannedJob>>>,
    /// Reports from the executors.
    events: mpsc::UnboundedReceiver<ExecutorEvent>,
    /// The answers of repositories to bisections.
    answers: mpsc::UnboundedReceiver<(String, GitAnswer)>,
}

/// The work of each hour, in the background.
#[derive(Default)]
struct HourlyTasks {
    remover: Option<JoinHandle<()>>,
    measuring: Option<JoinHandle<quota::Usage>>,
    rechecks: Option<JoinHandle<Vec<BisectionRecord>>>,
}

/// The parts of the running daemon.
struct Parts<'a> {
    once: bool,
    /// The view that has not been applied yet.
    first: Option<View>,
    choir: Choir<Arc<PlannedJob>>,
    farm: Farm,
    executors: ExecutorPool,
    publisher: Publisher,
    progress: &'a mut Progress,
    hook: HookListener,
    hook_problem: Option<String>,
    missing_kernels: MissingKernels,
    /// The problem of the `ktest` command.
    ktest_problem: watch::Receiver<Option<String>>,
    /// The disk usage of the users with a quota.
    usage: quota::Usage,
    open_claims: OpenClaims,
    rejudge: Rejudge,
    findings: FindingRecorder,
    senders: Senders,
    /// `None` at the end.
    pushes: Option<PushRecorder>,
}

impl<'a> Parts<'a> {
    fn new(
        options: &Options,
        first: View,
        writer: Writer,
        identity: Identity,
        progress: &'a mut Progress,
        hook: HookListener,
        views: mpsc::Receiver<View>,
    ) -> (Self, Inbox) {
        let choir = Choir::new(ChoirConfig {
            window: first.config.top.window,
            batch_min: Some(first.config.top.batch_duration_min),
            abort_grace: ABORT_GRACE,
            logs: Some(LogConfig::new(writer.output_dir().join(crate::LOGS))),
            ..ChoirConfig::default()
        });
        let (executors, events) =
            ExecutorPool::new(choir.clone(), writer.clone(), options.ktest.clone(), &first);
        let (verdicts, output_dir) = (RecordedVerdicts::new(writer.clone()), writer.output_dir());
        let farm = Farm::new(first.clone(), choir.clone(), verdicts, output_dir.into(), identity);
        let farm = farm.limited_to(options.limit).with_controls(left::controls(output_dir));
        let pushes = Some(PushRecorder::start(writer.reader()));
        let (answers_to, answers) = mpsc::unbounded_channel();
        let inbox = Inbox { views, ends: choir.ends(), events, answers };
        let parts = Self {
            once: options.once,
            first: Some(first),
            choir,
            farm,
            executors,
            publisher: Publisher::new(writer, answers_to),
            progress,
            hook,
            hook_problem: None,
            missing_kernels: MissingKernels::default(),
            ktest_problem: build_check::start(options.ktest.clone()),
            usage: quota::Usage::new(),
            open_claims: OpenClaims::default(),
            rejudge: Rejudge::default(),
            findings: FindingRecorder::default(),
            senders: Senders::default(),
            pushes,
        };
        (parts, inbox)
    }

    /// Runs the daemon. Returns only with `--once`, when nothing is left to do.
    async fn drive(&mut self, mut inbox: Inbox) {
        let mut snapshots = ticks(SNAPSHOT);
        let mut requests = ticks(REQUESTS);
        let mut retention = ticks(RETENTION);
        let mut hourly = HourlyTasks::default();
        if let Some(first) = self.first.take() {
            self.view_once(first).await;
        }
        let records = bisections::list(self.publisher.writer().output_dir());
        self.farm.resume_bisections(records);
        self.farm.resume_claims(results::claims::list(self.publisher.writer().output_dir()));
        let snapshot = self.snapshot_once();
        self.findings.begin(self.publisher.writer(), &self.farm.view().config, &snapshot, now()).await;
        let mut left = Some(self.find_left());
        self.requests_once(true).await;
        loop {
            let mut changed = true;
            tokio::select! {
                Some(view) = inbox.views.recv() => self.view_once(view).await,
                Some(end) = inbox.ends.recv() => {
                    self.job_ended(end, &mut inbox).await;
                    while let Ok(end) = inbox.ends.try_recv() {
                        self.job_ended(end, &mut inbox).await;
                    }
                }
                Some(event) = inbox.events.recv() => {
                    self.executor_event(event).await;
                    changed = false;
                }
                Some((id, answer)) = inbox.answers.recv() => self.farm.repository_answered(&id, answer),
                found = found(&mut left) => self.continue_with(found).await,
                records = found(&mut hourly.rechecks) => self.farm.recheck(records),
                _ = snapshots.tick() => {
                    let snapshot = self.snapshot_once();
                    let (writer, config) = (self.publisher.writer(), &self.farm.view().config);
                    self.findings.step(writer, config, &snapshot, now()).await;
                    self.senders.step(writer, config, now()).await;
                    service::alive();
                    changed = false;
                }
                _ = requests.tick() => self.requests_once(false).await,
                usage = found(&mut hourly.measuring) => {
                    self.usage = usage;
                    changed = false;
                }
                _ = retention.tick() => self.start_hourly(&mut hourly),
            }
            if !changed {
                continue;
            }
            self.farm.refill();
            self.bisections_and_claims().await;
            if self.once && self.is_over(&mut inbox).await && left.is_none() {
                return;
            }
        }
    }

    /// Whether nothing is left to do. Events that have arrived are handled first, because they may cause more work.
    async fn is_over(&mut self, inbox: &mut Inbox) -> bool {
        if !inbox.ends.is_empty() || !self.farm.is_done() {
            return false;
        }
        self.arrived_events(inbox).await;
        self.farm.is_done()
    }

    /// Handles the end of a job, after its verdict, which decides whether the job runs again.
    async fn job_ended(&mut self, end: End<Arc<PlannedJob>>, inbox: &mut Inbox) {
        self.arrived_events(inbox).await;
        self.handle(FarmEvent::JobEnded(end)).await;
    }

    async fn arrived_events(&mut self, inbox: &mut Inbox) {
        while let Ok(event) = inbox.events.try_recv() {
            self.executor_event(event).await;
        }
    }

    async fn handle(&mut self, event: FarmEvent) {
        let commands = self.farm.handle(event);
        self.carry_out(commands).await;
    }

    async fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            if let Some((job, verdict)) = self.publisher.carry_out(command).await {
                if let Some(verdict) = &verdict {
                    self.progress.verdict(&job, verdict, Duration::ZERO);
                }
                self.farm.handle(FarmEvent::Abandoned { job, verdict });
            }
        }
    }

    async fn executor_event(&mut self, event: ExecutorEvent) {
        if let ExecutorEvent::Verdict { job, verdict, duration, .. } = &event {
            self.progress.verdict(job, verdict, *duration);
        }
        if let ExecutorEvent::KernelNotFound { kernel, cause, .. } = &event {
            self.missing_kernels.report(kernel.clone(), cause.clone(), now());
            self.take_view(self.farm.view().clone()).await;
        }
        self.handle(FarmEvent::Executor(event)).await;
        self.progress.batches(self.farm.batches());
    }

    async fn view_once(&mut self, mut view: View) {
        self.executors.take_view(&view, self.farm.controls());
        if let Err(error) = self.publisher.writer().set_compat_tree(view.config.top.compat_tree) {
            tracing::error!("{error}");
        }
        let listed = self.publisher.list_branches(&view).await;
        if let Some(pushes) = &self.pushes {
            pushes.record(&view, &listed);
        }
        self.rejudge.take_view(self.publisher.writer(), &view, &listed, now());
        let heirs = inherit(self.publisher.writer(), &view.config, &listed).await;
        quota::apply(&mut view, &self.usage);
        self.hook_problem = self.hook.set(view.config.hook.as_ref()).await;
        let config = Arc::clone(&view.config);
        self.take_view(view).await;
        if !heirs.is_empty() {
            // An inherited failure may not be confirmed yet.
            self.publisher.flush().await;
            let reader = self.publisher.writer().reader();
            let left = unconfirmed(&reader, &heirs, config.top.confirm_failures);
            self.handle(FarmEvent::Unconfirmed(left)).await;
            self.handle(FarmEvent::Unchecked(unchecked(&reader, &config, &heirs))).await;
        }
    }

    async fn take_view(&mut self, mut view: View) {
        self.missing_kernels.apply(&mut view, now());
        let commands = {
            let (history, fail_under_load) = self.publisher.history(&view.config);
            self.farm.run_alone(fail_under_load);
            self.farm.take_view(view, history)
        };
        self.carry_out(commands).await;
        let farm = &mut self.farm;
        self.progress.left(|| farm.left(COUNTED));
    }

    /// Handles new requests. If `taken` is set, also those that an earlier daemon took and did not finish.
    async fn requests_once(&mut self, taken: bool) {
        let found = requests::take(self.publisher.writer().output_dir(), taken);
        for problem in found.problems {
            tracing::warn!("{problem}");
        }
        let audit = AuditLog::of(self.publisher.writer().output_dir());
        for request in found.requests {
            if let Some(requester) = &request.requester {
                audit.record(AuditAction::from(&request.kind), requester.clone());
            }
            self.publisher.note_request(&request);
            match &request.kind {
                RequestKind::Notify(notify) => {
                    let (writer, config) = (self.publisher.writer(), &self.farm.view().config);
                    senders::begin_request(writer, config, notify.clone(), request.file, now());
                }
                _ => self.handle(FarmEvent::Request(request)).await,
            }
        }
        self.apply_controls().await;
    }

    fn snapshot_once(&mut self) -> StatusSnapshot {
        let mut problems = self.publisher.problems();
        problems.extend(self.hook_problem.clone());
        problems.extend(self.senders.problems());
        problems.extend(self.ktest_problem.borrow().clone());
        let snapshot = self.farm.snapshot(&problems, now());
        self.publisher.write_snapshot(&snapshot);
        snapshot
    }

    fn expire_pushes(&self) {
        if let Some(pushes) = &self.pushes {
            pushes.expire(&self.farm.view().config);
        }
    }

    fn measure(&self) -> JoinHandle<quota::Usage> {
        let (reader, config) = (self.publisher.writer().reader(), Arc::clone(&self.farm.view().config));
        tokio::task::spawn_blocking(move || {
            quota::measure(&reader, &config).unwrap_or_else(|error| {
                tracing::warn!("the results of users cannot be measured: {error}");
                quota::Usage::new()
            })
        })
    }

    /// Starts the next runs of bisections and claims and the tests that wait for idle slots, and searches claims for idle slots from time to time.
    async fn bisections_and_claims(&mut self) {
        let writer = self.publisher.writer();
        if let Some(claims) = self.open_claims.newest(writer, &self.farm.view().config, now()).await {
            self.farm.set_open_claims(claims);
        }
        let mut commands = self.farm.bisect(now());
        commands.extend(self.farm.believe(now()));
        self.farm.run_postponed();
        self.carry_out(commands).await;
    }

    /// Starts the work of each hour.
    fn start_hourly(&self, hourly: &mut HourlyTasks) {
        if hourly.remover.as_ref().is_none_or(JoinHandle::is_finished) {
            let keep = self.farm.view().config.top.keep_results_commits;
            hourly.remover = Some(tokio::spawn(retention::pass(self.publisher.writer().clone(), keep)));
            hourly.measuring = Some(self.measure());
            self.expire_pushes();
            let output_dir = self.publisher.writer().output_dir().to_path_buf();
            let find = move || bisect::find_rechecks(&output_dir, now());
            hourly.rechecks = (!self.once).then(|| tokio::task::spawn_blocking(find));
        }
    }

    async fn end(&mut self, ending: &Ending) {
        let message = match ending {
            Ending::Done | Ending::Unread(_) => "nothing is left to do",
            Ending::Stopped => "stopping; a second signal stops immediately",
        };
        self.progress.message(message);
        tracing::info!("{message}");
        if *ending != Ending::Stopped
            && tokio::time::timeout(LAST, self.choir.shutdown(Shutdown::Drain)).await.is_err()
        {
            tracing::warn!("a run does not end although it has reported all verdicts; it is stopped");
        }
        if *ending != Ending::Stopped {
            self.rejudge.end().await;
        }
        // What a stopped daemon does not record, the next one does.
        if let Some(pushes) = self.pushes.take()
            && *ending != Ending::Stopped
        {
            pushes.end().await;
        }
        // The next daemon repeats jobs without a verdict.
        self.choir.shutdown(Shutdown::Abort).await;
        // A run that took too long to stop left its subtest in progress.
        if let Err(error) = self.publisher.writer().clear_stale_in_progress().await {
            tracing::warn!("subtests of stopped runs remain in progress until the next start: {error}");
        }
        self.farm.clear_batches();
        let snapshot = self.snapshot_once();
        self.publisher.flush().await;
        if *ending != Ending::Stopped {
            let (writer, config) = (self.publisher.writer(), &self.farm.view().config);
            self.findings.end(writer, config, &snapshot, now()).await;
            self.senders.end(writer, config, now()).await;
        }
    }
}

/// Returns the result of the search once. Afterwards it never completes.
async fn found<T: Default>(search: &mut Option<JoinHandle<T>>) -> T {
    let Some(running) = search else { return std::future::pending().await };
    let found = running.await.unwrap_or_default();
    *search = None;
    found
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
