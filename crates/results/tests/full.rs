//! A full file system: acknowledged records are kept, other records are refused, and the same writer continues when
//! there is free space again. The test mounts a small tmpfs; without root it is skipped with a message.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use model::{CommitId, ResultKey, Status, Verdict};
use results::{LogKind, PlainFile, Reader, VerdictRecord, Writer};
use spawn::{Cmd, Limits};

/// A tmpfs that is unmounted when it is dropped.
struct Small {
    dir: tempfile::TempDir,
}

async fn mount(options: &str, dir: &Path) -> Result<(), String> {
    let command = Cmd::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir);
    match command.output(Limits::seconds(30)).await {
        Ok(output) if output.exit.success() => Ok(()),
        Ok(output) => Err(output.error_line()),
        Err(error) => Err(error.to_string()),
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmount = Cmd::new("umount").arg("--lazy").arg(self.dir.path());
        let run = || {
            // The runtime of the test is in use, so this needs another runtime on another thread.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(unmount.output(Limits::seconds(30)))
        };
        let output = std::thread::scope(|scope| scope.spawn(run).join().unwrap());
        assert!(output.unwrap().exit.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_file_system_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    if let Err(error) = mount("size=4m", dir.path()).await {
        eprintln!("SKIPPED: no tmpfs can be mounted here: {error}");
        return;
    }
    let small = Small { dir };
    let path = small.dir.path();
    let commit: CommitId = "1".repeat(40).parse().unwrap();
    let key = |number: usize| format!("fs.a.t{number:05}").parse::<ResultKey>().unwrap();
    let record = |number| {
        let verdict = Verdict::Failed { reason: "r".repeat(900) };
        VerdictRecord::new(commit.clone(), key(number), verdict, Duration::from_millis(number as u64 + 1))
    };
    let writer = Writer::open(path).unwrap();
    writer.set_branch(&"u/b".parse().unwrap(), vec![(commit.clone(), "one".into())]).await.unwrap();
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for number in 0..4000 {
        match writer.record(record(number)).await {
            Ok(_) => acknowledged.push(number),
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.contains("No space left") || text.contains("disk is full"), "{text}");
                if refused > 20 {
                    break;
                }
            }
        }
    }
    assert!(refused > 20 && acknowledged.len() > 50, "{} fit, {refused} did not", acknowledged.len());
    let log = path.parent().unwrap().join(format!("full.{}.log", std::process::id()));
    std::fs::write(&log, "x\n".repeat(4000)).unwrap();
    // A log is complete or absent.
    let _ = writer.publish_log(&commit, &key(0), 1, LogKind::Subtest, PlainFile::open(&log).unwrap()).await;
    if let Some(log) = writer.reader().log(&commit, &key(0), LogKind::Subtest).unwrap() {
        assert_eq!(log.read(100_000).unwrap().0.len(), 8000);
    }
    assert!(!writer.problems().is_empty(), "a problem is reported");

    // Free some space.
    mount("remount,size=64m", path).await.unwrap();
    for number in 5000..5010 {
        writer.record(record(number)).await.unwrap();
        acknowledged.push(number);
    }
    writer.publish_log(&commit, &key(0), 1, LogKind::Subtest, PlainFile::open(&log).unwrap()).await.unwrap();
    std::fs::remove_file(&log).unwrap();
    writer.flush().await.unwrap();
    assert!(writer.problems().is_empty(), "{:?}", writer.problems());
    let reader = Reader::open(path).unwrap();
    let results = reader.commit(&commit).unwrap().unwrap();
    let there: Vec<ResultKey> = results.entries.iter().map(|entry| entry.key.clone()).collect();
    assert_eq!(there, acknowledged.iter().map(|number| key(*number)).collect::<Vec<_>>());
    assert!(results.entries.iter().all(|entry| entry.decisive.status == Status::Failed));
    writer.close().await.unwrap();
    // The next writer has the same results.
    let writer = Writer::open(path).unwrap();
    let again = writer.reader().commit(&commit).unwrap().unwrap();
    assert_eq!(again.entries.len(), acknowledged.len());
    writer.close().await.unwrap();
}
