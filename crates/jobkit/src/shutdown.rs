//! Shutting down: first asking, then, after a grace, dropping the bodies' tasks.

use std::sync::Arc;

use crate::choir::Inner;
use crate::core::Shutdown;
use crate::shell::Until;

impl<P: Send + Clone + 'static> Inner<P> {
    pub(crate) async fn shut_down(self: &Arc<Self>, how: Shutdown) {
        self.with(|state, _| state.core.shut_down(how));
        let deserted = self.wait(Until::Deserted);
        if how == Shutdown::Drain {
            deserted.await;
            return;
        }
        if tokio::time::timeout(self.config.abort_grace, deserted).await.is_err() {
            let tasks = self.lock().tasks();
            tracing::warn!(executors = tasks.len(), "executors did not end in time; their tasks are dropped");
            for task in tasks {
                task.abort();
            }
            self.wait(Until::Deserted).await;
        }
    }
}
