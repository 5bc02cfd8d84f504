//! `ci-status history`: one test along a branch, and since which commit it fails.

use std::io::{self, Write};

use model::{BranchRef, ResultKey, Status};
use results::HistoryEntry;
use results::json::HistoryRow;

use super::show::remark;
use super::{Answer, to_json};
use crate::problem::Problem;
use crate::select;
use crate::source::Source;
use crate::text::{self, Cell, Table};

/// A test along a branch.
#[derive(Debug)]
pub struct History {
    branch: BranchRef,
    key: ResultKey,
    entries: Vec<HistoryEntry>,
}

/// How a test stands at the branch's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// No commit says Passed or Failed.
    Unjudged,
    /// It passes, and failed nowhere.
    Passes,
    /// It passes since `good`; `bad` failed before.
    Mended { good: usize, bad: usize },
    /// It fails since `bad`; `good` passed before. Indices from the newest.
    Fails { bad: usize, good: Option<usize> },
}

/// Finds out. The test may be meant by any commit's results of the branch.
pub fn run(source: &Source, branch: &str, test: &str) -> Result<History, Problem> {
    let branch = select::branch(source, Some(branch))?;
    let commits = source.results.branch(&branch)?.unwrap_or_default();
    let key = find(source, &commits, test, &branch)?;
    let entries = source.results.history(&branch, &key)?.unwrap_or_default();
    Ok(History { branch, key, entries })
}

/// The test by the newest commit that knows one of that name: most do, so most are not read.
fn find(
    source: &Source,
    commits: &[results::BranchEntry],
    test: &str,
    branch: &BranchRef,
) -> Result<ResultKey, Problem> {
    let mut last = None;
    for entry in commits.iter().filter(|entry| entry.counts.total() > 0) {
        let Ok(Some(results)) = source.results.commit(&entry.commit) else { continue };
        let keys: Vec<ResultKey> = results.entries.into_iter().map(|entry| entry.key).collect();
        match select::test(&keys, test, &branch.to_string()) {
            Ok(key) => return Ok(key),
            Err(error @ Problem::ManyTests { .. }) => return Err(error),
            Err(error) => last = last.or(Some(error)),
        }
    }
    Err(last.unwrap_or_else(|| match select::test(&[], test, &branch.to_string()) {
        Ok(_) => Problem::NoBranches,
        Err(error) => error,
    }))
}

fn judge(statuses: &[Option<Status>]) -> Verdict {
    let judged = |wanted: Status, from: usize| {
        statuses.iter().skip(from).position(|status| *status == Some(wanted)).map(|at| from + at)
    };
    let (passed, failed) = (judged(Status::Passed, 0), judged(Status::Failed, 0));
    match (passed, failed) {
        (None, None) => Verdict::Unjudged,
        (Some(_), None) => Verdict::Passes,
        (passed, Some(failed)) if passed.is_none_or(|passed| failed < passed) => {
            let end = passed.unwrap_or(statuses.len());
            let bad = (failed..end).rev().find(|at| statuses[*at] == Some(Status::Failed)).unwrap_or(failed);
            Verdict::Fails { bad, good: passed }
        }
        (_, Some(bad)) => {
            let good = (0..bad).rev().find(|at| statuses[*at] == Some(Status::Passed)).unwrap_or(0);
            Verdict::Mended { good, bad }
        }
    }
}

impl History {
    fn name(&self, at: usize) -> String {
        let entry = &self.entries[at];
        let subject = entry.message.trim_start().lines().next().unwrap_or("");
        format!("{} ({})", text::paint(text::COMMIT, entry.commit.short()), text::clean(subject))
    }

    /// What lies between two commits and says nothing.
    fn between(newer: usize, older: usize) -> String {
        match older - newer - 1 {
            0 => String::new(),
            1 => "; one commit between them was not judged".into(),
            count => format!("; {count} commits between them were not judged"),
        }
    }

    fn summary(&self) -> String {
        let statuses: Vec<_> =
            self.entries.iter().map(|entry| entry.entry.as_ref().map(|entry| entry.status)).collect();
        match judge(&statuses) {
            Verdict::Unjudged => "neither passed nor failed on any commit".into(),
            Verdict::Passes => "passes".into(),
            Verdict::Mended { good, bad } => {
                format!(
                    "passes since {}; failed at {}{}",
                    self.name(good),
                    self.name(bad),
                    Self::between(good, bad)
                )
            }
            Verdict::Fails { bad, good: None } => {
                format!("fails since {} or longer; no commit listed passes", self.name(bad))
            }
            Verdict::Fails { bad, good: Some(good) } => {
                format!(
                    "fails since {}; passed at {}{}",
                    self.name(bad),
                    self.name(good),
                    Self::between(bad, good)
                )
            }
        }
    }
}

impl Answer for History {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&self.entries.iter().map(HistoryRow::from).collect::<Vec<_>>())
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let title = format!("{} on {}", self.key, self.branch);
        writeln!(out, "{}: {}\n", text::paint(text::HEADING, title), self.summary())?;
        let mut table = Table::default();
        for HistoryEntry { commit, message, entry } in &self.entries {
            let subject = message.trim_start().lines().next().unwrap_or("");
            let short = Cell::left(commit.short()).styled(text::COMMIT);
            table.row(match entry {
                Some(entry) => [
                    short,
                    Cell::left(entry.status.label()).styled(text::style(entry.status)),
                    Cell::right(text::duration(entry.duration)),
                    Cell::left(subject),
                    Cell::left(remark(entry)).styled(text::FAINT),
                ],
                None => [
                    short,
                    Cell::left("-").styled(text::FAINT),
                    Cell::right("-").styled(text::FAINT),
                    Cell::left(subject),
                    Cell::left(""),
                ],
            });
        }
        write!(out, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Verdict {
        let status = |c| match c {
            'p' => Some(Status::Passed),
            'f' => Some(Status::Failed),
            'x' => Some(Status::FailedToRun),
            _ => None,
        };
        judge(&text.chars().map(status).collect::<Vec<_>>())
    }

    #[test]
    fn since_when() {
        assert_eq!(of(""), Verdict::Unjudged);
        assert_eq!(of("-x-"), Verdict::Unjudged);
        assert_eq!(of("-p-p"), Verdict::Passes);
        assert_eq!(of("-fxf-pf"), Verdict::Fails { bad: 3, good: Some(5) });
        assert_eq!(of("ff-"), Verdict::Fails { bad: 1, good: None });
        assert_eq!(of("p-pxfp"), Verdict::Mended { good: 2, bad: 4 });
    }
}
