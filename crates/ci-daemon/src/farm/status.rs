//! What the farm reports about itself: the status snapshot and the problems in it.

use std::collections::BTreeMap;

use model::StatusSnapshot;

use super::Farm;
use crate::executor::placement;
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
        let parts = SnapshotParts {
            output_dir: &self.output_dir,
            choir: &choir,
            batches: &self.batches,
            pending: &pending,
            more_to_plan,
            ended: &self.ended,
            branches: &branches,
            problems: &problems,
        };
        snapshot(self.identity, &parts, now)
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
