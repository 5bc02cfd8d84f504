//! The log of a running subtest, where readers of the results see it grow.
//!
//! It is copied from the run's own folder a piece at a time; the finished log replaces it when the verdict is there.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::untrusted::Dir;
use model::{CommitId, ResultKey};
use results::{LogKind, Writer};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

/// How often there is a look at what is new.
const EVERY: Duration = Duration::from_millis(500);
/// How much is copied at a time, in bytes.
const PIECE: u64 = 1 << 20;
/// A log that grows beyond this is only shown whole when it is finished, in bytes.
const MOST: u64 = 64 << 20;

/// A log that is being copied, until this is dropped.
#[derive(Debug)]
pub struct LiveLog {
    task: JoinHandle<()>,
}

impl LiveLog {
    /// Copies the log at the relative path `log` of the run's work directory. It need not exist yet.
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
    while offset < MOST {
        tokio::time::sleep(EVERY).await;
        // A log that cannot be read now may be in a moment; at the end it is published whole in any case.
        let (work, log) = (work.clone(), log.clone());
        let piece = tokio::task::spawn_blocking(move || piece(&work, &log, offset)).await;
        let Ok(Ok(piece)) = piece else { continue };
        if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
            return;
        }
        offset += piece.len() as u64;
    }
}

/// What the log has after `offset`. The run may replace the log by anything, so it is opened as untrusted.
fn piece(work: &Path, log: &Path, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut file = Dir::open(work)?.open_file(log)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut piece = Vec::new();
    file.take(PIECE).read_to_end(&mut piece)?;
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_reader_sees_it_grow_until_the_verdict() {
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
        // Nobody judged it: it is to run again, and nothing is left.
        writer.in_progress(&commit, vec![key.clone()], 1, None, None).unwrap();
        writer.not_in_progress(&commit, vec![key.clone()]).unwrap();
        writer.flush().await.unwrap();
        assert_eq!(reader.log(&commit, &key, LogKind::Subtest).unwrap(), None);
    }
}
