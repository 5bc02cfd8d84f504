//! The scheduler: synchronous decisions over plain data, with the time as an argument (ms since an arbitrary fixed
//! point).
//!
//! Calls change the state and produce [`Effect`]s, which the caller [takes](Scheduler::take_effects) and carries out.
//! After any call, the caller must call [`dispatch`](Scheduler::dispatch), and [`tick`](Scheduler::tick) at
//! [`next_due`](Scheduler::next_due). After `dispatch`, no waiting executor could take a pending job. Each submitted
//! job is pending, is running, or has ended exactly once.
//!
//! ```
//! use jobkit::core::{BatchEnd, Claim, Scheduler};
//! use jobkit::{ChoirConfig, ExecutorSpec, JobSpec};
//!
//! let mut scheduler = Scheduler::new(&ChoirConfig::default());
//! let executor = scheduler.add_executor(&ExecutorSpec::new("e1"), 0);
//! let job = scheduler.submit(&JobSpec::new("a job", ()), 0);
//! let Claim::Granted(batch) = scheduler.claim(executor, 0) else { panic!("no batch") };
//! assert_eq!(batch.jobs, [job]);
//! assert!(scheduler.done(batch.batch, job));
//! scheduler.end_batch(batch.batch, BatchEnd::Finished, 1000);
//! assert_eq!(scheduler.take_effects().len(), 1);
//! ```

mod batches;
mod cut;
mod executors;
mod hash;
mod health;
mod queue;
mod roster;
mod share;
mod status;
mod types;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use self::hash::NumberMap;
use self::queue::{FailureHistory, Queue, QueueOrder};
use self::roster::Roster;
pub use self::status::{
    BatchStatus, ChoirStatus, EndCounts, ExecutorStatus, GroupStatus, JobStatus, Unplaceable,
};
pub use self::types::{BatchEnd, BatchId, Claim, Effect, ExecutorId, Grant, JobId, Outcome, Shutdown};
use self::types::{ClassId, GroupId, LaneId, ProfileId};
use crate::config::{ChoirConfig, ms};
use crate::spec::JobSpec;
use crate::state::JobState;

#[derive(Debug)]
struct JobEntry {
    group: GroupId,
    class: ClassId,
    key: Arc<str>,
    place: QueueOrder,
    cost: u64,
    at: JobLocation,
    past: Option<Arc<FailureHistory>>,
    cancelling: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobLocation {
    Pending(LaneId),
    Running(BatchId),
}

impl JobLocation {
    fn state(self) -> JobState {
        match self {
            Self::Pending(_) => JobState::Pending,
            Self::Running(_) => JobState::Running,
        }
    }
}

#[derive(Debug)]
struct RunningBatch {
    executor: ExecutorId,
    group: GroupId,
    key: Arc<str>,
    /// The unfinished jobs, in order.
    jobs: Vec<JobId>,
    done: usize,
    /// The usage charged to the group at the claim, in ms.
    charged: u64,
    since: u64,
    aborted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The pause of an executor ends.
    Pause(ExecutorId),
    /// Jobs of a class no longer wait for another host.
    OtherHostWait(ClassId),
}

/// The scheduler.
#[derive(Debug)]
pub struct Scheduler {
    config: ChoirConfig,
    queue: Queue,
    roster: Roster,
    jobs: NumberMap<JobId, JobEntry>,
    batches: NumberMap<BatchId, RunningBatch>,
    running: usize,
    timers: BTreeSet<(u64, Timer)>,
    /// The classes with pending jobs that a waiting executor may be able to take now.
    touched: BTreeSet<ClassId>,
    /// The groups that got their first pending jobs of a class, or are no longer at their limit of batches.
    arrived: BTreeSet<(ClassId, GroupId)>,
    effects: Vec<Effect>,
    stopping: Option<Shutdown>,
    ended: EndCounts,
    last_job: u64,
    last_batch: u64,
    last_past: u64,
}

impl Scheduler {
    /// A scheduler without jobs and executors.
    #[must_use]
    pub fn new(config: &ChoirConfig) -> Self {
        Self {
            config: config.clone(),
            queue: Queue::new(config),
            roster: Roster::default(),
            jobs: NumberMap::default(),
            batches: NumberMap::default(),
            running: 0,
            timers: BTreeSet::new(),
            touched: BTreeSet::new(),
            arrived: BTreeSet::new(),
            effects: Vec::new(),
            stopping: None,
            ended: EndCounts::default(),
            last_job: 0,
            last_batch: 0,
            last_past: 0,
        }
    }

    /// Submits a job. After the start of a shutdown, it ends immediately as cancelled.
    pub fn submit<P>(&mut self, spec: &JobSpec<P>, now: u64) -> JobId {
        self.last_job += 1;
        let id = JobId(self.last_job);
        if self.stopping.is_some() {
            self.report(id, Outcome::Cancelled, None);
            return id;
        }
        self.queue.keep_scale(now);
        let jobs = &self.jobs;
        let class = self.roster.class(&spec.needs, || jobs.values().map(|job| job.class).collect());
        let group = self.queue.group(&spec.group, (spec.weight, spec.executors_max), now);
        let key: Arc<str> = spec.batch_key.as_str().into();
        let cost = ms(spec.cost);
        let place = self.queue.place(spec.order, cost, id);
        if !self.queue.has_jobs_of(group, class) {
            self.arrived.insert((class, group));
        }
        let lane = self.queue.push(place, cost, group, class, &key, None);
        let at = JobLocation::Pending(lane);
        self.jobs.insert(id, JobEntry { group, class, key, place, cost, at, past: None, cancelling: false });
        self.touched.insert(class);
        id
    }

    /// Cancels a job. A pending job ends immediately. A running job ends with its batch, or as done if its executor
    /// reports that first. Returns false if the job has already ended.
    pub fn cancel(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        match job.at {
            JobLocation::Pending(_) => self.take_back(id, Outcome::Cancelled),
            JobLocation::Running(batch) => {
                job.cancelling = true;
                self.cancel_if_all_cancelled(batch);
            }
        }
        true
    }

    /// Removes a job if it is pending. Returns false if it is not.
    pub fn remove(&mut self, id: JobId) -> bool {
        let pending = self.jobs.get(&id).is_some_and(|job| job.at.state() == JobState::Pending);
        if pending {
            self.take_back(id, Outcome::Removed);
        }
        pending
    }

    /// Changes the order of a job. The new order of a running job applies when the job returns to the queue. Returns
    /// false if the job has ended.
    pub fn reorder(&mut self, id: JobId, order: i64) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let place = self.queue.place(order, job.cost, id);
        let before = std::mem::replace(&mut job.place, place);
        if let JobLocation::Pending(lane) = job.at
            && before != job.place
        {
            self.queue.remove(lane, before);
            let lane =
                self.queue.push(job.place, job.cost, job.group, job.class, &job.key, job.past.as_ref());
            job.at = JobLocation::Pending(lane);
        }
        true
    }

    fn take_back(&mut self, id: JobId, outcome: Outcome) {
        if let Some(&JobEntry { at: JobLocation::Pending(lane), place, .. }) = self.jobs.get(&id) {
            self.queue.remove(lane, place);
            self.end_job(id, outcome, None);
        }
    }

    /// Ends a job that is no longer in a queue or batch.
    fn end_job(&mut self, id: JobId, outcome: Outcome, executor: Option<Arc<str>>) {
        let job = self.jobs.remove(&id).expect("a job ends once");
        debug_assert!(job.at.state().may_become(outcome.state()), "{:?} -> {outcome:?}", job.at);
        if job.at.state() == JobState::Running {
            self.running -= 1;
            self.queue.count_running(job.group, 0, 1);
        }
        self.report(id, outcome, executor);
    }

    fn report(&mut self, job: JobId, outcome: Outcome, executor: Option<Arc<str>>) {
        *match outcome {
            Outcome::Done => &mut self.ended.done,
            Outcome::Abandoned { .. } => &mut self.ended.abandoned,
            Outcome::Cancelled => &mut self.ended.cancelled,
            Outcome::Removed => &mut self.ended.removed,
        } += 1;
        self.effects.push(Effect::Ended { job, outcome, executor });
    }

    /// The effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The time of the next [`tick`](Self::tick).
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Ends the pauses and delays that have expired, and dispatches.
    pub fn tick(&mut self, now: u64) {
        while let Some(&(due, timer)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            match timer {
                Timer::Pause(executor) => self.end_pause(executor, now),
                Timer::OtherHostWait(class) => _ = self.touched.insert(class),
            }
        }
        self.dispatch(now);
    }

    /// Grants pending jobs to waiting executors.
    pub fn dispatch(&mut self, now: u64) {
        while let Some(class) = self.touched.pop_first() {
            while self.queue.pending_of(class) > 0 && self.dispatch_one(class, now) {}
        }
        while let Some((class, group)) = self.arrived.pop_first() {
            self.offer_during_pause(class, group, now);
        }
    }

    /// Offers pending jobs of a group to the executors whose pause does not apply to it.
    fn offer_during_pause(&mut self, class: ClassId, group: GroupId, now: u64) {
        if !self.queue.has_jobs_of(group, class) {
            return;
        }
        for executor in self.roster.open_to(class, group) {
            if !self.queue.has_jobs_of(group, class) {
                return;
            }
            if let Some(grant) = self.offer(executor, now) {
                self.effects.push(Effect::Granted(grant));
            }
        }
    }

    /// Grants one batch to a waiting executor that fits the class. Returns false if there is none.
    fn dispatch_one(&mut self, class: ClassId, now: u64) -> bool {
        // An offer fails only for executors on which the jobs failed before, and there are few of those.
        for _ in 0..self.roster.waiting_profiles(class) {
            for executor in self.roster.next_waiting(class, 16) {
                if let Some(grant) = self.offer(executor, now) {
                    self.effects.push(Effect::Granted(grant));
                    return true;
                }
            }
        }
        false
    }

    /// Starts a shutdown: cancels pending jobs, dismisses waiting executors, and with [`Shutdown::Abort`] cancels
    /// running batches. An abort can follow a drain.
    pub fn shut_down(&mut self, how: Shutdown) {
        if self.stopping == Some(Shutdown::Abort) {
            return;
        }
        self.stopping = Some(how);
        let mut pending: Vec<JobId> = self.jobs_in(JobState::Pending).collect();
        pending.sort_unstable();
        for id in pending {
            self.take_back(id, Outcome::Cancelled);
        }
        self.dismiss_waiting();
        if how == Shutdown::Abort {
            let mut batches: Vec<BatchId> = self.batches.keys().copied().collect();
            batches.sort_unstable();
            for batch in batches {
                self.abort_batch(batch);
            }
        }
    }

    fn jobs_in(&self, state: JobState) -> impl Iterator<Item = JobId> {
        self.jobs.iter().filter(move |(_, job)| job.at.state() == state).map(|(id, _)| *id)
    }
}

impl Outcome {
    /// The state of a job with this outcome.
    #[must_use]
    pub fn state(&self) -> JobState {
        match self {
            Self::Done => JobState::Done,
            Self::Abandoned { .. } => JobState::Abandoned,
            Self::Cancelled => JobState::Cancelled,
            Self::Removed => JobState::Removed,
        }
    }
}
