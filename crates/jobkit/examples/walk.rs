//! Two users share three hosts, one of which fails: `cargo run -p jobkit --example walk`.

#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::time::Duration;

use jobkit::{
    Choir, ChoirConfig, ChoirError, Executor, ExecutorSpec, HealthConfig, JobSpec, Needs, Shutdown,
};
use tokio::time::sleep;

/// Sleeps for the payload of each job. Every batch on the host `attic` fails.
async fn body(mut executor: Executor<Duration>) {
    while let Some(batch) = executor.claim().await {
        if executor.host() == "attic" {
            batch.infrastructure_error("no power");
            continue;
        }
        for job in &batch.jobs {
            tokio::select! {
                () = sleep(job.payload) => batch.done(job.id),
                () = batch.cancelled() => break,
            };
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), ChoirError> {
    let config = ChoirConfig {
        health: HealthConfig {
            backoff: Duration::from_millis(20),
            quarantine_after: 3,
            ..HealthConfig::default()
        },
        ..ChoirConfig::default()
    };
    let choir = Choir::new(config);
    let mut ends = choir.ends();

    for (user, weight, jobs) in [("alice", 2.0, 40), ("bob", 1.0, 40)] {
        choir.submit_all((0..jobs).map(|number| JobSpec {
            group: user.into(),
            weight,
            batch_key: format!("{user}'s {}", number / 8),
            cost: Duration::from_millis(10),
            needs: Needs::none().at_least("memory", 512),
            ..JobSpec::new(format!("{user}-{number}"), Duration::from_millis(10))
        }));
    }
    for (host, memory) in [("cellar", 1024), ("kitchen", 2048), ("attic", 4096), ("doorbell", 16)] {
        let mut spec = ExecutorSpec::new(format!("{host}/0"));
        spec.host = host.into();
        spec.amounts.insert("memory".into(), memory);
        spec.budget = Duration::from_millis(50);
        choir.add_executor(spec, body)?;
    }

    choir.wait_below(20).await;
    for (name, group) in choir.status().groups {
        println!("{name}: {:.2} s used at weight {}, {} pending", group.usage, group.weight, group.pending);
    }
    choir.join().await;
    for executor in choir.status().executors {
        println!("{}: {}. {}", executor.name, executor.state, executor.problem.unwrap_or_default());
    }
    let mut ended = 0;
    while let Ok(end) = ends.try_recv() {
        ended += 1;
        if end.outcome != jobkit::Outcome::Done {
            println!("{}: {:?}", end.name, end.outcome);
        }
    }
    println!("{ended} jobs ended");
    choir.shutdown(Shutdown::Drain).await;
    Ok(())
}
