//! The test trees on a host, by the hash of their content.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use fsx::own;
use fsx::publish::{self, Durability};
use fsx::untrusted::Scratch;

use crate::error::{HostError, LocalError};
use crate::frame::{self, ReadError};
use crate::pack;

/// The maximum size of an archive of tests, in bytes.
const MAX_BYTES: u64 = 512 << 20;

/// The directory of the tests with this hash.
pub(crate) fn path(cache: &Path, hash: &str) -> Result<PathBuf, HostError> {
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(LocalError::Name(hash.into(), "a test tree").into());
    }
    Ok(cache.join("tests").join(&hash[..32]))
}

/// Receives an archive of `size` bytes and unpacks it to `dir`.
pub(crate) async fn receive(
    from: &mut (impl tokio::io::AsyncBufRead + Unpin),
    size: u64,
    dir: &Path,
) -> Result<(), HostError> {
    let parent = dir.parent().unwrap_or(dir);
    let io = LocalError::io::<std::io::Error>(parent);
    if size > MAX_BYTES {
        return Err(LocalError::TestsTooLarge(MAX_BYTES).into());
    }
    own::create_dir_all(parent)?;
    let mut archive = tempfile::tempfile_in(parent).map_err(&io)?;
    frame::copy(from, size, |bytes| archive.write_all(bytes)).await.map_err(|error| match error {
        ReadError::Io(error) => io(error),
        error => LocalError::Protocol(error),
    })?;
    archive.rewind().map_err(&io)?;
    let stage = Scratch::new_in(parent, ".stage-").map_err(&io)?;
    std::fs::set_permissions(stage.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(&io)?;
    pack::unpack(archive, stage.path()).map_err(&io)?;
    match publish::dir(stage.path(), dir, Durability::Cached) {
        Ok(()) => Ok(()),
        // Another slot has published the same tests.
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
