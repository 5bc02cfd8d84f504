//! Sample results and timing of the benchmarks of the store.

#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use model::{CommitId, Conditions, ResultKey, Verdict};
use results::{Reader, VerdictRecord, Writer};

/// The number of tasks that record verdicts at the same time.
pub const TASKS: usize = 64;
/// The tests of a file, which run in one VM.
pub const FILE: usize = 100;

pub fn report(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.3} {unit}");
}

pub fn commit(number: usize) -> Result<CommitId> {
    Ok(format!("{number:040x}").parse()?)
}

pub fn message(number: usize) -> String {
    format!("ext4: change number {number}\n\nA body of some length.\n")
}

pub fn key(number: usize) -> Result<ResultKey> {
    Ok(format!("fs.ext4.group{:02}.t{number:04}", number / FILE).parse()?)
}

pub fn record(commit: &CommitId, test: usize) -> Result<VerdictRecord> {
    let verdict = match test % 10 {
        0 => Verdict::Failed { reason: "assertion failed: the two files differ".into() },
        1 => Verdict::NotRun { reason: "no xfs in this kernel".into() },
        _ => Verdict::Passed,
    };
    let millis = Duration::from_millis(1000 + test as u64);
    let mut record = VerdictRecord::new(commit.clone(), key(test)?, verdict, millis);
    record.started = Some(1_700_000_000);
    let file = test / FILE;
    record.host = Some(format!("farm{}", file % 4).parse()?);
    record.slot = Some(u32::try_from(file % 16)?);
    record.kernel = Some("c".repeat(64).parse()?);
    record.image_hash = Some("d".repeat(64));
    record.conditions = Conditions {
        suite: None,
        experiment: Some(fsx::digest::sha256_hex(format!("{commit} {file}")).parse()?),
        load: Some(50),
        alone: Some(false),
    };
    Ok(record)
}

/// Records `count` verdicts; `test` is the commit and the test of each. Returns the time until all are durable.
pub async fn record_all(
    writer: &Writer,
    count: usize,
    test: impl Fn(usize) -> Result<(CommitId, usize)> + Clone + Send + 'static,
) -> Result<Duration> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (writer, test) = (writer.clone(), test.clone());
            tokio::spawn(async move {
                for number in (task..count).step_by(TASKS) {
                    let (commit, test) = test(number)?;
                    writer.record(record(&commit, test)?).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(start.elapsed())
}

/// Writes blobs of the commits from 1 on that are equal to the one of commit 0. The writer would need minutes.
pub fn copy_blobs(dir: &Path, commits: usize) -> Result<()> {
    let results = Reader::open(dir)?.commit(&commit(0)?)?.context("no results")?;
    for number in 1..commits {
        let mut results = results.clone();
        results.commit = commit(number)?;
        let bytes = results::codec::encode_commit(&results, results::codec::Mark::default());
        std::fs::write(dir.join(format!("{}.capnp", results.commit)), bytes)?;
    }
    Ok(())
}

/// The median of some runs, in ms.
pub fn median(mut run: impl FnMut() -> Result<usize>) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        anyhow::ensure!(run()? > 0, "nothing was read");
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(millis(times[times.len() / 2]))
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
