//! Tracks whether a connection or a stream makes progress.
//!
//! Progress is: a request starts, a handler runs, or the client accepts a part of a response.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The progress of one connection or stream.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    /// The time of the last progress, in milliseconds since `began`.
    last: AtomicU64,
    /// Requests without the start of their response.
    handling: AtomicU32,
    ended: Notify,
}

/// A request that is being handled. Its connection and its stream count as active until this is dropped.
#[derive(Debug)]
pub(crate) struct Handling(Arc<Activity>);

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
            handling: AtomicU32::new(0),
            ended: Notify::new(),
        }
    }

    /// Records progress.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Records that a request is being handled, until the result is dropped.
    pub(crate) fn handling(self: &Arc<Self>) -> Handling {
        self.handling.fetch_add(1, Ordering::Relaxed);
        Handling(Arc::clone(self))
    }

    /// The time without progress.
    pub(crate) fn idle(&self) -> Duration {
        if self.handling.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }

    /// Ends the connection or stream.
    pub(crate) fn end(&self) {
        self.ended.notify_one();
    }

    /// Completes when there was no progress for `stall`, or when it was ended.
    pub(crate) async fn over(&self, stall: Duration) {
        let stalled = async {
            while let Some(left) = stall.checked_sub(self.idle()).filter(|left| !left.is_zero()) {
                tokio::time::sleep(left).await;
            }
        };
        tokio::select! {
            () = stalled => {}
            () = self.ended.notified() => {}
        }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.touch();
        self.0.handling.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn only_time_without_progress_counts() {
        let began = Instant::now();
        let activity = Arc::new(Activity::new());
        let toucher = Arc::clone(&activity);
        tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                toucher.touch();
            }
            let handling = toucher.handling();
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(handling);
        });
        activity.over(STALL).await;
        assert_eq!(began.elapsed().as_secs(), 190);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_can_be_ended() {
        let began = Instant::now();
        let activity = Activity::new();
        activity.end();
        activity.over(STALL).await;
        assert!(began.elapsed() < STALL);
    }
}
