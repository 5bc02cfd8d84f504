//! A batch as a job of a Slurm cluster: submitted, followed, requeued with what is left, cancelled.
//!
//! The job and its follower share a folder (the output folder, on a file system that all nodes see): the job appends events
//! there, the follower gives a sign of life. A job that sees none ends itself, so it does not outlive a dead follower.

mod ask;
mod follow;
mod tail;
mod work;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use ask::{Needs, State, job_id, state, submit};
pub use follow::run;
pub use work::work;

use crate::frame::RemoteOrder;

/// A batch for the cluster.
#[derive(Debug, Clone)]
pub struct Job {
    /// What the farm calls the cluster.
    pub name: String,
    /// A name that one job at a time has; an older one of the same name is cancelled.
    pub slot: String,
    /// What it asks for.
    pub needs: Needs,
    /// The `ktest` command on the nodes.
    pub ktest: String,
    /// The cache folder on the nodes.
    pub cache_dir: Option<PathBuf>,
    /// What it does.
    pub task: Task,
}

/// What a job does, as it finds it in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The repository that has the commit; the nodes see it at this path.
    pub linux_repo: PathBuf,
    /// The tree with the tests; likewise.
    pub tests_dir: PathBuf,
    /// The output folder; likewise.
    pub out: PathBuf,
    /// What to run.
    pub order: RemoteOrder,
}

/// The folder that job and follower share.
fn spool(out: &Path) -> PathBuf {
    out.join(".slurm")
}
