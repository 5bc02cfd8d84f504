//! Changes of the order of pending jobs.

use jobkit::core::{BatchEnd, Claim, Scheduler};
use jobkit::{ChoirConfig, ExecutorSpec, JobId, JobSpec};

fn claim(
    scheduler: &mut Scheduler,
    executor: jobkit::core::ExecutorId,
    now: u64,
) -> (jobkit::BatchId, Vec<JobId>) {
    match scheduler.claim(executor, now) {
        Claim::Granted(grant) => (grant.batch, grant.jobs),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn the_order_of_a_running_job_applies_when_it_is_put_back() {
    let mut scheduler = Scheduler::new(&ChoirConfig::default());
    let executor = scheduler.add_executor(&ExecutorSpec::new("e"), 0);
    let mut submit = |name: &str, order| scheduler.submit(&JobSpec { order, ..JobSpec::new(name, ()) }, 0);
    let [a, b, c] = [submit("a", 0), submit("b", 1), submit("c", 2)];
    let (batch, jobs) = claim(&mut scheduler, executor, 0);
    assert_eq!(jobs, [a]);
    for (job, order) in [(a, 9), (b, 5), (c, -1)] {
        assert!(scheduler.reorder(job, order));
    }
    scheduler.end_batch(batch, BatchEnd::PutBack, 1);
    for expected in [c, b, a] {
        let (batch, jobs) = claim(&mut scheduler, executor, 2);
        assert_eq!(jobs, [expected]);
        assert!(scheduler.done(batch, expected));
        scheduler.end_batch(batch, BatchEnd::Finished, 3);
    }
    assert!(!scheduler.reorder(a, 0));
}

#[test]
fn jobs_of_one_batch_key_are_reordered() {
    let mut scheduler = Scheduler::new(&ChoirConfig::default());
    let executor = scheduler.add_executor(&ExecutorSpec::new("e"), 0);
    let mut submit = |key: &str, order| {
        let spec = JobSpec { order, batch_key: key.into(), ..JobSpec::new("job", ()) };
        scheduler.submit(&spec, 0)
    };
    let (x1, x2, y) = (submit("x", 0), submit("x", 1), submit("y", 2));
    for (job, order) in [(x1, 8), (x2, 7), (y, 6)] {
        scheduler.reorder(job, order);
    }
    let (batch, jobs) = claim(&mut scheduler, executor, 0);
    assert_eq!(jobs, [y]);
    scheduler.done(batch, y);
    scheduler.end_batch(batch, BatchEnd::Finished, 1);
    assert_eq!(claim(&mut scheduler, executor, 1).1, [x2, x1]);
}
