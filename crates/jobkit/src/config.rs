//! The knobs of a Choir, with defaults for work that takes minutes.

use std::path::PathBuf;
use std::time::Duration;

/// The knobs of a Choir.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoirConfig {
    /// How many jobs should be pending at most; [`window_space`](crate::Choir::window_space) counts against it.
    /// Submitting more is not refused.
    pub window: usize,
    /// The time after which used executor time counts half.
    pub usage_half_life: Duration,
    /// The most jobs in one batch, however little they cost.
    pub max_batch_jobs: usize,
    /// How often a job may fail for infrastructure reasons on executors and hosts that were well before. With the last of
    /// these attempts it runs alone in its batch, so that it cannot take its neighbours down with it.
    pub max_attempts: u32,
    /// How often a job may fail for infrastructure reasons at all, executors included that were failing anyway.
    pub max_failures: u32,
    /// How long a failed job waits for another host before the same one may have it again.
    pub elsewhere: Duration,
    /// What becomes of executors that fail.
    pub health: HealthConfig,
    /// How long bodies get to end by themselves after an abort before their tasks are dropped.
    pub abort_grace: Duration,
    /// Where executors write their logs; `None`: nowhere.
    pub logs: Option<LogConfig>,
}

impl Default for ChoirConfig {
    fn default() -> Self {
        Self {
            window: 2000,
            usage_half_life: Duration::from_secs(24 * 3600),
            max_batch_jobs: 1000,
            max_attempts: 3,
            max_failures: 12,
            elsewhere: Duration::from_secs(600),
            health: HealthConfig::default(),
            abort_grace: Duration::from_secs(10),
            logs: None,
        }
    }
}

/// What becomes of an executor whose batches fail for infrastructure reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// The rest after the first failure; it doubles with every further one in a row.
    pub backoff: Duration,
    /// The longest back-off.
    pub backoff_max: Duration,
    /// The number of failures in a row that sends an executor into quarantine.
    pub quarantine_after: u32,
    /// The first quarantine; it doubles whenever the batch on probation fails too.
    pub quarantine: Duration,
    /// The longest quarantine.
    pub quarantine_max: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            backoff: Duration::from_secs(5),
            backoff_max: Duration::from_secs(300),
            quarantine_after: 5,
            quarantine: Duration::from_secs(900),
            quarantine_max: Duration::from_secs(4 * 3600),
        }
    }
}

/// Where and how executors write their logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The folder; made when the first executor is added.
    pub dir: PathBuf,
    /// The size in bytes at which a log is rotated.
    pub max_bytes: u64,
    /// How many rotated logs are kept beside the one being written.
    pub keep: u32,
}

impl LogConfig {
    /// Logs in `dir`, rotated at 8 MiB, three old ones kept.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_bytes: 8 << 20, keep: 3 }
    }
}

/// Whole ms, rounded up; what does not fit counts as the longest.
pub(crate) fn ms(duration: Duration) -> u64 {
    let up = u128::from(!duration.subsec_nanos().is_multiple_of(1_000_000));
    u64::try_from(duration.as_millis() + up).unwrap_or(u64::MAX)
}
