//! What a search asks the repository: what the suspects change; after a result the commits of a merge, and the newest commit without the
//! first bad one.

use belief::bisect::{QuestionError, Revert, State, Suspect};
use model::{BranchRef, CommitId};
use results::TestEntry;
use results::bisections::{BisectionRecord, OUTER_MAX};

use super::super::CHANGES_MAX;
use super::super::changes::{KnownSuspect, Suspects};
use super::super::range::Chain;
use super::super::repository::GitQuestion;
use super::{Kernel, Search, does_not_build, ended, expect_listed, finished};

impl Search {
    /// What the repository is to be asked now. `tip` gives the newest commit of a branch.
    pub(in super::super) fn question(
        &self,
        tip: impl Fn(&BranchRef) -> Option<CommitId>,
    ) -> Option<GitQuestion> {
        if let Some(suspects) = self.unknown_changes() {
            return Some(GitQuestion::Changes(suspects));
        }
        if let Some(merge) = self.open_merge() {
            return Some(GitQuestion::Merged(merge));
        }
        let culprit =
            self.bisection.to_revert().filter(|culprit| self.reverted.as_ref() != Some(*culprit))?;
        Some(GitQuestion::Revert { culprit: culprit.clone(), tip: tip(&self.record.branch)? })
    }

    /// The suspects, if their changes are not known. A single one is no choice, and only kernels that the farm builds have such files.
    fn unknown_changes(&self) -> Option<Suspects> {
        let commits = self.record.commits.get(1..)?;
        let is_wanted = !self.knows_changes
            && !self.is_final()
            && self.record.builds_kernel
            && (2..=CHANGES_MAX).contains(&commits.len());
        is_wanted.then(|| Suspects {
            commits: commits.to_vec(),
            test: self.record.record.test.clone(),
            ran_at: self
                .record
                .commits
                .iter()
                .rev()
                .chain(self.record.outer_commits.iter().rev())
                .cloned()
                .collect(),
            kernels: self.kernels.iter().rev().filter_map(|kernel| kernel.stored.clone()).collect(),
        })
    }

    /// Sets what is known of the suspects.
    pub(in super::super) fn set_changes(&mut self, known: &[KnownSuspect]) {
        self.knows_changes = true;
        for KnownSuspect { commit, change, passes_on_other_base } in known {
            expect_listed(self.bisection.changes(commit, *change));
            if *passes_on_other_base {
                expect_listed(self.bisection.passes_on_other_base(commit));
            }
        }
    }

    /// The merge in which the search continues.
    fn open_merge(&self) -> Option<CommitId> {
        // A result that is verified again is only verified.
        let is_wanted = !self.is_without_merged
            && self.record.rechecks.is_none()
            && self.record.record.outer.len() < OUTER_MAX;
        match self.bisection.state() {
            State::Culprit { culprit, second_parent: Some(_), .. } if is_wanted => Some(culprit),
            _ => None,
        }
    }

    /// The merge is the result: its commits are not known.
    pub(in super::super) fn without_merged(mut self) -> Self {
        self.is_without_merged = true;
        self
    }

    /// Continues in the commits of the merge that is the result. `entry` reads the attempts at a commit.
    pub(in super::super) fn merged(
        self,
        side: Chain,
        entry: impl Fn(&CommitId) -> Option<TestEntry>,
    ) -> Result<Self, QuestionError> {
        let State::Culprit { culprit, parent, .. } = self.bisection.state() else { return Ok(self) };
        let id = self.record.record.id.clone();
        let suspects = side.commits.iter().cloned().map(Suspect::new).collect();
        let Some(bisection) = self.bisection.into_second_parent(&id, suspects) else {
            return Err(QuestionError::NoSuspects);
        };
        let bisection = bisection?;
        let mut record = BisectionRecord {
            record: bisection.record(&id),
            merges: side.merges.into_iter().collect(),
            pending: Vec::new(),
            waits_for: None,
            ..self.record
        };
        let before = std::mem::take(&mut record.commits);
        record.commits = std::iter::once(parent).chain(side.commits).chain([culprit]).collect();
        record.outer_commits.extend(before.into_iter().filter(|commit| !record.commits.contains(commit)));
        record.counted.retain(|commit, _| record.commits.contains(commit));
        record.given_up.retain(|commit, _| record.commits.contains(commit));
        // As after a restart.
        Self::resume(record, entry)
    }

    /// Runs the revert, too.
    pub(in super::super) fn with_revert(
        mut self,
        revert: Option<Revert>,
        entry: impl Fn(&CommitId) -> Option<TestEntry>,
    ) -> Self {
        self.reverted = self.bisection.to_revert().cloned();
        self.forget_revert();
        if let Some(revert) = revert {
            let commit = revert.commit.clone();
            self.bisection.set_revert(revert);
            self.revert_kernel = Kernel::default();
            // Earlier attempts are no runs of this verification.
            entry(&commit).iter().for_each(|entry| self.observe(&commit, entry));
        }
        self
    }

    /// Counts the attempts at the revert that are not counted yet.
    pub(super) fn observe_revert(&mut self, commit: &CommitId, entry: &TestEntry) {
        if self.bisection.revert().is_none_or(|revert| revert.commit != *commit) {
            return;
        }
        let counted = self.record.counted.get(commit).copied().unwrap_or(0);
        for attempt in ended(entry).into_iter().filter(|attempt| attempt.number > counted) {
            self.record.counted.insert(commit.clone(), attempt.number);
            let run = self.take_pending(commit);
            let outcome = self.revert_kernel.learn(attempt);
            let has_run = !(self.record.builds_kernel && does_not_build(attempt));
            if let Some(planned) = run.filter(|_| has_run) {
                expect_listed(self.bisection.finished(finished(planned, outcome, attempt)));
            }
        }
        self.check_revert();
    }

    /// Drops a revert that cannot be run.
    pub(super) fn check_revert(&mut self) {
        if self.revert_kernel.is_unusable(self.record.builds_kernel) {
            self.forget_revert();
            self.revert_kernel = Kernel::default();
            self.bisection.drop_revert();
        }
    }

    /// The record has no runs of a revert that is no longer one.
    fn forget_revert(&mut self) {
        let Some(commit) = self.bisection.revert().map(|revert| revert.commit.clone()) else { return };
        self.record.pending.retain(|run| run.commit != commit);
        self.record.counted.remove(&commit);
        self.record.given_up.remove(&commit);
    }

    /// The commits that the repository must keep, with their ancestors.
    pub(in super::super) fn needed(&self) -> Vec<CommitId> {
        if self.is_final() {
            return Vec::new();
        }
        let head = self.record.range().1.clone();
        std::iter::once(head).chain(self.bisection.revert().map(|revert| revert.commit.clone())).collect()
    }
}
