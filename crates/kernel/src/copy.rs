//! Copies one file out of a folder that a build writes.

use std::io::Read;
use std::path::Path;

use fsx::own;
use fsx::untrusted::{Dir, Problem, Reason, UntrustedError};

use crate::error::CompileError;

/// Copies a regular file of at most `max` bytes to a new file that only this program writes.
pub(crate) fn copy_file(from: &Dir, relative: &Path, to: &Path, max: u64) -> Result<(), CompileError> {
    let file = from.open_file(relative)?;
    let mut target = own::create(to)?;
    let copied = std::io::copy(&mut file.take(max.saturating_add(1)), &mut target)
        .map_err(fsx::Error::of("write", to))?;
    if copied > max {
        own::remove_file(to)?;
        let reason = Reason::Refused(Problem::LargerThan(max));
        let dir = from.path().into();
        return Err(UntrustedError { action: "read", dir, relative: relative.into(), reason }.into());
    }
    Ok(())
}
