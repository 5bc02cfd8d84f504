//! `ci-status compare`: what changed from one commit to another.
//!
//! Only Passed and Failed can be compared; a test that one of the commits has no such verdict of is told apart, never
//! counted as a change for better or worse.

use std::io::{self, Write};

use model::{CommitId, ResultKey, Status};
use results::json::SuspicionRow;
use results::vacuity::{self, Alarm};
use results::{CommitResults, TestEntry};
use serde::Serialize;

use super::show::{is_complete, suspicious_lines};
use super::{Answer, to_json};
use crate::problem::Problem;
use crate::select;
use crate::source::Source;
use crate::text::{self, Cell, Table};

/// What changed.
#[derive(Debug, Serialize)]
pub struct Compare {
    a: CommitId,
    b: CommitId,
    newly_failing: Vec<Change>,
    newly_passing: Vec<Change>,
    still_failing: Vec<Change>,
    not_comparable: Vec<Change>,
    /// Tests that still count as good at `b` and seem to test nothing any more.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_rows")]
    suspicious: Vec<Alarm>,
    /// How many tests passed at both, or are without a verdict for the same reason at both.
    same: usize,
}

/// One test at both.
#[derive(Debug, Serialize)]
struct Change {
    name: ResultKey,
    /// Its status at each; absent: no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<Status>,
    /// Why it is not Passed at `b`, else at `a`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Finds out what changed from the commit that `a` means to that which `b` means.
pub fn run(source: &Source, a: &str, b: &str) -> Result<Compare, Problem> {
    let read = |name: &str| {
        let commit = select::commit(source, Some(name))?;
        let results = source.results.commit(&commit)?;
        let nothing = || CommitResults { commit, message: String::new(), entries: Vec::new() };
        Ok::<_, Problem>(results.unwrap_or_else(nothing))
    };
    let (a, b) = (read(a)?, read(b)?);
    let complete = is_complete(source, &b)?;
    Ok(compare(a, &b, complete))
}

fn as_rows<S: serde::Serializer>(alarms: &[Alarm], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(alarms.iter().map(SuspicionRow::from))
}

fn compare(a: CommitResults, b: &CommitResults, complete: bool) -> Compare {
    let suspicious = vacuity::alarms(&a, b, complete);
    let mut keys: Vec<&ResultKey> = a.entries.iter().chain(&b.entries).map(|entry| &entry.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut changes: [Vec<Change>; 4] = Default::default();
    let mut same = 0;
    for key in keys {
        let (before, after) = (a.get(key), b.get(key));
        let status = |entry: Option<&TestEntry>| entry.map(|entry| entry.status);
        let kind = match (status(before), status(after)) {
            (Some(Status::Passed), Some(Status::Failed)) => 0,
            (Some(Status::Failed), Some(Status::Passed)) => 1,
            (Some(Status::Failed), Some(Status::Failed)) => 2,
            (before, after) if before == after => {
                same += 1;
                continue;
            }
            _ => 3,
        };
        let reason = |entry: Option<&TestEntry>| entry.and_then(|entry| entry.reason.clone());
        changes[kind].push(Change {
            name: key.clone(),
            a: status(before),
            b: status(after),
            reason: reason(after).or_else(|| reason(before)),
        });
    }
    let [newly_failing, newly_passing, still_failing, not_comparable] = changes;
    Compare {
        a: a.commit,
        b: b.commit.clone(),
        newly_failing,
        newly_passing,
        still_failing,
        not_comparable,
        suspicious,
        same,
    }
}

impl Answer for Compare {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let short = |commit: &CommitId| text::paint(text::COMMIT, commit.short());
        writeln!(out, "from {} to {}", short(&self.a), short(&self.b))?;
        for (title, status, changes) in [
            ("newly failing", Status::Failed, &self.newly_failing),
            ("newly passing", Status::Passed, &self.newly_passing),
            ("still failing", Status::Failed, &self.still_failing),
            ("not comparable", Status::Unknown, &self.not_comparable),
        ] {
            if changes.is_empty() {
                continue;
            }
            let title = format!("{title}: {}", changes.len());
            writeln!(out, "\n{}", text::paint(text::style(status), title))?;
            let mut table = Table::default();
            for change in changes {
                let label = |status: Option<Status>| status.map_or("no result", Status::label);
                let mut row = vec![Cell::left(""), Cell::left(&change.name)];
                if status == Status::Unknown {
                    row.push(Cell::left(format_args!("{} -> {}", label(change.a), label(change.b))));
                }
                row.push(Cell::left(change.reason.as_deref().unwrap_or("")));
                table.row(row);
            }
            write!(out, "{table}")?;
        }
        suspicious_lines(&self.suspicious, out)?;
        writeln!(out, "\n{} the same", self.same)
    }
}
