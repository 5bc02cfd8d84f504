//! Copies the log of a running subtest to the result store while it grows.
//!
//! The complete log replaces the copy when the verdict is recorded.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::untrusted::Dir;
use model::{CommitId, ResultKey};
use results::{LogKind, Writer};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

/// The interval at which the log is read.
const INTERVAL: Duration = Duration::from_millis(500);
/// The maximum number of bytes per copy operation.
const CHUNK: u64 = 1 << 20;
/// The maximum size of a copy, in bytes. A longer log is complete only with the verdict.
const COPY_MAX: u64 = 64 << 20;

/// Copies a log until it is dropped.
#[derive(Debug)]
pub struct LiveLog {
    task: JoinHandle<()>,
}

impl LiveLog {
    /// Copies the log at the relative path `log` in the run's work directory. It does not have to exist yet.
    pub fn start(
        writer: &Writer,
        commit: &CommitId,
        key: &ResultKey,
        work: PathBuf,
        log: PathBuf,
    ) -> results::Result<Self> {
        let to = File::from_std(writer.live_log(commit, key, LogKind::Subtest)?);
        Ok(Self { task: tokio::spawn(copy(work, log, to)) })
    }
}

impl Drop for LiveLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(work: PathBuf, log: PathBuf, mut to: File) {
    let mut offset = 0;
    while offset < COPY_MAX {
        tokio::time::sleep(INTERVAL).await;
        // The log may not exist yet. An error is harmless, because the complete log is published with the verdict.
        let (work, log) = (work.clone(), log.clone());
        let chunk = tokio::task::spawn_blocking(move || read_chunk(&work, &log, offset)).await;
        let Ok(Ok(chunk)) = chunk else { continue };
        if to.write_all(&chunk).await.is_err() || to.flush().await.is_err() {
            return;
        }
        offset += chunk.len() as u64;
    }
}

/// Reads the log from `offset`. The run can replace the file, so it is opened as an untrusted file.
fn read_chunk(work: &Path, log: &Path, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut file = Dir::open(work)?.open_file(log)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut chunk = Vec::new();
    file.take(CHUNK).read_to_end(&mut chunk)?;
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_reader_sees_the_log_grow_until_the_verdict() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::open(dir.path().join("results")).unwrap();
        let commit: CommitId = "1".repeat(40).parse().unwrap();
        let key: ResultKey = "a.punch".parse().unwrap();
        let from = dir.path().join("log");
        let live = LiveLog::start(&writer, &commit, &key, dir.path().into(), "log".into()).unwrap();
        let reader = writer.reader();
        for text in ["00001 one\n", "00001 one\n00002 two\n"] {
            std::fs::write(&from, text).unwrap();
            let since = Instant::now();
            loop {
                let log = reader.log(&commit, &key, LogKind::Subtest).unwrap().unwrap();
                assert!(log.is_live());
                if log.read(1000).unwrap().0 == text.as_bytes() {
                    break;
                }
                assert!(since.elapsed() < Duration::from_secs(10));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        drop(live);
        // The batch ended without a verdict: the copy is removed.
        writer.in_progress(&commit, vec![key.clone()], 1, None, None).unwrap();
        writer.not_in_progress(&commit, vec![key.clone()]).unwrap();
        writer.flush().await.unwrap();
        assert_eq!(reader.log(&commit, &key, LogKind::Subtest).unwrap(), None);
    }
}
