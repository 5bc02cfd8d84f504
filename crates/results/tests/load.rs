//! Concurrency: many tasks record while readers read. The number of fsyncs and publications is limited.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use model::{CommitId, ResultKey, Verdict};
use results::disk::{FaultInjector, Step, StepResult};
use results::{Reader, Tuning, VerdictRecord, Writer};

fn commit(number: usize) -> CommitId {
    format!("{number:040x}").parse().unwrap()
}

fn key(number: usize) -> ResultKey {
    format!("fs.ext4.basic.t{number:04}").parse().unwrap()
}

async fn record_all(writer: &Writer, commits: usize, tests: usize, tasks: usize) {
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for number in (task..commits * tests).step_by(tasks) {
                    let (commit, key) = (commit(number % commits), key(number / commits));
                    let verdict = match number % 3 {
                        0 => Verdict::Failed { reason: "a reason".into() },
                        _ => Verdict::Passed,
                    };
                    let record = VerdictRecord::new(commit, key, verdict, Duration::from_millis(1));
                    writer.record(record).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Counts database transactions and publications of blobs.
#[derive(Debug, Default)]
struct Count {
    syncs: AtomicUsize,
    blobs: AtomicUsize,
}

impl FaultInjector for Count {
    fn result(&self, step: Step<'_>) -> StepResult {
        match step {
            Step::Commit(_) => {
                self.syncs.fetch_add(1, Ordering::Relaxed);
            }
            Step::Rename(_, to) if to.extension().is_some_and(|extension| extension == "capnp") => {
                self.blobs.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        StepResult::Proceed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_verdicts_share_fsyncs_and_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let count = Arc::new(Count::default());
    let tuning = Tuning { faults: Some(Arc::clone(&count) as Arc<dyn FaultInjector>), ..Tuning::default() };
    let writer = Writer::open_with(dir.path(), tuning).unwrap();
    record_all(&writer, 1, 2000, 64).await;
    writer.flush().await.unwrap();
    let (syncs, blobs) = (count.syncs.load(Ordering::Relaxed), count.blobs.load(Ordering::Relaxed));
    assert!(syncs <= 1000, "{syncs} transactions for 2000 verdicts of 64 tasks");
    assert!(blobs <= 100, "{blobs} blobs for 2000 verdicts");
    assert_eq!(writer.reader().commit(&commit(0)).unwrap().unwrap().entries.len(), 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_complete_results_that_only_grow() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let listing = (0..3).map(|number| (commit(number), format!("commit {number}"))).collect();
    writer.set_branch(&"u/b".parse().unwrap(), listing).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (reader, done) = (Reader::open(dir.path()).unwrap(), Arc::clone(&done));
            std::thread::spawn(move || {
                let (mut seen, mut rounds) = ([0; 3], 0);
                while !done.load(Ordering::Relaxed) {
                    let branch = reader.branch(&"u/b".parse().unwrap()).unwrap().unwrap();
                    assert_eq!(branch.len(), 3);
                    for (number, seen) in seen.iter_mut().enumerate() {
                        let results = reader.commit(&commit(number)).unwrap();
                        let count = results.map_or(0, |results| results.entries.len());
                        assert!(count >= *seen, "a verdict disappeared");
                        *seen = count;
                    }
                    reader.durations().unwrap();
                    let history = reader.history(&"u/b".parse().unwrap(), &key(7)).unwrap().unwrap();
                    assert!(history.iter().flat_map(|row| &row.entry).all(|entry| entry.key == key(7)));
                    let all = reader.branch_filtered(&"u/b".parse().unwrap(), |_| true).unwrap().unwrap();
                    assert_eq!(all.len(), 3);
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    record_all(&writer, 3, 400, 16).await;
    writer.flush().await.unwrap();
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    for entry in writer.reader().branch(&"u/b".parse().unwrap()).unwrap().unwrap() {
        assert_eq!(entry.counts.total(), 400);
    }
}
