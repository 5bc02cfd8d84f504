//! Bisections on the farm: which runs of which commits find the first bad commit of a test. Pure, except for [`repository`] and
//! `changes`.
//!
//! The crate `belief` chooses the runs and concludes. A run is a further attempt of the test at a commit, like a requested rerun, so
//! all that a bisection learns is in the store. Its record has the rest: a daemon that was killed continues from both.

pub mod changes;
mod range;
pub mod repository;
mod search;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use belief::Tally;
use belief::bisect::{Change, QuestionError, Rates, Record, State};
use gitio::CommitInfo;
use jobkit::Outcome;
use model::{BisectStart, BranchRef, CommitId, ResultKey, Status};
use results::TestEntry;
use results::bisections::{self, BisectionRecord};
use results::requests::{Bisect, BisectRange};

use self::changes::KnownSuspect;
pub use self::range::ChainError;
use self::repository::{GitAnswer, GitQuestion};
use self::search::Search;
use crate::plan::{JobRef, PlannedJob, Purpose};

/// The maximum number of bisections at a time.
const RUNNING_MAX: usize = 16;
/// The maximum number of suspects.
const SUSPECTS_MAX: usize = 5_000;
/// The maximum number of suspects whose changes are read.
const CHANGES_MAX: usize = 500;
/// The interval in seconds at which a bisection without news is looked at.
const INTERVAL: i64 = 10;
/// The time in seconds after which a run that ended without an attempt is given up.
const NO_ATTEMPT: i64 = 60;

/// Why a bisection does not begin.
#[derive(Debug, thiserror::Error)]
pub enum BisectError {
    /// No group of the branch has the test.
    #[error("no test group of this branch has this test")]
    NotConfigured,
    /// The test runs on a kernel of the store.
    #[error("the test runs on a kernel of the store, so no commit of this branch makes it fail")]
    StoreKernel,
    /// The group does not want it.
    #[error("bisections of this test are off; its test group has bisect = \"off\"")]
    Off,
    /// There are no commits to search.
    #[error(transparent)]
    Range(#[from] ChainError),
    /// The head does not fail.
    #[error("the test has no failure at {}", .0.short())]
    NoFailure(CommitId),
    /// Too many commits.
    #[error("{0} commits are too many; use a newer base (at most {SUSPECTS_MAX})")]
    TooMany(usize),
    /// It is running already.
    #[error("bisection {0} is running already")]
    Running(String),
    /// Too many bisections.
    #[error("{RUNNING_MAX} bisections are running already; cancel one with ci-status bisect --cancel ID")]
    Busy,
    /// There is no such bisection.
    #[error("no such bisection is running")]
    NotRunning,
    /// There is no question.
    #[error(transparent)]
    Question(#[from] QuestionError),
    /// The results cannot be read.
    #[error(transparent)]
    Results(#[from] results::Error),
}

/// A request, and what the farm knows about it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The request.
    pub request: &'a Bisect,
    /// The account that requested it.
    pub account: Option<String>,
    /// The name of the request file.
    pub file: Option<String>,
    /// The bisection with the first bad commit that is verified again. That commit may be in a merge, so that the branch does not list
    /// it.
    pub rechecks: Option<&'a BisectionRecord>,
    /// The job of the test at the tip of the branch.
    pub job: &'a PlannedJob,
    /// The commits of the branch, the tip first.
    pub listed: &'a [CommitInfo],
    /// The results of the test at these commits, and at those of the range.
    pub entries: &'a HashMap<CommitId, TestEntry>,
    /// The time, Unix seconds.
    pub now: i64,
}

/// The commits between the newest pass before the newest failures and `failed`, the oldest of these failures; `None` if the failure
/// is not new, or if the plan tests all commits between them: those are among the newest `planned` ones of the branch.
#[must_use]
pub fn new_failure(
    listed: &[CommitInfo],
    entries: &HashMap<CommitId, TestEntry>,
    failed: &CommitId,
    planned: u32,
) -> Option<BisectRange> {
    let status = |commit: &CommitId| entries.get(commit).map(TestEntry::status);
    let range = range::newest(listed, status).ok().filter(|range| range.head == *failed)?;
    // Without a pass, the failure may not be new.
    entries.get(&range.base)?;
    let chain = range::chain(listed, &range).ok()?;
    let planned: HashSet<&CommitId> =
        listed.iter().take(usize::try_from(planned).unwrap_or(usize::MAX)).map(|commit| &commit.id).collect();
    let is_hole = |commit: &CommitId| !entries.contains_key(commit) && !planned.contains(commit);
    chain.commits.iter().any(is_hole).then_some(range)
}

/// What a bisection needs from the farm.
pub trait Bench {
    /// The results of a test at a commit; `None` if there are none, or if they cannot be read.
    fn entry(&self, job: &JobRef) -> Option<TestEntry>;
    /// The job on the branch; `None` if the branch does not have it.
    fn job(&self, branch: &BranchRef, job: &JobRef) -> Option<PlannedJob>;
    /// The newest commit of the branch.
    fn tip(&self, branch: &BranchRef) -> Option<CommitId>;
}

/// What is to be done after a round, in this order.
#[derive(Debug, Default)]
pub struct Round {
    /// Jobs to submit.
    pub submit: Vec<PlannedJob>,
    /// Commits to keep in the repository of a branch: all that a bisection needs.
    pub keep: Vec<(String, BranchRef, Vec<CommitId>)>,
    /// Records to write: ids and texts.
    pub write: Vec<(String, String)>,
    /// Questions to the repository of a branch. [`Bisections::answered`] takes the answers.
    pub ask: Vec<(String, BranchRef, GitQuestion)>,
}

/// The running bisections.
#[derive(Debug, Default)]
pub struct Bisections {
    running: BTreeMap<String, Running>,
}

#[derive(Debug)]
struct Running {
    search: Search,
    /// The commits with a submitted job; with the time at which it ended, until its attempt is counted.
    submitted: HashMap<CommitId, Option<i64>>,
    /// The commits with new attempts.
    changed: HashSet<CommitId>,
    /// Whether the next round has something to do.
    is_due: bool,
    /// The time of its last round.
    looked_at: i64,
    /// The record as it was last written, without the wall time.
    written: Option<BisectionRecord>,
    /// Whether the repository is asked. Nothing begins until it answers.
    is_asking: bool,
    /// The commits that the repository keeps.
    kept: Vec<CommitId>,
}

impl Bisections {
    /// Continues a bisection after a restart. One that has ended is not continued.
    pub fn resume(&mut self, record: BisectionRecord, bench: &dyn Bench) -> Result<(), QuestionError> {
        if record.record.state != State::Running {
            return Ok(());
        }
        let (id, key) = (record.record.id.clone(), record.record.test.clone());
        let written = without_wall(record.clone());
        let entry = |commit: &CommitId| bench.entry(&JobRef { commit: commit.clone(), key: key.clone() });
        let search = Search::resume(record, entry)?;
        self.running.insert(id, Running::new(search, Some(written)));
        Ok(())
    }

    /// Begins a bisection, and returns its id. The next round starts its first runs.
    pub fn begin(&mut self, asked: &Asked<'_>) -> Result<String, BisectError> {
        let record = record(asked)?;
        let id = record.record.id.clone();
        if self.running.contains_key(&id) {
            return Err(BisectError::Running(id));
        }
        if self.running.len() >= RUNNING_MAX {
            return Err(BisectError::Busy);
        }
        let commits = record.commits.clone();
        let mut search = Search::begin(record)?;
        for commit in &commits {
            if let Some(entry) = asked.entries.get(commit) {
                search.observe(commit, entry);
            }
        }
        self.running.insert(id.clone(), Running::new(search, None));
        Ok(id)
    }

    /// Ends a bisection without a result.
    pub fn cancel(&mut self, id: &str) -> Result<(), BisectError> {
        let running = self.running.get_mut(id).ok_or(BisectError::NotRunning)?;
        // With a merge as the result, there is nothing else to cancel.
        running.search = running.search.clone().without_merged();
        running.search.cancel();
        (running.is_asking, running.is_due) = (false, true);
        Ok(())
    }

    /// Whether none is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether a run ended, and its attempt is not in the store yet, or a repository is asked.
    #[must_use]
    pub fn is_counting(&self) -> bool {
        self.running.values().any(|running| running.is_counting() || running.is_asking)
    }

    /// Takes the answer of a repository.
    pub fn answered(&mut self, id: &str, answer: GitAnswer, bench: &dyn Bench) {
        let Some(running) = self.running.get_mut(id).filter(|running| running.is_asking) else { return };
        (running.is_asking, running.is_due) = (false, true);
        let mut search = running.search.clone();
        let key = running.key();
        let entry = |commit: &CommitId| bench.entry(&JobRef { commit: commit.clone(), key: key.clone() });
        running.search = match answer {
            GitAnswer::Changes(known) => {
                let count =
                    |is: fn(&KnownSuspect) -> bool| known.iter().filter(|suspect| is(suspect)).count();
                tracing::info!(
                    "bisection {id}: {} suspects change code that the test ran, {} change nothing in the build, with the patch of {} it \
                     passes on another base",
                    count(|suspect| suspect.change == Change::Covered),
                    count(|suspect| suspect.change == Change::OutsideBuild),
                    count(|suspect| suspect.passes_on_other_base)
                );
                search.set_changes(&known);
                search
            }
            GitAnswer::Merged(None) => search.without_merged(),
            GitAnswer::Merged(Some(side)) => search.clone().merged(side, entry).unwrap_or_else(|error| {
                tracing::warn!("bisection {id} is not continued in the merge: {error}");
                search.without_merged()
            }),
            GitAnswer::Revert(revert) => search.with_revert(revert, entry),
        };
    }

    /// Whether a bisection still has a use for a commit.
    #[must_use]
    pub fn has_commit(&self, commit: &CommitId) -> bool {
        self.running.values().any(|running| running.submitted.contains_key(commit))
    }

    /// The job has a new attempt.
    pub fn attempted(&mut self, job: &JobRef) {
        for running in self.of(job) {
            running.changed.insert(job.commit.clone());
            running.is_due = true;
        }
    }

    /// A further attempt of the job ended, or was dropped.
    pub fn ended(&mut self, job: &PlannedJob, outcome: &Outcome, now: i64) {
        let name = job.name();
        for running in self.of(&name) {
            let Some(ended) = running.submitted.get_mut(&name.commit) else { continue };
            running.is_due = true;
            match outcome {
                Outcome::Done if job.purpose == Purpose::Bisect => {
                    *ended = Some(now);
                    running.changed.insert(name.commit.clone());
                }
                Outcome::Done => {}
                Outcome::Abandoned { .. } => {
                    running.submitted.remove(&name.commit);
                    running.search.gave_up(&name.commit);
                }
                // It is submitted again.
                Outcome::Cancelled | Outcome::Removed => {
                    running.submitted.remove(&name.commit);
                }
            }
        }
    }

    /// A job of the last round could not be submitted: the next round tries it again.
    pub fn not_submitted(&mut self, job: &JobRef) {
        for running in self.of(job) {
            running.submitted.remove(&job.commit);
        }
    }

    fn of(&mut self, job: &JobRef) -> impl Iterator<Item = &mut Running> {
        self.running.values_mut().filter(|running| running.search.asked().record.test == job.key)
    }

    /// Counts new attempts, and starts the next runs on this number of idle slots.
    pub fn round(&mut self, bench: &dyn Bench, mut idle: usize, now: i64) -> Round {
        let mut round = Round::default();
        for (id, running) in &mut self.running {
            if !running.is_due
                && !running.is_counting()
                && idle == 0
                && now.saturating_sub(running.looked_at) < INTERVAL
            {
                continue;
            }
            (running.is_due, running.looked_at) = (false, now);
            running.count(bench, now);
            if running.ask(id, bench, &mut round) {
                // What is asked before a result is asked again after a restart.
                if !running.search.is_final() {
                    running.publish(id, &mut round);
                }
                continue;
            }
            running.search.choose(idle.saturating_sub(running.unsubmitted().count()), now);
            let submit = running.submit(bench);
            idle = idle.saturating_sub(submit.len());
            round.submit.extend(submit);
            running.publish(id, &mut round);
        }
        self.running.retain(|_, running| !running.search.is_final() || running.is_asking);
        round
    }
}

impl Running {
    fn new(search: Search, written: Option<BisectionRecord>) -> Self {
        let (submitted, changed) = (HashMap::new(), HashSet::new());
        Self {
            search,
            submitted,
            changed,
            is_due: true,
            looked_at: 0,
            written,
            is_asking: false,
            kept: Vec::new(),
        }
    }

    /// Asks the repository, if the search needs that. Returns whether an answer is missing.
    ///
    /// A record with a merge as the result is not written before the commits of the merge are known: a daemon that is killed
    /// before asks again.
    fn ask(&mut self, id: &str, bench: &dyn Bench, round: &mut Round) -> bool {
        if !self.is_asking
            && let Some(question) = self.search.question(|branch| bench.tip(branch))
        {
            self.is_asking = true;
            round.ask.push((id.to_owned(), self.search.asked().branch.clone(), question));
        }
        self.is_asking
    }

    /// Writes the record if it changed, and keeps the commits.
    fn publish(&mut self, id: &str, round: &mut Round) {
        let needed = self.search.needed();
        if needed != self.kept {
            self.kept.clone_from(&needed);
            round.keep.push((id.to_owned(), self.search.asked().branch.clone(), needed));
        }
        let record = self.search.record();
        let text = bisections::text(&record);
        let record = Some(without_wall(record));
        if record != self.written {
            self.written = record;
            round.write.push((id.to_owned(), text));
        }
    }

    /// Whether a run ended, and its attempt is not in the store yet.
    fn is_counting(&self) -> bool {
        self.submitted.values().any(Option::is_some)
    }

    fn key(&self) -> ResultKey {
        self.search.asked().record.test.clone()
    }

    /// Counts the new attempts.
    fn count(&mut self, bench: &dyn Bench, now: i64) {
        let ended = self.submitted.iter().filter(|(_, ended)| ended.is_some());
        let ended: Vec<CommitId> = ended.map(|(commit, _)| commit.clone()).collect();
        self.changed.extend(ended.iter().cloned());
        for commit in std::mem::take(&mut self.changed) {
            let job = JobRef { commit, key: self.key() };
            if let Some(entry) = bench.entry(&job) {
                self.search.observe(&job.commit, &entry);
            }
        }
        let pending: HashSet<CommitId> = self.search.pending().cloned().collect();
        for commit in ended {
            let at = self.submitted.get(&commit).copied().flatten();
            if !pending.contains(&commit) {
                self.submitted.remove(&commit);
            } else if at.is_some_and(|at| now.saturating_sub(at) >= NO_ATTEMPT) {
                self.submitted.remove(&commit);
                self.search.gave_up(&commit);
            }
        }
    }

    /// The commits of pending runs that are not submitted.
    fn unsubmitted(&self) -> impl Iterator<Item = &CommitId> {
        self.search.pending().filter(|commit| !self.submitted.contains_key(*commit))
    }

    /// The jobs of pending runs that are not submitted.
    fn submit(&mut self, bench: &dyn Bench) -> Vec<PlannedJob> {
        let key = self.key();
        let job = |commit: &CommitId| JobRef { commit: commit.clone(), key: key.clone() };
        let missing: Vec<JobRef> = self.unsubmitted().map(job).collect();
        let branch = self.search.asked().branch.clone();
        let cost = Duration::try_from_secs_f64(self.search.asked().run_s).unwrap_or_default();
        let mut found = Vec::new();
        let mut waits_for = None;
        for job in missing {
            match bench.job(&branch, &job) {
                Some(planned) => {
                    self.submitted.insert(job.commit, None);
                    found.push(PlannedJob { purpose: Purpose::Bisect, cost, ..planned });
                }
                None => waits_for = Some(format!("no test group of the branch {branch} has the test")),
            }
        }
        self.search.set_waits_for(waits_for);
        found
    }
}

/// Counts the first bad commits that the farm named, and finds those that are to be verified again. `now` in Unix seconds.
pub fn find_rechecks(output_dir: &Path, now: i64) -> Vec<BisectionRecord> {
    let found = bisections::list(output_dir).records;
    let (named, due) = bisections::rechecks(&found, now);
    if named.named > 0
        && let Err(error) = bisections::write_named(output_dir, &named)
    {
        tracing::warn!("{error}");
    }
    due.into_iter().cloned().collect()
}

/// The wall time alone is no reason to write a record.
fn without_wall(mut record: BisectionRecord) -> BisectionRecord {
    record.record.wall_s = 0.0;
    record
}

/// The record of a bisection that has not begun.
fn record(asked: &Asked<'_>) -> Result<BisectionRecord, BisectError> {
    let Asked { request, job, entries, .. } = asked;
    if job.unit.kernel.is_some() && job.repo.is_linux() {
        return Err(BisectError::StoreKernel);
    }
    if job.bisect == BisectStart::Off {
        return Err(BisectError::Off);
    }
    let (range, chain, signature) = searched(asked)?;
    let earlier = earlier(asked, &range.base, &signature);
    let none = Tally::default();
    Ok(BisectionRecord {
        record: Record {
            id: match asked.rechecks {
                Some(found) => bisections::recheck_id(&found.record.id),
                None => bisections::id(&request.key, &range.base, &range.head),
            },
            test: request.key.clone(),
            signature: signature.clone(),
            base: range.base,
            head: range.head,
            state: State::Running,
            posterior: Vec::new(),
            no_culprit: 0.0,
            rates: Rates { old: none.rate(), new: none.rate() },
            earlier,
            steps: Vec::new(),
            verification: None,
            revert: None,
            outer: Vec::new(),
            runs: 0,
            builds: 0,
            wall_s: 0.0,
        },
        branch: request.branch.clone(),
        requested_by: asked.account.clone(),
        request: asked.file.clone(),
        rechecks: asked.rechecks.map(|found| found.record.id.clone()),
        begun: asked.now,
        waits_for: None,
        commits: chain.commits,
        outer_commits: Vec::new(),
        merges: chain.merges.into_iter().collect(),
        run_s: mean_s(entries).unwrap_or(job.cost.as_secs_f64()),
        builds_kernel: job.unit.kernel.is_none(),
        counted: BTreeMap::new(),
        given_up: BTreeMap::new(),
        pending: Vec::new(),
    })
}

/// The range, its commits, and the failure.
fn searched(asked: &Asked<'_>) -> Result<(BisectRange, range::Chain, belief::Signature), BisectError> {
    let Asked { request, listed, entries, .. } = asked;
    let status = |commit: &CommitId| entries.get(commit).map(TestEntry::status);
    let range = match &request.range {
        Some(range) => range.clone(),
        None => range::newest(listed, status)?,
    };
    let chain = match asked.rechecks {
        Some(found) => range::verified(found, &range),
        None => range::chain(listed, &range)?,
    };
    if chain.commits.len() > SUSPECTS_MAX {
        return Err(BisectError::TooMany(chain.commits.len() - 1));
    }
    let signature = match asked.rechecks {
        Some(found) => found.record.signature.clone(),
        None => entries
            .get(&range.head)
            .and_then(newest_failure)
            .ok_or_else(|| BisectError::NoFailure(range.head.clone()))?,
    };
    Ok((range, chain, signature))
}

/// The attempts at commits before the base, with failures of this signature.
fn earlier(asked: &Asked<'_>, base: &CommitId, signature: &belief::Signature) -> Tally {
    let older = asked.listed.iter().skip_while(|commit| commit.id != *base).skip(1);
    let older = older.filter_map(|commit| asked.entries.get(&commit.id)).take(belief::COMMITS);
    let tallies = older.flat_map(TestEntry::outcomes).filter_map(|outcome| match &outcome {
        belief::Outcome::Failed { signature: other } if other != signature => None,
        outcome => outcome.tally(),
    });
    tallies.sum()
}

/// The mean duration of the runs with a verdict, in seconds.
fn mean_s(entries: &HashMap<CommitId, TestEntry>) -> Option<f64> {
    let ended = entries.values().map(|entry| &entry.decisive);
    let ended = ended.filter(|attempt| matches!(attempt.status, Status::Passed | Status::Failed));
    let seconds: Vec<f64> = ended.map(|attempt| attempt.duration.as_secs_f64()).collect();
    let count = u32::try_from(seconds.len()).ok().filter(|count| *count > 0)?;
    Some(seconds.iter().sum::<f64>() / f64::from(count))
}

/// The signature of the newest failure of a test.
fn newest_failure(entry: &TestEntry) -> Option<belief::Signature> {
    entry.outcomes().iter().rev().find_map(|outcome| outcome.signature().cloned())
}
