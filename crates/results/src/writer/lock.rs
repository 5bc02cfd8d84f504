//! The lock of a results directory, which ensures that there is only one writer.

use std::path::Path;

use fsx::lock::{self, Lock};

use crate::error::{Error, Result};

/// Takes the lock of the results in `dir`; `private` is its private directory.
pub fn take(dir: &Path, private: &Path) -> Result<Lock> {
    let path = private.join("lock");
    match Lock::try_acquire(&path, "writes results") {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Error::Locked { dir: dir.into(), pid: lock::holder_pid(&path) }),
        Err(error) => Err(Error::io("lock", &path)(error.into())),
    }
}
