//! The streams of an HTTP/2 connection. A stream that stalls is reset, and the others continue.

use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;

use crate::activity::Activity;

tokio::task_local! {
    /// The activity of the stream that the current task serves.
    static STREAM: Arc<Activity>;
}

/// The activity of the stream that the current task serves; `None` with HTTP/1.1.
pub(crate) fn current() -> Option<Arc<Activity>> {
    STREAM.try_with(Arc::clone).ok()
}

/// Runs each stream in its own task until it ends or makes no progress for `stall`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamExecutor {
    pub(crate) stall: Duration,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let (activity, stall) = (Arc::new(Activity::new()), self.stall);
        let watched = Arc::clone(&activity);
        tokio::spawn(STREAM.scope(activity, async move {
            tokio::select! {
                _ = stream => {}
                () = watched.over(stall) => tracing::debug!("a stream made no progress and was reset"),
            }
        }));
    }
}
