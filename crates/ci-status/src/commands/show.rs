//! `ci-status show`: one commit, test by test, failures first.

use std::collections::BTreeMap;
use std::io::{self, Write};

use model::{CommitId, Counts, Owner, Status};
use regress::builds;
use results::json::{
    BuildRow, CommitView, FailedKernelRow, OwnersRow, SameCodeRow, SamePatchRow, SinceRow, SuspicionRow,
};
use results::{Authorship, CommitResults, TestEntry};
use stdio::terminal;

use super::{Answer, is_failure, since, suspicious, to_json};
use crate::backend::{RelatedResults, all_branches};
use crate::context::Context;
use crate::problem::Problem;
use crate::select::{self, SelectedCommit, TestSelection};
use crate::text::{self, Cell, Table};

/// Printed instead of a remark that is equal to the previous one.
const SAME: &str = "same";

/// A commit's tests.
#[derive(Debug)]
pub struct Show {
    results: CommitResults,
    authorship: Authorship,
    now: i64,
    /// The counts of all tests, filtered or not.
    all: Counts,
    suspicious: Vec<SuspicionRow>,
    since: Vec<SinceRow>,
    /// The owners of the failed tests.
    owners: Vec<OwnersRow>,
    /// The command that repeats the first failed test.
    command: Option<String>,
    /// The kernels that do not build.
    build: Option<BuildRow>,
    /// Those of them with one line for all their tests.
    folded: Option<BuildRow>,
    /// Tests that wait for an idle slot.
    same_code: Vec<SameCodeRow>,
    same_patch: Vec<SamePatchRow>,
}

/// Reads a commit. `failed`: only tests that failed or failed to run; `test`: only tests with a matching name; `configuration`: only
/// tests in these configurations.
pub fn run(
    context: &Context,
    commit: Option<&str>,
    failed: bool,
    (test, configuration): (Option<&str>, Option<&str>),
) -> Result<Show, Problem> {
    let pattern = select::pattern(test)?;
    let SelectedCommit { commit, at } = select::commit_or_branch(context, commit)?;
    let results = context.backend.commit(&commit)?;
    let mut results =
        results.unwrap_or_else(|| CommitResults { commit, message: String::new(), entries: Vec::new() });
    let authorship = add_listed(context, &mut results)?;
    let all = results.counts();
    let build = builds::view(&results);
    let wanted = TestSelection::new(pattern, configuration, results.entries.iter().map(|entry| &entry.key))?;
    let mut suspicious = if failed { Vec::new() } else { suspicious::of_commit(context, &results)? };
    suspicious.retain(|pass| wanted.matches(&pass.name));
    results
        .entries
        .retain(|entry| (!failed || is_failure(entry.status())) && wanted.matches(entry.key.as_str()));
    let since = since::of_commit(context, at.as_ref(), &results)?;
    let command = since::command(context, &results);
    let RelatedResults { mut same_code, same_patch } = context.backend.related_results(&results.commit)?;
    same_code.retain(|row| !failed && wanted.matches(&row.name));
    let is_red = results.entries.iter().any(|entry| is_failure(entry.status()));
    let owners = if is_red { context.backend.owners(&results)? } else { Vec::new() };
    let owners = owners.into_iter().filter_map(|row| shown_owners(row, &results)).collect();
    // Of the kernels that do not build, those of the selected tests.
    let folded = if test.is_none() { builds::view(&results) } else { None };
    let now = context.now;
    Ok(Show {
        results,
        authorship,
        now,
        all,
        suspicious,
        command,
        since,
        owners,
        build,
        same_code,
        same_patch,
        folded,
    })
}

/// The owners of the tests that are shown.
fn shown_owners(mut row: OwnersRow, results: &CommitResults) -> Option<OwnersRow> {
    row.tests.retain(|name| name.parse().is_ok_and(|key| results.get(&key).is_some()));
    (!row.tests.is_empty()).then_some(row)
}

/// Adds the message of a commit from a listing to results without one. Returns its author and date.
pub(super) fn add_listed(context: &Context, results: &mut CommitResults) -> Result<Authorship, Problem> {
    let listings = context.backend.listings(&all_branches(&*context.backend)?);
    let entry = listings.into_iter().flatten().find(|entry| entry.commit == results.commit);
    let (message, authorship) = entry.map(|entry| (entry.message, entry.authorship)).unwrap_or_default();
    if results.message.is_empty() {
        results.message = message;
    }
    Ok(authorship)
}

/// The crash, the reason and the failure rate of a test.
pub(super) fn remark(entry: &TestEntry) -> String {
    let mut parts: Vec<String> = Vec::new();
    let reason = entry.decisive.reason.as_deref().unwrap_or("");
    // In this system, reasons start with the crash title; those of other systems may not.
    match &entry.decisive.crash {
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
        to_json(&CommitView {
            suspicious: self.suspicious.clone(),
            authorship: self.authorship.clone(),
            since: self.since.clone(),
            build: self.build.clone(),
            owners: self.owners.clone(),
            same_code: self.same_code.clone(),
            same_patch: self.same_patch.clone(),
            ..CommitView::new(&self.results, |_| true)
        })
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let results = &self.results;
        writeln!(out, "{}", text::paint(text::COMMIT, format_args!("commit {}", results.commit)))?;
        if !results.subject().is_empty() {
            writeln!(out, "    {}", terminal::line(results.subject()))?;
        }
        let by = text::by(&self.authorship, self.now);
        if !by.is_empty() {
            writeln!(out, "    {}", text::paint(text::FAINT, by))?;
        }
        let time = text::duration(results.duration());
        let shown = results.counts();
        match (self.all == shown, shown.total()) {
            (true, 0) => writeln!(out, "\nno results yet")?,
            (true, _) => writeln!(out, "\n{} in {time}", text::results(&shown, self.build.as_ref()))?,
            (false, count) => {
                writeln!(out, "\n{}; {count} shown", text::results(&self.all, self.build.as_ref()))?;
            }
        }
        for (source, tests) in results::sources(&results.entries) {
            let tests = if tests == 1 { "1 test".into() } else { format!("{tests} tests") };
            let source = text::paint(text::COMMIT, source.short());
            writeln!(out, "{tests} ran as {source}, with the same kernel and tests")?;
        }
        for SamePatchRow { commit, counts } in &self.same_patch {
            let (other, counts) = (text::paint(text::COMMIT, commit.short()), text::counts(counts));
            writeln!(out, "the same patch on another base, at {other}: {counts}")?;
        }
        self.write_same_code(out)?;
        since::write(&self.since, self.now, out)?;
        for OwnersRow { owners, tests } in &self.owners {
            let names: Vec<&str> = owners.iter().map(Owner::as_str).collect();
            let tests = match &tests[..] {
                [test] => test.clone(),
                tests => format!("{} failed tests", tests.len()),
            };
            writeln!(out, "  owner of {}: {}", terminal::line(&tests), terminal::line(&names.join(", ")))?;
        }
        if let Some(command) = &self.command {
            writeln!(out, "  to reproduce: {command}")?;
        }
        if results.entries.is_empty() {
            return Ok(());
        }
        write!(out, "\n{}", self.table())?;
        suspicious::write(&self.suspicious, out)
    }
}

impl Show {
    fn write_same_code(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut sources: BTreeMap<&CommitId, Counts> = BTreeMap::new();
        for row in &self.same_code {
            sources.entry(&row.commit).or_default().add(row.status);
        }
        for (source, counts) in sources {
            let (tests, wait) = if counts.total() == 1 { ("test", "waits") } else { ("tests", "wait") };
            let (count, source) = (counts.total(), text::paint(text::COMMIT, source.short()));
            writeln!(
                out,
                "{count} {tests} {wait} for an idle slot; with the same code, at {source}: {}",
                text::counts(&counts)
            )?;
        }
        Ok(())
    }

    /// The tests. Those of a kernel that does not build are one line.
    fn table(&self) -> Table {
        let mut table = Table::default();
        let failed = self.folded.iter().flat_map(|build| &build.failed);
        for FailedKernelRow { kernel, error, tests, .. } in failed {
            let kernel = if kernel.is_default() { String::new() } else { format!(" ({kernel})") };
            table.row([
                Cell::left("Build failed").styled(text::style(Status::Failed)),
                Cell::left(if *tests == 1 { "1 test".into() } else { format!("{tests} tests") }),
                Cell::right(""),
                Cell::left(format_args!("{error}{kernel}")),
            ]);
        }
        let is_listed = |entry: &&TestEntry| self.folded.is_none() || !builds::is_unbuilt(entry);
        for status in Status::BY_URGENCY {
            let mut above = String::new();
            for entry in
                self.results.entries.iter().filter(|entry| entry.status() == status).filter(is_listed)
            {
                let remark = remark(entry);
                // If a VM does not boot, all its tests have the same reason.
                let is_same = remark == above && remark.chars().count() > SAME.len();
                table.row([
                    Cell::left(status.label()).styled(text::style(status)),
                    Cell::left(&entry.key),
                    Cell::right(text::duration(entry.decisive.duration)),
                    Cell::left(if is_same { SAME } else { &remark }),
                ]);
                above = remark;
            }
        }
        table
    }
}
