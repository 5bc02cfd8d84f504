//! Many threads in real time, with executors that drop claims and batches: every job ends exactly once.

use std::collections::HashMap;
use std::time::Duration;

use jobkit::{
    Batch, Choir, ChoirConfig, ChoirError, Executor, ExecutorSpec, HealthConfig, JobSpec, Outcome, Shutdown,
};

const JOBS: u32 = 20_000;

/// Ends a batch in a way that depends on its number.
fn end_batch(batch: Batch<u32>) {
    let half = batch.jobs.len() / 2;
    let number = batch.id().get();
    let done = if number.is_multiple_of(7) { half } else { batch.jobs.len() };
    for job in &batch.jobs[..done] {
        assert!(batch.done(job.id));
    }
    match number % 21 {
        0 => batch.put_back(),
        7 => batch.infrastructure_error("it broke"),
        _ => drop(batch),
    }
}

async fn body(mut executor: Executor<u32>) {
    for turn in 0.. {
        // Some claims are dropped.
        let claimed = if turn % 5 == 0 {
            tokio::select! {
                claimed = executor.claim() => claimed,
                () = tokio::time::sleep(Duration::from_micros(50)) => continue,
            }
        } else {
            executor.claim().await
        };
        let Some(batch) = claimed else { return };
        if turn % 3 == 0 {
            tokio::task::yield_now().await;
        }
        end_batch(batch);
    }
}

/// Removes and adds executors until the Choir shuts down.
async fn churn(choir: Choir<u32>) {
    for round in 0_u32.. {
        let name = format!("e{}", round % 100);
        if round % 2 == 0 {
            choir.remove_executor(&name);
        } else {
            choir.abort_executor(&name);
        }
        let mut spec = ExecutorSpec::new(name);
        spec.host = "churn".into();
        while let Err(error) = choir.add_executor(spec.clone(), body) {
            if matches!(error, ChoirError::ShuttingDown(_)) {
                return;
            }
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Submits all jobs. Cancels and removes some of them.
async fn submit(choir: &Choir<u32>) -> usize {
    let mut submitted = 0;
    while submitted < JOBS {
        choir.wait_below(1000).await;
        let new = choir.submit_all((submitted..JOBS.min(submitted + 500)).map(|number| JobSpec {
            batch_key: format!("k{}", number / 10),
            group: format!("g{}", number / 10 % 3),
            ..JobSpec::new(format!("j{number}"), number)
        }));
        choir.cancel(new[0]);
        choir.remove(new.iter().skip(490).copied());
        submitted += u32::try_from(new.len()).expect("few");
    }
    submitted as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_job_ends_exactly_once() {
    let none = Duration::ZERO;
    let health = HealthConfig {
        backoff: none,
        backoff_max: none,
        quarantine: none,
        quarantine_max: none,
        ..HealthConfig::default()
    };
    let choir =
        Choir::new(ChoirConfig { health, max_attempts: 20, max_failures: 20, ..ChoirConfig::default() });
    let mut ends = choir.ends();
    for number in 0..100 {
        let mut spec = ExecutorSpec::new(format!("e{number}"));
        spec.host = format!("h{}", number % 10);
        choir.add_executor(spec, body).expect("the names differ");
    }
    let churn = tokio::spawn(churn(choir.clone()));
    let submitted = submit(&choir).await;
    choir.join().await;
    choir.shutdown(Shutdown::Drain).await;
    churn.await.expect("the churn ends");

    let mut outcomes = HashMap::new();
    while let Ok(end) = ends.try_recv() {
        assert!(outcomes.insert(end.id, end.outcome).is_none(), "{} ends twice", end.name);
    }
    assert_eq!(outcomes.len(), submitted);
    let done = outcomes.values().filter(|outcome| **outcome == Outcome::Done).count();
    let abandoned = outcomes.values().filter(|outcome| matches!(outcome, Outcome::Abandoned { .. })).count();
    assert_eq!(abandoned, 0);
    assert!(done >= submitted * 9 / 10, "{done}");
    assert!(choir.status().executors.is_empty());
}
