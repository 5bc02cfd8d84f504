//! Executors: adding, claims, pauses and removal.

use super::health::FailedBatch;
use super::{Claim, Effect, ExecutorId, Scheduler, Timer};
use crate::spec::ExecutorSpec;

impl Scheduler {
    /// Adds an executor. The name does not have to be unique here.
    pub fn add_executor(&mut self, spec: &ExecutorSpec, now: u64) -> ExecutorId {
        self.roster.add(spec, now)
    }

    /// Claims a batch for an executor. The claim waits while the executor has a batch or is paused.
    pub fn claim(&mut self, id: ExecutorId, now: u64) -> Claim {
        self.queue.keep_scale(now);
        let Some(member) = self.roster.get_mut(id) else { return Claim::Gone };
        if member.leaving || self.stopping.is_some() {
            member.waiting = false;
            self.roster.refresh(id);
            return Claim::Gone;
        }
        member.waiting = true;
        if member.health.pause.is_some() {
            self.lift_pause(id, now);
        }
        if let Some(grant) = self.offer(id, now) {
            return Claim::Granted(grant);
        }
        self.roster.refresh(id);
        Claim::Waiting
    }

    /// Withdraws the claim of an executor.
    pub fn stop_waiting(&mut self, id: ExecutorId) {
        if let Some(member) = self.roster.get_mut(id) {
            member.waiting = false;
            self.roster.refresh(id);
        }
    }

    /// Removes an executor after its current batch.
    pub fn retire(&mut self, id: ExecutorId) {
        let Some(member) = self.roster.get_mut(id) else { return };
        member.leaving = true;
        if std::mem::take(&mut member.waiting) {
            self.effects.push(Effect::Dismissed(id));
        }
        self.refresh(id);
        self.delete_if_over(id);
    }

    /// Removes an executor and cancels its batch. The unfinished jobs return to the queue.
    pub fn abort_executor(&mut self, id: ExecutorId) {
        let batch = self.roster.get(id).and_then(|member| member.batch);
        self.retire(id);
        if let Some(batch) = batch {
            self.abort_batch(batch);
        }
    }

    /// Records that the body of an executor returned. The executor is deleted as soon as it has no batch.
    pub fn body_ended(&mut self, id: ExecutorId) {
        if let Some(member) = self.roster.get_mut(id) {
            member.gone = true;
        }
        self.retire(id);
    }

    /// Records that the body of an executor panicked. The executor is quarantined until it is [retired](Self::retire).
    pub fn crashed(&mut self, id: ExecutorId, problem: &str, now: u64) {
        let Some(member) = self.roster.get_mut(id) else { return };
        if member.leaving || self.stopping.is_some() {
            self.body_ended(id);
            return;
        }
        member.gone = true;
        member.waiting = false;
        member.health.crashed();
        member.problem = Some(problem.into());
        member.settle(now);
        self.refresh(id);
    }

    fn delete_if_over(&mut self, id: ExecutorId) {
        if self.roster.get(id).is_some_and(|member| member.gone && member.leaving && member.batch.is_none()) {
            self.roster.delete(id);
        }
    }

    /// Updates the indices. Jobs that waited for an executor that became unusable can now go to others.
    fn refresh(&mut self, id: ExecutorId) {
        let before = self.roster.usable(id);
        self.roster.refresh(id);
        if before && !self.roster.usable(id) {
            let profile = self.roster.get(id).expect("it was usable").profile;
            for class in self.roster.classes_of(profile).iter() {
                if self.queue.pending_of(*class) > 0 {
                    self.touched.insert(*class);
                }
            }
        }
    }

    pub(super) fn dismiss_waiting(&mut self) {
        let mut waiting: Vec<ExecutorId> =
            self.roster.members().filter(|(_, member)| member.waiting).map(|(id, _)| id).collect();
        waiting.sort_unstable();
        for id in waiting {
            self.stop_waiting(id);
            self.effects.push(Effect::Dismissed(id));
        }
    }

    /// Records the end of an executor's batch.
    pub(super) fn free_executor(
        &mut self,
        id: ExecutorId,
        failure: Option<(String, FailedBatch)>,
        success: bool,
        now: u64,
    ) {
        let Some(member) = self.roster.get_mut(id) else { return };
        member.batch = None;
        if let Some((reason, batch)) = failure {
            let pause = member.health.failed(now, &self.config.health, id.0, batch);
            member.problem = Some(reason.into());
            if let Some(until) = pause.until() {
                self.timers.insert((until, Timer::Pause(id)));
            }
        } else if success {
            member.health.succeeded();
            member.problem = None;
        }
        member.settle(now);
        self.refresh(id);
        self.delete_if_over(id);
        self.give_to(id, now);
    }

    /// Grants a batch to an executor, if it is waiting for one.
    fn give_to(&mut self, id: ExecutorId, now: u64) {
        if let Some(grant) = self.offer(id, now) {
            self.effects.push(Effect::Granted(grant));
        }
    }

    /// Ends a pause whose time is over.
    fn lift_pause(&mut self, id: ExecutorId, now: u64) {
        if let Some(member) = self.roster.get_mut(id)
            && member.health.pause.and_then(super::health::Pause::until).is_some_and(|until| until <= now)
        {
            member.health.pause = None;
            member.settle(now);
            self.refresh(id);
        }
    }

    pub(super) fn end_pause(&mut self, id: ExecutorId, now: u64) {
        self.lift_pause(id, now);
        self.give_to(id, now);
    }
}
