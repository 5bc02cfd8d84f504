//! `ci-status believe`: requests the runs that prove a fix, and lists the claims of the farm.
//!
//! What can be checked here is: the daemon only logs why it refuses a request.

use std::io::{self, Write};
use std::path::PathBuf;

use belief::Confidence;
use model::{BranchRef, ResultKey};
use regress::request::check_believe;
use results::claims::{ClaimRecord, ClaimRecords, ClaimState};
use results::requests::{Believe, RequestKind, RequestState};
use serde::Serialize;
use stdio::terminal;

use super::rerun::{request_path, requested_by, state, submit, wait_while};
use super::wait::Clock;
use super::{Answer, history, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text::{self, Cell, Table};

/// The claims of a farm, newest first.
#[derive(Debug)]
pub struct Claims {
    records: Vec<ClaimRecord>,
    problems: Vec<String>,
}

/// Reads the claims.
pub fn list(context: &Context) -> Result<Claims, Problem> {
    let ClaimRecords { records, problems } = context.backend.claims()?;
    Ok(Claims { records, problems })
}

impl Answer for Claims {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.records)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for problem in &self.problems {
            writeln!(out, "{}", terminal::line(problem))?;
        }
        if self.records.is_empty() {
            return writeln!(out, "no claims; ci-status believe TEST requests runs");
        }
        let mut table = Table::default();
        for record in &self.records {
            let by = requested_by(record.requested_by.as_deref());
            table.row([
                Cell::left(&record.id),
                Cell::left(record.state.word()),
                Cell::left(&record.test),
                Cell::left(&record.branch),
                Cell::left(record),
                Cell::left(by).styled(text::FAINT),
            ]);
        }
        write!(out, "{table}")
    }
}

/// The arguments of a request.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The test.
    pub test: &'a str,
    /// The branch.
    pub branch: Option<&'a str>,
    /// The confidence in percent.
    pub confidence: u8,
    /// Whether to wait for the end.
    pub wait: bool,
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
    /// The claim, once it has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<ClaimRecord>,
    /// Whether the end was waited for.
    #[serde(skip)]
    waited: bool,
}

/// Requests the missing runs, and waits until they begin, or with `wait` until they end.
pub fn run(
    context: &Context,
    wanted: &Wanted<'_>,
    clock: &mut dyn Clock,
    report: &mut dyn FnMut(&str),
) -> Result<Requested, Problem> {
    let branch = select::branch(context, wanted.branch)?;
    let listed = context.backend.branch(&branch)?.unwrap_or_default();
    let key = history::find(context, &listed, wanted.test, &branch)?;
    let entries = context.backend.history(&branch, &key)?.unwrap_or_default();
    let refused = |reason: &str| Problem::Believe { key: key.clone(), reason: reason.into() };
    let confidence = Confidence::try_from(f64::from(wanted.confidence)).unwrap_or(Confidence::USUAL);
    check_believe(&entries, confidence).map_err(|error| refused(&error.to_string()))?;
    let request = Believe { branch: branch.clone(), key: key.clone(), confidence: wanted.confidence };
    let file = submit(context, RequestKind::Believe(request))?;
    if state(context, &file)? == RequestState::Waiting {
        let request = Some(request_path(context, &file));
        return Ok(Requested { branch, test: key, taken: false, request, claim: None, waited: wanted.wait });
    }
    let mut state = wait_while(context, &file, RequestState::Taken)?;
    let mut claim = begun(context, &file)?;
    if claim.is_none() && state == RequestState::Ended {
        return Err(refused("ci-daemon refused it; its log has the reason"));
    }
    let mut last = String::new();
    let ended = |claim: &Option<ClaimRecord>, state| match claim {
        Some(claim) => claim.state.is_final(),
        None => state == RequestState::Ended,
    };
    while wanted.wait && !ended(&claim, state) {
        let progress = claim.as_ref().map(ToString::to_string).unwrap_or_default();
        if progress != last {
            report(&progress);
            last = progress;
        }
        clock.pause();
        state = super::rerun::state(context, &file)?;
        claim = begun(context, &file)?;
    }
    Ok(Requested { branch, test: key, taken: true, request: None, claim, waited: wanted.wait })
}

/// The claim of a request that the daemon took.
fn begun(context: &Context, file: &str) -> Result<Option<ClaimRecord>, Problem> {
    let records = context.backend.claims()?.records;
    Ok(records.into_iter().find(|found| found.request.as_deref() == Some(file)))
}

impl Answer for Requested {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { branch, test, .. } = self;
        match (&self.claim, &self.request) {
            (Some(claim), _) if claim.state.is_final() => {
                let commit = text::paint(text::COMMIT, claim.commit.short());
                writeln!(out, "{test} on {branch} at {commit}: {}", terminal::line(&claim.to_string()))
            }
            (Some(claim), _) => {
                let commit = text::paint(text::COMMIT, claim.commit.short());
                writeln!(out, "claim {} of {test} on {branch} at {commit}", claim.id)?;
                writeln!(out, "{}; ci-status believe shows its progress", terminal::line(&claim.to_string()))
            }
            (None, None) => {
                writeln!(out, "the runs of {test} on {branch} begin when the branch is fetched")
            }
            (None, Some(path)) => {
                let path = terminal::line(&path.display().to_string());
                writeln!(out, "runs of {test} are requested; ci-daemon has not taken {path} yet")
            }
        }
    }

    /// Of a claim that ended: 0 fixed, 1 not fixed, 125 not proven.
    fn exit_code(&self) -> u8 {
        match self.claim.as_ref().map(|claim| claim.state) {
            Some(ClaimState::Fixed) => 0,
            Some(ClaimState::NotFixed) => 1,
            Some(ClaimState::Unproven | ClaimState::Cancelled) => 125,
            None | Some(ClaimState::Running) => {
                if self.waited {
                    125
                } else {
                    0
                }
            }
        }
    }
}

/// A claim that is to end.
#[derive(Debug, Serialize)]
pub struct Cancelled {
    id: String,
}

/// Requests the end of a claim.
pub fn cancel(context: &Context, id: &str) -> Result<Cancelled, Problem> {
    if !context.backend.claims()?.records.iter().any(|found| found.id == id && !found.state.is_final()) {
        return Err(Problem::NoClaim(id.into()));
    }
    submit(context, RequestKind::CancelBelieve(id.into()))?;
    Ok(Cancelled { id: id.into() })
}

impl Answer for Cancelled {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "the end of claim {} is requested", self.id)
    }
}
