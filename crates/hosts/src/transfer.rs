//! Sends a kernel from the store of one host to the store of another, through the local side.

use std::io::Write;
use std::path::Path;

use model::KernelId;

use crate::error::{HostError, LocalError};
use crate::pack;

/// The line before the archive. Earlier output, from the login shell, is skipped.
pub(crate) const ARCHIVE: &[u8] = b"ktest-kernel\n";
/// The maximum size of a kernel, in bytes.
const MAX_BYTES: u64 = 8 << 30;

/// `ktest host kernel-send`: writes a kernel of this store to standard output, as an archive.
pub fn send_kernel(cache: &Path, id: &KernelId) -> Result<(), HostError> {
    let store = kernel::Store::of(&kernel::Cache { dir: cache.into() });
    let dir = store.entry_dir(id).ok_or_else(|| LocalError::NoKernel(id.short().to_string()))?;
    let mut out = std::io::stdout().lock();
    let packed = out.write_all(b"\n").and_then(|()| out.write_all(ARCHIVE));
    let packed = packed.and_then(|()| pack::pack_complete(&dir, out, MAX_BYTES));
    Ok(packed.map_err(LocalError::io(&dir))?)
}

/// `ktest host kernel-receive`: reads a kernel from standard input into this store.
pub async fn receive_kernel(cache: &Path, id: &KernelId) -> Result<(), HostError> {
    let store = kernel::Store::of(&kernel::Cache { dir: cache.into() });
    let stage = store.receive()?;
    pack::unpack_complete(std::io::stdin().lock(), stage.path()).map_err(LocalError::io(stage.path()))?;
    Ok(store.adopt(id, &stage).await?)
}
