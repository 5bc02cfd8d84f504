//! Plain types that the Choir returns: jobs of a batch, pending and ended jobs, the cancellation of a batch.

use std::sync::Arc;

use tokio::sync::watch;

use crate::core::{JobId, Outcome};

/// Why an executor cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoirError {
    /// The name is in use, possibly by a removed executor with a body that has not returned.
    #[error("executor {0} already exists; remove it and wait until its last batch has ended")]
    NameTaken(String),
    /// The Choir is shutting down.
    #[error("executor {0} cannot be added: the Choir is shutting down")]
    ShuttingDown(String),
}

/// A job that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End<P> {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: Arc<str>,
    /// The payload.
    pub payload: P,
    /// How it ended.
    pub outcome: Outcome,
    /// The executor of its last batch, if it was running.
    pub executor: Option<Arc<str>>,
}

/// A pending job, for a predicate.
#[derive(Debug)]
pub struct PendingJob<'a, P> {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: &'a str,
    /// The payload.
    pub payload: &'a P,
}

/// A job in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job<P> {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: Arc<str>,
    /// The payload.
    pub payload: P,
    /// 1 plus the number of infrastructure errors of the job.
    pub attempt: u32,
}

/// The cancellation of a batch.
#[derive(Debug, Clone)]
pub struct Cancellation(pub(crate) watch::Receiver<bool>);

impl Cancellation {
    /// Completes when the batch must stop, or has ended.
    pub async fn cancelled(&self) {
        // An error means that the batch has ended.
        _ = self.0.clone().wait_for(|cancelled| *cancelled).await;
    }

    /// Whether the batch must stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }
}
