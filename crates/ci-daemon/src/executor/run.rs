//! An executor: claims batches, runs `ktest run` for each, and records and publishes the results.
//!
//! A job is done only when its verdict is durable. The child and all processes that it started are killed at the end of
//! the batch, including when the executor is aborted.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fsx::untrusted::Dir;
use gitio::GitError;
use jobkit::{Batch, Executor, ExecutorLog};
use model::snapshot::BatchStatus;
use model::{
    ArtifactName, BuiltKernel, Conditions, HostName, HostReport, RepoName, ResultKey, StoreKernel,
    SubtestName, Verdict,
};
use results::notes::{BuildNote, Note};
use results::{TestParts, VerdictRecord, Writer};
use spawn::{Child, Exit, SpawnError, lines};
use testfile::known_issues::KnownIssues;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};

use super::batch::{Action, BatchEnd, BatchState, Phase, ReportedBuild, ReportedVerdict};
use super::command::{Place, Tools, ktest_run};
use super::live::LiveLog;
use super::neighbors::{Neighbors, Stay};
use super::publish::of_runner;
use crate::known_failures::judge_job;
use crate::missing_kernels;
use crate::plan::PlannedJob;
use fsx::clock::unix_seconds as now;

/// The time for a child to exit after SIGTERM. It exits by itself within 5 seconds.
const GRACE: Duration = Duration::from_secs(7);
/// The time for reading the pipes of a child after it exited.
const DRAIN: Duration = Duration::from_secs(5);
/// A child without output for this time is stuck: its own limits should have stopped it.
const SILENCE: Duration = Duration::from_secs(4 * 3600);
/// The same for a child that sends heartbeats, on this machine and on another host. The output of another host is
/// queued behind the files that it sends.
const MISSED_HEARTBEATS: Duration = Duration::from_secs(90);
const MISSED_HEARTBEATS_REMOTE: Duration = Duration::from_secs(600);
/// The number of lines of the child's standard error that are kept for the log of a verdict.
const TAIL: usize = 200;

/// A message from an executor to the daemon.
#[derive(Debug, Clone)]
pub enum ExecutorEvent {
    /// The progress of its batch; `None` when the batch has ended.
    Batch {
        /// The executor.
        executor: String,
        /// The batch.
        batch: Option<BatchProgress>,
    },
    /// The state of a host.
    HostReport {
        /// The host.
        host: HostName,
        /// What it measured.
        report: HostReport,
    },
    /// A cached build differs from a clean one. An operator must investigate the cause.
    CachedBuildDiffers(String),
    /// The mirror does not have a distribution kernel.
    KernelNotFound {
        /// The kernel.
        kernel: StoreKernel,
        /// The error, in one line.
        cause: String,
        /// The executor waits until this is dropped, after the event was handled.
        handled: mpsc::Sender<()>,
    },
    /// A verdict was recorded.
    Verdict {
        /// The job.
        job: Arc<PlannedJob>,
        /// Its verdict.
        verdict: Verdict,
        /// The crash title, if the kernel crashed.
        crash: Option<String>,
        /// How long the subtest ran.
        duration: Duration,
        /// Whether nothing else of the farm ran on the host, if it is known.
        alone: Option<bool>,
        /// The host.
        host: String,
        /// Its load in percent, if it is known.
        load: Option<u32>,
    },
    /// A failure of the same experiment at another commit was recorded, and retries have not confirmed it.
    InheritedFailure {
        /// The job.
        job: Arc<PlannedJob>,
        /// The outcomes of its attempts, in their order.
        outcomes: Vec<belief::Outcome>,
    },
    /// A verdict of the same experiment at another commit was recorded, and the test must run all the same.
    CheckInherited(Arc<PlannedJob>),
    /// The tests ran at other commits whose kernels have the same code: they can wait for an idle slot.
    Postponed(Vec<Arc<PlannedJob>>),
}

/// The progress of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchProgress {
    /// Its entry in the status snapshot.
    pub status: BatchStatus,
}

/// The slot for which an executor runs batches, and its channels.
#[derive(Debug, Clone)]
pub struct SlotContext {
    /// The host, as named in results.
    pub host: HostName,
    /// The number of the slot on its host.
    pub slot: u32,
    /// The work directory of the slot, which is emptied before and after each batch.
    pub work: PathBuf,
    /// The tools in effect.
    pub tools: watch::Receiver<Arc<Tools>>,
    /// The result store.
    pub writer: Writer,
    /// The batches on the host; `None` for a cluster.
    pub neighbors: Option<Arc<Neighbors>>,
    /// The daemon's inbox.
    pub events: mpsc::UnboundedSender<ExecutorEvent>,
}

impl SlotContext {
    /// The directory for a checkout of a repository that is not a kernel: next to the work directory.
    fn deps(&self) -> PathBuf {
        let mut name = self.work.clone().into_os_string();
        name.push(".deps");
        name.into()
    }
}

/// The end of a batch, as reported to the scheduler.
#[derive(Debug)]
enum BatchOutcome {
    /// Every job has its verdict, or the batch was cancelled.
    Complete,
    /// The infrastructure failed, not the tested code.
    InfrastructureError(String),
}

/// `ktest run` cannot be started, or waiting for it failed.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("{}: {source}; free space or correct the permissions", dir.display())]
    Dir { dir: PathBuf, source: std::io::Error },
    #[error("repo {0:?} is no longer configured; add [repo.{0}]")]
    NoRepo(RepoName),
    #[error("opening the repository failed: {0}")]
    Task(#[from] JoinError),
    #[error("the batch was cancelled")]
    Cancelled,
}

/// The body of an executor: runs the batches that it claims, until the scheduler removes it.
pub async fn body(mut executor: Executor<Arc<PlannedJob>>, slot: SlotContext) {
    let name = executor.name().to_owned();
    while let Some(batch) = executor.claim().await {
        let log = executor.log().clone();
        let outcome = BatchRun::new(&slot, &name, &batch, &log).run().await;
        let _ = slot.events.send(ExecutorEvent::Batch { executor: name.clone(), batch: None });
        match outcome {
            BatchOutcome::Complete => drop(batch),
            BatchOutcome::InfrastructureError(reason) => {
                tracing::warn!(executor = name, batch = %batch.key, "infrastructure error: {reason}");
                if reason.contains(model::CACHED_BUILD_DIFFERS) {
                    let commit = batch.jobs[0].payload.commit.short();
                    let alarm = format!("executor {name}, commit {commit}: {reason}");
                    let _ = slot.events.send(ExecutorEvent::CachedBuildDiffers(alarm));
                }
                match missing_kernels::named_by(&reason, batch.jobs[0].payload.unit.kernel.as_ref()) {
                    Some(kernel) => {
                        // The daemon takes the jobs out of the queue, before this executor can claim them again.
                        batch.put_back();
                        let (handled, mut wait) = mpsc::channel(1);
                        let event = ExecutorEvent::KernelNotFound { kernel, cause: reason, handled };
                        let _ = slot.events.send(event);
                        // Nothing is sent: the channel closes when the daemon has handled the event, or has ended.
                        let _ = wait.recv().await;
                    }
                    None => batch.infrastructure_error(reason),
                }
            }
        }
    }
}

/// The run of a batch.
pub(super) struct BatchRun<'a> {
    pub(super) slot: &'a SlotContext,
    executor: &'a str,
    pub(super) batch: &'a Batch<Arc<PlannedJob>>,
    pub(super) log: &'a ExecutorLog,
    pub(super) first: Arc<PlannedJob>,
    pub(super) state: BatchState,
    started: i64,
    /// The phase, and when it began.
    phase: (Phase, i64),
    /// The start time of each job, in Unix seconds.
    begun: Vec<Option<i64>>,
    /// The recorded attempts, for publishing the log of the whole run.
    pub(super) recorded: Vec<(ResultKey, u32)>,
    stderr_tail: VecDeque<String>,
    /// The log of the running subtest.
    live: Option<LiveLog>,
    reported: Option<BatchProgress>,
    /// Its time on the host; `None` on a cluster.
    stay: Option<Stay>,
}

impl<'a> BatchRun<'a> {
    fn new(
        slot: &'a SlotContext,
        executor: &'a str,
        batch: &'a Batch<Arc<PlannedJob>>,
        log: &'a ExecutorLog,
    ) -> Self {
        let first = batch.jobs[0].payload.clone();
        let jobs = batch.jobs.iter().map(|job| (job.payload.subtest.clone(), job.payload.key.clone()));
        let state = BatchState::new(first.unit.test.clone(), jobs);
        Self {
            slot,
            executor,
            batch,
            log,
            first,
            state,
            started: now(),
            phase: (Phase::default(), now()),
            begun: vec![None; batch.jobs.len()],
            recorded: Vec::new(),
            stderr_tail: VecDeque::new(),
            live: None,
            reported: None,
            stay: None,
        }
    }

    /// Waits for its turn on the host. Returns false if the batch was cancelled before.
    async fn enter(&mut self) -> bool {
        let Some(host) = &self.slot.neighbors else { return true };
        if self.first.alone {
            self.log.line("waiting until nothing else runs on the host");
        }
        tokio::select! {
            stay = host.enter(self.first.alone) => self.stay = Some(stay),
            () = self.batch.cancelled() => return false,
        }
        true
    }

    /// Whether nothing else of the farm has run on the host since the batch began. On a cluster this is known only of nodes
    /// that are not shared.
    fn is_alone(&self) -> Option<bool> {
        self.stay.as_ref().map(Stay::is_alone).or(self.first.alone.then_some(true))
    }

    async fn run(mut self) -> BatchOutcome {
        if !self.enter().await {
            return BatchOutcome::Complete;
        }
        if let Err(error) = empty(&self.slot.work).await {
            return BatchOutcome::InfrastructureError(error.to_string());
        }
        let outcome = match self.child().await {
            Ok(exit) => self.conclude(exit).await,
            Err(error) => BatchOutcome::InfrastructureError(error.to_string()),
        };
        let left = self.state.unfinished().filter(|(at, ..)| self.begun[*at].is_some());
        let left: Vec<ResultKey> = left.map(|(_, _, key)| key.clone()).collect();
        self.live = None;
        if !left.is_empty() {
            let _ = self.slot.writer.not_in_progress(&self.first.commit, left);
        }
        self.publish_shared().await;
        for dir in [self.slot.work.clone(), self.slot.deps()] {
            if let Err(error) = remove(&dir).await {
                tracing::warn!("{}: cannot be removed: {error}", dir.display());
            }
        }
        outcome
    }

    /// Runs the child until it exits. Returns `None` if the batch was cancelled.
    async fn child(&mut self) -> Result<Option<Exit>, RunError> {
        let tools = self.slot.tools.borrow().clone();
        let subtests: Vec<SubtestName> =
            self.batch.jobs.iter().map(|job| job.payload.subtest.clone()).collect();
        let deps = self.checkout(&tools).await?;
        let (commit, unit) = (&self.first.commit, &self.first.unit);
        let at = Place { host: &self.slot.host, slot: self.slot.slot, alone: self.first.alone };
        let order = (&*self.first.branch, commit);
        let cmd = ktest_run(&tools, &at, order, unit, &subtests, &self.slot.work, deps.as_deref());
        self.log.line(format!("$ {cmd}"));
        let mut child = cmd.start()?;
        let mut streams = Streams::of(&mut child);
        let cancellation = self.batch.cancellation();
        let remote = tools.host_commands.contains_key(&self.slot.host);
        self.report_progress();
        let mut reading = true;
        let exit = loop {
            tokio::select! {
                line = streams.events.recv(), if reading => match line {
                    Some(line) => if self.on_line(&line).await {
                        break child.stop(GRACE).await;
                    },
                    None => reading = false,
                },
                Some(line) = streams.stderr_tail.recv() => self.on_stderr(line),
                exit = child.wait() => break exit,
                () = cancellation.cancelled() => {
                    self.log.line("stopping, the batch was cancelled");
                    break child.stop(GRACE).await;
                }
                () = tokio::time::sleep(silence(&self.state, remote)) => {
                    let limit = silence(&self.state, remote).as_secs();
                    let reason = format!("ktest run printed nothing for {limit} s and was killed; the process may be stopped, or a file system may hang");
                    self.state.fail(None, reason);
                    break child.stop(GRACE).await;
                }
            }
        };
        // Kills all processes that the child started.
        drop(child);
        self.drain(streams).await;
        let exit = exit?;
        Ok((!cancellation.is_cancelled()).then_some(exit))
    }

    /// Checks out a commit of a repository that is not a kernel. Returns the directory for `require-git`.
    async fn checkout(&self, tools: &Tools) -> Result<Option<PathBuf>, RunError> {
        let name = &*self.first.repo;
        if name.is_linux() {
            return Ok(None);
        }
        let path = tools.repos.get(name).cloned();
        let path = path.ok_or_else(|| RunError::NoRepo(name.clone()))?;
        let repo = tokio::task::spawn_blocking(move || gitio::Repo::open(&path)).await??;
        let deps = self.slot.deps();
        empty(&deps).await?;
        self.log.line(format!("checking out {} of {name}", self.first.commit.short()));
        let (dir, index) = (deps.join(name.as_str()), deps.join(format!(".{name}.index")));
        let checkout = repo.checkout_into(&self.first.commit, &dir, &index, gitio::Checkout::default());
        tokio::select! {
            done = checkout => done?,
            () = self.batch.cancelled() => return Err(RunError::Cancelled),
        }
        Ok(Some(deps))
    }

    async fn drain(&mut self, mut streams: Streams) {
        let rest = async {
            while let Some(line) = streams.stderr_tail.recv().await {
                self.on_stderr(line);
            }
            while let Some(line) = streams.events.recv().await {
                if self.on_line(&line).await {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN, rest).await;
    }

    fn on_stderr(&mut self, line: String) {
        self.log.line(&line);
        if !line.trim().is_empty() {
            if self.stderr_tail.len() == TAIL {
                self.stderr_tail.pop_front();
            }
            self.stderr_tail.push_back(line);
        }
    }

    /// Returns true if the child must be stopped.
    async fn on_line(&mut self, line: &str) -> bool {
        for action in self.state.on_line(line) {
            match action {
                Action::Log(text) => self.log.line(text),
                Action::HostReport(report) => {
                    let host = self.slot.host.clone();
                    let _ = self.slot.events.send(ExecutorEvent::HostReport { host, report });
                }
                Action::Begin(at) => self.begin(at),
                Action::Build(build) => self.record_build(build),
                Action::Inherit { experiment, code } => match self.inherit(experiment).await {
                    Ok(false) if self.postpone(experiment, code) => return true,
                    Ok(false) => {}
                    Ok(true) => return true,
                    Err(error) => self.log.line(format!("no verdicts are inherited: {error}")),
                },
                Action::Stop => return true,
                Action::Record(reported) => {
                    let job = reported.job;
                    if let Err(error) = self.record(*reported).await {
                        let reason = format!("a verdict could not be recorded: {error}");
                        self.log.line(&reason);
                        self.state.fail(Some(job), reason);
                        return true;
                    }
                }
            }
        }
        self.report_progress();
        false
    }

    fn record_build(&self, build: ReportedBuild) {
        let ReportedBuild { outcome, duration_ms, error } = build;
        let duration = Duration::from_millis(duration_ms);
        let (kernel, image_hash) = self.state.kernel().cloned().unzip();
        let note = BuildNote {
            commit: self.first.commit.clone(),
            file: self.first.unit.test.clone(),
            env: self.first.unit.env.clone(),
            kernel,
            image_hash,
            started: now().saturating_sub(i64::try_from(duration.as_secs()).unwrap_or(0)),
            duration,
            host: self.slot.host.clone(),
            slot: self.slot.slot,
            outcome,
            error,
        };
        if let Err(error) = self.slot.writer.note(Note::Build(note)) {
            self.log.line(error.to_string());
        }
    }

    fn begin(&mut self, at: usize) {
        let started = now();
        self.begun[at] = Some(started);
        let Some(key) = self.state.key(at).cloned() else { return };
        let (host, slot) = (Some(self.slot.host.clone()), Some(self.slot.slot));
        let commit = &self.first.commit;
        if let Err(error) = self.slot.writer.in_progress(commit, vec![key.clone()], started, host, slot) {
            self.log.line(error.to_string());
        }
        let subtest = self.batch.jobs[at].payload.subtest.dotted();
        let name = format!("{}.{subtest}", self.first.unit.test.dotted());
        let log = Path::new("out").join(name).join("log");
        self.live = None;
        match LiveLog::start(&self.slot.writer, commit, &key, self.slot.work.clone(), log) {
            Ok(live) => self.live = Some(live),
            Err(error) => self.log.line(format!("the log of a running subtest cannot be published: {error}")),
        }
    }

    /// The known failures, and the repository with the versions of kernels.
    fn known_issues(&self) -> (Arc<KnownIssues>, PathBuf) {
        let tools = self.slot.tools.borrow();
        (Arc::clone(&tools.known_issues), tools.linux_repo.clone())
    }

    /// Makes the verdict durable, then reports the job as done.
    async fn record(&mut self, mut reported: ReportedVerdict) -> results::Result<()> {
        let job = &self.batch.jobs[reported.job];
        let (issues, linux_repo) = self.known_issues();
        let crash = reported.crash.as_deref();
        reported.verdict = judge_job(&issues, &linux_repo, &job.payload, crash, reported.verdict).await;
        let (key, alone) = (job.payload.key.clone(), self.is_alone());
        let duration = Duration::from_millis(reported.duration_ms);
        let started = now().saturating_sub(i64::try_from(duration.as_secs()).unwrap_or(0));
        let (kernel, image_hash) = reported.kernel.unzip();
        let unit = &job.payload.unit;
        let parts = TestParts {
            file: unit.test.clone(),
            subtest: job.payload.subtest.clone(),
            kernel: unit.kernel.clone(),
            env: unit.env.clone(),
        };
        let record = VerdictRecord {
            started: Some(self.begun[reported.job].unwrap_or(started)),
            crash: reported.crash.clone(),
            host: Some(self.slot.host.clone()),
            slot: Some(self.slot.slot),
            kernel,
            image_hash,
            conditions: Conditions { alone, ..reported.conditions.clone() },
            domain: Some(self.slot.tools.borrow().domain(&self.first.branch)),
            parts: Some(Box::new(parts)),
            ..VerdictRecord::new(self.first.commit.clone(), key.clone(), reported.verdict.clone(), duration)
        };
        let recorded = self.slot.writer.record(record).await?;
        self.live = None;
        self.recorded.push((key.clone(), recorded.attempt));
        if let Some(log) = self.open(&reported.dir.join("log")).await {
            self.publish_log(&key, recorded.attempt, log).await;
        }
        for name in ["crash", "vmcore"] {
            let file = reported.dir.join(name);
            self.publish_artifact(std::slice::from_ref(&key), of_runner(name), &file).await;
        }
        if reported.verdict != Verdict::Passed {
            self.publish_artifacts_of_test(&key, &reported.dir.join(ArtifactName::DIR)).await;
        }
        // Sent before the job ends, so that the daemon receives the verdict first.
        let (job_id, job) = (job.id, job.payload.clone());
        let (verdict, crash) = (reported.verdict, reported.crash);
        let (host, load) = (self.slot.host.to_string(), reported.conditions.load);
        let event = ExecutorEvent::Verdict { job, verdict, crash, duration, alone, host, load };
        let _ = self.slot.events.send(event);
        self.batch.done(job_id);
        Ok(())
    }

    async fn conclude(&mut self, exit: Option<Exit>) -> BatchOutcome {
        let Some(exit) = exit else { return BatchOutcome::Complete };
        let last = self.stderr_tail.back().cloned().unwrap_or_default();
        match self.state.end(exit, &last) {
            BatchEnd::Complete => BatchOutcome::Complete,
            BatchEnd::Infrastructure(reason) => BatchOutcome::InfrastructureError(reason),
            BatchEnd::Refused(reason) => match self.refuse(&reason).await {
                Ok(()) => BatchOutcome::Complete,
                Err(error) => {
                    BatchOutcome::InfrastructureError(format!("a verdict could not be recorded: {error}"))
                }
            },
        }
    }

    /// `ktest run` refused the test file: gives the remaining subtests the verdict Failed to run.
    async fn refuse(&mut self, reason: &str) -> results::Result<()> {
        let dir = PathBuf::from("refused");
        let text = self.stderr_tail.iter().fold(String::new(), |text, line| text + line + "\n");
        let written = Dir::open(&self.slot.work)
            .and_then(|work| work.create_dir_all(&dir))
            .and_then(|directory| directory.write("log", text));
        if let Err(error) = written {
            self.log.line(error.to_string());
        }
        let left: Vec<usize> = self.state.unfinished().map(|(at, ..)| at).collect();
        for job in left {
            let verdict = Verdict::FailedToRun { reason: reason.into() };
            let reported = ReportedVerdict {
                job,
                verdict,
                duration_ms: 0,
                crash: None,
                dir: dir.clone(),
                kernel: None,
                conditions: Conditions::default(),
            };
            self.record(reported).await?;
        }
        Ok(())
    }

    /// Sends the progress of the batch, if it has changed.
    fn report_progress(&mut self) {
        if self.phase.0 != self.state.phase() {
            self.phase = (self.state.phase(), now());
        }
        let (subtests, done) = self.state.progress();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let status = BatchStatus {
            commit: self.first.commit.to_string(),
            test: self.first.unit.test.to_string(),
            subtests: count(subtests),
            done: count(done),
            current: self.state.current().map(ToString::to_string),
            phase: self.state.phase().word().into(),
            started: self.started,
            phase_started: Some(self.phase.1),
            objects: self.state.built().map(|(done, _)| done),
            objects_total: self.state.built().and_then(|(_, total)| total),
            kernel: BuiltKernel::of_env(&self.first.unit.env),
        };
        let progress = BatchProgress { status };
        if self.reported.as_ref() != Some(&progress) {
            self.reported = Some(progress.clone());
            let _ = self
                .slot
                .events
                .send(ExecutorEvent::Batch { executor: self.executor.into(), batch: Some(progress) });
        }
    }
}

/// How long the child of a batch may be silent.
fn silence(state: &BatchState, remote: bool) -> Duration {
    match (state.sends_heartbeats(), remote) {
        (false, _) => SILENCE,
        (true, false) => MISSED_HEARTBEATS,
        (true, true) => MISSED_HEARTBEATS_REMOTE,
    }
}

/// The output of a child, line by line.
struct Streams {
    events: mpsc::Receiver<String>,
    stderr_tail: mpsc::Receiver<String>,
    readers: Vec<JoinHandle<()>>,
}

impl Streams {
    fn of(child: &mut Child) -> Self {
        let (events_to, events) = mpsc::channel(256);
        let (stderr_tail_to, stderr_tail) = mpsc::channel(256);
        let mut readers = Vec::new();
        if let Some(stdout) = child.take_stdout() {
            readers.push(tokio::spawn(lines::send(stdout, events_to)));
        }
        if let Some(stderr) = child.take_stderr() {
            readers.push(tokio::spawn(lines::send(stderr, stderr_tail_to)));
        }
        Self { events, stderr_tail, readers }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.readers.iter().for_each(JoinHandle::abort);
    }
}

/// Removes a directory with its contents, if it exists.
async fn remove(dir: &Path) -> std::io::Result<()> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || fsx::own::remove_tree(&dir)).await??;
    Ok(())
}

/// Creates an empty directory, replacing an existing one.
async fn empty(dir: &Path) -> Result<(), RunError> {
    let error = |source| RunError::Dir { dir: dir.into(), source };
    remove(dir).await.map_err(error)?;
    tokio::fs::create_dir_all(dir).await.map_err(error)
}
