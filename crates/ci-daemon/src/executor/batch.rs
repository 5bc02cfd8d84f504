//! What the events of one `ktest run` mean for its batch: one synchronous function from a line to actions.
//!
//! A subtest gets at most one verdict, the first. What has none when the child is gone was not judged: it goes back.
//! Nothing that the child prints makes this panic or leave the output directory.

use std::path::{Component, PathBuf};

use model::event::EventError;
use model::{Event, KernelId, ResultKey, Stamped, SubtestName, TestPath, Verdict};
use spawn::Exit;

/// `ktest run`'s exit code for what it cannot make sense of.
const USAGE: u8 = 2;

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing was heard yet.
    #[default]
    Starting,
    /// The kernel is being built.
    Building,
    /// A VM is on its way up.
    Booting,
    /// Subtests run.
    Testing,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Building, Self::Booting, Self::Testing];

    /// The word of the status snapshot.
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

/// A verdict to be published and recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedVerdict {
    /// Which job of the batch, by position.
    pub job: usize,
    /// Its verdict.
    pub verdict: Verdict,
    /// How long the subtest ran, in ms.
    pub duration_ms: u64,
    /// The crash's title, where there was one.
    pub crash: Option<String>,
    /// Its folder, relative to the output directory and inside it.
    pub dir: PathBuf,
    /// The kernel that ran and the SHA-256 of its image, where one was made.
    pub kernel: Option<(KernelId, String)>,
}

/// What is to be done about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The job runs now: publish it as in progress.
    Begin(usize),
    /// Publish and record the verdict; then the job is done.
    Record(Box<ReportedVerdict>),
    /// Say it in the executor's log.
    Say(String),
    /// Stop the child: what it says cannot be used.
    Stop,
}

/// One job of a batch.
#[derive(Debug, Clone)]
struct Item {
    subtest: SubtestName,
    key: ResultKey,
    judged: bool,
}

/// A batch while its child runs.
#[derive(Debug, Clone)]
pub struct BatchState {
    test: TestPath,
    items: Vec<Item>,
    phase: Phase,
    built: Option<(u32, Option<u32>)>,
    current: Option<usize>,
    kernel: Option<(KernelId, String)>,
    trouble: Option<String>,
    finished: Option<u8>,
    /// The run sends heartbeats.
    beats: bool,
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEnd {
    /// Every subtest has its verdict.
    Complete,
    /// `ktest run` refused what it was asked for (its exit code 2), in one line: what has no verdict cannot be run.
    Refused(String),
    /// Something other than the tested code is broken; what has no verdict goes back.
    Infrastructure(String),
}

impl BatchState {
    /// A batch of these subtests of one test file.
    #[must_use]
    pub fn new(test: TestPath, jobs: impl IntoIterator<Item = (SubtestName, ResultKey)>) -> Self {
        let items = jobs.into_iter().map(|(subtest, key)| Item { subtest, key, judged: false }).collect();
        Self {
            test,
            items,
            phase: Phase::default(),
            built: None,
            current: None,
            kernel: None,
            trouble: None,
            finished: None,
            beats: false,
        }
    }

    /// One line of the child's standard output.
    pub fn on_line(&mut self, line: &str) -> Vec<Action> {
        match Stamped::parse(line) {
            Ok(Some(stamped)) => self.on_event(stamped.event),
            Ok(None) => Vec::new(),
            Err(error @ EventError::Version(_)) => self.distrust(error.to_string()),
            Err(EventError::Json(_)) => {
                let line: String = line.chars().take(200).collect();
                vec![Action::Say(format!("not an event, skipped: {line:?}"))]
            }
        }
    }

    /// One event.
    pub fn on_event(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::RunStarted { test, .. } if test != self.test => {
                self.distrust(format!("ktest runs {test} where {} was asked for", self.test))
            }
            Event::RunStarted { subtests, .. } => vec![Action::Say(format!("{} subtests", subtests.len()))],
            Event::BuildStarted => {
                self.phase = Phase::Building;
                vec![Action::Say("building the kernel".into())]
            }
            Event::Phase { what } => vec![Action::Say(what)],
            Event::BuildProgress { done, total } => {
                self.phase = Phase::Building;
                self.built = Some((done, total));
                Vec::new()
            }
            Event::KernelWanted { kernel } => {
                vec![Action::Say(format!("kernel {} is not in the store", kernel.short()))]
            }
            Event::Log { .. } => Vec::new(),
            Event::Heartbeat => {
                self.beats = true;
                Vec::new()
            }
            Event::KernelReady { kernel, image_hash, cached, fetched, duration_ms } => {
                let how = match (cached, fetched) {
                    (true, _) => "from the store",
                    (false, true) => "fetched",
                    (false, false) => "built",
                };
                let say = format!("kernel {} {how} in {} s", kernel.short(), duration_ms / 1000);
                self.kernel = Some((kernel, image_hash));
                vec![Action::Say(say)]
            }
            Event::BuildFailed { reason } => {
                vec![Action::Say(format!("the kernel does not build: {reason}"))]
            }
            Event::BootStarted { vm, accel } => {
                self.phase = Phase::Booting;
                self.current = None;
                vec![Action::Say(format!("VM {vm} starts ({accel})"))]
            }
            Event::Booted { vm, duration_ms } => {
                self.phase = Phase::Testing;
                vec![Action::Say(format!("VM {vm} is up after {duration_ms} ms"))]
            }
            Event::SubtestStarted { subtest } => self.begin(&subtest),
            Event::Verdict { subtest, verdict, duration_ms, crash, dir, .. } => {
                self.judge(&subtest, verdict, duration_ms, crash, dir)
            }
            Event::Infrastructure { what } => {
                let say = format!("infrastructure: {what}");
                self.trouble.get_or_insert(what);
                vec![Action::Say(say)]
            }
            Event::RunFinished { exit_code } => {
                self.finished = Some(exit_code);
                self.beats = false;
                Vec::new()
            }
        }
    }

    fn begin(&mut self, subtest: &SubtestName) -> Vec<Action> {
        self.phase = Phase::Testing;
        let Some(job) = self.find(subtest) else {
            return vec![Action::Say(format!("{subtest} starts, which is not in the batch"))];
        };
        self.current = Some(job);
        if self.items[job].judged {
            return vec![Action::Say(format!("{subtest} starts again, its first verdict stands"))];
        }
        vec![Action::Begin(job), Action::Say(format!("{subtest} starts"))]
    }

    fn judge(
        &mut self,
        subtest: &SubtestName,
        verdict: Verdict,
        duration_ms: u64,
        crash: Option<String>,
        dir: PathBuf,
    ) -> Vec<Action> {
        let Some(job) = self.find(subtest) else {
            return vec![Action::Say(format!(
                "a verdict of {subtest}, which is not in the batch, is dropped"
            ))];
        };
        if self.current == Some(job) {
            self.current = None;
        }
        if self.items[job].judged {
            return vec![Action::Say(format!("a second verdict of {subtest} is dropped, the first stands"))];
        }
        if !dir.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return self
                .distrust(format!("the folder of {subtest} is outside the output directory: {dir:?}"));
        }
        self.items[job].judged = true;
        let reason = verdict.reason().map_or(String::new(), |reason| format!(": {reason}"));
        let say = format!("{subtest}: {}{reason} ({duration_ms} ms)", verdict.status());
        let kernel = self.kernel.clone();
        let judged = ReportedVerdict { job, verdict, duration_ms, crash, dir, kernel };
        vec![Action::Say(say), Action::Record(Box::new(judged))]
    }

    fn distrust(&mut self, why: String) -> Vec<Action> {
        let say = Action::Say(why.clone());
        self.trouble.get_or_insert(why);
        vec![say, Action::Stop]
    }

    fn find(&self, subtest: &SubtestName) -> Option<usize> {
        self.items.iter().position(|item| item.subtest == *subtest)
    }

    /// Something on our side went wrong (a verdict could not be recorded): the job has no verdict after all.
    pub fn fail(&mut self, job: Option<usize>, why: String) {
        if let Some(item) = job.and_then(|job| self.items.get_mut(job)) {
            item.judged = false;
        }
        self.trouble.get_or_insert(why);
    }

    /// The child is gone; `complaint` is the last line of its standard error.
    #[must_use]
    pub fn end(&self, exit: Exit, complaint: &str) -> BatchEnd {
        let left: Vec<&str> = self.unfinished().map(|(_, subtest, _)| subtest.as_str()).collect();
        match (&self.trouble, left.first()) {
            // Trouble that the run got over is none.
            (_, None) if self.finished.is_some() => BatchEnd::Complete,
            (Some(trouble), _) => BatchEnd::Infrastructure(trouble.clone()),
            (None, Some(_)) if self.finished == Some(USAGE) && exit == Exit::Code(USAGE.into()) => {
                BatchEnd::Refused(
                    if complaint.is_empty() { "ktest run refused it" } else { complaint }.into(),
                )
            }
            (None, Some(first)) if self.finished.is_some() => BatchEnd::Infrastructure(format!(
                "ktest run finished ({exit}) without a verdict for {} subtests, the first is {first}",
                left.len()
            )),
            _ => {
                let last = if complaint.is_empty() { String::new() } else { format!(": {complaint}") };
                BatchEnd::Infrastructure(format!("ktest run ended before its last event ({exit}){last}"))
            }
        }
    }

    /// The jobs without a verdict: position, subtest, key.
    pub fn unfinished(&self) -> impl Iterator<Item = (usize, &SubtestName, &ResultKey)> {
        let items = self.items.iter().enumerate();
        items.filter(|(_, item)| !item.judged).map(|(at, item)| (at, &item.subtest, &item.key))
    }

    /// The key of a job.
    #[must_use]
    pub fn key(&self, job: usize) -> Option<&ResultKey> {
        self.items.get(job).map(|item| &item.key)
    }

    /// How many jobs it has, and how many have their verdict.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.items.len(), self.items.iter().filter(|item| item.judged).count())
    }

    /// The subtest that runs now.
    #[must_use]
    pub fn current(&self) -> Option<&SubtestName> {
        self.current.map(|at| &self.items[at].subtest)
    }

    /// Whether the run sends heartbeats now. A run of an older version sends none, and neither does one that has ended and
    /// whose files are still copied from its host.
    #[must_use]
    pub fn beats(&self) -> bool {
        self.beats
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Objects built and to be built, while the kernel is being built.
    #[must_use]
    pub fn built(&self) -> Option<(u32, Option<u32>)> {
        self.built.filter(|_| self.phase == Phase::Building)
    }
}

#[cfg(test)]
mod tests;
