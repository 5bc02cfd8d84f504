//! `ci-status wait`: waits until a commit is tested or one of its tests fails. The exit code is like that of `ktest
//! run`.
//!
//! A commit is done if it has results and, according to the status snapshot, none of its tests is running or queued. A
//! failure ends the wait earlier when it is confirmed: until then it may turn out to be flaky.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use model::{CommitId, Counts, Status, StatusSnapshot};
use regress::builds;
use results::json::{BuildRow, TestRow};
use results::{CommitResults, TestEntry};
use serde::Serialize;
use stdio::terminal;

use super::show::{add_listed, remark};
use super::{Answer, is_failure, to_json};
use crate::context::Context;
use crate::problem::Problem;
use crate::select;
use crate::text::{self, Cell, Table};

/// The age in seconds of a snapshot above which the daemon is considered stopped. The clocks of two machines may
/// differ.
const STALE: i64 = 120;
/// If more tests than this failed for the same reason, they are shown as one line.
const LISTED_MAX: usize = 4;

/// The conditions that end the wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct WaitOptions {
    /// Wait for all verdicts, not only until the first failure.
    pub all: bool,
    /// The time limit.
    pub limit: Option<Duration>,
    /// Whether known and flaky failures count as failures.
    pub strict: bool,
}

/// The clock of the wait loop.
pub trait Clock {
    /// The time since the start.
    fn elapsed(&self) -> Duration;
    /// Sleeps until the next check.
    fn pause(&mut self);
}

/// The state at the end of the wait.
#[derive(Debug)]
pub struct Wait {
    commit: CommitId,
    subject: String,
    counts: Counts,
    /// The kernels that do not build.
    build: Option<BuildRow>,
    done: bool,
    failed: Vec<TestEntry>,
}

#[derive(Serialize)]
struct WaitView {
    commit: String,
    /// Whether the commit is completely tested.
    done: bool,
    #[serde(flatten)]
    counts: Counts,
    failures: Vec<TestRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<BuildRow>,
}

/// The progress of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// No more results will follow.
    Done,
    /// More results will follow; describes what is done and what is left.
    Pending(String),
    /// Results are missing and nothing will test it.
    NotTested,
}

/// Whether a test failed or failed to run. A known failure, which has the verdict Not run, and a flaky one count if
/// `strict`.
fn counts_as_failure(entry: &TestEntry, strict: bool) -> bool {
    match entry.status() {
        Status::NotRun => strict && entry.decisive.known_issue().is_some(),
        Status::Flaky => strict,
        status => is_failure(status),
    }
}

/// Waits for the commit with this name. Calls `report` for each change of its progress.
pub fn run(
    context: &Context,
    name: Option<&str>,
    until: WaitOptions,
    clock: &mut dyn Clock,
    report: &mut dyn FnMut(&str),
) -> Result<Wait, Problem> {
    let commit = select::awaited(context, name)?;
    let mut reported = String::new();
    loop {
        let results = context.backend.commit(&commit)?;
        let snapshot = context.backend.snapshot()?;
        let elapsed = clock.elapsed();
        let now = context.now.saturating_add(i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX));
        let progress = progress(&commit, results.as_ref(), snapshot.as_ref(), now);
        let has_jobs =
            fresh(snapshot.as_ref(), now).is_some_and(|snapshot| snapshot.has_jobs_of(commit.as_str()));
        let failed = results.iter().flat_map(|results| &results.entries).any(|entry| {
            counts_as_failure(entry, until.strict) && (until.strict || !has_jobs || !entry.may_be_flaky())
        });
        let words = match progress {
            Progress::Done => return end(context, commit, results, until.strict, true),
            Progress::Pending(_) | Progress::NotTested if failed && !until.all => {
                return end(context, commit, results, until.strict, false);
            }
            Progress::NotTested => return Err(Problem::NotTested { commit }),
            Progress::Pending(words) => words,
        };
        if words != reported {
            report(&words);
            reported = words;
        }
        if let Some(limit) = until.limit.filter(|limit| elapsed >= *limit) {
            return Err(Problem::Timeout { commit, after: text::duration(limit), progress: reported });
        }
        clock.pause();
        context.backend.refresh();
    }
}

/// The snapshot, if the daemon still writes it.
fn fresh(snapshot: Option<&StatusSnapshot>, now: i64) -> Option<&StatusSnapshot> {
    snapshot.filter(|snapshot| now.saturating_sub(snapshot.written) <= STALE)
}

fn progress(
    commit: &CommitId,
    results: Option<&CommitResults>,
    snapshot: Option<&StatusSnapshot>,
    now: i64,
) -> Progress {
    let counts = results.map(CommitResults::counts).unwrap_or_default();
    let judged = counts.total() - counts.inprogress;
    let Some(snapshot) = fresh(snapshot, now) else {
        return if judged > 0 && counts.inprogress == 0 { Progress::Done } else { Progress::NotTested };
    };
    let is_claimed = snapshot
        .executors
        .iter()
        .filter_map(|executor| executor.batch.as_ref())
        .any(|batch| batch.commit == commit.as_str());
    let queued = match &snapshot.pending_by_commit {
        Some(pending) => pending.get(commit.as_str()).copied().unwrap_or(0),
        // Older daemons count by user only.
        None => snapshot.pending_by_group.values().sum(),
    };
    if judged > 0 && counts.inprogress == 0 && !is_claimed && queued == 0 && !snapshot.more_to_plan {
        return Progress::Done;
    }
    let mut parts = Vec::new();
    if counts.total() > 0 {
        parts.push(counts.to_string());
    } else if is_claimed {
        parts.push("building or booting".into());
    } else {
        parts.push("no results yet".into());
    }
    if queued > 0 {
        let scope = if snapshot.pending_by_commit.is_some() { "" } else { " (of all commits)" };
        parts.push(format!("{queued} queued{scope}"));
    }
    Progress::Pending(parts.join(", "))
}

fn end(
    context: &Context,
    commit: CommitId,
    results: Option<CommitResults>,
    strict: bool,
    done: bool,
) -> Result<Wait, Problem> {
    let nothing = || CommitResults { commit: commit.clone(), message: String::new(), entries: Vec::new() };
    let mut results = results.unwrap_or_else(nothing);
    if results.message.is_empty() {
        add_listed(context, &mut results)?;
    }
    let (subject, counts) = (results.subject().to_owned(), results.counts());
    let build = builds::view(&results);
    results.entries.retain(|entry| counts_as_failure(entry, strict));
    Ok(Wait { commit, subject, counts, build, done, failed: results.entries })
}

impl Wait {
    /// The failed tests, grouped by status and reason. If a kernel does not build, all its tests have the same reason.
    fn groups(&self) -> Vec<(Status, String, Vec<&TestEntry>)> {
        let mut groups: Vec<(Status, String, Vec<&TestEntry>)> = Vec::new();
        let mut index: HashMap<(Status, String), usize> = HashMap::new();
        for entry in &self.failed {
            let (status, remark) = (entry.status(), remark(entry));
            let at = *index.entry((status, remark.clone())).or_insert(groups.len());
            if at == groups.len() {
                groups.push((status, remark, Vec::new()));
            }
            groups[at].2.push(entry);
        }
        groups
    }
}

impl Answer for Wait {
    fn json(&self) -> serde_json::Result<String> {
        to_json(&WaitView {
            commit: self.commit.to_string(),
            done: self.done,
            counts: self.counts,
            failures: self.failed.iter().map(TestRow::from).collect(),
            build: self.build.clone(),
        })
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let short = text::paint(text::COMMIT, self.commit.short());
        let state = match (self.done, &self.build) {
            (true, _) => "done",
            (false, Some(_)) => "a kernel does not build, other tests have no verdict yet",
            (false, None) => "a test failed, others have no verdict yet",
        };
        let results = text::results(&self.counts, self.build.as_ref());
        writeln!(out, "{short} {}: {state}; {results}", terminal::line(&self.subject))?;
        let mut table = Table::default();
        for (status, remark, entries) in self.groups() {
            let mut row = |what: &dyn fmt::Display| {
                table.row([
                    Cell::left(status.label()).styled(text::style(status)),
                    Cell::left(what),
                    Cell::left(&remark),
                ]);
            };
            let is_build = entries.iter().all(|entry| builds::is_unbuilt(entry));
            if (entries.len() > LISTED_MAX || is_build) && !remark.is_empty() {
                row(&format_args!("{} {}", entries.len(), if entries.len() == 1 { "test" } else { "tests" }));
            } else {
                entries.iter().for_each(|entry| row(&entry.key));
            }
        }
        write!(out, "{table}")
    }

    /// The exit codes of `ktest run`, for `git bisect run`: 0 passed, 1 a test failed, 125 no verdict.
    fn exit_code(&self) -> u8 {
        let counts = &self.counts;
        if self.failed.iter().any(|entry| matches!(entry.status(), Status::NotRun | Status::Flaky)) {
            return 1;
        }
        match (counts.failed, counts.failed_to_run, counts.passed + counts.notrun + counts.flaky) {
            (1.., ..) => 1,
            (_, 0, 1..) => 0,
            _ => 125,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::snapshot::{BatchStatus, ExecutorStatus};

    use super::*;

    fn commit() -> CommitId {
        "1".repeat(40).parse().unwrap()
    }

    fn results(statuses: &[Status]) -> CommitResults {
        let entry =
            |(at, status): (usize, &Status)| TestEntry::new(format!("a.t{at}").parse().unwrap(), *status);
        let entries = statuses.iter().enumerate().map(entry).collect();
        CommitResults { commit: commit(), message: String::new(), entries }
    }

    fn exit_code(results: &CommitResults, failed: &[TestEntry]) -> u8 {
        let (counts, failed) = (results.counts(), failed.to_vec());
        Wait { commit: commit(), subject: String::new(), counts, build: None, done: true, failed }.exit_code()
    }

    #[test]
    fn known_failures_count_only_if_strict() {
        let mut results = results(&[Status::Passed, Status::NotRun, Status::NotRun]);
        results.entries[1].decisive.reason = Some("known failure: a bug; it failed: 1".into());
        results.entries[2].decisive.reason = Some("no device".into());
        let failed = |strict| results.entries.iter().filter(|entry| counts_as_failure(entry, strict)).count();
        assert_eq!((failed(false), failed(true)), (0, 1));
        let exit_code = |failed| exit_code(&results, failed);
        assert_eq!((exit_code(&[]), exit_code(&results.entries[1..2])), (0, 1));
    }

    #[test]
    fn flaky_failures_count_only_if_strict() {
        let mut results = results(&[Status::Failed, Status::Failed, Status::Failed]);
        let retry = |status| results::Attempt { number: 2, ..results::Attempt::new(status) };
        results.entries[0].others.push(retry(Status::Passed));
        results.entries[1].others.push(retry(Status::Failed));
        for entry in &mut results.entries {
            entry.decisive.host = Some("farm1".parse().unwrap());
        }
        let which =
            |wanted: &dyn Fn(&TestEntry) -> bool| results.entries.iter().map(wanted).collect::<Vec<_>>();
        assert_eq!(which(&|entry| counts_as_failure(entry, false)), [false, true, true]);
        assert_eq!(which(&|entry| counts_as_failure(entry, true)), [true, true, true]);
        assert_eq!(which(&TestEntry::may_be_flaky), [false, false, true], "not confirmed yet");
        results.entries.truncate(1);
        let exit_code = |failed| exit_code(&results, failed);
        assert_eq!((exit_code(&[]), exit_code(&results.entries)), (0, 1));
    }

    fn daemon(pending: u64, more_to_plan: bool, claimed: bool) -> StatusSnapshot {
        let batch = BatchStatus { commit: commit().to_string(), ..BatchStatus::default() };
        StatusSnapshot {
            written: 1000,
            pending_by_commit: Some([(commit().to_string(), pending)].into()),
            more_to_plan,
            executors: claimed
                .then(|| ExecutorStatus { batch: Some(batch), ..ExecutorStatus::default() })
                .into_iter()
                .collect(),
            ..StatusSnapshot::default()
        }
    }

    #[test]
    fn a_commit_is_done_when_no_results_will_follow() {
        use Status::{Failed, InProgress, Passed};
        let of = |statuses: &[Status], snapshot: Option<StatusSnapshot>| {
            let results = (!statuses.is_empty()).then(|| results(statuses));
            progress(&commit(), results.as_ref(), snapshot.as_ref(), 1002)
        };
        let pending = |words: &str| Progress::Pending(words.into());
        assert_eq!(of(&[Passed, Failed], Some(daemon(0, false, false))), Progress::Done);
        assert_eq!(of(&[Passed], Some(daemon(0, true, false))), pending("1 passed"));
        assert_eq!(of(&[Passed], Some(daemon(3, false, false))), pending("1 passed, 3 queued"));
        assert_eq!(
            of(&[Passed, InProgress], Some(daemon(0, false, true))),
            pending("1 in progress, 1 passed")
        );
        assert_eq!(of(&[], Some(daemon(0, false, true))), pending("building or booting"));
        assert_eq!(of(&[], Some(daemon(0, false, false))), pending("no results yet"));
        assert_eq!(of(&[], None), Progress::NotTested);
        assert_eq!(of(&[Passed], None), Progress::Done);
        assert_eq!(of(&[Passed, InProgress], None), Progress::NotTested);
        let old = StatusSnapshot { written: 1, ..daemon(0, false, false) };
        assert_eq!(of(&[InProgress], Some(old)), Progress::NotTested);
        let older = StatusSnapshot {
            pending_by_commit: None,
            pending_by_group: BTreeMap::from([("kmo".parse().unwrap(), 7)]),
            ..daemon(0, false, false)
        };
        assert_eq!(of(&[Passed], Some(older)), pending("1 passed, 7 queued (of all commits)"));
    }

    #[test]
    fn failures_with_the_same_reason_are_one_line() {
        use Status::{Failed, FailedToRun};
        let mut results = results(&[Failed, FailedToRun, FailedToRun, FailedToRun, FailedToRun, FailedToRun]);
        for entry in &mut results.entries[1..] {
            entry.decisive.reason = Some("does not build".into());
        }
        let counts = results.counts();
        let subject = "ext4: x".into();
        let wait =
            Wait { commit: commit(), subject, counts, build: None, done: true, failed: results.entries };
        let mut text = Vec::new();
        wait.text(&mut text).unwrap();
        let text = anstream::adapter::strip_str(&String::from_utf8(text).unwrap()).to_string();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines, ["Failed         a.t0", "Failed to run  5 tests  does not build"]);
    }

    #[test]
    fn exit_codes_are_those_of_a_run() {
        use Status::{Failed, FailedToRun, NotRun, Passed};
        let code = |statuses: &[Status]| {
            let counts = results(statuses).counts();
            Wait {
                commit: commit(),
                subject: String::new(),
                counts,
                build: None,
                done: true,
                failed: Vec::new(),
            }
            .exit_code()
        };
        assert_eq!(code(&[Passed, NotRun]), 0);
        assert_eq!(code(&[Passed, Failed, FailedToRun]), 1);
        assert_eq!(code(&[Passed, FailedToRun]), 125);
        assert_eq!(code(&[FailedToRun]), 125);
    }
}
