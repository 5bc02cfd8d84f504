//! Benchmarks the store and prints one `name value unit` per line: `cargo run --release -p results --example bench-results [FOLDER]`.
//!
//! FOLDER contains the scratch results during the run (default: in the target directory). Its file system determines
//! the cost of an fsync.

mod support;

use std::fmt::Write as _;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use model::{CommitId, ResultKey};
use results::disk::{FaultInjector, Step, StepResult};
use results::{LogKind, PlainFile, Reader, Tuning, Writer};
use support::{TASKS, commit, copy_blobs, key, median, message, millis, record, record_all, report};

const VERDICTS: usize = 10_000;
const COMMITS: usize = 500;
const TESTS: usize = 5_000;

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let dir = tempfile::tempdir_in(directory)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;

    let (elapsed, visible) = runtime.block_on(store(&dir.path().join("store")))?;
    report("store_10k_verdicts_s", elapsed.as_secs_f64(), "s");
    report("store_10k_published_s", visible.as_secs_f64(), "s");

    let (elapsed, published) = runtime.block_on(spread(&dir.path().join("spread")))?;
    report("store_100k_of_50_commits_s", elapsed.as_secs_f64(), "s");
    report("store_100k_of_50_commits_published_s", published.as_secs_f64(), "s");

    for (suffix, compat_tree) in [("", 0), ("_with_directories", COMMITS)] {
        let cost = runtime.block_on(recorded(&dir.path().join(format!("cost{suffix}")), compat_tree))?;
        report(&format!("verdict_bytes{suffix}"), cost.bytes, "B");
        report(&format!("verdict_inodes{suffix}"), cost.inodes, "files");
        report(&format!("verdict_syncs{suffix}"), cost.syncs, "syncs");
        report(&format!("verdict_cpu_us{suffix}"), cost.cpu_us, "us");
    }

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
    let ids: Vec<_> =
        (0..TESTS).map(|test| Ok(writer.key_id(&support::key(test)?))).collect::<Result<_>>()?;
    let start = Instant::now();
    let mut verdicts = 0;
    for number in 0..COMMITS {
        let set = writer.verdicts(&support::commit(number)?)?;
        verdicts += ids.iter().filter(|id| set.contains(**id)).count();
    }
    report("verdicts_cold_ms", millis(start.elapsed()), "ms");
    anyhow::ensure!(verdicts == COMMITS * TESTS, "{verdicts} verdicts were found");
    Ok(())
}

/// The time to record 10,000 verdicts of one commit, where each task waits until each of its verdicts is durable, and
/// the time until all are in the published blob.
async fn store(dir: &Path) -> Result<(Duration, Duration)> {
    let writer = Writer::open(dir)?;
    let commit = commit(0)?;
    let start = Instant::now();
    let of = commit.clone();
    let elapsed = record_all(&writer, VERDICTS, move |number| Ok((of.clone(), number))).await?;
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
    let elapsed = record_all(&writer, 100_000, |number| Ok((commit(number % 50)?, number / 50))).await?;
    writer.flush().await?;
    Ok((elapsed, start.elapsed()))
}

/// What a verdict with its log costs in addition to the compressed log.
struct Cost {
    bytes: f64,
    inodes: f64,
    syncs: f64,
    cpu_us: f64,
}

/// Counts the syncs that the store makes; those of checkpoints of the database are not counted.
#[derive(Debug, Default)]
struct Syncs(AtomicUsize);

impl FaultInjector for Syncs {
    fn result(&self, step: Step<'_>) -> StepResult {
        if matches!(step, Step::Sync(_) | Step::SyncAll | Step::Commit(_)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        StepResult::Proceed
    }
}

/// Records verdicts with small logs of commits with 500 tests each, as a farm with 64 slots does: each slot works on one
/// commit and waits until its verdict and its log are durable.
async fn recorded(dir: &Path, compat_tree: usize) -> Result<Cost> {
    const TESTS_OF_COMMIT: usize = 500;
    let syncs = Arc::new(Syncs::default());
    let faults = Some(Arc::clone(&syncs) as Arc<dyn FaultInjector>);
    let writer = Writer::open_with(dir, Tuning { faults, compat_tree, ..Tuning::default() })?;
    let listing = (0..VERDICTS / TESTS_OF_COMMIT).map(|number| Ok((commit(number)?, String::new())));
    writer.set_branch(&"u/b".parse()?, listing.collect::<Result<_>>()?).await?;
    let before = cpu()?;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for number in (task..VERDICTS).step_by(TASKS) {
                    let (commit, test) = (commit(number / TESTS_OF_COMMIT)?, number % TESTS_OF_COMMIT);
                    let attempt = writer.record(record(&commit, test)?).await?.attempt;
                    let log = PlainFile::new(log(number)?, "log".into());
                    writer.publish_log(&commit, &key(test)?, attempt, LogKind::Subtest, log).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    writer.close().await?;
    let cpu_used = cpu()?.saturating_sub(before);
    let before = cpu()?;
    let mut compressed = 0;
    for number in 0..VERDICTS {
        compressed += PlainFile::new(log(number)?, "log".into()).compress()?.0.len();
    }
    let compression = cpu()?.saturating_sub(before);
    let (bytes, inodes) = usage(dir)?;
    let each = |value: f64| value / VERDICTS as f64;
    Ok(Cost {
        bytes: each(bytes as f64 - compressed as f64),
        inodes: each(inodes as f64),
        syncs: each(syncs.0.load(Ordering::Relaxed) as f64),
        cpu_us: each(cpu_used.saturating_sub(compression).as_secs_f64() * 1e6),
    })
}

/// A log of 2 KB.
fn log(number: usize) -> Result<std::fs::File> {
    let mut text = String::new();
    for line in 0..40 {
        writeln!(text, "{:05} test {number}: step {line} of {}", line * 7, number * 31 + line)?;
    }
    let mut file = tempfile::tempfile_in("/dev/shm")?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// The processor time of this process so far.
fn cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The allocated bytes and the number of files and directories below a directory.
fn usage(dir: &Path) -> Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut bytes, mut inodes) = (0, 0);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let data = entry.metadata()?;
        bytes += data.blocks() * 512;
        inodes += 1;
        if data.is_dir() {
            let (inner, count) = usage(&entry.path())?;
            bytes += inner;
            inodes += count;
        }
    }
    Ok((bytes, inodes))
}

fn reader_count(reader: &Reader, commit: &CommitId) -> Result<usize> {
    Ok(reader.summary(commit)?.map_or(0, |summary| summary.counts.total() as usize))
}

/// Creates a branch of [`COMMITS`] commits with [`TESTS`] tests each. Writes the blobs directly, because the writer
/// would need minutes for the status files.
async fn fill(dir: &Path) -> Result<()> {
    let first = commit(0)?;
    let writer = Writer::open(dir)?;
    record_all(&writer, TESTS, move |number| Ok((first.clone(), number))).await?;
    drop(writer);
    copy_blobs(dir, COMMITS)?;
    let writer = Writer::open(dir)?;
    let listing = (0..COMMITS).map(|number| Ok((commit(number)?, message(number)))).collect::<Result<_>>()?;
    writer.set_branch(&"u/b".parse()?, listing).await?;
    Ok(())
}
