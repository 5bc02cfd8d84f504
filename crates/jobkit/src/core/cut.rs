//! The size of a batch: how many of the first jobs of a lane one executor takes. Pure.
//!
//! An executor that takes a batch of the whole budget while few jobs are left keeps the others idle. So a batch is a
//! part of the executor's share of the pending work. The share shrinks with each batch, and the last batches end
//! together. Work per batch that is not in the cost of its jobs (a boot) is paid once per batch, so a batch does not
//! become smaller than a minimum.

/// A batch takes this part of the share, in percent. The rest corrects the errors of the expected durations.
const PART: u64 = 75;

/// Work that a number of executors can do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SharedWork {
    /// The total cost, in ms.
    pub(super) cost: u64,
    pub(super) executors: usize,
}

impl SharedWork {
    /// The work of each executor, rounded up.
    fn share(self) -> u64 {
        self.cost.div_ceil(u64::try_from(self.executors).unwrap_or(u64::MAX).max(1))
    }
}

/// The intended cost of a batch: a part of the largest share, at least `least`, at most `budget`. The largest, because
/// a group that may use few executors has larger shares than all jobs together.
pub(super) fn target(works: impl IntoIterator<Item = SharedWork>, least: u64, budget: u64) -> u64 {
    let works: Vec<SharedWork> = works.into_iter().collect();
    // One executor does everything: more batches would only add boots.
    if works.iter().any(|work| work.executors <= 1) {
        return budget;
    }
    let share = works.into_iter().map(SharedWork::share).max().unwrap_or(0);
    (share / 100 * PART + share % 100 * PART / 100).max(least).min(budget)
}

/// How many of the first jobs fit the target, and their total cost: at least one job, at most `most`.
pub(super) fn count(costs: impl IntoIterator<Item = u64>, target: u64, most: usize) -> (usize, u64) {
    let (mut jobs, mut total) = (0, 0_u64);
    for cost in costs.into_iter().take(most.max(1)) {
        let sum = total.saturating_add(cost);
        if jobs > 0 && sum > target {
            break;
        }
        (jobs, total) = (jobs + 1, sum);
    }
    (jobs, total)
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    const BUDGET: u64 = 600_000;

    /// What executors do that take batches of these jobs, in this order, and need `boot` per batch: the time at which the
    /// last one ends, and the number of jobs in each batch.
    fn pull(costs: &[u64], executors: usize, least: u64, boot: u64) -> (u64, Vec<usize>) {
        let mut free: BinaryHeap<Reverse<u64>> = std::iter::repeat_n(Reverse(0), executors).collect();
        let (mut rest, mut end, mut batches) = (costs, 0, Vec::new());
        while !rest.is_empty() {
            let Reverse(at) = free.pop().unwrap();
            let work = SharedWork { cost: rest.iter().sum(), executors };
            let (jobs, cost) = count(rest.iter().copied(), target([work], least, BUDGET), 1000);
            rest = &rest[jobs..];
            batches.push(jobs);
            end = end.max(at + boot + cost);
            free.push(Reverse(at + boot + cost));
        }
        (end, batches)
    }

    #[test]
    fn targets() {
        let work = |cost, executors| SharedWork { cost, executors };
        assert_eq!(target([work(1000, 4)], 10, 600), 187, "three quarters of 250");
        assert_eq!(target([work(100_000, 4)], 10, 600), 600);
        assert_eq!(target([work(100, 64)], 60, 600), 60);
        assert_eq!(target([work(1000, 10), work(1000, 2)], 10, 600), 375, "the group may use two");
        assert_eq!(target([work(100, 64), work(100, 1)], 60, 600), 600, "nothing to share");
        assert_eq!(target([work(100, 64)], 60, 30), 30, "the budget is a limit");
        assert_eq!(count([5, 5, 5], 10, 1000), (2, 10));
        assert_eq!(count([50, 5], 10, 1000), (1, 50), "a job that exceeds it runs alone");
        assert_eq!((count([1; 9], 100, 4), count([], 100, 4)), ((4, 4), (0, 0)));
        assert_eq!(count([u64::MAX, 1], u64::MAX, 9), (2, u64::MAX));
    }

    proptest! {
        #[test]
        fn no_job_is_lost_and_the_end_is_near_the_floor(
            mut costs in prop::collection::vec(prop_oneof![8 => 1..40_000_u64, 2 => 40_000..500_000_u64], 1..600),
            executors in 2..70_usize,
            boot in 0..30_000_u64,
        ) {
            let least = 60_000;
            costs.sort_unstable_by_key(|cost| Reverse(*cost));
            let (end, batches) = pull(&costs, executors, least, boot);
            prop_assert_eq!(batches.iter().sum::<usize>(), costs.len());
            let (sum, longest) = (costs.iter().sum::<u64>(), costs[0]);
            // When the last batch to end starts, no executor was idle before; it is at most the longest job, the minimum, or
            // a part of the work that was left.
            let (count, executors) = (batches.len() as u64, executors as u64);
            prop_assert!(end <= (sum + count * boot).div_ceil(executors) + boot + longest.max(least) + 1);
            // Boots do not dominate: a batch, except for the last, fills half of the minimum.
            prop_assert!(count <= 1 + sum / (least / 2), "{count} batches of {sum} ms");
        }

        /// Jobs of unknown cost have the same cost.
        #[test]
        fn jobs_of_unknown_cost_occupy_all_executors(jobs in 1..1500_usize, executors in 2..70_usize) {
            let (_, batches) = pull(&vec![30_000; jobs], executors, 60_000, 15_000);
            prop_assert_eq!(batches.iter().sum::<usize>(), jobs);
            prop_assert!(batches.len() >= executors.min(jobs / 2));
        }
    }
}
