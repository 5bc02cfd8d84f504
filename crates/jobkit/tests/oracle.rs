//! Compares the scheduler with a simple model that keeps lists and computes every sum from scratch.
//!
//! The model checks every batch: no duplicate job, needs and budget met, the right group and first job, filled in order
//! up to the budget. After every step it checks that no waiting executor could take a pending job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jobkit::core::{BatchEnd, BatchId, Claim, Effect, ExecutorId, Grant, JobId, Outcome, Scheduler};
use jobkit::{ChoirConfig, ExecutorSpec, HealthConfig, JobSpec, Needs};
use proptest::prelude::*;

const HALF_LIFE: u64 = 10_000;
const ELSEWHERE: u64 = 3_000;
const MAX_BATCH: usize = 6;

#[derive(Debug, Clone)]
struct Submission {
    group: u8,
    key: u8,
    order: i8,
    cost: u16,
    needs: u8,
}

#[derive(Debug, Clone)]
enum Step {
    Submit(Vec<Submission>),
    Claim(u8),
    Done(u8, u8),
    Finish(u8),
    PutBack(u8),
    Fail(u8),
    Cancel(u8),
    Remove(u8),
    Withdraw(u8),
    Pass(u16),
}

fn submission() -> impl Strategy<Value = Submission> {
    (0..4_u8, 0..3_u8, -2..3_i8, 0..500_u16, 0..4_u8)
        .prop_map(|(group, key, order, cost, needs)| Submission { group, key, order, cost, needs })
}

fn step(failures: bool) -> impl Strategy<Value = Step> {
    let fail = if failures { 3 } else { 0 };
    prop_oneof![
        6 => prop::collection::vec(submission(), 1..8).prop_map(Step::Submit),
        8 => any::<u8>().prop_map(Step::Claim),
        4 => (any::<u8>(), 0..8_u8).prop_map(|(executor, jobs)| Step::Done(executor, jobs)),
        6 => any::<u8>().prop_map(Step::Finish),
        1 => any::<u8>().prop_map(Step::PutBack),
        fail => any::<u8>().prop_map(Step::Fail),
        1 => any::<u8>().prop_map(Step::Cancel),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => any::<u8>().prop_map(Step::Withdraw),
        4 => (0..4000_u16).prop_map(Step::Pass),
    ]
}

fn weight(group: &str) -> f64 {
    if group == "g0" { 2.5 } else { 1.0 }
}

/// No executor meets needs 3.
fn needs(number: u8) -> Needs {
    match number {
        0 => Needs::none(),
        1 => Needs::none().is("arch", "a"),
        2 => Needs::none().at_least("memory", 8),
        _ => Needs::none().is("arch", "c"),
    }
}

#[derive(Debug, Clone)]
struct Job {
    spec: JobSpec<()>,
    pending: bool,
    /// The hosts on which it failed, and the time of the last failure.
    failed_on: BTreeSet<String>,
    failed_at: u64,
    /// The number of its last failure. Jobs share a batch only if this is equal.
    past: u64,
    cancelling: bool,
}

#[derive(Debug)]
struct Slot {
    spec: ExecutorSpec,
    batch: Option<Running>,
    waiting: bool,
    rests: bool,
    /// The groups whose batches failed here since the last success. An executor that rests may serve the others.
    suspects: BTreeSet<String>,
}

/// A batch: its unfinished jobs, how many are done, and the charge in the list of usage.
#[derive(Debug)]
struct Running {
    id: BatchId,
    jobs: Vec<JobId>,
    done: usize,
    charge: (String, f64, u64),
}

struct Model {
    scheduler: Scheduler,
    now: u64,
    jobs: BTreeMap<JobId, Job>,
    slots: BTreeMap<ExecutorId, Slot>,
    /// The usage: group, ms, time. A settled charge is removed.
    usage: Vec<(String, f64, u64)>,
    ended: BTreeMap<JobId, Outcome>,
    submitted: usize,
    exact: bool,
    batch_min: Option<Duration>,
}

impl Model {
    fn new(exact: bool, batch_min: Option<Duration>) -> Self {
        let config = ChoirConfig {
            batch_min,
            usage_half_life: Duration::from_millis(HALF_LIFE),
            max_batch_jobs: MAX_BATCH,
            other_host_wait: Duration::from_millis(ELSEWHERE),
            health: HealthConfig { backoff: Duration::from_millis(100), ..HealthConfig::default() },
            ..ChoirConfig::default()
        };
        let mut scheduler = Scheduler::new(&config);
        let mut slots = BTreeMap::new();
        for (name, host, arch, memory, budget) in [
            ("h0/0", "h0", "a", 4, 600),
            ("h0/1", "h0", "a", 4, 600),
            ("h1/0", "h1", "b", 8, 300),
            ("h2/0", "h2", "a", 16, 1000),
        ] {
            let mut spec = ExecutorSpec::new(name);
            spec.host = host.into();
            spec.tags.insert("arch".into(), arch.into());
            spec.amounts.insert("memory".into(), memory);
            spec.budget = Duration::from_millis(budget);
            let id = scheduler.add_executor(&spec, 0);
            slots.insert(
                id,
                Slot { spec, batch: None, waiting: false, rests: false, suspects: BTreeSet::new() },
            );
        }
        let (jobs, usage, ended) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { scheduler, now: 0, jobs, slots, usage, ended, submitted: 0, exact, batch_min }
    }

    fn slot_at(&self, number: u8) -> ExecutorId {
        *self.slots.keys().nth(usize::from(number) % self.slots.len()).expect("the model has it")
    }

    fn job_at(&self, number: u8) -> Option<JobId> {
        self.jobs.keys().nth(usize::from(number) % self.jobs.len().max(1)).copied()
    }

    fn score(&self, group: &str) -> f64 {
        let used: f64 = self
            .usage
            .iter()
            .filter(|(who, ..)| who == group)
            .map(|(_, used, at)| used * 0.5_f64.powf((self.now - at) as f64 / HALF_LIFE as f64))
            .sum();
        used.max(0.0) / weight(group)
    }

    fn may_take(slot: &Slot, job: &Job) -> bool {
        job.pending && job.spec.needs.met_by(&slot.spec.tags, &slot.spec.amounts)
    }

    fn granted(&mut self, grant: &Grant) {
        let slot = &self.slots[&grant.executor];
        assert!(slot.batch.is_none(), "one batch at a time");
        let suspected = slot.suspects.contains(&*grant.group);
        assert!(!slot.rests || !suspected, "it rests, and a batch of the group failed on it");
        let jobs: Vec<Job> = grant.jobs.iter().map(|id| self.jobs[id].clone()).collect();
        let first = &jobs[0];
        for job in &jobs {
            assert!(Self::may_take(slot, job), "a pending job that the executor may take");
            assert_eq!(
                (&job.spec.group, &job.spec.batch_key, &job.spec.needs, job.past),
                (&first.spec.group, &first.spec.batch_key, &first.spec.needs, first.past)
            );
        }
        let cost: u64 = jobs.iter().map(|job| job.spec.cost.as_millis() as u64).sum();
        assert!(jobs.len() == 1 || cost <= slot.spec.budget.as_millis() as u64, "within the budget");
        if self.exact {
            self.check_choice(slot, grant);
        } else {
            self.check_other_host(slot, first);
        }
        let charged = cost.max(jobs.len() as u64);
        let charge = (first.spec.group.clone(), charged as f64, self.now);
        self.usage.push(charge.clone());
        for id in &grant.jobs {
            self.jobs.get_mut(id).expect("the model has it").pending = false;
        }
        let slot = self.slots.get_mut(&grant.executor).expect("the model has it");
        slot.waiting = false;
        slot.rests = false;
        slot.batch = Some(Running { id: grant.batch, jobs: grant.jobs.clone(), done: 0, charge });
    }

    /// Checks the group with the least usage per weight, its first job by order, and the number of jobs that follow.
    fn check_choice(&self, slot: &Slot, grant: &Grant) {
        let eligible: Vec<(&JobId, &Job)> =
            self.jobs.iter().filter(|(_, job)| Self::may_take(slot, job)).collect();
        let score = self.score(&grant.group);
        for (_, job) in &eligible {
            let other = self.score(&job.spec.group);
            assert!(score <= other * (1.0 + 1e-9) + 1e-6, "{score} for {}, {other}", grant.group);
        }
        let long = |cost: Duration| {
            if self.batch_min.is_some_and(|least| cost >= least) { cost } else { Duration::ZERO }
        };
        let mut of_group: Vec<(i64, std::cmp::Reverse<Duration>, JobId)> = eligible
            .iter()
            .filter(|(_, job)| *job.spec.group == *grant.group)
            .map(|(id, job)| (job.spec.order, std::cmp::Reverse(long(job.spec.cost)), **id))
            .collect();
        of_group.sort_unstable();
        let first = &self.jobs[&of_group[0].2].spec;
        let budget = self.batch_cost(slot, first);
        let mut expected = Vec::new();
        let mut cost = Duration::ZERO;
        for (.., id) in of_group {
            let spec = &self.jobs[&id].spec;
            if spec.batch_key != first.batch_key || spec.needs != first.needs {
                continue;
            }
            if expected.len() == MAX_BATCH || (!expected.is_empty() && cost + spec.cost > budget) {
                break;
            }
            cost += spec.cost;
            expected.push(id);
        }
        expected.sort_unstable_by_key(|id| (self.jobs[id].spec.order, *id));
        assert_eq!(grant.jobs, expected);
    }

    /// The intended cost of a batch that begins with this job.
    fn batch_cost(&self, slot: &Slot, first: &JobSpec<()>) -> Duration {
        let budget = slot.spec.budget;
        let Some(least) = self.batch_min else { return budget };
        let takers =
            self.slots.values().filter(|slot| first.needs.met_by(&slot.spec.tags, &slot.spec.amounts));
        let takers = takers.count() as u32;
        if takers <= 1 {
            return budget;
        }
        let cost = |of: &dyn Fn(&Job) -> bool| -> Duration {
            self.jobs.values().filter(|job| job.pending && of(job)).map(|job| job.spec.cost).sum()
        };
        let all = cost(&|job| Self::may_take(slot, job));
        let of_group = cost(&|job| job.spec.group == first.group);
        // Whole ms, as the scheduler has them.
        let share = all.max(of_group).as_millis().div_ceil(takers.into()) as u64;
        Duration::from_millis(share * 75 / 100).max(least).min(budget)
    }

    /// Checks that a failed job goes to a host on which it did not fail, if one of those can take it.
    fn check_other_host(&self, slot: &Slot, job: &Job) {
        if self.now >= job.failed_at + ELSEWHERE || !job.failed_on.contains(&slot.spec.host) {
            return;
        }
        let other_host = self.slots.values().any(|other| {
            !job.failed_on.contains(&other.spec.host)
                && job.spec.needs.met_by(&other.spec.tags, &other.spec.amounts)
        });
        assert!(!other_host, "{} again, where it failed", slot.spec.name);
    }

    fn effects(&mut self) {
        self.scheduler.dispatch(self.now);
        for effect in self.scheduler.take_effects() {
            match effect {
                Effect::Granted(grant) => self.granted(&grant),
                Effect::Ended { job, outcome, .. } => {
                    assert!(self.ended.insert(job, outcome).is_none(), "a job ends once");
                    self.jobs.remove(&job);
                }
                Effect::Dismissed(_) | Effect::CancelBatch(_) => {}
            }
        }
        assert_eq!(self.scheduler.pending(), self.jobs.values().filter(|job| job.pending).count());
        assert_eq!(self.scheduler.pending() + self.scheduler.running() + self.ended.len(), self.submitted);
        assert_eq!(self.scheduler.job_ids(), self.jobs.keys().copied().collect::<Vec<_>>());
        for slot in self.slots.values().filter(|slot| slot.waiting && !slot.rests && slot.batch.is_none()) {
            for job in self.jobs.values().filter(|job| job.failed_on.is_empty()) {
                assert!(
                    !Self::may_take(slot, job),
                    "{} waits, yet {} does too",
                    slot.spec.name,
                    job.spec.name
                );
            }
        }
    }

    /// Ends a batch, in the scheduler and in the model.
    fn end(&mut self, id: ExecutorId, end: BatchEnd) {
        let slot = self.slots.get_mut(&id).expect("the model has it");
        let Some(Running { id: batch, jobs, done, charge }) = slot.batch.take() else { return };
        let open = jobs.iter().any(|job| !self.jobs[job].cancelling);
        let group = charge.0.clone();
        let failed = matches!(end, BatchEnd::Failed(_)) || (matches!(end, BatchEnd::Finished) && open);
        slot.rests = failed;
        if failed {
            slot.suspects.insert(group);
        } else if !open && done > 0 {
            slot.suspects.clear();
        }
        let host = slot.spec.host.clone();
        self.usage.remove(self.usage.iter().position(|other| *other == charge).expect("the model has it"));
        let (group, _, since) = charge;
        self.usage.push((group, (self.now - since).max(done as u64) as f64, self.now));
        for job in jobs {
            let job = self.jobs.get_mut(&job).expect("the model has it");
            job.pending = !job.cancelling;
            if failed {
                job.failed_on.insert(host.clone());
                job.failed_at = self.now;
                job.past = self.now * 1000 + batch.get();
            }
        }
        self.scheduler.end_batch(batch, end, self.now);
        // Jobs that are given up are not pending. The model must process their ends before it checks the first grant.
        self.effects();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Submit(submissions) => submissions.iter().for_each(|submission| self.submit(submission)),
            Step::Claim(number) => self.claim(self.slot_at(*number)),
            Step::Done(number, jobs) => self.done(self.slot_at(*number), *jobs),
            Step::Finish(number) => {
                let id = self.slot_at(*number);
                self.done(id, u8::MAX);
                self.effects();
                self.end(id, BatchEnd::Finished);
            }
            Step::PutBack(number) => self.end(self.slot_at(*number), BatchEnd::PutBack),
            Step::Fail(number) => self.end(self.slot_at(*number), BatchEnd::Failed("broken".into())),
            Step::Cancel(number) => {
                let Some(id) = self.job_at(*number) else { return };
                self.jobs.get_mut(&id).expect("the model has it").cancelling = true;
                assert!(self.scheduler.cancel(id));
            }
            Step::Remove(number) => {
                let Some(id) = self.job_at(*number) else { return };
                assert_eq!(self.scheduler.remove(id), self.jobs[&id].pending);
            }
            Step::Withdraw(number) => {
                let id = self.slot_at(*number);
                self.scheduler.stop_waiting(id);
                self.slots.get_mut(&id).expect("the model has it").waiting = false;
            }
            Step::Pass(ms) => self.pass(u64::from(*ms)),
        }
        self.effects();
    }

    fn submit(&mut self, submission: &Submission) {
        let group = format!("g{}", submission.group);
        let spec = JobSpec {
            batch_key: format!("k{}", submission.key),
            cost: Duration::from_millis(submission.cost.into()),
            weight: weight(&group),
            group,
            order: submission.order.into(),
            needs: needs(submission.needs),
            ..JobSpec::new(format!("j{}", self.submitted), ())
        };
        let id = self.scheduler.submit(&spec, self.now);
        self.submitted += 1;
        let (failed_on, failed_at) = (BTreeSet::new(), 0);
        self.jobs.insert(id, Job { spec, pending: true, failed_on, failed_at, past: 0, cancelling: false });
    }

    fn claim(&mut self, id: ExecutorId) {
        match self.scheduler.claim(id, self.now) {
            Claim::Granted(grant) => self.granted(&grant),
            Claim::Waiting => self.slots.get_mut(&id).expect("the model has it").waiting = true,
            Claim::Gone => unreachable!("no executor is removed"),
        }
    }

    /// Reports at most this number of jobs of the executor's batch as done.
    fn done(&mut self, id: ExecutorId, most: u8) {
        let slot = self.slots.get_mut(&id).expect("the model has it");
        let Some(Running { id, jobs: unfinished, done, .. }) = &mut slot.batch else { return };
        for job in unfinished.drain(..usize::from(most).min(unfinished.len())) {
            *done += 1;
            assert!(self.scheduler.done(*id, job));
            assert!(!self.scheduler.done(*id, job));
        }
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(due) = self.scheduler.next_due().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.tick();
        }
        self.now = until;
        self.tick();
    }

    fn tick(&mut self) {
        self.scheduler.tick(self.now);
        let status = self.scheduler.status(self.now, |_| String::new(), |_| None, |ms| ms as i64);
        for slot in self.slots.values_mut() {
            let executor = status
                .executors
                .iter()
                .find(|executor| executor.name == slot.spec.name)
                .expect("the model has it");
            slot.rests = executor.rests_until.is_some();
        }
        self.effects();
    }

    /// Runs everything that can run; then only unplaceable jobs are left.
    fn run_all(&mut self) {
        for round in 0..10_000 {
            for number in 0..4 {
                self.step(&Step::Claim(number));
                self.step(&Step::Finish(number));
            }
            if self.jobs.values().all(|job| job.spec.needs == needs(3)) {
                return;
            }
            assert!(round < 9_999, "starved: {:?}", self.jobs);
            self.step(&Step::Pass(1000));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_choice_equals_that_of_the_model(
        steps in prop::collection::vec(step(false), 1..120),
        batch_min in prop_oneof![Just(None), (0..400_u64).prop_map(|ms| Some(Duration::from_millis(ms)))],
    ) {
        let mut model = Model::new(true, batch_min);
        for step in &steps {
            model.step(step);
        }
        model.run_all();
    }

    #[test]
    fn failures_lose_and_duplicate_no_job(
        steps in prop::collection::vec(step(true), 1..120),
        batch_min in prop_oneof![Just(None), Just(Some(Duration::from_millis(200)))],
    ) {
        let mut model = Model::new(false, batch_min);
        for step in &steps {
            model.step(step);
        }
        model.run_all();
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Groups that always have jobs get executor time by weight, to within one batch.
    #[test]
    fn shares_follow_weights(weights in prop::collection::vec(1..9_u8, 2..6), costs in prop::collection::vec(1..100_u64, 5)) {
        let config = ChoirConfig { usage_half_life: Duration::from_secs(1 << 40), ..ChoirConfig::default() };
        let mut scheduler = Scheduler::new(&config);
        let executor = scheduler.add_executor(&ExecutorSpec::new("e"), 0);
        for (number, weight) in weights.iter().enumerate() {
            for n in 0..300 {
                let cost = Duration::from_millis(costs[(n + number) % costs.len()]);
                let group = number.to_string();
                let batch_key = format!("{number} {n}");
                scheduler.submit(&JobSpec { group, weight: (*weight).into(), cost, batch_key, ..JobSpec::new("j", ()) }, 0);
            }
        }
        let (mut now, mut used) = (0, vec![0.0; weights.len()]);
        for _ in 0..250 {
            let Claim::Granted(grant) = scheduler.claim(executor, now) else { panic!("there is work") };
            let number: usize = grant.group.parse().expect("the model has it");
            let time = costs[now as usize % costs.len()];
            now += time;
            used[number] += time as f64;
            scheduler.done(grant.batch, grant.jobs[0]);
            scheduler.end_batch(grant.batch, BatchEnd::Finished, now);
        }
        let shares: Vec<f64> = used.iter().zip(&weights).map(|(used, weight)| used / f64::from(*weight)).collect();
        let (least, most) = shares.iter().fold((f64::MAX, 0.0_f64), |(l, m), s| (l.min(*s), m.max(*s)));
        prop_assert!(most - least <= 100.0 + 1e-6, "{shares:?}");
    }
}
