//! A batch as a job of a Slurm cluster: submitted, followed, requeued with the remaining subtests, cancelled.
//!
//! The job and its submitter share a folder in the output folder, on a file system that all nodes see. The job appends
//! events, the submitter gives a sign of life. A job without a living submitter ends itself.

mod cluster;
mod follow;
mod job;
mod tail;
mod work;

pub use cluster::{SlurmState, job_id, state, submit};
pub use follow::run;
pub use job::{Resources, SlurmJob, Task};
pub use work::work;
