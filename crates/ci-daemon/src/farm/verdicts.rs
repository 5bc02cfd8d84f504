//! Gives the planner access to the recorded verdicts.

use std::collections::HashMap;

use model::{BranchRef, CommitId, ResultKey};
use results::{KeyId, TestEntry, Writer};

use crate::plan::{JobRef, Verdicts};

/// The verdicts that a writer has recorded. Read-only.
#[derive(Debug)]
pub struct RecordedVerdicts {
    writer: Writer,
    /// The writer's numbers for the planner's keys.
    ids: Vec<KeyId>,
}

impl RecordedVerdicts {
    /// The verdicts of a writer.
    #[must_use]
    pub fn new(writer: Writer) -> Self {
        Self { writer, ids: Vec::new() }
    }

    /// The attempts of the job's test; `None` if there are none, or if they cannot be read.
    #[must_use]
    pub fn entry(&self, job: &JobRef) -> Option<TestEntry> {
        self.writer.reader().recorded_entry(&job.commit, &job.key).unwrap_or_else(|error| {
            tracing::warn!(%job, "{error}");
            None
        })
    }

    /// The results of a test at the listed commits of a branch.
    pub fn history(
        &self,
        branch: &BranchRef,
        key: &ResultKey,
    ) -> results::Result<HashMap<CommitId, TestEntry>> {
        let history = self.writer.reader().history(branch, key)?.unwrap_or_default();
        Ok(history.into_iter().filter_map(|listed| Some((listed.commit, listed.entry?))).collect())
    }

    /// Whether the job has its verdict.
    pub fn has(&self, job: &JobRef) -> results::Result<bool> {
        self.writer.has_verdict(&job.commit, &job.key)
    }
}

impl Verdicts for RecordedVerdicts {
    fn of(
        &mut self,
        commit: &CommitId,
        keys: &[ResultKey],
        each: &mut dyn FnMut(u32),
    ) -> results::Result<()> {
        for key in &keys[self.ids.len()..] {
            self.ids.push(self.writer.key_id(key));
        }
        let set = self.writer.verdicts(commit)?;
        (0u32..).zip(&self.ids).filter(|(_, id)| set.contains(**id)).for_each(|(at, _)| each(at));
        Ok(())
    }
}
