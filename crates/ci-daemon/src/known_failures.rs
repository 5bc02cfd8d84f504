//! Known failures of a farm: each verdict is judged when it is recorded, and those of listed commits again when the entries
//! of the files `known-issues.toml` change. So a failure that is not known any longer is a failure again.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use config::Config;
use gitio::Repo;
use model::{BranchRef, CommitId, KnownFailure, ResultKey, Status, Verdict};
use results::{Attempt, Reader, TestEntry, Writer};
use testfile::known_issues::{Judged, KnownIssues, variant_of, version_of_source};
use tokio::task::JoinHandle;

use crate::plan::{PlannedJob, Unit, units_of};
use crate::watch::fetch_loop::View;

/// The number of newest commits of a branch with verdicts that are judged again.
const COMMITS: usize = 100;
/// The maximum size of the Makefile of a kernel.
const MAKEFILE_MAX: usize = 1 << 20;
const DAY_S: i64 = 86_400;

/// The kernel and the environment of a unit, as in results.
fn configuration_of<'a>(unit: &Unit, prefix: &'a str) -> &'a str {
    prefix.strip_prefix(&unit.test.dotted()).unwrap_or_default()
}

/// The version of the kernel that is built from a commit; `None` if it cannot be read.
pub(crate) async fn version_of(linux_repo: &Path, commit: &CommitId) -> Option<String> {
    let repo = Repo::open(linux_repo).ok()?;
    let makefile = repo.file(commit, "Makefile", MAKEFILE_MAX).await.ok()?;
    version_of_source(&String::from_utf8_lossy(&makefile))
}

/// Judges the verdict of a job, before it is recorded.
pub(crate) async fn judge_job(
    issues: &KnownIssues,
    linux_repo: &Path,
    job: &PlannedJob,
    crash: Option<&str>,
    verdict: Verdict,
) -> Verdict {
    if !matches!(verdict, Verdict::Failed { .. } | Verdict::NotRun { .. }) {
        return verdict;
    }
    let unit = &job.unit;
    let prefix = ResultKey::file_prefix(&unit.test, unit.kernel.as_ref(), &unit.env);
    let test = format!("{}.{}", unit.test.dotted(), job.subtest.dotted());
    let version = match unit.kernel.is_none() && issues.need_version(&test) {
        true => version_of(linux_repo, &job.commit).await,
        false => None,
    };
    let judged = Judged {
        test: &test,
        variant: variant_of(unit.env.iter()),
        configuration: configuration_of(unit, &prefix),
        branches: &[&job.branch.to_string()],
        crash,
        kernel_version: version.as_deref(),
        now: fsx::clock::unix_seconds(),
    };
    issues.judge(&judged, &verdict).unwrap_or(verdict)
}

/// Units by the prefix of their keys.
pub(crate) type Units = HashMap<String, Unit>;

/// The units of the groups of some branches.
pub(crate) fn units_by_prefix<'a>(
    branches: impl Iterator<Item = &'a config::Branch>,
    config: &Config,
) -> Units {
    let units = branches.flat_map(|branch| config.groups_of(branch)).flat_map(units_of);
    units.map(|unit| (ResultKey::file_prefix(&unit.test, unit.kernel.as_ref(), &unit.env), unit)).collect()
}

/// The unit of a result, with its prefix.
fn unit_of<'a>(key: &ResultKey, units: &'a Units) -> Option<(&'a String, &'a Unit)> {
    let key = key.as_str();
    let mut ends = key.match_indices('.').map(|(at, _)| at);
    ends.find_map(|at| units.get_key_value(&key[..at]))
}

/// The reason of a failure, also of a known one; `None` if the attempt is no failure.
fn failure_in(attempt: &Attempt) -> Option<&str> {
    let reason = attempt.reason.as_deref().unwrap_or_default();
    match attempt.status {
        Status::Failed => Some(reason),
        Status::NotRun => KnownFailure::found_in(reason),
        _ => None,
    }
}

/// The places of the entries that are about a failure, whether or not they are over.
pub(crate) fn entries_about<'a>(
    issues: &'a KnownIssues,
    branches: &[&str],
    units: &Units,
    entry: &TestEntry,
) -> Vec<&'a str> {
    let attempt = &entry.decisive;
    let (Some(found), Some((prefix, unit))) = (failure_in(attempt), unit_of(&entry.key, units)) else {
        return Vec::new();
    };
    let judged = Judged {
        test: &format!("{}{}", unit.test.dotted(), &entry.key.as_str()[prefix.len()..]),
        variant: variant_of(unit.env.iter()),
        configuration: configuration_of(unit, prefix),
        branches,
        crash: attempt.crash.as_deref(),
        kernel_version: None,
        now: 0,
    };
    let about = issues.iter().filter(|issue| issue.is_about_verdict(&judged, found));
    about.map(|issue| issue.place.as_str()).collect()
}

/// A verdict that may become another one.
struct Candidate {
    key: ResultKey,
    test: String,
    unit: Unit,
    prefix: String,
    attempt: u32,
    crash: Option<String>,
    verdict: Verdict,
}

/// A commit to judge, with all branches that list it.
struct Listed {
    commit: CommitId,
    branches: Vec<BranchRef>,
}

/// The newest commits with failures or tests that did not run of some branches.
fn listed(reader: &Reader, config: &Config, branches: &BTreeSet<BranchRef>) -> results::Result<Vec<Listed>> {
    let mut wanted = BTreeSet::new();
    let mut branches_of: HashMap<CommitId, Vec<BranchRef>> = HashMap::new();
    for branch in config.all_branches() {
        let entries = reader.branch(&branch.name)?.unwrap_or_default();
        if branches.contains(&branch.name) {
            let newest = entries.iter().filter(|entry| entry.counts.total() > 0).take(COMMITS);
            let is_open = |counts: &model::Counts| counts.failed + counts.flaky + counts.notrun > 0;
            wanted.extend(newest.filter(|entry| is_open(&entry.counts)).map(|entry| entry.commit.clone()));
        }
        for entry in entries {
            branches_of.entry(entry.commit).or_default().push(branch.name.clone());
        }
    }
    let of = |commit: CommitId| {
        let branches = branches_of.remove(&commit).unwrap_or_default();
        Listed { commit, branches }
    };
    Ok(wanted.into_iter().map(of).collect())
}

fn candidate(entry: TestEntry, units: &Units) -> Option<Candidate> {
    failure_in(&entry.decisive)?;
    let (prefix, unit) = unit_of(&entry.key, units)?;
    let (prefix, unit, attempt) = (prefix.clone(), unit.clone(), entry.decisive);
    Some(Candidate {
        test: format!("{}{}", unit.test.dotted(), &entry.key.as_str()[prefix.len()..]),
        unit,
        prefix,
        attempt: attempt.number,
        crash: attempt.crash,
        verdict: Verdict::of(attempt.status, attempt.reason)?,
        key: entry.key,
    })
}

/// Judges the verdicts of the newest commits of some branches again. Returns the number of those that changed.
async fn pass(
    writer: &Writer,
    config: &Arc<Config>,
    issues: &KnownIssues,
    branches: BTreeSet<BranchRef>,
    now: i64,
) -> results::Result<usize> {
    let (reader, of) = (writer.reader(), Arc::clone(config));
    let blocking = move || listed(&reader, &of, &branches);
    let Ok(commits) = tokio::task::spawn_blocking(blocking).await else { return Ok(0) };
    let mut changed = 0;
    for of in commits? {
        let listing = config.all_branches().filter(|branch| of.branches.contains(&branch.name));
        let units = units_by_prefix(listing, config);
        let (reader, commit) = (writer.reader(), of.commit.clone());
        let read = tokio::task::spawn_blocking(move || reader.commit(&commit));
        let Ok(Ok(Some(results))) = read.await else { continue };
        let candidates: Vec<Candidate> =
            results.entries.into_iter().filter_map(|entry| candidate(entry, &units)).collect();
        changed += judge_commit(writer, config, issues, (&of, &candidates), now).await?;
    }
    Ok(changed)
}

async fn judge_commit(
    writer: &Writer,
    config: &Config,
    issues: &KnownIssues,
    (of, candidates): (&Listed, &[Candidate]),
    now: i64,
) -> results::Result<usize> {
    let branches: Vec<String> = of.branches.iter().map(ToString::to_string).collect();
    let branches: Vec<&str> = branches.iter().map(String::as_str).collect();
    let (mut version, mut changed) = (None, 0);
    for Candidate { key, test, unit, prefix, attempt, crash, verdict } in candidates {
        if version.is_none() && issues.need_version(test) {
            version = Some(version_of(&config.top.linux_repo, &of.commit).await);
        }
        let built = version.as_ref().and_then(Option::as_deref).filter(|_| unit.kernel.is_none());
        let judged = Judged {
            test,
            variant: variant_of(unit.env.iter()),
            configuration: configuration_of(unit, prefix),
            branches: &branches,
            crash: crash.as_deref(),
            kernel_version: built,
            now,
        };
        let Some(new) = issues.judge(&judged, verdict) else { continue };
        changed += usize::from(writer.judge(&of.commit, key, *attempt, new).await?);
    }
    Ok(changed)
}

/// Judges recorded verdicts again when the entries have changed, one of them is over, or a branch has other commits.
#[derive(Debug, Default)]
pub(crate) struct Rejudge {
    /// The entries in effect, and the day.
    last: Option<(Arc<KnownIssues>, i64)>,
    running: Option<JoinHandle<()>>,
    waiting: BTreeSet<BranchRef>,
}

impl Rejudge {
    /// Starts a pass, if one is needed. `listed` are the branches with other commits.
    pub(crate) fn take_view(&mut self, writer: &Writer, view: &View, listed: &[BranchRef], now: i64) {
        let now_last = (Arc::clone(&view.known_issues), now / DAY_S);
        let is_same = self.last.as_ref() == Some(&now_last);
        match &self.last {
            _ if is_same => self.waiting.extend(listed.iter().cloned()),
            _ => self.waiting.extend(view.branches.keys().cloned()),
        }
        let is_empty = |last: &(Arc<KnownIssues>, i64)| last.0.is_empty();
        let nothing = is_empty(&now_last) && self.last.as_ref().is_some_and(is_empty);
        self.last = Some(now_last);
        if nothing {
            self.waiting.clear();
        }
        if self.waiting.is_empty() || self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let branches = std::mem::take(&mut self.waiting);
        let (writer, config, issues) =
            (writer.clone(), Arc::clone(&view.config), Arc::clone(&view.known_issues));
        self.running = Some(tokio::spawn(async move {
            match pass(&writer, &config, &issues, branches, now).await {
                Ok(0) => {}
                Ok(changed) => tracing::info!("known failures: {changed} verdicts changed"),
                Err(error) => tracing::warn!("known failures: {error}"),
            }
        }));
    }

    /// Waits for the pass.
    pub(crate) async fn end(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.await;
        }
    }
}

/// The known failures of the tree of test files, as the fetch loop reads them.
#[derive(Debug, Default)]
pub(crate) struct LoadedIssues {
    pub(crate) issues: Arc<KnownIssues>,
    pub(crate) problems: Vec<String>,
}

impl LoadedIssues {
    /// Reads the files. The entries of a file that is not valid stay as they were.
    pub(crate) async fn refresh(&mut self, ktest_dir: &Path, now: i64) {
        let (dir, last) = (ktest_dir.to_path_buf(), Arc::clone(&self.issues));
        let read = tokio::task::spawn_blocking(move || KnownIssues::load_all(&dir, &last));
        let Ok((issues, errors)) = read.await else { return };
        self.problems = errors.iter().map(|error| format!("{error}; its last valid entries stay")).collect();
        self.problems.extend(issues.over(now));
        if issues != *self.issues {
            self.issues = Arc::new(issues);
        }
    }
}
