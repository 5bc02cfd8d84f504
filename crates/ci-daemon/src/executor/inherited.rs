//! Verdicts that a batch inherits: the kernel is ready, and its tests ran in the same experiment at other commits.

use model::ExperimentKey;

use super::run::{BatchRun, ExecutorEvent};
use crate::inherit;
use crate::plan::Purpose;

impl BatchRun<'_> {
    /// If all jobs have verdicts of the same experiment at other commits, records them for this commit. Returns true then.
    pub(super) async fn inherit(&mut self, experiment: ExperimentKey) -> results::Result<bool> {
        let jobs = &self.batch.jobs;
        if !jobs.iter().all(|job| job.payload.purpose == Purpose::First && job.payload.inherit) {
            return Ok(false);
        }
        let (reader, commit) = (self.slot.writer.reader(), &self.first.commit);
        let find = |key| reader.same_experiment(commit, key, experiment);
        let found = jobs.iter().map(|job| find(&job.payload.key)).collect::<Option<Vec<_>>>();
        let Some(found) = found else { return Ok(false) };
        let domain = self.slot.tools.borrow().domain(&self.first.branch);
        inherit::record(&self.slot.writer, (commit, &domain), &found).await?;
        let tests = found.len();
        for (job, (source, entry)) in jobs.iter().zip(found) {
            let line = format!("{}: {} as at {}", job.payload.subtest, entry.decisive.status, source.short());
            self.log.line(line);
            let payload = job.payload.clone();
            if entry.may_be_flaky() {
                let outcomes = entry.outcomes();
                let _ = self.slot.events.send(ExecutorEvent::InheritedFailure { job: payload, outcomes });
            } else if inherit::is_checked(payload.inherit_check, commit, &payload.key) {
                let _ = self.slot.events.send(ExecutorEvent::CheckInherited(payload));
            }
            self.batch.done(job.id);
        }
        self.log
            .line(format!("the same kernel and tests ran at other commits: {tests} verdicts are inherited"));
        self.state.complete();
        Ok(true)
    }
}
