//! The newest tested commits of a branch in short: how many failures are new, and a sparkline.

use std::collections::BTreeMap;
use std::fmt;

use model::Status;
use regress::first_bad::first_bad;
use results::BranchEntry;

use super::{Context, build_lines};
use crate::page::Plural as _;

/// The number of tested commits in a sparkline.
const COMMITS_MAX: usize = 20;
/// The number of older tested commits in which a pass makes a failure new.
const OLDER_MAX: usize = 3;
/// The height of a sparkline, in pixels.
const HEIGHT: u32 = 16;
/// The distance of the bars, in pixels.
const STEP: usize = 4;

/// The failures of a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Failures {
    /// The tests that fail, and passed at the commit before.
    new: usize,
    /// The other tests that fail.
    earlier: usize,
    /// Whether the build is broken since this commit.
    broke_build: bool,
}

impl Failures {
    /// The failures of the commit at a row.
    pub(super) fn new(context: Context<'_>, entries: &[BranchEntry], row: usize) -> Self {
        let entry = &entries[row];
        let mut tested = entries[row + 1..].iter().filter(|entry| entry.counts.total() > 0);
        let is_unbuilt = |entry| context.store.failed_builds(entry).is_some();
        let broke_build = is_unbuilt(entry) && tested.clone().next().is_some_and(|older| !is_unbuilt(older));
        let all = usize::try_from(entry.counts.failed).unwrap_or(usize::MAX);
        let columns = (all > 0).then(|| context.store.statuses(&entry.commit)).flatten();
        let new = columns.map_or(0, |columns| {
            let tests = columns.names.iter().zip(columns.statuses.iter());
            let failing: Vec<&str> =
                tests.filter(|(_, status)| **status == Status::Failed).map(|(name, _)| &**name).collect();
            let older = tested.by_ref().take(OLDER_MAX).map(|older| context.store.statuses(&older.commit));
            let found = first_bad(&failing, older);
            found.values().filter(|stretch| stretch.first_bad == 0 && stretch.last_good.is_some()).count()
        });
        Self { new, earlier: all.saturating_sub(new), broke_build }
    }

    /// Whether the commit broke a test or the build.
    pub(super) fn is_newly_broken(self) -> bool {
        self.new > 0 || self.broke_build
    }

    /// The number of tests that fail.
    pub(super) fn total(self) -> usize {
        self.new + self.earlier
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.new, self.earlier) {
            (0, 0) if self.broke_build => f.write_str("new"),
            (0, 0) => Ok(()),
            (0, earlier) => write!(f, "{earlier} earlier"),
            (new, 0) => write!(f, "{new} new"),
            (new, earlier) => write!(f, "{new} new, {earlier} earlier"),
        }
    }
}

/// One bar for each of the newest tested commits, oldest first: its state, and how many tests fail.
pub(super) struct Sparkline {
    /// One path for each status.
    pub(super) bars: BTreeMap<&'static str, String>,
    pub(super) width: usize,
    pub(super) label: String,
}

impl Sparkline {
    pub(super) fn new(context: Context<'_>, entries: &[BranchEntry]) -> Self {
        let tested = entries.iter().filter(|entry| entry.counts.total() > 0).take(COMMITS_MAX);
        let mut states: Vec<(Status, u32)> = tested
            .map(|entry| {
                let builds = context.store.failed_builds(entry);
                let (status, _) = build_lines::state(&entry.counts, builds.as_deref());
                let failed = if builds.is_some() { u32::MAX } else { entry.counts.failed };
                (status, failed)
            })
            .collect();
        states.reverse();
        let most = states.iter().map(|(_, failed)| *failed).filter(|failed| *failed < u32::MAX).max();
        let most = most.unwrap_or(0).max(1);
        let mut bars: BTreeMap<&'static str, String> = BTreeMap::new();
        for (at, (status, failed)) in states.iter().enumerate() {
            let tall = u64::from(HEIGHT - 5) * u64::from((*failed).min(most)) / u64::from(most);
            let top = u64::from(HEIGHT) - 4 - if *status == Status::Failed { tall } else { 0 };
            let x = at * STEP;
            bars.entry(status.field()).or_default().push_str(&format!("M{x} {top}h3V{HEIGHT}h-3z"));
        }
        let failed = states.iter().filter(|(status, _)| *status == Status::Failed).count();
        let label = format!("{failed} of the newest {} failed", states.len().plural("tested commit"));
        Self { bars, width: COMMITS_MAX * STEP, label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_new_or_earlier() {
        let words = |new, earlier, broke_build| Failures { new, earlier, broke_build }.to_string();
        assert_eq!(words(2, 5, false), "2 new, 5 earlier");
        assert_eq!([words(0, 5, false), words(2, 0, true), words(0, 0, true)], ["5 earlier", "2 new", "new"]);
        assert_eq!(words(0, 0, false), "");
    }
}
