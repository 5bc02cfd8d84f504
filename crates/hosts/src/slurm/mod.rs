//! A batch as a job of a Slurm cluster: submitted, followed, requeued with the remaining subtests, cancelled.
//!
//! The job and its submitter share a directory below the output directory, on a file system that all nodes can access.
//! The job appends events, and the submitter updates a heartbeat. A job without a live submitter exits.

mod cluster;
mod follow;
mod job;
mod tail;
mod work;

pub use cluster::{SlurmState, job_id, state, submit};
pub use follow::run;
pub use job::{Resources, SlurmJob, Task};
pub use work::work;
