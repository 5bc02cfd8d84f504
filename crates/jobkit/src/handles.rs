//! Plain types that the Choir hands out: jobs of a batch, pending and ended jobs, the cancellation of a batch.

use std::sync::Arc;

use tokio::sync::watch;

use crate::core::{JobId, Outcome};

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

/// A job in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job<P> {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: Arc<str>,
    /// What was handed in with it.
    pub payload: P,
    /// 1, and one more for each infrastructure error it has been through.
    pub attempt: u32,
}

/// Says when a batch is to be stopped.
#[derive(Debug, Clone)]
pub struct Cancellation(pub(crate) watch::Receiver<bool>);

impl Cancellation {
    /// Resolves when the batch is to be stopped, or has ended.
    pub async fn cancelled(&self) {
        // An error means that the batch has ended.
        _ = self.0.clone().wait_for(|cancelled| *cancelled).await;
    }

    /// Whether the batch is to be stopped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }
}
