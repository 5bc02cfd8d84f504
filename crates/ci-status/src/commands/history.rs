//! `ci-status history`: one test along a branch, and its first bad commit.

use std::io::{self, Write};

use belief::FixState;
use model::{BranchRef, ResultKey, Status};
use regress::first_bad::{Stretch, stretches};
use regress::fix::{self, fixes};
use results::json::RateRow;
use results::{HistoryEntry, flaky_in};
use stdio::terminal;

use super::show::remark;
use super::{Answer, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text::{self, Cell, Table};

/// A test along a branch.
#[derive(Debug)]
pub struct History {
    branch: BranchRef,
    key: ResultKey,
    entries: Vec<HistoryEntry>,
}

/// Reads the history. The test may have results at any commit of the branch.
pub fn run(context: &Context, branch: &str, test: &str) -> Result<History, Problem> {
    let branch = select::branch(context, Some(branch))?;
    let commits = context.backend.branch(&branch)?.unwrap_or_default();
    let key = find(context, &commits, test, &branch)?;
    let entries = context.backend.history(&branch, &key)?.unwrap_or_default();
    Ok(History { branch, key, entries })
}

/// The test with this name, from the newest commit that has it. Older commits are not read.
pub(super) fn find(
    context: &Context,
    commits: &[results::BranchEntry],
    test: &str,
    branch: &BranchRef,
) -> Result<ResultKey, Problem> {
    let mut last = None;
    for entry in commits.iter().filter(|entry| entry.counts.total() > 0) {
        let Ok(Some(results)) = context.backend.commit(&entry.commit) else { continue };
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

impl History {
    fn name(&self, row: usize) -> String {
        let entry = &self.entries[row];
        let subject = entry.message.trim_start().lines().next().unwrap_or("");
        format!("{} ({})", text::paint(text::COMMIT, entry.commit.short()), terminal::line(subject))
    }

    /// The commits between two rows, at which the test neither passed nor only failed.
    fn between(&self, newer: usize, older: usize) -> String {
        let rows = &self.entries[newer + 1..older];
        let is_flaky =
            |row: &HistoryEntry| row.entry.as_ref().is_some_and(|entry| entry.status() == Status::Flaky);
        let kind = if rows.iter().any(is_flaky) { "untested or flaky" } else { "untested" };
        match rows.len() {
            0 => String::new(),
            1 => format!("; 1 {kind} commit in between"),
            count => format!("; {count} {kind} commits in between"),
        }
    }

    /// What the passes since this row prove, before its name.
    fn fix(&self, row: usize) -> String {
        let found = fixes(&self.entries).into_iter().find(|fix| fix.is_change && fix.row == row);
        match found.map(|fix| fix.claim) {
            Some(claim) if claim.state() == FixState::Fixed => "fixed by".into(),
            Some(claim) => format!("{}; passes since", fix::words(&claim)),
            None => "passes since".into(),
        }
    }

    /// The same of a flaky test that passes since.
    fn flaky_fix(&self) -> Option<String> {
        let found = fixes(&self.entries).into_iter().next().filter(|fix| !fix.is_change)?;
        Some(format!("; {} since {}", fix::words(&found.claim), self.entries[found.row].commit.short()))
    }

    fn summary(&self) -> String {
        let statuses = || self.entries.iter().map(|entry| Some(entry.entry.as_ref()?.status()));
        let Some(newest) = stretches(statuses()).into_iter().next() else {
            if statuses().any(|status| status == Some(Status::Flaky)) {
                return "no listed commit broke it".into();
            }
            let passes = statuses().any(|status| status == Some(Status::Passed));
            return if passes { "passes".into() } else { "neither passed nor failed on any commit".into() };
        };
        let Stretch { first_bad, last_bad, last_good, first_good } = newest;
        match (first_good, last_good) {
            (Some(good), _) => format!(
                "{} {}; last failure at {}{}",
                self.fix(good),
                self.name(good),
                self.name(last_bad),
                self.between(good, last_bad)
            ),
            (None, None) => {
                format!("fails since {} or earlier; no listed commit passes", self.name(first_bad))
            }
            (None, Some(good)) => format!(
                "fails; first bad commit {}; last good commit {}{}",
                self.name(first_bad),
                self.name(good),
                self.between(first_bad, good)
            ),
        }
    }
}

impl Answer for History {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&regress::json::history(&self.entries))
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let title = format!("{} on {}", self.key, self.branch);
        let flaky = flaky_in(&self.entries).map(|flaky| {
            let (rate, since) = (RateRow::from(flaky.rate), flaky.since.short());
            format!("; {flaky}, {rate}, since {since}")
        });
        let (flaky, fix) = (flaky.unwrap_or_default(), self.flaky_fix().unwrap_or_default());
        writeln!(out, "{}: {}{flaky}{fix}\n", text::paint(text::HEADING, title), self.summary())?;
        let mut table = Table::default();
        for HistoryEntry { commit, message, entry, .. } in &self.entries {
            let subject = message.trim_start().lines().next().unwrap_or("");
            let short = Cell::left(commit.short()).styled(text::COMMIT);
            table.row(match entry {
                Some(entry) => [
                    short,
                    Cell::left(entry.status().label()).styled(text::style(entry.status())),
                    Cell::right(text::duration(entry.decisive.duration)),
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
