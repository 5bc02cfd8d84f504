//! Simulates a farm of 1,000 hosts with 64 slots each, in virtual time, with seeded failures: hosts that fail for some
//! time, slots that fail once, jobs that break every executor, hosts that are removed and added again, jobs that are
//! cancelled.
//!
//! Every job ends exactly once, and few jobs are given up other than those that break executors.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use jobkit::core::{BatchEnd, BatchId, Claim, Effect, ExecutorId, Grant, JobId, Outcome, Scheduler};
use jobkit::{ChoirConfig, ExecutorSpec, JobSpec, Needs};

const HOSTS: usize = 1000;
const SLOTS: usize = 64;
const JOBS: usize = 100_000;
const WINDOW: usize = 2000;

/// The generator splitmix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    BatchEnds(ExecutorId, BatchId),
    HostDies(usize),
    HostRecovers(usize),
    HostRemoved(usize),
    HostAdded(usize),
    Arrivals,
    Cancel,
}

struct Farm {
    scheduler: Scheduler,
    rng: Rng,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    hosts: Vec<Vec<ExecutorId>>,
    host_of: HashMap<ExecutorId, usize>,
    dead: Vec<bool>,
    running: HashMap<BatchId, Vec<JobId>>,
    submitted: usize,
    poison: BTreeSet<JobId>,
    ends: HashMap<JobId, Outcome>,
    failures: usize,
}

impl Farm {
    fn new(seed: u64, hosts: usize) -> Self {
        let mut farm = Self {
            scheduler: Scheduler::new(&ChoirConfig { window: WINDOW, ..ChoirConfig::default() }),
            rng: Rng(seed),
            now: 0,
            events: BinaryHeap::new(),
            hosts: vec![Vec::new(); hosts],
            host_of: HashMap::new(),
            dead: vec![false; hosts],
            running: HashMap::new(),
            submitted: 0,
            poison: BTreeSet::new(),
            ends: HashMap::new(),
            failures: 0,
        };
        for host in 0..hosts {
            farm.add_host(host);
        }
        for _ in 0..hosts / 5 {
            let host = farm.rng.below(hosts as u64) as usize;
            let at = farm.rng.below(120_000);
            farm.after(at, Event::HostDies(host));
        }
        for _ in 0..hosts / 20 {
            let host = farm.rng.below(hosts as u64) as usize;
            let at = farm.rng.below(120_000);
            farm.after(at, Event::HostRemoved(host));
        }
        farm.after(0, Event::Arrivals);
        farm.after(1, Event::Cancel);
        farm
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.events.push(Reverse((self.now + ms, event)));
    }

    fn add_host(&mut self, host: usize) {
        for slot in 0..SLOTS {
            let mut spec = ExecutorSpec::new(format!("h{host}/{slot}"));
            spec.host = format!("h{host}");
            spec.tags
                .insert("arch".into(), if host.is_multiple_of(10) { "aarch64" } else { "x86_64" }.into());
            spec.amounts.insert("memory".into(), if host.is_multiple_of(3) { 8192 } else { 2048 });
            let id = self.scheduler.add_executor(&spec, self.now);
            self.hosts[host].push(id);
            self.host_of.insert(id, host);
            self.claim(id);
        }
    }

    fn claim(&mut self, id: ExecutorId) {
        if let Claim::Granted(grant) = self.scheduler.claim(id, self.now) {
            self.granted(grant);
        }
    }

    fn granted(&mut self, grant: Grant) {
        for job in &grant.jobs {
            assert!(!self.ends.contains_key(job));
        }
        let time = 1 + self.rng.below(60_000);
        self.after(time, Event::BatchEnds(grant.executor, grant.batch));
        assert!(self.running.insert(grant.batch, grant.jobs).is_none());
    }

    fn refill(&mut self) {
        for _ in self.scheduler.pending()..WINDOW.min(self.scheduler.pending() + JOBS - self.submitted) {
            let n = self.submitted;
            let arch = if self.rng.one_in(10) { "aarch64" } else { "x86_64" };
            let memory = if self.rng.one_in(8) { 4096 } else { 1024 };
            let spec = JobSpec {
                batch_key: format!("{}", n / 5),
                cost: Duration::from_millis(1 + self.rng.below(60_000)),
                group: format!("g{}", n / 5 % 7),
                weight: 1.0 + (n / 5 % 7) as f64,
                order: self.rng.below(100) as i64,
                needs: Needs::none().is("arch", arch).at_least("memory", memory),
                ..JobSpec::new("j", ())
            };
            let id = self.scheduler.submit(&spec, self.now);
            self.submitted += 1;
            if self.rng.one_in(5000) {
                self.poison.insert(id);
            }
        }
    }

    /// Ends a batch: failed hosts and jobs that break executors fail it, some slots drop jobs, some put the batch back.
    fn batch_ends(&mut self, executor: ExecutorId, batch: BatchId) {
        let jobs = self.running.remove(&batch).expect("it was granted");
        let poisoned = jobs.iter().position(|job| self.poison.contains(job));
        let broken = self.dead[self.host_of[&executor]];
        let good = match poisoned {
            _ if broken => 0,
            Some(at) => at,
            None if self.rng.one_in(50) => self.rng.below(jobs.len() as u64 + 1) as usize,
            None => jobs.len(),
        };
        for job in &jobs[..good] {
            self.scheduler.done(batch, *job);
        }
        let end = if broken || poisoned.is_some() {
            BatchEnd::Failed("it broke".into())
        } else if self.rng.one_in(2) {
            BatchEnd::Finished
        } else {
            BatchEnd::PutBack
        };
        self.failures += usize::from(good < jobs.len() && end != BatchEnd::PutBack);
        self.scheduler.end_batch(batch, end, self.now);
        self.claim(executor);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::BatchEnds(executor, batch) => self.batch_ends(executor, batch),
            Event::HostDies(host) => {
                self.dead[host] = true;
                let time = self.rng.below(200_000);
                self.after(time, Event::HostRecovers(host));
            }
            Event::HostRecovers(host) => self.dead[host] = false,
            Event::HostRemoved(host) => {
                for id in std::mem::take(&mut self.hosts[host]) {
                    // Half of the executors are aborted; the others can finish their batch.
                    if self.rng.one_in(2) {
                        self.scheduler.abort_executor(id);
                    }
                    self.scheduler.body_ended(id);
                }
                self.after(30_000, Event::HostAdded(host));
            }
            Event::HostAdded(host) => {
                if self.hosts[host].is_empty() {
                    self.add_host(host);
                }
            }
            Event::Arrivals => {
                self.refill();
                if self.submitted < JOBS {
                    self.after(1_000, Event::Arrivals);
                }
            }
            Event::Cancel => {
                let ids = self.scheduler.job_ids();
                for _ in 0..50.min(ids.len()) {
                    let at = self.rng.below(ids.len() as u64) as usize;
                    self.scheduler.cancel(ids[at]);
                }
                if self.submitted < JOBS {
                    self.after(10_000, Event::Cancel);
                }
            }
        }
    }

    fn settle(&mut self) {
        self.scheduler.dispatch(self.now);
        for effect in self.scheduler.take_effects() {
            match effect {
                Effect::Granted(grant) => self.granted(grant),
                Effect::Ended { job, outcome, .. } => {
                    assert!(self.ends.insert(job, outcome).is_none(), "{job} ends twice");
                }
                Effect::CancelBatch(_) | Effect::Dismissed(_) => {}
            }
        }
    }

    fn run(&mut self) {
        loop {
            self.settle();
            if self.scheduler.pending() + self.scheduler.running() == 0 && self.submitted == JOBS {
                return;
            }
            let event = self.events.peek().map(|Reverse((at, _))| *at);
            let due = self.scheduler.next_due();
            if due.is_some_and(|due| event.is_none_or(|event| due <= event)) {
                self.now = self.now.max(due.expect("just seen"));
                self.scheduler.tick(self.now);
                continue;
            }
            let Reverse((at, event)) = self.events.pop().expect("jobs are stuck");
            self.now = at;
            self.handle(event);
        }
    }
}

#[test]
fn every_job_ends_exactly_once() {
    let mut farm = Farm::new(2026, HOSTS);
    farm.run();
    assert_eq!(farm.ends.len(), JOBS);
    assert_eq!(farm.scheduler.ended().total(), JOBS as u64);
    assert!(farm.scheduler.job_ids().is_empty());
    let count = |which: fn(&Outcome) -> bool| farm.ends.values().filter(|outcome| which(outcome)).count();
    let done = count(|outcome| *outcome == Outcome::Done);
    let abandoned = count(|outcome| matches!(outcome, Outcome::Abandoned { .. }));
    let cancelled = count(|outcome| *outcome == Outcome::Cancelled);
    println!(
        "{} ms: {done} done, {abandoned} abandoned of {} poison, {cancelled} cancelled, {} failures",
        farm.now,
        farm.poison.len(),
        farm.failures
    );
    for job in &farm.poison {
        assert!(matches!(farm.ends[job], Outcome::Abandoned { .. } | Outcome::Cancelled), "{job}");
    }
    assert!(farm.failures > 1000, "the simulation had failures");
    assert!(abandoned < farm.poison.len() + JOBS / 1000, "few others were given up: {abandoned}");
    assert!(cancelled > 0);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = || {
        let mut farm = Farm::new(7, 20);
        for _ in 0..20_000 {
            farm.settle();
            farm.scheduler.tick(farm.now);
            let Some(Reverse((at, event))) = farm.events.pop() else { break };
            farm.now = at;
            farm.handle(event);
        }
        (farm.now, farm.scheduler.ended(), farm.failures)
    };
    assert_eq!(history(), history());
}
