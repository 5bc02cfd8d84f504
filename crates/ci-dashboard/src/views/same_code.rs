//! The tests of a commit that wait for an idle slot, because they ran at another commit whose kernel has the same code.

use std::collections::BTreeMap;

use model::{CommitId, Status};
use results::json::SameCodeRow;

use super::Context;
use crate::page::{CountItem, Plural as _, count_items};
use crate::route::BranchRef;

/// The maximum number of other commits that are shown.
const SOURCES_MAX: usize = 5;

/// The verdicts of the waiting tests at one other commit.
pub(super) struct SameCodeLine {
    pub(super) tests: String,
    pub(super) waits: &'static str,
    pub(super) counts: Vec<CountItem>,
    pub(super) href: String,
    pub(super) short: String,
}

/// One line for each commit at which waiting tests ran, those with the most tests first.
pub(super) fn lines(context: Context<'_>, at: Option<&BranchRef>, rows: &[SameCodeRow]) -> Vec<SameCodeLine> {
    let mut sources: BTreeMap<&CommitId, Vec<Status>> = BTreeMap::new();
    for row in rows {
        sources.entry(&row.commit).or_default().push(row.status);
    }
    let mut sources: Vec<_> = sources.into_iter().collect();
    sources.sort_by_key(|(_, tests)| std::cmp::Reverse(tests.len()));
    let line = |(source, tests): (&CommitId, Vec<Status>)| SameCodeLine {
        tests: tests.len().plural("test").to_string(),
        waits: if tests.len() == 1 { "waits" } else { "wait" },
        counts: count_items(&tests.into_iter().collect()),
        href: context.links().commit(at, source.as_str()),
        short: source.short().to_owned(),
    };
    sources.into_iter().take(SOURCES_MAX).map(line).collect()
}
