//! Claims on the farm: runs of a test at the tip of a branch, until its passes prove that a failure is fixed. Pure.
//!
//! The claim is a function of the attempts in the store, which the crates `belief` and `regress` evaluate. A run is a further attempt,
//! so a daemon that was killed continues with the runs that are missing.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use belief::{Confidence, FixClaim, FixState};
use jobkit::Outcome;
use model::{BranchRef, CommitId, Verdict};
use results::claims::{self, ClaimRecord, ClaimState};
use results::json::FixRow;
use results::requests::Believe;

use crate::plan::{FIRST, JobRef, PlannedJob, Purpose};

/// The maximum number of claims at a time.
const RUNNING_MAX: usize = 16;
/// The interval in seconds at which a claim without news is looked at.
const INTERVAL: i64 = 10;
/// The number of runs that end one after another without a pass that counts, after which a claim ends.
const WITHOUT_PASS: u32 = 5;

/// Why no runs begin.
#[derive(Debug, thiserror::Error)]
pub enum BelieveError {
    /// No group of the branch has the test.
    #[error("no test group of this branch has this test")]
    NotConfigured,
    /// There is no failure to be fixed, or there is no fix.
    #[error("no failure of the test is older than the tip of the branch, or the tip fails")]
    NoFix,
    /// The confidence is not one.
    #[error(transparent)]
    Confidence(#[from] belief::ConfidenceError),
    /// It is running already.
    #[error("claim {0} is running already")]
    Running(String),
    /// Too many claims.
    #[error("{RUNNING_MAX} claims are running already; cancel one with ci-status believe --cancel ID")]
    Busy,
    /// There is no such claim.
    #[error("no such claim is running")]
    NotRunning,
    /// The results cannot be read.
    #[error(transparent)]
    Results(#[from] results::Error),
}

/// What the farm sees of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// What the attempts in the store prove.
    Claim(FixClaim),
    /// The test fails at the commit.
    Fails,
    /// The branch no longer has the commit.
    Gone,
    /// It cannot be read at present.
    Unknown,
}

/// What a claim needs from the farm.
pub trait Bench {
    /// What the attempts prove at a commit of a branch.
    fn look(&self, branch: &BranchRef, job: &JobRef, confidence: Confidence) -> Look;
    /// The job on the branch; `None` if the branch does not have it.
    fn job(&self, branch: &BranchRef, job: &JobRef) -> Option<PlannedJob>;
    /// Whether the test has a verdict at the commit.
    fn has_verdict(&self, job: &JobRef) -> bool;
}

/// A request, and what the farm knows about it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The request.
    pub request: &'a Believe,
    /// The account that requested it.
    pub account: Option<String>,
    /// The name of the request file.
    pub file: Option<String>,
    /// The tip of the branch.
    pub tip: CommitId,
    /// The time, Unix seconds.
    pub now: i64,
}

/// What is to be done after a round.
#[derive(Debug, Default)]
pub struct Round {
    /// Jobs to submit.
    pub submit: Vec<PlannedJob>,
    /// Jobs of which queued runs are no longer needed.
    pub unneeded: Vec<JobRef>,
    /// Records to write: ids and texts.
    pub write: Vec<(String, String)>,
}

/// The running claims.
#[derive(Debug, Default)]
pub struct Claims {
    running: BTreeMap<String, Running>,
    /// The number of submitted runs, which gives each run a batch of its own.
    submitted: u32,
}

#[derive(Debug)]
struct Running {
    record: ClaimRecord,
    /// The number of runs that have not ended.
    in_flight: u32,
    /// The number of runs that wait for an idle slot.
    wanted: u32,
    /// The number of runs that ended since the last pass that counts.
    without_pass: u32,
    /// Whether the next round has something to do.
    is_due: bool,
    /// The time of its last round.
    looked_at: i64,
    /// The record as it was last written.
    written: Option<ClaimRecord>,
}

impl Claims {
    /// Continues a claim after a restart. One that has ended is not continued.
    pub fn resume(&mut self, record: ClaimRecord) {
        if !record.state.is_final() {
            let written = Some(record.clone());
            self.running.insert(record.id.clone(), Running::new(record, written));
        }
    }

    /// Begins a claim, and returns its id. The next round starts its first runs.
    pub fn begin(&mut self, asked: Asked<'_>, bench: &dyn Bench) -> Result<String, BelieveError> {
        let Believe { branch, key, confidence } = asked.request;
        let confidence = Confidence::try_from(f64::from(*confidence))?;
        let job = JobRef { commit: asked.tip.clone(), key: key.clone() };
        let id = claims::id(key, &asked.tip);
        if let Some(running) = self.running.get_mut(&id) {
            if !running.is_soak() || asked.account.is_none() {
                return Err(BelieveError::Running(id));
            }
            // It no longer waits for idle slots.
            let record = &mut running.record;
            (record.requested_by, record.request) = (asked.account, asked.file);
            record.confidence = confidence;
            running.is_due = true;
            return Ok(id);
        }
        if self.running.len() >= RUNNING_MAX {
            return Err(BelieveError::Busy);
        }
        let Look::Claim(claim) = bench.look(branch, &job, confidence) else {
            return Err(BelieveError::NoFix);
        };
        let record = ClaimRecord {
            id: id.clone(),
            test: key.clone(),
            branch: branch.clone(),
            commit: asked.tip,
            requested_by: asked.account,
            request: asked.file,
            begun: asked.now,
            confidence,
            state: ClaimState::Running,
            fix: FixRow::from(&claim),
            runs: 0,
            failed_run: None,
            reason: None,
        };
        self.running.insert(id.clone(), Running::new(record, None));
        Ok(id)
    }

    /// Ends a claim without a result.
    pub fn cancel(&mut self, id: &str) -> Result<(), BelieveError> {
        let running = self.running.get_mut(id).ok_or(BelieveError::NotRunning)?;
        running.record.state = ClaimState::Cancelled;
        running.is_due = true;
        Ok(())
    }

    /// The branches or the configuration changed.
    pub fn view_changed(&mut self) {
        self.running.values_mut().for_each(|running| running.is_due = true);
    }

    /// Whether a claim uses idle slots only.
    #[must_use]
    pub fn has_soak(&self) -> bool {
        self.running.values().any(Running::is_soak)
    }

    /// The number of runs of these claims.
    #[must_use]
    pub fn soaking(&self) -> usize {
        let running = self.running.values().filter(|running| running.is_soak());
        running.map(|running| running.in_flight as usize).sum()
    }

    /// Whether none is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The job has a new attempt, which was a run of a claim or not.
    pub fn attempted(&mut self, job: &PlannedJob, verdict: &Verdict) {
        let name = job.name();
        for running in self.of(&name) {
            running.is_due = true;
            if !matches!(job.purpose, Purpose::Believe { .. }) {
                continue;
            }
            running.record.runs += 1;
            running.record.reason = verdict.reason().map(str::to_owned);
            if matches!(verdict, Verdict::Failed { .. }) {
                running.record.failed_run.get_or_insert(running.record.runs);
            }
        }
    }

    /// A run ended, or was dropped.
    pub fn ended(&mut self, job: &JobRef, outcome: &Outcome) {
        for running in self.of(job) {
            running.is_due = true;
            running.in_flight = running.in_flight.saturating_sub(1);
            match outcome {
                Outcome::Done => running.without_pass += 1,
                Outcome::Abandoned { reason } => {
                    running.without_pass += 1;
                    running.record.reason = Some(reason.clone());
                }
                // It is submitted again.
                Outcome::Cancelled | Outcome::Removed => {}
            }
        }
    }

    /// A job of the last round could not be submitted: the next round tries it again.
    pub fn not_submitted(&mut self, job: &JobRef) {
        for running in self.of(job) {
            running.in_flight = running.in_flight.saturating_sub(1);
            running.wanted += 1;
        }
    }

    fn of(&mut self, job: &JobRef) -> impl Iterator<Item = &mut Running> {
        let is_it = |record: &ClaimRecord| record.test == job.key && record.commit == job.commit;
        self.running.values_mut().filter(move |running| is_it(&running.record))
    }

    /// Looks at the claims with new attempts, and starts the missing runs on this number of idle slots. A requested claim without runs
    /// has at least one. One that the farm began has at most one, if `may_soak` allows it.
    pub fn round(
        &mut self,
        bench: &dyn Bench,
        mut idle: usize,
        may_soak: &dyn Fn(&PlannedJob) -> bool,
        now: i64,
    ) -> Round {
        let mut round = Round::default();
        for (id, running) in &mut self.running {
            let may_start = idle > 0 && running.wanted > 0;
            if !running.is_due && !may_start && now.saturating_sub(running.looked_at) < INTERVAL {
                continue;
            }
            (running.is_due, running.looked_at) = (false, now);
            let wanted = running.look(bench);
            let least = u32::from(running.in_flight == 0);
            let slots = u32::try_from(idle).unwrap_or(u32::MAX);
            let slots = if running.is_soak() { slots.min(least) } else { slots.max(least) };
            let runs = running.submit(bench, wanted.min(slots), may_soak, &mut self.submitted);
            idle = idle.saturating_sub(runs.len());
            running.wanted = wanted.saturating_sub(u32::try_from(runs.len()).unwrap_or(u32::MAX));
            round.submit.extend(runs);
            if running.record.state.is_final() && running.in_flight > 0 {
                round.unneeded.push(running.name());
            }
            if running.written.as_ref() != Some(&running.record) {
                running.written = Some(running.record.clone());
                round.write.push((id.clone(), claims::text(&running.record)));
            }
        }
        self.running.retain(|_, running| !running.record.state.is_final());
        round
    }
}

impl Running {
    fn new(record: ClaimRecord, written: Option<ClaimRecord>) -> Self {
        Self { record, in_flight: 0, wanted: 0, without_pass: 0, is_due: true, looked_at: 0, written }
    }

    fn name(&self) -> JobRef {
        JobRef { commit: self.record.commit.clone(), key: self.record.test.clone() }
    }

    /// Brings the record up to date. Returns the number of runs that are missing and not submitted.
    fn look(&mut self, bench: &dyn Bench) -> u32 {
        let name = self.name();
        let record = &mut self.record;
        if record.state.is_final() {
            return 0;
        }
        let claim = match bench.look(&record.branch, &name, record.confidence) {
            Look::Claim(claim) => claim,
            Look::Unknown => return 0,
            Look::Fails => {
                record.state = ClaimState::NotFixed;
                return 0;
            }
            Look::Gone => {
                record.state = ClaimState::Unproven;
                record.reason = Some("the branch no longer has the commit".into());
                return 0;
            }
        };
        if claim.passes() > record.fix.passes {
            self.without_pass = 0;
        }
        record.fix = FixRow::from(&claim);
        record.state = match claim.state() {
            FixState::Fixed => ClaimState::Fixed,
            FixState::StillFails => ClaimState::NotFixed,
            FixState::Unproven if self.without_pass >= WITHOUT_PASS => ClaimState::Unproven,
            FixState::Unproven => ClaimState::Running,
        };
        match record.state {
            ClaimState::Running if bench.has_verdict(&name) => claim.missing().saturating_sub(self.in_flight),
            // The first run gives the verdict.
            ClaimState::Running => 1_u32.saturating_sub(self.in_flight),
            ClaimState::Fixed => {
                record.reason = None;
                0
            }
            _ => 0,
        }
    }

    /// Whether the farm began it: it uses idle slots only.
    fn is_soak(&self) -> bool {
        self.record.requested_by.is_none()
    }

    /// The jobs of this number of runs.
    fn submit(
        &mut self,
        bench: &dyn Bench,
        runs: u32,
        may_soak: &dyn Fn(&PlannedJob) -> bool,
        submitted: &mut u32,
    ) -> Vec<PlannedJob> {
        if runs == 0 {
            return Vec::new();
        }
        let Some(planned) = bench.job(&self.record.branch, &self.name()) else {
            self.record.reason = Some(format!("no test group of {} has the test", self.record.branch));
            return Vec::new();
        };
        if self.is_soak() && !may_soak(&planned) {
            return Vec::new();
        }
        self.in_flight += runs;
        // Idle slots are for others first.
        let value = if self.is_soak() { i64::MAX } else { FIRST };
        let job = |_| {
            *submitted = submitted.wrapping_add(1);
            PlannedJob { purpose: Purpose::Believe { run: *submitted }, value, ..planned.clone() }
        };
        (0..runs).map(job).collect()
    }
}
