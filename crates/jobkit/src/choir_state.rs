//! The state behind the Choir's mutex: the scheduler, and the names, payloads, tasks and listeners.
//!
//! [`ChoirState::act`] turns the scheduler's effects into wake-ups; [`Shared::with`](crate::shared::Shared::with) calls it after every change.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::config::{ChoirConfig, LogConfig};
use crate::core::{
    BatchEnd, BatchId, Claim, Effect, ExecutorId, Grant, JobId, NumberMap, Outcome, Scheduler,
};
use crate::handles::{Cancellation, ChoirError, End, Job, PendingJob};
use crate::log::{ExecutorLog, WeakLog, file_name};
use crate::spec::{ExecutorSpec, JobSpec};

#[derive(Debug)]
pub(crate) struct ChoirState<P> {
    pub(crate) core: Scheduler,
    jobs: NumberMap<JobId, SubmittedJob<P>>,
    members: NumberMap<ExecutorId, Member>,
    /// The executors by name. The name of a removed executor is in use until its body has returned.
    names: HashMap<Arc<str>, ExecutorId>,
    /// The number of bodies that have not returned.
    bodies: usize,
    logs: HashMap<String, WeakLog>,
    batches: NumberMap<BatchId, watch::Sender<bool>>,
    listeners: Vec<mpsc::UnboundedSender<End<P>>>,
    waiters: Vec<(WaitCondition, oneshot::Sender<()>)>,
    /// The time of the next tick.
    pub(crate) armed: Option<u64>,
    /// Payloads of jobs that ended, to drop after unlocking.
    spent: Vec<P>,
}

#[derive(Debug)]
struct SubmittedJob<P> {
    name: Arc<str>,
    payload: P,
}

#[derive(Debug)]
struct Member {
    name: Arc<str>,
    wake: Arc<Notify>,
    granted: Option<Grant>,
    log: ExecutorLog,
    task: Option<AbortHandle>,
    leaving: bool,
    ended: bool,
}

/// The condition for which a caller waits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WaitCondition {
    /// Fewer pending jobs than this number.
    Below(usize),
    /// Neither pending nor running jobs.
    Quiet,
    /// All bodies have returned.
    NoExecutors,
}

/// A batch granted to an executor.
pub(crate) struct GrantedBatch<P> {
    pub(crate) key: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) jobs: Vec<Job<P>>,
    pub(crate) id: BatchId,
    pub(crate) cancellation: Cancellation,
    pub(crate) log: ExecutorLog,
}

/// The result of a claim.
pub(crate) enum ClaimResult<P> {
    Batch(GrantedBatch<P>),
    Wait(Arc<Notify>),
    Gone,
}

impl<P: Send + Clone + 'static> ChoirState<P> {
    pub(crate) fn new(config: &ChoirConfig) -> Self {
        Self {
            core: Scheduler::new(config),
            jobs: NumberMap::default(),
            members: NumberMap::default(),
            names: HashMap::new(),
            bodies: 0,
            logs: HashMap::new(),
            batches: NumberMap::default(),
            listeners: Vec::new(),
            waiters: Vec::new(),
            armed: None,
            spent: Vec::new(),
        }
    }

    pub(crate) fn submit(&mut self, spec: JobSpec<P>, now: u64) -> JobId {
        let id = self.core.submit(&spec, now);
        self.jobs.insert(id, SubmittedJob { name: spec.name.into(), payload: spec.payload });
        id
    }

    pub(crate) fn job(&self, id: JobId) -> Option<PendingJob<'_, P>> {
        self.jobs.get(&id).map(|held| PendingJob { id, name: &held.name, payload: &held.payload })
    }

    pub(crate) fn add_member(
        &mut self,
        spec: &ExecutorSpec,
        name: &Arc<str>,
        logs: Option<&LogConfig>,
        now: u64,
    ) -> Result<(ExecutorId, ExecutorLog), ChoirError> {
        if self.core.stopping() {
            return Err(ChoirError::ShuttingDown(spec.name.clone()));
        }
        if self.names.contains_key(name) {
            return Err(ChoirError::NameTaken(spec.name.clone()));
        }
        let log = logs.map_or_else(ExecutorLog::disabled, |logs| self.log_for(logs, name));
        let id = self.core.add_executor(spec, now);
        self.names.insert(Arc::clone(name), id);
        self.bodies += 1;
        let member = Member {
            name: Arc::clone(name),
            wake: Arc::new(Notify::new()),
            granted: None,
            log: log.clone(),
            task: None,
            leaving: false,
            ended: false,
        };
        self.members.insert(id, member);
        Ok((id, log))
    }

    fn log_for(&mut self, config: &LogConfig, name: &str) -> ExecutorLog {
        if self.logs.len() > 2 * self.members.len() + 64 {
            self.logs.retain(|_, log| log.upgrade().is_some());
        }
        let file = file_name(name);
        if let Some(log) = self.logs.get(&file).and_then(WeakLog::upgrade) {
            return log;
        }
        let log = ExecutorLog::new(config, name);
        self.logs.insert(file, log.downgrade());
        log
    }

    pub(crate) fn log_of(&self, id: ExecutorId) -> Option<&ExecutorLog> {
        self.members.get(&id).map(|member| &member.log)
    }

    pub(crate) fn keep_task(&mut self, id: ExecutorId, task: AbortHandle) {
        if let Some(member) = self.members.get_mut(&id) {
            member.task = Some(task);
        }
    }

    pub(crate) fn tasks(&self) -> Vec<AbortHandle> {
        self.members.values().filter_map(|member| member.task.clone()).collect()
    }

    /// Removes an executor. Returns false if none has that name.
    pub(crate) fn dismiss(&mut self, name: &str, how: fn(&mut Scheduler, ExecutorId)) -> bool {
        let Some(&id) = self.names.get(name) else { return false };
        how(&mut self.core, id);
        if let Some(member) = self.members.get_mut(&id) {
            member.leaving = true;
            if member.ended {
                self.delete_member(id);
            }
        }
        true
    }

    fn delete_member(&mut self, id: ExecutorId) {
        if let Some(member) = self.members.remove(&id) {
            self.names.remove(&member.name);
        }
    }

    pub(crate) fn body_ended(&mut self, id: ExecutorId, panicked: bool, now: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        self.bodies -= 1;
        if panicked && !member.leaving && !self.core.stopping() {
            tracing::error!(executor = %member.name, "the executor panicked and is quarantined");
            member.ended = true;
            self.core.crashed(id, "the executor panicked; remove it and add it again", now);
            return;
        }
        self.core.body_ended(id);
        self.delete_member(id);
    }

    pub(crate) fn claim(&mut self, id: ExecutorId, now: u64) -> ClaimResult<P> {
        let Some(member) = self.members.get_mut(&id) else { return ClaimResult::Gone };
        if let Some(grant) = member.granted.take() {
            return ClaimResult::Batch(self.granted_batch(grant));
        }
        match self.core.claim(id, now) {
            Claim::Granted(grant) => {
                self.batches.insert(grant.batch, watch::Sender::new(false));
                ClaimResult::Batch(self.granted_batch(grant))
            }
            Claim::Waiting => ClaimResult::Wait(Arc::clone(&member.wake)),
            Claim::Gone => ClaimResult::Gone,
        }
    }

    fn granted_batch(&self, grant: Grant) -> GrantedBatch<P> {
        let attempt = grant.attempt;
        let jobs = grant.jobs.iter().filter_map(|id| {
            let held = self.jobs.get(id)?;
            Some(Job { id: *id, name: Arc::clone(&held.name), payload: held.payload.clone(), attempt })
        });
        let jobs = jobs.collect();
        GrantedBatch {
            key: grant.key,
            group: grant.group,
            jobs,
            id: grant.batch,
            cancellation: Cancellation(self.batches[&grant.batch].subscribe()),
            log: self.members[&grant.executor].log.clone(),
        }
    }

    pub(crate) fn withdraw_claim(&mut self, id: ExecutorId, now: u64) {
        self.core.stop_waiting(id);
        if let Some(grant) = self.members.get_mut(&id).and_then(|member| member.granted.take()) {
            self.end_batch(grant.batch, BatchEnd::PutBack, now);
        }
    }

    pub(crate) fn end_batch(&mut self, id: BatchId, end: BatchEnd, now: u64) {
        self.core.end_batch(id, end, now);
        self.batches.remove(&id);
    }

    pub(crate) fn listen(&mut self) -> mpsc::UnboundedReceiver<End<P>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.push(sender);
        receiver
    }

    pub(crate) fn add_waiter(&mut self, until: WaitCondition, waiter: oneshot::Sender<()>) {
        self.waiters.retain(|(_, waiter)| !waiter.is_closed());
        self.waiters.push((until, waiter));
        self.answer_waiters();
    }

    fn answer_waiters(&mut self) {
        let mut at = 0;
        while let Some((until, _)) = self.waiters.get(at) {
            if self.holds(*until) {
                // The waiter may have been dropped.
                _ = self.waiters.swap_remove(at).1.send(());
            } else {
                at += 1;
            }
        }
    }

    fn holds(&self, until: WaitCondition) -> bool {
        match until {
            WaitCondition::Below(jobs) => self.core.pending() < jobs,
            WaitCondition::Quiet => self.core.pending() == 0 && self.core.running() == 0,
            WaitCondition::NoExecutors => self.bodies == 0,
        }
    }

    /// Payloads to drop when the lock is released: their destructors may call the Choir.
    pub(crate) fn take_spent(&mut self) -> Vec<P> {
        std::mem::take(&mut self.spent)
    }

    /// Carries out the scheduler's effects.
    pub(crate) fn act(&mut self) {
        for effect in self.core.take_effects() {
            match effect {
                Effect::Granted(grant) => {
                    self.batches.insert(grant.batch, watch::Sender::new(false));
                    let member = self.members.get_mut(&grant.executor).expect("a waiting executor is there");
                    member.wake.notify_one();
                    member.granted = Some(grant);
                }
                Effect::Dismissed(executor) => {
                    if let Some(member) = self.members.get(&executor) {
                        member.wake.notify_one();
                    }
                }
                Effect::CancelBatch(batch) => {
                    if let Some(batch) = self.batches.get(&batch) {
                        batch.send_replace(true);
                    }
                }
                Effect::Ended { job, outcome, executor } => self.announce(job, outcome, executor),
            }
        }
        self.answer_waiters();
    }

    fn announce(&mut self, id: JobId, outcome: Outcome, executor: Option<Arc<str>>) {
        let SubmittedJob { name, payload } = self.jobs.remove(&id).expect("a job ends once");
        self.listeners.retain(|listener| !listener.is_closed());
        let Some((last, others)) = self.listeners.split_last() else {
            self.spent.push(payload);
            return;
        };
        let end = End { id, name, payload, outcome, executor };
        for listener in others {
            if let Err(mpsc::error::SendError(end)) = listener.send(end.clone()) {
                self.spent.push(end.payload);
            }
        }
        if let Err(mpsc::error::SendError(end)) = last.send(end) {
            self.spent.push(end.payload);
        }
    }
}
