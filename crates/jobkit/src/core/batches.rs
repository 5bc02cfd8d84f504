//! Batches: granting, reports and ends, with their effects on jobs and usage.

use std::sync::Arc;

use super::health::FailedBatch;
use super::queue::{FailureHistory, LaneAccess, QueueLane};
use super::{
    BatchEnd, BatchId, Effect, ExecutorId, Grant, GroupId, JobId, JobLocation, Outcome, RunningBatch,
    Scheduler, Timer,
};
use crate::config::ms;
use crate::state::JobState;

impl Scheduler {
    /// Grants the next batch to an executor, if it is waiting and ready. Groups whose batches failed on it come after all
    /// others, and during its pause they get nothing.
    pub(super) fn offer(&mut self, id: ExecutorId, now: u64) -> Option<Grant> {
        let member = self.roster.get(id)?;
        let ready = member.waiting
            && !member.leaving
            && member.batch.is_none()
            && (member.health.pause.is_none() || member.health.is_open_to_others())
            && self.stopping.is_none();
        if !ready {
            return None;
        }
        let (host, budget) = (Arc::clone(&member.host), member.budget);
        let classes = self.roster.classes_of(member.profile);
        let judge = |lane: &QueueLane| self.lane_access(lane, id, &host, now);
        let to_others = self.queue.pick(&classes, |group| !member.health.suspects(group), judge);
        let to_all = || self.queue.pick(&classes, |_| true, judge);
        let any = member.health.pause.is_none() && member.health.has_suspects();
        let lane = to_others.or_else(|| if any { to_all() } else { None })?;
        let takers = self.roster.takers(self.queue.class_of(lane)).0;
        let taken = self.queue.take(lane, self.queue.batch_cost(lane, &classes, takers, budget));
        self.last_batch += 1;
        let batch = BatchId(self.last_batch);
        let mut attempt = 1;
        for job in &taken.jobs {
            let job = self.jobs.get_mut(job).expect("a queued job is there");
            debug_assert!(job.at.state().may_become(JobState::Running));
            job.at = JobLocation::Running(batch);
            attempt = 1 + job.past.as_ref().map_or(0, |past| past.failures);
        }
        let charged = taken.cost.max(taken.jobs.len() as u64);
        self.queue.charge(taken.group, ms_f64(charged), now);
        self.running += taken.jobs.len();
        self.queue.count_running(taken.group, taken.jobs.len(), 0);
        self.queue.begin_batch(taken.group);
        let grant = Grant {
            executor: id,
            batch,
            key: Arc::clone(&taken.key),
            group: self.queue.group_name(taken.group),
            attempt,
            jobs: taken.jobs.clone(),
        };
        let running = RunningBatch {
            executor: id,
            group: taken.group,
            key: taken.key,
            jobs: taken.jobs,
            done: 0,
            charged,
            since: now,
            aborted: false,
        };
        self.batches.insert(batch, running);
        let member = self.roster.get_mut(id).expect("seen above");
        if member.health.pause.take().is_some() {
            member.settle(now);
        }
        member.batch = Some(batch);
        member.waiting = false;
        member.settle(now);
        self.roster.refresh(id);
        Some(grant)
    }

    /// Whether an executor can take the jobs of a lane. Jobs that failed on its host go to other hosts, if there are
    /// any.
    fn lane_access(&self, lane: &QueueLane, id: ExecutorId, host: &str, now: u64) -> LaneAccess {
        let Some(past) = &lane.past else { return LaneAccess::Allowed };
        if now >= past.until || !past.failed_on.iter().any(|(_, failed_on)| **failed_on == *host) {
            return LaneAccess::Allowed;
        }
        let class = lane.class();
        let (executors, hosts) = self.roster.takers(class);
        let failed_on = &past.failed_on;
        let seen_before = |at: usize, same: &dyn Fn(usize) -> bool| (0..at).any(same);
        let failed_hosts = (0..failed_on.len())
            .filter(|&at| !seen_before(at, &|other| failed_on[other].1 == failed_on[at].1))
            .filter(|&at| self.roster.host_can(class, &failed_on[at].1))
            .count();
        if hosts > failed_hosts {
            return LaneAccess::Denied;
        }
        let failed_executors = (0..failed_on.len())
            .filter(|&at| !seen_before(at, &|other| failed_on[other].0 == failed_on[at].0))
            .filter(|&at| self.roster.usable(failed_on[at].0))
            .count();
        if failed_on.iter().any(|(failed_on, _)| *failed_on == id) && executors > failed_executors {
            return LaneAccess::Denied;
        }
        LaneAccess::Fallback
    }

    /// Ends a job of a batch as done. Returns false if it is not one of its unfinished jobs.
    pub fn done(&mut self, batch: BatchId, job: JobId) -> bool {
        let Some(running) = self.batches.get_mut(&batch) else { return false };
        let Some(at) = running.jobs.iter().position(|other| *other == job) else { return false };
        running.jobs.remove(at);
        running.done += 1;
        let executor = running.executor;
        let name = self.roster.get(executor).map(|member| Arc::clone(&member.name));
        self.end_job(job, Outcome::Done, name);
        self.cancel_if_all_cancelled(batch);
        true
    }

    /// Whether a job of a batch was cancelled.
    #[must_use]
    pub fn is_cancelled(&self, batch: BatchId, job: JobId) -> bool {
        self.batches.get(&batch).is_none_or(|running| running.aborted)
            || self.jobs.get(&job).is_none_or(|job| job.cancelling)
    }

    /// Cancels a batch if all its unfinished jobs are cancelled.
    pub(super) fn cancel_if_all_cancelled(&mut self, batch: BatchId) {
        let running = &self.batches[&batch];
        if !running.jobs.is_empty() && running.jobs.iter().all(|job| self.jobs[job].cancelling) {
            self.effects.push(Effect::CancelBatch(batch));
        }
    }

    pub(super) fn abort_batch(&mut self, batch: BatchId) {
        if let Some(running) = self.batches.get_mut(&batch)
            && !running.aborted
        {
            running.aborted = true;
            self.effects.push(Effect::CancelBatch(batch));
        }
    }

    /// Ends a batch: its executor pauses or becomes idle, and its unfinished jobs return to the queue or end. Does
    /// nothing if the batch has already ended.
    pub fn end_batch(&mut self, id: BatchId, end: BatchEnd, now: u64) {
        let Some(mut batch) = self.batches.remove(&id) else { return };
        for class in self.queue.end_batch(batch.group) {
            self.touched.insert(class);
            self.arrived.insert((class, batch.group));
        }
        self.queue.keep_scale(now);
        let unfinished = std::mem::take(&mut batch.jobs);
        let open = unfinished.iter().any(|job| !self.jobs[job].cancelling);
        let failure = match end {
            _ if batch.aborted => None,
            BatchEnd::Failed(reason) => Some(reason),
            BatchEnd::Finished if open => {
                Some("the executor dropped the batch with unfinished jobs".to_owned())
            }
            BatchEnd::Finished | BatchEnd::PutBack => None,
        };
        self.settle_usage(&batch, now);
        let member = self.roster.get(batch.executor);
        let name = member.map_or_else(|| Arc::from(""), |member| Arc::clone(&member.name));
        if let Some(reason) = &failure {
            self.fail_jobs(&unfinished, &batch, reason, now);
        } else {
            for job in unfinished {
                self.put_back(job, &name);
            }
        }
        let success = failure.is_none() && !open && !batch.aborted && batch.done > 0;
        let failed = FailedBatch { group: batch.group, others_wait: self.others_wait(&batch) };
        self.free_executor(batch.executor, failure.map(|reason| (reason, failed)), success, now);
    }

    /// Whether groups whose batches did not fail on the executor of a batch have jobs for it.
    fn others_wait(&self, batch: &RunningBatch) -> bool {
        let Some(member) = self.roster.get(batch.executor) else { return false };
        let other = |group: GroupId| group != batch.group && !member.health.suspects(group);
        let classes = self.roster.classes_of(member.profile);
        classes.iter().any(|class| self.queue.groups_of(*class).any(other))
    }

    /// Replaces the estimated charge of the claim with the time used. A failed batch is charged, too: its jobs may be the
    /// cause.
    fn settle_usage(&mut self, batch: &RunningBatch, now: u64) {
        self.queue.charge(batch.group, -ms_f64(batch.charged), batch.since);
        let used = now.saturating_sub(batch.since).max(batch.done as u64);
        self.queue.charge(batch.group, ms_f64(used), now);
    }

    /// Records an infrastructure error for the jobs of a batch, and returns them to the queue or gives them up.
    fn fail_jobs(&mut self, jobs: &[JobId], batch: &RunningBatch, reason: &str, now: u64) {
        let Some(first) = jobs.first() else { return };
        let member = self.roster.get(batch.executor);
        let (name, host) = member.map_or_else(
            || (Arc::from(""), Arc::from("")),
            |member| (Arc::clone(&member.name), Arc::clone(&member.host)),
        );
        let before = self.jobs[first].past.clone();
        let mut failed_on = before.as_ref().map_or_else(Vec::new, |past| past.failed_on.clone());
        failed_on.push((batch.executor, host));
        let attempts = before.as_ref().map_or(0, |past| past.attempts)
            + u32::from(self.roster.is_healthy(batch.executor));
        let failures = before.as_ref().map_or(0, |past| past.failures) + 1;
        let abandon =
            attempts >= self.config.max_attempts.max(1) || failures >= self.config.max_failures.max(1);
        self.last_past += 1;
        let past = Arc::new(FailureHistory {
            id: self.last_past,
            failed_on,
            attempts,
            failures,
            alone: attempts > 0 && attempts + 1 >= self.config.max_attempts,
            until: now.saturating_add(ms(self.config.other_host_wait)),
        });
        for id in jobs {
            let job = self.jobs.get_mut(id).expect("an unfinished job exists");
            if abandon && !job.cancelling {
                let reason =
                    format!("given up after {failures} infrastructure errors, the last on {name}: {reason}");
                self.end_job(*id, Outcome::Abandoned { reason }, Some(Arc::clone(&name)));
                continue;
            }
            job.past = Some(Arc::clone(&past));
            if self.put_back(*id, &name) {
                self.timers.insert((past.until, Timer::OtherHostWait(self.jobs[id].class)));
            }
        }
    }

    /// Returns a running job to the queue, or ends it if it is cancelled or the Choir is shutting down.
    fn put_back(&mut self, id: JobId, executor: &Arc<str>) -> bool {
        let job = self.jobs.get_mut(&id).expect("an unfinished job exists");
        if job.cancelling || self.stopping.is_some() {
            self.end_job(id, Outcome::Cancelled, Some(Arc::clone(executor)));
            return false;
        }
        debug_assert!(job.at.state().may_become(JobState::Pending));
        self.running -= 1;
        self.queue.count_running(job.group, 0, 1);
        if !self.queue.has_jobs_of(job.group, job.class) {
            self.arrived.insert((job.class, job.group));
        }
        let lane = self.queue.push(job.place, job.cost, job.group, job.class, &job.key, job.past.as_ref());
        job.at = JobLocation::Pending(lane);
        self.touched.insert(job.class);
        true
    }
}

#[expect(clippy::cast_precision_loss, reason = "ms of a batch, far below 2^52")]
fn ms_f64(ms: u64) -> f64 {
    ms as f64
}
