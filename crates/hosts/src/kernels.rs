//! Which host of the farm has built which kernel, so that each is built once and then handed on.
//!
//! A claim on a kernel is a lock: whoever holds it builds (or fetches), others wait; it ends with its holder, however
//! that ends, and then the next one's turn it is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::KernelId;
use spawn::{Cmd, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::HostError;
use crate::link::Link;
use crate::lock::Lock;
use crate::target::Target;

/// A transfer that does not move for so long has failed.
const STALL: Duration = Duration::from_secs(60);

/// What this machine knows of the farm's kernels.
#[derive(Debug, Clone)]
pub struct Kernels {
    cache: PathBuf,
    /// The `ktest` command of this machine, as an argv list: what its own store holds is handed on too.
    ktest: Vec<OsString>,
}

/// The right to build a kernel.
#[derive(Debug)]
pub struct Claim {
    note: PathBuf,
    _lock: Lock,
}

impl Kernels {
    /// Of a cache folder; kernels of its own store are not handed on.
    #[must_use]
    pub fn of(cache: &Path) -> Self {
        Self { cache: cache.into(), ktest: Vec::new() }
    }

    /// Hands on the kernels of this machine's own store too, by this command.
    #[must_use]
    pub fn with_own(self, ktest: Vec<OsString>) -> Self {
        Self { ktest, ..self }
    }

    fn path(&self, id: &KernelId, ending: &str) -> PathBuf {
        self.cache.join("farm/kernels").join(format!("{id}.{ending}"))
    }

    /// Waits until nobody else builds the kernel.
    pub async fn claim(&self, id: &KernelId) -> Result<Claim, HostError> {
        Ok(Claim { _lock: Lock::acquire(&self.path(id, "lock")).await?, note: self.path(id, "json") })
    }

    /// A host has the kernel, as it says.
    pub fn is_there(&self, id: &KernelId, target: &Target) {
        let note = self.path(id, "json");
        if !note.exists() {
            write(&note, target);
        }
    }

    /// Puts the kernel into the store of `to` if another host, or this machine, has it. True if it did; a host that
    /// cannot give it is no reason to fail, the kernel is built then.
    pub async fn provide(&self, id: &KernelId, claim: &Claim, to: &Link) -> bool {
        // A host that has been asked for it has lost it.
        let host = claim.holder().filter(|holder| holder != to.target());
        if let Some(from) = host {
            let name = from.name.clone();
            match self.of_host(id, from, to).await {
                Ok(()) => return true,
                Err(error) => tracing::warn!("kernel {} of {name} cannot be used: {error}", id.short()),
            }
        }
        let Some(own) = self.own(id) else { return false };
        match transfer("this machine", own, id, to).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("kernel {} of this machine cannot be used: {error}", id.short());
                false
            }
        }
    }

    async fn of_host(&self, id: &KernelId, from: Target, to: &Link) -> Result<(), HostError> {
        let from = Link::new(from, &self.cache)?;
        from.up().await?;
        let name = from.target().name.to_string();
        transfer(&name, from.ktest(&["host", "kernel-send", id.as_str()]), id, to).await
    }

    /// What sends the kernel of this machine's own store, if it is there.
    fn own(&self, id: &KernelId) -> Option<Cmd> {
        let (program, args) = self.ktest.split_first()?;
        kernel::Store::of(&kernel::Cache { dir: self.cache.clone() }).entry_dir(id)?;
        let cmd = Cmd::new(program).args(args).arg("--cache-dir").arg(&self.cache);
        Some(cmd.args(["host", "kernel-send", id.as_str()]))
    }
}

/// Sends a kernel from the standard output of `from` into the store of `to`.
async fn transfer(name: &str, from: Cmd, id: &KernelId, to: &Link) -> Result<(), HostError> {
    let mut sender = from.streams(Stream::Null, Stream::Pipe, Stream::Null).start()?;
    let mut receiver = to
        .ktest(&["host", "kernel-receive", id.as_str()])
        .streams(Stream::Pipe, Stream::Null, Stream::Null)
        .start()?;
    let (Some(source), Some(mut sink)) = (sender.take_stdout(), receiver.take_stdin()) else {
        return Err(HostError::Here("no pipes to ssh".into()));
    };
    let lost = |host: &str, what: &str| HostError::Lost { host: host.into(), what: what.into() };
    let there = to.target().name.to_string();
    let mut source = BufReader::with_capacity(256 << 10, source);
    skip_to_archive(&mut source).await.map_err(|error| lost(name, &error.to_string()))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match tokio::time::timeout(STALL, source.read(&mut buffer)).await {
            Ok(Ok(count)) => count,
            _ => return Err(lost(name, "the kernel stopped on its way")),
        };
        if count == 0 {
            break;
        }
        match tokio::time::timeout(STALL, sink.write_all(&buffer[..count])).await {
            Ok(Ok(())) => {}
            _ => return Err(lost(&there, "it does not take the kernel")),
        }
    }
    let sent = sender.wait().await?.success();
    if !sent {
        return Err(lost(name, "it has not the kernel any more"));
    }
    sink.shutdown().await.map_err(|_| lost(&there, "it does not take the kernel"))?;
    drop(sink);
    match tokio::time::timeout(STALL, receiver.wait()).await {
        Ok(Ok(exit)) if exit.success() => Ok(()),
        _ => Err(lost(&there, "it does not take the kernel")),
    }
}

/// The line before the archive; what a login shell printed before it is no part of it.
pub(crate) const ARCHIVE: &[u8] = b"ktest-kernel\n";

async fn skip_to_archive(from: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<()> {
    let mut left = 256 << 10;
    loop {
        let mut line = Vec::new();
        let read = async { (&mut *from).take(left).read_until(b'\n', &mut line).await };
        let count = tokio::time::timeout(STALL, read).await.unwrap_or(Ok(0))?;
        left = left.saturating_sub(count as u64);
        if line == ARCHIVE {
            return Ok(());
        }
        if count == 0 {
            return Err(std::io::Error::other("it sends no kernel"));
        }
    }
}

impl Claim {
    /// Who is said to have the kernel.
    #[must_use]
    pub fn holder(&self) -> Option<Target> {
        serde_json::from_str(&std::fs::read_to_string(&self.note).ok()?).ok()
    }

    /// The kernel is in this host's store now; the next one may have it.
    pub fn built(self, target: &Target) {
        write(&self.note, target);
    }
}

fn write(note: &Path, target: &Target) {
    let text = serde_json::to_string(target).expect("plain data");
    // Not to know costs a build and nothing else.
    if let Err(error) = std::fs::write(note, text) {
        tracing::warn!("{}: {error}", note.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_builds_and_the_next_one_knows_who() {
        let dir = tempfile::tempdir().unwrap();
        let kernels = Kernels::of(dir.path());
        let id: KernelId = "0".repeat(64).parse().unwrap();
        let farm1 = Target::new("farm1".parse().unwrap());
        let first = kernels.claim(&id).await.unwrap();
        assert_eq!(first.holder(), None);
        let mut second = Box::pin(kernels.claim(&id));
        let waits = tokio::time::timeout(Duration::from_millis(250), &mut second).await;
        assert!(waits.is_err());
        first.built(&farm1);
        assert_eq!(second.await.unwrap().holder(), Some(farm1.clone()));
        // One who gives up lets the next one try.
        let other: KernelId = "1".repeat(64).parse().unwrap();
        drop(kernels.claim(&other).await.unwrap());
        assert_eq!(kernels.claim(&other).await.unwrap().holder(), None);
        kernels.is_there(&other, &farm1);
        assert_eq!(kernels.claim(&other).await.unwrap().holder(), Some(farm1));
    }
}
