//! The farm while it runs: the scheduler, the window, the results, and what is known of them all.
//!
//! All of it belongs to one task; the scout, the executors and the scheduler tell it what happens by messages.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::HostKind;
use jobkit::{Choir, ChoirConfig, End, ExecutorSpec, JobSpec, LogConfig, Outcome, Shutdown};
use model::{Arch, BranchRef, CommitId, HostName, ResultKey, Verdict};
use results::requests::{Rerun, What};
use results::{KeyId, VerdictRecord, Writer};
use tokio::sync::{mpsc, watch};

use crate::again::Again;
use crate::ballast::Ballast;
use crate::clock::now;
use crate::executor::command::Tools;
use crate::executor::run::{Doing, Slot, Told, body};
use crate::plan::{self, History, Job, Purpose, Verdicts};
use crate::requests::{self, Asked};
use crate::scout::View;
use crate::snapshot::{Ended, Identity, Parts, snapshot};
use crate::wants;
use crate::window::Window;

/// How long executors get to stop what they run.
const ABORT_GRACE: Duration = Duration::from_secs(20);
/// How long a run may take to end after its last verdict when nothing else is left to do.
const LAST: Duration = Duration::from_secs(60);
/// After a start the failures of so many of the newest commits of each branch are looked through.
const NEWEST: usize = 5;
/// How long the store may take to publish a branch's listing before the daemon goes on without it.
const LISTING: Duration = Duration::from_secs(10);

/// The farm.
#[derive(Debug)]
pub struct Farm {
    identity: Identity,
    ktest: PathBuf,
    view: View,
    choir: Choir<Arc<Job>>,
    window: Window,
    store: Store,
    tools: watch::Sender<Arc<Tools>>,
    told: mpsc::UnboundedSender<Told>,
    executors: BTreeSet<String>,
    batches: BTreeMap<String, Doing>,
    ballast: Ballast,
    ended: Ended,
    again: Again,
    listed: BTreeMap<BranchRef, Vec<CommitId>>,
    problems: BTreeSet<String>,
    hook_problem: Option<String>,
}

/// What the farm hears while it runs.
#[derive(Debug)]
pub struct Ears {
    /// Jobs that end.
    pub ends: mpsc::UnboundedReceiver<End<Arc<Job>>>,
    /// What executors tell.
    pub told: mpsc::UnboundedReceiver<Told>,
}

/// The results, as the planner asks them.
#[derive(Debug)]
pub struct Store {
    writer: Writer,
    /// The writer's numbers of the planner's keys.
    ids: Vec<KeyId>,
}

impl Store {
    /// The results that a writer has.
    #[must_use]
    pub fn new(writer: Writer) -> Self {
        Self { writer, ids: Vec::new() }
    }
}

impl Verdicts for Store {
    fn of(&mut self, commit: &CommitId, keys: &[ResultKey], each: &mut dyn FnMut(u32)) -> Result<(), String> {
        for key in &keys[self.ids.len()..] {
            self.ids.push(self.writer.key_id(key));
        }
        let set = self.writer.verdicts(commit).map_err(|error| error.to_string())?;
        (0u32..).zip(&self.ids).filter(|(_, id)| set.contains(**id)).for_each(|(at, _)| each(at));
        Ok(())
    }
}

impl Farm {
    /// A farm without work; [`Farm::take_view`] gives it some. To be called within a tokio runtime.
    #[must_use]
    pub fn new(view: View, writer: Writer, ktest: PathBuf, identity: Identity) -> (Self, Ears) {
        let config = &view.config;
        let choir = Choir::new(ChoirConfig {
            window: config.window,
            abort_grace: ABORT_GRACE,
            logs: Some(LogConfig::new(writer.output_dir().join(crate::LOGS))),
            ..ChoirConfig::default()
        });
        let ballast = Ballast::new(&writer.output_dir().join(crate::WORK));
        let (told, ears) = mpsc::unbounded_channel();
        let ears = Ears { ends: choir.ends(), told: ears };
        let farm = Self {
            identity,
            tools: watch::Sender::new(Arc::new(wants::tools(&view, &ktest))),
            ktest,
            choir,
            window: Window::new(config.window),
            store: Store::new(writer),
            told,
            executors: BTreeSet::new(),
            batches: BTreeMap::new(),
            ballast,
            ended: Ended::default(),
            again: Again::default(),
            listed: BTreeMap::new(),
            problems: BTreeSet::new(),
            hook_problem: None,
            view,
        };
        (farm, ears)
    }

    /// Takes a new view: executors come and go, branches are listed, the window follows the plan.
    pub async fn take_view(&mut self, view: View) {
        self.view = view;
        self.problems.clear();
        if self.view.config.output_dir != self.store.writer.output_dir() {
            let dir = self.view.config.output_dir.display();
            self.problems.insert(format!("output_dir = {dir} takes effect when the daemon is started again"));
        }
        self.set_tools();
        self.set_executors();
        self.list_branches().await;
        self.drop_stale_runs();
        self.replan();
    }

    fn set_tools(&mut self) {
        let tools = Arc::new(wants::tools(&self.view, &self.ktest));
        self.tools.send_if_modified(|current| {
            let changed = *current != tools;
            *current = tools;
            changed
        });
    }

    fn set_executors(&mut self) {
        let config = &self.view.config;
        let wanted: BTreeMap<String, (HostName, u32)> = wants::slots(config)
            .into_iter()
            .map(|(host, slot)| (format!("{host}/{slot}"), (host, slot)))
            .collect();
        for name in self.executors.iter().filter(|name| !wanted.contains_key(*name)) {
            self.choir.remove_executor(name);
        }
        self.executors.retain(|name| wanted.contains_key(name));
        for (name, (host, slot)) in wanted {
            if self.executors.contains(&name) {
                continue;
            }
            let arch = config.hosts.get(&host).map(|host| host.arch).or_else(Arch::native);
            let kind = config.hosts.get(&host).map_or(HostKind::Local, |host| host.kind);
            let tags = arch.map(|arch| ("arch".to_owned(), arch.to_string())).into_iter();
            let tags = tags.chain([("kind".to_owned(), kind.to_string())]).collect();
            let budget = config.subtest_duration_max;
            let work = self.store.writer.output_dir().join(crate::WORK).join(format!("{host}-{slot}"));
            let spec = ExecutorSpec { host: host.to_string(), tags, budget, ..ExecutorSpec::new(&name) };
            let slot = Slot {
                work,
                host,
                slot,
                tools: self.tools.subscribe(),
                writer: self.store.writer.clone(),
                told: self.told.clone(),
            };
            match self.choir.add_executor(spec, |executor| body(executor, slot)) {
                Ok(()) => {
                    self.executors.insert(name);
                }
                // An executor of that name still ends its last batch; the next view tries again.
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    /// Publishes the listings of the branches whose commits have changed.
    async fn list_branches(&mut self) {
        let mut changed = Vec::new();
        for (name, seen) in
            self.view.branches.iter().filter(|(_, seen)| seen.fetched.is_some() || !seen.commits.is_empty())
        {
            let ids: Vec<CommitId> = seen.commits.iter().map(|commit| commit.id.clone()).collect();
            if self.listed.get(name) != Some(&ids) {
                changed.push((name.clone(), ids, seen.commits.clone()));
            }
        }
        let lists = changed.into_iter().map(|(name, ids, commits)| {
            let writer = self.store.writer.clone();
            tokio::spawn(async move {
                let commits =
                    commits.iter().map(|commit| (commit.id.clone(), commit.message.clone())).collect();
                let listed = tokio::time::timeout(LISTING, writer.set_branch(&name, commits)).await;
                let error = match listed {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("the store does not get to it".into()),
                };
                (name, ids, error)
            })
        });
        for list in lists.collect::<Vec<_>>() {
            let Ok((name, ids, error)) = list.await else { continue };
            match error {
                None => drop(self.listed.insert(name, ids)),
                Some(error) => {
                    self.problems.insert(format!("branch {name} is not listed: {error}"));
                }
            }
        }
    }

    fn history(&self) -> HashMap<ResultKey, History> {
        let known = self.store.writer.reader().durations().unwrap_or_else(|error| {
            tracing::warn!("{error}; planning without history");
            Vec::new()
        });
        let entry = |of: results::TestDuration| {
            (of.test, History { mean: of.mean, passed: of.passed, failed: of.failed })
        };
        known.into_iter().map(entry).collect()
    }

    /// Takes back the pending runs beside the plan of commits that no branch has any more.
    fn drop_stale_runs(&mut self) {
        let branches = self.view.branches.values();
        let wanted: HashSet<&CommitId> =
            branches.flat_map(|seen| seen.commits.iter().map(|commit| &commit.id)).collect();
        self.again.keep_commits(|commit| wanted.contains(commit));
        if !self.again.is_empty() {
            self.choir.remove_where(|job| {
                job.payload.purpose != Purpose::First && !wanted.contains(&job.payload.commit)
            });
        }
    }

    /// Makes the plan anew: what is pending and not among the first any more is taken back.
    fn replan(&mut self) {
        let input = wants::input(&self.view, self.history());
        self.window.update(&input, self.view.config.window);
        let mut pending = HashMap::new();
        self.choir.remove_where(|job| {
            if job.payload.purpose == Purpose::First {
                pending.insert(job.payload.name(), job.id);
            }
            false
        });
        let replan = self.window.replan(pending.keys().cloned(), &mut self.store);
        let values = replan.stays.iter();
        self.choir.reorder(values.filter_map(|(job, value)| Some((*pending.get(job)?, *value))));
        let mut there: HashSet<_> = replan.unwanted;
        self.choir
            .remove_where(|job| job.payload.purpose == Purpose::First && there.remove(&job.payload.name()));
        for job in &there {
            self.window.still_there(job);
        }
        self.submit(replan.submit);
    }

    /// Fills the window up.
    pub fn refill_once(&mut self) {
        let jobs = self.window.refill(self.choir.pending_len(), &mut self.store);
        self.submit(jobs);
    }

    fn submit(&self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        tracing::debug!(jobs = jobs.len(), "submitting");
        let least = Duration::from_millis(100);
        self.choir.submit_all(jobs.into_iter().map(|job| JobSpec {
            batch_key: batch_key(&job),
            cost: job.cost.max(least),
            group: job.branch.user.to_string(),
            weight: self.view.config.weight(&job.branch.user),
            order: job.value,
            needs: wants::needs(&self.view.config, &job.repo, &job.unit.env),
            ..JobSpec::new(job.title(), Arc::new(job))
        }));
    }

    /// A job ended.
    pub async fn on_end(&mut self, end: End<Arc<Job>>) {
        self.ended.push(&end);
        let job = end.payload.name();
        if end.payload.purpose != Purpose::First {
            self.on_end_again(&end);
            return;
        }
        match end.outcome {
            Outcome::Done => self.window.judged(&job),
            Outcome::Cancelled => self.window.left(&job),
            // Whoever took it back has seen to it.
            Outcome::Removed => {}
            Outcome::Abandoned { reason } => {
                tracing::error!(%job, "given up: {reason}");
                let verdict = Verdict::FailedToRun { reason };
                let record =
                    VerdictRecord::new(job.commit.clone(), job.key.clone(), verdict.clone(), Duration::ZERO);
                match self.store.writer.record(record).await {
                    Ok(_) => {
                        self.window.judged(&job);
                        let (job, duration) = (end.payload, Duration::ZERO);
                        let _ = self.told.send(Told::Verdict { job, verdict, duration });
                    }
                    Err(error) => {
                        tracing::error!(%job, "cannot be recorded: {error}");
                        self.window.left(&job);
                    }
                }
            }
        }
    }

    /// An executor told something.
    pub fn on_told(&mut self, told: Told) {
        match told {
            Told::Batch { executor, batch: Some(batch) } => drop(self.batches.insert(executor, batch)),
            Told::Batch { executor, batch: None } => drop(self.batches.remove(&executor)),
            Told::Verdict { job, verdict: Verdict::Failed { .. }, .. } => {
                let run = self.again.confirm(&job, self.view.config.confirm_failures);
                self.submit(run.into_iter().collect());
            }
            Told::Verdict { .. } => {}
        }
    }

    /// A run beside the plan ended.
    fn on_end_again(&mut self, end: &End<Arc<Job>>) {
        let job = end.payload.name();
        let done = end.outcome == Outcome::Done;
        match &end.outcome {
            Outcome::Done => self.window.judged(&job),
            Outcome::Abandoned { reason } => {
                tracing::error!(%job, "not run again, given up: {reason}");
                self.window.left(&job);
            }
            Outcome::Cancelled | Outcome::Removed => self.window.left(&job),
        }
        // Only who stops everything leaves requests to the next daemon.
        let stopping = end.outcome == Outcome::Cancelled;
        let next = self.again.ended(&job, done);
        if !stopping {
            next.over.iter().for_each(|file| requests::over(file));
        }
        self.submit(next.submit.into_iter().collect());
    }

    /// Takes what people asked for since the last time; with `left`, also what an earlier daemon did not get to.
    pub fn requests_once(&mut self, left: bool) {
        let found = requests::take(self.store.writer.output_dir(), left);
        for problem in found.problems {
            tracing::warn!("{problem}");
        }
        for Asked { what, file } in found.asked {
            match what {
                What::Rerun(Rerun { commit, key }) => {
                    let job = plan::JobRef { commit, key };
                    if let Err(why) = self.rerun(&job, &file) {
                        tracing::warn!(%job, "does not run again: {why}");
                        requests::over(&file);
                    }
                }
                What::Forget(branch) => self.forget(branch, file),
            }
        }
    }

    /// Lets go of a branch's listing, if the configuration that is in use has no such branch.
    fn forget(&self, branch: BranchRef, file: PathBuf) {
        if self.view.config.branch(&branch).is_some() {
            tracing::warn!("{branch} is not forgotten: the configuration has it");
            return requests::over(&file);
        }
        let writer = self.store.writer.clone();
        tokio::spawn(async move {
            match writer.forget_branch(&branch).await {
                Ok(true) => tracing::info!("{branch} is forgotten"),
                Ok(false) => tracing::warn!("{branch}: there are no results of such a branch"),
                Err(error) => tracing::error!("{branch} is not forgotten: {error}"),
            }
            requests::over(&file);
        });
    }

    fn rerun(&mut self, job: &plan::JobRef, file: &Path) -> Result<(), String> {
        let input = wants::input(&self.view, HashMap::new());
        let found =
            plan::find(&input, job).ok_or("no branch of the configuration has this test at this commit")?;
        let found = Arc::new(found);
        if !self.store.writer.has_verdict(&job.commit, &job.key).map_err(|error| error.to_string())? {
            // It is to come anyway: only sooner, unless it is running.
            let taken = self
                .choir
                .remove_where(|it| it.payload.purpose == Purpose::First && it.payload.name() == *job);
            if taken.is_empty() && self.window.holds(job) {
                requests::over(file);
                return Ok(());
            }
            self.window.still_there(job);
        }
        tracing::info!(%job, "asked for, runs next");
        let run = self.again.ask(&found, Some(file.to_path_buf()));
        self.submit(run.into_iter().collect());
        Ok(())
    }

    /// Confirms the failures that an earlier daemon recorded and did not get to confirm.
    pub fn confirm_left(&mut self, left: &[plan::JobRef]) {
        let input = wants::input(&self.view, HashMap::new());
        let mut runs = Vec::new();
        for job in left {
            let Some(job) = plan::find(&input, job) else { continue };
            runs.extend(self.again.confirm(&Arc::new(job), self.view.config.confirm_failures));
        }
        self.submit(runs);
    }

    /// The newest commits of each branch, for [`unconfirmed`].
    #[must_use]
    pub fn newest(&self) -> Vec<CommitId> {
        let commits = self.view.branches.values().flat_map(|seen| seen.commits.iter().take(NEWEST));
        commits.map(|commit| commit.id.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Publishes the status snapshot.
    pub fn snapshot_once(&mut self) {
        let mut pending = BTreeMap::new();
        self.choir.remove_where(|job| {
            if job.payload.purpose == Purpose::First {
                *pending.entry(job.payload.commit.to_string()).or_default() += 1;
            }
            false
        });
        let more_to_plan = !self.window.is_exhausted(&mut self.store);
        let branches: Vec<_> = self.view.branches.iter().map(|(name, seen)| seen.status(name)).collect();
        let parts = Parts {
            output_dir: self.store.writer.output_dir(),
            choir: &self.choir.status(),
            batches: &self.batches,
            pending: &pending,
            more_to_plan,
            ended: &self.ended,
            branches: &branches,
            problems: &self.problems(),
        };
        let shown = snapshot(self.identity, &parts, now());
        let mut written = self.store.writer.write_snapshot(&shown);
        if written.is_err() && self.ballast.drop_it() {
            written = self.store.writer.write_snapshot(&shown);
        } else if written.is_ok() {
            self.ballast.take_in();
        }
        if let Err(error) = written {
            tracing::error!("{error}");
        }
    }

    /// What needs an operator.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.view.problems.clone();
        problems.extend(wants::left_out(&self.view.config));
        if self.executors.is_empty() {
            problems.push("no host can run anything; add [host.local] with slots = N".into());
        }
        let broken = self
            .view
            .branches
            .iter()
            .filter_map(|(name, seen)| Some(format!("branch {name}: {}", seen.error.as_ref()?)));
        problems.extend(broken);
        problems.extend(self.window.problems());
        problems.extend(self.store.writer.problems());
        problems.extend(self.problems.iter().chain(&self.hook_problem).cloned());
        problems
    }

    /// Whether all is done that can be done now: nothing waits, nothing runs, nothing is left to plan.
    pub fn is_done(&mut self) -> bool {
        let quiet = self.choir.pending_len() == 0 && self.choir.running_len() == 0;
        self.view.complete && quiet && self.window.is_exhausted(&mut self.store)
    }

    /// How many jobs wait, run, or are left to be planned, the last counted up to `most`.
    pub fn left(&mut self, most: usize) -> usize {
        let known = self.choir.pending_len() + self.choir.running_len();
        known + self.window.left_to_hand_out(most, &mut self.store)
    }

    /// The results.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.store.writer
    }

    /// Of how many commits of a branch the results are kept.
    #[must_use]
    pub fn keep(&self) -> usize {
        self.view.config.keep_results_commits
    }

    /// Where pushes are to be listened for.
    #[must_use]
    pub fn hook(&self) -> Option<&config::Hook> {
        self.view.config.hook.as_ref()
    }

    /// What is wrong with the hook, if anything.
    pub fn set_hook_problem(&mut self, problem: Option<String>) {
        self.hook_problem = problem;
    }

    /// What the executors do, by executor.
    #[must_use]
    pub fn batches(&self) -> &BTreeMap<String, Doing> {
        &self.batches
    }

    /// Nothing is left to do: lets runs whose verdicts are all there come to their end, for a while. Publishes what is
    /// known.
    pub async fn finish(&mut self) {
        if tokio::time::timeout(LAST, self.choir.shutdown(Shutdown::Drain)).await.is_err() {
            tracing::warn!("a run does not end although its verdicts are all there; it is stopped");
        }
        self.stop().await;
    }

    /// Ends everything that runs; it has no verdict and will run again. Publishes what is known.
    pub async fn stop(&mut self) {
        self.choir.shutdown(Shutdown::Abort).await;
        self.batches.clear();
        self.snapshot_once();
        if let Err(error) = self.store.writer.flush().await {
            tracing::error!("{error}");
        }
    }
}

/// The failures among the results of `commits` that ran here once and were not confirmed. What cannot be read has none.
#[must_use]
pub fn unconfirmed(reader: &results::Reader, commits: &[CommitId]) -> Vec<plan::JobRef> {
    let mut left = Vec::new();
    for commit in commits {
        let Ok(Some(results)) = reader.commit(commit) else { continue };
        let failed = results.entries.iter().filter(|entry| entry.status == model::Status::Failed);
        let (once, more): (Vec<_>, Vec<_>) = failed.partition(|entry| entry.attempts == 1);
        // What the existing system recorded has no host.
        let once = once.into_iter().filter(|entry| entry.host.is_some());
        let room = crate::again::CONFIRMED.saturating_sub(more.len());
        left.extend(
            once.take(room).map(|entry| plan::JobRef { commit: commit.clone(), key: entry.key.clone() }),
        );
    }
    left
}

/// Jobs of one commit, test file, kernel and env may run in one VM.
pub(crate) fn batch_key(job: &Job) -> String {
    let unit = &job.unit;
    let file = ResultKey::file_prefix(&unit.test, unit.kernel.as_ref(), &unit.env);
    let again = if job.purpose == Purpose::First { "" } else { " again" };
    format!("{} {file}{again}", job.commit)
}
