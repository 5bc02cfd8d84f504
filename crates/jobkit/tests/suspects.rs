//! Groups whose batches fail on purpose, together and on all executors, do not keep the executors from others, and a
//! broken executor does not take many batches.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use jobkit::core::{BatchEnd, BatchId, Claim, Effect, ExecutorId, Grant, JobId, Scheduler};
use jobkit::{ChoirConfig, ExecutorSpec, HealthConfig, JobSpec};
use proptest::prelude::*;

/// The time until a batch fails, in ms.
const FAILS_AFTER: u64 = 1000;
/// The longest first back-off: 5 s and up to 25 %.
const FIRST_PAUSE: u64 = 6250;
/// The time that a batch of the honest group takes, in ms.
const HONEST: u64 = 20_000;

struct Farm {
    scheduler: Scheduler,
    now: u64,
    /// The ends of the running batches.
    ends: BinaryHeap<Reverse<(u64, BatchId)>>,
    running: BTreeMap<BatchId, Grant>,
    submitted: BTreeMap<JobId, u64>,
    /// When the jobs of the honest group started, relative to their submission.
    delays: Vec<u64>,
    failed: usize,
    executors: Vec<ExecutorId>,
    broken: bool,
}

impl Farm {
    fn new(executors: usize, broken: bool) -> Self {
        let config = ChoirConfig { max_failures: u32::MAX, max_attempts: u32::MAX, ..ChoirConfig::default() };
        let mut farm = Self {
            scheduler: Scheduler::new(&config),
            now: 0,
            ends: BinaryHeap::new(),
            running: BTreeMap::new(),
            submitted: BTreeMap::new(),
            delays: Vec::new(),
            failed: 0,
            executors: Vec::new(),
            broken,
        };
        for number in 0..executors {
            let mut spec = ExecutorSpec::new(format!("e{number}"));
            spec.host = format!("h{number}");
            let id = farm.scheduler.add_executor(&spec, 0);
            farm.executors.push(id);
            farm.claim(id);
        }
        farm
    }

    fn claim(&mut self, id: ExecutorId) {
        if let Claim::Granted(grant) = self.scheduler.claim(id, self.now) {
            self.granted(grant);
        }
    }

    fn is_honest(grant: &Grant) -> bool {
        &*grant.group == "honest"
    }

    fn granted(&mut self, grant: Grant) {
        let takes = if Self::is_honest(&grant) && !self.broken { HONEST } else { FAILS_AFTER };
        if Self::is_honest(&grant) {
            self.delays.extend(grant.jobs.iter().map(|job| self.now - self.submitted[job]));
        }
        self.ends.push(Reverse((self.now + takes, grant.batch)));
        self.running.insert(grant.batch, grant);
    }

    fn submit(&mut self, group: &str) {
        let batch_key = format!("{group} {}", self.submitted.len());
        let spec = JobSpec { group: group.into(), batch_key, ..JobSpec::new("j", ()) };
        let id = self.scheduler.submit(&spec, self.now);
        self.submitted.insert(id, self.now);
        self.settle();
    }

    fn settle(&mut self) {
        self.scheduler.dispatch(self.now);
        for effect in self.scheduler.take_effects() {
            if let Effect::Granted(grant) = effect {
                self.granted(grant);
            }
        }
    }

    /// Passes time until `until`.
    fn pass(&mut self, until: u64) {
        loop {
            let end = self.ends.peek().map(|Reverse((at, _))| *at);
            let due = self.scheduler.next_due();
            let Some(next) = end.into_iter().chain(due).min().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            self.scheduler.tick(self.now);
            self.settle();
            while let Some(Reverse((_, batch))) =
                self.ends.peek().copied().filter(|Reverse((at, _))| *at <= self.now)
            {
                self.ends.pop();
                let grant = self.running.remove(&batch).expect("it was granted");
                if Self::is_honest(&grant) && !self.broken {
                    grant.jobs.iter().for_each(|job| assert!(self.scheduler.done(batch, *job)));
                    self.scheduler.end_batch(batch, BatchEnd::Finished, self.now);
                } else {
                    self.failed += 1;
                    self.scheduler.end_batch(batch, BatchEnd::Failed("no space left".into()), self.now);
                }
                self.settle();
                self.claim(grant.executor);
                self.settle();
            }
        }
        self.now = until;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// However long the others have failed, a job of the honest group waits for one batch and one short pause of each.
    #[test]
    fn colluding_groups_do_not_keep_executors_from_others(
        (groups, executors) in (1..6_usize, 1..5_usize),
        gaps in prop::collection::vec(0..4 * 3_600_000_u64, 1..12),
        batches in 1..4_usize,
    ) {
        let mut farm = Farm::new(executors, false);
        for group in 0..groups {
            (0..40).for_each(|_| farm.submit(&format!("bad{group}")));
        }
        for gap in gaps {
            farm.pass(farm.now + gap);
            (0..batches.min(executors)).for_each(|_| farm.submit("honest"));
        }
        farm.pass(farm.now + 3_600_000);
        prop_assert_eq!(farm.running.values().filter(|grant| Farm::is_honest(grant)).count(), 0);
        let most = groups as u64 * (FAILS_AFTER + FIRST_PAUSE) + 2 * HONEST;
        prop_assert!(farm.delays.iter().all(|delay| *delay <= most), "{:?}", farm.delays);
        prop_assert!(!farm.delays.is_empty());
    }

    /// An executor on which everything fails takes one batch of each group, and then one at the end of each pause.
    #[test]
    fn a_broken_executor_takes_few_batches(groups in 1..20_usize, arrivals in 0..20_u64) {
        let mut farm = Farm::new(1, true);
        for group in 0..groups {
            (0..3).for_each(|_| farm.submit(&format!("g{group}")));
        }
        for arrival in 0..arrivals {
            farm.pass((arrival + 1) * 3_600_000);
            farm.submit("honest");
        }
        farm.pass(24 * 3_600_000);
        let health = HealthConfig::default();
        let quarantines = 24 * 3_600_000 / health.quarantine_max.as_millis() as usize + 5;
        let most = groups + 1 + health.quarantine_after as usize + quarantines;
        prop_assert!(farm.failed <= most, "{} of {most}", farm.failed);
        let status = farm.scheduler.status(farm.now, |_| String::new(), |_| None, |ms| ms as i64);
        prop_assert_eq!(status.executors[0].state, jobkit::ExecutorState::Quarantined);
    }
}

#[test]
fn a_group_whose_batches_did_not_fail_gets_a_quarantined_executor_at_once() {
    let mut farm = Farm::new(2, false);
    ["a", "b"].iter().for_each(|group| (0..5).for_each(|_| farm.submit(group)));
    farm.pass(24 * 3_600_000);
    let states = |farm: &Farm| {
        let status = farm.scheduler.status(farm.now, |_| String::new(), |_| None, |ms| ms as i64);
        status.executors.into_iter().map(|executor| executor.state.label()).collect::<Vec<_>>()
    };
    assert_eq!(states(&farm), ["quarantined", "quarantined"]);
    farm.submit("honest");
    assert_eq!((states(&farm), &farm.delays[..]), (vec!["busy", "quarantined"], &[0][..]));
}
