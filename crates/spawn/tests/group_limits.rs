//! The limits of a control group act on all of its processes together.
//!
//! Needs a delegated group of cgroup v2 with the controllers `memory` and `pids` (docs/running-a-farm.md): that of a
//! systemd unit, or one in a guest with a distribution kernel.

use spawn::{Cmd, GroupLimits, Groups, Limits};

/// Starts two processes that use 48 MiB each.
const HOGS: &str = "hog() { local text; text=$(head -c 48M /dev/zero | tr '\\0' x); sleep 2; }
                    hog & hog & wait; echo survived";
/// Starts 12 processes.
const FORKS: &str = "for ((n = 0; n < 12; n++)); do sleep 3 & done; wait; echo survived";

#[tokio::test]
async fn memory_and_processes_are_limited_together() {
    if Groups::of_this_process().is_none() {
        eprintln!("skipped: memory_and_processes_are_limited_together: no delegated group of cgroup v2");
        return;
    }
    let run = async |script: &str, limits: GroupLimits| {
        let cmd = Cmd::new("bash").args(["-c", script]).group_limits(limits);
        cmd.output(Limits::seconds(120)).await.unwrap()
    };
    let memory = |bytes: u64| GroupLimits { memory: Some(bytes), processes: None };
    let exceeding = run(HOGS, memory(80 << 20)).await;
    assert!(!exceeding.exit.success() && !exceeding.text().contains("survived"), "{exceeding:?}");
    let fitting = run(HOGS, memory(400 << 20)).await;
    assert!(fitting.text().contains("survived"), "{fitting:?}");
    let processes = |count: u64| GroupLimits { memory: None, processes: Some(count) };
    let exceeding = run(FORKS, processes(8)).await;
    assert!(String::from_utf8_lossy(&exceeding.stderr).contains("fork"), "{exceeding:?}");
    let fitting = run(FORKS, processes(40)).await;
    assert!(fitting.text().contains("survived") && fitting.stderr.is_empty(), "{fitting:?}");
}
