//! Since when the failed tests of a commit fail: found in a directory, or taken from a dashboard that found it.

use std::io::{self, Write};

use model::{BranchRef, Status};
use regress::excerpt;
use regress::first_bad::first_bad;
use regress::suspicious::Columns;
use results::json::{ListedRow, SinceRow};
use results::{BranchEntry, CommitResults, LogKind};
use stdio::terminal;

use crate::backend::all_branches;
use crate::context::Context;
use crate::problem::Problem;
use crate::text;

/// The failed tests of a commit, sorted by name, on this branch or else on the first one that lists the commit.
pub fn of_commit(
    context: &Context,
    at: Option<&BranchRef>,
    results: &CommitResults,
) -> Result<Vec<SinceRow>, Problem> {
    let mut failing: Vec<&str> = results
        .entries
        .iter()
        .filter(|entry| entry.status() == Status::Failed)
        .map(|entry| entry.key.as_str())
        .collect();
    if failing.is_empty() {
        return Ok(Vec::new());
    }
    failing.sort_unstable();
    let mut rows = match context.backend.source() {
        None => context.backend.since(at, &results.commit)?.unwrap_or_default(),
        Some(source) => {
            let Some(newest_first) = from_commit(context, at, results)? else { return Ok(Vec::new()) };
            let older = newest_first[1..].iter().map(|entry| {
                let tested = (entry.counts.total() > 0).then(|| source.columns(&entry.commit))?;
                tested.map(Columns::into_statuses)
            });
            let found = first_bad(&failing, older);
            let row = |name: &&str| Some(regress::json::since(name, &newest_first, found.get(name)?));
            failing.iter().filter_map(row).collect()
        }
    };
    rows.retain(|row| failing.binary_search(&row.name.as_str()).is_ok());
    Ok(rows)
}

/// The commits of a branch from this one on.
fn from_commit(
    context: &Context,
    at: Option<&BranchRef>,
    results: &CommitResults,
) -> Result<Option<Vec<BranchEntry>>, Problem> {
    let names = match at {
        Some(at) => vec![at.clone()],
        None => all_branches(&*context.backend)?,
    };
    for mut entries in context.backend.listings(&names) {
        if let Some(row) = entries.iter().position(|entry| entry.commit == results.commit) {
            return Ok(Some(entries.split_off(row)));
        }
    }
    Ok(None)
}

/// The maximum number of bytes of a log in which the command is searched.
const LOG_MAX: u64 = 16 << 20;
/// The maximum number of tests that are printed for a first bad commit.
const TESTS_MAX: usize = 3;

/// The command that repeats the first of these tests, from the note that its run added to the log.
pub fn command(context: &Context, results: &CommitResults) -> Option<String> {
    let failed = results.entries.iter().find(|entry| entry.status() == Status::Failed)?;
    let log = context.backend.log(&results.commit, &failed.key, LogKind::Subtest).ok()??;
    let (bytes, is_whole) = log.read(LOG_MAX).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    excerpt::command(&text).filter(|_| is_whole).map(str::to_owned)
}

/// Writes the first bad commits, each with the tests that fail since.
pub fn write(rows: &[SinceRow], now: i64, out: &mut dyn Write) -> io::Result<()> {
    let mut groups: Vec<(&SinceRow, Vec<&str>)> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|(of, _)| of.first_bad == row.first_bad && of.last_good == row.last_good)
        {
            Some((_, tests)) => tests.push(&row.name),
            None => groups.push((row, vec![&row.name])),
        }
    }
    for (row, tests) in groups {
        let commits = if row.commits == 1 { "1 commit".into() } else { format!("{} commits", row.commits) };
        let mut names: Vec<String> = tests.iter().take(TESTS_MAX).map(|test| terminal::line(test)).collect();
        if tests.len() > TESTS_MAX {
            names.push(format!("and {} more", tests.len() - TESTS_MAX));
        }
        writeln!(out, "\n{}", text::paint(text::style(Status::Failed), names.join(" ")))?;
        let between = match (&row.last_good, row.untested_between) {
            (None, _) => ", or earlier: no listed commit passes".into(),
            (_, 0) => String::new(),
            (_, 1) => ", or the untested commit before it".into(),
            (_, between) => format!(", or one of {between} untested commits before it"),
        };
        writeln!(out, "  fails on {commits}; first bad commit {}{between}", named(&row.first_bad))?;
        let by = text::by(&row.first_bad.authorship, now);
        if !by.is_empty() {
            writeln!(out, "    {}", text::paint(text::FAINT, by))?;
        }
        if let Some(good) = &row.last_good {
            writeln!(out, "  last good commit {}", named(good))?;
        }
    }
    Ok(())
}

fn named(commit: &ListedRow) -> String {
    format!("{} {}", text::paint(text::COMMIT, commit.commit.short()), terminal::line(&commit.subject))
}
