//! Benchmarks the store and prints one `name value unit` per line: `cargo run --release -p results --example bench-results [FOLDER]`.
//!
//! FOLDER contains the scratch results during the run (default: in the target directory). Its file system determines
//! the cost of an fsync.

#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use model::{CommitId, ResultKey, Verdict};
use results::{Reader, VerdictRecord, Writer};

const TASKS: usize = 64;
const VERDICTS: usize = 10_000;
const COMMITS: usize = 500;
const TESTS: usize = 5_000;

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let dir = tempfile::tempdir_in(directory)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = |name: &str, value: f64, unit: &str| println!("{name} {value:.3} {unit}");

    let (elapsed, visible) = runtime.block_on(store(&dir.path().join("store")))?;
    report("store_10k_verdicts_s", elapsed.as_secs_f64(), "s");
    report("store_10k_published_s", visible.as_secs_f64(), "s");

    let (elapsed, published) = runtime.block_on(spread(&dir.path().join("spread")))?;
    report("store_100k_of_50_commits_s", elapsed.as_secs_f64(), "s");
    report("store_100k_of_50_commits_published_s", published.as_secs_f64(), "s");

    let many = dir.path().join("many");
    runtime.block_on(fill(&many))?;
    let reader = Reader::open(&many)?;
    let key = key(TESTS / 3)?;
    let commit = commit(7)?;
    report(
        "branch_read_ms",
        median(|| Ok(reader.branch(&"u/b".parse()?)?.context("no branch")?.len()))?,
        "ms",
    );
    report(
        "branch_filtered_ms",
        median(|| {
            let wanted = |key: &ResultKey| key.as_str().contains("t12");
            Ok(reader.branch_filtered(&"u/b".parse()?, wanted)?.context("no branch")?.len())
        })?,
        "ms",
    );
    report(
        "commit_read_ms",
        median(|| Ok(reader.commit(&commit)?.context("no commit")?.entries.len()))?,
        "ms",
    );
    report(
        "test_history_ms",
        median(|| Ok(reader.history(&"u/b".parse()?, &key)?.context("no branch")?.len()))?,
        "ms",
    );

    let start = Instant::now();
    let writer = Writer::open(&many)?;
    report("writer_open_ms", millis(start.elapsed()), "ms");
    let ids: Vec<_> = (0..TESTS).map(|test| Ok(writer.key_id(&self::key(test)?))).collect::<Result<_>>()?;
    let start = Instant::now();
    let mut verdicts = 0;
    for number in 0..COMMITS {
        let set = writer.verdicts(&self::commit(number)?)?;
        verdicts += ids.iter().filter(|id| set.contains(**id)).count();
    }
    report("verdicts_cold_ms", millis(start.elapsed()), "ms");
    anyhow::ensure!(verdicts == COMMITS * TESTS, "{verdicts} verdicts were found");
    Ok(())
}

fn commit(number: usize) -> Result<CommitId> {
    Ok(format!("{number:040x}").parse()?)
}

fn key(number: usize) -> Result<ResultKey> {
    Ok(format!("fs.ext4.group{:02}.t{:04}", number / 100, number).parse()?)
}

fn record(commit: &CommitId, test: usize) -> Result<VerdictRecord> {
    let verdict = match test % 10 {
        0 => Verdict::Failed { reason: "assertion failed: the two files differ".into() },
        1 => Verdict::NotRun { reason: "no xfs in this kernel".into() },
        _ => Verdict::Passed,
    };
    let millis = Duration::from_millis(1000 + test as u64);
    let mut record = VerdictRecord::new(commit.clone(), key(test)?, verdict, millis);
    record.started = Some(1_700_000_000);
    record.host = Some(format!("farm{}", test % 4).parse()?);
    record.slot = Some(u32::try_from(test % 16)?);
    record.kernel = Some("c".repeat(64).parse()?);
    record.image_hash = Some("d".repeat(64));
    Ok(record)
}

/// The time to record 10,000 verdicts of one commit, where each task waits until each of its verdicts is durable, and
/// the time until all are in the published blob.
async fn store(dir: &Path) -> Result<(Duration, Duration)> {
    let writer = Writer::open(dir)?;
    let commit = commit(0)?;
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (writer, commit) = (writer.clone(), commit.clone());
            tokio::spawn(async move {
                for test in (task..VERDICTS).step_by(TASKS) {
                    writer.record(record(&commit, test)?).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let elapsed = start.elapsed();
    while reader_count(&writer.reader(), &commit)? < VERDICTS {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok((elapsed, start.elapsed()))
}

/// The time to record 100,000 verdicts of 50 commits in turn, and the time until everything is published, including the
/// status files.
async fn spread(dir: &Path) -> Result<(Duration, Duration)> {
    let writer = Writer::open(dir)?;
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for number in (task..100_000).step_by(TASKS) {
                    writer.record(record(&commit(number % 50)?, number / 50)?).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let elapsed = start.elapsed();
    writer.flush().await?;
    Ok((elapsed, start.elapsed()))
}

fn reader_count(reader: &Reader, commit: &CommitId) -> Result<usize> {
    Ok(reader.summary(commit)?.map_or(0, |summary| summary.counts.total() as usize))
}

/// Creates a branch of [`COMMITS`] commits with [`TESTS`] tests each. Writes the blobs directly, because the writer
/// would need minutes for the status files.
async fn fill(dir: &Path) -> Result<()> {
    let first = commit(0)?;
    {
        let writer = Writer::open(dir)?;
        let records = (0..TESTS).map(|test| record(&first, test)).collect::<Result<Vec<_>>>()?;
        let tasks: Vec<_> = records
            .into_iter()
            .map(|record| {
                let writer = writer.clone();
                tokio::spawn(async move { writer.record(record).await })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
    }
    let results = Reader::open(dir)?.commit(&first)?.context("no results")?;
    for number in 1..COMMITS {
        let mut results = results.clone();
        results.commit = commit(number)?;
        let bytes = results::codec::encode_commit(&results, results::codec::Mark::default());
        std::fs::write(dir.join(format!("{}.capnp", results.commit)), bytes)?;
    }
    let writer = Writer::open(dir)?;
    let listing = (0..COMMITS)
        .map(|number| {
            Ok((commit(number)?, format!("ext4: change number {number}\n\nA body of some length.\n")))
        })
        .collect::<Result<_>>()?;
    writer.set_branch(&"u/b".parse()?, listing).await?;
    Ok(())
}

/// The median of some runs, in ms.
fn median(mut run: impl FnMut() -> Result<usize>) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        anyhow::ensure!(run()? > 0, "nothing was read");
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(millis(times[times.len() / 2]))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
