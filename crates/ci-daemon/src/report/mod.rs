//! The output of the daemon: the status snapshot, the progress display, the reports of `check`, `plan` and `simulate`.

pub mod host_activity;
pub mod known_issues;
pub mod preview;
pub mod progress;
pub mod simulate;
pub mod snapshot;
