//! `ci-status log`: the commits of a branch as in `git log --oneline`, with test counts.

use std::io::{self, Write};

use model::{BranchRef, Status};
use results::BranchEntry;
use results::json::CommitRow;

use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text::{self, Cell, Table};

/// The commits of a branch.
#[derive(Debug)]
pub struct Log {
    branch: BranchRef,
    entries: Vec<BranchEntry>,
    all: usize,
}

/// Reads at most `limit` commits. Counts only tests with a name that matches `test`.
pub fn run(
    context: &Context,
    branch: Option<&str>,
    limit: Option<usize>,
    test: Option<&str>,
) -> Result<Log, Problem> {
    let branch = select::branch(context, branch)?;
    let mut entries = match select::pattern(test)? {
        None => context.backend.branch(&branch)?,
        Some(regex) => context.backend.branch_filtered(&branch, &regex)?,
    }
    .unwrap_or_default();
    let all = entries.len();
    entries.truncate(limit.unwrap_or(usize::MAX));
    Ok(Log { branch, entries, all })
}

impl Answer for Log {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.entries.iter().map(CommitRow::from).collect::<Vec<_>>())
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        // Passed and failed always; the others only if a commit has them.
        let occurs = |status: &Status| self.entries.iter().any(|entry| entry.counts.get(*status) > 0);
        let columns: Vec<Status> = [
            Status::Passed,
            Status::Failed,
            Status::Flaky,
            Status::NotRun,
            Status::FailedToRun,
            Status::InProgress,
            Status::Unknown,
        ]
        .into_iter()
        .filter(|status| matches!(status, Status::Passed | Status::Failed) || occurs(status))
        .collect();
        let mut table = Table::default();
        let head = |cell: Cell| cell.styled(text::FAINT);
        let mut header = vec![head(Cell::left("commit"))];
        header.extend(columns.iter().map(|status| head(Cell::right(status.label().to_lowercase()))));
        header.extend([head(Cell::right("time")), head(Cell::left(&self.branch))]);
        table.row(header);
        for entry in &self.entries {
            let tested = entry.counts.total() > 0;
            let mut row = vec![Cell::left(entry.commit.short()).styled(text::COMMIT)];
            for status in &columns {
                let count = entry.counts.get(*status);
                row.push(match count {
                    0 => Cell::right(if tested { "0" } else { "-" }).styled(text::FAINT),
                    _ => Cell::right(count).styled(text::style(*status)),
                });
            }
            let time = if tested { text::duration(entry.duration) } else { "-".into() };
            row.extend([Cell::right(time), Cell::left(entry.subject())]);
            table.row(row);
        }
        write!(out, "{table}")?;
        if self.entries.len() < self.all {
            let more = self.all - self.entries.len();
            writeln!(
                out,
                "{}",
                text::paint(
                    text::FAINT,
                    format_args!("{more} older commits not shown (-n {} shows all)", self.all)
                )
            )?;
        }
        Ok(())
    }
}
