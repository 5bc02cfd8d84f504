//! The public interface of the Choir, with paused time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobkit::{
    Choir, ChoirConfig, ChoirError, Executor, ExecutorSpec, ExecutorState, JobSpec, LogConfig, Needs,
    Outcome, Shutdown,
};
use tokio::time::{Instant, sleep};

fn job(name: &str, key: &str, payload: u32) -> JobSpec<u32> {
    JobSpec { batch_key: key.into(), ..JobSpec::new(name, payload) }
}

fn on(name: &str, host: &str) -> ExecutorSpec {
    ExecutorSpec { host: host.into(), ..ExecutorSpec::new(name) }
}

/// Sleeps for the seconds in each job's payload, and reports the job as done.
async fn do_jobs(mut executor: Executor<u32>) {
    while let Some(batch) = executor.claim().await {
        for job in &batch.jobs {
            sleep(Duration::from_secs(u64::from(job.payload))).await;
            batch.done(job.id);
        }
    }
}

/// Waits for the cancellation of each batch.
async fn wait_for_cancellation(mut executor: Executor<u32>) {
    while let Some(batch) = executor.claim().await {
        batch.cancelled().await;
    }
}

fn state(choir: &Choir<u32>, name: &str) -> Option<ExecutorState> {
    choir.status().executors.iter().find(|executor| executor.name == name).map(|executor| executor.state)
}

#[tokio::test(start_paused = true)]
async fn jobs_of_one_key_run_in_one_batch_and_end_once() {
    let choir = Choir::new(ChoirConfig::default());
    let mut ends = choir.ends();
    let ids = choir.submit_all((1..=5).map(|n| job(&format!("j{n}"), if n == 3 { "b" } else { "a" }, n)));
    assert_eq!(choir.job_ids(), ids);
    assert_eq!(choir.window_space(), 1995);
    let batches = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&batches);
    choir
        .add_executor(ExecutorSpec::new("e"), move |mut executor: Executor<u32>| async move {
            while let Some(batch) = executor.claim().await {
                counter.fetch_add(1, Ordering::Relaxed);
                for job in &batch.jobs {
                    assert!(batch.done(job.id));
                    assert!(!batch.done(job.id), "done once");
                }
            }
        })
        .unwrap();
    choir.join().await;
    assert_eq!(batches.load(Ordering::Relaxed), 2);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let end = ends.recv().await.unwrap();
        assert_eq!((end.outcome, end.executor.as_deref()), (Outcome::Done, Some("e")));
        seen.push(end.name.to_string());
    }
    assert_eq!(seen, ["j1", "j2", "j4", "j5", "j3"]);
    choir.shutdown(Shutdown::Drain).await;
    assert!(choir.status().executors.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_group_uses_no_more_executors_than_its_limit() {
    let choir = Choir::new(ChoirConfig::default());
    let running = Arc::new(Mutex::new(std::collections::BTreeMap::<String, (usize, usize)>::new()));
    for number in 0..10 {
        for (group, executors_max) in [("limited", Some(2)), ("free", None)] {
            let spec = job(group, &format!("{group} {number}"), number);
            choir.submit(JobSpec { group: group.into(), executors_max, ..spec });
        }
    }
    for number in 0..6 {
        let running = Arc::clone(&running);
        choir
            .add_executor(
                on(&format!("e{number}"), &format!("h{number}")),
                move |mut executor: Executor<u32>| async move {
                    while let Some(batch) = executor.claim().await {
                        let group = batch.jobs[0].name.to_string();
                        let count = |more: bool| {
                            let mut running = running.lock().unwrap();
                            let (now, most) = running.entry(group.clone()).or_default();
                            *now = if more { *now + 1 } else { *now - 1 };
                            *most = (*most).max(*now);
                        };
                        count(true);
                        sleep(Duration::from_secs(1)).await;
                        for job in &batch.jobs {
                            batch.done(job.id);
                        }
                        count(false);
                    }
                },
            )
            .unwrap();
    }
    choir.join().await;
    let most = |group: &str| running.lock().unwrap()[group].1;
    assert_eq!((most("limited"), choir.status().ended.done), (2, 20));
    assert!(most("free") >= 4);
}

#[tokio::test(start_paused = true)]
async fn needs_are_met_and_unplaceable_jobs_are_listed() {
    let choir = Choir::new(ChoirConfig::default());
    let arm = JobSpec { needs: Needs::none().is("arch", "aarch64"), ..job("arm", "k", 0) };
    choir.submit(arm);
    choir.add_executor(on("x86", "h1"), do_jobs).unwrap();
    sleep(Duration::from_secs(1)).await;
    let status = choir.status();
    assert_eq!(status.unplaceable[0].needs, "arch=aarch64");
    assert_eq!(status.unplaceable[0].pending, 1);
    let mut spec = on("arm", "h2");
    spec.tags.insert("arch".into(), "aarch64".into());
    choir.add_executor(spec, do_jobs).unwrap();
    choir.join().await;
    assert_eq!(choir.status().ended.done, 1);
    assert!(choir.status().unplaceable.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_breaks_executors_is_given_up_alone() {
    let choir = Choir::new(ChoirConfig::default());
    let mut ends = choir.ends();
    let failures = Arc::new(Mutex::new(Vec::new()));
    for (name, host) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")] {
        let failures = Arc::clone(&failures);
        choir
            .add_executor(on(name, host), move |mut executor: Executor<u32>| async move {
                while let Some(batch) = executor.claim().await {
                    sleep(Duration::from_secs(1)).await;
                    if batch.jobs.iter().any(|job| &*job.name == "poison") {
                        failures.lock().unwrap().push(executor.host().to_owned());
                        batch.infrastructure_error("out of memory");
                        continue;
                    }
                    for job in &batch.jobs {
                        batch.done(job.id);
                    }
                }
            })
            .unwrap();
    }
    tokio::task::yield_now().await;
    choir.submit_all([job("poison", "k", 1), job("neighbour", "k", 2)]);
    choir.join().await;
    let poison = ends.recv().await.unwrap();
    let Outcome::Abandoned { reason } = &poison.outcome else { panic!("{poison:?}") };
    let expected = "given up after 3 infrastructure errors, the last on ";
    assert!(reason.starts_with(expected), "{reason}");
    // In two attempts the jobs run together. In the third, each runs alone and the neighbor succeeds.
    let neighbour = ends.recv().await.unwrap();
    assert_eq!((&*neighbour.name, neighbour.outcome), ("neighbour", Outcome::Done));
    let mut hosts = failures.lock().unwrap().clone();
    hosts.sort();
    assert_eq!(hosts, ["a", "b", "c"], "each on another host");
}

#[tokio::test(start_paused = true)]
async fn an_executor_backs_off_is_quarantined_and_recovers() {
    let choir = Choir::new(ChoirConfig { max_failures: 100, ..ChoirConfig::default() });
    let broken = Arc::new(AtomicU32::new(5));
    let left = Arc::clone(&broken);
    choir.submit(job("j", "k", 0));
    choir
        .add_executor(ExecutorSpec::new("e"), move |mut executor: Executor<u32>| async move {
            while let Some(batch) = executor.claim().await {
                if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    batch.infrastructure_error("no space left");
                } else {
                    batch.done(batch.jobs[0].id);
                }
            }
        })
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(state(&choir, "e"), Some(ExecutorState::BackingOff));
    assert_eq!(choir.status().executors[0].problem.as_deref(), Some("no space left"));
    sleep(Duration::from_secs(5 + 10 + 20 + 40 + 25)).await;
    assert_eq!(state(&choir, "e"), Some(ExecutorState::Quarantined));
    assert_eq!(choir.status().unplaceable[0].pending, 1);
    let before = Instant::now();
    choir.join().await;
    assert!(before.elapsed() > Duration::from_secs(700), "{:?}", before.elapsed());
    let executor = choir.status().executors.remove(0);
    assert_eq!((executor.failures, executor.problem), (0, None));
}

#[tokio::test(start_paused = true)]
async fn cancel_and_remove_end_jobs() {
    let choir = Choir::new(ChoirConfig::default());
    let mut ends = choir.ends();
    choir.add_executor(ExecutorSpec::new("e"), wait_for_cancellation).unwrap();
    tokio::task::yield_now().await;
    let running = choir.submit(job("running", "r", 0));
    let cancelled = choir.submit(job("cancelled", "c", 0));
    let removed = choir.submit(job("removed", "d", 7));
    let other = choir.submit(job("other", "d", 8));
    sleep(Duration::from_secs(1)).await;
    assert!(choir.cancel(cancelled));
    assert!(!choir.cancel(cancelled));
    assert_eq!(choir.remove([running, cancelled, removed]), [removed]);
    assert_eq!(choir.remove_where(|job| job.name == "other" && *job.payload == 8), [other]);
    assert!(choir.cancel(running));
    choir.join().await;
    let mut outcomes = Vec::new();
    while let Ok(end) = ends.try_recv() {
        outcomes.push((end.name.to_string(), end.outcome));
    }
    let expected = [
        ("cancelled", Outcome::Cancelled),
        ("removed", Outcome::Removed),
        ("other", Outcome::Removed),
        ("running", Outcome::Cancelled),
    ];
    assert_eq!(outcomes, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
    assert_eq!(choir.status().executors[0].failures, 0, "to obey is no failure");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_can_still_be_done() {
    let choir = Choir::new(ChoirConfig::default());
    choir.add_executor(ExecutorSpec::new("e"), do_jobs).unwrap();
    let id = choir.submit(job("j", "k", 10));
    sleep(Duration::from_secs(1)).await;
    assert!(choir.cancel(id));
    choir.join().await;
    assert_eq!(choir.status().ended.done, 1);
}

#[tokio::test(start_paused = true)]
async fn put_back_and_dropped_claims_lose_no_job() {
    let choir = Choir::new(ChoirConfig::default());
    choir
        .add_executor(ExecutorSpec::new("fickle"), |mut executor: Executor<u32>| async move {
            // Drops the claim at the moment when the batch is granted.
            tokio::select! {
                biased;
                () = sleep(Duration::from_secs(1)) => {}
                _ = executor.claim() => unreachable!("the sleep is asked first"),
            }
            let batch = executor.claim().await.unwrap();
            assert_eq!(batch.jobs[0].attempt, 1);
            batch.put_back();
        })
        .unwrap();
    let submitter = choir.clone();
    sleep(Duration::from_secs(1)).await;
    submitter.submit(job("j", "k", 0));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(choir.pending_len(), 1);
    choir.add_executor(ExecutorSpec::new("e"), do_jobs).unwrap();
    choir.join().await;
    assert_eq!(choir.status().ended.done, 1);
}

#[tokio::test(start_paused = true)]
async fn executors_are_added_and_removed() {
    let choir = Choir::new(ChoirConfig::default());
    choir.add_executor(ExecutorSpec::new("e"), do_jobs).unwrap();
    assert_eq!(choir.add_executor(ExecutorSpec::new("e"), do_jobs), Err(ChoirError::NameTaken("e".into())));
    choir.submit(job("slow", "s", 100));
    sleep(Duration::from_secs(1)).await;
    assert!(choir.remove_executor("e"));
    assert!(!choir.remove_executor("f"));
    assert!(choir.add_executor(ExecutorSpec::new("e"), do_jobs).is_err(), "its last batch runs");
    assert!(choir.status().executors[0].leaving);
    choir.join().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(choir.status().ended.done, 1);
    assert!(choir.status().executors.is_empty());
    choir.add_executor(ExecutorSpec::new("e"), do_jobs).unwrap();

    choir.remove_executor("e");
    choir.add_executor(ExecutorSpec::new("lazy"), wait_for_cancellation).unwrap();
    choir.submit(job("kept", "s", 0));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(state(&choir, "lazy"), Some(ExecutorState::Busy));
    assert!(choir.abort_executor("lazy"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(state(&choir, "lazy"), None);
    assert_eq!((choir.pending_len(), choir.running_len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_loses_no_job_and_stays_in_the_status() {
    let choir = Choir::new(ChoirConfig::default());
    choir.submit(job("j", "k", 0));
    choir
        .add_executor(on("bad", "h1"), |mut executor: Executor<u32>| async move {
            let _batch = executor.claim().await;
            panic!("a bug in the body");
        })
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(state(&choir, "bad"), Some(ExecutorState::Quarantined));
    choir.add_executor(on("good", "h2"), do_jobs).unwrap();
    choir.join().await;
    assert_eq!(choir.status().ended.done, 1);
    assert!(choir.remove_executor("bad"));
    choir.shutdown(Shutdown::Drain).await;
    assert!(choir.status().executors.is_empty());
}

#[tokio::test(start_paused = true)]
async fn drain_lets_batches_end_and_abort_does_not() {
    let choir = Choir::new(ChoirConfig::default());
    choir.add_executor(ExecutorSpec::new("e"), do_jobs).unwrap();
    choir.submit_all([job("a", "a", 100), job("b", "b", 100)]);
    sleep(Duration::from_secs(1)).await;
    choir.shutdown(Shutdown::Drain).await;
    let ended = choir.status().ended;
    assert_eq!((ended.done, ended.cancelled), (1, 1));
    choir.submit(job("late", "l", 0));
    assert_eq!(choir.status().ended.cancelled, 2);
    assert!(matches!(choir.add_executor(ExecutorSpec::new("f"), do_jobs), Err(ChoirError::ShuttingDown(_))));

    let choir = Choir::new(ChoirConfig::default());
    choir.add_executor(ExecutorSpec::new("polite"), wait_for_cancellation).unwrap();
    choir.add_executor(ExecutorSpec::new("deaf"), do_jobs).unwrap();
    choir.submit_all([job("a", "a", 1000), job("b", "b", 1000)]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(choir.running_len(), 2);
    let before = Instant::now();
    choir.shutdown(Shutdown::Abort).await;
    assert!(before.elapsed() <= Duration::from_secs(11));
    assert_eq!(choir.status().ended.cancelled, 2);
}

#[tokio::test(start_paused = true)]
async fn the_window_is_refilled_below_a_mark() {
    let choir = Choir::new(ChoirConfig { window: 10, ..ChoirConfig::default() });
    choir.add_executor(ExecutorSpec::new("e"), do_jobs).unwrap();
    choir.submit_all((0..10).map(|n| job(&format!("j{n}"), &format!("k{n}"), 1)));
    choir.wait_below(4).await;
    assert!(choir.pending_len() < 4);
    assert!(choir.window_space() > 6);
    choir.wait_below(1).await;
    choir.join().await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_choir_ends_the_executors() {
    let ended = Arc::new(AtomicU32::new(0));
    let choir = Choir::new(ChoirConfig::default());
    for name in ["a", "b"] {
        let ended = Arc::clone(&ended);
        choir
            .add_executor(ExecutorSpec::new(name), |executor| async move {
                wait_for_cancellation(executor).await;
                ended.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
    }
    choir.submit(job("j", "k", 0));
    sleep(Duration::from_secs(1)).await;
    drop(choir);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ended.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn the_status_serialises_and_the_log_has_the_batches() {
    let dir = tempfile::tempdir().unwrap();
    let choir = Choir::new(ChoirConfig { logs: Some(LogConfig::new(dir.path())), ..ChoirConfig::default() });
    choir
        .add_executor(on("h/0", "h"), |mut executor: Executor<u32>| async move {
            while let Some(batch) = executor.claim().await {
                executor.log().line("hello");
                batch.cancelled().await;
            }
        })
        .unwrap();
    let id = choir.submit(JobSpec { group: "g".into(), weight: 2.0, ..job("name", "key", 0) });
    sleep(Duration::from_secs(1)).await;
    choir.submit(job("waits", "key", 0));
    let status = serde_json::to_value(choir.status()).unwrap();
    assert_eq!(status["groups"]["default"]["pending"], 1);
    assert_eq!(status["groups"]["g"]["weight"], 2.0);
    assert_eq!(status["executors"][0]["state"], "busy");
    assert_eq!(status["executors"][0]["batch"]["key"], "key");
    assert_eq!(status["executors"][0]["batch"]["jobs"][0]["name"], "name");
    choir.cancel(id);
    sleep(Duration::from_secs(1)).await;
    let log = std::fs::read_to_string(dir.path().join("h.0.log")).unwrap();
    let texts: Vec<&str> =
        log.lines().filter_map(|line| line.split_once(' ')).map(|(_, text)| text).collect();
    assert_eq!(texts[..3], ["batch 1: key, 1 job", "hello", "batch 1 ends"]);
    choir.shutdown(Shutdown::Abort).await;
}
