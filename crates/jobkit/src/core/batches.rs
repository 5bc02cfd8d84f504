//! Batches: granted, reported on, ended; what becomes of the jobs and of the group's usage.

use std::sync::Arc;

use super::queue::{Past, QueueLane, Standing};
use super::{At, BatchEnd, BatchId, Effect, ExecutorId, Grant, JobId, Outcome, Running, Scheduler, Timer};
use crate::config::ms;
use crate::state::JobState;

impl Scheduler {
    /// The batch that comes next for an executor that waits and could take one now.
    pub(super) fn offer(&mut self, id: ExecutorId, now: u64) -> Option<Grant> {
        let member = self.roster.get(id)?;
        let ready = member.waiting
            && !member.leaving
            && member.batch.is_none()
            && member.health.rest.is_none()
            && self.stopping.is_none();
        if !ready {
            return None;
        }
        let (host, budget) = (Arc::clone(&member.host), member.budget);
        let classes = self.roster.classes_of(member.profile);
        let lane = self.queue.pick(&classes, |lane| self.standing(lane, id, &host, now))?;
        let taken = self.queue.take(lane, budget);
        self.last_batch += 1;
        let batch = BatchId(self.last_batch);
        let mut attempt = 1;
        for job in &taken.jobs {
            let job = self.jobs.get_mut(job).expect("a queued job is there");
            debug_assert!(job.at.state().leads_to(JobState::Running));
            job.at = At::Running(batch);
            attempt = 1 + job.past.as_ref().map_or(0, |past| past.failures);
        }
        let charged = taken.cost.max(taken.jobs.len() as u64);
        self.queue.charge(taken.group, ms_f64(charged), now);
        self.running += taken.jobs.len();
        self.queue.count_running(taken.group, taken.jobs.len(), 0);
        let grant = Grant {
            executor: id,
            batch,
            key: Arc::clone(&taken.key),
            group: self.queue.group_name(taken.group),
            attempt,
            jobs: taken.jobs.clone(),
        };
        let running = Running {
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
        member.batch = Some(batch);
        member.waiting = false;
        member.settle(now);
        self.roster.refresh(id);
        Some(grant)
    }

    /// Whether an executor should take jobs of a lane: not those that failed on its host, while others could.
    fn standing(&self, lane: &QueueLane, id: ExecutorId, host: &str, now: u64) -> Standing {
        let Some(past) = &lane.past else { return Standing::Free };
        if now >= past.until || !past.blamed.iter().any(|(_, blamed)| **blamed == *host) {
            return Standing::Free;
        }
        let class = lane.class();
        let (executors, hosts) = self.roster.takers(class);
        let blamed = &past.blamed;
        let seen_before = |at: usize, same: &dyn Fn(usize) -> bool| (0..at).any(same);
        let blamed_hosts = (0..blamed.len())
            .filter(|&at| !seen_before(at, &|other| blamed[other].1 == blamed[at].1))
            .filter(|&at| self.roster.host_can(class, &blamed[at].1))
            .count();
        if hosts > blamed_hosts {
            return Standing::Barred;
        }
        let blamed_executors = (0..blamed.len())
            .filter(|&at| !seen_before(at, &|other| blamed[other].0 == blamed[at].0))
            .filter(|&at| self.roster.usable(blamed[at].0))
            .count();
        if blamed.iter().any(|(blamed, _)| *blamed == id) && executors > blamed_executors {
            return Standing::Barred;
        }
        Standing::Fallback
    }

    /// A job of a batch is done; false if it is not one of its unfinished jobs.
    pub fn done(&mut self, batch: BatchId, job: JobId) -> bool {
        let Some(running) = self.batches.get_mut(&batch) else { return false };
        let Some(at) = running.jobs.iter().position(|other| *other == job) else { return false };
        running.jobs.remove(at);
        running.done += 1;
        let executor = running.executor;
        let name = self.roster.get(executor).map(|member| Arc::clone(&member.name));
        self.end_job(job, Outcome::Done, name);
        self.cancel_if_pointless(batch);
        true
    }

    /// Whether a job of a batch is to be stopped.
    #[must_use]
    pub fn is_cancelled(&self, batch: BatchId, job: JobId) -> bool {
        self.batches.get(&batch).is_none_or(|running| running.aborted)
            || self.jobs.get(&job).is_none_or(|job| job.cancelling)
    }

    /// Says so if all that is left of a batch is cancelled.
    pub(super) fn cancel_if_pointless(&mut self, batch: BatchId) {
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

    /// Ends a batch: its executor rests or is free again, its unfinished jobs go back or end. A batch that has ended
    /// already is left alone.
    pub fn end_batch(&mut self, id: BatchId, end: BatchEnd, now: u64) {
        let Some(mut batch) = self.batches.remove(&id) else { return };
        self.queue.keep_scale(now);
        let unfinished = std::mem::take(&mut batch.jobs);
        let open = unfinished.iter().any(|job| !self.jobs[job].cancelling);
        let failure = match end {
            _ if batch.aborted => None,
            BatchEnd::Failed(reason) => Some(reason),
            BatchEnd::Finished if open => Some("the batch was dropped unfinished".to_owned()),
            BatchEnd::Finished | BatchEnd::PutBack => None,
        };
        self.settle_usage(&batch, failure.is_some(), now);
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
        self.free_executor(batch.executor, failure, success, now);
    }

    /// The charge made beforehand is replaced by the time used; a failure of the infrastructure costs the group nothing.
    fn settle_usage(&mut self, batch: &Running, failed: bool, now: u64) {
        self.queue.charge(batch.group, -ms_f64(batch.charged), batch.since);
        if !failed {
            let used = now.saturating_sub(batch.since).max(batch.done as u64);
            self.queue.charge(batch.group, ms_f64(used), now);
        }
    }

    /// Jobs that have been through an infrastructure error together.
    fn fail_jobs(&mut self, jobs: &[JobId], batch: &Running, reason: &str, now: u64) {
        let Some(first) = jobs.first() else { return };
        let member = self.roster.get(batch.executor);
        let (name, host) = member.map_or_else(
            || (Arc::from(""), Arc::from("")),
            |member| (Arc::clone(&member.name), Arc::clone(&member.host)),
        );
        let before = self.jobs[first].past.clone();
        let mut blamed = before.as_ref().map_or_else(Vec::new, |past| past.blamed.clone());
        blamed.push((batch.executor, host));
        let attempts =
            before.as_ref().map_or(0, |past| past.attempts) + u32::from(self.roster.well(batch.executor));
        let failures = before.as_ref().map_or(0, |past| past.failures) + 1;
        let abandon =
            attempts >= self.config.max_attempts.max(1) || failures >= self.config.max_failures.max(1);
        self.last_past += 1;
        let past = Arc::new(Past {
            id: self.last_past,
            blamed,
            attempts,
            failures,
            alone: attempts > 0 && attempts + 1 >= self.config.max_attempts,
            until: now.saturating_add(ms(self.config.elsewhere)),
        });
        for id in jobs {
            let job = self.jobs.get_mut(id).expect("an unfinished job is there");
            if abandon && !job.cancelling {
                let reason =
                    format!("given up after {failures} infrastructure errors, the last on {name}: {reason}");
                self.end_job(*id, Outcome::Abandoned { reason }, Some(Arc::clone(&name)));
                continue;
            }
            job.past = Some(Arc::clone(&past));
            if self.put_back(*id, &name) {
                self.timers.insert((past.until, Timer::Elsewhere(self.jobs[id].class)));
            }
        }
    }

    /// A running job goes back to the queue, unless it is cancelled or we are shutting down.
    fn put_back(&mut self, id: JobId, executor: &Arc<str>) -> bool {
        let job = self.jobs.get_mut(&id).expect("an unfinished job is there");
        if job.cancelling || self.stopping.is_some() {
            self.end_job(id, Outcome::Cancelled, Some(Arc::clone(executor)));
            return false;
        }
        debug_assert!(job.at.state().leads_to(JobState::Pending));
        self.running -= 1;
        self.queue.count_running(job.group, 0, 1);
        let lane = self.queue.push(job.place, job.cost, job.group, job.class, &job.key, job.past.as_ref());
        job.at = At::Pending(lane);
        self.touched.insert(job.class);
        true
    }
}

#[expect(clippy::cast_precision_loss, reason = "ms of a batch, far below 2^52")]
fn ms_f64(ms: u64) -> f64 {
    ms as f64
}
