//! `ci-status show`: one commit, test by test, what needs a look first.

use std::io::{self, Write};

use model::{Counts, Status};
use results::json::{CommitView, SuspicionRow};
use results::vacuity::{self, Alarm};
use results::{CommitResults, TestEntry};

use super::{Answer, is_failure, to_json};
use crate::origin::all_branches;
use crate::problem::Problem;
use crate::select;
use crate::source::Source;
use crate::text::{self, Cell, Table};

/// What stands for a remark that is the one above.
const THE_SAME: &str = "the same";

/// A commit's tests.
#[derive(Debug)]
pub struct Show {
    results: CommitResults,
    /// How many there were before any were left out.
    all: Counts,
    /// Those that seem to test nothing any more.
    suspicious: Vec<Alarm>,
}

/// Finds out: only tests that failed or could not run if `failed`, only those whose name matches `test`.
pub fn run(source: &Source, commit: Option<&str>, failed: bool, test: Option<&str>) -> Result<Show, Problem> {
    let regex = select::pattern(test)?;
    let commit = select::commit(source, commit)?;
    let results = source.results.commit(&commit)?;
    let mut results =
        results.unwrap_or_else(|| CommitResults { commit, message: String::new(), entries: Vec::new() });
    if results.message.is_empty() {
        results.message = message(source, &results)?;
    }
    let all = results.counts();
    let mut suspicious = if failed { Vec::new() } else { suspicious(source, &results)? };
    suspicious.retain(|alarm| regex.as_ref().is_none_or(|regex| regex.is_match(alarm.key.as_str())));
    results.entries.retain(|entry| {
        (!failed || is_failure(entry.status))
            && regex.as_ref().is_none_or(|regex| regex.is_match(entry.key.as_str()))
    });
    Ok(Show { results, all, suspicious })
}

/// The message of a commit whose results do not have it, from a listing.
pub(super) fn message(source: &Source, results: &CommitResults) -> Result<String, Problem> {
    let listings = source.results.listings(&all_branches(&*source.results)?);
    let entry = listings.into_iter().flatten().find(|entry| entry.commit == results.commit);
    Ok(entry.map(|entry| entry.message).unwrap_or_default())
}

/// The tests that seem to test nothing any more, compared with the last commit before it on a branch at which something
/// passed.
fn suspicious(source: &Source, results: &CommitResults) -> Result<Vec<Alarm>, Problem> {
    let listings = source.results.listings(&all_branches(&*source.results)?);
    let before = listings.into_iter().find_map(|entries| {
        let row = entries.iter().position(|entry| entry.commit == results.commit)?;
        Some(entries.into_iter().skip(row + 1).find(|older| older.counts.passed > 0))
    });
    let Some(before) = before.flatten() else { return Ok(Vec::new()) };
    let Some(before) = source.results.commit(&before.commit)? else { return Ok(Vec::new()) };
    Ok(vacuity::alarms(&before, results, is_complete(source, results)?))
}

/// Whether a commit gets no more results, as far as is known.
pub(super) fn is_complete(source: &Source, results: &CommitResults) -> Result<bool, Problem> {
    let snapshot = source.results.snapshot()?;
    let busy = snapshot.is_some_and(|snapshot| snapshot.has_work_for(results.commit.as_str()));
    Ok(!busy && results.counts().inprogress == 0)
}

/// A line for each of them.
pub(super) fn suspicious_lines(alarms: &[Alarm], out: &mut dyn Write) -> io::Result<()> {
    if alarms.is_empty() {
        return Ok(());
    }
    let title = format!("to look at, they may test nothing any more: {}", alarms.len());
    writeln!(out, "\n{}", text::paint(text::style(Status::NotRun), title))?;
    let mut table = Table::default();
    for alarm in alarms {
        table.row([Cell::left(""), Cell::left(&alarm.key), Cell::left(&alarm.suspicion)]);
    }
    write!(out, "{table}")
}

/// What is to be said of a test beside its status.
pub(super) fn remark(entry: &TestEntry) -> String {
    let mut parts: Vec<String> = Vec::new();
    let reason = entry.reason.as_deref().unwrap_or("");
    // Our own reasons begin with the crash's name; older ones may not.
    match &entry.crash {
        Some(crash) if !reason.contains(crash.as_str()) => parts.extend([crash.clone(), reason.into()]),
        _ => parts.push(reason.into()),
    }
    parts.retain(|part| !part.is_empty());
    let failed = entry.attempts_in(Status::Failed);
    let ran = failed + entry.attempts_in(Status::Passed);
    if ran > 1 {
        parts.push(format!("failed {failed} of {ran} runs"));
    }
    parts.join("; ")
}

impl Answer for Show {
    fn json(&self) -> serde_json::Result<String> {
        let suspicious = self.suspicious.iter().map(SuspicionRow::from).collect();
        to_json(&CommitView { suspicious, ..CommitView::new(&self.results, |_| true) })
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let results = &self.results;
        writeln!(out, "{}", text::paint(text::COMMIT, format_args!("commit {}", results.commit)))?;
        if !results.subject().is_empty() {
            writeln!(out, "    {}", text::clean(results.subject()))?;
        }
        let time = text::duration(results.duration());
        let shown = results.counts();
        match (self.all == shown, shown.total()) {
            (true, 0) => writeln!(out, "\nno results yet")?,
            (true, _) => writeln!(out, "\n{} in {time}", text::counts(&shown))?,
            (false, count) => {
                writeln!(out, "\n{}; {count} of them shown", text::counts(&self.all))?;
            }
        }
        if results.entries.is_empty() {
            return Ok(());
        }
        let mut table = Table::default();
        for status in text::BY_CONCERN {
            let mut said = String::new();
            for entry in results.entries.iter().filter(|entry| entry.status == status) {
                // A commit that does not build has one reason for all its tests: once is enough.
                let remark = remark(entry);
                let again = remark == said && remark.chars().count() > THE_SAME.len();
                table.row([
                    Cell::left(status.label()).styled(text::style(status)),
                    Cell::left(&entry.key),
                    Cell::right(text::duration(entry.duration)),
                    Cell::left(if again { THE_SAME } else { &remark }),
                ]);
                said = remark;
            }
        }
        write!(out, "\n{table}")?;
        suspicious_lines(&self.suspicious, out)
    }
}
