//! File operations in directories that a build writes. They run on a separate thread with a time limit, so that a
//! signal always ends the program.

use std::time::Duration;

use crate::error::{BuildError, InfrastructureError};

/// The time limit. Copying the objects of an allyesconfig kernel takes minutes.
const LIMIT: Duration = Duration::from_secs(1800);

/// Runs `work` on a blocking thread. `action` describes it in the error message: "copying the results of the build".
pub(crate) async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BuildError> {
    match tokio::time::timeout(LIMIT, tokio::task::spawn_blocking(work)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(InfrastructureError::FilesTimeOut { action, seconds: LIMIT.as_secs() }.into()),
    }
}
