//! `ci-status workers`: what each worker of the farm does.

use std::io::{self, Write};

use model::{Status, StatusSnapshot};
use stdio::terminal;

use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::text::{self, Cell, Table};

/// The age in seconds of a snapshot above which the daemon is considered stopped; it writes one every 2 s.
pub(super) const STALE: i64 = 15;

/// The status snapshot at a given time.
#[derive(Debug)]
pub struct Workers {
    snapshot: StatusSnapshot,
    now: i64,
}

/// Reads the status snapshot.
pub fn run(context: &Context) -> Result<Workers, Problem> {
    let snapshot = context.backend.snapshot()?.ok_or(Problem::NoSnapshot)?;
    Ok(Workers { snapshot, now: context.now })
}

impl Answer for Workers {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.snapshot)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { snapshot, now } = self;
        if now - snapshot.written > STALE {
            let warning =
                format!("ci-daemon is not running; last status {}", text::ago(snapshot.written, *now));
            writeln!(out, "{}", text::paint(text::style(Status::Unknown), warning))?;
        }
        let mut table = Table::default();
        for executor in &snapshot.executors {
            let state = match executor.state.as_str() {
                "busy" => text::style(Status::InProgress),
                "idle" | "drained" => text::FAINT,
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
                    Cell::left(format_args!("{} for {}", batch.phase, text::elapsed(batch.started, *now))),
                    Cell::left(current),
                ]);
            } else if let Some(problem) = &executor.problem {
                row.push(Cell::left(problem));
            }
            table.row(row);
        }
        write!(out, "{table}")?;
        if snapshot.executors.is_empty() {
            writeln!(out, "no workers")?;
        }
        write_hosts(snapshot, *now, out)?;
        write_stopped(snapshot, *now, out)?;
        let pending: u64 = snapshot.pending_by_group.values().sum();
        let groups: Vec<String> = snapshot
            .pending_by_group
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(group, count)| format!("{} {count}", terminal::line(group.as_str())))
            .collect();
        match groups.as_slice() {
            [] => writeln!(out, "no tests queued")?,
            groups => writeln!(out, "{pending} tests queued ({})", groups.join(", "))?,
        }
        for branch in snapshot.branches.iter() {
            if let Some(error) = &branch.error {
                let text = format!("{}/{}: last fetch failed: {error}", branch.user, branch.branch);
                writeln!(out, "{}", text::paint(text::style(Status::Failed), terminal::line(&text)))?;
            }
        }
        for problem in &snapshot.problems {
            writeln!(out, "{}", text::paint(text::style(Status::Failed), terminal::line(problem)))?;
        }
        Ok(())
    }
}

/// What operators stopped.
fn write_stopped(snapshot: &StatusSnapshot, now: i64, out: &mut dyn Write) -> io::Result<()> {
    let drained = snapshot.drained.iter().map(|it| (it.place.to_string(), "drained", &it.stopped));
    let paused = snapshot.paused.iter().map(|it| (it.branch.to_string(), "paused", &it.stopped));
    for (what, word, stopped) in drained.chain(paused) {
        let line = format!("{what}: {word} {} {stopped}", text::ago(stopped.at, now));
        writeln!(out, "{}", terminal::line(line.trim_end()))?;
    }
    Ok(())
}

/// What the hosts did, and the disks of the machine of ci-daemon.
fn write_hosts(snapshot: &StatusSnapshot, now: i64, out: &mut dyn Write) -> io::Result<()> {
    for host in &snapshot.hosts {
        let load = host.load.map(|load| format!(", load {load} %")).unwrap_or_default();
        let shares = host.shares().map(|shares| format!("; {shares}")).unwrap_or_default();
        let report = host.report.map(|report| report.to_string()).filter(|report| !report.is_empty());
        let report = report.map(|report| format!(", {report}")).unwrap_or_default();
        let tests = host.tests_per_hour(now);
        let line = format!("{}: {tests} tests per hour{load}{report}{shares}", host.name);
        writeln!(out, "{}", terminal::line(&line))?;
    }
    for disk in &snapshot.disks {
        let (free, total) = (text::bytes(disk.free), text::bytes(disk.total));
        writeln!(out, "{}", terminal::line(&format!("disk of the {}: {free} of {total} free", disk.name)))?;
    }
    Ok(())
}
