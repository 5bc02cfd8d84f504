//! Publishing logs: from a plain file to a brotli stream in a pack of the commit.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use brotli::enc::BrotliEncoderParams;
use model::{CommitId, ResultKey};

use super::Writer;
use super::command::Command;
use super::packs::{FileName, NewFile};
use crate::disk::Durable;
use crate::error::{Error, Result};
use crate::files;
use crate::layout::LogKind;
use crate::tree::remove_empty;

/// The size limit of a plain log in bytes. For longer logs, half of it is kept from the start and half from the end.
pub const LOG_MAX: u64 = 64 << 20;

/// The compression quality for logs of at most N bytes. Larger ones have the quality of the smallest ones.
///
/// Of a console log of 3 KB, quality 4 takes 0.09 ms (40 % of the size), quality 5 takes 0.14 ms (38 %): most of it is
/// clearing a table, which is twice as large. Of one of 90 KB, quality 4 takes 2 ms (32.1 %), quality 5 takes 20 ms
/// (31.0 %), quality 9 takes 140 ms (30.7 %). Of one of 5.5 MB, quality 4 takes 0.7 s (29.2 %), quality 9 takes 5 s (28.1 %).
const QUALITIES: [(u64, i32); 2] = [(16 << 10, 4), (256 << 10, 5)];
const LARGE_QUALITY: i32 = 4;
/// The window of the compressor, in bits. A window of 16 bits selects a slow search.
const WINDOW: (i32, i32) = (18, 22);

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

    fn is_small(&self) -> bool {
        self.file.metadata().is_ok_and(|data| data.len() <= QUALITIES[0].0)
    }

    /// The content as a brotli stream, and its size.
    pub fn compress(self) -> Result<(Vec<u8>, u64)> {
        let mut out = Vec::new();
        compress_into(self.file, &mut out).map(|bytes| (out, bytes)).map_err(Error::io("read", &self.path))
    }
}

impl Writer {
    /// Creates the log file of a running test, which readers can follow. Publishing the log removes it.
    pub fn live_log(&self, commit: &CommitId, key: &ResultKey, kind: LogKind) -> Result<File> {
        let dir = self.inner.reader.layout.test(commit, key);
        let path = dir.join(kind.live_file());
        let create = || {
            self.inner.disk.make_dir(&dir, Durable::No)?;
            File::create(&path)
        };
        // The empty directory may be removed at the same time: the log of another run ended.
        create().or_else(|_| create()).map_err(Error::io("create", &path))
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

    /// Publishes one log for several recorded attempts, which share one stream: the log of their VM.
    pub async fn publish_logs(
        &self,
        commit: &CommitId,
        attempts: &[(ResultKey, u32)],
        kind: LogKind,
        plain: PlainFile,
    ) -> Result<()> {
        self.store(commit, attempts.to_vec(), FileName::Log(kind), plain).await?;
        let layout = &self.inner.reader.layout;
        let directories = attempts.iter().map(|(key, _)| layout.test(commit, key));
        let live: Vec<PathBuf> = directories
            .map(|directory| directory.join(kind.live_file()))
            .filter(|path| path.exists())
            .collect();
        if live.is_empty() {
            return Ok(());
        }
        let (disk, layout, commit) = (self.inner.disk.clone(), layout.clone(), commit.clone());
        let remove = move || {
            live.iter().try_for_each(|path| {
                disk.remove_file(path).map_err(Error::io("remove", path))?;
                if let Some(dir) = path.parent() {
                    remove_empty(&layout, &commit, dir);
                }
                Ok(())
            })
        };
        tokio::task::spawn_blocking(remove).await.map_err(|_| Error::Closed)?
    }

    /// Stores a file of the given tests and attempts. Returns when it is durable.
    pub(super) async fn store(
        &self,
        commit: &CommitId,
        owners: Vec<(ResultKey, u32)>,
        name: FileName,
        plain: PlainFile,
    ) -> Result<()> {
        let (stream, plain_bytes) = if plain.is_small() {
            // Takes less time than another thread.
            plain.compress()?
        } else {
            let compressed = tokio::task::spawn_blocking(move || plain.compress()).await;
            compressed.map_err(|_| Error::Closed)??
        };
        let commit = commit.clone();
        self.ask(|reply| {
            Command::Store(NewFile { commit, owners, name, stream, plain_bytes, removals: 0, reply })
        })
        .await
    }
}

fn compress_into(mut file: File, out: &mut Vec<u8>) -> std::io::Result<u64> {
    let size = file.metadata()?.len();
    let quality = QUALITIES.iter().find(|(max, _)| size <= *max).map(|(_, quality)| *quality);
    let parameters = BrotliEncoderParams {
        quality: quality.unwrap_or(LARGE_QUALITY),
        lgwin: if size <= 1 << WINDOW.0 { WINDOW.0 } else { WINDOW.1 },
        ..BrotliEncoderParams::default()
    };
    let mut encoder = brotli::CompressorWriter::with_params(out, 4 << 10, &parameters);
    if size <= LOG_MAX {
        copy_data(&mut file, 0..LOG_MAX, &mut encoder)?;
    } else {
        copy_data(&mut file, 0..LOG_MAX / 2, &mut encoder)?;
        writeln!(encoder, "\n\n[... {} bytes omitted here ...]\n", size - LOG_MAX)?;
        copy_data(&mut file, size - LOG_MAX / 2..size, &mut encoder)?;
    }
    encoder.flush()?;
    drop(encoder);
    Ok(size)
}

/// Copies a part of a file without its holes: a log of text has none, and compressing the zeros of a sparse file that
/// untrusted code created takes seconds.
fn copy_data(file: &mut File, part: Range<u64>, to: &mut impl Write) -> std::io::Result<()> {
    let mut at = part.start;
    while at < part.end {
        let (start, end) = match rustix::fs::seek(&*file, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => (start, rustix::fs::seek(&*file, rustix::fs::SeekFrom::Hole(start))?.min(part.end)),
            // There is no more data.
            Err(rustix::io::Errno::NXIO) => break,
            // The file system cannot find holes.
            Err(_) => (at, part.end),
        };
        file.seek(SeekFrom::Start(start))?;
        if std::io::copy(&mut (&mut *file).take(end.saturating_sub(start)), to)? == 0 {
            break;
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text = || {
            let mut compressed = Vec::new();
            let size = compress_into(File::open(&path).unwrap(), &mut compressed).unwrap();
            let mut text = String::new();
            brotli::Decompressor::new(&compressed[..], 4096).read_to_string(&mut text).unwrap();
            (size, text.replace('\0', ""))
        };
        let mut file = File::create(&path).unwrap();
        file.write_all(b"start").unwrap();
        assert_eq!(text(), (5, "start".into()));
        file.seek(SeekFrom::Start(1 << 20)).unwrap();
        file.write_all(b"middle").unwrap();
        assert_eq!(text(), ((1 << 20) + 6, "startmiddle".into()));
        file.seek(SeekFrom::Start(1 << 42)).unwrap();
        file.write_all(b"end").unwrap();
        let began = std::time::Instant::now();
        let omitted = (1 << 42) + 3 - LOG_MAX;
        let expected = format!("startmiddle\n\n[... {omitted} bytes omitted here ...]\n\nend");
        assert_eq!(text(), ((1 << 42) + 3, expected));
        assert!(began.elapsed() < std::time::Duration::from_secs(2));
    }
}
