//! The async shell: the scheduler behind a mutex, the clock, and the executors' tasks.
//!
//! Every call locks, changes the scheduler, turns its effects into wake-ups, unlocks. The lock is never held across
//! an await, and no code of the user's runs under it but `P::clone` and the predicate of
//! [`remove_where`](Choir::remove_where).

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::batch::Executor;
use crate::choir_state::Until;
use crate::config::ChoirConfig;
use crate::core::{ExecutorId, JobId, Scheduler, Shutdown};
use crate::handles::{ChoirError, End, PendingJob};
use crate::shared::Shared;
use crate::spec::{ExecutorSpec, JobSpec};
use crate::status::ChoirStatus;

/// The scheduler as executors and users see it. A cheap handle; when the last one is dropped, the Choir is aborted.
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
    /// A Choir without jobs and executors. To be called within a tokio runtime, with time enabled.
    #[must_use]
    pub fn new(config: ChoirConfig) -> Self {
        Self { owner: Arc::new(Owner(Shared::start(config))) }
    }

    pub(crate) fn inner(&self) -> &Arc<Shared<P>> {
        &self.owner.0
    }

    /// Takes on a job. Executors that wait may take it at once; to have jobs share a batch, use
    /// [`submit_all`](Self::submit_all). After a shutdown began the job ends at once, cancelled.
    pub fn submit(&self, spec: JobSpec<P>) -> JobId {
        self.inner().with(|state, now| state.submit(spec, now))
    }

    /// Takes on jobs, all before the first is given to anybody.
    pub fn submit_all(&self, specs: impl IntoIterator<Item = JobSpec<P>>) -> Vec<JobId> {
        let specs: Vec<JobSpec<P>> = specs.into_iter().collect();
        self.inner().with(|state, now| specs.into_iter().map(|spec| state.submit(spec, now)).collect())
    }

    /// Cancels a job. A pending one ends at once; a running one ends with its batch, and is done if its executor says
    /// so before that. False if there is no such job any more.
    pub fn cancel(&self, job: JobId) -> bool {
        self.inner().with(|state, _| state.core.cancel(job))
    }

    /// Takes back those of the jobs that are pending; returns which. They end as
    /// [`Removed`](crate::Outcome::Removed).
    pub fn remove(&self, jobs: impl IntoIterator<Item = JobId>) -> Vec<JobId> {
        let mut jobs: Vec<JobId> = jobs.into_iter().collect();
        self.inner().with(|state, _| jobs.retain(|id| state.core.remove(*id)));
        jobs
    }

    /// Takes back the pending jobs for which `unwanted` is true; returns which. It must not call the Choir.
    pub fn remove_where(&self, mut unwanted: impl FnMut(PendingJob<'_, P>) -> bool) -> Vec<JobId> {
        self.inner().with(|state, _| {
            let mut ids = state.core.pending_ids();
            ids.retain(|id| state.job(*id).is_some_and(&mut unwanted));
            ids.retain(|id| state.core.remove(*id));
            ids
        })
    }

    /// Gives jobs another [order](JobSpec::order), all before the next is given to anybody. They keep everything else,
    /// how often they failed as well; a running one has its new order when it goes back.
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

    /// How many jobs wait.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.inner().lock().core.pending()
    }

    /// How many jobs are in batches.
    #[must_use]
    pub fn running_len(&self) -> usize {
        self.inner().lock().core.running()
    }

    /// How many jobs may be submitted before the window is full.
    #[must_use]
    pub fn window_space(&self) -> usize {
        self.inner().config.window.saturating_sub(self.pending_len())
    }

    /// Waits until fewer than `jobs` jobs are pending.
    pub async fn wait_below(&self, jobs: usize) {
        self.inner().wait(Until::Below(jobs)).await;
    }

    /// Waits until no job is pending or running; the last batches may still be held by their executors. Jobs that nobody can take keep it waiting;
    /// [`status`](Self::status) names them as unplaceable.
    pub async fn join(&self) {
        self.inner().wait(Until::Quiet).await;
    }

    /// Every job that ends from now on, in order. What is not received yet is kept in memory; drop the receiver to
    /// hear no more.
    #[must_use]
    pub fn ends(&self) -> mpsc::UnboundedReceiver<End<P>> {
        self.inner().lock().listen()
    }

    /// A snapshot.
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

    /// Adds an executor and starts its body, which claims until it gets `None`. When the body returns, the executor is
    /// gone; if it panics, the executor stays in sight as quarantined until it is removed.
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

    /// Removes an executor: it takes no further batch, the one it has may end. Its name is free when its body has
    /// ended. False if there is none of that name.
    pub fn remove_executor(&self, name: &str) -> bool {
        self.inner().with(|state, _| state.dismiss(name, Scheduler::retire))
    }

    /// Removes an executor and cancels the batch it has; the unfinished jobs go back, nobody is to blame.
    pub fn abort_executor(&self, name: &str) -> bool {
        self.inner().with(|state, _| state.dismiss(name, Scheduler::abort_executor))
    }

    /// Shuts down: no job is taken on or claimed any more, pending ones are cancelled; returns when all executors'
    /// bodies have ended. With [`Drain`](Shutdown::Drain) batches that run may end; with [`Abort`](Shutdown::Abort) they
    /// are cancelled, and bodies that do not end within the grace of the configuration are dropped. An abort may
    /// follow while a drain is under way.
    pub async fn shutdown(&self, how: Shutdown) {
        self.inner().shut_down(how).await;
    }
}

/// Tells the Choir that a body has ended, however it did.
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
