//! The batches that run on a host at the same time. A batch that needs the host to itself waits for the others, and those
//! that come later wait for it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The batches of the farm on one host.
#[derive(Debug, Default)]
pub struct Neighbors {
    /// Taken for writing by a batch that needs the host to itself. The first one that waits gets it first.
    turn: Arc<RwLock<()>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    running: u32,
    started: u64,
}

/// A batch on its host, until it is dropped.
#[derive(Debug)]
pub struct Stay {
    host: Arc<Neighbors>,
    /// The number of the batch among those that started on the host; `None` if others were running then.
    number: Option<u64>,
    _turn: Turn,
}

/// Held as long as the batch runs.
#[derive(Debug)]
enum Turn {
    Shared(#[expect(dead_code, reason = "held until it is dropped")] OwnedRwLockReadGuard<()>),
    Alone(#[expect(dead_code, reason = "held until it is dropped")] OwnedRwLockWriteGuard<()>),
}

impl Neighbors {
    /// Waits until a batch can run on the host: `alone`, when no other one runs.
    pub async fn enter(self: &Arc<Self>, alone: bool) -> Stay {
        let turn = Arc::clone(&self.turn);
        let turn =
            if alone { Turn::Alone(turn.write_owned().await) } else { Turn::Shared(turn.read_owned().await) };
        let mut seen = self.seen();
        seen.started += 1;
        let number = (seen.running == 0).then_some(seen.started);
        seen.running += 1;
        drop(seen);
        Stay { host: Arc::clone(self), number, _turn: turn }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stay {
    /// Whether no other batch ran on the host since this one started.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.number == Some(self.host.seen().started)
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.host.seen().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn enters(host: &Arc<Neighbors>, alone: bool) -> Option<Stay> {
        timeout(Duration::from_secs(60), host.enter(alone)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_alone_until_another_one_starts() {
        let host = Arc::new(Neighbors::default());
        let first = enters(&host, false).await.unwrap();
        assert!(first.is_alone());
        let second = enters(&host, false).await.unwrap();
        assert!(!first.is_alone() && !second.is_alone());
        drop(second);
        assert!(!first.is_alone(), "the other one ran for a part of the time");
        drop(first);
        assert!(enters(&host, false).await.unwrap().is_alone());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_needs_the_host_waits_for_the_others_and_they_for_it() {
        let host = Arc::new(Neighbors::default());
        let first = enters(&host, false).await.unwrap();
        assert!(enters(&host, true).await.is_none(), "another batch runs");
        // A batch that gave up waiting does not stop the others.
        let second = enters(&host, false).await.unwrap();
        let waiting = tokio::spawn({
            let host = Arc::clone(&host);
            async move { host.enter(true).await }
        });
        tokio::task::yield_now().await;
        assert!(enters(&host, false).await.is_none(), "the one that needs the host is first");
        drop((first, second));
        let alone = waiting.await.unwrap();
        assert!(alone.is_alone());
        assert!(enters(&host, false).await.is_none());
        drop(alone);
        assert!(enters(&host, true).await.unwrap().is_alone());
    }
}
