//! Verdicts that a batch inherits: the kernel is ready, and its tests ran in the same experiment at other commits. If they ran only
//! with another image of the same code, the batch waits for an idle slot.

use std::sync::Arc;

use model::ExperimentKey;
use results::notes::Note;

use super::run::{BatchRun, ExecutorEvent};
use crate::inherit;
use crate::plan::{PlannedJob, Purpose};

impl BatchRun<'_> {
    /// If all jobs have verdicts of the same experiment at other commits, records them for this commit. Returns true then.
    pub(super) async fn inherit(&mut self, experiment: ExperimentKey) -> results::Result<bool> {
        let jobs = &self.batch.jobs;
        if !self.may_inherit() {
            return Ok(false);
        }
        let (reader, commit) = (self.slot.writer.reader(), &self.first.commit);
        // Without a verdict, nothing would be recorded, and the job would be lost.
        let find = |key| {
            reader
                .same_experiment(commit, key, experiment)
                .filter(|(_, entry)| entry.decisive.status.is_final())
        };
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

    /// If all jobs have verdicts at other commits whose kernels have the same code, postpones them until a slot is idle. Returns
    /// true then.
    pub(super) fn postpone(&mut self, experiment: ExperimentKey, code: Option<ExperimentKey>) -> bool {
        let Some(code) = code else { return false };
        let note =
            |note| self.slot.writer.note(note).inspect_err(|error| self.log.line(error.to_string())).is_ok();
        if !note(Note::Code { experiment, code }) || !self.may_inherit() {
            return false;
        }
        let (reader, commit) = (self.slot.writer.reader(), &self.first.commit);
        let jobs = self.batch.jobs.iter().map(|job| &job.payload);
        let find = |job: &Arc<PlannedJob>| Some((job.key.clone(), reader.same_code(commit, &job.key, code)?));
        let Some(tests) = jobs.clone().map(find).collect::<Option<Vec<_>>>() else { return false };
        let line = format!(
            "{} tests ran with the same code at other commits; they wait for an idle slot",
            tests.len()
        );
        if !note(Note::SameCode { commit: commit.clone(), tests }) {
            return false;
        }
        let _ = self.slot.events.send(ExecutorEvent::Postponed(jobs.cloned().collect()));
        for job in &self.batch.jobs {
            self.batch.done(job.id);
        }
        self.log.line(line);
        self.state.complete();
        true
    }

    /// Whether all jobs are first attempts whose verdicts can be those of other commits.
    fn may_inherit(&self) -> bool {
        self.batch.jobs.iter().all(|job| job.payload.purpose == Purpose::First && job.payload.inherit)
    }
}
