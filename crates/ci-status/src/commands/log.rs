//! `ci-status log`: the commits of a branch as in `git log --oneline`, with test counts.

use std::collections::BTreeMap;
use std::io::{self, Write};

use model::{BranchRef, CommitId, Counts, Status};
use regex::Regex;
use regress::json::ChangesRow;
use results::BranchEntry;
use results::json::{BuildRow, CommitRow};

use super::{Answer, to_json};
use stdio::terminal;

use crate::context::Context;
use crate::problem::Problem;
use crate::select::{self, TestSelection};
use crate::text::{self, Cell, Table};

/// The maximum number of broken or fixed tests that are named.
const NAMED_MAX: usize = 4;

/// The commits of a branch.
#[derive(Debug)]
pub struct Log {
    branch: BranchRef,
    entries: Vec<BranchEntry>,
    builds: BTreeMap<CommitId, BuildRow>,
    /// What each commit broke and fixed.
    changes: BTreeMap<CommitId, ChangesRow>,
    all: usize,
}

/// Reads at most `limit` commits. Counts only tests with a name that matches `test`, in these configurations.
pub fn run(
    context: &Context,
    branch: Option<&str>,
    limit: Option<usize>,
    (test, configuration): (Option<&str>, Option<&str>),
) -> Result<Log, Problem> {
    let pattern = select::pattern(test)?;
    let branch = select::branch(context, branch)?;
    let (wanted, entries) = match (pattern, configuration) {
        (None, None) => (TestSelection::of_pattern(None), context.backend.branch(&branch)?),
        (pattern, configuration) => {
            let wanted = selection(context, &branch, pattern, configuration)?;
            let entries = context.backend.branch_filtered(&branch, &wanted)?;
            (wanted, entries)
        }
    };
    let mut entries = entries.unwrap_or_default();
    let all = entries.len();
    entries.truncate(limit.unwrap_or(usize::MAX));
    let matches = |name: &String| wanted.matches(name);
    let mut changes = BTreeMap::new();
    for mut row in context.backend.changes(&branch)? {
        row.broke.retain(matches);
        row.fixed.retain(matches);
        changes.insert(row.commit.clone(), row);
    }
    let builds = context.backend.builds(&branch)?;
    Ok(Log { branch, entries, builds, changes, all })
}

/// The selected tests. The configurations are those of the newest commit with results if it has one of them, or else those of the
/// newest commit that has one.
fn selection(
    context: &Context,
    branch: &BranchRef,
    pattern: Option<Regex>,
    configuration: Option<&str>,
) -> Result<TestSelection, Problem> {
    let Some(wanted) = configuration else { return Ok(TestSelection::of_pattern(pattern)) };
    let entries = context.backend.branch(branch)?.unwrap_or_default();
    let mut error = None;
    for entry in entries.iter().filter(|entry| entry.counts.total() > 0) {
        let Some(results) = context.backend.commit(&entry.commit)? else { continue };
        let keys = results.entries.iter().map(|entry| &entry.key);
        match TestSelection::new(pattern.clone(), configuration, keys) {
            Ok(found) => return Ok(found),
            // An older commit is read only if one of them has it.
            Err(problem) if error.is_none() => {
                if !context.backend.may_have_configuration(branch, wanted)? {
                    return Err(problem);
                }
                error = Some(problem);
            }
            Err(_) => {}
        }
    }
    error.map_or_else(|| TestSelection::new(pattern, configuration, []), Err)
}

impl Log {
    fn counts(&self, entry: &BranchEntry) -> Counts {
        let build = self.builds.get(&entry.commit);
        build.map_or(entry.counts, |build| regress::builds::other_counts(&entry.counts, build))
    }
}

impl Answer for Log {
    fn json(&self) -> serde_json::Result<String> {
        let row = |entry: &BranchEntry| CommitRow {
            build: self.builds.get(&entry.commit).cloned(),
            ..CommitRow::from(entry)
        };
        to_json(&self.entries.iter().map(row).collect::<Vec<_>>())
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        // Passed and failed always; the others only if a commit has them.
        let occurs = |status: &Status| self.entries.iter().any(|entry| self.counts(entry).get(*status) > 0);
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
            // A commit that does not build is no failure of its tests.
            let counts = self.counts(entry);
            let tested = counts.total() > 0;
            let mut row = vec![Cell::left(entry.commit.short()).styled(text::COMMIT)];
            for status in &columns {
                let count = counts.get(*status);
                row.push(match count {
                    0 => Cell::right(if tested { "0" } else { "-" }).styled(text::FAINT),
                    _ => Cell::right(count).styled(text::style(*status)),
                });
            }
            let time = if tested { text::duration(entry.duration) } else { "-".into() };
            let build = self.builds.get(&entry.commit).and_then(regress::builds::words);
            let build = build.map(|words| format!("({words}) ")).unwrap_or_default();
            row.extend([Cell::right(time), Cell::left(format_args!("{build}{}", entry.subject()))]);
            table.row(row);
        }
        let width = crate::screen::columns();
        let text = table.to_string();
        let mut lines = text.lines();
        writeln!(out, "{}", crate::screen::fit(lines.next().unwrap_or_default(), width))?;
        for (line, entry) in lines.zip(&self.entries) {
            writeln!(out, "{}", crate::screen::fit(line, width))?;
            if let Some(changes) = self.changes.get(&entry.commit) {
                write_changes(changes, width, out)?;
            }
        }
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

/// The tests that a commit broke and fixed, each kind in one line, as on the branch page.
fn write_changes(changes: &ChangesRow, width: usize, out: &mut dyn Write) -> io::Result<()> {
    for (lead, status, tests) in
        [("▼ broke", Status::Failed, &changes.broke), ("▲ passes again", Status::Passed, &changes.fixed)]
    {
        if tests.is_empty() {
            continue;
        }
        let mut names: Vec<String> = tests.iter().take(NAMED_MAX).map(|test| terminal::line(test)).collect();
        if tests.len() > NAMED_MAX {
            names.push(format!("and {} more", tests.len() - NAMED_MAX));
        }
        let line =
            format!("    {}", text::paint(text::style(status), format_args!("{lead}: {}", names.join(" "))));
        writeln!(out, "{}", crate::screen::fit(&line, width))?;
    }
    Ok(())
}
