//! The status snapshot, made from what the parts say about themselves. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use jobkit::{ChoirStatus, End, ExecutorState, Outcome};
use model::StatusSnapshot;
use model::snapshot::{BatchStatus, BranchStatus, ExecutorStatus, FairShare, JobStatus};

use crate::executor::run::BatchProgress;
use crate::plan::PlannedJob;

/// How many ended jobs are shown.
const ENDED: usize = 100;

/// Who the daemon is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// When it started, Unix seconds.
    pub started: i64,
    /// Its process id.
    pub pid: u32,
}

/// Jobs that ended lately, the newest last.
#[derive(Debug, Clone, Default)]
pub struct EndedJobs(VecDeque<JobStatus>);

impl EndedJobs {
    /// Another one. What was only taken back is not shown.
    pub fn push(&mut self, end: &End<Arc<PlannedJob>>) {
        let status = match end.outcome {
            Outcome::Done => "done",
            Outcome::Abandoned { .. } => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Removed => return,
        };
        if self.0.len() == ENDED {
            self.0.pop_front();
        }
        self.0.push_back(JobStatus {
            id: end.id.get(),
            name: end.name.to_string(),
            status: status.into(),
            executor: end.executor.as_deref().map(Into::into),
            started: None,
            log: None,
        });
    }
}

/// What the snapshot is made from.
#[derive(Debug)]
pub struct SnapshotParts<'a> {
    /// Where the results are; logs are named from here.
    pub output_dir: &'a Path,
    /// The scheduler's own.
    pub choir: &'a ChoirStatus,
    /// What the executors say about their batches, by executor.
    pub batches: &'a BTreeMap<String, BatchProgress>,
    /// How many jobs wait, by commit.
    pub pending: &'a BTreeMap<String, u64>,
    /// Whether there is more than the window holds.
    pub more_to_plan: bool,
    /// Jobs that ended.
    pub ended: &'a EndedJobs,
    /// The branches.
    pub branches: &'a [BranchStatus],
    /// What is wrong.
    pub problems: &'a [String],
}

/// The snapshot at `now` (Unix seconds).
#[must_use]
pub fn snapshot(identity: Identity, parts: &SnapshotParts<'_>, now: i64) -> StatusSnapshot {
    let choir = parts.choir;
    let running = choir.executors.iter().flat_map(|executor| {
        executor.batch.iter().flat_map(|batch| &batch.jobs).map(|job| JobStatus {
            id: job.id.get(),
            name: job.name.clone(),
            status: "running".into(),
            executor: Some(executor.name.clone()),
            started: executor.batch.as_ref().map(|batch| batch.since),
            log: executor.log.as_deref().map(|log| below(parts.output_dir, log)),
        })
    });
    let mut problems = parts.problems.to_vec();
    for executor in choir.executors.iter().filter(|executor| executor.state == ExecutorState::Quarantined) {
        let why = executor.problem.as_deref().unwrap_or("its batches fail");
        problems.push(format!("executor {} is quarantined: {why}", executor.name));
    }
    for jobs in &choir.unplaceable {
        problems.push(format!("{} jobs need {}, which no host has", jobs.pending, jobs.needs));
    }
    StatusSnapshot {
        written: now,
        started: identity.started,
        pid: identity.pid,
        version: model::build::version().into(),
        jobs: running.chain(parts.ended.0.iter().cloned()).collect(),
        pending_by_group: choir
            .groups
            .iter()
            .filter_map(|(group, status)| Some((group.parse().ok()?, status.pending as u64)))
            .collect(),
        pending_by_commit: Some(parts.pending.clone()),
        more_to_plan: parts.more_to_plan,
        fairshare: choir
            .groups
            .iter()
            .filter_map(|(group, status)| {
                let share = FairShare { weight: status.weight, usage: status.usage };
                Some((group.parse().ok()?, share))
            })
            .collect(),
        executors: choir.executors.iter().map(|executor| shown(executor, parts.batches)).collect(),
        branches: parts.branches.to_vec(),
        problems,
    }
}

fn below(dir: &Path, path: &str) -> String {
    let below = Path::new(path).strip_prefix(dir).ok().and_then(Path::to_str);
    below.unwrap_or(path).to_owned()
}

fn shown(executor: &jobkit::ExecutorStatus, batches: &BTreeMap<String, BatchProgress>) -> ExecutorStatus {
    let batch = executor.batch.as_ref().map(|batch| {
        let told = batches.get(&executor.name).map(|doing| doing.status.clone());
        BatchStatus { started: batch.since, ..told.unwrap_or_default() }
    });
    ExecutorStatus {
        name: executor.name.clone(),
        host: executor.host.clone(),
        state: executor.state.label().into(),
        batch,
        problem: executor.problem.clone(),
    }
}

#[cfg(test)]
mod tests {
    use jobkit::{EndCounts, GroupStatus, Unplaceable};

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

    #[test]
    fn what_clients_read() {
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
        let sick = jobkit::ExecutorStatus {
            problem: Some("disk full".into()),
            ..executor("local/1", ExecutorState::Quarantined)
        };
        let choir = ChoirStatus {
            accepting: true,
            pending: 3,
            running: 1,
            ended: EndCounts::default(),
            groups: [("kmo".to_owned(), GroupStatus { weight: 2.0, usage: 61.5, pending: 3, running: 1 })]
                .into(),
            executors: vec![busy, sick],
            unplaceable: vec![Unplaceable { needs: "arch=aarch64".into(), pending: 3 }],
        };
        let told = BatchStatus {
            test: "fs/a".into(),
            subtests: 3,
            done: 2,
            phase: "testing".into(),
            ..Default::default()
        };
        let parts = SnapshotParts {
            output_dir: "/srv/out".as_ref(),
            choir: &choir,
            pending: &[("1".repeat(40), 3)].into(),
            more_to_plan: true,
            batches: &[("local/0".to_owned(), BatchProgress { status: told, built: None })].into(),
            ended: &EndedJobs::default(),
            branches: &[],
            problems: &["the first".into()],
        };
        let shown = snapshot(Identity { started: 1, pid: 2 }, &parts, 200);
        assert_eq!((shown.written, shown.started, shown.pid), (200, 1, 2));
        assert_eq!(shown.pending_by_group["kmo"], 3);
        assert_eq!(shown.fairshare["kmo"], FairShare { weight: 2.0, usage: 61.5 });
        let job = &shown.jobs[0];
        assert_eq!((job.id, job.status.as_str(), job.started), (7, "running", Some(100)));
        assert_eq!(job.log.as_deref(), Some("ci-daemon-logs/local.0.log"));
        let batch = shown.executors[0].batch.as_ref().unwrap();
        assert_eq!((batch.test.as_str(), batch.done, batch.started), ("fs/a", 2, 100));
        assert_eq!(shown.executors[1].state, "quarantined");
        assert_eq!(
            shown.problems,
            [
                "the first",
                "executor local/1 is quarantined: disk full",
                "3 jobs need arch=aarch64, which no host has",
            ]
        );
    }
}
