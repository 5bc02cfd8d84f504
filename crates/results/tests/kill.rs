//! A writer in a separate process is killed with SIGKILL while it records: no acknowledged record is lost.
//!
//! `RESULTS_KILLS=100` sets the number of kills (default: 8).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::time::Duration;

use model::{CommitId, ResultKey, Verdict};
use results::{VerdictRecord, Writer};
use rustix::process::Signal;
use spawn::{Cmd, Stream};
use tokio::io::{AsyncBufReadExt, BufReader};

const DIRECTORY: &str = "RESULTS_KILL_FOLDER";
const ROUND: &str = "RESULTS_KILL_ROUND";

fn commit() -> CommitId {
    "a".repeat(40).parse().unwrap()
}

fn key(round: &str, number: usize) -> ResultKey {
    format!("f.r{round}.t{number}").parse().unwrap()
}

/// The writer. It runs until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other test starts it"]
async fn child() {
    let (Ok(directory), Ok(round)) = (std::env::var(DIRECTORY), std::env::var(ROUND)) else { return };
    let writer = Writer::open(directory).unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (writer, round) = (writer.clone(), round.clone());
            tokio::spawn(async move {
                for number in (task..100_000).step_by(8) {
                    let key = key(&round, number);
                    let _ = writer.in_progress(&commit(), vec![key.clone()], 5, None, None);
                    let record = VerdictRecord::new(commit(), key, Verdict::Passed, Duration::from_millis(1));
                    writer.record(record).await.unwrap();
                    writeln!(std::io::stdout().lock(), "durable {number}").unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_acknowledged() {
    // In memory, because SIGKILL does not discard the page cache.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut acknowledged = Vec::new();
    let kills = std::env::var("RESULTS_KILLS").map_or(8, |kills| kills.parse().unwrap());
    for round in 0..kills {
        let mut child = Cmd::new(&program)
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .env(ROUND, round.to_string())
            .streams(Stream::Null, Stream::Pipe, Stream::Inherit)
            .start()
            .unwrap();
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        let mut count = 0;
        while let Some(line) = lines.next_line().await.unwrap() {
            let Some(number) = line.strip_prefix("durable ") else { continue };
            acknowledged.push(key(&round.to_string(), number.parse().unwrap()));
            count += 1;
            // Records that it acknowledges before it exits are durable, too.
            if count == 30 + 90 * (round % 8) {
                child.signal(Signal::KILL);
            }
        }
        assert!(!child.wait().await.unwrap().success());

        let writer = Writer::open(dir.path()).unwrap();
        writer.clear_stale_in_progress().await.unwrap();
        writer.flush().await.unwrap();
        let results = writer.reader().commit(&commit()).unwrap().unwrap();
        for key in &acknowledged {
            assert!(
                results.get(key).is_some_and(|entry| entry.attempts() == 1),
                "{key} is missing or duplicated"
            );
        }
        assert_eq!(results.counts().inprogress, 0);
        writer.close().await.unwrap();
    }
    assert!(acknowledged.len() > 250 * kills);
}
