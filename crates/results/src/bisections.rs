//! The bisections of the farm: one record per bisection, `bisect/<id>.json` of the output directory.
//!
//! ci-daemon writes the records and continues from them after a restart. Others only read them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use belief::NamedCommits;
use belief::bisect::{Arm, Record, State, Step, Why};
use fsx::publish::Durability;
use model::{BranchRef, CommitId, ResultKey};
use serde::{Deserialize, Serialize};

pub use crate::records::is_id;
use crate::records::{self, ID_MAX, id_end};

/// The directory of the records, in the output directory.
pub const DIRECTORY: &str = "bisect";
/// The maximum number of merges in which a search continues.
pub const OUTER_MAX: usize = 8;
/// The maximum number of runs in a record.
const RUNS_MAX: u64 = 100_000;

/// The record of a bisection on the farm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BisectionRecord {
    /// What was run, and what it shows: the record of `ktest bisect`.
    #[serde(flatten)]
    pub record: Record,
    /// The branch with the commits. Its user has the jobs.
    pub branch: BranchRef,
    /// The account that requested it; `None` if the farm started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The name of the request file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The bisection with the first bad commit that this one verifies again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rechecks: Option<String>,
    /// The start, Unix seconds.
    pub begun: i64,
    /// Why nothing runs at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The base, then the suspects from oldest to newest.
    pub commits: Vec<CommitId>,
    /// The commits of the searches that found the merges in which this one continues, without those of `commits`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outer_commits: Vec<CommitId>,
    /// The second parents of merges.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub merges: BTreeMap<CommitId, CommitId>,
    /// The expected duration of a run, in seconds.
    pub run_s: f64,
    /// Whether the kernel is built from the commit.
    pub builds_kernel: bool,
    /// The number of the newest attempt at each commit that is counted.
    pub counted: BTreeMap<CommitId, u32>,
    /// The runs at each commit that the farm gave up: they have no attempt.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given_up: BTreeMap<CommitId, u32>,
    /// The runs that have no result yet.
    pub pending: Vec<PendingRun>,
}

/// A run without a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingRun {
    /// The commit.
    pub commit: CommitId,
    /// Why it runs.
    pub why: Why,
}

/// Why a record is not one of a bisection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// Its id is not the name of its file.
    #[error("it has the id {0:?}")]
    Id(String),
    /// Too many merges, or merges in merges.
    #[error("it has more than {OUTER_MAX} merges")]
    Outer,
    /// The commits are not those between base and head.
    #[error("its commits do not begin with its base and end with its head")]
    Commits,
    /// A commit that it does not list.
    #[error("it has runs of {0}, which is not one of its commits")]
    Unlisted(CommitId),
    /// Numbers of runs that cannot be.
    #[error("its numbers of runs are impossible")]
    Runs,
}

/// Records, and the problems of those that cannot be read.
#[derive(Debug, Default)]
pub struct BisectionRecords {
    /// The records, newest first.
    pub records: Vec<BisectionRecord>,
    /// The problems, one line each.
    pub problems: Vec<String>,
}

/// The id of the bisection of a test between two commits. It is a file name.
#[must_use]
pub fn id(test: &ResultKey, base: &CommitId, head: &CommitId) -> String {
    format!("{}-{}{}", base.short(), head.short(), id_end(test))
}

/// The file of a record.
#[must_use]
pub fn path(output_dir: &Path, id: &str) -> PathBuf {
    output_dir.join(DIRECTORY).join(format!("{id}.json"))
}

/// The text of a record. A reader sees the previous or the new one.
#[must_use]
pub fn text(record: &BisectionRecord) -> String {
    serde_json::to_string_pretty(record).unwrap_or_default()
}

/// Writes the text of a record.
pub fn write(output_dir: &Path, id: &str, text: &str) -> Result<(), fsx::Error> {
    records::write(&path(output_dir, id), text)
}

/// One record; `None` if there is none. The error is one line.
pub fn read(output_dir: &Path, id: &str) -> Result<Option<BisectionRecord>, String> {
    if !is_id(id) {
        return Ok(None);
    }
    records::read(&path(output_dir, id), |record: &BisectionRecord| {
        record.check(id).map_err(|error| error.to_string())
    })
}

/// The records of an output directory, newest first.
#[must_use]
pub fn list(output_dir: &Path) -> BisectionRecords {
    read_all(output_dir, |_| true)
}

/// At most `max` records, those that were written last, newest first. Those that cannot be read are left out.
#[must_use]
pub fn newest(output_dir: &Path, max: usize) -> Vec<BisectionRecord> {
    let read = |id: &str| read(output_dir, id);
    let (mut records, _) = records::list_newest(&output_dir.join(DIRECTORY), max, |_| true, read);
    sort(&mut records);
    records
}

fn sort(records: &mut [BisectionRecord]) {
    records.sort_by(|a, b| (b.begun, &b.record.id).cmp(&(a.begun, &a.record.id)));
}

/// The commits at which the running bisections have or need results.
#[must_use]
pub(crate) fn needed_commits(output_dir: &Path) -> HashSet<CommitId> {
    list(output_dir).records.iter().flat_map(BisectionRecord::needed).cloned().collect()
}

/// The file in the directory of the records with the number of first bad commits, and of those that did not hold.
const NAMED: &str = "named";
/// The time in seconds after which a first bad commit can be verified again.
const RECHECK_AGE: i64 = 24 * 3600;

/// The id of the bisection that verifies the result of another one again.
#[must_use]
pub fn recheck_id(id: &str) -> String {
    format!("{id}-again")
}

/// The first bad commits that the farm named, and the records of those that are to be verified again now: the first and each
/// hundredth after it, a day later.
#[must_use]
pub fn rechecks(found: &[BisectionRecord], now: i64) -> (NamedCommits, Vec<&BisectionRecord>) {
    let of: HashMap<&str, &BisectionRecord> =
        found.iter().filter_map(|record| Some((record.rechecks.as_deref()?, record))).collect();
    let is_named = |record: &&BisectionRecord| {
        record.rechecks.is_none() && matches!(record.record.state, State::Culprit { .. })
    };
    let mut records: Vec<&BisectionRecord> = found.iter().filter(is_named).collect();
    records.sort_by_key(|record| (record.begun, &record.record.id));
    let mut named = NamedCommits::default();
    let mut due = Vec::new();
    for record in records {
        let is_chosen = named.name();
        match of.get(record.record.id.as_str()).map(|again| &again.record.state) {
            Some(State::NotConfirmed { .. }) => named.rechecked(false),
            Some(_) => {}
            None => {
                let ended = record.begun.saturating_add(record.record.wall_s as i64);
                if is_chosen && ended.saturating_add(RECHECK_AGE) <= now {
                    due.push(record);
                }
            }
        }
    }
    (named, due)
}

/// Writes the number of first bad commits.
pub fn write_named(output_dir: &Path, named: &NamedCommits) -> Result<(), fsx::Error> {
    let text = serde_json::to_string(named).unwrap_or_default();
    fsx::publish::file(&output_dir.join(DIRECTORY).join(NAMED), &text, Durability::Cached)
}

/// Reads the number of first bad commits; `None` if there are none yet.
#[must_use]
pub fn read_named(output_dir: &Path) -> Option<NamedCommits> {
    let text = fsx::own::read_to_string(&output_dir.join(DIRECTORY).join(NAMED), 4096).ok()?;
    serde_json::from_str(&text).ok()
}

/// The records of a test, newest first. Those that cannot be read are left out.
#[must_use]
pub fn of_test(output_dir: &Path, test: &ResultKey) -> Vec<BisectionRecord> {
    of_tests(output_dir, std::slice::from_ref(test))
}

/// The records of tests, newest first. Those that cannot be read are left out.
#[must_use]
pub fn of_tests(output_dir: &Path, tests: &[ResultKey]) -> Vec<BisectionRecord> {
    let ends: Vec<String> = tests.iter().map(id_end).collect();
    let mut records = read_all(output_dir, |id| ends.iter().any(|end| id.ends_with(end))).records;
    records.retain(|found| tests.contains(&found.record.test));
    records
}

fn read_all(output_dir: &Path, is_wanted: impl Fn(&str) -> bool) -> BisectionRecords {
    let read = |id: &str| read(output_dir, id);
    let (mut records, problems) = records::list(&output_dir.join(DIRECTORY), is_wanted, read);
    sort(&mut records);
    BisectionRecords { records, problems }
}

impl BisectionRecord {
    /// The base and the head that were asked for: those of the search that found the outermost merge.
    #[must_use]
    pub fn range(&self) -> (&CommitId, &CommitId) {
        let record = self.record.outer.first().unwrap_or(&self.record);
        (&record.base, &record.head)
    }

    /// Whether a commit is the base or a suspect of one of its searches.
    #[must_use]
    pub fn has_commit(&self, commit: &CommitId) -> bool {
        self.commits.contains(commit) || self.outer_commits.contains(commit)
    }

    /// The commits at which a running bisection has or needs results.
    fn needed(&self) -> impl Iterator<Item = &CommitId> {
        let is_running = self.record.state == State::Running;
        let commits = self.commits.iter().chain(self.counted.keys());
        commits.chain(self.record.revert.iter().map(|revert| &revert.commit)).filter(move |_| is_running)
    }

    /// Checks what a bisection relies on when it continues from the record.
    fn check(&self, id: &str) -> Result<(), InvalidRecord> {
        let record = &self.record;
        if record.id != id {
            return Err(InvalidRecord::Id(record.id.chars().take(ID_MAX).collect()));
        }
        let listed: HashSet<&CommitId> = self.commits.iter().collect();
        let ends = (self.commits.first(), self.commits.last());
        if ends != (Some(&record.base), Some(&record.head))
            || listed.len() != self.commits.len()
            || listed.len() < 2
        {
            return Err(InvalidRecord::Commits);
        }
        if record.outer.len() > OUTER_MAX || record.outer.iter().any(|outer| !outer.outer.is_empty()) {
            return Err(InvalidRecord::Outer);
        }
        // The runs of a revert are verifications.
        let is_revert = |why: &Why| *why == Why::Verification(Arm::Revert);
        let reverts: HashSet<&CommitId> = { record.steps.iter() }
            .filter(|step| is_revert(&step.why))
            .map(|step| &step.commit)
            .chain(record.revert.iter().map(|revert| &revert.commit))
            .collect();
        let used = record.steps.iter().map(|step| &step.commit);
        let used = used.chain(self.pending.iter().map(|run| &run.commit)).chain(self.counted.keys());
        let mut used = used.chain(self.given_up.keys());
        if let Some(unlisted) = used.find(|commit| !listed.contains(commit) && !reverts.contains(commit)) {
            return Err(InvalidRecord::Unlisted(unlisted.clone()));
        }
        let ended = |step: &Step| u64::from(step.fails) + u64::from(step.other) + u64::from(step.passes);
        let runs: u64 = record.steps.iter().map(|step| u64::from(step.runs)).sum();
        let possible = record.steps.iter().all(|step| ended(step) <= u64::from(step.runs));
        if !possible || runs > RUNS_MAX || !self.run_s.is_finite() || self.run_s < 0.0 {
            return Err(InvalidRecord::Runs);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
