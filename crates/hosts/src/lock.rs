//! Locks between processes of one machine: held by an open file, so that they end with their holder however it ends.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::HostError;

/// How often a lock that is taken is looked at again.
const RETRY: Duration = Duration::from_millis(100);

/// A lock; dropping it gives it back.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes it if nobody has it.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>, HostError> {
        let io = |error: std::io::Error| HostError::io(path, &error);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(io(error.into())),
        }
    }

    /// Takes it, waiting for whoever has it. Safe to cancel.
    pub async fn acquire(path: &Path) -> Result<Self, HostError> {
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The file that is locked, for a note about the holder.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}
