//! Records which host of the farm has which kernel, so that each kernel is built once and then copied.
//!
//! A claim on a kernel is a lock: its holder builds or copies the kernel while others wait. The lock is released when
//! its process exits.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::lock::Lock;
use fsx::publish::{self, Durability};
use model::KernelId;
use spawn::{Cmd, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::error::HostError;
use crate::link::Link;
use crate::target::SshTarget;
use crate::transfer::ARCHIVE;

/// A transfer without progress for this time fails.
const STALL_TIME: Duration = Duration::from_secs(60);

/// The kernels of the farm, as recorded on this machine.
#[derive(Debug, Clone)]
pub struct Kernels {
    cache: PathBuf,
    /// The `ktest` command of this machine as an argv list; empty if the kernels of this machine's store are not
    /// copied.
    ktest: Vec<OsString>,
}

/// The right to build a kernel.
#[derive(Debug)]
pub struct KernelClaim {
    record: PathBuf,
    _lock: Lock,
}

impl Kernels {
    /// The records in a cache directory. Kernels in this machine's store are not copied.
    #[must_use]
    pub fn of(cache: &Path) -> Self {
        Self { cache: cache.into(), ktest: Vec::new() }
    }

    /// Also copies kernels from this machine's store, with this command.
    #[must_use]
    pub fn with_own(self, ktest: Vec<OsString>) -> Self {
        Self { ktest, ..self }
    }

    fn path(&self, id: &KernelId, ending: &str) -> PathBuf {
        self.cache.join("farm/kernels").join(format!("{id}.{ending}"))
    }

    /// Claims a kernel. Waits while another process builds it.
    pub async fn claim(&self, id: &KernelId) -> Result<KernelClaim, HostError> {
        let lock = Lock::acquire(&self.path(id, "lock"), "builds the kernel", |_| {}).await?;
        Ok(KernelClaim { _lock: lock, record: self.path(id, "json") })
    }

    /// Records that a host has the kernel, unless another host is recorded.
    pub fn record(&self, id: &KernelId, target: &SshTarget) {
        let record = self.path(id, "json");
        if !record.exists() {
            write(&record, target);
        }
    }

    /// Copies the kernel into the store of `to` if another host or this machine has it. Returns false if it was not
    /// copied and must be built.
    pub async fn copy_to(&self, id: &KernelId, claim: &KernelClaim, to: &Link) -> bool {
        // If `to` itself is recorded and requests the kernel, it has deleted the kernel.
        let host = claim.holder().filter(|holder| holder != to.target());
        if let Some(from) = host {
            let name = from.name.clone();
            match self.copy_between(id, from, to).await {
                Ok(()) => return true,
                Err(error) => tracing::warn!("cannot copy kernel {} from {name}: {error}", id.short()),
            }
        }
        let Some(own) = self.own(id) else { return false };
        match transfer("this machine", own, id, to).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("cannot copy kernel {} from this machine: {error}", id.short());
                false
            }
        }
    }

    async fn copy_between(&self, id: &KernelId, from: SshTarget, to: &Link) -> Result<(), HostError> {
        let from = Link::new(from, &self.cache)?;
        from.up().await?;
        let name = from.target().name.to_string();
        transfer(&name, from.ktest(&["host", "kernel-send", id.as_str()]), id, to).await
    }

    /// The command that sends the kernel from this machine's store, if the store has it.
    fn own(&self, id: &KernelId) -> Option<Cmd> {
        let (program, args) = self.ktest.split_first()?;
        kernel::Store::of(&kernel::Cache { dir: self.cache.clone() }).entry_dir(id)?;
        let cmd = Cmd::new(program).args(args).arg("--cache-dir").arg(&self.cache);
        Some(cmd.args(["host", "kernel-send", id.as_str()]))
    }
}

/// Copies a kernel from the standard output of `from` into the store of `to`.
async fn transfer(name: &str, from: Cmd, id: &KernelId, to: &Link) -> Result<(), HostError> {
    let mut sender = from.streams(Stream::Null, Stream::Pipe, Stream::Null).start()?;
    let mut receiver = to
        .ktest(&["host", "kernel-receive", id.as_str()])
        .streams(Stream::Pipe, Stream::Null, Stream::Null)
        .start()?;
    let source = sender.take_stdout().expect("the stream is a pipe");
    let mut sink = receiver.take_stdin().expect("the stream is a pipe");
    let lost = |host: &str, problem: &str| HostError::Lost { host: host.into(), problem: problem.into() };
    let receiver_name = to.target().name.to_string();
    let mut source = BufReader::with_capacity(256 << 10, source);
    skip_to_archive(&mut source).await.map_err(|error| lost(name, &error.to_string()))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match tokio::time::timeout(STALL_TIME, source.read(&mut buffer)).await {
            Ok(Ok(count)) => count,
            _ => return Err(lost(name, "the transfer of the kernel stalled")),
        };
        if count == 0 {
            break;
        }
        match tokio::time::timeout(STALL_TIME, sink.write_all(&buffer[..count])).await {
            Ok(Ok(())) => {}
            _ => return Err(lost(&receiver_name, "it did not accept the kernel")),
        }
    }
    let sent = sender.wait().await?.success();
    if !sent {
        return Err(lost(name, "it no longer has the kernel"));
    }
    sink.shutdown().await.map_err(|_| lost(&receiver_name, "it did not accept the kernel"))?;
    drop(sink);
    match tokio::time::timeout(STALL_TIME, receiver.wait()).await {
        Ok(Ok(exit)) if exit.success() => Ok(()),
        _ => Err(lost(&receiver_name, "it did not accept the kernel")),
    }
}

/// Skips the output of a login shell until [`ARCHIVE`].
async fn skip_to_archive(from: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<()> {
    let mut left = 256 << 10;
    loop {
        let mut line = Vec::new();
        let read = async { (&mut *from).take(left).read_until(b'\n', &mut line).await };
        let count = tokio::time::timeout(STALL_TIME, read).await.unwrap_or(Ok(0))?;
        left = left.saturating_sub(count as u64);
        if line == ARCHIVE {
            return Ok(());
        }
        if count == 0 {
            return Err(std::io::Error::other("it did not send a kernel"));
        }
    }
}

impl KernelClaim {
    /// The host that is recorded to have the kernel.
    #[must_use]
    pub fn holder(&self) -> Option<SshTarget> {
        serde_json::from_str(&fsx::own::read_to_string(&self.record, 1 << 20).ok()?).ok()
    }

    /// Records that this host has built the kernel, and releases the claim.
    pub fn built(self, target: &SshTarget) {
        write(&self.record, target);
    }
}

fn write(record: &Path, target: &SshTarget) {
    let text = serde_json::to_string(target).expect("plain data");
    // Without the record, the kernel is built again.
    if let Err(error) = publish::file(record, text, Durability::Cached) {
        tracing::warn!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_host_builds_and_the_next_one_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let kernels = Kernels::of(dir.path());
        let id: KernelId = "0".repeat(64).parse().unwrap();
        let farm1 = SshTarget::new("farm1".parse().unwrap());
        let first = kernels.claim(&id).await.unwrap();
        assert_eq!(first.holder(), None);
        let mut second = Box::pin(kernels.claim(&id));
        let waits = tokio::time::timeout(Duration::from_millis(250), &mut second).await;
        assert!(waits.is_err());
        first.built(&farm1);
        assert_eq!(second.await.unwrap().holder(), Some(farm1.clone()));
        // A claim that is dropped without a kernel leaves no record.
        let other: KernelId = "1".repeat(64).parse().unwrap();
        drop(kernels.claim(&other).await.unwrap());
        assert_eq!(kernels.claim(&other).await.unwrap().holder(), None);
        kernels.record(&other, &farm1);
        assert_eq!(kernels.claim(&other).await.unwrap().holder(), Some(farm1));
    }
}
