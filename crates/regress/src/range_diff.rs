//! What a force-push did to the results of a branch: for each commit of the old and the new version, whether it kept its results,
//! what its changes broke and fixed, and what is left to run.

use std::collections::HashSet;
use std::time::Duration;

use model::{BranchRef, CommitId, Counts, Status};
use results::BranchEntry;
use results::pushes::{Mark, Push, PushedCommit, Pushes};
use serde::{Deserialize, Serialize};

use crate::eta::{expected_tests, tests_left, time_for};
use crate::{CommitStatuses, Names};

/// The maximum number of broken or fixed tests that are named for a commit.
const NAMED_MAX: usize = 20;

/// How many commits more than in an old version that is tested to its end are tested in the new one.
const MORE: usize = 10;

/// Results, which are quick to read.
pub trait PushResults {
    /// The statuses of a commit; `None` if it has no results.
    fn statuses(&self, commit: &CommitId) -> Option<CommitStatuses>;

    /// The number of tests of a commit with an inherited verdict.
    fn inherited(&self, commit: &CommitId) -> usize;

    /// The mean duration of a test, if it has history.
    fn mean(&self, test: &str) -> Option<Duration>;
}

/// The view of a force-push, as JSON: the dashboard's `&format=json` and `ci-status --json` print it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeDiffView {
    /// The owner of the branch.
    pub user: String,
    /// The branch.
    pub branch: String,
    /// When the farm saw the push, Unix seconds.
    pub pushed: i64,
    /// The old tip.
    pub old: CommitId,
    /// The new tip.
    pub new: CommitId,
    /// The number of commits of the new version.
    pub commits: usize,
    /// The number of them that kept their results.
    pub kept: usize,
    /// The number of them with tests that are left to run.
    pub to_run: usize,
    /// The number of tests that are left to run.
    pub tests_left: usize,
    /// The estimated time for them in seconds; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// The number of commits that are in both versions. They are not in `pairs`.
    pub unchanged: usize,
    /// Whether only the newest commits of each version are compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
    /// Why the versions are not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The commits of both versions, newest first.
    pub pairs: Vec<PairRow>,
    /// The other force-pushes that are recorded, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<PushRow>,
}

/// A commit of the old version, of the new one, or of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRow {
    /// The commits, and what became of the old one.
    #[serde(flatten)]
    pub commit: PushedCommit,
    /// The number of tests of the old commit by status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_counts: Option<Counts>,
    /// The number of tests of the new commit by status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_counts: Option<Counts>,
    /// The results of the new commit; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<PairResults>,
    /// The tests that passed at the old commit and fail at the new one.
    #[serde(default, skip_serializing_if = "NamedTests::is_empty")]
    pub broke: NamedTests,
    /// The tests that failed at the old commit and pass at the new one.
    #[serde(default, skip_serializing_if = "NamedTests::is_empty")]
    pub fixed: NamedTests,
}

/// The results of the new version of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairResults {
    /// All are inherited.
    Kept,
    /// Its tests ran.
    Ran,
    /// Tests are left to run.
    ToRun,
    /// It is not tested.
    NotTested,
}

/// A number of tests, and the names of the first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedTests {
    /// The number.
    pub count: usize,
    /// At most 20 names.
    pub names: Vec<String>,
}

/// A force-push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRow {
    /// When the farm saw it, Unix seconds.
    pub pushed: i64,
    /// The old tip.
    pub old: CommitId,
    /// The new tip.
    pub new: CommitId,
}

impl NamedTests {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < NAMED_MAX {
            self.names.push(name.into());
        }
    }
}

impl RangeDiffView {
    /// The view of a force-push: the newest one, or that with the old tip `of`. `None` if there is no such push. `listed` is the
    /// present listing of the branch, newest first, and `slots` the slots that its user can expect.
    #[must_use]
    pub fn new(
        at: &BranchRef,
        pushes: &Pushes,
        of: Option<&CommitId>,
        listed: &[BranchEntry],
        results: &impl PushResults,
        slots: f64,
    ) -> Option<Self> {
        let push = match of {
            None => pushes.pushes.first()?,
            Some(of) => pushes.pushes.iter().find(|push| push.old == *of)?,
        };
        let others = pushes.pushes.iter().filter(|other| *other != push);
        let others = others.map(|Push { at, old, new, .. }| PushRow {
            pushed: *at,
            old: old.clone(),
            new: new.clone(),
        });
        let (pairs, left) = rows(push, listed, results);
        let unchanged = unchanged_with_results(push, listed);
        let count = |wanted| pairs.iter().filter(|pair| pair.results == Some(wanted)).count();
        let commits = pairs.iter().filter(|pair| pair.commit.new.is_some()).count() + push.unchanged;
        let time = time_for(left.iter().map(AsRef::as_ref), |name| results.mean(name), slots);
        Some(Self {
            user: at.user.to_string(),
            branch: at.branch.to_string(),
            pushed: push.at,
            old: push.old.clone(),
            new: push.new.clone(),
            commits,
            kept: count(PairResults::Kept) + unchanged,
            to_run: count(PairResults::ToRun),
            tests_left: left.len(),
            seconds_left: time.filter(|_| !left.is_empty()).map(|time| time.as_secs()),
            unchanged: push.unchanged,
            is_cut: push.is_cut,
            problem: push.problem.clone(),
            pairs,
            others: others.collect(),
        })
    }

    /// How many commits are in both versions, if there are some.
    #[must_use]
    pub fn unchanged_words(&self) -> Option<String> {
        let verb = if self.unchanged == 1 { "is" } else { "are" };
        let words = format!("{} {} below {verb} in both versions", self.unchanged, noun(self.unchanged));
        (self.unchanged > 0).then_some(words)
    }

    /// `17 of 20 commits kept their results, 3 to run, 4 min`, without the time.
    #[must_use]
    pub fn summary(&self) -> String {
        let Self { commits, kept, to_run, .. } = self;
        let kept = format!(
            "{kept} of {commits} {} kept {} results",
            noun(*commits),
            if *commits == 1 { "its" } else { "their" }
        );
        if *to_run == 0 { kept } else { format!("{kept}, {to_run} to run") }
    }
}

fn noun(commits: usize) -> &'static str {
    if commits == 1 { "commit" } else { "commits" }
}

/// The number of commits in both versions that have results.
fn unchanged_with_results(push: &Push, listed: &[BranchEntry]) -> usize {
    let compared: HashSet<&CommitId> = push.pairs.iter().filter_map(|pair| pair.new.as_ref()).collect();
    let unchanged = listed.iter().filter(|entry| !compared.contains(&entry.commit)).take(push.unchanged);
    unchanged.filter(|entry| entry.counts.total() > 0).count()
}

/// The rows of a push, and the names of the tests that are left to run, once for each commit.
fn rows(push: &Push, listed: &[BranchEntry], results: &impl PushResults) -> (Vec<PairRow>, Vec<Box<str>>) {
    let tested = listed
        .iter()
        .map(|entry| (entry.counts.total() > 0).then(|| results.statuses(&entry.commit)).flatten());
    let old = push.old_commits().map(|commit| results.statuses(commit));
    let usual = expected_tests(old.chain(tested));
    let listed: HashSet<&CommitId> = listed.iter().map(|entry| &entry.commit).collect();
    let mut left = Vec::new();
    let mut rows: Vec<PairRow> = Vec::new();
    let depth = tested_depth(push, results);
    let mut below = push.pairs.iter().filter(|pair| pair.new.is_some()).count();
    // From the oldest commit: one after a tested one is tested, too.
    let mut is_tested = false;
    for pair in push.pairs.iter().rev() {
        is_tested |= below <= depth;
        below -= usize::from(pair.new.is_some());
        let of = |commit: &Option<CommitId>| commit.as_ref().and_then(|commit| results.statuses(commit));
        let (old, new) = (of(&pair.old), of(&pair.new));
        is_tested |= pair.new.is_some() && (old.is_some() || new.is_some());
        let expected = old.as_ref().or(usual.as_ref()).filter(|_| is_tested);
        let missing = match &pair.new {
            Some(commit) if listed.contains(commit) && is_tested => tests_left(new.as_ref(), expected),
            _ => Vec::new(),
        };
        let outcome = pair.new.as_ref().map(|commit| match &new {
            _ if !missing.is_empty() => PairResults::ToRun,
            None => PairResults::NotTested,
            Some(new) if results.inherited(commit) >= new.names.len() => PairResults::Kept,
            Some(_) => PairResults::Ran,
        });
        left.extend(missing.into_iter().map(Box::from));
        let (broke, fixed) = changes(old.as_ref(), new.as_ref());
        rows.push(PairRow {
            commit: pair.clone(),
            old_counts: old.as_ref().map(counts),
            new_counts: new.as_ref().map(counts),
            results: outcome,
            broke,
            fixed,
        });
    }
    rows.reverse();
    (rows, left)
}

/// The number of commits from the tip that are tested for sure: as many as in the old version. If all of that are tested, it did not
/// reach the limit of the configuration, and some more are.
fn tested_depth(push: &Push, results: &impl PushResults) -> usize {
    let tested: Vec<bool> = push.old_commits().map(|commit| results.statuses(commit).is_some()).collect();
    let depth = tested.iter().rposition(|tested| *tested).map_or(0, |last| last + 1);
    if depth > 0 && depth == tested.len() { depth + MORE } else { depth }
}

fn counts(of: &CommitStatuses) -> Counts {
    of.statuses.iter().copied().collect()
}

/// The tests that the new commit breaks and fixes, compared with the old one.
fn changes(old: Option<&CommitStatuses>, new: Option<&CommitStatuses>) -> (NamedTests, NamedTests) {
    let (mut broke, mut fixed) = (NamedTests::default(), NamedTests::default());
    let (Some(old), Some(new)) = (old, new) else { return (broke, fixed) };
    let same: bool = is_same(&old.names, &new.names);
    for (at, (name, status)) in new.names.iter().zip(new.statuses.iter()).enumerate() {
        let before = if same { old.statuses.get(at).copied() } else { old.get(name) };
        match (before, status) {
            (Some(Status::Passed), Status::Failed) => broke.add(name),
            (Some(Status::Failed), Status::Passed) => fixed.add(name),
            _ => {}
        }
    }
    (broke, fixed)
}

fn is_same(one: &Names, other: &Names) -> bool {
    std::sync::Arc::ptr_eq(one, other) || one == other
}

impl PairRow {
    /// The counts to show: those of the new commit, or of the old one if it is gone.
    #[must_use]
    pub fn shown_counts(&self) -> Option<&Counts> {
        self.new_counts.as_ref().or(self.old_counts.as_ref().filter(|_| self.commit.new.is_none()))
    }

    /// What became of the commit.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.commit.mark
    }
}

#[cfg(test)]
mod tests;
