//! The status snapshot, derived from the states of the parts of the daemon. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use jobkit::{ChoirStatus, End, ExecutorState, GroupStatus, Outcome};
use model::snapshot::{BatchStatus, BranchStatus, DiskStatus, ExecutorStatus, HostStatus, JobStatus};
use model::{Drained, Paused, StatusSnapshot, UserName};

use crate::executor::run::BatchProgress;
use crate::plan::PlannedJob;

/// The maximum number of ended jobs in the snapshot.
const ENDED_MAX: usize = 100;

/// The process of the daemon.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// Its start time, in Unix seconds.
    pub started: i64,
    /// Its process id.
    pub pid: u32,
}

/// The jobs that ended most recently, newest last.
#[derive(Debug, Clone, Default)]
pub struct EndedJobs {
    jobs: VecDeque<JobStatus>,
    /// When the jobs that were running at the last update were claimed.
    claimed: HashMap<u64, i64>,
}

impl EndedJobs {
    /// Adds a job. A job that the planner took back is ignored.
    pub fn push(&mut self, end: &End<Arc<PlannedJob>>) {
        let status = match end.outcome {
            Outcome::Done => "completed",
            Outcome::Abandoned { .. } => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Removed => return,
        };
        if self.jobs.len() == ENDED_MAX {
            self.jobs.pop_front();
        }
        self.jobs.push_back(JobStatus {
            id: end.id.get(),
            name: end.name.to_string(),
            status: status.into(),
            group: Some(end.payload.branch.user.clone()),
            executor: end.executor.as_deref().map(Into::into),
            ..JobStatus::default()
        });
    }

    /// Adds the times of the jobs that ended since the last call.
    pub fn update(&mut self, choir: &ChoirStatus, now: i64) {
        for job in self.jobs.iter_mut().filter(|job| job.started.is_none()) {
            if let Some(claimed) = self.claimed.get(&job.id) {
                job.started = Some(*claimed);
                job.elapsed_secs = seconds_since(*claimed, now);
            }
        }
        let batches = choir.executors.iter().filter_map(|executor| executor.batch.as_ref());
        let jobs = batches.flat_map(|batch| batch.jobs.iter().map(|job| (job.id.get(), batch.since)));
        self.claimed = jobs.collect();
    }
}

/// The input of the snapshot.
#[derive(Debug)]
pub struct SnapshotParts<'a> {
    /// The output directory. Paths of logs are relative to it.
    pub output_dir: &'a Path,
    /// The status of the scheduler.
    pub choir: &'a ChoirStatus,
    /// The progress of each executor's batch.
    pub batches: &'a BTreeMap<String, BatchProgress>,
    /// The number of pending jobs, by commit.
    pub pending: &'a BTreeMap<String, u64>,
    /// Whether jobs are left to plan.
    pub more_to_plan: bool,
    /// The jobs that ended most recently.
    pub ended: &'a EndedJobs,
    /// The branches.
    pub branches: &'a [BranchStatus],
    /// What the hosts did.
    pub hosts: Vec<HostStatus>,
    /// The file systems that the daemon writes to.
    pub disks: Vec<DiskStatus>,
    /// The names of the executors of all slots.
    pub slots: &'a [String],
    /// The hosts and slots that take no new batches.
    pub drained: &'a [Drained],
    /// The branches with tests that do not run.
    pub paused: &'a [Paused],
    /// The problems of the other parts.
    pub problems: &'a [String],
}

/// The snapshot at `now` (Unix seconds).
#[must_use]
pub fn snapshot(identity: Identity, parts: &SnapshotParts<'_>, now: i64) -> StatusSnapshot {
    let choir = parts.choir;
    let running = choir.executors.iter().flat_map(|executor| {
        let jobs = executor.batch.iter().flat_map(|batch| batch.jobs.iter().map(move |job| (batch, job)));
        jobs.map(|(batch, job)| JobStatus {
            id: job.id.get(),
            name: job.name.clone(),
            status: "running".into(),
            group: batch.group.parse().ok(),
            executor: Some(executor.name.clone()),
            started: Some(batch.since),
            elapsed_secs: seconds_since(batch.since, now),
            log_path: log_path(executor, parts.output_dir),
        })
    });
    let mut problems = parts.problems.to_vec();
    for executor in choir.executors.iter().filter(|executor| executor.state == ExecutorState::Quarantined) {
        let reason = executor.problem.as_deref().unwrap_or("its batches fail");
        problems.push(format!("executor {} is quarantined: {reason}", executor.name));
    }
    for jobs in &choir.unplaceable {
        problems.push(format!("no host has {}; {} jobs wait", jobs.needs, jobs.pending));
    }
    StatusSnapshot {
        written: now,
        started: identity.started,
        pid: identity.pid,
        version: model::build::version().into(),
        jobs: running.chain(parts.ended.jobs.iter().cloned()).collect(),
        pending_by_group: choir
            .groups
            .iter()
            .filter_map(|(group, status)| Some((group.parse().ok()?, status.pending as u64)))
            .collect(),
        pending_by_commit: Some(parts.pending.clone()),
        more_to_plan: parts.more_to_plan,
        fairshare: by_user(choir, |group| group.usage),
        weights: by_user(choir, |group| group.weight),
        executors: executors(parts),
        drained: parts.drained.to_vec(),
        paused: parts.paused.to_vec(),
        hosts: parts.hosts.clone(),
        disks: parts.disks.clone(),
        branches: parts.branches.to_vec(),
        problems,
    }
}

fn by_user(choir: &ChoirStatus, value: fn(&GroupStatus) -> f64) -> BTreeMap<UserName, f64> {
    choir.groups.iter().filter_map(|(group, status)| Some((group.parse().ok()?, value(status)))).collect()
}

fn seconds_since(then: i64, now: i64) -> u64 {
    u64::try_from(now - then).unwrap_or(0)
}

fn log_path(executor: &jobkit::ExecutorStatus, output_dir: &Path) -> Option<String> {
    executor.log.as_deref().map(|log| below(output_dir, log))
}

fn below(dir: &Path, path: &str) -> String {
    let below = Path::new(path).strip_prefix(dir).ok().and_then(Path::to_str);
    below.unwrap_or(path).to_owned()
}

/// The executors, those of drained slots included: the scheduler no longer has them.
fn executors(parts: &SnapshotParts<'_>) -> Vec<ExecutorStatus> {
    let known = &parts.choir.executors;
    let missing = parts.slots.iter().filter(|name| {
        parts.drained.iter().any(|drained| drained.place.has(name))
            && !known.iter().any(|executor| executor.name == **name)
    });
    let drained = missing.map(|name| ExecutorStatus {
        host: name.rsplit_once('/').map_or(name.as_str(), |(host, _)| host).into(),
        name: name.clone(),
        state: "drained".into(),
        ..ExecutorStatus::default()
    });
    known.iter().map(|executor| shown(executor, parts)).chain(drained).collect()
}

fn shown(executor: &jobkit::ExecutorStatus, parts: &SnapshotParts<'_>) -> ExecutorStatus {
    let batch = executor.batch.as_ref().map(|batch| {
        let progress = parts.batches.get(&executor.name).map(|progress| progress.status.clone());
        BatchStatus { started: batch.since, ..progress.unwrap_or_default() }
    });
    ExecutorStatus {
        name: executor.name.clone(),
        host: executor.host.clone(),
        state: executor.state.label().into(),
        batch,
        current_jobs: executor.batch.iter().flat_map(|batch| &batch.jobs).map(|job| job.id.get()).collect(),
        log_path: log_path(executor, parts.output_dir),
        problem: executor.problem.clone(),
    }
}

#[cfg(test)]
mod tests {
    use jobkit::{EndCounts, Unplaceable};
    use model::Stopped;

    use super::*;

    fn id<T: serde::de::DeserializeOwned>(number: u64) -> T {
        serde_json::from_value(number.into()).unwrap()
    }

    fn executor(name: &str, state: ExecutorState) -> jobkit::ExecutorStatus {
        jobkit::ExecutorStatus {
            name: name.into(),
            host: "local".into(),
            state,
            since: 5,
            rests_until: None,
            batch: None,
            failures: 0,
            on_probation: false,
            leaving: false,
            problem: None,
            log: Some("/srv/out/ci-daemon-logs/local.0.log".into()),
        }
    }

    /// Two executors: one runs a job, one is quarantined.
    fn choir() -> ChoirStatus {
        let job = jobkit::JobStatus { id: id(7), name: "0123456789ab fs.a.x".into(), cancelling: false };
        let batch = jobkit::BatchStatus {
            id: id(1),
            key: "k".into(),
            group: "kmo".into(),
            jobs: vec![job],
            done: 2,
            since: 100,
        };
        let busy = jobkit::ExecutorStatus { batch: Some(batch), ..executor("local/0", ExecutorState::Busy) };
        let quarantined = jobkit::ExecutorStatus {
            problem: Some("disk full".into()),
            ..executor("local/1", ExecutorState::Quarantined)
        };
        ChoirStatus {
            accepting: true,
            pending: 3,
            running: 1,
            ended: EndCounts::default(),
            groups: [("kmo".to_owned(), GroupStatus { weight: 2.0, usage: 61.5, pending: 3, running: 1 })]
                .into(),
            executors: vec![busy, quarantined],
            unplaceable: vec![Unplaceable { needs: "arch=aarch64".into(), pending: 3 }],
        }
    }

    #[test]
    fn jobs_that_end_have_the_time_that_they_took() {
        let ended = JobStatus { id: 7, ..JobStatus::default() };
        let mut jobs = EndedJobs { jobs: [ended].into(), ..EndedJobs::default() };
        jobs.update(&choir(), 130);
        assert_eq!(jobs.jobs[0].started, None, "it was not yet seen");
        jobs.update(&ChoirStatus { executors: Vec::new(), ..choir() }, 140);
        jobs.update(&choir(), 900);
        assert_eq!((jobs.jobs[0].started, jobs.jobs[0].elapsed_secs), (Some(100), 40));
    }

    #[test]
    fn the_fields_of_the_snapshot() {
        let choir = choir();
        let status = BatchStatus {
            test: "fs/a".into(),
            subtests: 3,
            done: 2,
            phase: "testing".into(),
            ..Default::default()
        };
        let stopped = Stopped { at: 7, by: Some("kmo".into()), reason: None };
        let parts = SnapshotParts {
            output_dir: "/srv/out".as_ref(),
            choir: &choir,
            pending: &[("1".repeat(40), 3)].into(),
            more_to_plan: true,
            batches: &[("local/0".to_owned(), BatchProgress { status })].into(),
            ended: &EndedJobs::default(),
            branches: &[],
            hosts: vec![HostStatus { name: "local".into(), tests: 9, ..HostStatus::default() }],
            disks: Vec::new(),
            slots: &["local/0".into(), "local/1".into(), "local/2".into()],
            drained: &[Drained { place: "local/2".parse().unwrap(), stopped: stopped.clone() }],
            paused: &[Paused { branch: "kmo/next".parse().unwrap(), stopped }],
            problems: &["the first".into()],
        };
        let shown = snapshot(Identity { started: 1, pid: 2 }, &parts, 200);
        assert_eq!((shown.written, shown.started, shown.pid), (200, 1, 2));
        assert_eq!((shown.pending_by_group["kmo"], shown.hosts[0].tests), (3, 9));
        assert_eq!((shown.fairshare["kmo"], shown.weights["kmo"]), (61.5, 2.0));
        let job = &shown.jobs[0];
        assert_eq!((job.id, job.status.as_str(), job.started), (7, "running", Some(100)));
        assert_eq!(job.log_path.as_deref(), Some("ci-daemon-logs/local.0.log"));
        assert_eq!((job.group.as_ref().map(UserName::as_str), job.elapsed_secs), (Some("kmo"), 100));
        assert_eq!(shown.executors[0].current_jobs, [7]);
        assert!(shown.executors[1].current_jobs.is_empty());
        assert_eq!(shown.executors[1].log_path.as_deref(), Some("ci-daemon-logs/local.0.log"));
        let batch = shown.executors[0].batch.as_ref().unwrap();
        assert_eq!((batch.test.as_str(), batch.done, batch.started), ("fs/a", 2, 100));
        assert_eq!(shown.executors[1].state, "quarantined");
        let drained = &shown.executors[2];
        assert_eq!((drained.name.as_str(), drained.state.as_str()), ("local/2", "drained"));
        assert_eq!((shown.executors.len(), shown.drained.len(), shown.paused[0].stopped.at), (3, 1, 7));
        assert_eq!(
            shown.problems,
            [
                "the first",
                "executor local/1 is quarantined: disk full",
                "no host has arch=aarch64; 3 jobs wait",
            ]
        );
    }
}
