//! The health of one executor: derives pauses of increasing length from successful and failed batches.
//!
//! A batch can fail because of its executor or because of its jobs, and the owners of the jobs can make them fail on
//! purpose, also together and on all executors. Only a batch of another group shows which it is. So the groups whose
//! batches failed since the last success are suspects: a pause longer than the first back-off applies to them only,
//! and all other groups come before them.

use super::GroupId;
use crate::config::{HealthConfig, ms};

/// The failures of an executor and its pause.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// Consecutive infrastructure errors, of which those count that happened while no other group could take the
    /// executor.
    pub(super) failures: u32,
    /// The groups of the failed batches.
    suspects: Vec<GroupId>,
    quarantines: u32,
    /// The current pause, if any.
    pub(super) pause: Option<Pause>,
}

/// A batch that ended with an infrastructure error.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedBatch {
    /// The group of its jobs.
    pub(super) group: GroupId,
    /// Whether groups other than the suspects have jobs for the executor.
    pub(super) others_wait: bool,
}

/// A pause with its end in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    BackOff(u64),
    /// `None` means until the executor is removed.
    Quarantine(Option<u64>),
}

impl Pause {
    pub(super) fn until(self) -> Option<u64> {
        match self {
            Self::BackOff(until) => Some(until),
            Self::Quarantine(until) => until,
        }
    }
}

impl Health {
    /// A batch succeeded.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether batches of the group failed since the last success.
    pub(super) fn suspects(&self, group: GroupId) -> bool {
        self.suspects.contains(&group)
    }

    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Whether a group that is not a suspect can take the executor in spite of its pause.
    pub(super) fn is_open_to_others(&self) -> bool {
        self.failures > 1 && self.pause.is_some_and(|pause| pause.until().is_some())
    }

    /// Records a failed batch. `salt` lengthens the pause by up to 25 %, so that executors that fail together resume at
    /// different times.
    pub(super) fn failed(
        &mut self,
        now: u64,
        config: &HealthConfig,
        salt: u64,
        failed: FailedBatch,
    ) -> Pause {
        if !self.suspects(failed.group) {
            self.suspects.push(failed.group);
        }
        if !failed.others_wait || self.failures == 0 {
            self.failures = self.failures.saturating_add(1);
        }
        let pause = if failed.others_wait {
            Pause::BackOff(now.saturating_add(spread(ms(config.backoff), salt)))
        } else if self.failures >= config.quarantine_after.max(1) {
            let length = doubled(ms(config.quarantine), self.quarantines, ms(config.quarantine_max));
            self.quarantines = self.quarantines.saturating_add(1);
            Pause::Quarantine(Some(now.saturating_add(spread(length, salt))))
        } else {
            let length = doubled(ms(config.backoff), self.failures - 1, ms(config.backoff_max));
            Pause::BackOff(now.saturating_add(spread(length, salt)))
        };
        self.pause = Some(pause);
        pause
    }

    /// Its body panicked.
    pub(super) fn crashed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.pause = Some(Pause::Quarantine(None));
    }

    pub(super) fn on_probation(&self) -> bool {
        self.pause.is_none() && self.quarantines > 0
    }

    pub(super) fn quarantined(&self) -> bool {
        matches!(self.pause, Some(Pause::Quarantine(_)))
    }
}

fn doubled(first: u64, times: u32, most: u64) -> u64 {
    first.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX)).min(most)
}

fn spread(length: u64, salt: u64) -> u64 {
    let part = u128::from(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56);
    let more = u128::from(length) * part / 1024;
    length.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(group: u64, others_wait: bool) -> FailedBatch {
        FailedBatch { group: GroupId(group), others_wait }
    }

    fn config() -> HealthConfig {
        HealthConfig {
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(3),
            quarantine_after: 4,
            quarantine: Duration::from_secs(100),
            quarantine_max: Duration::from_secs(150),
        }
    }

    #[test]
    fn pauses_double_up_to_quarantine_and_a_successful_batch_resets_them() {
        let mut health = Health::default();
        let pauses: Vec<Pause> = (0..6).map(|_| health.failed(0, &config(), 0, of(1, false))).collect();
        assert_eq!(
            pauses,
            [
                Pause::BackOff(1000),
                Pause::BackOff(2000),
                Pause::BackOff(3000),
                Pause::Quarantine(Some(100_000)),
                Pause::Quarantine(Some(150_000)),
                Pause::Quarantine(Some(150_000)),
            ]
        );
        health.pause = None;
        assert!(health.on_probation());
        health.succeeded();
        assert!(!health.on_probation());
        assert_eq!(health.failed(0, &config(), 0, of(1, false)), Pause::BackOff(1000));
    }

    #[test]
    fn suspects_cannot_quarantine_an_executor_that_others_wait_for() {
        let mut health = Health::default();
        for group in 0..20 {
            assert_eq!(health.failed(0, &config(), 0, of(group % 3, true)), Pause::BackOff(1000));
            assert!(!health.is_open_to_others(), "it is soon free for all");
        }
        assert!((0..3).all(|group| health.suspects(GroupId(group))) && !health.suspects(GroupId(3)));
        // The last group that waits fails, too: the executor is the cause.
        let pauses: Vec<Pause> = (0..2).map(|_| health.failed(0, &config(), 0, of(3, false))).collect();
        assert_eq!(pauses, [Pause::BackOff(2000), Pause::BackOff(3000)]);
        assert!(matches!(health.failed(0, &config(), 0, of(3, false)), Pause::Quarantine(_)));
        assert!(health.is_open_to_others(), "a group whose batches did not fail here can take it");
        // During probation, a suspect fails while others wait.
        assert_eq!(health.failed(0, &config(), 0, of(1, true)), Pause::BackOff(1000));
        health.succeeded();
        assert!((0..4).all(|group| !health.suspects(GroupId(group))) && !health.is_open_to_others());
        health.crashed();
        assert!(!health.is_open_to_others());
    }

    #[test]
    fn pauses_do_not_overflow_and_spread_at_most_a_quarter() {
        assert_eq!(doubled(u64::MAX / 2, 70, u64::MAX), u64::MAX);
        assert_eq!(doubled(0, 3, 9), 0);
        for salt in 0..100 {
            assert!((1000..=1250).contains(&spread(1000, salt)));
        }
        assert!(spread(u64::MAX, 7) == u64::MAX);
    }
}
