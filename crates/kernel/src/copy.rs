//! Copies one file out of a directory that a build writes.

use std::io::Read;
use std::path::Path;

use fsx::own;
use fsx::untrusted::{Dir, Problem, Reason, UntrustedError};

use crate::error::CompileError;

/// Copies a regular file of at most `max` bytes to a new file that only this program writes.
pub(crate) fn copy_file(from: &Dir, relative: &Path, to: &Path, max: u64) -> Result<(), CompileError> {
    let file = from.open_file(relative)?;
    let too_large = || {
        let reason = Reason::Refused(Problem::LargerThan(max));
        UntrustedError { action: "read", dir: from.path().into(), relative: relative.into(), reason }
    };
    // A sparse file is refused before its holes are read. The bytes are counted anyway, because the size can change.
    if file.metadata().is_ok_and(|meta| meta.len() > max) {
        return Err(too_large().into());
    }
    let mut target = own::create(to)?;
    let copied = std::io::copy(&mut file.take(max.saturating_add(1)), &mut target)
        .map_err(fsx::Error::of("write", to))?;
    if copied > max {
        own::remove_file(to)?;
        return Err(too_large().into());
    }
    Ok(())
}
