//! The settings of a Choir. The defaults suit jobs that take minutes.

use std::path::PathBuf;
use std::time::Duration;

/// The settings of a Choir.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoirConfig {
    /// The intended number of pending jobs, for [`window_space`](crate::Choir::window_space). It is not enforced.
    pub window: usize,
    /// The half-life of usage.
    pub usage_half_life: Duration,
    /// The maximum number of jobs in one batch.
    pub max_batch_jobs: usize,
    /// If set, a batch is cut below the budget when few jobs are left, so that no executor is idle and the last batches end
    /// together. This is the minimum cost of a batch that is cut. Longer jobs are first among those of equal order,
    /// longest first. `None`: batches are filled up to the budget.
    pub batch_min: Option<Duration>,
    /// The maximum number of infrastructure errors of a job on executors and hosts without other failures. In its last
    /// attempt, the job runs alone in its batch, so that it does not affect other jobs.
    pub max_attempts: u32,
    /// The maximum number of infrastructure errors of a job on any executors.
    pub max_failures: u32,
    /// How long a failed job waits for another host before it can return to the same host.
    pub other_host_wait: Duration,
    /// The pauses of executors that fail.
    pub health: HealthConfig,
    /// The time for bodies to return after an abort. Then their tasks are aborted.
    pub abort_grace: Duration,
    /// The logs of the executors; `None` for no logs.
    pub logs: Option<LogConfig>,
}

impl Default for ChoirConfig {
    fn default() -> Self {
        Self {
            window: 2000,
            usage_half_life: Duration::from_secs(24 * 3600),
            max_batch_jobs: 1000,
            batch_min: None,
            max_attempts: 3,
            max_failures: 12,
            other_host_wait: Duration::from_secs(600),
            health: HealthConfig::default(),
            abort_grace: Duration::from_secs(10),
            logs: None,
        }
    }
}

/// The pauses of an executor after infrastructure errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// The pause after the first error. It doubles with each further consecutive error.
    pub backoff: Duration,
    /// The longest back-off.
    pub backoff_max: Duration,
    /// The number of consecutive errors after which an executor is quarantined.
    pub quarantine_after: u32,
    /// The duration of the first quarantine. It doubles each time the batch on probation fails.
    pub quarantine: Duration,
    /// The maximum duration of a quarantine.
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

/// The logs of the executors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The directory, which is created with the first line.
    pub dir: PathBuf,
    /// The size in bytes at which a log is rotated.
    pub max_bytes: u64,
    /// The number of rotated logs to keep.
    pub keep: u32,
}

impl LogConfig {
    /// Logs in `dir`, rotated at 8 MiB, with three rotated logs.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_bytes: 8 << 20, keep: 3 }
    }
}

/// A duration in whole ms, rounded up, saturating.
pub(crate) fn ms(duration: Duration) -> u64 {
    let up = u128::from(!duration.subsec_nanos().is_multiple_of(1_000_000));
    u64::try_from(duration.as_millis() + up).unwrap_or(u64::MAX)
}
