//! The window: the jobs that the scheduler has at a time.
//!
//! Invariant: the planner has handed out exactly the jobs of the window. A new view replans it: pending jobs that are
//! no longer among the first are taken back, and running jobs are kept.

use std::collections::{HashMap, HashSet};

use super::{Input, JobRef, PlannedJob, Planner, Verdicts};

/// The window.
#[derive(Debug)]
pub struct Window {
    planner: Planner,
    size: usize,
    /// The number of jobs that may still be handed out.
    left: usize,
}

/// The changes of the pending jobs after a replan.
#[derive(Debug, Default)]
pub struct Replan {
    /// Jobs to take back. Call [`Window::hold`] for those that are claimed first.
    pub unwanted: HashSet<JobRef>,
    /// Jobs that remain pending, with their new values.
    pub stays: HashMap<JobRef, i64>,
    /// Jobs to submit.
    pub submit: Vec<PlannedJob>,
}

impl Window {
    /// An empty window for `size` pending jobs.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { planner: Planner::new(), size, left: usize::MAX }
    }

    /// Hands out at most `jobs` jobs in total.
    pub fn limit_to(&mut self, jobs: Option<usize>) {
        self.left = jobs.unwrap_or(usize::MAX);
    }

    fn take(&mut self, most: usize, verdicts: &mut dyn Verdicts) -> Vec<PlannedJob> {
        let jobs = self.planner.take(most.min(self.left), verdicts);
        self.left -= jobs.len();
        jobs
    }

    /// Applies a new input. Call [`Window::replan`] afterwards.
    pub fn update(&mut self, input: &Input, size: usize) {
        self.planner.update(input);
        self.size = size;
    }

    /// The jobs to submit while `pending` jobs wait. Empty while the window is more than 75 % full, so that enough jobs
    /// are submitted at once to form batches.
    pub fn refill(&mut self, pending: usize, verdicts: &mut dyn Verdicts) -> Vec<PlannedJob> {
        if pending.saturating_mul(4) > self.size.saturating_mul(3) {
            return Vec::new();
        }
        self.take(self.size.saturating_sub(pending), verdicts)
    }

    /// Replans the pending jobs.
    pub fn replan(
        &mut self,
        pending: impl IntoIterator<Item = JobRef>,
        verdicts: &mut dyn Verdicts,
    ) -> Replan {
        let mut unwanted: HashSet<JobRef> = pending.into_iter().collect();
        for job in &unwanted {
            self.give_back(job);
        }
        let mut stays = HashMap::new();
        let mut submit = self.take(self.size, verdicts);
        submit.retain(|job| match unwanted.take(&job.name()) {
            Some(name) => {
                stays.insert(name, job.value);
                false
            }
            None => true,
        });
        Replan { unwanted, stays, submit }
    }

    /// Records that an unwanted job was claimed before it was taken back: it runs.
    pub fn hold(&mut self, job: &JobRef) {
        self.planner.hold(job);
        self.left = self.left.saturating_sub(1);
    }

    /// Records that a job has its verdict.
    pub fn set_done(&mut self, job: &JobRef) {
        self.planner.set_done(job);
    }

    /// Records that a job left the window without a verdict: it can be planned again.
    pub fn give_back(&mut self, job: &JobRef) {
        self.planner.give_back(job);
        self.left = self.left.saturating_add(1);
    }

    /// Whether the job is in the window.
    #[must_use]
    pub fn holds(&self, job: &JobRef) -> bool {
        self.planner.is_handed_out(job)
    }

    /// Whether no job is left to plan.
    pub fn is_exhausted(&mut self, verdicts: &mut dyn Verdicts) -> bool {
        self.left == 0 || self.planner.peek(1, verdicts).is_empty()
    }

    /// The number of jobs left to plan, counted up to `most`.
    pub fn count_left(&mut self, most: usize, verdicts: &mut dyn Verdicts) -> usize {
        self.planner.peek(most.min(self.left), verdicts).len()
    }

    /// The problems that prevent jobs from being planned.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let unreadable = self.planner.unreadable().map(|(commit, error)| {
            format!(
                "commit {}: its results cannot be read, so nothing is planned for it: {error}",
                commit.short()
            )
        });
        let refused = self.planner.refused().iter().map(ToString::to_string);
        unreadable.chain(refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use model::{CommitId, ResultKey};
    use proptest::prelude::*;

    use super::*;
    use crate::plan::fixture;

    fn input(commits: &[u8], subtests: usize) -> Input {
        fixture::input(vec![fixture::branch("u/b", commits)], subtests)
    }

    #[test]
    fn a_limit_counts_jobs_once() {
        let mut window = Window::new(8);
        window.limit_to(Some(3));
        window.update(&input(&[1, 0], 3), 8);
        let mut none = |_: &CommitId, _: &[ResultKey], _: &mut dyn FnMut(u32)| Ok(());
        let first = window.refill(0, &mut none);
        assert_eq!((first.len(), window.is_exhausted(&mut none)), (3, true));
        // A job that comes back can be handed out again, and a replan does not count jobs twice.
        window.give_back(&first[0].name());
        assert_eq!(window.refill(2, &mut none).len(), 1);
        let replan = window.replan(first.iter().map(PlannedJob::name), &mut none);
        assert_eq!((replan.stays.len() + replan.submit.len(), window.is_exhausted(&mut none)), (3, true));
        assert!(window.refill(0, &mut none).is_empty());
    }

    /// A model of the scheduler: the jobs that are pending, running, and done.
    #[derive(Default)]
    struct SchedulerModel {
        pending: BTreeSet<JobRef>,
        running: BTreeSet<JobRef>,
        done: BTreeMap<JobRef, u32>,
    }

    proptest! {
        #[test]
        fn every_job_runs_once_in_any_order_of_claims_and_pushes(
            size in 1usize..12,
            steps in proptest::collection::vec((0u8..7, 0usize..20), 0..80),
        ) {
            let mut model = SchedulerModel::default();
            let mut window = Window::new(size);
            let mut tip = 1u8;
            window.update(&input(&[1, 0], 3), size);
            for (step, pick) in steps {
                let done = model.done.clone();
                let mut verdicts = |commit: &CommitId, keys: &[ResultKey], each: &mut dyn FnMut(u32)| {
                    let has = |key: &ResultKey| done.keys().any(|job| job.commit == *commit && job.key == *key);
                    (0..).zip(keys).filter(|(_, key)| has(key)).for_each(|(at, _)| each(at));
                    Ok(())
                };
                let some = |set: &BTreeSet<JobRef>| set.iter().nth(pick % set.len().max(1)).cloned();
                match step {
                    0 | 1 => for job in window.refill(model.pending.len(), &mut verdicts) {
                        prop_assert!(!model.running.contains(&job.name()) && model.pending.insert(job.name()));
                    },
                    2 => if let Some(job) = some(&model.pending) {
                        model.pending.remove(&job);
                        model.running.insert(job);
                    },
                    3 | 4 => if let Some(job) = some(&model.running) {
                        model.running.remove(&job);
                        window.set_done(&job);
                        *model.done.entry(job).or_default() += 1;
                    },
                    // It failed and is pending again.
                    5 => if let Some(job) = some(&model.running) {
                        model.running.remove(&job);
                        model.pending.insert(job);
                    },
                    _ => {
                        tip += 1;
                        window.update(&input(&(0..=tip).rev().collect::<Vec<_>>(), 3), size);
                        let replan = window.replan(model.pending.clone(), &mut verdicts);
                        // One is claimed in the meantime.
                        if let Some(job) = some(&model.pending) {
                            model.pending.remove(&job);
                            model.running.insert(job);
                        }
                        for job in replan.unwanted {
                            if !model.pending.remove(&job) {
                                window.hold(&job);
                            }
                        }
                        for job in replan.submit {
                            prop_assert!(!model.running.contains(&job.name()) && model.pending.insert(job.name()));
                        }
                        // A job that remains has its new value. The numbers of the commits increase with their dates.
                        for (job, value) in &replan.stays {
                            let number = i64::from_str_radix(&job.commit.as_str()[32..], 16).unwrap();
                            prop_assert_eq!(*value, i64::from(tip) - number);
                        }
                        // No pending job precedes a job that was left out.
                        let next = window.planner.peek(1, &mut verdicts);
                        let oldest = model.pending.iter().map(|job| &job.commit).min();
                        if let (Some(next), Some(oldest)) = (next.first(), oldest) {
                            prop_assert!(next.commit <= *oldest);
                        }
                    }
                }
                prop_assert!(model.done.values().all(|runs| *runs == 1));
            }
        }
    }

    #[test]
    fn a_refill_waits_until_a_quarter_of_the_window_is_free() {
        let mut none = |_: &CommitId, _: &[ResultKey], _: &mut dyn FnMut(u32)| Ok(());
        let mut window = Window::new(8);
        window.update(&input(&[9, 8, 7, 6], 5), 8);
        assert_eq!(window.refill(0, &mut none).len(), 8);
        assert_eq!(window.refill(7, &mut none).len(), 0);
        assert_eq!(window.refill(6, &mut none).len(), 2);
        assert!(!window.is_exhausted(&mut none));
        assert_eq!(window.count_left(100, &mut none), 10);
    }
}
