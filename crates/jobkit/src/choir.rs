//! The async shell: the scheduler behind a mutex, the clock, and the executors' tasks.
//!
//! Every call locks, changes the scheduler, turns its effects into wake-ups, unlocks. The lock is never held across
//! an await, and no code of the user's runs under it but `P::clone` and the predicate of
//! [`remove_where`](Choir::remove_where).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::batch::{Batch, Executor};
use crate::config::ChoirConfig;
use crate::core::{ExecutorId, JobId, Outcome, Scheduler, Shutdown};
use crate::shell::{State, Turn, Until};
use crate::spec::{ExecutorSpec, JobSpec};
use crate::status::ChoirStatus;

/// Why a Choir refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoirError {
    /// There is an executor of that name, or its body has not ended yet.
    #[error("there is an executor {0} already; remove it and wait until its last batch has ended")]
    NameTaken(String),
    /// It is too late for new executors.
    #[error("the Choir is shutting down; it takes no executor {0}")]
    ShuttingDown(String),
}

/// A job that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End<P> {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: Arc<str>,
    /// What was handed in with it.
    pub payload: P,
    /// How it ended.
    pub outcome: Outcome,
    /// The executor that had it last, if it was running.
    pub executor: Option<Arc<str>>,
}

/// A job that waits, as shown to a predicate.
#[derive(Debug)]
pub struct PendingJob<'a, P> {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: &'a str,
    /// What was handed in with it.
    pub payload: &'a P,
}

/// The scheduler as executors and users see it. A cheap handle; when the last one is dropped, the Choir is aborted.
#[derive(Debug, Clone)]
pub struct Choir<P: Send + Clone + 'static> {
    owner: Arc<Owner<P>>,
}

#[derive(Debug)]
struct Owner<P: Send + Clone + 'static>(Arc<Inner<P>>);

impl<P: Send + Clone + 'static> Drop for Owner<P> {
    fn drop(&mut self) {
        self.0.with(|state, _| state.core.shut_down(Shutdown::Abort));
    }
}

#[derive(Debug)]
pub(crate) struct Inner<P: Send + Clone + 'static> {
    state: Mutex<State<P>>,
    pub(crate) config: ChoirConfig,
    origin: Instant,
    unix_origin: Duration,
    /// Wakes the ticker when something is due earlier than it thinks, or at the end.
    rearm: Arc<Notify>,
}

impl<P: Send + Clone + 'static> Choir<P> {
    /// A Choir without jobs and executors. To be called within a tokio runtime, with time enabled.
    #[must_use]
    pub fn new(config: ChoirConfig) -> Self {
        let inner = Arc::new(Inner {
            state: Mutex::new(State::new(&config)),
            config,
            origin: Instant::now(),
            unix_origin: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            rearm: Arc::new(Notify::new()),
        });
        tokio::spawn(tick(Arc::downgrade(&inner), Arc::clone(&inner.rearm)));
        Self { owner: Arc::new(Owner(inner)) }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner<P>> {
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
    /// [`Removed`](Outcome::Removed).
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
        let (now, origin) = (inner.now(), inner.unix_origin);
        let state = inner.lock();
        state.core.status(
            now,
            |id| state.job(id).map_or_else(String::new, |job| job.name.to_owned()),
            |id| Some(state.log_of(id)?.path()?.display().to_string()),
            |ms| i64::try_from((origin + Duration::from_millis(ms)).as_secs()).unwrap_or(i64::MAX),
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
    inner: Arc<Inner<P>>,
}

impl<P: Send + Clone + 'static> Drop for TaskGuard<P> {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.inner.with(|state, now| state.body_ended(self.id, panicked, now));
    }
}

async fn tick<P: Send + Clone + 'static>(inner: Weak<Inner<P>>, rearm: Arc<Notify>) {
    loop {
        let due = {
            let Some(inner) = inner.upgrade() else { return };
            inner.with(|state, now| {
                state.core.tick(now);
                state.armed = state.core.next_due();
                state.armed.map(|due| inner.origin + Duration::from_millis(due))
            })
        };
        match due {
            Some(due) => tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = rearm.notified() => {}
            },
            None => rearm.notified().await,
        }
    }
}

impl<P: Send + Clone + 'static> Drop for Inner<P> {
    fn drop(&mut self) {
        self.rearm.notify_one();
    }
}

impl<P: Send + Clone + 'static> Inner<P> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Changes the state and sees to all that follows from the change.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut State<P>, u64) -> R) -> R {
        let now = self.now();
        let mut state = self.lock();
        let result = change(&mut state, now);
        state.core.dispatch(now);
        state.act();
        let rearm = match (state.core.next_due(), state.armed) {
            (Some(due), Some(armed)) => due < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let spent = state.take_spent();
        drop(state);
        drop(spent);
        if rearm {
            self.rearm.notify_one();
        }
        result
    }

    pub(crate) async fn wait(&self, until: Until) {
        let (sender, receiver) = oneshot::channel();
        self.lock().add_waiter(until, sender);
        // An error would mean that the state is gone, which we hold.
        _ = receiver.await;
    }

    pub(crate) async fn claim(self: &Arc<Self>, id: ExecutorId) -> Option<Batch<P>> {
        let mut waiting = Waiting { inner: self, id, over: false };
        loop {
            let wake = match self.with(|state, now| state.claim(id, now, self)) {
                Turn::Batch(batch) => {
                    waiting.over = true;
                    let (count, plural) = (batch.jobs.len(), if batch.jobs.len() == 1 { "" } else { "s" });
                    batch.log.line(format!("batch {}: {}, {count} job{plural}", batch.id, batch.key));
                    return Some(batch);
                }
                Turn::Gone => {
                    waiting.over = true;
                    return None;
                }
                Turn::Wait(wake) => wake,
            };
            wake.notified().await;
        }
    }
}

/// Withdraws a claim whose future is dropped.
struct Waiting<'a, P: Send + Clone + 'static> {
    inner: &'a Inner<P>,
    id: ExecutorId,
    over: bool,
}

impl<P: Send + Clone + 'static> Drop for Waiting<'_, P> {
    fn drop(&mut self) {
        if !self.over {
            self.inner.with(|state, now| state.withdraw_claim(self.id, now));
        }
    }
}
