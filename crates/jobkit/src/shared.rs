//! The state of a Choir behind its mutex, the clock, and the ticker.
//!
//! Every change takes the lock, changes the scheduler, and turns its effects into wake-ups. The lock is never held across an
//! await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::choir_state::{ChoirState, WaitCondition};
use crate::config::ChoirConfig;

#[derive(Debug)]
pub(crate) struct Shared<P: Send + Clone + 'static> {
    state: Mutex<ChoirState<P>>,
    pub(crate) config: ChoirConfig,
    origin: Instant,
    unix_origin: Duration,
    /// Wakes the ticker when its next tick becomes earlier, or when the Choir ends.
    rearm: Arc<Notify>,
}

impl<P: Send + Clone + 'static> Shared<P> {
    /// Starts the ticker. Call it within a tokio runtime with time enabled.
    pub(crate) fn start(config: ChoirConfig) -> Arc<Self> {
        let shared = Arc::new(Self {
            state: Mutex::new(ChoirState::new(&config)),
            config,
            origin: Instant::now(),
            unix_origin: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            rearm: Arc::new(Notify::new()),
        });
        tokio::spawn(tick(Arc::downgrade(&shared), Arc::clone(&shared.rearm)));
        shared
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ChoirState<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Changes the state, dispatches, and carries out the effects.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut ChoirState<P>, u64) -> R) -> R {
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

    pub(crate) async fn wait(&self, until: WaitCondition) {
        let (sender, receiver) = oneshot::channel();
        self.lock().add_waiter(until, sender);
        // The sender is in the state, which `self` keeps alive.
        _ = receiver.await;
    }

    /// The wall clock at a time of the scheduler, Unix seconds.
    pub(crate) fn unix_seconds(&self, ms: u64) -> i64 {
        i64::try_from((self.unix_origin + Duration::from_millis(ms)).as_secs()).unwrap_or(i64::MAX)
    }
}

async fn tick<P: Send + Clone + 'static>(inner: Weak<Shared<P>>, rearm: Arc<Notify>) {
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

impl<P: Send + Clone + 'static> Drop for Shared<P> {
    fn drop(&mut self) {
        self.rearm.notify_one();
    }
}
