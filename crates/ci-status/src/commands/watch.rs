//! `ci-status watch`: the newest commits of a branch and the workers that test them, live.
//!
//! [`Watch`] is the content at one point in time; [`crate::screen`] draws it.

use std::collections::HashSet;
use std::io::{self, Write};

use model::snapshot::ExecutorStatus;
use model::{BranchName, BranchRef, Status, StatusSnapshot, UserName};
use results::BranchEntry;
use results::json::CommitRow;
use serde::Serialize;
use stdio::terminal;

use super::show::remark;
use super::workers::STALE;
use super::{Answer, is_failure, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text::{self, Cell, Table};

/// The maximum number of commits shown.
const COMMITS: usize = 12;
/// The maximum number of failures shown for the newest tested commit.
const FAILURES: usize = 8;

/// The content at one point in time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Watch {
    user: UserName,
    branch: BranchName,
    commits: Vec<CommitRow>,
    /// The workers that test the branch.
    executors: Vec<ExecutorStatus>,
    /// The number of queued tests of all branches.
    pending: u64,
    /// Whether the daemon runs.
    running: bool,
    /// The failures of the newest tested commit.
    failing: Vec<Failing>,
    #[serde(skip)]
    now: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Failing {
    name: String,
    status: Status,
    #[serde(rename = "why")]
    reason: String,
}

/// The branch of a name.
pub fn branch(context: &Context, name: Option<&str>) -> Result<BranchRef, Problem> {
    select::branch(context, name)
}

/// Reads the content at `now` (Unix seconds).
pub fn run(context: &Context, at: &BranchRef, now: i64) -> Result<Watch, Problem> {
    let entries = context.backend.branch(at)?.unwrap_or_default();
    let snapshot = context.backend.snapshot()?;
    let running = snapshot.as_ref().is_some_and(|snapshot| now.saturating_sub(snapshot.written) <= STALE);
    let snapshot = snapshot.filter(|_| running).unwrap_or_default();
    let executors = executors(&snapshot, &entries);
    let tested = entries.iter().find(|entry| entry.counts.total() > 0);
    let results = tested.map(|entry| context.backend.commit(&entry.commit)).transpose()?.flatten();
    let failing =
        results.iter().flat_map(|results| &results.entries).filter(|entry| is_failure(entry.status()));
    let failing = failing.take(FAILURES).map(|entry| Failing {
        name: entry.key.to_string(),
        status: entry.status(),
        reason: remark(entry),
    });
    Ok(Watch {
        user: at.user.clone(),
        branch: at.branch.clone(),
        commits: entries.iter().take(COMMITS).map(CommitRow::from).collect(),
        executors,
        pending: snapshot.pending_by_group.values().sum(),
        running,
        failing: failing.collect(),
        now,
    })
}

fn executors(snapshot: &StatusSnapshot, entries: &[BranchEntry]) -> Vec<ExecutorStatus> {
    let commits: HashSet<&str> = entries.iter().map(|entry| entry.commit.as_str()).collect();
    let tests_branch = |executor: &&ExecutorStatus| {
        executor.batch.as_ref().is_some_and(|batch| commits.contains(batch.commit.as_str()))
    };
    snapshot.executors.iter().filter(tests_branch).cloned().collect()
}

impl Answer for Watch {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = match (self.running, self.pending) {
            (false, _) => "ci-daemon is not running".into(),
            (true, 0) => "no tests queued".into(),
            (true, pending) => format!("{pending} tests queued"),
        };
        let name = terminal::line(&format!("{}/{}", self.user, self.branch));
        writeln!(out, "{}  {}\n", text::paint(text::HEADING, name), text::paint(text::FAINT, state))?;
        let mut table = Table::default();
        for row in &self.commits {
            let counts = &row.counts;
            let short = row.commit.get(..12).unwrap_or(&row.commit);
            let mut cells = vec![Cell::left(short).styled(text::COMMIT)];
            for (status, symbol) in [(Status::Passed, "+"), (Status::Failed, "-"), (Status::InProgress, "~")]
            {
                let count = match status {
                    Status::Failed => counts.failed + counts.failed_to_run,
                    status => counts.get(status),
                };
                let cell =
                    if count == 0 { Cell::right("") } else { Cell::right(format_args!("{symbol}{count}")) };
                cells.push(cell.styled(text::style(status)));
            }
            let subject = row.message.trim_start().lines().next().unwrap_or("");
            let style = if counts.total() == 0 { text::FAINT } else { anstyle::Style::new() };
            cells.push(Cell::left(subject).styled(style));
            table.row(cells);
        }
        write!(out, "{table}")?;
        self.work(out)?;
        self.failures(out)
    }
}

impl Watch {
    fn work(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.executors.is_empty() {
            return Ok(());
        }
        let mut table = Table::default();
        for executor in &self.executors {
            let Some(batch) = &executor.batch else { continue };
            let short = batch.commit.get(..12).unwrap_or(&batch.commit);
            table.row([
                Cell::left(&executor.name).styled(text::HEADING),
                Cell::left(short).styled(text::COMMIT),
                Cell::left(&batch.test),
                Cell::right(format_args!("{}/{}", batch.done, batch.subtests)),
                Cell::left(format_args!("{} for {}", batch.phase, text::elapsed(batch.started, self.now)))
                    .styled(text::style(Status::InProgress)),
                Cell::left(batch.current.as_deref().unwrap_or("")),
            ]);
        }
        write!(out, "\n{table}")
    }

    fn failures(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.failing.is_empty() {
            return Ok(());
        }
        let mut table = Table::default();
        for test in &self.failing {
            table.row([
                Cell::left(test.status.label()).styled(text::style(test.status)),
                Cell::left(&test.name),
                Cell::left(&test.reason),
            ]);
        }
        write!(out, "\n{table}")
    }
}
