//! The local executor: claims batches, runs `ktest run` for each, publishes what it says.
//!
//! A job is done only when its verdict is durable. The child is ended with everything it started, whatever happens to
//! the executor.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fsx::untrusted::Dir;
use jobkit::{Batch, Executor, ExecutorLog};
use model::snapshot::BatchStatus;
use model::{HostName, ResultKey, SubtestName, Verdict};
use results::{LogKind, PlainFile, VerdictRecord, Writer};
use spawn::{Child, Exit, lines};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::batch::{Action, BatchEnd, BatchState, ReportedVerdict};
use super::command::{Tools, ktest_run};
use super::live::LiveLog;
use super::work_file;
use crate::plan::PlannedJob;
use fsx::clock::unix_seconds as now;

/// How long a child gets to end by itself when it is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long what a child left in its pipes is read after its end.
const DRAIN: Duration = Duration::from_secs(5);
/// A child that says nothing for so long is stuck: its own limits should have ended it.
const SILENCE: Duration = Duration::from_secs(4 * 3600);
/// The same for a child that sends heartbeats: on this machine, and on a host whose lines wait behind the files that it sends.
const MISSED_HEARTBEATS: Duration = Duration::from_secs(90);
const MISSED_HEARTBEATS_REMOTE: Duration = Duration::from_secs(600);
/// How many lines of the child's standard error are kept for a verdict's log.
const TAIL: usize = 200;

/// What an executor tells the daemon.
#[derive(Debug, Clone)]
pub enum ExecutorEvent {
    /// What its batch does now; none: it has no batch any more.
    Batch {
        /// The executor.
        executor: String,
        /// The batch.
        batch: Option<BatchProgress>,
    },
    /// A verdict was recorded.
    Verdict {
        /// Of which job.
        job: Arc<PlannedJob>,
        /// What.
        verdict: Verdict,
        /// How long it ran.
        duration: Duration,
    },
}

/// What a batch does now.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchProgress {
    /// As the status snapshot has it.
    pub status: BatchStatus,
    /// Objects built and to be built, while the kernel is being built.
    pub built: Option<(u32, Option<u32>)>,
}

/// One slot of this machine: where batches run.
#[derive(Debug, Clone)]
pub struct Slot {
    /// This machine, as results name it.
    pub host: HostName,
    /// The number of the slot.
    pub slot: u32,
    /// A folder of its own, emptied before and after each batch.
    pub work: PathBuf,
    /// What to run, as it is now.
    pub tools: watch::Receiver<Arc<Tools>>,
    /// The results.
    pub writer: Writer,
    /// Who wants to hear about it.
    pub events: mpsc::UnboundedSender<ExecutorEvent>,
}

impl Slot {
    /// Where a commit of a repository that is no kernel is checked out: beside the work folder.
    fn deps(&self) -> PathBuf {
        let mut name = self.work.clone().into_os_string();
        name.push(".deps");
        name.into()
    }
}

/// How a batch went, for the scheduler.
#[derive(Debug)]
enum BatchOutcome {
    /// Every job has its verdict, or the batch was cancelled.
    Complete,
    /// Something other than the tested code broke.
    InfrastructureError(String),
}

/// The body of an executor.
pub async fn body(mut executor: Executor<Arc<PlannedJob>>, slot: Slot) {
    let name = executor.name().to_owned();
    while let Some(batch) = executor.claim().await {
        let log = executor.log().clone();
        let outcome = Run::new(&slot, &name, &batch, &log).run().await;
        let _ = slot.events.send(ExecutorEvent::Batch { executor: name.clone(), batch: None });
        match outcome {
            BatchOutcome::Complete => drop(batch),
            BatchOutcome::InfrastructureError(why) => {
                tracing::warn!(executor = name, batch = %batch.key, "infrastructure failure: {why}");
                batch.infrastructure_failure(why);
            }
        }
    }
}

struct Run<'a> {
    slot: &'a Slot,
    executor: &'a str,
    batch: &'a Batch<Arc<PlannedJob>>,
    log: &'a ExecutorLog,
    first: Arc<PlannedJob>,
    state: BatchState,
    started: i64,
    /// When each job began, Unix seconds.
    begun: Vec<Option<i64>>,
    /// The attempts that were recorded, for the log of the whole run.
    recorded: Vec<(ResultKey, u32)>,
    stderr_tail: VecDeque<String>,
    /// The log of the subtest that runs.
    live: Option<LiveLog>,
    reported: Option<BatchProgress>,
}

impl<'a> Run<'a> {
    fn new(
        slot: &'a Slot,
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
            begun: vec![None; batch.jobs.len()],
            recorded: Vec::new(),
            stderr_tail: VecDeque::new(),
            live: None,
            reported: None,
        }
    }

    async fn run(mut self) -> BatchOutcome {
        if let Err(error) = empty(&self.slot.work, true).await {
            return BatchOutcome::InfrastructureError(format!(
                "{}: {error}; free space or correct its rights",
                self.slot.work.display()
            ));
        }
        let outcome = match self.child().await {
            Ok(exit) => self.conclude(exit).await,
            Err(why) => BatchOutcome::InfrastructureError(why),
        };
        let left = self.state.unfinished().filter(|(at, ..)| self.begun[*at].is_some());
        let left: Vec<ResultKey> = left.map(|(_, _, key)| key.clone()).collect();
        self.live = None;
        if !left.is_empty() {
            let _ = self.slot.writer.not_in_progress(&self.first.commit, left);
        }
        self.publish_shared().await;
        for dir in [self.slot.work.clone(), self.slot.deps()] {
            if let Err(error) = empty(&dir, false).await {
                tracing::warn!("{}: cannot be removed: {error}", dir.display());
            }
        }
        outcome
    }

    /// Runs the child to its end; `None` if the batch was cancelled.
    async fn child(&mut self) -> Result<Option<Exit>, String> {
        let tools = self.slot.tools.borrow().clone();
        let subtests: Vec<SubtestName> =
            self.batch.jobs.iter().map(|job| job.payload.subtest.clone()).collect();
        let deps = self.checkout(&tools).await?;
        let (commit, unit) = (&self.first.commit, &self.first.unit);
        let at = (&self.slot.host, self.slot.slot);
        let cmd = ktest_run(&tools, at, commit, unit, &subtests, &self.slot.work, deps.as_deref());
        self.log.line(format!("$ {cmd}"));
        let mut child = cmd.start().map_err(|error| error.to_string())?;
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
                    let why = format!("ktest run was silent for {limit} s and was killed; is the process stopped, or a file system hung?");
                    self.state.fail(None, why);
                    break child.stop(GRACE).await;
                }
            }
        };
        // What it started must not outlive it.
        drop(child);
        self.drain(streams).await;
        let exit = exit.map_err(|error| error.to_string())?;
        Ok((!cancellation.is_cancelled()).then_some(exit))
    }

    /// A commit that is no kernel, checked out where the test file's `require-git` finds it; gives the folder that holds it.
    async fn checkout(&self, tools: &Tools) -> Result<Option<PathBuf>, String> {
        let name = &*self.first.repo;
        if name.is_linux() {
            return Ok(None);
        }
        let path = tools.repos.get(name).cloned();
        let path = path.ok_or_else(|| format!("repo {name:?} is not configured any more"))?;
        let opened = tokio::task::spawn_blocking(move || gitio::Repo::open(&path)).await;
        let repo = opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let deps = self.slot.deps();
        empty(&deps, true).await.map_err(|error| format!("{}: {error}", deps.display()))?;
        self.log.line(format!("checking out {} of {name}", self.first.commit.short()));
        let (dir, index) = (deps.join(name.as_str()), deps.join(format!(".{name}.index")));
        let checkout = repo.checkout_into(&self.first.commit, &dir, &index, gitio::Checkout::default());
        tokio::select! {
            done = checkout => done.map_err(|error| error.to_string())?,
            () = self.batch.cancelled() => return Err("the batch was cancelled".into()),
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

    /// True if the child is to be stopped.
    async fn on_line(&mut self, line: &str) -> bool {
        for action in self.state.on_line(line) {
            match action {
                Action::Say(text) => self.log.line(text),
                Action::Begin(at) => self.begin(at),
                Action::Stop => return true,
                Action::Record(judged) => {
                    let job = judged.job;
                    if let Err(why) = self.record(*judged).await {
                        let why = format!("a verdict could not be recorded: {why}");
                        self.log.line(&why);
                        self.state.fail(Some(job), why);
                        return true;
                    }
                }
            }
        }
        self.report_progress();
        false
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
            Err(error) => self.log.line(format!("the log does not show while it grows: {error}")),
        }
    }

    /// Makes the verdict durable; only then the job is done.
    async fn record(&mut self, judged: ReportedVerdict) -> results::Result<()> {
        let job = &self.batch.jobs[judged.job];
        let key = job.payload.key.clone();
        let duration = Duration::from_millis(judged.duration_ms);
        let started = now().saturating_sub(i64::try_from(duration.as_secs()).unwrap_or(0));
        let (kernel, image_hash) = judged.kernel.unzip();
        let record = VerdictRecord {
            started: Some(self.begun[judged.job].unwrap_or(started)),
            crash: judged.crash,
            host: Some(self.slot.host.clone()),
            slot: Some(self.slot.slot),
            kernel,
            image_hash,
            ..VerdictRecord::new(self.first.commit.clone(), key.clone(), judged.verdict.clone(), duration)
        };
        let recorded = self.slot.writer.record(record).await?;
        self.live = None;
        self.recorded.push((key.clone(), recorded.attempt));
        if let Some(log) = self.open(&judged.dir.join("log")).await {
            self.publish_log(&key, recorded.attempt, log).await;
        }
        self.publish_artifact(std::slice::from_ref(&key), "crash", &judged.dir.join("crash")).await;
        // Told before the job ends, so that whoever hears of the end has heard of the verdict.
        let event = ExecutorEvent::Verdict { job: job.payload.clone(), verdict: judged.verdict, duration };
        let _ = self.slot.events.send(event);
        self.batch.done(job.id);
        Ok(())
    }

    /// Opens a file of the work directory, if it exists.
    async fn open(&self, relative: &Path) -> Option<PlainFile> {
        let why = match work_file::open(&self.slot.work, relative).await {
            Ok(file) => return file,
            Err(why) => why,
        };
        tracing::error!("{} of a run of {} is lost: {why}", relative.display(), self.first.unit.test);
        self.log.line(format!("{} is lost: {why}", relative.display()));
        None
    }

    /// The verdict is durable already; a log that cannot be published is a pity and no more.
    async fn publish_log(&self, key: &ResultKey, attempt: u32, log: PlainFile) {
        let published =
            self.slot.writer.publish_log(&self.first.commit, key, attempt, LogKind::Subtest, log).await;
        if let Err(error) = published {
            tracing::error!("the log of {key} is lost: {error}");
            self.log.line(format!("the log of {key} is lost: {error}"));
        }
    }

    /// What all subtests of the run share. The verdicts are durable already; see [`Self::publish_log`].
    async fn publish_shared(&self) {
        if self.recorded.is_empty() {
            return;
        }
        let (writer, commit) = (&self.slot.writer, &self.first.commit);
        let log = self.open(&Path::new("out").join(self.first.unit.test.dotted())).await;
        if let Some(log) = log
            && let Err(error) = writer.publish_logs(commit, &self.recorded, LogKind::Full, log).await
        {
            tracing::error!("the log of a run of {} is lost: {error}", self.first.unit.test);
        }
        let keys: Vec<ResultKey> = self.recorded.iter().map(|(key, _)| key.clone()).collect();
        for (name, file) in [
            ("kernel.config", "kernel.config"),
            ("build.log", "out/build.log"),
            ("coverage.info", "out/coverage.info"),
        ] {
            self.publish_artifact(&keys, name, Path::new(file)).await;
        }
    }

    /// What else there is for people to read, if it is there; see [`Self::publish_log`].
    async fn publish_artifact(&self, keys: &[ResultKey], name: &'static str, file: &Path) {
        if let Some(file) = self.open(file).await
            && let Err(error) = self.slot.writer.publish_artifact(&self.first.commit, keys, name, file).await
        {
            tracing::error!("the {name} of a run of {} is lost: {error}", self.first.unit.test);
        }
    }

    async fn conclude(&mut self, exit: Option<Exit>) -> BatchOutcome {
        let Some(exit) = exit else { return BatchOutcome::Complete };
        let last = self.stderr_tail.back().cloned().unwrap_or_default();
        match self.state.end(exit, &last) {
            BatchEnd::Complete => BatchOutcome::Complete,
            BatchEnd::Infrastructure(why) => BatchOutcome::InfrastructureError(why),
            BatchEnd::Refused(why) => match self.refuse(&why).await {
                Ok(()) => BatchOutcome::Complete,
                Err(error) => {
                    BatchOutcome::InfrastructureError(format!("a verdict could not be recorded: {error}"))
                }
            },
        }
    }

    /// `ktest run` refuses the test file: the remaining subtests get the verdict Failed to run.
    async fn refuse(&mut self, why: &str) -> results::Result<()> {
        let dir = PathBuf::from("refused");
        let text = self.stderr_tail.iter().fold(String::new(), |text, line| text + line + "\n");
        let written = Dir::open(&self.slot.work)
            .and_then(|work| work.create_dir_all(&dir))
            .and_then(|folder| folder.write("log", text));
        if let Err(error) = written {
            self.log.line(error.to_string());
        }
        let left: Vec<usize> = self.state.unfinished().map(|(at, ..)| at).collect();
        for job in left {
            let verdict = Verdict::FailedToRun { reason: why.into() };
            let judged =
                ReportedVerdict { job, verdict, duration_ms: 0, crash: None, dir: dir.clone(), kernel: None };
            self.record(judged).await?;
        }
        Ok(())
    }

    /// Tells what the batch does, if that is another thing than before.
    fn report_progress(&mut self) {
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
        };
        let progress = BatchProgress { status, built: self.state.built() };
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
    match (state.beats(), remote) {
        (false, _) => SILENCE,
        (true, false) => MISSED_HEARTBEATS,
        (true, true) => MISSED_HEARTBEATS_REMOTE,
    }
}

/// A child's output, line by line.
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

/// Removes the directory with its contents; creates it again if `make`.
async fn empty(dir: &Path, make: bool) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if make { tokio::fs::create_dir_all(dir).await } else { Ok(()) }
}
