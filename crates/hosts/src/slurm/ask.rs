//! What is asked of the cluster and what it answers. Pure.

use std::time::Duration;

use spawn::{Cmd, Exit};

use super::{Job, spool};

/// What a job asks of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Memory in MiB: the guest's, and what building needs beside it.
    pub mem_mib: u64,
    /// Processors.
    pub cpus: u32,
    /// Wall time.
    pub time: Duration,
    /// `--constraint`: the architecture, as a feature of the nodes, unless the configuration says otherwise.
    pub constraint: String,
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
}

/// Building takes so much memory, in MiB, at least.
const BUILD_MIB: u64 = 4096;
/// QEMU and the runner take so much beside the guest, in MiB.
const BESIDE_MIB: u64 = 1024;
/// Building and booting may take so long.
const BUILD: Duration = Duration::from_secs(3600);
/// No batch is longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Needs {
    /// From what a test file declares: memory in MiB, processors, the time limit of one of so many subtests.
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
            mem_mib: mem_mib.saturating_add(BESIDE_MIB).max(BUILD_MIB),
            cpus: cpus.unwrap_or(4).max(1),
            time: BUILD.saturating_add(limit.saturating_mul(count)).min(LONGEST),
            constraint,
            partition: None,
            account: None,
        }
    }
}

/// How a job stands, as `squeue` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It waits (again).
    Pending,
    /// It runs, or is about to begin or end.
    Active,
    /// It is over, in this word.
    Over(String),
    /// The cluster knows it no more.
    Unknown,
    /// The cluster does not answer.
    Away(String),
}

/// What `squeue --noheader --format=%T --states=all --jobs=ID` said.
#[must_use]
pub fn state(exit: Exit, stdout: &str, stderr: &str) -> State {
    let word = stdout.lines().map(str::trim).find(|line| !line.is_empty());
    match (exit.success(), word) {
        (true, None) => State::Unknown,
        (true, Some("PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SUSPENDED")) => State::Pending,
        (true, Some("RUNNING" | "CONFIGURING" | "COMPLETING" | "STAGE_OUT" | "SIGNALING" | "RESIZING")) => {
            State::Active
        }
        (true, Some(word)) => State::Over(word.to_lowercase().replace('_', " ")),
        (false, _) if stderr.contains("Invalid job id") => State::Unknown,
        (false, _) => {
            let line = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
            State::Away(line.unwrap_or("squeue said nothing").into())
        }
    }
}

/// The number in the answer of `sbatch --parsable`: `12` or `12;cluster`.
#[must_use]
pub fn job_id(stdout: &str) -> Option<u64> {
    stdout.lines().last()?.trim().split(';').next()?.parse().ok()
}

/// The name of a job.
pub(super) fn job_name(slot: &str) -> String {
    format!("ktest-{slot}")
}

/// How a job is submitted; its script is on standard input.
#[must_use]
pub fn submit(job: &Job) -> Cmd {
    let Needs { mem_mib, cpus, time, constraint, partition, account } = &job.needs;
    let spool = spool(&job.task.out);
    let mut cmd = Cmd::new("sbatch")
        .args(["--parsable", "--requeue", "--nodes=1", "--ntasks=1", "--open-mode=append", "--export=NIL"])
        .arg(format!("--job-name={}", job_name(&job.slot)))
        .arg(format!("--mem={mem_mib}M"))
        .arg(format!("--cpus-per-task={cpus}"))
        .arg(format!("--time={}", time.as_secs().div_ceil(60)))
        .arg(format!("--constraint={constraint}"))
        .arg(format!("--output={}", spool.join("job-log").display()))
        .arg(format!("--chdir={}", spool.display()));
    if let Some(partition) = partition {
        cmd = cmd.arg(format!("--partition={partition}"));
    }
    if let Some(account) = account {
        cmd = cmd.arg(format!("--account={account}"));
    }
    cmd.input(script(job))
}

/// The environment of the daemon stays here; a node's own is made from nothing.
fn script(job: &Job) -> String {
    let mut there = Cmd::new(&job.ktest);
    if let Some(dir) = &job.cache_dir {
        there = there.arg("--cache-dir").arg(dir);
    }
    let there = there.args(["host", "slurm-job"]).arg(spool(&job.task.out));
    let home = "HOME=$(getent passwd \"$(id -u)\" | cut -d: -f6)";
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ["#!/bin/sh", path, home, "export PATH HOME", &format!("exec {there}"), ""].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::RemoteOrder;
    use crate::slurm::Task;

    fn job() -> Job {
        let needs = Needs::declared(2048, Some(2), Duration::from_secs(600), 3, "aarch64".into());
        Job {
            name: "big".into(),
            slot: "ab-0".into(),
            needs: Needs { partition: Some("kernel".into()), ..needs },
            ktest: "ktest".into(),
            cache_dir: Some("/srv/it's".into()),
            task: Task {
                linux_repo: "/srv/linux.git".into(),
                tests_dir: "/srv/kt".into(),
                out: "/srv/out/0".into(),
                order: RemoteOrder {
                    commit: Some("0123456789abcdef0123456789abcdef01234567".parse().unwrap()),
                    kernel: None,
                    test: "t/a".parse().unwrap(),
                    subtests: vec!["x".parse().unwrap(), "y".parse().unwrap()],
                    merge: Vec::new(),
                    tolerate: Vec::new(),
                    packages: Vec::new(),
                    env: model::Env::default(),
                    arch: None,
                },
            },
        }
    }

    #[test]
    fn what_is_submitted() {
        insta::assert_snapshot!(submit(&job()), @"sbatch --parsable --requeue --nodes=1 --ntasks=1 --open-mode=append --export=NIL --job-name=ktest-ab-0 --mem=4096M --cpus-per-task=2 --time=90 --constraint=aarch64 --output=/srv/out/0/.slurm/job-log --chdir=/srv/out/0/.slurm --partition=kernel");
        let script = script(&job());
        assert!(
            script.ends_with("\nexec ktest --cache-dir '/srv/it'\\''s' host slurm-job /srv/out/0/.slurm\n"),
            "{script}"
        );
        let needs = Needs::declared(u64::MAX, None, Duration::MAX, 0, String::new());
        assert_eq!((needs.mem_mib, needs.cpus, needs.time), (u64::MAX, 4, LONGEST));
    }

    #[test]
    fn what_slurm_answers() {
        assert_eq!(job_id("12\n"), Some(12));
        assert_eq!(job_id("12;big\n"), Some(12));
        assert_eq!(job_id("sbatch: error"), None);
        let ok = Exit::Code(0);
        assert_eq!(state(ok, "PENDING\n", ""), State::Pending);
        assert_eq!(state(ok, "COMPLETING\n", ""), State::Active);
        assert_eq!(state(ok, "OUT_OF_MEMORY\n", ""), State::Over("out of memory".into()));
        assert_eq!(state(ok, "\n", ""), State::Unknown);
        let no = Exit::Code(1);
        assert_eq!(state(no, "", "slurm_load_jobs error: Invalid job id specified\n"), State::Unknown);
        let away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)";
        assert_eq!(state(no, "", away), State::Away(away.into()));
    }
}
