//! Claims that a failure is fixed: requests of users, and their runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use belief::Confidence;
use fsx::clock::unix_seconds;
use jobkit::{End, Outcome};
use model::{BranchRef, Share, Status};
use results::claims::ClaimRecords;
use results::notes::RequestEnd;
use results::requests::{Believe, RequestKind};
use results::{HistoryEntry, TestEntry};

use super::bisect::FarmBench;
use super::{Command, Farm};
use crate::audit::Requester;
use crate::believe::{Asked, BelieveError, Bench, Look};
use crate::plan::{JobRef, PlannedJob, Purpose};
use crate::requests::TakenRequest;
use crate::soak::OpenClaim;

impl Bench for FarmBench<'_> {
    fn look(&self, branch: &BranchRef, job: &JobRef, confidence: Confidence) -> Look {
        // After a start, the branches arrive one after another.
        let missing = if self.view.complete { Look::Gone } else { Look::Unknown };
        let Some(fetched) = self.view.branches.get(branch) else { return missing };
        let Some(row) = fetched.commits.iter().position(|commit| commit.id == job.commit) else {
            return missing;
        };
        let mut entries = match self.verdicts.history(branch, &job.key) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%job, "{error}");
                return Look::Unknown;
            }
        };
        // Its newest attempts may not be published yet.
        entries.extend(self.verdicts.entry(job).map(|entry| (job.commit.clone(), entry)));
        let listed = fetched.commits.iter().map(|commit| HistoryEntry {
            commit: commit.id.clone(),
            message: String::new(),
            authorship: results::Authorship::default(),
            entry: entries.remove(&commit.id),
        });
        let history: Vec<HistoryEntry> = listed.collect();
        let fails = |listed: &HistoryEntry| {
            listed.entry.as_ref().map(TestEntry::status).is_some_and(Status::has_failure)
        };
        match regress::fix::at(&history, row, confidence) {
            Some(claim) => Look::Claim(claim),
            None if history[..=row].iter().any(fails) => Look::Fails,
            None => Look::Gone,
        }
    }

    fn job(&self, branch: &BranchRef, job: &JobRef) -> Option<PlannedJob> {
        crate::bisect::Bench::job(self, branch, job)
    }

    fn has_verdict(&self, job: &JobRef) -> bool {
        self.verdicts.has(job).unwrap_or(false)
    }
}

impl Farm {
    /// Continues the claims of an earlier daemon.
    pub fn resume_claims(&mut self, found: ClaimRecords) {
        for problem in found.problems {
            tracing::warn!("claim {problem}");
        }
        found.records.into_iter().for_each(|record| self.claims.resume(record));
    }

    /// Starts the next runs of the claims. `now` in Unix seconds. Returns the commands to carry out.
    pub fn believe(&mut self, now: i64) -> Vec<Command> {
        let idle = self.idle();
        self.idle_time.count(idle, self.claims.soaking(), now);
        self.soak(idle, now);
        if self.claims.is_empty() {
            return Vec::new();
        }
        let may_soak = |job: &PlannedJob| {
            let group = self.view.config.test_group(&job.branch.user, &job.group);
            group.is_some_and(|group| self.idle_time.allows(group.soak, job.cost.as_secs_f64()))
        };
        let bench = FarmBench::new(&self.view, &self.verdicts);
        let round = self.claims.round(&bench, idle, &may_soak, now);
        for job in round.submit {
            self.submit_claim(job);
        }
        if !round.unneeded.is_empty() {
            self.choir.remove_where(|job| {
                matches!(job.payload.purpose, Purpose::Believe { .. })
                    && round.unneeded.contains(&job.payload.name())
            });
        }
        let write = |(id, text)| Command::WriteClaim { id, text };
        round.write.into_iter().map(write).collect()
    }

    /// Sets the claims that idle slots can finish, nearest to done first.
    pub fn set_open_claims(&mut self, claims: Vec<OpenClaim>) {
        self.open_claims = claims;
    }

    /// Begins the claim nearest to done, if a slot is idle and no such claim is running.
    fn soak(&mut self, idle: usize, now: i64) {
        // After a start, the branches arrive one after another.
        if idle == 0 || self.open_claims.is_empty() || self.claims.has_soak() || !self.view.complete {
            return;
        }
        let OpenClaim { branch, key, .. } = self.open_claims.remove(0);
        let Some(tip) = self.view.branches.get(&branch).and_then(|fetched| fetched.commits.first()) else {
            return;
        };
        let tip = tip.id.clone();
        let job = JobRef { commit: tip.clone(), key: key.clone() };
        let bench = FarmBench::new(&self.view, &self.verdicts);
        let share = Bench::job(&bench, &branch, &job)
            .and_then(|job| Some(self.view.config.test_group(&branch.user, &job.group)?.soak));
        // The plan tests the tip.
        if share.is_none_or(|share| share == Share::default()) || !Bench::has_verdict(&bench, &job) {
            return;
        }
        let request = &Believe { branch, key, confidence: 95 };
        match self.claims.begin(Asked { request, account: None, file: None, tip, now }, &bench) {
            Ok(id) => tracing::info!("idle slots run claim {id} of {}", request.key),
            Err(error) => tracing::debug!(test = %request.key, "no claim for idle slots: {error}"),
        }
    }

    fn submit_claim(&mut self, job: PlannedJob) {
        let name = job.name();
        match self.hold(&name) {
            Ok(true) => self.submit([job]),
            // Its first attempt is running, and will be counted.
            Ok(false) => self.claims.not_submitted(&name),
            Err(error) => {
                tracing::warn!(job = %name, "{error}");
                self.claims.not_submitted(&name);
            }
        }
    }

    pub(super) fn claim_run_ended(&mut self, end: &End<Arc<PlannedJob>>) {
        let job = end.payload.name();
        match &end.outcome {
            Outcome::Done => self.window.set_done(&job),
            Outcome::Abandoned { reason } => {
                tracing::error!(%job, "run of a claim given up: {reason}");
                self.window.give_back(&job);
            }
            Outcome::Cancelled | Outcome::Removed => self.window.give_back(&job),
        }
        self.claims.ended(&job, &end.outcome);
    }

    pub(super) fn begin_claim(&mut self, request: TakenRequest) -> Vec<Command> {
        let RequestKind::Believe(believe) = &request.kind else { return Vec::new() };
        let file = request.file.clone();
        let account = request.requester.as_ref().map(Requester::account);
        match self.start_claim(believe, account, &request.file) {
            Ok(id) => {
                tracing::info!("claim {id} of {} begins", believe.key);
                // The request is finished after its record is written.
                let mut commands = self.believe(unix_seconds());
                commands.push(Command::FinishRequest(file, RequestEnd::Done));
                commands
            }
            // After a start, the branches arrive one after another.
            Err(BelieveError::NotConfigured) if !self.view.complete => {
                self.waiting.push(request);
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(test = %believe.key, "claim refused: {error}");
                vec![Command::FinishRequest(file, RequestEnd::Refused(error.to_string()))]
            }
        }
    }

    fn start_claim(
        &mut self,
        request: &Believe,
        account: Option<String>,
        file: &Path,
    ) -> Result<String, BelieveError> {
        let fetched = self.view.branches.get(&request.branch).ok_or(BelieveError::NotConfigured)?;
        let tip = fetched.commits.first().ok_or(BelieveError::NotConfigured)?.id.clone();
        let bench = FarmBench::new(&self.view, &self.verdicts);
        let job = JobRef { commit: tip.clone(), key: request.key.clone() };
        Bench::job(&bench, &request.branch, &job).ok_or(BelieveError::NotConfigured)?;
        let file = file.file_name().map(|name| name.to_string_lossy().into());
        self.claims.begin(Asked { request, account, file, tip, now: unix_seconds() }, &bench)
    }

    pub(super) fn cancel_claim(&mut self, id: &str, file: PathBuf) -> Vec<Command> {
        let end = match self.claims.cancel(id) {
            Ok(()) => RequestEnd::Done,
            Err(error) => RequestEnd::Refused(error.to_string()),
        };
        let mut commands = self.believe(unix_seconds());
        commands.push(Command::FinishRequest(file, end));
        commands
    }
}
