//! Reads the input of [`regress::suspicious`]: columns of commits from the store, and single results.

use std::cell::OnceCell;

use model::{CommitId, ResultKey, StatusSnapshot};
use regress::suspicious::{
    Columns, Compared, PASSES_READ, Search, Source, SuspiciousPass, earlier, is_complete,
};
use results::{BranchEntry, CommitResults, RecentRun, TestDuration, TestEntry};

use super::Context;
use crate::filter::Filter;

/// The maximum number of results that a page reads in full.
const CANDIDATES_MAX: usize = 200;

impl Source for Context<'_> {
    fn columns(&self, commit: &CommitId) -> Option<Columns> {
        let statuses = self.store.statuses(commit)?;
        let durations = self.store.reader().durations_at(commit).ok()??;
        Columns::new(statuses, durations)
    }

    fn entry(&self, commit: &CommitId, key: &ResultKey) -> Option<TestEntry> {
        self.store.reader().entry(commit, key).ok()?
    }

    fn means(&self) -> Vec<TestDuration> {
        self.store.reader().durations().unwrap_or_default()
    }

    fn past(&self, commit: &CommitId, entry: &TestEntry) -> Vec<RecentRun> {
        self.store.reader().passes_before(commit, entry, PASSES_READ)
    }
}

/// The suspicious passes of a commit compared with `older` commits (newest first), among the tests that `filter` matches.
pub(super) fn of_commit(
    context: Context<'_>,
    filter: &Filter,
    results: &CommitResults,
    older: &[&CommitId],
) -> Vec<SuspiciousPass> {
    let snapshot = context.store.reader().snapshot().ok().flatten();
    let complete = is_complete(&results.commit, results.counts(), snapshot.as_ref());
    let compared = Compared { now: &results.commit, older, complete };
    Search::new(context, usize::MAX).find(compared, |key| filter.matches(key))
}

/// Counts the suspicious passes of the commits of one branch page.
pub(super) struct Counter<'a> {
    context: Context<'a>,
    filter: &'a Filter,
    snapshot: OnceCell<Option<StatusSnapshot>>,
    search: Search<Context<'a>>,
}

impl<'a> Counter<'a> {
    /// Counts tests that `filter` matches.
    pub(super) fn new(context: Context<'a>, filter: &'a Filter) -> Self {
        let search = Search::new(context, CANDIDATES_MAX);
        Self { context, filter, snapshot: OnceCell::new(), search }
    }

    /// The number of suspicious passes of the commit at `row` of a branch, given the counts of all its tests.
    pub(super) fn count(&mut self, entries: &[BranchEntry], row: usize) -> usize {
        let entry = &entries[row];
        let older = earlier(entries, row);
        let read = || self.context.store.reader().snapshot().ok().flatten();
        let complete = is_complete(&entry.commit, entry.counts, self.snapshot.get_or_init(read).as_ref());
        let compared = Compared { now: &entry.commit, older: &older, complete };
        self.search.find(compared, |key| self.filter.matches(key)).len()
    }
}
