//! Records the findings of all branches: what broke, what is fixed, and what needs an operator.
//!
//! Branches with changed results are examined in the background. The findings and what is known of the branch are recorded in one
//! transaction, so that a daemon that is killed neither loses nor repeats one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use belief::{Confidence, Signature};
use config::Config;
use fsx::digest::sha256_hex;
use model::{BranchRef, CommitId, Finding, FindingKind, ResultKey, StatusSnapshot};
use regress::branch_history::BranchHistory;
use regress::builds::{BuildHistory, CommitBuilds, KernelCache};
use regress::findings::{Facts, Known, baseline, changes};
use regress::suspicious::{Columns, Compared, PASSES_READ, Search, Source, SuspiciousPass, earlier};
use regress::{Names, fix};
use results::bisections::{self, BisectionRecord};
use results::findings::FARM;
use results::notes::Note;
use results::{BranchEntry, Reader, RecentRun, TestDuration, TestEntry, Writer};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::soak::statuses;

/// The minimum time between two examinations.
const INTERVAL: Duration = Duration::from_secs(2);
/// Examinations use at most one part in this many of the time of a processor.
const PART: u32 = 10;
/// The maximum number of commits of a branch that are examined, the newest ones.
const COMMITS_MAX: usize = 500;
/// The maximum number of bisections that are read.
const BISECTIONS_MAX: usize = 1000;
/// A problem of the farm is a finding after this time, in seconds.
const STANDS_S: i64 = 60;
/// A problem that is gone for this time is a new one if it occurs again, in seconds.
const GONE_S: i64 = 3600;

/// Records findings.
#[derive(Debug, Default)]
pub(crate) struct FindingRecorder {
    state: Option<Examined>,
    running: Option<JoinHandle<Examined>>,
    due: Option<Instant>,
}

/// What is known of all branches, and of the farm.
#[derive(Debug, Default)]
struct Examined {
    branches: HashMap<BranchRef, ExaminedBranch>,
    farm: Option<FarmProblems>,
    took: Duration,
}

#[derive(Debug, Default)]
struct ExaminedBranch {
    known: Known,
    /// The digest of its listing and of its bisections.
    stamp: String,
}

/// The problems of the farm that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FarmProblems {
    problems: Vec<FarmProblem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FarmProblem {
    /// The problem without numbers, which may vary.
    signature: String,
    since: i64,
    newest: i64,
    is_finding: bool,
}

impl FindingRecorder {
    /// Examines all branches before anything runs.
    pub async fn begin(
        &mut self,
        writer: &Writer,
        config: &Arc<Config>,
        snapshot: &StatusSnapshot,
        now: i64,
    ) {
        let (writer, config) = (writer.clone(), Arc::clone(config));
        self.state = Some(examine(Examined::default(), writer, config, snapshot.clone(), now).await);
    }

    /// Examines the branches with changes in the background, if it is time.
    pub async fn step(&mut self, writer: &Writer, config: &Arc<Config>, snapshot: &StatusSnapshot, now: i64) {
        if let Some(running) = self.running.take_if(|running| running.is_finished()) {
            let examined = running.await.unwrap_or_default();
            self.due = Some(Instant::now() + INTERVAL.max(examined.took * PART));
            self.state = Some(examined);
        }
        if self.running.is_none() && self.due.is_none_or(|due| due <= Instant::now()) {
            let state = self.state.take().unwrap_or_default();
            let (writer, config, snapshot) = (writer.clone(), Arc::clone(config), snapshot.clone());
            self.running = Some(tokio::spawn(examine(state, writer, config, snapshot, now)));
        }
    }

    /// Examines all branches for the last time. Two rounds make a finding.
    pub async fn end(&mut self, writer: &Writer, config: &Arc<Config>, snapshot: &StatusSnapshot, now: i64) {
        let mut state = match self.running.take() {
            Some(running) => running.await.unwrap_or_default(),
            None => self.state.take().unwrap_or_default(),
        };
        for _ in 0..2 {
            state = examine(state, writer.clone(), Arc::clone(config), snapshot.clone(), now).await;
        }
        self.state = Some(state);
    }
}

async fn examine(
    mut state: Examined,
    writer: Writer,
    config: Arc<Config>,
    snapshot: StatusSnapshot,
    now: i64,
) -> Examined {
    let began = Instant::now();
    let reader = writer.reader();
    let examined = tokio::task::spawn_blocking(move || {
        let notes = notes(&mut state, &reader, &config, &snapshot, now);
        (state, notes)
    });
    let Ok((mut state, notes)) = examined.await else { return Examined::default() };
    if !notes.is_empty() {
        for note in notes {
            if let Err(error) = writer.note(note) {
                tracing::warn!("{error}");
            }
        }
        if let Err(error) = writer.flush().await {
            // The next daemon finds them again.
            tracing::error!("findings are not recorded: {error}");
        }
    }
    state.took = began.elapsed();
    state
}

/// What is new on all branches and on the farm.
fn notes(
    state: &mut Examined,
    reader: &Reader,
    config: &Config,
    snapshot: &StatusSnapshot,
    now: i64,
) -> Vec<Note> {
    // Before the first examination of a directory, what fails is no news.
    let Some(begun) = reader.finding_state(FARM) else { return Vec::new() };
    let mut notes = Vec::new();
    let records = bisections::newest(reader.output_dir(), BISECTIONS_MAX);
    for branch in config.all_branches() {
        notes.extend(of_branch(state, reader, (&branch.name, &records), snapshot, (begun.is_none(), now)));
    }
    state.branches.retain(|name, _| config.branch(name).is_some());
    notes.extend(of_farm(state, begun.as_deref(), &snapshot.problems, now));
    notes
}

fn of_branch(
    state: &mut Examined,
    reader: &Reader,
    (name, records): (&BranchRef, &[BisectionRecord]),
    snapshot: &StatusSnapshot,
    (is_first, now): (bool, i64),
) -> Option<Note> {
    let mut listed = reader.branch(name).ok()?.unwrap_or_default();
    listed.truncate(COMMITS_MAX);
    let records: Vec<BisectionRecord> =
        records.iter().filter(|record| record.branch == *name).cloned().collect();
    let stamp = stamp(&listed, &records);
    let examined = match state.branches.get_mut(name) {
        Some(examined) => examined,
        None => {
            let recorded = reader.finding_state(&name.to_string())?;
            let known = recorded.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            state.branches.entry(name.clone()).or_insert(ExaminedBranch { known, stamp: String::new() })
        }
    };
    if examined.stamp == stamp && !examined.known.waits() {
        return None;
    }
    examined.stamp = stamp;
    let (findings, known) = with_facts(reader, (name, &listed, &records), snapshot, now, |facts| {
        if is_first { (Vec::new(), baseline(facts)) } else { changes(&examined.known, facts) }
    });
    for finding in &findings {
        tracing::info!(branch = %name, id = finding.id, "finding: {}: {}", finding.kind.words(), finding.signature);
    }
    let text = |known: &Known| serde_json::to_string(known).unwrap_or_default();
    let is_new = !findings.is_empty() || text(&known) != text(&examined.known);
    examined.known = known;
    is_new.then(|| Note::Findings { branch: name.to_string(), findings, known: text(&examined.known) })
}

/// Calls `examine` with the state of a branch.
fn with_facts<T>(
    reader: &Reader,
    (branch, listed, bisections): (&BranchRef, &[BranchEntry], &[BisectionRecord]),
    snapshot: &StatusSnapshot,
    now: i64,
    examine: impl FnOnce(&Facts<'_>) -> T,
) -> T {
    let mut names: HashMap<u64, Names> = HashMap::new();
    let columns: Vec<_> = listed
        .iter()
        .map(|entry| {
            (entry.counts.total() > 0).then(|| statuses(reader, &entry.commit, &mut names)).flatten()
        })
        .collect();
    let mut kernels = KernelCache::default();
    let by_commit: HashMap<_, _> = listed.iter().map(|entry| &entry.commit).zip(&columns).collect();
    let builds = BuildHistory::of_listing(listed, |commit| {
        let columns = by_commit.get(commit).copied()?.as_ref()?;
        let of_names = kernels.of(&columns.names);
        let entry = |key: &ResultKey| reader.entry(commit, key).ok()?;
        let all = || reader.commit(commit).ok()?;
        Some(Arc::new(CommitBuilds::of_columns(columns, &of_names, entry, all)))
    });
    let history = BranchHistory::new(columns.iter().cloned());
    let flaky = reader.flaky(branch).ok().flatten().unwrap_or_default();
    examine(&Facts {
        branch,
        listed,
        history: &history,
        builds: &builds,
        flaky: &flaky,
        bisections,
        entry: &|commit, key| reader.recorded_entry(commit, key).ok()?,
        suspicious: &|row| suspicious(reader, listed, row),
        claim: &|key| fix::at(&reader.history(branch, key).ok()??, 0, Confidence::USUAL),
        has_jobs: &|commit| snapshot.has_jobs_of(commit.as_str()),
        now,
    })
}

/// The maximum number of results of a commit that are checked in full for suspicious passes.
const SUSPICIONS_MAX: usize = 1000;

/// The suspicious passes of a commit that is completely tested.
fn suspicious(reader: &Reader, listed: &[BranchEntry], row: usize) -> Vec<SuspiciousPass> {
    let older = earlier(listed, row);
    let compared = Compared { now: &listed[row].commit, older: &older, complete: true };
    let source = PassSource { reader, names: RefCell::default() };
    Search::new(source, SUSPICIONS_MAX).find(compared, |_| true)
}

/// Results for a search of suspicious passes.
struct PassSource<'a> {
    reader: &'a Reader,
    names: RefCell<HashMap<u64, Names>>,
}

impl Source for PassSource<'_> {
    fn columns(&self, commit: &CommitId) -> Option<Columns> {
        let statuses = statuses(self.reader, commit, &mut self.names.borrow_mut())?;
        Columns::new(statuses, self.reader.durations_at(commit).ok()??)
    }

    fn entry(&self, commit: &CommitId, key: &ResultKey) -> Option<TestEntry> {
        self.reader.entry(commit, key).ok()?
    }

    fn means(&self) -> Vec<TestDuration> {
        self.reader.durations().unwrap_or_default()
    }

    fn past(&self, commit: &CommitId, entry: &TestEntry) -> Vec<RecentRun> {
        self.reader.passes_before(commit, entry, PASSES_READ)
    }
}

/// A digest of everything that findings depend on, except the retries of failures.
fn stamp(listed: &[BranchEntry], records: &[BisectionRecord]) -> String {
    let mut text = String::new();
    for BranchEntry { commit, counts, .. } in listed {
        text.push_str(&format!("{commit} {counts:?}\n"));
    }
    for record in records {
        text.push_str(&format!("{} {:?}\n", record.record.id, record.record.state));
    }
    sha256_hex(text)
}

fn of_farm(state: &mut Examined, begun: Option<&str>, problems: &[String], now: i64) -> Option<Note> {
    let recorded = || begun.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let farm = state.farm.get_or_insert_with(recorded);
    let before = farm.clone();
    let mut findings = Vec::new();
    for problem in problems {
        let signature = Signature::new(None, problem).as_str().to_owned();
        let known = match farm.problems.iter_mut().find(|known| known.signature == signature) {
            Some(known) => known,
            None => {
                farm.problems.push(FarmProblem { signature, since: now, newest: now, is_finding: false });
                continue;
            }
        };
        known.newest = now;
        if !known.is_finding && now.saturating_sub(known.since) >= STANDS_S {
            known.is_finding = true;
            findings.push(farm_finding(problem, known, now));
        }
    }
    farm.problems.retain(|known| known.newest > now.saturating_sub(GONE_S));
    // The time of the newest occurrence alone is not worth a write.
    let found = |farm: &FarmProblems| {
        farm.problems.iter().map(|known| (known.signature.clone(), known.is_finding)).collect::<Vec<_>>()
    };
    let is_new = begun.is_none() || !findings.is_empty() || found(&before) != found(farm);
    let known = serde_json::to_string(farm).unwrap_or_default();
    is_new.then(|| Note::Findings { branch: FARM.into(), findings, known })
}

fn farm_finding(problem: &str, known: &FarmProblem, now: i64) -> Finding {
    about_farm(&format!("{FARM} {} {}", known.since, known.signature), problem, now)
}

/// A finding about the farm. Its id is a digest of `cause`.
pub(crate) fn about_farm(cause: &str, text: &str, at: i64) -> Finding {
    let mut id = sha256_hex(cause);
    id.truncate(16);
    Finding {
        id,
        kind: FindingKind::Farm,
        branch: None,
        commit: None,
        tests: Vec::new(),
        tests_total: 0,
        signature: text.to_owned(),
        first_bad: None,
        last_good: None,
        rate: None,
        at,
    }
}

#[cfg(test)]
mod tests;
