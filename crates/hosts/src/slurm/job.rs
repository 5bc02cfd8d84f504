//! A Slurm job as data, and the directory that it shares with its submitter.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::frame::RemoteOrder;

/// A batch for the cluster.
#[derive(Debug, Clone)]
pub struct SlurmJob {
    /// The name of the cluster in the farm.
    pub name: String,
    /// The name of the job. A new job cancels an older one with the same name.
    pub slot: String,
    /// The requested resources.
    pub resources: Resources,
    /// The `ktest` command on the nodes.
    pub ktest: String,
    /// The cache directory on the nodes.
    pub cache_dir: Option<PathBuf>,
    /// The run.
    pub task: Task,
}

/// The run of a job: `task.json` in the shared directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The path of the repository that contains the commit, on the nodes.
    pub linux_repo: PathBuf,
    /// The path of the tree that contains the tests, on the nodes.
    pub tests_dir: PathBuf,
    /// The path of the output directory, on the nodes.
    pub out: PathBuf,
    /// The order.
    pub order: RemoteOrder,
}

/// The directory that the job shares with its submitter.
pub(super) fn spool(out: &Path) -> PathBuf {
    out.join(".slurm")
}

/// The resources of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// The memory in MiB, for the guest and the build.
    pub mem_mib: u64,
    /// The number of processors.
    pub cpus: u32,
    /// The time limit.
    pub time: Duration,
    /// `--constraint`; the default is the architecture, as a feature of the nodes.
    pub constraint: String,
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--exclusive`: nodes that the job does not share.
    pub exclusive: bool,
}

/// The memory for a build, in MiB.
const BUILD_MIB: u64 = 4096;
/// The memory for QEMU and the runner, without that of the guest, in MiB.
const RUNNER_MIB: u64 = 1024;
/// The time for building and booting.
const BUILD_TIME: Duration = Duration::from_secs(3600);
/// The maximum time limit.
pub(super) const MAX_TIME: Duration = Duration::from_secs(24 * 3600);

impl Resources {
    /// The resources for the declarations of a test file: memory in MiB, processors, and the time limit of each of its
    /// `subtests`.
    #[must_use]
    pub fn declared(
        mem_mib: u64,
        cpus: Option<u32>,
        limit: Duration,
        subtests: usize,
        constraint: String,
    ) -> Self {
        let count = u32::try_from(subtests.max(1)).unwrap_or(u32::MAX);
        Self {
            mem_mib: mem_mib.saturating_add(RUNNER_MIB).max(BUILD_MIB),
            cpus: cpus.unwrap_or(4).max(1),
            time: BUILD_TIME.saturating_add(limit.saturating_mul(count)).min(MAX_TIME),
            constraint,
            partition: None,
            account: None,
            exclusive: false,
        }
    }
}
