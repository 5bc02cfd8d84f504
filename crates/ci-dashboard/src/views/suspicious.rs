//! Reads what [`regress::suspicious`] needs: the results of a commit and of the one that it is compared with.
//!
//! A branch page compares columns (names, statuses, durations) and reads only candidates in full, so that a page of
//! many commits stays cheap. A commit's view compares all results.

use std::cell::OnceCell;
use std::time::Duration;

use model::{CommitId, StatusSnapshot};
use regress::CommitStatuses;
use regress::suspicious::{
    ResultSummary, SuspiciousPass, candidates, check, is_complete, reference, suspicious_passes,
};
use results::{BranchEntry, CommitResults};

use super::Context;
use crate::filter::Filter;

/// The number of candidates that one branch page reads.
const CANDIDATES_MAX: usize = 200;

/// The suspicious passes of the commit at `row` of a branch, among the tests that `filter` matches.
pub(super) fn of_commit(
    context: Context<'_>,
    filter: &Filter,
    entries: &[BranchEntry],
    row: usize,
    results: &CommitResults,
) -> Vec<SuspiciousPass> {
    let reader = context.store.reader();
    let read = |entry: &BranchEntry| reader.commit(&entry.commit).ok().flatten();
    let Some(before) = reference(entries, row).and_then(read) else { return Vec::new() };
    let snapshot = reader.snapshot().ok().flatten();
    let mut found = suspicious_passes(&before, results, is_complete(results, snapshot.as_ref()));
    found.retain(|pass| filter.matches(pass.key.as_str()));
    found
}

/// Counts the suspicious passes of the commits of one branch page.
pub(super) struct Counter<'a> {
    context: Context<'a>,
    filter: &'a Filter,
    snapshot: OnceCell<Option<StatusSnapshot>>,
    candidates_left: usize,
}

/// The columns of one commit.
struct Columns {
    statuses: CommitStatuses,
    durations: Vec<Duration>,
}

impl Columns {
    fn summaries(&self) -> impl Iterator<Item = ResultSummary<'_>> {
        let CommitStatuses { names, statuses } = &self.statuses;
        let rows = names.iter().zip(statuses.iter()).zip(&self.durations);
        rows.map(|((key, status), duration)| ResultSummary { key, status: *status, duration: *duration })
    }
}

impl<'a> Counter<'a> {
    /// Counts tests that `filter` matches.
    pub(super) fn new(context: Context<'a>, filter: &'a Filter) -> Self {
        Self { context, filter, snapshot: OnceCell::new(), candidates_left: CANDIDATES_MAX }
    }

    /// The number of suspicious passes of the commit at `row`.
    pub(super) fn count(&mut self, entries: &[BranchEntry], row: usize) -> usize {
        let (entry, before) = (&entries[row], reference(entries, row));
        let before = before.and_then(|before| Some((before, self.columns(&before.commit)?)));
        let (Some((before, old)), Some(new)) = (before, self.columns(&entry.commit)) else { return 0 };
        let complete = entry.counts.inprogress == 0 && !self.has_work_for(&entry.commit);
        let keys = candidates(old.summaries(), new.summaries(), complete);
        let matching: Vec<&str> = keys.into_iter().filter(|key| self.filter.matches(key)).collect();
        let read = &matching[..matching.len().min(self.candidates_left)];
        self.candidates_left -= read.len();
        read.iter().filter(|key| self.is_suspicious(&before.commit, &entry.commit, key)).count()
    }

    fn is_suspicious(&self, before: &CommitId, now: &CommitId, key: &str) -> bool {
        let reader = self.context.store.reader();
        let check = || {
            let key = key.parse().ok()?;
            check(&reader.entry(before, &key).ok()??, reader.entry(now, &key).ok()?.as_ref())
        };
        check().is_some()
    }

    fn columns(&self, commit: &CommitId) -> Option<Columns> {
        let statuses = self.context.store.statuses(commit)?;
        let durations = self.context.store.reader().durations_at(commit).ok()??;
        // A blob that was replaced between the two reads may have other tests.
        (durations.len() == statuses.names.len()).then_some(Columns { statuses, durations })
    }

    /// Whether the commit may get more results.
    fn has_work_for(&self, commit: &CommitId) -> bool {
        let read = || self.context.store.reader().snapshot().ok().flatten();
        let snapshot = self.snapshot.get_or_init(read).as_ref();
        snapshot.is_some_and(|snapshot| snapshot.has_work_for(commit.as_str()))
    }
}
