//! Decides what the farm does next: a state over plain data and one synchronous function, [`Farm::handle`], which tests
//! call directly.
//!
//! The farm does not write results and does not start processes. It submits jobs to the scheduler and returns
//! [`Command`]s for everything else, which the publisher carries out.

mod believe;
mod bisect;
mod controls;
mod postponed;
mod status;
#[cfg(test)]
mod tests;
mod unconfirmed;
mod verdicts;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fsx::clock::unix_seconds;
use jobkit::{Choir, End, JobSpec, Outcome};
use model::{BranchRef, CommitId, ResultKey, Verdict};
use results::bisections::BisectionRecord;
use results::notes::RequestEnd;
use results::requests::{RequestKind, Rerun};

pub use self::controls::Controls;
use self::postponed::Postponed;
pub use self::status::Identity;
pub use self::unconfirmed::{Unconfirmed, unconfirmed};
pub use self::verdicts::RecordedVerdicts;
use crate::believe::Claims;
use crate::bisect::Bisections;
use crate::bisect::repository::GitQuestion;
use crate::executor::placement;
use crate::executor::run::{BatchProgress, ExecutorEvent};
use crate::inherit::is_checked;
use crate::plan::reruns::Reruns;
use crate::plan::window::Window;
use crate::plan::{self, History, JobRef, PlannedJob, Purpose};
use crate::report::host_activity::HostActivity;
use crate::report::snapshot::EndedJobs;
use crate::requests::TakenRequest;
use crate::soak::{IdleTime, OpenClaim};
use crate::watch::fetch_loop::View;

/// After a start, the failures at this many of the newest commits of each branch are examined.
const NEWEST: usize = 5;
/// The minimum cost of a job, so that a batch of jobs without history is limited in size.
const LEAST_COST: Duration = Duration::from_millis(100);

/// The maximum number of alarms that are shown.
const MOST_ALARMS: usize = 5;

/// The farm.
#[derive(Debug)]
pub struct Farm {
    identity: Identity,
    output_dir: PathBuf,
    view: View,
    choir: Choir<Arc<PlannedJob>>,
    window: Window,
    verdicts: RecordedVerdicts,
    batches: BTreeMap<String, BatchProgress>,
    ended: EndedJobs,
    reruns: Reruns,
    bisections: Bisections,
    claims: Claims,
    /// The bisections with first bad commits that are to be verified again.
    rechecks: Vec<BisectionRecord>,
    /// Claims that idle slots can finish, nearest to done first.
    open_claims: Vec<OpenClaim>,
    idle_time: IdleTime,
    activity: HostActivity,
    postponed: Postponed,
    /// Whether something happened that a bisection may use.
    bisect_now: bool,
    /// Requests about tests that no fetched branch has, while branches are still being fetched.
    waiting: Vec<TakenRequest>,
    /// The tests that fail only under load.
    alone: Arc<HashSet<ResultKey>>,
    /// What operators stopped.
    controls: Controls,
    pause_changed: bool,
    /// Builds that differed from a clean one, newest last. They are shown until the daemon restarts.
    alarms: VecDeque<String>,
}

/// An event that changes what the farm does.
#[derive(Debug)]
pub enum FarmEvent {
    /// A job ended.
    JobEnded(End<Arc<PlannedJob>>),
    /// A report from an executor.
    Executor(ExecutorEvent),
    /// The verdict of a job that the scheduler gave up has been recorded, or could not be.
    Abandoned {
        /// The job.
        job: Arc<PlannedJob>,
        /// Its verdict, if it is durable.
        verdict: Option<Verdict>,
    },
    /// A request of a user.
    Request(TakenRequest),
    /// Failures that an earlier daemon recorded and did not confirm.
    Unconfirmed(Vec<Unconfirmed>),
    /// Inherited verdicts that may have to be checked.
    Unchecked(Vec<JobRef>),
}

/// A change of files that results from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Record that the job failed to run; [`FarmEvent::Abandoned`] reports the result.
    RecordAbandoned {
        /// The job.
        job: Arc<PlannedJob>,
        /// The scheduler's reason.
        reason: String,
    },
    /// Record the result of a request, and remove its file.
    FinishRequest(PathBuf, RequestEnd),
    /// Remove the listing of a branch, then the file of the request.
    Unlist {
        /// The branch.
        branch: BranchRef,
        /// The file of the request.
        request: PathBuf,
    },
    /// Write the record of a bisection.
    WriteBisection {
        /// Its id.
        id: String,
        /// The text of the record.
        text: String,
    },
    /// Keep these commits in a repository for a bisection, and no others.
    KeepCommits {
        /// The bisection.
        id: String,
        /// The repository.
        repo: PathBuf,
        /// The commits.
        commits: Vec<CommitId>,
    },
    /// Ask a repository. [`Farm::repository_answered`] takes the answer.
    AskRepository {
        /// The bisection.
        id: String,
        /// The repository; `None` if it is no longer configured.
        repo: Option<PathBuf>,
        /// The question.
        question: GitQuestion,
    },
    /// Write the record of what is drained and paused.
    WriteControls(String),
    /// Write the record of a claim.
    WriteClaim {
        /// Its id.
        id: String,
        /// The text of the record.
        text: String,
    },
}

/// Why a rerun is refused.
#[derive(Debug, thiserror::Error)]
enum RerunError {
    #[error("no branch of the configuration has this test at this commit")]
    NotConfigured,
    #[error(transparent)]
    Results(#[from] results::Error),
}

impl Farm {
    /// A farm without jobs; [`Farm::take_view`] plans them.
    #[must_use]
    pub fn new(
        view: View,
        choir: Choir<Arc<PlannedJob>>,
        verdicts: RecordedVerdicts,
        output_dir: PathBuf,
        identity: Identity,
    ) -> Self {
        Self {
            identity,
            output_dir,
            window: Window::new(view.config.top.window),
            choir,
            verdicts,
            batches: BTreeMap::new(),
            ended: EndedJobs::default(),
            reruns: Reruns::default(),
            bisections: Bisections::default(),
            claims: Claims::default(),
            rechecks: Vec::new(),
            open_claims: Vec::new(),
            idle_time: IdleTime::default(),
            activity: HostActivity::default(),
            postponed: Postponed::default(),
            bisect_now: true,
            waiting: Vec::new(),
            alone: Arc::default(),
            controls: Controls::default(),
            pause_changed: false,
            alarms: VecDeque::new(),
            view,
        }
    }

    /// The same farm with at most `jobs` jobs, not counting retries.
    #[must_use]
    pub fn limited_to(mut self, jobs: Option<usize>) -> Self {
        self.window.limit_to(jobs);
        self
    }

    /// Applies a new view, replans, and handles the requests that waited for branches. Returns the commands to carry out.
    pub fn take_view(&mut self, view: View, history: HashMap<ResultKey, History>) -> Vec<Command> {
        self.view = view;
        self.drop_stale_reruns();
        self.replan(history);
        self.bisect_now = true;
        self.claims.view_changed();
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().flat_map(|request| self.request(request)).collect()
    }

    /// Cancels the pending reruns of commits that are no longer on a branch.
    fn drop_stale_reruns(&mut self) {
        let branches = self.view.branches.values();
        let wanted: HashSet<&CommitId> =
            branches.flat_map(|branch| branch.commits.iter().map(|commit| &commit.id)).collect();
        self.reruns.keep_commits(|commit| wanted.contains(commit));
        self.postponed.keep_commits(|commit| wanted.contains(commit));
        self.choir.remove_where(|job| {
            let commit = &job.payload.commit;
            job.payload.purpose != Purpose::First
                && !wanted.contains(commit)
                && !self.bisections.has_commit(commit)
        });
    }

    /// Replans. Pending jobs that are no longer among the first are taken back.
    fn replan(&mut self, history: HashMap<ResultKey, History>) {
        let mut input = plan::from_view::input(&self.view, history);
        input.branches.retain(|branch| !self.controls.is_paused(&branch.name));
        self.window.update(&input, self.view.config.top.window);
        let mut pending = HashMap::new();
        self.choir.remove_where(|job| {
            if job.payload.purpose == Purpose::First {
                pending.insert(job.payload.name(), job.id);
            }
            false
        });
        let replan = self.window.replan(pending.keys().cloned(), &mut self.verdicts);
        let values = replan.stays.iter();
        self.choir.reorder(values.filter_map(|(job, value)| Some((*pending.get(job)?, *value))));
        let mut claimed: HashSet<_> = replan.unwanted;
        self.choir
            .remove_where(|job| job.payload.purpose == Purpose::First && claimed.remove(&job.payload.name()));
        for job in &claimed {
            self.window.hold(job);
        }
        self.submit(replan.submit);
    }

    /// Fills the window.
    pub fn refill(&mut self) {
        let jobs = self.window.refill(self.choir.pending_len(), &mut self.verdicts);
        self.submit(jobs);
    }

    /// Sets the tests that fail only under load: each gets a host to itself.
    pub fn run_alone(&mut self, tests: Arc<HashSet<ResultKey>>) {
        self.alone = tests;
    }

    fn submit(&self, jobs: impl IntoIterator<Item = PlannedJob>) {
        let config = &self.view.config;
        let jobs = jobs.into_iter();
        let jobs = jobs.map(|job| PlannedJob { alone: job.alone || self.alone.contains(&job.key), ..job });
        self.choir.submit_all(jobs.map(|job| JobSpec {
            batch_key: job.batch_key(),
            cost: job.cost.max(LEAST_COST),
            group: job.branch.user.to_string(),
            weight: config.weight(&job.branch.user),
            executors_max: config.max_workers(&job.branch.user),
            order: job.value,
            needs: placement::needs(config, &job.repo, &job.unit.env),
            ..JobSpec::new(job.title(), Arc::new(job))
        }));
    }

    /// Handles one event. Returns the commands to carry out.
    pub fn handle(&mut self, event: FarmEvent) -> Vec<Command> {
        match event {
            FarmEvent::JobEnded(end) => self.job_ended(end),
            FarmEvent::Executor(event) => {
                self.executor_event(event);
                Vec::new()
            }
            FarmEvent::Abandoned { job, verdict } => {
                match verdict {
                    Some(_) => self.window.set_done(&job.name()),
                    None => self.window.give_back(&job.name()),
                }
                Vec::new()
            }
            FarmEvent::Request(request) => self.request(request),
            FarmEvent::Unconfirmed(jobs) => {
                self.confirm_left(&jobs);
                Vec::new()
            }
            FarmEvent::Unchecked(jobs) => {
                self.check_inherited(&jobs);
                Vec::new()
            }
        }
    }

    fn request(&mut self, request: TakenRequest) -> Vec<Command> {
        let file = request.file.clone();
        match &request.kind {
            RequestKind::Rerun(Rerun { commit, key }) => {
                let job = JobRef { commit: commit.clone(), key: key.clone() };
                self.rerun(&job, request)
            }
            RequestKind::Unlist(branch) => self.unlist(branch.clone(), file),
            RequestKind::Bisect(_) => self.begin_bisection(request),
            RequestKind::CancelBisection(id) => self.cancel_bisection(id, file),
            RequestKind::Believe(_) => self.begin_claim(request),
            RequestKind::CancelBelieve(id) => self.cancel_claim(id, file),
            RequestKind::Drain(_)
            | RequestKind::Resume(_)
            | RequestKind::CancelBatch(_)
            | RequestKind::PauseBranch(_)
            | RequestKind::ResumeBranch(_) => self.control(&request),
            // The senders of findings handle it.
            RequestKind::Notify(_) => Vec::new(),
        }
    }

    fn job_ended(&mut self, mut end: End<Arc<PlannedJob>>) -> Vec<Command> {
        self.ended.push(&end);
        self.give_up_cancelled(&mut end);
        self.bisect_now = true;
        if matches!(end.payload.purpose, Purpose::Believe { .. }) {
            self.claim_run_ended(&end);
            return Vec::new();
        }
        if end.payload.purpose == Purpose::Postponed {
            return self.postponed_ended(end);
        }
        if end.payload.purpose != Purpose::First {
            return self.rerun_ended(&end);
        }
        let job = end.payload.name();
        match end.outcome {
            Outcome::Done => self.window.set_done(&job),
            Outcome::Cancelled => self.window.give_back(&job),
            // The window dropped the job before it was removed.
            Outcome::Removed => {}
            Outcome::Abandoned { reason } => {
                tracing::error!(%job, "given up: {reason}");
                return vec![Command::RecordAbandoned { job: end.payload, reason }];
            }
        }
        Vec::new()
    }

    fn rerun_ended(&mut self, end: &End<Arc<PlannedJob>>) -> Vec<Command> {
        let job = end.payload.name();
        match &end.outcome {
            Outcome::Done => self.window.set_done(&job),
            Outcome::Abandoned { reason } => {
                tracing::error!(%job, "rerun given up: {reason}");
                self.window.give_back(&job);
            }
            Outcome::Cancelled | Outcome::Removed => self.window.give_back(&job),
        }
        self.bisections.ended(&end.payload, &end.outcome, unix_seconds());
        if end.outcome == Outcome::Done {
            self.bisect_new_failure(&end.payload);
        }
        let next = self.reruns.ended(&job, end.outcome == Outcome::Done);
        self.submit(next.submit);
        // A daemon that stops cancels its jobs; the next daemon finds their requests.
        let finished = if end.outcome == Outcome::Cancelled { Vec::new() } else { next.finished };
        let result = match &end.outcome {
            Outcome::Done => RequestEnd::Done,
            Outcome::Abandoned { reason } => RequestEnd::Failed(reason.clone()),
            Outcome::Cancelled | Outcome::Removed => RequestEnd::Failed("the job was removed".into()),
        };
        finished.into_iter().map(|file| Command::FinishRequest(file, result.clone())).collect()
    }

    fn executor_event(&mut self, event: ExecutorEvent) {
        match event {
            ExecutorEvent::Batch { executor, batch: Some(batch) } => {
                self.batches.insert(executor, batch);
            }
            ExecutorEvent::Batch { executor, batch: None } => {
                self.batches.remove(&executor);
            }
            ExecutorEvent::Verdict { job, verdict, crash, alone, host, load, .. } => {
                self.activity.verdict(&host, load, unix_seconds());
                self.bisections.attempted(&job.name());
                self.claims.attempted(&job, &verdict);
                let outcome = belief::Outcome::of(verdict.status(), verdict.reason(), crash.as_deref());
                self.postponed.remove(&job.name());
                if job.purpose.is_first() && matches!(verdict, Verdict::Failed { .. }) {
                    let times = self.view.config.top.confirm_failures;
                    let run = self.reruns.confirm(&job, times, vec![outcome]);
                    self.submit(run);
                } else {
                    self.reruns.outcome(&job, outcome);
                }
                if alone == Some(true) && matches!(verdict, Verdict::Failed { .. }) {
                    self.reruns.failed_alone(&job);
                }
            }
            ExecutorEvent::HostReport { host, report } => {
                self.activity.report(host.as_str(), report, unix_seconds());
            }
            ExecutorEvent::InheritedFailure { job, outcomes } => {
                let run = self.reruns.confirm(&job, self.view.config.top.confirm_failures, outcomes);
                self.submit(run);
            }
            ExecutorEvent::CheckInherited(job) => {
                let run = self.reruns.check(&job);
                self.submit(run);
            }
            ExecutorEvent::Postponed(jobs) => self.postponed.add(jobs),
            ExecutorEvent::CachedBuildDiffers(alarm) => {
                self.alarms.push_back(alarm);
                if self.alarms.len() > MOST_ALARMS {
                    self.alarms.pop_front();
                }
            }
            // The daemon takes them out of the view.
            ExecutorEvent::KernelNotFound { .. } => {}
        }
    }

    fn unlist(&self, branch: BranchRef, request: PathBuf) -> Vec<Command> {
        if self.view.config.branch(&branch).is_some() {
            tracing::warn!("{branch} is in the configuration; its listing is not removed");
            let reason = "the branch is in the configuration".to_owned();
            return vec![Command::FinishRequest(request, RequestEnd::Refused(reason))];
        }
        vec![Command::Unlist { branch, request }]
    }

    fn rerun(&mut self, job: &JobRef, request: TakenRequest) -> Vec<Command> {
        let file = request.file.clone();
        match self.start_rerun(job, file.clone()) {
            Ok(true) => Vec::new(),
            Ok(false) => vec![Command::FinishRequest(file, RequestEnd::Done)],
            // After a start, the branches arrive one after another.
            Err(RerunError::NotConfigured) if !self.view.complete => {
                self.waiting.push(request);
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(%job, "rerun refused: {error}");
                vec![Command::FinishRequest(file, RequestEnd::Refused(error.to_string()))]
            }
        }
    }

    /// Returns false if the first attempt of the job is running, which satisfies the request.
    fn start_rerun(&mut self, job: &JobRef, request: PathBuf) -> Result<bool, RerunError> {
        let input = plan::from_view::input(&self.view, HashMap::new());
        let found = Arc::new(plan::find(&input, job).ok_or(RerunError::NotConfigured)?);
        if !self.hold(job)? {
            return Ok(false);
        }
        tracing::info!(%job, "rerun requested, runs next");
        let run = self.reruns.request(&found, Some(request));
        self.submit(run);
        Ok(true)
    }

    /// Takes a job without a verdict out of the plan, for a further attempt. Returns false if its first attempt is running.
    fn hold(&mut self, job: &JobRef) -> Result<bool, results::Error> {
        if !self.verdicts.has(job)? {
            // Its first run is planned: the request only makes it run sooner.
            let taken = self
                .choir
                .remove_where(|it| it.payload.purpose == Purpose::First && it.payload.name() == *job);
            if taken.is_empty() && self.window.holds(job) {
                return Ok(false);
            }
            self.window.hold(job);
        }
        Ok(true)
    }

    /// Retries failures that an earlier daemon recorded and did not confirm.
    fn confirm_left(&mut self, left: &[Unconfirmed]) {
        let input = plan::from_view::input(&self.view, HashMap::new());
        let times = self.view.config.top.confirm_failures;
        for Unconfirmed { job, outcomes } in left {
            let Some(job) = plan::find(&input, job) else { continue };
            let run = self.reruns.confirm(&Arc::new(job), times, outcomes.clone());
            self.submit(run);
        }
    }

    /// Runs those of these tests that their group checks.
    fn check_inherited(&mut self, left: &[JobRef]) {
        if left.is_empty() {
            return;
        }
        let input = plan::from_view::input(&self.view, HashMap::new());
        for name in left {
            let found = plan::find(&input, name);
            let checked = found.filter(|job| is_checked(job.inherit_check, &name.commit, &name.key));
            let run = checked.and_then(|job| self.reruns.check(&Arc::new(job)));
            self.submit(run);
        }
    }

    /// The newest commits of each branch, for [`unconfirmed`].
    #[must_use]
    pub fn newest(&self) -> Vec<CommitId> {
        let commits = self.view.branches.values().flat_map(|branch| branch.commits.iter().take(NEWEST));
        commits
            .map(|commit| commit.id.clone())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Whether no job is pending, running or left to plan.
    pub fn is_done(&mut self) -> bool {
        let quiet =
            self.choir.pending_len() == 0 && self.choir.running_len() == 0 && !self.bisections.is_counting();
        let quiet = quiet && self.postponed.len() == 0;
        self.view.complete && quiet && self.window.is_exhausted(&mut self.verdicts)
    }

    /// The number of jobs that are pending, running or left to plan. The last are counted up to `most`.
    pub fn left(&mut self, most: usize) -> usize {
        let submitted = self.choir.pending_len() + self.choir.running_len() + self.postponed.len();
        submitted + self.window.count_left(most, &mut self.verdicts)
    }

    /// The view in effect.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The progress of each executor's batch.
    #[must_use]
    pub fn batches(&self) -> &BTreeMap<String, BatchProgress> {
        &self.batches
    }

    /// Drops the batches after all executors have stopped.
    pub fn clear_batches(&mut self) {
        self.batches.clear();
    }
}
