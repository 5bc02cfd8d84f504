//! What the passes after a failure prove, on pages: a question until it is believed.

use std::collections::HashMap;

use belief::{Confidence, FixClaim, FixState};
use model::{CommitId, ResultKey};
use regress::branch_history::{BranchHistory, Failure, TestId};
use regress::fix::{self, words};
use results::BranchEntry;

use super::Context;
use crate::route::BranchRef;

/// The maximum number of attempts at commits that a page reads. Further fixes are shown without the number of their runs.
const READS_MAX: usize = 200;

/// The words at the first commit that passes, and their style class: only a fix that is believed is green.
pub fn change_words(claim: Option<&FixClaim>) -> (String, &'static str) {
    match claim {
        Some(claim) if claim.state() == FixState::Fixed => ("▲ fixed".into(), "good"),
        Some(claim) => (format!("▲ {}", words(claim)), "mute"),
        None => ("▲ fixed?".into(), "mute"),
    }
}

/// What the passes since a failure prove, at a commit with one of these passes.
pub struct ClaimHere {
    pub claim: FixClaim,
    /// The commit with the first of them, if this is another one.
    since: Option<CommitId>,
}

impl ClaimHere {
    /// At the first of the passes, and at the others until the fix is believed. Nothing if the test did not fail before.
    pub fn of(context: Context<'_>, at: &BranchRef, key: &ResultKey, sha: &CommitId) -> Option<Self> {
        let history = context.store.reader().history(at, key).ok()??;
        let row = history.iter().position(|entry| entry.commit == *sha)?;
        let fixes = fix::fixes(&history);
        if let Some(change) = fixes.iter().find(|fix| fix.is_change && fix.row == row) {
            return Some(Self { claim: change.claim.clone(), since: None });
        }
        let newest = fixes.first().filter(|fix| fix.claim.state() == FixState::Unproven && row <= fix.row)?;
        let since = history.get(newest.row).map(|entry| entry.commit.clone());
        Some(Self { claim: newest.claim.clone(), since })
    }

    /// The words of the change, or `fixed? 14 of 33 runs since 2dce4baa960c`, and their style class.
    pub fn words(&self) -> (String, &'static str) {
        match &self.since {
            None => change_words(Some(&self.claim)),
            Some(since) => (format!("{} since {}", words(&self.claim), since.short()), "mute"),
        }
    }
}

/// The claims of a branch page, each read once.
pub struct Claims<'a> {
    context: Context<'a>,
    /// The history of the branch.
    pub history: &'a BranchHistory,
    /// Its commits.
    pub entries: &'a [BranchEntry],
    /// The newest failure of each test before the commit that fixes it.
    failures: HashMap<(TestId, usize), &'a Failure>,
    known: HashMap<(TestId, usize), Option<FixClaim>>,
    reads_left: usize,
}

impl<'a> Claims<'a> {
    /// No claims yet.
    pub fn new(context: Context<'a>, history: &'a BranchHistory, entries: &'a [BranchEntry]) -> Self {
        let fixed = |failure: &'a Failure| Some(((failure.test, failure.stretch.first_good?), failure));
        let failures = history.failures().iter().filter_map(fixed).collect();
        Self { context, history, entries, failures, known: HashMap::new(), reads_left: READS_MAX }
    }

    /// What is proved of the fix of a test at a row; `None` if that is not known.
    pub fn of(&mut self, test: TestId, row: usize) -> Option<&FixClaim> {
        if !self.known.contains_key(&(test, row)) {
            let found = self.read(test, row);
            self.known.insert((test, row), found);
        }
        self.known.get(&(test, row))?.as_ref()
    }

    fn read(&mut self, test: TestId, row: usize) -> Option<FixClaim> {
        let Self { context, history, entries, reads_left, .. } = self;
        let stretch = &self.failures.get(&(test, row))?.stretch;
        let key = history.name(test).parse().ok()?;
        let status = |row: usize| history.status(row, test);
        let mut is_complete = true;
        let observations = |row: usize| {
            let commit = &entries[row].commit;
            if *reads_left == 0 {
                is_complete = false;
                return Vec::new();
            }
            *reads_left -= 1;
            let entry = context.store.reader().recorded_entry(commit, &key).ok().flatten();
            entry.map(|entry| entry.observations(commit)).unwrap_or_default()
        };
        let found = fix::claim(stretch, entries.len(), status, observations, Confidence::USUAL);
        found.filter(|_| is_complete)
    }
}
