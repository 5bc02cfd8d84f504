//! The state of a batch, from the events of its `ktest run`: one synchronous function that converts a line to actions.
//!
//! A subtest gets at most one verdict, which is the first. A subtest that has no verdict when the child exits returns
//! to the queue. No output of the child causes a panic or a path outside the output directory.

use std::path::{Component, PathBuf};

use model::event::EventError;
use model::{
    Conditions, Event, ExperimentKey, HostReport, KernelId, ResultKey, Stamped, SubtestName, TestPath,
    Verdict,
};
use results::notes::BuildOutcome;
use spawn::Exit;

/// The exit code with which `ktest run` refuses a command line or a test file.
const USAGE: u8 = 2;

/// The phase of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// No event yet.
    #[default]
    Starting,
    /// The kernel is being built.
    Building,
    /// A VM is booting.
    Booting,
    /// Subtests are running.
    Testing,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Building, Self::Booting, Self::Testing];

    /// The word in the status snapshot.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Building => "building",
            Self::Booting => "booting",
            Self::Testing => "testing",
        }
    }
}

/// A verdict to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedVerdict {
    /// The position of the job in the batch.
    pub job: usize,
    /// Its verdict.
    pub verdict: Verdict,
    /// The duration of the subtest, in ms.
    pub duration_ms: u64,
    /// The crash title, if the kernel crashed.
    pub crash: Option<String>,
    /// Its directory, relative to the output directory and inside it.
    pub dir: PathBuf,
    /// The kernel and the SHA-256 of its image, if a kernel was ready.
    pub kernel: Option<(KernelId, String)>,
    /// What the attempt depended on.
    pub conditions: Conditions,
}

/// A kernel, or a build that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedBuild {
    /// The result.
    pub outcome: BuildOutcome,
    /// The time, in ms.
    pub duration_ms: u64,
    /// The first error of a build that failed.
    pub error: Option<String>,
}

/// An action that an event requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Publish the job as in progress.
    Begin(usize),
    /// Record the verdict; then the job is done.
    Record(Box<ReportedVerdict>),
    /// Record the build of the kernel, at most once.
    Build(ReportedBuild),
    /// Write a line to the executor's log.
    Log(String),
    /// Report the state of the host.
    HostReport(HostReport),
    /// Inherit the verdicts of the experiment, if all jobs have one; else postpone the jobs, if all have a verdict with the same
    /// code. Then the child must be stopped.
    Inherit {
        /// The experiment.
        experiment: ExperimentKey,
        /// The same with the code of the kernel instead of its content, if it is known.
        code: Option<ExperimentKey>,
    },
    /// Stop the child, because its output is unusable.
    Stop,
}

/// One job of a batch.
#[derive(Debug, Clone)]
struct BatchItem {
    subtest: SubtestName,
    key: ResultKey,
    has_verdict: bool,
}

/// A batch with a running child.
#[derive(Debug, Clone)]
pub struct BatchState {
    test: TestPath,
    items: Vec<BatchItem>,
    phase: Phase,
    built: Option<(u32, Option<u32>)>,
    /// The time of the last event, and of the start of the build, in ms since the start of the run.
    at_ms: u64,
    build_ms: u64,
    has_build: bool,
    current: Option<usize>,
    kernel: Option<(KernelId, String)>,
    error: Option<String>,
    finished: Option<u8>,
    /// Whether the run sends heartbeats.
    sends_heartbeats: bool,
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEnd {
    /// Every subtest has its verdict.
    Complete,
    /// `ktest run` refused the test file (exit code 2), with the reason in one line. The other subtests cannot run.
    Refused(String),
    /// The infrastructure failed. The subtests without a verdict return to the queue.
    Infrastructure(String),
}

impl BatchState {
    /// A batch of these subtests of one test file.
    #[must_use]
    pub fn new(test: TestPath, jobs: impl IntoIterator<Item = (SubtestName, ResultKey)>) -> Self {
        let items =
            jobs.into_iter().map(|(subtest, key)| BatchItem { subtest, key, has_verdict: false }).collect();
        Self {
            test,
            items,
            phase: Phase::default(),
            built: None,
            at_ms: 0,
            build_ms: 0,
            has_build: false,
            current: None,
            kernel: None,
            error: None,
            finished: None,
            sends_heartbeats: false,
        }
    }

    /// Handles one line of the child's standard output.
    pub fn on_line(&mut self, line: &str) -> Vec<Action> {
        match Stamped::parse(line) {
            Ok(Some(stamped)) => {
                self.at_ms = stamped.at_ms;
                self.on_event(stamped.event)
            }
            Ok(None) => Vec::new(),
            Err(error @ EventError::Version(_)) => self.reject(error.to_string()),
            Err(EventError::Json(_)) => {
                let line: String = line.chars().take(200).collect();
                vec![Action::Log(format!("not an event, skipped: {line:?}"))]
            }
        }
    }

    /// One event.
    pub fn on_event(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::RunStarted { test, .. } if test != self.test => {
                self.reject(format!("ktest runs {test} instead of {}", self.test))
            }
            Event::RunStarted { subtests, .. } => vec![Action::Log(format!("{} subtests", subtests.len()))],
            Event::BuildStarted => {
                self.phase = Phase::Building;
                self.build_ms = self.at_ms;
                vec![Action::Log("building the kernel".into())]
            }
            Event::Phase { what } => vec![Action::Log(what)],
            Event::BuildProgress { done, total } => {
                self.phase = Phase::Building;
                self.built = Some((done, total));
                Vec::new()
            }
            Event::KernelWanted { kernel } => {
                vec![Action::Log(format!("kernel {} is not in the store", kernel.short()))]
            }
            Event::Log { .. } => Vec::new(),
            Event::Heartbeat { host } => {
                self.sends_heartbeats = true;
                host.map(Action::HostReport).into_iter().collect()
            }
            Event::KernelReady { kernel, image_hash, cached, fetched, duration_ms } => {
                let outcome = build_outcome(cached, fetched);
                self.kernel_ready((kernel, image_hash), outcome, duration_ms)
            }
            Event::BuildFailed { reason } => self.build_failed(reason),
            Event::BootStarted { vm, accel, experiment, code } => {
                self.boot_started((vm, &accel), experiment, code)
            }
            Event::Booted { vm, duration_ms } => {
                self.phase = Phase::Testing;
                vec![Action::Log(format!("VM {vm} is up after {duration_ms} ms"))]
            }
            Event::SubtestStarted { subtest } => self.begin(&subtest),
            Event::Verdict { subtest, verdict, duration_ms, crash, dir, conditions, .. } => {
                let Some(job) = self.find(&subtest) else {
                    let line = format!("ignored: a verdict of {subtest}, not a subtest of the batch");
                    return vec![Action::Log(line)];
                };
                let kernel = self.kernel.clone();
                let reported = ReportedVerdict { job, verdict, duration_ms, crash, dir, kernel, conditions };
                self.judge(&subtest, reported)
            }
            Event::Infrastructure { what } => {
                let line = format!("infrastructure: {what}");
                self.error.get_or_insert(what);
                vec![Action::Log(line)]
            }
            Event::RunFinished { exit_code } => {
                self.finished = Some(exit_code);
                self.sends_heartbeats = false;
                Vec::new()
            }
        }
    }

    fn boot_started(
        &mut self,
        (vm, accel): (u32, &str),
        experiment: Option<ExperimentKey>,
        code: Option<ExperimentKey>,
    ) -> Vec<Action> {
        self.phase = Phase::Booting;
        self.current = None;
        // Before the first VM, nothing has run.
        let experiment = experiment.filter(|_| vm == 1);
        let inherit = experiment.map(|experiment| Action::Inherit { experiment, code });
        let log = Action::Log(format!("VM {vm} starts ({accel})"));
        std::iter::once(log).chain(inherit).collect()
    }

    fn kernel_ready(
        &mut self,
        kernel: (KernelId, String),
        outcome: BuildOutcome,
        duration_ms: u64,
    ) -> Vec<Action> {
        let how = match outcome {
            BuildOutcome::Reused => "from the store",
            BuildOutcome::Fetched => "fetched",
            BuildOutcome::Built | BuildOutcome::Failed => "built",
        };
        let line = format!("kernel {} {how} in {} s", kernel.0.short(), duration_ms / 1000);
        self.kernel = Some(kernel);
        self.build(ReportedBuild { outcome, duration_ms, error: None }, line)
    }

    fn build_failed(&mut self, reason: String) -> Vec<Action> {
        let line = format!("the kernel does not build: {reason}");
        let duration_ms = self.at_ms.saturating_sub(self.build_ms);
        let build = ReportedBuild { outcome: BuildOutcome::Failed, duration_ms, error: Some(reason) };
        self.build(build, line)
    }

    fn build(&mut self, build: ReportedBuild, line: String) -> Vec<Action> {
        let is_first = !std::mem::replace(&mut self.has_build, true);
        let build = is_first.then_some(Action::Build(build));
        std::iter::once(Action::Log(line)).chain(build).collect()
    }

    /// The kernel and the SHA-256 of its image, if a kernel was ready.
    #[must_use]
    pub fn kernel(&self) -> Option<&(KernelId, String)> {
        self.kernel.as_ref()
    }

    fn begin(&mut self, subtest: &SubtestName) -> Vec<Action> {
        self.phase = Phase::Testing;
        let Some(job) = self.find(subtest) else {
            return vec![Action::Log(format!("{subtest} starts but is not in the batch"))];
        };
        self.current = Some(job);
        if self.items[job].has_verdict {
            return vec![Action::Log(format!("{subtest} starts again; its first verdict stands"))];
        }
        vec![Action::Begin(job), Action::Log(format!("{subtest} starts"))]
    }

    fn judge(&mut self, subtest: &SubtestName, reported: ReportedVerdict) -> Vec<Action> {
        let ReportedVerdict { job, verdict, duration_ms, dir, .. } = &reported;
        if self.current == Some(*job) {
            self.current = None;
        }
        if self.items[*job].has_verdict {
            return vec![Action::Log(format!("ignored: a second verdict of {subtest}"))];
        }
        if !dir.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return self
                .reject(format!("the directory of {subtest} is outside the output directory: {dir:?}"));
        }
        if verdict.is_of_host() {
            // The batch ends with an infrastructure error, and the subtest runs again.
            let reason = format!("{subtest}: {}", verdict.reason().unwrap_or_default());
            let line = format!("ignored: {reason}; an error of the host");
            self.error.get_or_insert(reason);
            return vec![Action::Log(line)];
        }
        self.items[*job].has_verdict = true;
        let reason = verdict.reason().map_or(String::new(), |reason| format!(": {reason}"));
        let line = format!("{subtest}: {}{reason} ({duration_ms} ms)", verdict.status());
        vec![Action::Log(line), Action::Record(Box::new(reported))]
    }

    fn reject(&mut self, reason: String) -> Vec<Action> {
        let log = Action::Log(reason.clone());
        self.error.get_or_insert(reason);
        vec![log, Action::Stop]
    }

    fn find(&self, subtest: &SubtestName) -> Option<usize> {
        self.items.iter().position(|item| item.subtest == *subtest)
    }

    /// Records that every job has its verdict, and the child was stopped.
    pub fn complete(&mut self) {
        self.items.iter_mut().for_each(|item| item.has_verdict = true);
        self.finished = Some(0);
        self.sends_heartbeats = false;
    }

    /// Records an error of the daemon. `job` is the one with a verdict that could not be recorded; it stays without a
    /// verdict.
    pub fn fail(&mut self, job: Option<usize>, reason: String) {
        if let Some(item) = job.and_then(|job| self.items.get_mut(job)) {
            item.has_verdict = false;
        }
        self.error.get_or_insert(reason);
    }

    /// The end of the batch, after the child has exited. `last_line` is from its standard error.
    #[must_use]
    pub fn end(&self, exit: Exit, last_line: &str) -> BatchEnd {
        let left: Vec<&str> = self.unfinished().map(|(_, subtest, _)| subtest.as_str()).collect();
        match (&self.error, left.first()) {
            // An error from which the run recovered does not count.
            (_, None) if self.finished.is_some() => BatchEnd::Complete,
            (Some(error), _) => BatchEnd::Infrastructure(error.clone()),
            (None, Some(_)) if self.finished == Some(USAGE) && exit == Exit::Code(USAGE.into()) => {
                let reason = if last_line.is_empty() { "ktest run refused the test file" } else { last_line };
                if model::has_host_error(reason) {
                    return BatchEnd::Infrastructure(reason.into());
                }
                BatchEnd::Refused(reason.into())
            }
            (None, Some(first)) if self.finished.is_some() => BatchEnd::Infrastructure(format!(
                "ktest run finished ({exit}) without a verdict for {} subtests; the first is {first}",
                left.len()
            )),
            _ => {
                let last = if last_line.is_empty() { String::new() } else { format!(": {last_line}") };
                BatchEnd::Infrastructure(format!("ktest run ended before its last event ({exit}){last}"))
            }
        }
    }

    /// The jobs without a verdict: position, subtest, key.
    pub fn unfinished(&self) -> impl Iterator<Item = (usize, &SubtestName, &ResultKey)> {
        let items = self.items.iter().enumerate();
        items.filter(|(_, item)| !item.has_verdict).map(|(at, item)| (at, &item.subtest, &item.key))
    }

    /// The key of a job.
    #[must_use]
    pub fn key(&self, job: usize) -> Option<&ResultKey> {
        self.items.get(job).map(|item| &item.key)
    }

    /// The number of jobs, and of those with a verdict.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.items.len(), self.items.iter().filter(|item| item.has_verdict).count())
    }

    /// The subtest that is running.
    #[must_use]
    pub fn current(&self) -> Option<&SubtestName> {
        self.current.map(|at| &self.items[at].subtest)
    }

    /// Whether heartbeats are expected now. A run of an older version sends none. A run that has ended sends none while
    /// its files are copied from its host.
    #[must_use]
    pub fn sends_heartbeats(&self) -> bool {
        self.sends_heartbeats
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of objects built, and the total if known, while the kernel is being built.
    #[must_use]
    pub fn built(&self) -> Option<(u32, Option<u32>)> {
        self.built.filter(|_| self.phase == Phase::Building)
    }
}

fn build_outcome(cached: bool, fetched: bool) -> BuildOutcome {
    match (cached, fetched) {
        (true, _) => BuildOutcome::Reused,
        (false, true) => BuildOutcome::Fetched,
        (false, false) => BuildOutcome::Built,
    }
}

#[cfg(test)]
mod tests;
