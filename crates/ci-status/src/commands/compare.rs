//! `ci-status compare`: what changed from one commit to another.

use std::io::{self, Write};

use model::Status;
use regress::compare::{Change, ChangeKind, Comparison, Direction, compare};
use regress::fix;
use regress::json::{CompareView, ComparedCommit};
use results::TestEntry;
use results::json::SuspicionRow;

use super::show::{add_listed, remark};
use super::{Answer, suspicious, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select::{self, SelectedCommit};
use crate::text::{self, Cell, Table};

/// Two commits to compare.
#[derive(Debug)]
pub struct Compare {
    base: ComparedCommit,
    head: ComparedCommit,
    suspicious: Vec<SuspicionRow>,
}

/// Reads the commits selected by `base` and `head`.
pub fn run(context: &Context, base: &str, head: &str) -> Result<Compare, Problem> {
    let (base, head) = (read(context, base)?, read(context, head)?);
    let suspicious = suspicious::of_pair(context, &base.results, &head.results)?;
    Ok(Compare { base, head, suspicious })
}

fn read(context: &Context, name: &str) -> Result<ComparedCommit, Problem> {
    let SelectedCommit { commit, at } = select::commit_or_branch(context, Some(name))?;
    let missing = || Problem::NoResults { revision: name.into(), commit: commit.clone() };
    let mut results = context.backend.commit(&commit)?.ok_or_else(missing)?;
    let authorship = add_listed(context, &mut results)?;
    Ok(ComparedCommit { results, authorship, at })
}

impl Compare {
    fn comparison(&self) -> Comparison<'_> {
        compare(&self.base.results.entries, &self.head.results.entries)
    }
}

impl Answer for Compare {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&CompareView::new(&self.base, &self.head, &self.comparison(), self.suspicious.clone()))
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let short = |side: &ComparedCommit| text::paint(text::COMMIT, side.results.commit.short());
        writeln!(out, "from {} to {}", short(&self.base), short(&self.head))?;
        let found = self.comparison();
        for (kind, changes) in found.by_kind() {
            let style = text::style(match kind.direction {
                Direction::Worse => Status::Failed,
                Direction::Better => Status::Passed,
                Direction::Doubtful => Status::FailedToRun,
                Direction::Neutral => Status::NotRun,
            });
            let heading = format!("{} {}", changes.len(), kind.label);
            writeln!(out, "\n{}", text::paint(style, heading))?;
            let mut table = Table::default();
            // One failure of the build; its error is in the first row.
            let shown = if kind.kind == ChangeKind::NotBuilt { 1 } else { changes.len() };
            for change in &changes[..shown] {
                table.row(cells(change));
            }
            write!(out, "{table}")?;
        }
        suspicious::write(&self.suspicious, out)?;
        match found.alike {
            1 => writeln!(out, "\n1 test without a difference"),
            alike => writeln!(out, "\n{alike} tests without a difference"),
        }
    }
}

fn cells(change: &Change<'_>) -> Vec<Cell> {
    let status = |entry: Option<&TestEntry>| entry.map_or("no result", |entry| entry.status().label());
    let time = |entry: Option<&TestEntry>| {
        text::duration(entry.map(|entry| entry.decisive.duration).unwrap_or_default())
    };
    let mut row = vec![Cell::left(""), Cell::left(change.name())];
    match change.kind {
        // The heading contains both statuses.
        ChangeKind::Broke | ChangeKind::StillFailing | ChangeKind::NotBuilt => {}
        ChangeKind::Fixed => row.push(Cell::left(change.fix().as_ref().map(fix::words).unwrap_or_default())),
        ChangeKind::Slower => {
            row.push(Cell::left(format_args!("{} -> {}", time(change.base), time(change.head))));
        }
        _ => row.push(Cell::left(format_args!("{} -> {}", status(change.base), status(change.head)))),
    }
    row.push(Cell::left(change.explanation().map(remark).unwrap_or_default()));
    row
}
