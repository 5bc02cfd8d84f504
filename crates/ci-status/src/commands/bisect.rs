//! `ci-status bisect`: requests a bisection, and lists those of the farm.
//!
//! What can be checked here is: the daemon only logs why it refuses a request.

use std::io::{self, Write};
use std::path::PathBuf;

use gitio::Repo;
use model::{BranchRef, CommitId, ResultKey};
use regress::request::check_bisect;
use results::bisections::{self, BisectionRecord, BisectionRecords};
use results::requests::{Bisect, BisectRange, RequestKind, RequestState};
use results::{BranchEntry, PREFIX_MIN};
use serde::Serialize;
use stdio::terminal;

use super::rerun::{request_path, requested_by, state, submit, wait_while};
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
    let BisectionRecords { records, problems } = context.backend.bisections()?;
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
    let branch = select::branch(context, None)?;
    let listed = context.backend.branch(&branch)?.unwrap_or_default();
    let key = history::find(context, &listed, test, &branch)?;
    let entries = context.backend.history(&branch, &key)?.unwrap_or_default();
    let refused = |reason: String| Problem::Bisect { key: key.clone(), reason };
    let range = range.map(|text| given(context, &listed, text)).transpose().map_err(refused)?;
    check_bisect(&listed, &entries, range.as_ref()).map_err(|error| refused(error.to_string()))?;
    let wanted = Bisect { branch: branch.clone(), key: key.clone(), range };
    let file = submit(context, RequestKind::Bisect(wanted))?;
    if state(context, &file)? == RequestState::Waiting {
        let request = Some(request_path(context, &file));
        return Ok(Requested { branch, test: key, taken: false, request, bisection: None });
    }
    let state = wait_while(context, &file, RequestState::Taken)?;
    let is_it = |found: &BisectionRecord| found.request.as_deref() == Some(file.as_str());
    let bisection = context.backend.bisections()?.records.into_iter().find(is_it);
    if bisection.is_none() && state == RequestState::Ended {
        return Err(refused("ci-daemon refused it; its log has the reason".into()));
    }
    Ok(Requested { branch, test: key, taken: true, request: None, bisection })
}

/// The range that the user gave.
fn given(context: &Context, listed: &[BranchEntry], text: &str) -> Result<BisectRange, String> {
    let ends = text.split_once("..").filter(|(base, head)| !base.is_empty() && !head.contains(".."));
    let (base, head) =
        ends.ok_or_else(|| format!("{text:?} is not a range; give BASE..HEAD, for example 3f2a9c..f7da08"))?;
    let head = if head.is_empty() { "HEAD" } else { head };
    Ok(BisectRange { base: commit(context, listed, base)?, head: commit(context, listed, head)? })
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
    let is_it = |found: &BisectionRecord| found.record.id == id && !found.record.state.is_final();
    if !context.backend.bisections()?.records.iter().any(is_it) {
        return Err(Problem::NoBisection(id.into()));
    }
    submit(context, RequestKind::CancelBisection(id.into()))?;
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
