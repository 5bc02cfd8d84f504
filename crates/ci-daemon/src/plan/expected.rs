//! The expected duration of a subtest, from its newest runs. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use config::HostKind;
use model::{Arch, HostName};
use results::RecentRun;

/// The number of runs of a class of hosts that count.
pub(crate) const RUNS: usize = 20;

/// Hosts of equal kind and architecture. Runs take about as long on all of them.
pub(crate) type HostClass = Option<(HostKind, Arch)>;

/// The smallest value that is not below `percent` of the values (the nearest rank). `None` if there are none.
pub(crate) fn percentile(values: &mut [Duration], percent: usize) -> Option<Duration> {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    (!values.is_empty()).then(|| *values.select_nth_unstable(rank - 1).1)
}

/// The expected duration from the runs of a subtest, newest first: the 75th percentile of the newest 20 on a class of
/// hosts. Of several classes, the slowest counts. Runs on hosts that are not configured count if there are no others.
pub(crate) fn expected(runs: &[RecentRun], class_of: &HashMap<&HostName, HostClass>) -> Option<Duration> {
    let mut classes: BTreeMap<HostClass, Vec<Duration>> = BTreeMap::new();
    for run in runs {
        let class = run.host.as_ref().and_then(|host| class_of.get(host)).copied().flatten();
        let times = classes.entry(class).or_default();
        if times.len() < RUNS {
            times.push(run.duration);
        }
    }
    if classes.len() > 1 {
        classes.remove(&None);
    }
    classes.into_values().filter_map(|mut times| percentile(&mut times, 75)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let of = |values: &[u64], percent| {
            let mut values: Vec<Duration> = values.iter().copied().map(Duration::from_secs).collect();
            percentile(&mut values, percent).map(|found| found.as_secs())
        };
        assert_eq!((of(&[], 75), of(&[7], 75), of(&[9, 1], 75)), (None, Some(7), Some(9)));
        assert_eq!((of(&[4, 2, 3, 1], 75), of(&[1; 20], 75)), (Some(3), Some(1)));
        let twenty: Vec<u64> = (1..=20).rev().collect();
        assert_eq!((of(&twenty, 75), of(&twenty, 90), of(&twenty, 0)), (Some(15), Some(18), Some(1)));
    }

    #[test]
    fn the_newest_runs_on_the_slowest_class_of_hosts_count() {
        let names: Vec<HostName> = ["a", "b", "slow", "gone"].map(|name| name.parse().unwrap()).to_vec();
        let class = |kind| Some((kind, Arch::X86_64));
        let class_of = HashMap::from([
            (&names[0], class(HostKind::Ssh)),
            (&names[1], class(HostKind::Ssh)),
            (&names[2], class(HostKind::Local)),
        ]);
        let run = |host: usize, seconds| RecentRun {
            host: Some(names[host].clone()),
            duration: Duration::from_secs(seconds),
        };
        let of = |runs: &[RecentRun]| expected(runs, &class_of).map(|expected| expected.as_secs());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[run(3, 9), run(3, 9)]), Some(9));
        assert_eq!(of(&[run(3, 90), run(0, 5), run(1, 6)]), Some(6));
        assert_eq!(of(&[run(0, 5), run(2, 50), run(1, 6), run(2, 40)]), Some(50));
        // The runs before the newest twenty took longer.
        let runs: Vec<RecentRun> = (0..40).map(|n| run(n % 2, if n < 20 { 1 } else { 60 })).collect();
        assert_eq!(of(&runs), Some(1));
    }
}
