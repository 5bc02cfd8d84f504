//! The scheduler's decisions: synchronous, over plain data, with the time passed in (ms since any fixed point).
//!
//! Calls change the state and leave [`Effect`]s to be [taken](Scheduler::take_effects) and acted upon. After any
//! call, [`dispatch`](Scheduler::dispatch) gives new work to waiting executors, and [`tick`](Scheduler::tick) is due
//! at [`next_due`](Scheduler::next_due). Between calls no waiting executor could take a pending job, and every job
//! that was submitted is pending, running or has ended exactly once.
//!
//! ```
//! use jobkit::core::{BatchEnd, Claim, Scheduler};
//! use jobkit::{ChoirConfig, ExecutorSpec, JobSpec};
//!
//! let mut scheduler = Scheduler::new(&ChoirConfig::default());
//! let executor = scheduler.add_executor(&ExecutorSpec::new("e1"), 0);
//! let job = scheduler.submit(&JobSpec::new("a job", ()), 0);
//! let Claim::Granted(batch) = scheduler.claim(executor, 0) else { panic!("the job waits") };
//! assert_eq!(batch.jobs, [job]);
//! assert!(scheduler.done(batch.batch, job));
//! scheduler.end_batch(batch.batch, BatchEnd::Finished, 1000);
//! assert_eq!(scheduler.take_effects().len(), 1);
//! ```

mod batches;
mod executors;
mod hash;
mod health;
mod queue;
mod roster;
mod share;
mod types;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use self::hash::NumberMap;
use self::queue::{Past, Queue, QueueOrder};
use self::roster::Roster;
pub use self::types::{BatchEnd, BatchId, Claim, Effect, ExecutorId, Grant, JobId, Outcome, Shutdown};
use self::types::{ClassId, GroupId, LaneId, ProfileId};
use crate::config::{ChoirConfig, ms};
use crate::spec::JobSpec;
use crate::state::JobState;
use crate::status::EndCounts;

#[derive(Debug)]
struct Job {
    group: GroupId,
    class: ClassId,
    key: Arc<str>,
    place: QueueOrder,
    cost: u64,
    at: At,
    past: Option<Arc<Past>>,
    cancelling: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Pending(LaneId),
    Running(BatchId),
}

impl At {
    fn state(self) -> JobState {
        match self {
            Self::Pending(_) => JobState::Pending,
            Self::Running(_) => JobState::Running,
        }
    }
}

#[derive(Debug)]
struct Running {
    executor: ExecutorId,
    group: GroupId,
    key: Arc<str>,
    /// The unfinished ones, in order.
    jobs: Vec<JobId>,
    done: usize,
    /// What the group was charged beforehand, in ms.
    charged: u64,
    since: u64,
    aborted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// An executor's rest ends.
    Rest(ExecutorId),
    /// Jobs of a class have waited long enough for another host.
    Elsewhere(ClassId),
}

/// The scheduler.
#[derive(Debug)]
pub struct Scheduler {
    config: ChoirConfig,
    queue: Queue,
    roster: Roster,
    jobs: NumberMap<JobId, Job>,
    batches: NumberMap<BatchId, Running>,
    running: usize,
    timers: BTreeSet<(u64, Timer)>,
    /// The classes whose pending jobs somebody waiting might now take.
    touched: BTreeSet<ClassId>,
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
            effects: Vec::new(),
            stopping: None,
            ended: EndCounts::default(),
            last_job: 0,
            last_batch: 0,
            last_past: 0,
        }
    }

    /// Takes on a job. After a shutdown began it ends at once, cancelled.
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
        let group = self.queue.group(&spec.group, spec.weight, now);
        let key: Arc<str> = spec.batch_key.as_str().into();
        let (place, cost) = ((spec.order, id), ms(spec.cost));
        let lane = self.queue.push(place, cost, group, class, &key, None);
        let at = At::Pending(lane);
        self.jobs.insert(id, Job { group, class, key, place, cost, at, past: None, cancelling: false });
        self.touched.insert(class);
        id
    }

    /// Cancels a job. A pending one ends at once; a running one ends with its batch, and is done if its executor says
    /// so before that. False if there is no such job any more.
    pub fn cancel(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        match job.at {
            At::Pending(_) => self.take_back(id, Outcome::Cancelled),
            At::Running(batch) => {
                job.cancelling = true;
                self.cancel_if_pointless(batch);
            }
        }
        true
    }

    /// Takes a job back if it is pending; false if it is not.
    pub fn remove(&mut self, id: JobId) -> bool {
        let pending = self.jobs.get(&id).is_some_and(|job| job.at.state() == JobState::Pending);
        if pending {
            self.take_back(id, Outcome::Removed);
        }
        pending
    }

    /// Gives a job another order; it keeps everything else. A running one has it when it goes back to the queue. False
    /// if there is no such job any more.
    pub fn reorder(&mut self, id: JobId, order: i64) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let before = std::mem::replace(&mut job.place, (order, id));
        if let At::Pending(lane) = job.at
            && before != job.place
        {
            self.queue.remove(lane, before);
            let lane =
                self.queue.push(job.place, job.cost, job.group, job.class, &job.key, job.past.as_ref());
            job.at = At::Pending(lane);
        }
        true
    }

    fn take_back(&mut self, id: JobId, outcome: Outcome) {
        if let Some(&Job { at: At::Pending(lane), place, .. }) = self.jobs.get(&id) {
            self.queue.remove(lane, place);
            self.end_job(id, outcome, None);
        }
    }

    /// The end of a job, whose queue or batch has forgotten it.
    fn end_job(&mut self, id: JobId, outcome: Outcome, executor: Option<Arc<str>>) {
        let job = self.jobs.remove(&id).expect("a job ends once");
        debug_assert!(job.at.state().leads_to(outcome.state()), "{:?} -> {outcome:?}", job.at);
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

    /// What happened since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`tick`](Self::tick) is due next.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Ends the rests and delays that are over, and dispatches.
    pub fn tick(&mut self, now: u64) {
        while let Some(&(due, timer)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            match timer {
                Timer::Rest(executor) => self.end_rest(executor, now),
                Timer::Elsewhere(class) => _ = self.touched.insert(class),
            }
        }
        self.dispatch(now);
    }

    /// Gives pending jobs to waiting executors.
    pub fn dispatch(&mut self, now: u64) {
        while let Some(class) = self.touched.pop_first() {
            while self.queue.pending_of(class) > 0 && self.dispatch_one(class, now) {}
        }
    }

    /// Gives one batch to somebody waiting who may take jobs of the class; false if nobody was given one.
    fn dispatch_one(&mut self, class: ClassId, now: u64) -> bool {
        // Only executors that a job is kept away from are asked in vain, and those are few.
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

    /// Begins to shut down: cancels what is pending, dismisses executors that wait, and with [`Shutdown::Abort`]
    /// cancels what runs. An abort may follow a drain.
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
    /// The state of a job that ended so.
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
