//! What the farm reports about itself: the status snapshot and the problems in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::HostKind;
use jobkit::{ExecutorState, ExecutorStatus};
use kernel::Cache;
use model::snapshot::DiskStatus;
use model::{HostName, StatusSnapshot};

use super::Farm;
use crate::executor::placement;
use crate::executor::run::BatchProgress;
use crate::report::host_activity::SlotUse;
pub use crate::report::snapshot::Identity;
use crate::report::snapshot::{SnapshotParts, snapshot};

impl Farm {
    /// The status snapshot at `now` (Unix seconds). `problems` are those of the other parts of the daemon.
    pub fn snapshot(&mut self, problems: &[String], now: i64) -> StatusSnapshot {
        let mut pending = BTreeMap::new();
        self.choir.remove_where(|job| {
            if job.payload.purpose.is_first() {
                *pending.entry(job.payload.commit.to_string()).or_default() += 1;
            }
            false
        });
        for commit in self.postponed.commits() {
            *pending.entry(commit.to_string()).or_default() += 1;
        }
        let more_to_plan = !self.window.is_exhausted(&mut self.verdicts);
        let branches: Vec<_> = self.view.branches.iter().map(|(name, branch)| branch.status(name)).collect();
        let problems: Vec<String> = self.problems().into_iter().chain(problems.iter().cloned()).collect();
        let choir = self.choir.status();
        self.ended.update(&choir, now);
        let batches = &self.batches;
        let slots = self.slots();
        let used = choir.executors.iter().map(|executor| slot_use(batches, executor));
        let drained = slots.iter().filter(|name| self.controls.is_drained(name));
        let drained = drained.filter_map(|name| Some((name.rsplit_once('/')?.0, SlotUse::Broken)));
        self.activity.sample(used.chain(drained), now);
        self.report_this_machine(now);
        let parts = SnapshotParts {
            output_dir: &self.output_dir,
            choir: &choir,
            batches: &self.batches,
            pending: &pending,
            more_to_plan,
            ended: &self.ended,
            branches: &branches,
            hosts: self.activity.status(now),
            disks: self.disks(),
            slots: &slots,
            drained: &self.controls.drained,
            paused: &self.controls.paused,
            problems: &problems,
        };
        snapshot(self.identity, &parts, now)
    }

    /// Reports the state of this machine, if it is a host: it also has one while nothing runs.
    fn report_this_machine(&mut self, now: i64) {
        let hosts = &self.view.config.hosts;
        let is_local = |host: &HostName| hosts.get(host).is_none_or(|host| host.kind == HostKind::Local);
        let slots = placement::slots(&self.view.config);
        let Some((host, _)) = slots.iter().find(|(host, _)| is_local(host)) else { return };
        let report = kernel::host_report(&cache_dir().unwrap_or_default());
        self.activity.report(host.as_str(), report, now);
    }

    /// The file systems of this machine that the farm fills.
    fn disks(&self) -> Vec<DiskStatus> {
        let cache = cache_dir();
        let paths = [("results", Some(self.output_dir.clone())), ("cache", cache)];
        let disk = |(name, path): (&str, Option<PathBuf>)| {
            let (free, total) = fsx::own::space(&path?).ok()?;
            Some(DiskStatus { name: name.into(), free, total })
        };
        paths.into_iter().filter_map(disk).collect()
    }

    fn problems(&self) -> Vec<String> {
        let config = &self.view.config;
        let mut problems: Vec<String> = self.alarms.iter().cloned().collect();
        problems.extend(self.view.problems.iter().cloned());
        if config.top.output_dir != self.output_dir {
            let dir = config.top.output_dir.display();
            problems.push(format!("output_dir = {dir} takes effect when the daemon restarts"));
        }
        problems.extend(placement::unserved(config));
        if placement::slots(config).is_empty() {
            problems.push("no host can run anything; add [host.local] with slots = N".into());
        }
        problems.extend(self.view.fetch_errors());
        problems.extend(self.window.problems());
        problems
    }
}

/// The cache of this machine.
fn cache_dir() -> Option<PathBuf> {
    Cache::from_env(|name| std::env::var_os(name)).ok().map(|cache| cache.dir)
}

/// The host of an executor, and what its slot is used for.
fn slot_use<'a>(
    batches: &BTreeMap<String, BatchProgress>,
    executor: &'a ExecutorStatus,
) -> (&'a str, SlotUse) {
    let phase = batches.get(&executor.name).map(|batch| batch.status.phase.as_str());
    let usage = match (executor.state, phase) {
        (ExecutorState::Idle, _) => SlotUse::Idle,
        (ExecutorState::Busy, Some("booting")) => SlotUse::Booting,
        (ExecutorState::Busy, Some("testing")) => SlotUse::Testing,
        (ExecutorState::Busy, _) => SlotUse::Building,
        _ => SlotUse::Broken,
    };
    (&executor.host, usage)
}
