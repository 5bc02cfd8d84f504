//! What an executor's body holds: the executor, its batches, their jobs.

use std::sync::Arc;

use crate::choir_state::{GrantedBatch, Turn};
use crate::core::{BatchEnd, BatchId, ExecutorId, JobId};
use crate::handles::{Cancellation, Job};
use crate::log::ExecutorLog;
use crate::shared::Shared;

/// An executor, in the hands of its body.
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

    /// The next batch, as soon as there is one; `None` once the executor was removed or the Choir shuts down, and
    /// the body should end. An executor has one batch at a time: a claim waits until the batch before has ended.
    /// Dropping the future is safe: a batch that was on its way goes back.
    pub async fn claim(&mut self) -> Option<Batch<P>> {
        let (inner, id) = (&self.inner, self.id);
        let mut waiting = Waiting { inner, id, over: false };
        loop {
            let wake = match inner.with(|state, now| state.claim(id, now)) {
                Turn::Batch(granted) => {
                    waiting.over = true;
                    let batch = Batch::new(granted, inner);
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

/// Jobs to be run together. Say [`done`](Self::done) for each; when all are done (or cancelled), drop it. To drop it
/// with jobs unfinished counts as an infrastructure error, so a body that panics or is aborted loses nothing.
#[derive(Debug)]
pub struct Batch<P: Send + Clone + 'static> {
    /// What its jobs share.
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

    /// A job is done, whatever its result. False if it is not an unfinished job of this batch.
    pub fn done(&self, job: JobId) -> bool {
        self.inner.with(|state, _| state.core.done(self.id, job))
    }

    /// Something other than the jobs broke; say what, in one line. The unfinished jobs go back to the queue, rather
    /// for another host, and end as [`Abandoned`](crate::Outcome::Abandoned) after too many attempts; the executor rests.
    pub fn infrastructure_error(mut self, reason: impl Into<String>) {
        self.end(BatchEnd::Failed(reason.into()));
    }

    /// The unfinished jobs go back to the queue; nobody is to blame.
    pub fn put_back(mut self) {
        self.end(BatchEnd::PutBack);
    }

    /// Resolves when what is unfinished is to be stopped: all of it was cancelled, the executor was aborted, or the
    /// Choir shuts down with [`Abort`](crate::Shutdown::Abort). Stop, then drop the batch.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// Whether [`cancelled`](Self::cancelled) would resolve at once.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Whether one job need not be run any more.
    #[must_use]
    pub fn is_job_cancelled(&self, job: JobId) -> bool {
        self.inner.with(|state, _| state.core.is_cancelled(self.id, job))
    }

    /// A handle on the cancellation, to be passed to helpers.
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

/// Withdraws a claim whose future is dropped.
struct Waiting<'a, P: Send + Clone + 'static> {
    inner: &'a Shared<P>,
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
