//! `ci-status wait`: until a commit is tested or a test of it failed, with an exit code like that of `ktest run`.
//!
//! Done is a commit of which something has a result, nothing runs and nothing is planned, as far as the daemon says.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use model::{CommitId, Counts, Status, StatusSnapshot};
use results::json::TestRow;
use results::{CommitResults, TestEntry};
use serde::Serialize;

use super::show::{message, remark};
use super::{Answer, is_failure, to_json};
use crate::problem::Problem;
use crate::select;
use crate::source::Source;
use crate::text::{self, Cell, Table};

/// A snapshot older than this comes from a daemon that has stopped, in s; clocks of two machines may differ.
const STALE: i64 = 120;
/// More tests than this that failed for the same reason are one line.
const ONE_BY_ONE: usize = 4;

/// What is waited for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Until {
    /// All verdicts, also after the first failure.
    pub all: bool,
    /// At most so long.
    pub limit: Option<Duration>,
}

/// Time, as waiting needs it.
pub trait Clock {
    /// Since waiting began.
    fn elapsed(&self) -> Duration;
    /// Lets some pass.
    fn pause(&mut self);
}

/// How it ended.
#[derive(Debug)]
pub struct Wait {
    commit: CommitId,
    subject: String,
    counts: Counts,
    done: bool,
    failed: Vec<TestEntry>,
}

#[derive(Serialize)]
struct WaitView {
    commit: String,
    /// Whether every verdict is there.
    done: bool,
    #[serde(flatten)]
    counts: Counts,
    failures: Vec<TestRow>,
}

/// How a commit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    /// Nothing more comes.
    Done,
    /// There is more to come: what, in words.
    Coming(String),
    /// There should be more, and nobody works on it.
    Hopeless,
}

/// Waits for the commit that `name` means; tells `progress` what changes.
pub fn run(
    source: &Source,
    name: Option<&str>,
    until: Until,
    clock: &mut dyn Clock,
    progress: &mut dyn FnMut(&str),
) -> Result<Wait, Problem> {
    let commit = select::awaited(source, name)?;
    let mut told = String::new();
    loop {
        let results = source.results.commit(&commit)?;
        let snapshot = source.results.snapshot()?;
        let elapsed = clock.elapsed();
        let now = source.now.saturating_add(i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX));
        let stand = stand(&commit, results.as_ref(), snapshot.as_ref(), now);
        let failed =
            results.iter().flat_map(|results| &results.entries).any(|entry| is_failure(entry.status));
        let stands = match stand {
            Stand::Done => return end(source, commit, results, true),
            Stand::Coming(_) | Stand::Hopeless if failed && !until.all => {
                return end(source, commit, results, false);
            }
            Stand::Hopeless => return Err(Problem::Hopeless { commit }),
            Stand::Coming(stands) => stands,
        };
        if stands != told {
            progress(&stands);
            told = stands;
        }
        if let Some(limit) = until.limit.filter(|limit| elapsed >= *limit) {
            return Err(Problem::Timeout { commit, after: text::duration(limit), stands: told });
        }
        clock.pause();
        source.results.refresh();
    }
}

fn stand(
    commit: &CommitId,
    results: Option<&CommitResults>,
    snapshot: Option<&StatusSnapshot>,
    now: i64,
) -> Stand {
    let snapshot = snapshot.filter(|snapshot| now.saturating_sub(snapshot.written) <= STALE);
    let counts = results.map(CommitResults::counts).unwrap_or_default();
    let judged = counts.total() - counts.inprogress;
    let Some(snapshot) = snapshot else {
        return if judged > 0 && counts.inprogress == 0 { Stand::Done } else { Stand::Hopeless };
    };
    let claimed = snapshot
        .executors
        .iter()
        .filter_map(|executor| executor.batch.as_ref())
        .any(|batch| batch.commit == commit.as_str());
    let waiting = match &snapshot.pending_by_commit {
        Some(pending) => pending.get(commit.as_str()).copied().unwrap_or(0),
        // An older daemon counts by user only.
        None => snapshot.pending_by_group.values().sum(),
    };
    if judged > 0 && counts.inprogress == 0 && !claimed && waiting == 0 && !snapshot.more_to_plan {
        return Stand::Done;
    }
    let mut parts = Vec::new();
    if counts.total() > 0 {
        parts.push(words(&counts));
    } else if claimed {
        parts.push("being built or booted".into());
    } else {
        parts.push("no results yet".into());
    }
    if waiting > 0 {
        let whose = if snapshot.pending_by_commit.is_some() { "" } else { " (of all commits)" };
        parts.push(format!("{waiting} wait{whose}"));
    }
    Stand::Coming(parts.join(", "))
}

fn words(counts: &Counts) -> String {
    let there = text::BY_CONCERN.into_iter().filter(|status| counts.get(*status) > 0);
    let parts: Vec<String> =
        there.map(|status| format!("{} {}", counts.get(status), status.label().to_lowercase())).collect();
    parts.join(", ")
}

fn end(
    source: &Source,
    commit: CommitId,
    results: Option<CommitResults>,
    done: bool,
) -> Result<Wait, Problem> {
    let nothing = || CommitResults { commit: commit.clone(), message: String::new(), entries: Vec::new() };
    let mut results = results.unwrap_or_else(nothing);
    if results.message.is_empty() {
        results.message = message(source, &results)?;
    }
    let (subject, counts) = (results.subject().to_owned(), results.counts());
    results.entries.retain(|entry| is_failure(entry.status));
    Ok(Wait { commit, subject, counts, done, failed: results.entries })
}

impl Wait {
    /// The tests that failed, those together of which the same is to be said: a commit that does not build fails all.
    fn alike(&self) -> Vec<(Status, String, Vec<&TestEntry>)> {
        let mut groups: Vec<(Status, String, Vec<&TestEntry>)> = Vec::new();
        let mut places: HashMap<(Status, String), usize> = HashMap::new();
        for entry in &self.failed {
            let (status, remark) = (entry.status, remark(entry));
            let at = *places.entry((status, remark.clone())).or_insert(groups.len());
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
        })
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let short = text::paint(text::COMMIT, self.commit.short());
        let state = if self.done { "done" } else { "a test failed, others are to come" };
        writeln!(out, "{short} {}: {state}; {}", text::clean(&self.subject), text::counts(&self.counts))?;
        let mut table = Table::default();
        for (status, remark, entries) in self.alike() {
            let mut row = |what: &dyn fmt::Display| {
                table.row([
                    Cell::left(status.label()).styled(text::style(status)),
                    Cell::left(what),
                    Cell::left(&remark),
                ]);
            };
            if entries.len() > ONE_BY_ONE && !remark.is_empty() {
                row(&format_args!("{} tests", entries.len()));
            } else {
                entries.iter().for_each(|entry| row(&entry.key));
            }
        }
        write!(out, "{table}")
    }

    /// As `ktest run` has it, so that `git bisect run` understands: 1 a test failed, 125 nothing could be judged.
    fn exit_code(&self) -> u8 {
        let counts = &self.counts;
        match (counts.failed, counts.failed_to_run, counts.passed + counts.notrun) {
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
    fn done_is_when_nothing_more_comes() {
        use Status::{Failed, InProgress, Passed};
        let of = |statuses: &[Status], snapshot: Option<StatusSnapshot>| {
            let results = (!statuses.is_empty()).then(|| results(statuses));
            stand(&commit(), results.as_ref(), snapshot.as_ref(), 1002)
        };
        let coming = |words: &str| Stand::Coming(words.into());
        assert_eq!(of(&[Passed, Failed], Some(daemon(0, false, false))), Stand::Done);
        assert_eq!(of(&[Passed], Some(daemon(0, true, false))), coming("1 passed"));
        assert_eq!(of(&[Passed], Some(daemon(3, false, false))), coming("1 passed, 3 wait"));
        assert_eq!(
            of(&[Passed, InProgress], Some(daemon(0, false, true))),
            coming("1 in progress, 1 passed")
        );
        assert_eq!(of(&[], Some(daemon(0, false, true))), coming("being built or booted"));
        assert_eq!(of(&[], Some(daemon(0, false, false))), coming("no results yet"));
        assert_eq!(of(&[], None), Stand::Hopeless);
        assert_eq!(of(&[Passed], None), Stand::Done);
        assert_eq!(of(&[Passed, InProgress], None), Stand::Hopeless);
        let old = StatusSnapshot { written: 1, ..daemon(0, false, false) };
        assert_eq!(of(&[InProgress], Some(old)), Stand::Hopeless);
        let older = StatusSnapshot {
            pending_by_commit: None,
            pending_by_group: BTreeMap::from([("kmo".parse().unwrap(), 7)]),
            ..daemon(0, false, false)
        };
        assert_eq!(of(&[Passed], Some(older)), coming("1 passed, 7 wait (of all commits)"));
    }

    #[test]
    fn many_that_failed_alike_are_one_line() {
        use Status::{Failed, FailedToRun};
        let mut results = results(&[Failed, FailedToRun, FailedToRun, FailedToRun, FailedToRun, FailedToRun]);
        for entry in &mut results.entries[1..] {
            entry.reason = Some("does not build".into());
        }
        let counts = results.counts();
        let subject = "ext4: x".into();
        let wait = Wait { commit: commit(), subject, counts, done: true, failed: results.entries };
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
            Wait { commit: commit(), subject: String::new(), counts, done: true, failed: Vec::new() }
                .exit_code()
        };
        assert_eq!(code(&[Passed, NotRun]), 0);
        assert_eq!(code(&[Passed, Failed, FailedToRun]), 1);
        assert_eq!(code(&[Passed, FailedToRun]), 125);
        assert_eq!(code(&[FailedToRun]), 125);
    }
}
