//! Further attempts of jobs, in addition to the plan: retries that confirm failures, and requested reruns. Pure.
//!
//! They do not change the first verdict and are recorded as further attempts. The scheduler has at most one attempt of
//! a job at a time, so attempts have an order.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use model::CommitId;

use super::{JobRef, PlannedJob, Purpose};

/// The maximum number of failures of one commit that are confirmed. A commit with more failures is broken, not flaky.
pub const CONFIRMED_MAX: usize = 20;

/// The jobs with further attempts.
#[derive(Debug, Default)]
pub struct Reruns {
    jobs: HashMap<JobRef, JobAttempts>,
    confirmed: HashMap<CommitId, BTreeSet<String>>,
}

/// The further attempts of one job. The scheduler has the first of `purposes`.
#[derive(Debug)]
struct JobAttempts {
    job: Arc<PlannedJob>,
    purposes: Vec<Purpose>,
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
    /// Plans `times` retries of `job`, because its first verdict is Failed. Returns the job to submit now.
    pub fn confirm(&mut self, job: &Arc<PlannedJob>, times: u32) -> Option<PlannedJob> {
        if times == 0 || job.purpose != Purpose::First {
            return None;
        }
        let seen = self.confirmed.entry(job.commit.clone()).or_default();
        if seen.len() >= CONFIRMED_MAX || !seen.insert(job.key.to_string()) {
            return None;
        }
        let purposes = vec![Purpose::Confirm; times as usize];
        self.add(job, purposes, None)
    }

    /// Plans a rerun that a user requested. Returns the job to submit now.
    pub fn request(&mut self, job: &Arc<PlannedJob>, request: Option<PathBuf>) -> Option<PlannedJob> {
        self.add(job, vec![Purpose::Requested], request)
    }

    fn add(
        &mut self,
        job: &Arc<PlannedJob>,
        purposes: Vec<Purpose>,
        request: Option<PathBuf>,
    ) -> Option<PlannedJob> {
        let name = job.name();
        if let Some(runs) = self.jobs.get_mut(&name) {
            runs.purposes.extend(purposes);
            runs.requests.extend(request);
            return None;
        }
        let runs = JobAttempts { job: job.clone(), purposes, requests: request.into_iter().collect() };
        let submit = runs.first();
        self.jobs.insert(name, runs);
        submit
    }

    /// Records that an attempt of `job` ended. If it is not `done`, the further attempts of the job are dropped.
    pub fn ended(&mut self, job: &JobRef, done: bool) -> RerunStep {
        let Some(runs) = self.jobs.get_mut(job) else { return RerunStep::default() };
        let was = runs.purposes.remove(0);
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
    }
}

impl JobAttempts {
    fn first(&self) -> Option<PlannedJob> {
        let purpose = *self.purposes.first()?;
        let value = if purpose == Purpose::Requested { FIRST } else { self.job.value };
        Some(PlannedJob { purpose, value, ..(*self.job).clone() })
    }
}

/// The value of a requested rerun, which precedes every other job of the same user.
const FIRST: i64 = i64::MIN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture;

    fn job(subtest: &str) -> Arc<PlannedJob> {
        Arc::new(PlannedJob { value: 3, ..fixture::job(fixture::commit(0), "a", subtest) })
    }

    #[test]
    fn one_attempt_of_a_job_at_a_time() {
        let mut reruns = Reruns::default();
        let x = job("x");
        let first = reruns.confirm(&x, 2).unwrap();
        assert_eq!((first.purpose, first.value), (Purpose::Confirm, 3));
        assert_eq!(reruns.confirm(&x, 2), None, "a failure is confirmed once");
        assert_eq!(reruns.request(&x, Some("r1".into())), None, "it runs after the retries");
        assert_eq!(reruns.confirm(&Arc::new(first), 2), None, "a confirmation is not confirmed");
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
    fn a_job_that_cannot_run_is_given_up_and_a_broken_commit_is_not_confirmed() {
        let mut reruns = Reruns::default();
        let y = job("y");
        assert!(reruns.request(&y, Some("r".into())).is_some());
        assert!(reruns.request(&y, Some("s".into())).is_none());
        assert_eq!(
            reruns.ended(&y.name(), false),
            RerunStep { submit: None, finished: vec!["r".into(), "s".into()] }
        );
        let confirmed = (0..50).filter(|n| reruns.confirm(&job(&format!("s{n}")), 1).is_some()).count();
        assert_eq!(confirmed, CONFIRMED_MAX);
        reruns.keep_commits(|_| false);
        assert!(reruns.confirm(&job("t"), 1).is_some());
        assert!(reruns.confirm(&job("z"), 0).is_none());
    }
}
