//! The commands of Slurm and their output. Pure.

use spawn::{Cmd, Exit};

use super::job::{Resources, SlurmJob, spool};

/// The state of a job, as `squeue` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlurmState {
    /// It is queued, possibly after a requeue.
    Pending,
    /// It is running, starting or completing.
    Active,
    /// It has ended, with this state.
    Ended(String),
    /// The cluster has no such job.
    Unknown,
    /// The cluster does not respond, with the reason.
    Unavailable(String),
}

/// Parses the output of `squeue --noheader --format=%T --states=all --jobs=ID`.
#[must_use]
pub fn state(exit: Exit, stdout: &str, stderr: &str) -> SlurmState {
    let word = stdout.lines().map(str::trim).find(|line| !line.is_empty());
    match (exit.success(), word) {
        (true, None) => SlurmState::Unknown,
        (true, Some("PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SUSPENDED")) => {
            SlurmState::Pending
        }
        (true, Some("RUNNING" | "CONFIGURING" | "COMPLETING" | "STAGE_OUT" | "SIGNALING" | "RESIZING")) => {
            SlurmState::Active
        }
        (true, Some(word)) => SlurmState::Ended(word.to_lowercase().replace('_', " ")),
        (false, _) if stderr.contains("Invalid job id") => SlurmState::Unknown,
        (false, _) => {
            let line = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
            SlurmState::Unavailable(line.unwrap_or("squeue printed no error").into())
        }
    }
}

/// Parses the output of `sbatch --parsable`: `12` or `12;cluster`.
#[must_use]
pub fn job_id(stdout: &str) -> Option<u64> {
    stdout.lines().last()?.trim().split(';').next()?.parse().ok()
}

/// The name of a job.
pub(super) fn job_name(slot: &str) -> String {
    format!("ktest-{slot}")
}

/// The command that submits a job, with its script on standard input.
#[must_use]
pub fn submit(job: &SlurmJob) -> Cmd {
    let Resources { mem_mib, cpus, time, constraint, partition, account, exclusive } = &job.resources;
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
    if *exclusive {
        cmd = cmd.arg("--exclusive");
    }
    cmd.input(script(job))
}

/// The script of a job. It sets PATH and HOME, because the environment of the submitter is not passed on.
fn script(job: &SlurmJob) -> String {
    let mut command = Cmd::new(&job.ktest);
    if let Some(dir) = &job.cache_dir {
        command = command.arg("--cache-dir").arg(dir);
    }
    let command = command.args(["host", "slurm-job"]).arg(spool(&job.task.out));
    let home = "HOME=$(getent passwd \"$(id -u)\" | cut -d: -f6)";
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ["#!/bin/sh", path, home, "export PATH HOME", &format!("exec {command}"), ""].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::RemoteOrder;
    use crate::slurm::job::{MAX_TIME, Task};
    use std::time::Duration;

    fn job() -> SlurmJob {
        let resources = Resources::declared(2048, Some(2), Duration::from_secs(600), 3, "aarch64".into());
        SlurmJob {
            name: "big".into(),
            slot: "ab-0".into(),
            resources: Resources { partition: Some("kernel".into()), ..resources },
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
                    image: model::ShippedImage::default(),
                    packages: Vec::new(),
                    env: model::Env::default(),
                    suites: Vec::new(),
                    arch: None,
                    trust_domain: None,
                    verify_builds: 0,
                    kernel_repos: Vec::new(),
                },
            },
        }
    }

    #[test]
    fn the_submit_command() {
        insta::assert_snapshot!(submit(&job()), @"sbatch --parsable --requeue --nodes=1 --ntasks=1 --open-mode=append --export=NIL --job-name=ktest-ab-0 --mem=4096M --cpus-per-task=2 --time=90 --constraint=aarch64 --output=/srv/out/0/.slurm/job-log --chdir=/srv/out/0/.slurm --partition=kernel");
        let mut exclusive = job();
        exclusive.resources.exclusive = true;
        assert!(submit(&exclusive).to_string().ends_with(" --exclusive"), "{}", submit(&exclusive));
        let script = script(&job());
        assert!(
            script.ends_with("\nexec ktest --cache-dir '/srv/it'\\''s' host slurm-job /srv/out/0/.slurm\n"),
            "{script}"
        );
        let resources = Resources::declared(u64::MAX, None, Duration::MAX, 0, String::new());
        assert_eq!((resources.mem_mib, resources.cpus, resources.time), (u64::MAX, 4, MAX_TIME));
    }

    #[test]
    fn output_of_slurm() {
        assert_eq!(job_id("12\n"), Some(12));
        assert_eq!(job_id("12;big\n"), Some(12));
        assert_eq!(job_id("sbatch: error"), None);
        let ok = Exit::Code(0);
        assert_eq!(state(ok, "PENDING\n", ""), SlurmState::Pending);
        assert_eq!(state(ok, "COMPLETING\n", ""), SlurmState::Active);
        assert_eq!(state(ok, "OUT_OF_MEMORY\n", ""), SlurmState::Ended("out of memory".into()));
        assert_eq!(state(ok, "\n", ""), SlurmState::Unknown);
        let no = Exit::Code(1);
        assert_eq!(state(no, "", "slurm_load_jobs error: Invalid job id specified\n"), SlurmState::Unknown);
        let away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)";
        assert_eq!(state(no, "", away), SlurmState::Unavailable(away.into()));
    }
}
