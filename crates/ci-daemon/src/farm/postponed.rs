//! Tests that wait for an idle slot: they ran at other commits whose kernels have the same code. The plan has them as done.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use jobkit::{End, ExecutorState, ExecutorStatus, Outcome};
use model::CommitId;

use super::{Command, Farm};
use crate::plan::{JobRef, PlannedJob, Purpose};

/// The tests that wait. Pure.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    /// In the order of the plan: the subtests of a VM run in the order in which the test file lists them.
    jobs: BTreeMap<u64, Arc<PlannedJob>>,
    numbers: HashMap<JobRef, u64>,
    next: u64,
}

impl Postponed {
    /// Adds tests.
    pub(super) fn add(&mut self, jobs: Vec<Arc<PlannedJob>>) {
        for job in jobs {
            if let Entry::Vacant(vacant) = self.numbers.entry(job.name()) {
                vacant.insert(self.next);
                self.jobs.insert(self.next, job);
                self.next += 1;
            }
        }
    }

    /// Removes a test that has a verdict, or gets one otherwise.
    pub(super) fn remove(&mut self, job: &JobRef) {
        if let Some(number) = self.numbers.remove(job) {
            self.jobs.remove(&number);
        }
    }

    /// The number of tests.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The commits of the tests, once for each test.
    pub(super) fn commits(&self) -> impl Iterator<Item = &CommitId> {
        self.jobs.values().map(|job| &job.commit)
    }

    /// Drops the tests of commits that are no longer wanted.
    pub(super) fn keep_commits(&mut self, wanted: impl Fn(&CommitId) -> bool) {
        self.jobs.retain(|_, job| wanted(&job.commit));
        self.numbers.retain(|job, _| wanted(&job.commit));
    }

    /// Takes the tests of at most `batches` batches, those of the newest commits first.
    pub(super) fn take(&mut self, batches: usize) -> Vec<PlannedJob> {
        let mut waiting: BTreeMap<(i64, String), Vec<u64>> = BTreeMap::new();
        for (number, job) in &self.jobs {
            waiting.entry((job.value, job.batch_key())).or_default().push(*number);
        }
        let taken = waiting.into_values().take(batches).flatten();
        let jobs: Vec<Arc<PlannedJob>> = taken.filter_map(|number| self.jobs.remove(&number)).collect();
        for job in &jobs {
            self.numbers.remove(&job.name());
        }
        jobs.iter().map(|job| PlannedJob { purpose: Purpose::Postponed, ..(**job).clone() }).collect()
    }
}

impl Farm {
    /// Submits tests that waited, for the slots that are idle.
    pub fn run_postponed(&mut self) {
        if self.postponed.len() == 0 {
            return;
        }
        // What the scheduler says now: an executor that has just claimed a batch has not reported it yet. The plan can have further
        // jobs that are not submitted.
        let is_idle = |executor: &&ExecutorStatus| executor.state == ExecutorState::Idle && !executor.leaving;
        let choir = self.choir.status();
        let idle = choir.executors.iter().filter(is_idle).count().saturating_sub(choir.pending);
        if idle == 0 || self.window.count_left(1, &mut self.verdicts) > 0 {
            return;
        }
        let jobs = self.postponed.take(idle);
        let missing = jobs.into_iter().filter(|job| !self.verdicts.has(&job.name()).unwrap_or(false));
        let missing: Vec<PlannedJob> = missing.collect();
        self.submit(missing);
    }

    /// Handles the end of a test that waited. Returns the commands to carry out.
    pub(super) fn postponed_ended(&mut self, end: End<Arc<PlannedJob>>) -> Vec<Command> {
        match end.outcome {
            Outcome::Done | Outcome::Removed | Outcome::Cancelled => Vec::new(),
            Outcome::Abandoned { reason } => {
                tracing::error!(job = %end.payload.name(), "given up: {reason}");
                vec![Command::RecordAbandoned { job: end.payload, reason }]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture;

    fn job(commit: u32, file: &str, subtest: &str, value: i64) -> Arc<PlannedJob> {
        Arc::new(PlannedJob { value, ..fixture::job(fixture::commit(commit), file, subtest) })
    }

    #[test]
    fn batches_stay_together_and_the_newest_commits_are_first() {
        let mut postponed = Postponed::default();
        postponed.add(vec![
            job(1, "a", "y", 5),
            job(1, "a", "x", 5),
            job(2, "a", "x", 1),
            job(1, "b", "x", 5),
        ]);
        postponed.add(vec![job(1, "a", "x", 5)]);
        assert_eq!(postponed.len(), 4);
        let names =
            |jobs: &[PlannedJob]| -> Vec<String> { jobs.iter().map(|job| job.name().to_string()).collect() };
        let first = postponed.take(2);
        let short = |commit| fixture::commit(commit).short().to_string();
        let expected =
            [(2, "a.x"), (1, "a.y"), (1, "a.x")].map(|(commit, key)| format!("{} {key}", short(commit)));
        assert_eq!(names(&first), expected);
        assert!(first.iter().all(|job| job.purpose == Purpose::Postponed));
        postponed.keep_commits(|commit| *commit != fixture::commit(1));
        assert_eq!(postponed.len(), 0);
    }
}
