//! Publishes logs: compresses a plain file with brotli, next to the verdict.
//!
//! The log of the decisive attempt is `<key>/log.br`, which every client reads. The log of another attempt is
//! `<key>/attempt.<n>/log.br`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use model::{CommitId, ResultKey};

use super::Writer;
use super::command::Command;
use super::log_target::LogTarget;
use crate::disk::Durable;
use crate::error::{Error, Result};
use crate::files;
use crate::journal::Record;
use crate::layout::LogKind;

/// The size limit of a plain log in bytes. For longer logs, half of it is kept from the start and half from the end.
pub const LOG_MAX: u64 = 64 << 20;

/// The compression quality for logs of at most N bytes, and for larger ones. Measured on a console log of 90 KB:
/// quality 4 takes 2 ms (32.1 % of the size), quality 5 takes 20 ms (31.0 %), quality 9 takes 140 ms (30.7 %). On a log
/// of 5.5 MB, quality 4 takes 0.7 s (29.2 %) and quality 9 takes 5 s (28.1 %).
const SMALL: (u64, u32) = (256 << 10, 5);
const LARGE_QUALITY: u32 = 4;

/// A plain file to publish. It is read through the open handle, so a file that replaces it is not published.
#[derive(Debug)]
pub struct PlainFile {
    file: File,
    /// For messages.
    path: PathBuf,
}

impl PlainFile {
    /// Uses an open file. A file in a directory that untrusted code writes must be opened with `fsx::untrusted`.
    #[must_use]
    pub fn new(file: File, path: PathBuf) -> Self {
        Self { file, path }
    }

    /// Opens a file in a directory that only this program writes.
    pub fn open(path: &Path) -> Result<Self> {
        let file = files::open(path)?.ok_or_else(|| Error::damaged(path, "there is no such file"))?;
        Ok(Self::new(file, path.into()))
    }
}

impl Writer {
    /// Creates the log file of a running test, which readers can follow. Publishing the log removes it.
    pub fn live_log(&self, commit: &CommitId, key: &ResultKey, kind: LogKind) -> Result<File> {
        let dir = self.inner.reader.layout.test(commit, key);
        self.inner.disk.make_dir(&dir, Durable::No).map_err(Error::io("create", &dir))?;
        let path = dir.join(kind.live_file());
        File::create(&path).map_err(Error::io("create", &path))
    }

    /// Publishes the log of a recorded attempt from a plain file, which is kept unless it is the [live
    /// log](Self::live_log). Returns when the published log is durable.
    pub async fn publish_log(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        attempt: u32,
        kind: LogKind,
        plain: PlainFile,
    ) -> Result<()> {
        self.publish_logs(commit, &[(key.clone(), attempt)], kind, plain).await
    }

    /// Publishes one log for several recorded attempts, as hard links to one file: the log of their VM.
    pub async fn publish_logs(
        &self,
        commit: &CommitId,
        attempts: &[(ResultKey, u32)],
        kind: LogKind,
        plain: PlainFile,
    ) -> Result<()> {
        let mut targets = Vec::new();
        for (key, attempt) in attempts {
            let (commit, key, attempt) = (commit.clone(), key.clone(), *attempt);
            targets.push(self.ask(|reply| Command::LogTarget { commit, key, attempt, kind, reply }).await?);
        }
        let (this, of) = (self.clone(), commit.clone());
        let write = move || this.write_logs(&of, &targets, kind, plain);
        let bytes = tokio::task::spawn_blocking(write).await.map_err(|_| Error::Closed)??;
        for (key, attempt) in attempts {
            let full = kind == LogKind::Full;
            let record =
                Record::Log { commit: commit.clone(), key: key.clone(), attempt: *attempt, full, bytes };
            self.ask(|reply| Command::Record(record, reply)).await?;
        }
        Ok(())
    }

    fn write_logs(
        &self,
        commit: &CommitId,
        targets: &[LogTarget],
        kind: LogKind,
        plain: PlainFile,
    ) -> Result<u64> {
        let (layout, disk) = (&self.inner.reader.layout, &self.inner.disk);
        let (compressed, bytes) = compress(plain)?;
        let mut first: Option<PathBuf> = None;
        for LogTarget { key, attempt, is_decisive, replaces } in targets {
            let top = layout.test(commit, key);
            if let Some(replaced) = replaces {
                self.set_aside(&top, &layout.attempt(commit, key, *replaced), kind)?;
            }
            let directory = if *is_decisive { top.clone() } else { layout.attempt(commit, key, *attempt) };
            disk.make_dir(&directory, Durable::Yes).map_err(Error::io("create", &directory))?;
            let path = directory.join(kind.file());
            match &first {
                None => disk.publish(&path, &compressed, Durable::Yes),
                Some(first) => disk.link(first, &path, Durable::Yes),
            }
            .map_err(Error::io("write", &path))?;
            first.get_or_insert(path);
            let live = top.join(kind.live_file());
            disk.remove_file(&live).map_err(Error::io("remove", &live))?;
        }
        Ok(bytes)
    }

    /// Moves the log of the previously decisive attempt to the directory of that attempt. If a log exists there, an
    /// earlier move was interrupted, and the log at the top belongs to the new attempt.
    fn set_aside(&self, top: &Path, directory: &Path, kind: LogKind) -> Result<()> {
        let (from, to) = (top.join(kind.file()), directory.join(kind.file()));
        if !from.exists() || to.exists() {
            return Ok(());
        }
        let disk = &self.inner.disk;
        disk.make_dir(directory, Durable::Yes).map_err(Error::io("create", directory))?;
        disk.rename(&from, &to, Durable::Yes).map_err(Error::io("rename", &from))
    }
}

/// Compresses a plain file. Returns the brotli stream and the size of the file.
pub(super) fn compress(PlainFile { file, path }: PlainFile) -> Result<(Vec<u8>, u64)> {
    let mut out = Vec::new();
    compress_into(file, &mut out).map(|bytes| (out, bytes)).map_err(Error::io("read", &path))
}

fn compress_into(mut file: File, out: &mut Vec<u8>) -> std::io::Result<u64> {
    let size = file.metadata()?.len();
    let quality = if size <= SMALL.0 { SMALL.1 } else { LARGE_QUALITY };
    let mut encoder = brotli::CompressorWriter::new(out, 64 << 10, quality, 22);
    if size <= LOG_MAX {
        std::io::copy(&mut (&mut file).take(LOG_MAX), &mut encoder)?;
    } else {
        std::io::copy(&mut (&mut file).take(LOG_MAX / 2), &mut encoder)?;
        writeln!(encoder, "\n\n[... {} bytes omitted here ...]\n", size - LOG_MAX)?;
        file.seek(SeekFrom::Start(size - LOG_MAX / 2))?;
        std::io::copy(&mut file.take(LOG_MAX / 2), &mut encoder)?;
    }
    encoder.flush()?;
    drop(encoder);
    Ok(size)
}
