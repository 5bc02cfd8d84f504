//! The handles of an executor's body: the executor and its batch.

use std::sync::Arc;

use crate::choir_state::{ClaimResult, GrantedBatch};
use crate::core::{BatchEnd, BatchId, ExecutorId, JobId};
use crate::handles::{Cancellation, Job};
use crate::log::ExecutorLog;
use crate::shared::Shared;

/// The handle with which the body of an executor claims batches.
#[derive(Debug)]
pub struct Executor<P: Send + Clone + 'static> {
    pub(crate) id: ExecutorId,
    pub(crate) name: Arc<str>,
    pub(crate) host: Arc<str>,
    pub(crate) log: ExecutorLog,
    pub(crate) inner: Arc<Shared<P>>,
}

impl<P: Send + Clone + 'static> Executor<P> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &ExecutorLog {
        &self.log
    }

    /// Waits for the next batch. `None` means that the executor was removed or the Choir is shutting down, and the body
    /// must return. An executor has one batch at a time: a claim waits until the previous batch has ended. Cancel safe:
    /// if the future is dropped, a granted batch returns to the queue.
    pub async fn claim(&mut self) -> Option<Batch<P>> {
        let (inner, id) = (&self.inner, self.id);
        let mut guard = ClaimGuard { inner, id, over: false };
        loop {
            let wake = match inner.with(|state, now| state.claim(id, now)) {
                ClaimResult::Batch(granted) => {
                    guard.over = true;
                    let batch = Batch::new(granted, inner);
                    let (count, plural) = (batch.jobs.len(), if batch.jobs.len() == 1 { "" } else { "s" });
                    batch.log.line(format!("batch {}: {}, {count} job{plural}", batch.id, batch.key));
                    return Some(batch);
                }
                ClaimResult::Gone => {
                    guard.over = true;
                    return None;
                }
                ClaimResult::Wait(wake) => wake,
            };
            wake.notified().await;
        }
    }
}

/// Jobs to run together. Call [`done`](Self::done) for each; when all are done or cancelled, drop the batch. Dropping
/// it with unfinished jobs is an infrastructure error, so no job is lost when a body panics or is aborted.
#[derive(Debug)]
pub struct Batch<P: Send + Clone + 'static> {
    /// The batch key of its jobs.
    pub key: Arc<str>,
    /// The group of its jobs.
    pub group: Arc<str>,
    /// Its jobs, in order; at least one.
    pub jobs: Vec<Job<P>>,
    pub(crate) id: BatchId,
    pub(crate) cancellation: Cancellation,
    pub(crate) log: ExecutorLog,
    pub(crate) inner: Arc<Shared<P>>,
    pub(crate) open: bool,
}

impl<P: Send + Clone + 'static> Batch<P> {
    fn new(granted: GrantedBatch<P>, inner: &Arc<Shared<P>>) -> Self {
        let GrantedBatch { key, group, jobs, id, cancellation, log } = granted;
        Self { key, group, jobs, id, cancellation, log, inner: Arc::clone(inner), open: true }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// Ends a job as done, regardless of its result. Returns false if it is not an unfinished job of this batch.
    pub fn done(&self, job: JobId) -> bool {
        self.inner.with(|state, _| state.core.done(self.id, job))
    }

    /// Ends the batch with an infrastructure error; `reason` is one line. The unfinished jobs return to the queue,
    /// preferably for another host, or end as [`Abandoned`](crate::Outcome::Abandoned) after too many attempts. The
    /// executor pauses.
    pub fn infrastructure_error(mut self, reason: impl Into<String>) {
        self.end(BatchEnd::Failed(reason.into()));
    }

    /// Returns the unfinished jobs to the queue. This does not count as an error.
    pub fn put_back(mut self) {
        self.end(BatchEnd::PutBack);
    }

    /// Completes when the batch must stop: all unfinished jobs were cancelled, the executor was aborted, or the Choir
    /// shuts down with [`Abort`](crate::Shutdown::Abort). Stop the work, then drop the batch.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// Whether [`cancelled`](Self::cancelled) would complete immediately.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Whether a job was cancelled.
    #[must_use]
    pub fn is_job_cancelled(&self, job: JobId) -> bool {
        self.inner.with(|state, _| state.core.is_cancelled(self.id, job))
    }

    /// A handle for the cancellation, which can be cloned and moved to other tasks.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        self.cancellation.clone()
    }

    fn end(&mut self, end: BatchEnd) {
        if std::mem::take(&mut self.open) {
            let text = match &end {
                BatchEnd::Finished => format!("batch {} ends", self.id),
                BatchEnd::PutBack => format!("batch {} is put back", self.id),
                BatchEnd::Failed(reason) => format!("batch {}: infrastructure error: {reason}", self.id),
            };
            self.log.line(text);
            self.log.close();
            self.inner.with(|state, now| state.end_batch(self.id, end, now));
        }
    }
}

impl<P: Send + Clone + 'static> Drop for Batch<P> {
    fn drop(&mut self) {
        self.end(BatchEnd::Finished);
    }
}

/// Withdraws a claim when its future is dropped.
struct ClaimGuard<'a, P: Send + Clone + 'static> {
    inner: &'a Shared<P>,
    id: ExecutorId,
    over: bool,
}

impl<P: Send + Clone + 'static> Drop for ClaimGuard<'_, P> {
    fn drop(&mut self) {
        if !self.over {
            self.inner.with(|state, now| state.withdraw_claim(self.id, now));
        }
    }
}
