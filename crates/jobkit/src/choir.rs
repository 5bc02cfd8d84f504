//! The async shell: the scheduler behind a mutex, the clock, and the tasks of the executors.
//!
//! Only `P::clone` and the predicate of [`remove_where`](Choir::remove_where) run code of the caller under the lock.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::batch::Executor;
use crate::choir_state::WaitCondition;
use crate::config::ChoirConfig;
use crate::core::{ChoirStatus, ExecutorId, JobId, Scheduler, Shutdown};
use crate::handles::{ChoirError, End, PendingJob};
use crate::shared::Shared;
use crate::spec::{ExecutorSpec, JobSpec};

/// The async scheduler. A cheap handle; when the last one is dropped, the Choir is aborted.
#[derive(Debug, Clone)]
pub struct Choir<P: Send + Clone + 'static> {
    owner: Arc<Owner<P>>,
}

#[derive(Debug)]
struct Owner<P: Send + Clone + 'static>(Arc<Shared<P>>);

impl<P: Send + Clone + 'static> Drop for Owner<P> {
    fn drop(&mut self) {
        self.0.with(|state, _| state.core.shut_down(Shutdown::Abort));
    }
}

impl<P: Send + Clone + 'static> Choir<P> {
    /// A Choir without jobs and executors. Call it within a tokio runtime with time enabled.
    #[must_use]
    pub fn new(config: ChoirConfig) -> Self {
        Self { owner: Arc::new(Owner(Shared::start(config))) }
    }

    pub(crate) fn inner(&self) -> &Arc<Shared<P>> {
        &self.owner.0
    }

    /// Submits a job. A waiting executor can claim it immediately; use [`submit_all`](Self::submit_all) for jobs that
    /// should share a batch. After the start of a shutdown, the job ends immediately as cancelled.
    pub fn submit(&self, spec: JobSpec<P>) -> JobId {
        self.inner().with(|state, now| state.submit(spec, now))
    }

    /// Submits jobs. No executor can claim the first before all are submitted.
    pub fn submit_all(&self, specs: impl IntoIterator<Item = JobSpec<P>>) -> Vec<JobId> {
        let specs: Vec<JobSpec<P>> = specs.into_iter().collect();
        self.inner().with(|state, now| specs.into_iter().map(|spec| state.submit(spec, now)).collect())
    }

    /// Cancels a job. A pending job ends immediately. A running job ends with its batch, or as done if its executor
    /// reports that first. Returns false if the job has already ended.
    pub fn cancel(&self, job: JobId) -> bool {
        self.inner().with(|state, _| state.core.cancel(job))
    }

    /// Removes those of the jobs that are pending, and returns them. They end as [`Removed`](crate::Outcome::Removed).
    pub fn remove(&self, jobs: impl IntoIterator<Item = JobId>) -> Vec<JobId> {
        let mut jobs: Vec<JobId> = jobs.into_iter().collect();
        self.inner().with(|state, _| jobs.retain(|id| state.core.remove(*id)));
        jobs
    }

    /// Removes the pending jobs for which `unwanted` is true, and returns them. `unwanted` must not call the Choir.
    pub fn remove_where(&self, mut unwanted: impl FnMut(PendingJob<'_, P>) -> bool) -> Vec<JobId> {
        self.inner().with(|state, _| {
            let mut ids = state.core.pending_ids();
            ids.retain(|id| state.job(*id).is_some_and(&mut unwanted));
            ids.retain(|id| state.core.remove(*id));
            ids
        })
    }

    /// Changes the [order](JobSpec::order) of jobs. No executor can claim a job before all are changed. The new order
    /// of a running job applies when the job returns to the queue.
    pub fn reorder(&self, jobs: impl IntoIterator<Item = (JobId, i64)>) {
        let jobs: Vec<(JobId, i64)> = jobs.into_iter().collect();
        self.inner().with(|state, _| {
            for (job, order) in jobs {
                state.core.reorder(job, order);
            }
        });
    }

    /// The jobs that have not ended, in order of submission.
    #[must_use]
    pub fn job_ids(&self) -> Vec<JobId> {
        self.inner().lock().core.job_ids()
    }

    /// The number of pending jobs.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.inner().lock().core.pending()
    }

    /// The number of running jobs.
    #[must_use]
    pub fn running_len(&self) -> usize {
        self.inner().lock().core.running()
    }

    /// The number of jobs that can be submitted until the window is full.
    #[must_use]
    pub fn window_space(&self) -> usize {
        self.inner().config.window.saturating_sub(self.pending_len())
    }

    /// Waits until fewer than `jobs` jobs are pending.
    pub async fn wait_below(&self, jobs: usize) {
        self.inner().wait(WaitCondition::Below(jobs)).await;
    }

    /// Waits until no job is pending or running. The last batches may not have ended yet. Jobs that no executor can
    /// take block this call; [`status`](Self::status) lists them as unplaceable.
    pub async fn join(&self) {
        self.inner().wait(WaitCondition::Quiet).await;
    }

    /// A channel with every job that ends from now on, in order. It is unbounded.
    #[must_use]
    pub fn ends(&self) -> mpsc::UnboundedReceiver<End<P>> {
        self.inner().lock().listen()
    }

    /// A snapshot of the state.
    #[must_use]
    pub fn status(&self) -> ChoirStatus {
        let inner = self.inner();
        let now = inner.now();
        let state = inner.lock();
        state.core.status(
            now,
            |id| state.job(id).map_or_else(String::new, |job| job.name.to_owned()),
            |id| Some(state.log_of(id)?.path()?.display().to_string()),
            |ms| inner.unix_seconds(ms),
        )
    }

    /// Adds an executor and starts its body, which claims batches until it gets `None`. When the body returns, the
    /// executor is removed. If it panics, the executor is quarantined until it is removed.
    pub fn add_executor<F, B>(&self, spec: ExecutorSpec, body: B) -> Result<(), ChoirError>
    where
        B: FnOnce(Executor<P>) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let inner = Arc::clone(self.inner());
        let name: Arc<str> = spec.name.as_str().into();
        let (id, log) =
            inner.with(|state, now| state.add_member(&spec, &name, inner.config.logs.as_ref(), now))?;
        let host = spec.host.into();
        let guard = TaskGuard { id, inner: Arc::clone(&inner) };
        let future = body(Executor { id, name, host, log, inner: Arc::clone(&inner) });
        let task = tokio::spawn(async move {
            let _guard = guard;
            future.await;
        });
        inner.lock().keep_task(id, task.abort_handle());
        Ok(())
    }

    /// Removes an executor after its current batch. Its name can be reused when its body has returned. Returns false if
    /// there is no executor with that name.
    pub fn remove_executor(&self, name: &str) -> bool {
        self.inner().with(|state, _| state.dismiss(name, Scheduler::retire))
    }

    /// Removes an executor and cancels its batch. The unfinished jobs return to the queue.
    pub fn abort_executor(&self, name: &str) -> bool {
        self.inner().with(|state, _| state.dismiss(name, Scheduler::abort_executor))
    }

    /// Shuts down: stops accepting jobs and claims, cancels pending jobs, and waits until all bodies have returned.
    /// With [`Drain`](Shutdown::Drain), running batches can finish. With [`Abort`](Shutdown::Abort), they are
    /// cancelled, and bodies that do not return within the grace period are aborted. An abort can follow a drain.
    pub async fn shutdown(&self, how: Shutdown) {
        self.inner().shut_down(how).await;
    }
}

/// Reports to the Choir that a body has ended, also after a panic.
struct TaskGuard<P: Send + Clone + 'static> {
    id: ExecutorId,
    inner: Arc<Shared<P>>,
}

impl<P: Send + Clone + 'static> Drop for TaskGuard<P> {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.inner.with(|state, now| state.body_ended(self.id, panicked, now));
    }
}
