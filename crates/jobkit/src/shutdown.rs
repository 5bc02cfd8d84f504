//! Shutdown: asks the executors to end, and aborts their tasks after a grace period.

use std::sync::Arc;

use crate::choir_state::WaitCondition;
use crate::core::Shutdown;
use crate::shared::Shared;

impl<P: Send + Clone + 'static> Shared<P> {
    pub(crate) async fn shut_down(self: &Arc<Self>, how: Shutdown) {
        self.with(|state, _| state.core.shut_down(how));
        let no_executors = self.wait(WaitCondition::NoExecutors);
        if how == Shutdown::Drain {
            no_executors.await;
            return;
        }
        if tokio::time::timeout(self.config.abort_grace, no_executors).await.is_err() {
            let tasks = self.lock().tasks();
            tracing::warn!(
                executors = tasks.len(),
                "executors did not end within the grace period; aborting their tasks"
            );
            for task in tasks {
                task.abort();
            }
            self.wait(WaitCondition::NoExecutors).await;
        }
    }
}
