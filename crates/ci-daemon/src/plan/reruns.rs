//! Further attempts of jobs, in addition to the plan: retries that confirm failures, requested reruns, runs that check inherited
//! verdicts, and the runs of bisections. Pure.
//!
//! They do not change the first verdict and are recorded as further attempts. The scheduler has at most one attempt of
//! a job at a time, so attempts have an order.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use belief::{Confirmation, Outcome, confirmation};
use model::CommitId;

use super::{JobRef, PlannedJob, Purpose};

/// The maximum number of failures of one commit that are confirmed. A commit with more failures is broken, not flaky.
pub const CONFIRMED_MAX: usize = 20;

/// The jobs with further attempts.
#[derive(Debug, Default)]
pub struct Reruns {
    jobs: HashMap<JobRef, JobAttempts>,
    confirmed: HashMap<CommitId, BTreeSet<String>>,
    checked: HashSet<JobRef>,
}

/// The further attempts of one job. The scheduler has the first of `purposes`.
#[derive(Debug)]
struct JobAttempts {
    job: Arc<PlannedJob>,
    purposes: Vec<Purpose>,
    /// The outcomes of the attempts that confirm a failure, beginning with the failure.
    outcomes: Vec<Outcome>,
    /// Whether it failed on a host that it had to itself.
    failed_alone: bool,
    /// The request files to remove when the job has run.
    requests: Vec<PathBuf>,
}

/// What to do after an attempt has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RerunStep {
    /// The next attempt to submit.
    pub submit: Option<PlannedJob>,
    /// The request files that are finished.
    pub finished: Vec<PathBuf>,
}

impl Reruns {
    /// Plans up to `times` retries of `job`, because its first verdict is Failed. `outcomes` are those of its attempts so far.
    /// Returns the job to submit now.
    pub fn confirm(
        &mut self,
        job: &Arc<PlannedJob>,
        times: u32,
        outcomes: Vec<Outcome>,
    ) -> Option<PlannedJob> {
        let times = (times as usize + 1).saturating_sub(outcomes.len());
        if times == 0 || !job.purpose.is_first() {
            return None;
        }
        let seen = self.confirmed.entry(job.commit.clone()).or_default();
        if seen.len() >= CONFIRMED_MAX || !seen.insert(job.key.to_string()) {
            return None;
        }
        self.add(job, JobAttempts::new(job, vec![Purpose::Confirm; times], outcomes, None))
    }

    /// Records the outcome of a retry.
    pub fn outcome(&mut self, job: &PlannedJob, outcome: Outcome) {
        if job.purpose == Purpose::Confirm
            && let Some(runs) = self.jobs.get_mut(&job.name())
        {
            runs.outcomes.push(outcome);
        }
    }

    /// Records that a job failed on a host that it had to itself: the load of the host is not the cause.
    pub fn failed_alone(&mut self, job: &PlannedJob) {
        if let Some(runs) = self.jobs.get_mut(&job.name()) {
            runs.failed_alone = true;
        }
    }

    /// Plans a rerun that a user requested. Returns the job to submit now.
    pub fn request(&mut self, job: &Arc<PlannedJob>, request: Option<PathBuf>) -> Option<PlannedJob> {
        self.add(job, JobAttempts::new(job, vec![Purpose::Requested], Vec::new(), request))
    }

    /// Plans a run that checks an inherited verdict, once. Returns the job to submit now.
    pub fn check(&mut self, job: &Arc<PlannedJob>) -> Option<PlannedJob> {
        if !self.checked.insert(job.name()) {
            return None;
        }
        self.add(job, JobAttempts::new(job, vec![Purpose::Check], Vec::new(), None))
    }

    /// Plans a run of a bisection. Returns the job to submit now.
    pub fn bisect(&mut self, job: &Arc<PlannedJob>) -> Option<PlannedJob> {
        self.add(job, JobAttempts::new(job, vec![Purpose::Bisect], Vec::new(), None))
    }

    fn add(&mut self, job: &Arc<PlannedJob>, added: JobAttempts) -> Option<PlannedJob> {
        let name = job.name();
        if let Some(runs) = self.jobs.get_mut(&name) {
            runs.purposes.extend(added.purposes);
            runs.outcomes.extend(added.outcomes);
            runs.requests.extend(added.requests);
            return None;
        }
        let submit = added.first();
        self.jobs.insert(name, added);
        submit
    }

    /// Records that an attempt of `job` ended. If it is not `done`, the further attempts of the job are dropped.
    pub fn ended(&mut self, job: &JobRef, done: bool) -> RerunStep {
        let Some(runs) = self.jobs.get_mut(job) else { return RerunStep::default() };
        let was = runs.purposes.remove(0);
        if runs.is_decided() {
            runs.purposes.retain(|purpose| *purpose != Purpose::Confirm);
        }
        if done && !runs.purposes.is_empty() {
            let finished = if was == Purpose::Requested && !runs.purposes.contains(&Purpose::Requested) {
                std::mem::take(&mut runs.requests)
            } else {
                Vec::new()
            };
            return RerunStep { submit: runs.first(), finished };
        }
        let finished = self.jobs.remove(job).map(|runs| runs.requests).unwrap_or_default();
        RerunStep { submit: None, finished }
    }

    /// Whether no job has further attempts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Drops the counts of commits that are no longer wanted.
    pub fn keep_commits(&mut self, wanted: impl Fn(&CommitId) -> bool) {
        self.confirmed.retain(|commit, _| wanted(commit));
        self.checked.retain(|job| wanted(&job.commit));
    }
}

impl JobAttempts {
    fn new(
        job: &Arc<PlannedJob>,
        purposes: Vec<Purpose>,
        outcomes: Vec<Outcome>,
        request: Option<PathBuf>,
    ) -> Self {
        let requests = request.into_iter().collect();
        Self { job: job.clone(), purposes, outcomes, failed_alone: false, requests }
    }

    /// Whether the next retry is a control that has the host to itself: the test fails and passes, and the load of the host
    /// may be the cause.
    fn is_control(&self, purpose: Purpose) -> bool {
        let passed = self.outcomes.contains(&Outcome::Passed);
        let failed = self.outcomes.iter().any(|outcome| outcome.signature().is_some());
        purpose == Purpose::Confirm && failed && passed && !self.failed_alone
    }

    /// Whether no further retry is needed to confirm the failure.
    fn is_decided(&self) -> bool {
        confirmation(&self.outcomes) != Confirmation::RunAgain
    }

    fn first(&self) -> Option<PlannedJob> {
        let purpose = *self.purposes.first()?;
        let is_wanted_now = matches!(purpose, Purpose::Requested | Purpose::Bisect);
        let value = if is_wanted_now { FIRST } else { self.job.value };
        let alone = self.job.alone || self.is_control(purpose);
        Some(PlannedJob { purpose, value, alone, ..(*self.job).clone() })
    }
}

/// The value of a requested rerun and of a run of a bisection or claim, which precedes every other job of the same user.
pub const FIRST: i64 = i64::MIN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture;

    fn job(subtest: &str) -> Arc<PlannedJob> {
        Arc::new(PlannedJob { value: 3, ..fixture::job(fixture::commit(0), "a", subtest) })
    }

    fn failed(reason: &str) -> Vec<Outcome> {
        vec![Outcome::Failed { signature: belief::Signature::new(None, reason) }]
    }

    /// The number of attempts until nothing is left to do, with these outcomes of the retries: a reason, or `pass`.
    fn attempts(times: u32, earlier: &[&str], retries: &[&str]) -> usize {
        let outcome = |word: &&str| match *word {
            "pass" => Outcome::Passed,
            reason => failed(reason).remove(0),
        };
        let mut reruns = Reruns::default();
        let earlier: Vec<Outcome> = earlier.iter().map(outcome).collect();
        let mut count = earlier.len();
        let mut next = reruns.confirm(&job("x"), times, earlier);
        let mut retries = retries.iter().map(outcome);
        while let Some(retry) = next {
            count += 1;
            reruns.outcome(&retry, retries.next().unwrap());
            next = reruns.ended(&retry.name(), true).submit;
        }
        assert!(reruns.is_empty());
        count
    }

    #[test]
    fn the_number_of_retries_depends_on_their_outcomes() {
        assert_eq!(attempts(4, &["lost 3"], &["lost 5"]), 2, "the same failure again");
        assert_eq!(attempts(4, &["a"], &["pass", "a", "pass", "a"]), 5);
        assert_eq!(attempts(4, &["a"], &["b", "a", "b", "a"]), 5);
        assert_eq!(attempts(9, &["a"], &["pass", "a", "pass", "a"]), 5, "five attempts decide");
        assert_eq!(attempts(1, &["a"], &["pass"]), 2, "at most what the configuration allows");
        assert_eq!(attempts(4, &["a", "pass"], &["pass", "pass", "pass"]), 5, "after a restart");
    }

    #[test]
    fn a_test_that_fails_and_passes_is_retried_alone_unless_it_failed_alone() {
        let retry = |failed_alone: bool, outcomes: &[&str]| {
            let mut reruns = Reruns::default();
            let x = job("x");
            let mut next = reruns.confirm(&x, 4, failed("a")).unwrap();
            for word in outcomes {
                let outcome = if *word == "pass" { Outcome::Passed } else { failed(word).remove(0) };
                reruns.outcome(&next, outcome);
                if failed_alone {
                    reruns.failed_alone(&next);
                }
                next = reruns.ended(&x.name(), true).submit.unwrap();
            }
            next.alone
        };
        assert!(!retry(false, &[]) && !retry(false, &["b"]));
        assert!(retry(false, &["pass"]) && retry(false, &["b", "pass"]));
        assert!(!retry(true, &["pass"]));
    }

    #[test]
    fn one_attempt_of_a_job_at_a_time() {
        let mut reruns = Reruns::default();
        let x = job("x");
        let first = reruns.confirm(&x, 2, failed("a")).unwrap();
        assert_eq!((first.purpose, first.value), (Purpose::Confirm, 3));
        assert_eq!(reruns.confirm(&x, 2, failed("a")), None, "a failure is confirmed once");
        assert_eq!(reruns.request(&x, Some("r1".into())), None, "it runs after the retries");
        assert_eq!(reruns.confirm(&Arc::new(first), 2, failed("a")), None, "a confirmation is not confirmed");
        assert_eq!(reruns.ended(&x.name(), true).submit.unwrap().purpose, Purpose::Confirm);
        let requested = reruns.ended(&x.name(), true);
        assert_eq!(
            (requested.submit.as_ref().unwrap().purpose, requested.submit.as_ref().unwrap().value),
            (Purpose::Requested, FIRST)
        );
        assert!(requested.finished.is_empty());
        assert_eq!(reruns.ended(&x.name(), true), RerunStep { submit: None, finished: vec!["r1".into()] });
        assert!(reruns.is_empty());
        assert_eq!(reruns.ended(&x.name(), true), RerunStep::default());
    }

    #[test]
    fn an_inherited_verdict_is_checked_once() {
        let mut reruns = Reruns::default();
        let x = job("x");
        let check = reruns.check(&x).unwrap();
        assert_eq!((check.purpose, check.value), (Purpose::Check, 3), "it has no precedence");
        assert_eq!(reruns.check(&x), None);
        assert_eq!(reruns.ended(&x.name(), true), RerunStep::default());
        assert_eq!(reruns.check(&x), None, "it has run");
        reruns.keep_commits(|_| false);
        assert!(reruns.check(&x).is_some());
    }

    #[test]
    fn a_job_that_cannot_run_is_given_up_and_a_broken_commit_is_not_confirmed() {
        let mut reruns = Reruns::default();
        let y = job("y");
        assert!(reruns.request(&y, Some("r".into())).is_some());
        assert!(reruns.request(&y, Some("s".into())).is_none());
        assert_eq!(
            reruns.ended(&y.name(), false),
            RerunStep { submit: None, finished: vec!["r".into(), "s".into()] }
        );
        let confirmed =
            (0..50).filter(|n| reruns.confirm(&job(&format!("s{n}")), 1, failed("a")).is_some()).count();
        assert_eq!(confirmed, CONFIRMED_MAX);
        reruns.keep_commits(|_| false);
        assert!(reruns.confirm(&job("t"), 1, failed("a")).is_some());
        assert!(reruns.confirm(&job("z"), 0, failed("a")).is_none());
    }
}
