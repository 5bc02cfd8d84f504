//! `ci-status workers`: what the farm does now.

use std::io::{self, Write};

use model::{Status, StatusSnapshot};

use super::{Answer, to_json};
use crate::problem::Problem;
use crate::source::Source;
use crate::text::{self, Cell, Table};

/// A snapshot older than this comes from a daemon that has stopped, in s; it is written every 2 s.
pub(super) const STALE: i64 = 15;

/// The snapshot and the time.
#[derive(Debug)]
pub struct Workers {
    snapshot: StatusSnapshot,
    now: i64,
}

/// Finds out.
pub fn run(source: &Source) -> Result<Workers, Problem> {
    let snapshot = source.results.snapshot()?.ok_or(Problem::NoSnapshot)?;
    Ok(Workers { snapshot, now: source.now })
}

impl Answer for Workers {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.snapshot)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { snapshot, now } = self;
        if now - snapshot.written > STALE {
            let warning =
                format!("ci-daemon does not run; this is from {}", text::ago(snapshot.written, *now));
            writeln!(out, "{}", text::paint(text::style(Status::Unknown), warning))?;
        }
        let mut table = Table::default();
        for executor in &snapshot.executors {
            let state = match executor.state.as_str() {
                "busy" => text::style(Status::InProgress),
                "idle" => text::FAINT,
                _ => text::style(Status::Failed),
            };
            let mut row = vec![
                Cell::left(&executor.name).styled(text::HEADING),
                Cell::left(&executor.state).styled(state),
            ];
            if let Some(batch) = &executor.batch {
                let short = batch.commit.get(..12).unwrap_or(&batch.commit);
                let current = batch.current.as_deref().unwrap_or("");
                row.extend([
                    Cell::left(short).styled(text::COMMIT),
                    Cell::left(&batch.test),
                    Cell::right(format_args!("{}/{}", batch.done, batch.subtests)),
                    Cell::left(&batch.phase),
                    Cell::left(text::ago(batch.started, *now)),
                    Cell::left(current),
                ]);
            } else if let Some(problem) = &executor.problem {
                row.push(Cell::left(problem));
            }
            table.row(row);
        }
        write!(out, "{table}")?;
        if snapshot.executors.is_empty() {
            writeln!(out, "no executors")?;
        }
        let pending: u64 = snapshot.pending_by_group.values().sum();
        let groups: Vec<String> = snapshot
            .pending_by_group
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(group, count)| format!("{} {count}", text::clean(group.as_str())))
            .collect();
        match groups.as_slice() {
            [] => writeln!(out, "nothing waits")?,
            groups => writeln!(out, "{pending} jobs wait: {}", groups.join(", "))?,
        }
        for branch in snapshot.branches.iter() {
            if let Some(error) = &branch.error {
                let text = format!("{}/{}: last fetch failed: {error}", branch.user, branch.branch);
                writeln!(out, "{}", text::paint(text::style(Status::Failed), text::clean(&text)))?;
            }
        }
        for problem in &snapshot.problems {
            writeln!(out, "{}", text::paint(text::style(Status::Failed), text::clean(problem)))?;
        }
        Ok(())
    }
}
