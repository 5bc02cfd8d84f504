//! Findings: what is new on a branch since its last examination.
//!
//! A pure function of what was known of the branch and of its results. A failure is a finding once, when its retries have ended and no
//! commit that may be the first bad one waits for its tests. One cause is one finding: the tests that fail at the same commit with the same
//! signature.

mod rewritten;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use belief::bisect::State;
use belief::{FixClaim, FixState, Signature};
use fsx::digest::sha256_hex;
use model::{
    BranchRef, BuiltKernel, CommitId, FINDING_TESTS_MAX, Finding, FindingKind, FindingRate, ResultKey, Status,
};
use results::bisections::BisectionRecord;
use results::{BranchEntry, FlakyEntry, TestEntry};
use serde::{Deserialize, Serialize};

use crate::branch_history::BranchHistory;
use crate::builds::BuildHistory;
use crate::first_bad::Stretch;
use crate::suspicious::SuspiciousPass;

/// The maximum number of different signatures at one commit that are findings of their own. A commit with more is broken as a whole.
const SIGNATURES_MAX: usize = 10;
/// The signature of a commit that is broken as a whole.
const MANY: &str = "many different failures";
/// The version of [`Known`].
const VERSION: u32 = 1;

/// What is known of a branch: what was a finding, or existed before findings were recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    version: u32,
    #[serde(default)]
    failures: Vec<KnownFailure>,
    /// The flaky tests.
    #[serde(default)]
    flaky: BTreeSet<ResultKey>,
    /// The bisections with a conclusion.
    #[serde(default)]
    bisections: BTreeSet<String>,
    /// The newest completely tested commit at which passes were examined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passes_at: Option<CommitId>,
    /// The tests that passed suspiciously there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    suspicious: BTreeSet<ResultKey>,
    /// The failures without retries to come at the last examination. They are findings if the next one agrees: the results and the
    /// queue are not read at the same time.
    #[serde(skip)]
    settled: BTreeSet<(Subject, CommitId)>,
    /// Whether a failure waits for the end of its retries, for the tests of other commits, or for the next examination.
    #[serde(skip)]
    waits: bool,
}

/// A failure that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownFailure {
    subject: Subject,
    first_bad: CommitId,
    /// The finding; empty if it existed before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    id: String,
    signature: String,
    /// The text of the signature to show.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    title: String,
    /// Whether the fix was a finding.
    #[serde(default)]
    fixed: bool,
}

/// What fails.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Subject {
    Test(ResultKey),
    Kernel(BuiltKernel),
}

/// The state of a branch.
pub struct Facts<'a> {
    /// The branch.
    pub branch: &'a BranchRef,
    /// Its commits, newest first.
    pub listed: &'a [BranchEntry],
    /// Its tests.
    pub history: &'a BranchHistory,
    /// Its builds.
    pub builds: &'a BuildHistory,
    /// Its flaky tests.
    pub flaky: &'a [FlakyEntry],
    /// The bisections on it.
    pub bisections: &'a [BisectionRecord],
    /// Reads a test at a commit.
    pub entry: &'a dyn Fn(&CommitId, &ResultKey) -> Option<TestEntry>,
    /// Reads what the passes of a test since its newest failure prove.
    pub claim: &'a dyn Fn(&ResultKey) -> Option<FixClaim>,
    /// Searches the suspicious passes of a commit, which is completely tested.
    pub suspicious: &'a dyn Fn(usize) -> Vec<SuspiciousPass>,
    /// Whether jobs of a commit are queued or running.
    pub has_jobs: &'a dyn Fn(&CommitId) -> bool,
    /// The time, Unix seconds.
    pub now: i64,
}

/// What is known of a branch at which findings begin: everything that fails now is known, and nothing of it is a finding.
#[must_use]
pub fn baseline(facts: &Facts<'_>) -> Known {
    let (_, settled) = changes(&Known::default(), facts);
    let (_, mut known) = changes(&settled, facts);
    for failure in &mut known.failures {
        failure.id.clear();
    }
    known
}

/// What is new on a branch, oldest first, and what is known of it from now on.
#[must_use]
pub fn changes(known: &Known, facts: &Facts<'_>) -> (Vec<Finding>, Known) {
    let rows = facts.listed.iter().enumerate().map(|(row, entry)| (&entry.commit, row)).collect();
    let mut examined = Examination {
        facts,
        rows,
        known,
        next: Known { version: VERSION, ..Known::default() },
        groups: BTreeMap::new(),
        matched: BTreeSet::new(),
    };
    examined.tests();
    examined.builds();
    let mut findings = examined.findings();
    findings.extend(examined.vanished());
    findings.extend(examined.flaky());
    findings.extend(examined.bisections());
    findings.extend(examined.suspicious());
    examined.next.failures.sort_by(|a, b| (&a.subject, &a.first_bad).cmp(&(&b.subject, &b.first_bad)));
    (findings, examined.next)
}

impl Known {
    /// Whether another examination can have a result although no result changes: retries have to end.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits
    }
}

/// The cause of a group of failures: the kind of the finding, the row at which it shows, the row of the first bad commit, the signature.
type Cause = (FindingKind, usize, usize, String);

/// The failures with one cause.
#[derive(Default)]
struct Group {
    subjects: Vec<Subject>,
    tests: Vec<ResultKey>,
    tests_total: usize,
    title: String,
    first_bad: Option<CommitId>,
    last_good: Option<usize>,
    rate: Option<FindingRate>,
}

struct Examination<'a> {
    facts: &'a Facts<'a>,
    rows: HashMap<&'a CommitId, usize>,
    known: &'a Known,
    next: Known,
    groups: BTreeMap<Cause, Group>,
    /// The known failures, by index, that a failure of the listing is.
    matched: BTreeSet<usize>,
}

/// A failure: what fails, where, and how.
struct Seen {
    subject: Subject,
    stretch: Stretch,
    /// A test that fails, and the number of tests.
    test: Option<ResultKey>,
    tests_total: usize,
    /// The name of the cause, and the text to show.
    signature: String,
    title: String,
    rate: Option<FindingRate>,
    /// Whether retries can still show that it is flaky.
    may_be_flaky: bool,
}

impl Examination<'_> {
    fn tests(&mut self) {
        let facts = self.facts;
        let known = self.known.failures.iter().filter_map(|known| match &known.subject {
            Subject::Test(test) => Some(test),
            Subject::Kernel(_) => None,
        });
        let known: BTreeSet<&ResultKey> = known.collect();
        for failure in facts.history.failures() {
            let Ok(test) = facts.history.name(failure.test).parse::<ResultKey>() else { continue };
            let stretch = failure.stretch;
            // Without an older pass no commit is accused; but a known failure can be fixed.
            if stretch.last_good.is_none() && !known.contains(&test) {
                continue;
            }
            let Some(commit) = self.commit(stretch.first_bad) else { continue };
            let Some(entry) = (facts.entry)(&commit, &test) else { continue };
            let decisive = &entry.decisive;
            let (crash, reason) = (decisive.crash.as_deref(), decisive.reason.as_deref().unwrap_or_default());
            let rate = FindingRate {
                failed: entry.attempts_in(Status::Failed),
                runs: entry.attempts_in(Status::Failed).saturating_add(entry.attempts_in(Status::Passed)),
            };
            let seen = Seen {
                subject: Subject::Test(test.clone()),
                stretch,
                test: Some(test),
                tests_total: 1,
                signature: Signature::new(crash, reason).as_str().to_owned(),
                title: crash.unwrap_or(reason).to_owned(),
                rate: Some(rate),
                may_be_flaky: entry.may_be_flaky() && (facts.has_jobs)(&commit),
            };
            self.examine(&seen);
        }
    }

    fn builds(&mut self) {
        let facts = self.facts;
        for row in (0..facts.listed.len()).rev() {
            for kernel in facts.builds.change(row).broke {
                let Some(stretch) = facts.builds.stretch(&kernel, row) else { continue };
                let Some(failure) = facts.builds.at(row).and_then(|builds| builds.failure(&kernel)) else {
                    continue;
                };
                let seen = Seen {
                    subject: Subject::Kernel(kernel.clone()),
                    stretch,
                    test: failure.test.parse().ok(),
                    tests_total: failure.tests,
                    signature: failure.error.clone(),
                    title: failure.error.clone(),
                    rate: None,
                    may_be_flaky: false,
                };
                self.examine(&seen);
            }
        }
    }

    fn examine(&mut self, seen: &Seen) {
        let waits = seen.may_be_flaky || self.may_be_older(&seen.stretch);
        let row = seen.stretch.first_bad;
        let Some(first_bad) = self.commit(row) else { return };
        if let Some(index) = self.find(seen).or_else(|| self.find_rewritten(seen)) {
            self.matched.insert(index);
            let mut known = self.known.failures[index].clone();
            if !self.rows.contains_key(&known.first_bad) {
                if waits {
                    self.next.waits = true;
                } else {
                    known.first_bad = first_bad;
                }
            }
            self.still_known(seen, known);
            return;
        }
        if seen.stretch.last_good.is_none() {
            return;
        }
        if waits {
            self.next.waits = true;
            return;
        }
        let place = (seen.subject.clone(), first_bad.clone());
        if !self.known.settled.contains(&place) {
            self.next.settled.insert(place);
            self.next.waits = true;
            return;
        }
        let kind = match &seen.subject {
            Subject::Test(_) => FindingKind::Broke,
            Subject::Kernel(_) => FindingKind::BuildBroke,
        };
        self.group((kind, row, row, seen.signature.clone()), seen, Some(first_bad.clone()));
        let known = KnownFailure {
            subject: seen.subject.clone(),
            first_bad,
            id: self.id(kind, &seen.signature, row),
            signature: seen.signature.clone(),
            title: seen.title.clone(),
            fixed: false,
        };
        self.still_known(seen, known);
    }

    /// A failure that is known: is it fixed?
    fn still_known(&mut self, seen: &Seen, mut known: KnownFailure) {
        let first_good = seen.stretch.first_good;
        match first_good {
            // It fails again at the commits that passed: they were flaky.
            None => known.fixed = false,
            Some(good) if !known.fixed => {
                if self.has_jobs_between(good, seen.stretch.last_bad) {
                    self.next.waits = true;
                } else if let Some(kind) = self.fix(seen) {
                    known.fixed = true;
                    // What existed before findings were recorded is no news.
                    if !known.id.is_empty() {
                        let row = self.rows.get(&known.first_bad).copied().unwrap_or(seen.stretch.first_bad);
                        let cause = (kind, good, row, known.signature.clone());
                        self.group(cause, seen, Some(known.first_bad.clone()));
                    }
                }
            }
            Some(_) => {}
        }
        self.next.failures.push(known);
    }

    /// The kind of finding if the passes since prove a fix. One pass is enough after a failure that never passed; otherwise the runs
    /// decide.
    fn fix(&mut self, seen: &Seen) -> Option<FindingKind> {
        match (&seen.subject, seen.rate) {
            (Subject::Kernel(_), _) => Some(FindingKind::BuildFixed),
            (Subject::Test(_), Some(rate)) if rate.failed == rate.runs => Some(FindingKind::Fixed),
            (Subject::Test(test), _) => {
                let believed = (self.facts.claim)(test).is_some_and(|claim| claim.state() == FixState::Fixed);
                believed.then_some(FindingKind::BelievedFixed)
            }
        }
    }

    /// The known failure that this is: of the same test, with a first bad commit between the passes around it.
    fn find(&self, seen: &Seen) -> Option<usize> {
        let Stretch { last_good, first_good, .. } = seen.stretch;
        let is_inside =
            |row: usize| first_good.is_none_or(|good| row > good) && last_good.is_none_or(|good| row < good);
        let is_it = |known: &KnownFailure| {
            known.subject == seen.subject
                && self.rows.get(&known.first_bad).is_some_and(|row| is_inside(*row))
        };
        self.known.failures.iter().position(is_it)
    }

    /// Whether an untested commit before the first bad one has jobs: it may be the first bad one.
    fn may_be_older(&self, stretch: &Stretch) -> bool {
        stretch.last_good.is_some_and(|good| self.has_jobs_between(stretch.first_bad, good))
    }

    /// Whether a commit between two rows has jobs.
    fn has_jobs_between(&self, newer: usize, older: usize) -> bool {
        (newer + 1..older).any(|row| self.commit(row).is_some_and(|commit| (self.facts.has_jobs)(&commit)))
    }

    fn group(&mut self, cause: Cause, seen: &Seen, first_bad: Option<CommitId>) {
        let group = self.groups.entry(cause).or_default();
        group.subjects.push(seen.subject.clone());
        group.tests.extend(seen.test.clone());
        group.tests_total += seen.tests_total;
        if group.title.is_empty() {
            group.title.clone_from(&seen.title);
        }
        group.first_bad = group.first_bad.take().or(first_bad);
        group.last_good = group.last_good.or(seen.stretch.last_good);
        group.rate = match (group.rate, seen.rate) {
            (Some(sum), Some(one)) => Some(FindingRate {
                failed: sum.failed.saturating_add(one.failed),
                runs: sum.runs.saturating_add(one.runs),
            }),
            (sum, one) => sum.or(one),
        };
    }

    /// The findings of the groups, the oldest commit first.
    fn findings(&mut self) -> Vec<Finding> {
        let groups = self.merged();
        let mut groups: Vec<(Cause, Group)> = groups.into_iter().collect();
        groups.sort_by(|(a, _), (b, _)| (b.1, a.0, b.2, &a.3).cmp(&(a.1, b.0, a.2, &b.3)));
        groups.into_iter().filter_map(|(cause, group)| self.finding(cause, group)).collect()
    }

    /// The groups, those of a commit with too many signatures as one.
    fn merged(&mut self) -> BTreeMap<Cause, Group> {
        let groups = std::mem::take(&mut self.groups);
        let mut signatures: BTreeMap<(FindingKind, usize), BTreeSet<String>> = BTreeMap::new();
        for (kind, row, first_bad, signature) in groups.keys() {
            signatures.entry((*kind, *row)).or_default().insert(signature.clone());
            let Some(commit) = self.commit(*first_bad) else { continue };
            let known =
                self.known.failures.iter().filter(|known| known.first_bad == commit && !known.id.is_empty());
            signatures.entry((*kind, *row)).or_default().extend(known.map(|known| known.signature.clone()));
        }
        let mut merged: BTreeMap<Cause, Group> = BTreeMap::new();
        for ((kind, row, first_bad, signature), group) in groups {
            let count = signatures.get(&(kind, row)).map_or(0, BTreeSet::len);
            if count <= SIGNATURES_MAX {
                merged.insert((kind, row, first_bad, signature), group);
                continue;
            }
            let all = merged.entry((kind, row, first_bad, MANY.into())).or_default();
            all.subjects.extend(group.subjects);
            all.tests.extend(group.tests);
            all.tests_total += group.tests_total;
            all.title = format!("{} tests fail for {count} different reasons", all.tests_total);
            all.first_bad = all.first_bad.take().or(group.first_bad);
            all.last_good = all.last_good.or(group.last_good);
        }
        merged
    }

    fn finding(&mut self, cause: Cause, mut group: Group) -> Option<Finding> {
        let (kind, row, first_bad, signature) = cause;
        let id = self.id(kind, &signature, first_bad);
        if signature == MANY {
            for known in self.next.failures.iter_mut().filter(|known| group.subjects.contains(&known.subject))
            {
                if Some(&known.first_bad) == group.first_bad.as_ref() {
                    known.id.clone_from(&id);
                }
            }
        }
        group.tests.sort();
        group.tests.dedup();
        group.tests.truncate(FINDING_TESTS_MAX);
        Some(Finding {
            id,
            kind,
            branch: Some(self.facts.branch.clone()),
            commit: Some(self.commit(row)?),
            tests: group.tests,
            tests_total: u32::try_from(group.tests_total).unwrap_or(u32::MAX),
            signature: group.title,
            first_bad: group.first_bad,
            last_good: group.last_good.and_then(|row| self.commit(row)),
            rate: group.rate,
            at: self.facts.now,
        })
    }

    fn flaky(&mut self) -> Vec<Finding> {
        let mut found = Vec::new();
        // After a force-push, the results of commits come back one after the other.
        if self.facts.listed.iter().any(|entry| (self.facts.has_jobs)(&entry.commit)) {
            self.next.flaky.clone_from(&self.known.flaky);
        }
        for FlakyEntry { key, flaky } in self.facts.flaky {
            self.next.flaky.insert(key.clone());
            if self.known.flaky.contains(key) {
                continue;
            }
            let rate = flaky.rate;
            found.push(Finding {
                id: digest(self.facts.branch, FindingKind::FlakyBegan, key.as_str(), Some(&flaky.since)),
                kind: FindingKind::FlakyBegan,
                branch: Some(self.facts.branch.clone()),
                commit: Some(flaky.since.clone()),
                tests: vec![key.clone()],
                tests_total: 1,
                signature: flaky.to_string(),
                first_bad: None,
                last_good: None,
                rate: Some(FindingRate { failed: rate.failures, runs: rate.attempts }),
                at: self.facts.now,
            });
        }
        found
    }

    fn bisections(&mut self) -> Vec<Finding> {
        let mut found = Vec::new();
        for bisection in self.facts.bisections {
            let record = &bisection.record;
            let State::Culprit { culprit, parent, .. } = &record.state else { continue };
            // One that verifies a conclusion again names no other commit.
            if bisection.rechecks.is_some()
                || !self.next.bisections.insert(record.id.clone())
                || self.known.bisections.contains(&record.id)
            {
                continue;
            }
            found.push(Finding {
                id: digest(self.facts.branch, FindingKind::Bisected, record.test.as_str(), Some(culprit)),
                kind: FindingKind::Bisected,
                branch: Some(self.facts.branch.clone()),
                commit: Some(culprit.clone()),
                tests: vec![record.test.clone()],
                tests_total: 1,
                signature: record.signature.to_string(),
                first_bad: Some(culprit.clone()),
                last_good: Some(parent.clone()),
                rate: None,
                at: self.facts.now,
            });
        }
        found
    }

    /// The tests that passed suspiciously at the newest completely tested commit, and not at the one before: one finding.
    fn suspicious(&mut self) -> Option<Finding> {
        let facts = self.facts;
        let is_complete = |row: &usize| {
            facts.listed[*row].counts.total() > 0 && !(facts.has_jobs)(&facts.listed[*row].commit)
        };
        let row = (0..facts.listed.len()).find(is_complete)?;
        let commit = self.commit(row)?;
        self.next.passes_at = Some(commit.clone());
        if self.known.passes_at.as_ref() == Some(&commit) {
            self.next.suspicious.clone_from(&self.known.suspicious);
            return None;
        }
        let found = (facts.suspicious)(row);
        self.next.suspicious = found.iter().map(|pass| pass.key.clone()).collect();
        let new: Vec<&SuspiciousPass> =
            found.iter().filter(|pass| !self.known.suspicious.contains(&pass.key)).collect();
        let first = new.first()?;
        let more = new.len() - 1;
        Some(Finding {
            id: digest(facts.branch, FindingKind::SuspiciousPass, first.key.as_str(), Some(&commit)),
            kind: FindingKind::SuspiciousPass,
            branch: Some(facts.branch.clone()),
            commit: Some(commit),
            tests: new.iter().map(|pass| pass.key.clone()).take(FINDING_TESTS_MAX).collect(),
            tests_total: u32::try_from(new.len()).unwrap_or(u32::MAX),
            signature: match more {
                0 => first.suspicion.to_string(),
                _ => format!("{}, and {more} more", first.suspicion),
            },
            first_bad: None,
            last_good: None,
            rate: None,
            at: facts.now,
        })
    }

    fn id(&self, kind: FindingKind, signature: &str, first_bad: usize) -> String {
        digest(self.facts.branch, kind, signature, self.commit(first_bad).as_ref())
    }

    fn commit(&self, row: usize) -> Option<CommitId> {
        self.facts.listed.get(row).map(|entry| entry.commit.clone())
    }
}

/// The id of a finding: the first 16 digits of the SHA-256 of its fields, each with its length.
#[must_use]
pub fn digest(branch: &BranchRef, kind: FindingKind, cause: &str, first_bad: Option<&CommitId>) -> String {
    let branch = branch.to_string();
    let fields = [&branch, kind.name(), cause, first_bad.map(CommitId::as_str).unwrap_or_default()];
    let mut text = String::new();
    for field in fields {
        text.push_str(&format!("{}:{field}", field.len()));
    }
    let mut id = sha256_hex(text.as_bytes());
    id.truncate(16);
    id
}

#[cfg(test)]
mod tests;
