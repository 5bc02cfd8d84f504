//! Bisections: requests of users, and their runs.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use belief::bisect::State;
use fsx::clock::unix_seconds;
use model::{BisectStart, BranchRef, CommitId, Status};
use regress::request::RangeError;
use results::TestEntry;
use results::bisections::{self, BisectionRecord, BisectionRecords};
use results::notes::RequestEnd;
use results::requests::{Bisect, BisectRange, RequestKind};

use super::{Command, Farm, RecordedVerdicts};
use crate::audit::Requester;
use crate::bisect::repository::GitAnswer;
use crate::bisect::{self, Asked, Bench, BisectError, ChainError};
use crate::plan::{self, Input, JobRef, PlannedJob, Purpose};
use crate::requests::TakenRequest;
use crate::watch::fetch_loop::View;

/// What a bisection or a claim sees of the farm.
pub(super) struct FarmBench<'a> {
    pub(super) view: &'a View,
    /// Made when it is needed: it has the commits of all branches.
    input: OnceCell<Input>,
    pub(super) verdicts: &'a RecordedVerdicts,
}

impl<'a> FarmBench<'a> {
    pub(super) fn new(view: &'a View, verdicts: &'a RecordedVerdicts) -> Self {
        Self { view, input: OnceCell::new(), verdicts }
    }
}

impl Bench for FarmBench<'_> {
    fn entry(&self, job: &JobRef) -> Option<TestEntry> {
        self.verdicts.entry(job)
    }

    fn job(&self, branch: &BranchRef, job: &JobRef) -> Option<PlannedJob> {
        let input = self.input.get_or_init(|| plan::from_view::input(self.view, HashMap::new()));
        plan::find_on_branch(input, branch, job)
    }

    fn tip(&self, branch: &BranchRef) -> Option<CommitId> {
        self.view.branches.get(branch)?.tip().cloned()
    }
}

impl Farm {
    /// Continues the bisections of an earlier daemon.
    pub fn resume_bisections(&mut self, found: BisectionRecords) {
        for problem in found.problems {
            tracing::warn!("bisection {problem}");
        }
        let bench = FarmBench::new(&self.view, &self.verdicts);
        for record in found.records {
            let id = record.record.id.clone();
            if let Err(error) = self.bisections.resume(record, &bench) {
                tracing::warn!("bisection {id} is not continued: {error}");
            }
        }
        self.bisect_now = true;
    }

    /// Starts the next runs of the bisections. `now` in Unix seconds. Returns the commands to carry out.
    pub fn bisect(&mut self, now: i64) -> Vec<Command> {
        self.next_recheck();
        let now_due = std::mem::take(&mut self.bisect_now) || self.bisections.is_counting();
        if !now_due || self.bisections.is_empty() {
            return Vec::new();
        }
        let idle = self.idle();
        let bench = FarmBench::new(&self.view, &self.verdicts);
        let round = self.bisections.round(&bench, idle, now);
        for job in round.submit {
            self.submit_bisection(&Arc::new(job));
        }
        let repo = |branch: &BranchRef| {
            let branch = self.view.config.branch(branch)?;
            self.view.config.repo(&branch.repo).map(PathBuf::from)
        };
        let keep = |(id, branch, commits)| Some(Command::KeepCommits { id, repo: repo(&branch)?, commits });
        let write = |(id, text)| Command::WriteBisection { id, text };
        let ask = |(id, branch, question)| Command::AskRepository { id, repo: repo(&branch), question };
        let kept = round.keep.into_iter().filter_map(keep);
        kept.chain(round.write.into_iter().map(write)).chain(round.ask.into_iter().map(ask)).collect()
    }

    /// Takes the answer of a repository to a bisection.
    pub fn repository_answered(&mut self, id: &str, answer: GitAnswer) {
        let bench = FarmBench::new(&self.view, &self.verdicts);
        self.bisections.answered(id, answer, &bench);
        self.bisect_now = true;
    }

    fn submit_bisection(&mut self, job: &Arc<PlannedJob>) {
        let name = job.name();
        match self.hold(&name) {
            Ok(true) => {
                let run = self.reruns.bisect(job);
                self.submit(run);
            }
            // Its first attempt is running, and will be counted.
            Ok(false) => self.bisections.not_submitted(&name),
            Err(error) => {
                tracing::warn!(job = %name, "{error}");
                self.bisections.not_submitted(&name);
            }
        }
    }

    /// The number of slots without work.
    pub(super) fn idle(&self) -> usize {
        let busy = self.batches.len() + self.choir.pending_len();
        let slots = self.slots();
        slots.iter().filter(|name| !self.controls.is_drained(name)).count().saturating_sub(busy)
    }

    pub(super) fn begin_bisection(&mut self, request: TakenRequest) -> Vec<Command> {
        let RequestKind::Bisect(bisect) = &request.kind else { return Vec::new() };
        let file = request.file.clone();
        let account = request.requester.as_ref().map(Requester::account);
        match self.start_bisection(bisect, account, Some(&request.file), None) {
            Ok(id) => {
                tracing::info!("bisection {id} of {} begins", bisect.key);
                self.bisect_now = true;
                // The request is finished after its record is written.
                let mut commands = self.bisect(unix_seconds());
                commands.push(Command::FinishRequest(file, RequestEnd::Done));
                commands
            }
            // After a start, the branches arrive one after another.
            Err(
                BisectError::NotConfigured | BisectError::Range(ChainError::Range(RangeError::NotListed(_))),
            ) if !self.view.complete => {
                self.waiting.push(request);
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(test = %bisect.key, "bisection refused: {error}");
                vec![Command::FinishRequest(file, RequestEnd::Refused(error.to_string()))]
            }
        }
    }

    /// A retry ended: begins the bisection of a failure that it confirmed, if the group wants that.
    pub(super) fn bisect_new_failure(&mut self, job: &PlannedJob) {
        if job.purpose != Purpose::Confirm || job.bisect != BisectStart::Auto {
            return;
        }
        let name = job.name();
        let is_confirmed = |entry: TestEntry| entry.status() == Status::Failed && entry.is_confirmed();
        let Some(fetched) = self.view.branches.get(&*job.branch) else { return };
        if !self.verdicts.entry(&name).is_some_and(is_confirmed) {
            return;
        }
        let Ok(entries) = self.verdicts.history(&job.branch, &job.key) else { return };
        let group = self.view.config.test_group(&job.branch.user, &job.group);
        let planned = group.map_or(0, |group| group.max_commits);
        let Some(range) = bisect::new_failure(&fetched.commits, &entries, &job.commit, planned) else {
            return;
        };
        // It may have ended before.
        let id = bisections::id(&job.key, &range.base, &range.head);
        if bisections::path(&self.output_dir, &id).exists() {
            return;
        }
        let request = Bisect { branch: (*job.branch).clone(), key: job.key.clone(), range: Some(range) };
        match self.start_bisection(&request, None, None, None) {
            Ok(id) => {
                tracing::info!(job = %name, "a new failure: bisection {id} begins");
                self.bisect_now = true;
            }
            Err(error) => tracing::warn!(job = %name, "the new failure is not bisected: {error}"),
        }
    }

    /// Sets the bisections with first bad commits that are to be verified again.
    pub fn recheck(&mut self, due: Vec<BisectionRecord>) {
        self.rechecks = due;
        self.bisect_now = true;
    }

    /// Begins to verify a first bad commit again, if no bisection is running. It may have been found in a merge.
    fn next_recheck(&mut self) {
        // After a start, the branches arrive one after another.
        while self.view.complete && self.bisections.is_empty() {
            let Some(found) = self.rechecks.pop() else { return };
            let State::Culprit { culprit, parent, .. } = found.record.state.clone() else { continue };
            let range = Some(BisectRange { base: parent, head: culprit });
            let request = Bisect { branch: found.branch.clone(), key: found.record.test.clone(), range };
            let id = &found.record.id;
            match self.start_bisection(&request, None, None, Some(&found)) {
                Ok(_) => tracing::info!("the result of bisection {id} is verified again"),
                // Its commits may no longer be listed.
                Err(error) => tracing::debug!("the result of bisection {id} is not verified again: {error}"),
            }
        }
    }

    fn start_bisection(
        &mut self,
        request: &Bisect,
        account: Option<String>,
        file: Option<&Path>,
        rechecks: Option<&BisectionRecord>,
    ) -> Result<String, BisectError> {
        let fetched = self.view.branches.get(&request.branch).ok_or(BisectError::NotConfigured)?;
        let tip = fetched.commits.first().ok_or(BisectError::NotConfigured)?;
        let job = JobRef { commit: tip.id.clone(), key: request.key.clone() };
        let input = plan::from_view::input(&self.view, HashMap::new());
        let job = plan::find_on_branch(&input, &request.branch, &job).ok_or(BisectError::NotConfigured)?;
        let mut entries = self.verdicts.history(&request.branch, &request.key)?;
        for commit in request.range.iter().flat_map(|range| [&range.base, &range.head]) {
            let job = JobRef { commit: commit.clone(), key: request.key.clone() };
            if !entries.contains_key(commit)
                && let Some(entry) = self.verdicts.entry(&job)
            {
                entries.insert(job.commit, entry);
            }
        }
        self.bisections.begin(&Asked {
            request,
            account,
            file: file.and_then(Path::file_name).map(|name| name.to_string_lossy().into()),
            rechecks,
            job: &job,
            listed: &fetched.commits,
            entries: &entries,
            now: unix_seconds(),
        })
    }

    pub(super) fn cancel_bisection(&mut self, id: &str, file: PathBuf) -> Vec<Command> {
        let end = match self.bisections.cancel(id) {
            Ok(()) => RequestEnd::Done,
            Err(error) => RequestEnd::Refused(error.to_string()),
        };
        self.bisect_now = true;
        let mut commands = self.bisect(unix_seconds());
        commands.push(Command::FinishRequest(file, end));
        commands
    }
}
