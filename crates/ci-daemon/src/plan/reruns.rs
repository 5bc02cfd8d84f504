//! Runs beside the plan: failures that are confirmed, and what somebody asked for. Pure.
//!
//! The first verdict stands; what these runs say is kept beside it as attempts. Of one job at most one such run is with
//! the scheduler at a time, so that attempts have an order.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use model::CommitId;

use super::{JobRef, PlannedJob, Purpose};

/// The failures of one commit that are confirmed. A commit with more is broken, not flaky; its failures stand as they are.
pub const CONFIRMED: usize = 20;

/// What runs again.
#[derive(Debug, Default)]
pub struct Reruns {
    runs: HashMap<JobRef, Runs>,
    confirmed: HashMap<CommitId, BTreeSet<String>>,
}

/// The runs of one job; the first of `purposes` is with the scheduler.
#[derive(Debug)]
struct Runs {
    job: Arc<PlannedJob>,
    purposes: Vec<Purpose>,
    /// Requests that are over when the job has run.
    requests: Vec<PathBuf>,
}

/// What an end leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RerunStep {
    /// To be submitted.
    pub submit: Option<PlannedJob>,
    /// Requests that are over.
    pub finished: Vec<PathBuf>,
}

impl Reruns {
    /// The first verdict of `job` is that it failed: it runs `times` more. Gives what is to be submitted now.
    pub fn confirm(&mut self, job: &Arc<PlannedJob>, times: u32) -> Option<PlannedJob> {
        if times == 0 || job.purpose != Purpose::First {
            return None;
        }
        let seen = self.confirmed.entry(job.commit.clone()).or_default();
        if seen.len() >= CONFIRMED || !seen.insert(job.key.to_string()) {
            return None;
        }
        let purposes = vec![Purpose::Confirm; times as usize];
        self.add(job, purposes, None)
    }

    /// Somebody asks for one more run. Gives what is to be submitted now.
    pub fn request(&mut self, job: &Arc<PlannedJob>, request: Option<PathBuf>) -> Option<PlannedJob> {
        self.add(job, vec![Purpose::Asked], request)
    }

    fn add(
        &mut self,
        job: &Arc<PlannedJob>,
        purposes: Vec<Purpose>,
        request: Option<PathBuf>,
    ) -> Option<PlannedJob> {
        let name = job.name();
        if let Some(runs) = self.runs.get_mut(&name) {
            runs.purposes.extend(purposes);
            runs.requests.extend(request);
            return None;
        }
        let runs = Runs { job: job.clone(), purposes, requests: request.into_iter().collect() };
        let submit = runs.first();
        self.runs.insert(name, runs);
        submit
    }

    /// A run of `job` ended; it has its attempt if `done`, otherwise no more is tried.
    pub fn ended(&mut self, job: &JobRef, done: bool) -> RerunStep {
        let Some(runs) = self.runs.get_mut(job) else { return RerunStep::default() };
        let was = runs.purposes.remove(0);
        if done && !runs.purposes.is_empty() {
            let finished = if was == Purpose::Asked && !runs.purposes.contains(&Purpose::Asked) {
                std::mem::take(&mut runs.requests)
            } else {
                Vec::new()
            };
            return RerunStep { submit: runs.first(), finished };
        }
        let finished = self.runs.remove(job).map(|runs| runs.requests).unwrap_or_default();
        RerunStep { submit: None, finished }
    }

    /// Whether nothing runs again.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets how much was confirmed of commits that are on no branch any more.
    pub fn keep_commits(&mut self, wanted: impl Fn(&CommitId) -> bool) {
        self.confirmed.retain(|commit, _| wanted(commit));
    }
}

impl Runs {
    fn first(&self) -> Option<PlannedJob> {
        let purpose = *self.purposes.first()?;
        let value = if purpose == Purpose::Asked { FIRST } else { self.job.value };
        Some(PlannedJob { purpose, value, ..(*self.job).clone() })
    }
}

/// The order of what somebody waits for: before everything of the same user.
const FIRST: i64 = i64::MIN;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Unit;

    fn job(subtest: &str) -> Arc<PlannedJob> {
        Arc::new(PlannedJob {
            branch: Arc::new("u/b".parse().unwrap()),
            group: Arc::new("g".parse().unwrap()),
            repo: Arc::new(model::RepoName::linux()),
            commit: "0".repeat(40).parse().unwrap(),
            age: 3,
            unit: Arc::new(Unit { test: "a".parse().unwrap(), kernel: None, env: model::Env::default() }),
            subtest: subtest.parse().unwrap(),
            key: format!("a.{subtest}").parse().unwrap(),
            value: 3,
            cost: Duration::from_secs(1),
            purpose: Purpose::First,
        })
    }

    #[test]
    fn one_run_of_a_job_at_a_time() {
        let mut again = Reruns::default();
        let x = job("x");
        let first = again.confirm(&x, 2).unwrap();
        assert_eq!((first.purpose, first.value), (Purpose::Confirm, 3));
        assert_eq!(again.confirm(&x, 2), None, "a failure is confirmed once");
        assert_eq!(again.request(&x, Some("r1".into())), None, "its turn comes");
        assert_eq!(again.confirm(&Arc::new(first), 2), None, "a confirmation is not confirmed");
        assert_eq!(again.ended(&x.name(), true).submit.unwrap().purpose, Purpose::Confirm);
        let asked = again.ended(&x.name(), true);
        assert_eq!(
            (asked.submit.as_ref().unwrap().purpose, asked.submit.as_ref().unwrap().value),
            (Purpose::Asked, FIRST)
        );
        assert!(asked.finished.is_empty());
        assert_eq!(again.ended(&x.name(), true), RerunStep { submit: None, finished: vec!["r1".into()] });
        assert!(again.is_empty());
        assert_eq!(again.ended(&x.name(), true), RerunStep::default());
    }

    #[test]
    fn what_cannot_run_is_given_up_and_a_broken_commit_is_not_flaky() {
        let mut again = Reruns::default();
        let y = job("y");
        assert!(again.request(&y, Some("r".into())).is_some());
        assert!(again.request(&y, Some("s".into())).is_none());
        assert_eq!(
            again.ended(&y.name(), false),
            RerunStep { submit: None, finished: vec!["r".into(), "s".into()] }
        );
        let confirmed = (0..50).filter(|n| again.confirm(&job(&format!("s{n}")), 1).is_some()).count();
        assert_eq!(confirmed, CONFIRMED);
        again.keep_commits(|_| false);
        assert!(again.confirm(&job("t"), 1).is_some());
        assert!(again.confirm(&job("z"), 0).is_none());
    }
}
