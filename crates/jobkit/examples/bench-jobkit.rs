//! Measures claims and throughput: `cargo run --release -p jobkit --example bench-jobkit [-- --json FILE]`.
//!
//! Prints `name value unit` lines.

#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jobkit::{Choir, ChoirConfig, Executor, ExecutorSpec, JobSpec, Needs, Shutdown};
use tokio::sync::mpsc;

const EXECUTORS: usize = 10_000;
const SLOTS: usize = 64;
const WINDOW: usize = 2_000;
const CLAIMS: usize = 20_000;
const JOBS: usize = 2_000_000;

type Figure = (&'static str, f64, &'static str);

/// Job number `n`: in one of 8 groups, in batches of up to 20; every third batch is for one architecture only.
fn spec(n: usize) -> JobSpec<usize> {
    let needs = Needs::none().at_least("memory", 2048);
    let needs = if (n / 20).is_multiple_of(3) { needs.is("arch", "x86_64") } else { needs };
    JobSpec {
        batch_key: format!("batch {}", n / 20),
        cost: Duration::from_secs(30),
        group: format!("group {}", n / 20 % 8),
        order: i64::try_from(n).unwrap_or(i64::MAX),
        needs,
        ..JobSpec::new(format!("job {n}"), n)
    }
}

fn executor(n: usize) -> ExecutorSpec {
    let (host, slot) = (n / SLOTS, n % SLOTS);
    let mut spec = ExecutorSpec::new(format!("host{host}/{slot}"));
    spec.host = format!("host{host}");
    let arch = if host.is_multiple_of(4) { "aarch64" } else { "x86_64" };
    spec.tags.insert("arch".into(), arch.into());
    spec.amounts.insert("memory".into(), 4096);
    spec
}

/// The results of the first part.
struct Claims {
    /// In µs, sorted.
    times: Vec<f64>,
    /// The duration of a status snapshot as JSON, in ms.
    status: f64,
}

/// Measures the durations of claims. Every executor claims a batch and ends it at its next turn; the window is kept
/// full.
async fn claims() -> Result<Claims, Box<dyn Error>> {
    let choir = Choir::new(ChoirConfig { window: WINDOW, ..ChoirConfig::default() });
    let (times, mut received) = mpsc::unbounded_channel();
    let begin = Arc::new(tokio::sync::Semaphore::new(0));
    for n in 0..EXECUTORS {
        let (times, begin) = (times.clone(), Arc::clone(&begin));
        choir.add_executor(executor(n), move |mut executor: Executor<usize>| async move {
            // One claim per permit, so that the time excludes waiting for the runtime.
            while let Ok(permit) = begin.acquire().await {
                permit.forget();
                let before = Instant::now();
                let Some(batch) = executor.claim().await else { return };
                let time = before.elapsed();
                if times.send(time).is_err() {
                    return;
                }
                tokio::task::yield_now().await;
                for job in &batch.jobs {
                    batch.done(job.id);
                }
            }
        })?;
    }
    let mut submitted = 0;
    let mut taken = Vec::with_capacity(CLAIMS);
    while taken.len() < CLAIMS {
        let space = choir.window_space();
        choir.submit_all((submitted..submitted + space).map(spec));
        submitted += space;
        // Few enough that the window never becomes empty.
        begin.add_permits(8);
        for _ in 0..8 {
            taken.push(received.recv().await.ok_or("the executors are gone")?.as_secs_f64() * 1e6);
        }
    }
    let before = Instant::now();
    let size = serde_json::to_vec(&choir.status())?.len();
    let status = before.elapsed().as_secs_f64() * 1e3;
    assert!(size > EXECUTORS, "every executor is in the status");
    begin.close();
    choir.shutdown(Shutdown::Abort).await;
    taken.sort_by(f64::total_cmp);
    Ok(Claims { times: taken, status })
}

/// Jobs per second from submission to end. The window is refilled as it drains, and every end is received.
async fn throughput() -> Result<f64, Box<dyn Error>> {
    let choir = Choir::new(ChoirConfig { window: WINDOW, ..ChoirConfig::default() });
    for n in 0..SLOTS {
        choir.add_executor(
            ExecutorSpec::new(format!("slot {n}")),
            |mut executor: Executor<usize>| async move {
                while let Some(batch) = executor.claim().await {
                    for job in &batch.jobs {
                        batch.done(job.id);
                    }
                }
            },
        )?;
    }
    let specs: Vec<JobSpec<usize>> = (0..JOBS).map(|n| JobSpec { needs: Needs::none(), ..spec(n) }).collect();
    let mut ends = choir.ends();
    let over = Arc::new(AtomicBool::new(false));
    let finished = Arc::clone(&over);
    let counter = tokio::spawn(async move {
        let mut ended = 0;
        while ended < JOBS && ends.recv().await.is_some() {
            ended += 1;
        }
        finished.store(true, Ordering::Release);
        ended
    });
    let before = Instant::now();
    let mut specs = specs.into_iter();
    while specs.len() > 0 {
        choir.wait_below(WINDOW / 2).await;
        choir.submit_all(specs.by_ref().take(choir.window_space()));
    }
    choir.join().await;
    let ended = counter.await?;
    let time = before.elapsed();
    if ended != JOBS || !over.load(Ordering::Acquire) {
        return Err(format!("{ended} of {JOBS} jobs ended").into());
    }
    choir.shutdown(Shutdown::Drain).await;
    #[expect(clippy::cast_precision_loss, reason = "a few million")]
    let rate = JOBS as f64 / time.as_secs_f64();
    Ok(rate)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let json = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => None,
        (Some("--json"), Some(path)) => Some(path),
        _ => return Err("usage: bench [--json FILE]".into()),
    };
    let Claims { times, status } = claims().await?;
    let figures: [Figure; 5] = [
        ("choir_claim_p50_us", times[times.len() / 2], "us"),
        ("choir_claim_p99_us", times[times.len() * 99 / 100], "us"),
        ("choir_claim_max_us", times[times.len() - 1], "us"),
        ("choir_status_ms", status, "ms"),
        ("choir_jobs_per_s", throughput().await?, "1/s"),
    ];
    for (name, value, unit) in figures {
        println!("{name} {value:.1} {unit}");
    }
    if let Some(path) = json {
        let object: serde_json::Map<String, serde_json::Value> =
            figures.iter().map(|(name, value, _)| ((*name).to_owned(), (*value).into())).collect();
        std::fs::write(path, serde_json::to_string_pretty(&object)? + "\n")?;
    }
    Ok(())
}
