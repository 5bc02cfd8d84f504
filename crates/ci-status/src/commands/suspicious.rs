//! The suspicious passes of a commit: those that the dashboard found, or else those found in the results.

use std::io::{self, Write};

use model::{CommitId, ResultKey, Status};
use regress::suspicious::{Columns, Compared, Search, Source, earlier, from_base, is_complete};
use results::json::SuspicionRow;
use results::{BranchEntry, CommitResults, RecentRun, TestDuration, TestEntry};

use crate::backend::all_branches;
use crate::context::Context;
use crate::problem::Problem;
use crate::text::{self, Cell, Table};

/// The results for a search: two commits that were read completely, and the backend for the others.
struct Read<'a> {
    now: &'a CommitResults,
    before: Option<&'a CommitResults>,
    others: Option<&'a dyn Source>,
}

impl Read<'_> {
    fn whole(&self, commit: &CommitId) -> Option<&CommitResults> {
        [Some(self.now), self.before].into_iter().flatten().find(|results| results.commit == *commit)
    }
}

impl Source for Read<'_> {
    fn columns(&self, commit: &CommitId) -> Option<Columns> {
        match self.whole(commit) {
            Some(results) => Some(results.into()),
            None => self.others?.columns(commit),
        }
    }

    fn entry(&self, commit: &CommitId, key: &ResultKey) -> Option<TestEntry> {
        match self.whole(commit) {
            Some(results) => results.get(key).cloned(),
            None => self.others?.entry(commit, key),
        }
    }

    fn means(&self) -> Vec<TestDuration> {
        self.others.map(Source::means).unwrap_or_default()
    }

    fn past(&self, commit: &CommitId, entry: &TestEntry) -> Vec<RecentRun> {
        self.others.map(|others| others.past(commit, entry)).unwrap_or_default()
    }
}

/// The suspicious passes of a commit compared with the commits before it on the first branch that lists it.
pub(super) fn of_commit(context: &Context, now: &CommitResults) -> Result<Vec<SuspicionRow>, Problem> {
    if let Some(found) = context.backend.suspicious(None, &now.commit)? {
        return Ok(found);
    }
    let listing = listing(context, &now.commit)?;
    let row = listing.iter().position(|entry| entry.commit == now.commit);
    let older = row.map(|row| earlier(&listing, row)).unwrap_or_default();
    let before = older.first().map(|before| context.backend.commit(before)).transpose()?.flatten();
    find(context, now, before.as_ref(), &older)
}

/// The suspicious passes of a commit compared with `base` and the commits before `base`.
pub(super) fn of_pair(
    context: &Context,
    base: &CommitResults,
    now: &CommitResults,
) -> Result<Vec<SuspicionRow>, Problem> {
    if let Some(found) = context.backend.suspicious(Some(&base.commit), &now.commit)? {
        return Ok(found);
    }
    let listing = listing(context, &base.commit)?;
    find(context, now, Some(base), &from_base(&base.commit, &listing))
}

/// The first listing that contains a commit; empty if there is none.
fn listing(context: &Context, commit: &CommitId) -> Result<Vec<BranchEntry>, Problem> {
    let listings = context.backend.listings(&all_branches(&*context.backend)?);
    let listing = listings.into_iter().find(|entries| entries.iter().any(|entry| entry.commit == *commit));
    Ok(listing.unwrap_or_default())
}

fn find(
    context: &Context,
    now: &CommitResults,
    before: Option<&CommitResults>,
    older: &[&CommitId],
) -> Result<Vec<SuspicionRow>, Problem> {
    let complete = is_complete(&now.commit, now.counts(), context.backend.snapshot()?.as_ref());
    let read = Read { now, before, others: context.backend.source() };
    let compared = Compared { now: &now.commit, older, complete };
    let found = Search::new(read, usize::MAX).find(compared, |_| true);
    Ok(found.iter().map(SuspicionRow::from).collect())
}

/// Writes one line for each suspicious pass.
pub(super) fn write(passes: &[SuspicionRow], out: &mut dyn Write) -> io::Result<()> {
    let title = match passes.len() {
        0 => return Ok(()),
        1 => "1 suspicious pass, may no longer test anything".into(),
        count => format!("{count} suspicious passes, may no longer test anything"),
    };
    writeln!(out, "\n{}", text::paint(text::style(Status::NotRun), title))?;
    let mut table = Table::default();
    for pass in passes {
        table.row([Cell::left(""), Cell::left(&pass.name), Cell::left(&pass.what)]);
    }
    write!(out, "{table}")
}
