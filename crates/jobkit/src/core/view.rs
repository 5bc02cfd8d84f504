//! Queries of the scheduler.

use super::{
    BatchId, BatchStatus, ChoirStatus, EndCounts, ExecutorId, ExecutorStatus, GroupStatus, JobEntry, JobId,
    JobStatus, RunningBatch, Scheduler, Unplaceable,
};
use crate::state::JobState;

impl Scheduler {
    /// The number of pending jobs.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queue.pending()
    }

    /// The number of running jobs.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// Whether a shutdown has started.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The state of a job; `None` once it has ended.
    #[must_use]
    pub fn job_state(&self, id: JobId) -> Option<JobState> {
        self.jobs.get(&id).map(|job| job.at.state())
    }

    /// The jobs that have not ended, in order of submission.
    #[must_use]
    pub fn job_ids(&self) -> Vec<JobId> {
        let mut ids: Vec<JobId> = self.jobs.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The pending jobs, in order of submission.
    #[must_use]
    pub fn pending_ids(&self) -> Vec<JobId> {
        let mut ids: Vec<JobId> = self.jobs_in(JobState::Pending).collect();
        ids.sort_unstable();
        ids
    }

    /// The numbers of jobs that ended.
    #[must_use]
    pub fn ended(&self) -> EndCounts {
        self.ended
    }

    /// A snapshot. `name` returns the name of a job, `log` the log of an executor, and `unix` converts a time of the
    /// scheduler to Unix seconds.
    pub fn status(
        &self,
        now: u64,
        name: impl Fn(JobId) -> String,
        log: impl Fn(ExecutorId) -> Option<String>,
        unix: impl Fn(u64) -> i64,
    ) -> ChoirStatus {
        let mut executors: Vec<ExecutorStatus> = self
            .roster
            .members()
            .map(|(id, member)| ExecutorStatus {
                name: member.name.to_string(),
                host: member.host.to_string(),
                state: member.state,
                since: unix(member.since),
                rests_until: member.health.pause.and_then(super::health::Pause::until).map(&unix),
                batch: member
                    .batch
                    .and_then(|batch| Some((batch, self.batches.get(&batch)?)))
                    .map(|(id, batch)| self.batch_status(id, batch, &name, &unix)),
                failures: member.health.failures,
                on_probation: member.health.on_probation(),
                leaving: member.leaving,
                problem: member.problem.as_deref().map(str::to_owned),
                log: log(id),
            })
            .collect();
        executors.sort_by(|a, b| (&a.name, a.since).cmp(&(&b.name, b.since)));
        let groups = self.queue.groups().map(|group| {
            let usage = self.queue.usage(group, now) / 1000.0;
            let (pending, running) = (group.pending, group.running);
            (group.name.to_string(), GroupStatus { weight: group.weight, usage, pending, running })
        });
        ChoirStatus {
            accepting: self.stopping.is_none(),
            pending: self.pending(),
            running: self.running,
            ended: self.ended,
            groups: groups.collect(),
            executors,
            unplaceable: self.unplaceable(),
        }
    }

    fn batch_status(
        &self,
        id: BatchId,
        batch: &RunningBatch,
        name: &impl Fn(JobId) -> String,
        unix: &impl Fn(u64) -> i64,
    ) -> BatchStatus {
        let cancelling = |id: &JobId| self.jobs.get(id).is_some_and(|job: &JobEntry| job.cancelling);
        BatchStatus {
            id,
            key: batch.key.to_string(),
            group: self.queue.group_name(batch.group).to_string(),
            jobs: batch
                .jobs
                .iter()
                .map(|id| JobStatus { id: *id, name: name(*id), cancelling: cancelling(id) })
                .collect(),
            done: batch.done,
            since: unix(batch.since),
        }
    }

    /// Pending jobs that no executor can take now: no executor meets their needs, or those that do are quarantined.
    #[must_use]
    pub fn unplaceable(&self) -> Vec<Unplaceable> {
        let mut found: Vec<Unplaceable> = self
            .roster
            .classes()
            .filter(|(_, _, usable)| *usable == 0)
            .map(|(class, needs, _)| Unplaceable {
                needs: needs.to_string(),
                pending: self.queue.pending_of(class),
            })
            .filter(|unplaceable| unplaceable.pending > 0)
            .collect();
        found.sort_by(|a, b| a.needs.cmp(&b.needs));
        found
    }
}
