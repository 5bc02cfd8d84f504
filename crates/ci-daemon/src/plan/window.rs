//! The window: the jobs that are submitted at a time, and how it follows the plan.
//!
//! The planner has handed out exactly what is in the window. After a push the plan is made anew: what is pending and
//! no longer among the first is taken back, what is running stays.

use std::collections::{HashMap, HashSet};

use super::{Input, JobRef, PlannedJob, Planner, Verdicts};

/// The window.
#[derive(Debug)]
pub struct Window {
    planner: Planner,
    size: usize,
}

/// What is to be done about the pending jobs after the plan has changed.
#[derive(Debug, Default)]
pub struct Replan {
    /// To be taken back. Those that are claimed before that happens are reported to [`Window::hold`].
    pub unwanted: HashSet<JobRef>,
    /// Stays, with this value from now on.
    pub stays: HashMap<JobRef, i64>,
    /// To be submitted.
    pub submit: Vec<PlannedJob>,
}

impl Window {
    /// An empty window for so many pending jobs.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { planner: Planner::new(), size }
    }

    /// Takes a new list of what is wanted; [`Window::replan`] is due afterwards.
    pub fn update(&mut self, input: &Input, size: usize) {
        self.planner.update(input);
        self.size = size;
    }

    /// The jobs to be submitted while `pending` wait. Does nothing while the window is more than three quarters full,
    /// so that jobs come in numbers that make batches.
    pub fn refill(&mut self, pending: usize, verdicts: &mut dyn Verdicts) -> Vec<PlannedJob> {
        if pending.saturating_mul(4) > self.size.saturating_mul(3) {
            return Vec::new();
        }
        self.planner.take(self.size.saturating_sub(pending), verdicts)
    }

    /// Makes the plan of the pending jobs anew.
    pub fn replan(
        &mut self,
        pending: impl IntoIterator<Item = JobRef>,
        verdicts: &mut dyn Verdicts,
    ) -> Replan {
        let mut unwanted: HashSet<JobRef> = pending.into_iter().collect();
        for job in &unwanted {
            self.planner.give_back(job);
        }
        let mut stays = HashMap::new();
        let mut submit = self.planner.take(self.size, verdicts);
        submit.retain(|job| match unwanted.take(&job.name()) {
            Some(name) => {
                stays.insert(name, job.value);
                false
            }
            None => true,
        });
        Replan { unwanted, stays, submit }
    }

    /// An unwanted job was claimed before it could be taken back: it runs.
    pub fn hold(&mut self, job: &JobRef) {
        self.planner.hold(job);
    }

    /// A job has its verdict.
    pub fn set_done(&mut self, job: &JobRef) {
        self.planner.verdict(job);
    }

    /// A job left the window without a verdict; it may be planned again.
    pub fn give_back(&mut self, job: &JobRef) {
        self.planner.give_back(job);
    }

    /// Whether the job was handed out and neither judged nor given back.
    #[must_use]
    pub fn holds(&self, job: &JobRef) -> bool {
        self.planner.is_handed_out(job)
    }

    /// Whether nothing is left to be handed out.
    pub fn is_exhausted(&mut self, verdicts: &mut dyn Verdicts) -> bool {
        self.planner.peek(1, verdicts).is_empty()
    }

    /// How many jobs are left to be handed out, counted up to `most`.
    pub fn count_left(&mut self, most: usize, verdicts: &mut dyn Verdicts) -> usize {
        self.planner.peek(most, verdicts).len()
    }

    /// What keeps jobs from being planned.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let unreadable = self.planner.unreadable().map(|(commit, why)| {
            format!("nothing is planned for {}, its results cannot be read: {why}", commit.short())
        });
        let refused = self.planner.refused().iter().map(ToString::to_string);
        unreadable.chain(refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use config::TestGroup;
    use model::{CommitId, Env, ResultKey};
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Branch;

    fn input(commits: &[u8], subtests: usize) -> Input {
        let group = TestGroup {
            name: "g".parse().unwrap(),
            tests: vec!["a".parse().unwrap()],
            nice: 0,
            max_commits: 50,
            test_duration_nice: 0,
            test_always_passes_nice: 0,
            kernels: Vec::new(),
            env: Env::default(),
        };
        let commits = commits.iter().map(|n| format!("{n:040x}").parse().unwrap()).collect();
        let branch = Branch {
            name: Arc::new("u/b".parse().unwrap()),
            repo: Arc::new(model::RepoName::linux()),
            commits,
            groups: vec![Arc::new(group)],
        };
        let listing = (0..subtests).map(|n| format!("s{n}").parse().unwrap()).collect();
        Input {
            branches: vec![branch],
            listings: [(("a".parse().unwrap(), Env::default()), listing)].into(),
            ..Input::default()
        }
    }

    /// A scheduler as it could behave: jobs are pending, running or over.
    #[derive(Default)]
    struct World {
        pending: BTreeSet<JobRef>,
        running: BTreeSet<JobRef>,
        judged: BTreeMap<JobRef, u32>,
    }

    proptest! {
        #[test]
        fn every_job_runs_once_however_claims_and_pushes_interleave(
            size in 1usize..12,
            steps in proptest::collection::vec((0u8..7, 0usize..20), 0..80),
        ) {
            let mut world = World::default();
            let mut window = Window::new(size);
            let mut tip = 1u8;
            window.update(&input(&[1, 0], 3), size);
            for (what, pick) in steps {
                let judged = world.judged.clone();
                let mut verdicts = |commit: &CommitId, keys: &[ResultKey], each: &mut dyn FnMut(u32)| {
                    let has = |key: &ResultKey| judged.keys().any(|job| job.commit == *commit && job.key == *key);
                    (0..).zip(keys).filter(|(_, key)| has(key)).for_each(|(at, _)| each(at));
                    Ok(())
                };
                let some = |set: &BTreeSet<JobRef>| set.iter().nth(pick % set.len().max(1)).cloned();
                match what {
                    0 | 1 => for job in window.refill(world.pending.len(), &mut verdicts) {
                        prop_assert!(!world.running.contains(&job.name()) && world.pending.insert(job.name()));
                    },
                    2 => if let Some(job) = some(&world.pending) {
                        world.pending.remove(&job);
                        world.running.insert(job);
                    },
                    3 | 4 => if let Some(job) = some(&world.running) {
                        world.running.remove(&job);
                        window.set_done(&job);
                        *world.judged.entry(job).or_default() += 1;
                    },
                    // It failed and waits again.
                    5 => if let Some(job) = some(&world.running) {
                        world.running.remove(&job);
                        world.pending.insert(job);
                    },
                    _ => {
                        tip += 1;
                        window.update(&input(&(0..=tip).rev().collect::<Vec<_>>(), 3), size);
                        let replan = window.replan(world.pending.clone(), &mut verdicts);
                        // One is claimed in the meantime.
                        if let Some(job) = some(&world.pending) {
                            world.pending.remove(&job);
                            world.running.insert(job);
                        }
                        for job in replan.unwanted {
                            if !world.pending.remove(&job) {
                                window.hold(&job);
                            }
                        }
                        for job in replan.submit {
                            prop_assert!(!world.running.contains(&job.name()) && world.pending.insert(job.name()));
                        }
                        // What stays has its new value: the commits' numbers rise with their youth.
                        for (job, value) in &replan.stays {
                            let number = i64::from_str_radix(&job.commit.as_str()[32..], 16).unwrap();
                            prop_assert_eq!(*value, i64::from(tip) - number);
                        }
                        // Nothing pending is older than what was left out.
                        let next = window.planner.peek(1, &mut verdicts);
                        let oldest = world.pending.iter().map(|job| &job.commit).min();
                        if let (Some(next), Some(oldest)) = (next.first(), oldest) {
                            prop_assert!(next.commit <= *oldest);
                        }
                    }
                }
                prop_assert!(world.judged.values().all(|runs| *runs == 1));
            }
        }
    }

    #[test]
    fn refills_in_numbers() {
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
