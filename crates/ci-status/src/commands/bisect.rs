//! `ci-status bisect`: requests a bisection from the daemon on this machine, and lists those of the farm.
//!
//! What can be checked here is: the daemon only logs why it refuses a request.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gitio::Repo;
use model::{BranchRef, CommitId, ResultKey, Status};
use regress::first_bad::stretches;
use results::bisections::{self, BisectionRecord};
use results::requests::{Bisect, BisectRange, RequestKind};
use results::{BranchEntry, HistoryEntry, PREFIX_MIN, TestEntry};
use serde::Serialize;
use stdio::terminal;

use super::rerun::{is_waiting, requested_by, submit, wait_until};
use super::{Answer, history, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text::{self, Cell, Table};

/// The bisections of a farm, newest first.
#[derive(Debug)]
pub struct Bisections {
    records: Vec<BisectionRecord>,
    problems: Vec<String>,
}

/// Reads the bisections.
pub fn list(context: &Context) -> Result<Bisections, Problem> {
    let output_dir = context.backend.directory().ok_or(Problem::NotLocal)?;
    let bisections::BisectionRecords { records, problems } = bisections::list(output_dir);
    Ok(Bisections { records, problems })
}

impl Answer for Bisections {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.records)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for problem in &self.problems {
            writeln!(out, "{}", terminal::line(problem))?;
        }
        if self.records.is_empty() {
            return writeln!(out, "no bisections; ci-status bisect TEST requests one");
        }
        let mut table = Table::default();
        for found in &self.records {
            let record = &found.record;
            let waits = found.waits_for.as_ref().map(|reason| format!("; waits: {reason}"));
            let by = requested_by(found.requested_by.as_deref());
            let (runs, builds) = record.all_runs();
            table.row([
                Cell::left(&record.id),
                Cell::left(record.state.word()),
                Cell::left(&record.test),
                Cell::left(&found.branch),
                Cell::left(format_args!("{runs} runs, {builds} builds")),
                Cell::left(format_args!("{}{}", record.summary(), waits.unwrap_or_default())),
                Cell::left(by).styled(text::FAINT),
            ]);
        }
        write!(out, "{table}")?;
        let (named, _) = bisections::rechecks(&self.records, 0);
        if named.named > 0 { writeln!(out, "first bad commits: {named}") } else { Ok(()) }
    }
}

/// A request that was written.
#[derive(Debug, Serialize)]
pub struct Requested {
    branch: BranchRef,
    test: ResultKey,
    /// Whether the daemon has taken it.
    taken: bool,
    /// The request file, if it was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<PathBuf>,
    /// The bisection, once it has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    bisection: Option<BisectionRecord>,
}

/// Requests a bisection, and waits until it begins.
pub fn run(context: &Context, test: &str, range: Option<&str>) -> Result<Requested, Problem> {
    let output_dir = context.backend.directory().ok_or(Problem::NotLocal)?;
    let branch = select::branch(context, None)?;
    let listed = context.backend.branch(&branch)?.unwrap_or_default();
    let key = history::find(context, &listed, test, &branch)?;
    let entries = context.backend.history(&branch, &key)?.unwrap_or_default();
    let refused = |reason: String| Problem::Bisect { key: key.clone(), reason };
    let range = match range {
        Some(text) => Some(given(context, &listed, &entries, text).map_err(refused)?),
        None => {
            check_default(&entries).map_err(refused)?;
            None
        }
    };
    let wanted = Bisect { branch: branch.clone(), key: key.clone(), range };
    let path = submit(context, output_dir, RequestKind::Bisect(wanted))?;
    if path.exists() {
        let request = Some(path);
        return Ok(Requested { branch, test: key, taken: false, request, bisection: None });
    }
    let bisection = begun(output_dir, &path);
    if bisection.is_none() && !is_waiting(output_dir, &path) {
        return Err(refused("ci-daemon refused it; its log has the reason".into()));
    }
    Ok(Requested { branch, test: key, taken: true, request: None, bisection })
}

/// The bisection of a request that the daemon took.
fn begun(output_dir: &Path, request: &Path) -> Option<BisectionRecord> {
    wait_until(|| !is_waiting(output_dir, request));
    let file = request.file_name()?.to_str()?;
    bisections::list(output_dir).records.into_iter().find(|found| found.request.as_deref() == Some(file))
}

/// The range that the user gave.
fn given(
    context: &Context,
    listed: &[BranchEntry],
    entries: &[HistoryEntry],
    text: &str,
) -> Result<BisectRange, String> {
    let ends = text.split_once("..").filter(|(base, head)| !base.is_empty() && !head.contains(".."));
    let (base, head) =
        ends.ok_or_else(|| format!("{text:?} is not a range; give BASE..HEAD, for example 3f2a9c..f7da08"))?;
    let head = if head.is_empty() { "HEAD" } else { head };
    let (base, head) = (commit(context, listed, base)?, commit(context, listed, head)?);
    if base == head {
        return Err(format!("base and head are the same commit, {}", head.short()));
    }
    let place = |id: &CommitId| listed.iter().position(|entry| entry.commit == *id);
    let at =
        place(&head).ok_or_else(|| format!("{} is not among the commits of the branch", head.short()))?;
    if place(&base).is_some_and(|place| place < at) {
        return Err(format!("{} is newer than {}; give the older commit first", base.short(), head.short()));
    }
    let entry = entries.iter().find(|entry| entry.commit == head).and_then(|found| found.entry.as_ref());
    if entry.is_none_or(|entry| entry.attempts_in(Status::Failed) == 0) {
        return Err(format!("it has no failure at {}", head.short()));
    }
    Ok(BisectRange { base, head })
}

/// A commit of the branch by its first digits, or any commit by its full id or as a revision of the checkout.
fn commit(context: &Context, listed: &[BranchEntry], name: &str) -> Result<CommitId, String> {
    let digits = name.to_ascii_lowercase();
    let mut found = listed.iter().map(|entry| &entry.commit);
    let is_it = |id: &&CommitId| name.len() >= PREFIX_MIN && id.as_str().starts_with(&digits);
    if let Some(first) = found.find(is_it) {
        return match found.find(is_it) {
            None => Ok(first.clone()),
            Some(other) => Err(format!("{name} is {} or {}; give more digits", first.short(), other.short())),
        };
    }
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let resolved = Repo::discover(&context.directory).and_then(|repo| repo.resolve(name));
    resolved.map_err(|_| format!("no commit {name:?} on the branch"))
}

/// Whether the daemon will find a range.
fn check_default(entries: &[HistoryEntry]) -> Result<(), String> {
    let status = |row: &HistoryEntry| row.entry.as_ref().map(TestEntry::status);
    let newest = stretches(entries.iter().map(status)).into_iter().next();
    match newest {
        Some(_) => Ok(()),
        None => Err("no commit of the branch fails; for a test that is only flaky, give BASE..HEAD".into()),
    }
}

impl Answer for Requested {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { branch, test, .. } = self;
        match (&self.bisection, &self.request) {
            (Some(found), _) => {
                let record = &found.record;
                let range = format!("{}..{}", record.base.short(), record.head.short());
                writeln!(
                    out,
                    "bisection {} of {test} on {branch}: {} commits, {}",
                    record.id,
                    found.commits.len().saturating_sub(1),
                    text::paint(text::COMMIT, range)
                )?;
                writeln!(out, "{}; ci-status bisect shows its progress", record.summary())
            }
            (None, None) => {
                writeln!(out, "bisection of {test} on {branch} begins when the branch is fetched")
            }
            (None, Some(path)) => {
                let path = terminal::line(&path.display().to_string());
                writeln!(out, "bisection of {test} is requested; ci-daemon has not taken {path} yet")
            }
        }
    }
}

/// A bisection that is to end.
#[derive(Debug, Serialize)]
pub struct Cancelled {
    id: String,
}

/// Requests the end of a bisection.
pub fn cancel(context: &Context, id: &str) -> Result<Cancelled, Problem> {
    let output_dir = context.backend.directory().ok_or(Problem::NotLocal)?;
    let record = bisections::read(output_dir, id).ok().flatten();
    if record.is_none_or(|found| found.record.state.is_final()) {
        return Err(Problem::NoBisection(id.into()));
    }
    submit(context, output_dir, RequestKind::CancelBisection(id.into()))?;
    Ok(Cancelled { id: id.into() })
}

impl Answer for Cancelled {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "the end of bisection {} is requested", self.id)
    }
}
