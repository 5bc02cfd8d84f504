//! Vacuity alarms on pages: which tests of a commit seem to test nothing any more, compared with the last commit before it
//! at which something passed.
//!
//! Two commits are compared by their columns (names, statuses, durations); only what is suspicious there is read in full,
//! so that a page of many commits stays cheap.

use std::cell::OnceCell;
use std::time::Duration;

use model::{CommitId, StatusSnapshot};
use results::BranchEntry;
use results::vacuity::{Alarm, Glance, Suspicion, alarm, suspects};

use super::Context;
use crate::changes::Verdicts;
use crate::filter::Filter;

/// How many suspicious tests one request looks at.
const LOOKED_AT_MAX: usize = 200;
/// How many commits of a branch's page are compared with the commit before.
pub(super) const COMMITS_MAX: usize = 100;

/// Looks for alarms; one for each request.
pub(super) struct Watch<'a> {
    context: Context<'a>,
    filter: &'a Filter,
    snapshot: OnceCell<Option<StatusSnapshot>>,
    left: usize,
}

/// The columns of one commit.
struct Columns {
    verdicts: Verdicts,
    durations: Vec<Duration>,
}

impl Columns {
    fn glances(&self) -> impl Iterator<Item = Glance<'_>> {
        let Verdicts { names, statuses } = &self.verdicts;
        let rows = names.iter().zip(statuses.iter()).zip(&self.durations);
        rows.map(|((key, status), duration)| Glance { key, status: *status, duration: *duration })
    }
}

impl<'a> Watch<'a> {
    /// For the tests that `filter` wants.
    pub(super) fn new(context: Context<'a>, filter: &'a Filter) -> Self {
        Self { context, filter, snapshot: OnceCell::new(), left: LOOKED_AT_MAX }
    }

    /// The alarms at a row of a branch's listing.
    pub(super) fn at(&mut self, entries: &[BranchEntry], row: usize) -> Vec<Alarm> {
        let entry = &entries[row];
        // A commit that did not build says nothing of what there was before it.
        let Some(parent) = entries[row + 1..].iter().find(|older| older.counts.passed > 0) else {
            return Vec::new();
        };
        let (Some(before), Some(now)) = (self.columns(&parent.commit), self.columns(&entry.commit)) else {
            return Vec::new();
        };
        let running = entry.counts.inprogress > 0;
        let keys = suspects(before.glances(), now.glances(), !running);
        let mut alarms = Vec::new();
        for key in keys.into_iter().filter(|key| self.filter.wants(key)) {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            let found = self.look(&parent.commit, &entry.commit, key);
            let vanished = |alarm: &Alarm| alarm.suspicion == Suspicion::Vanished;
            alarms.extend(found.filter(|alarm| !(vanished(alarm) && self.is_busy_with(&entry.commit))));
        }
        alarms
    }

    fn look(&self, before: &CommitId, now: &CommitId, key: &str) -> Option<Alarm> {
        let (key, reader) = (key.parse().ok()?, self.context.store.reader());
        alarm(&reader.entry(before, &key).ok()??, reader.entry(now, &key).ok()?.as_ref())
    }

    fn columns(&self, commit: &CommitId) -> Option<Columns> {
        let verdicts = self.context.store.verdicts(commit)?;
        let durations = self.context.store.reader().durations_at(commit).ok()??;
        // Not of the same blob, where one took the other's place just now.
        (durations.len() == verdicts.names.len()).then_some(Columns { verdicts, durations })
    }

    /// Whether more results of the commit may be to come.
    fn is_busy_with(&self, commit: &CommitId) -> bool {
        let read = || self.context.store.reader().snapshot().ok().flatten();
        let snapshot = self.snapshot.get_or_init(read).as_ref();
        snapshot.is_some_and(|snapshot| snapshot.has_work_for(commit.as_str()))
    }
}
