//! What the stored attempts prove: the status of a test that fails and passes, and the flaky tests of a branch.

use std::collections::BTreeMap;
use std::time::Duration;

use belief::{Confirmation, Experiment, FlakyTest, HostClass, Observation, Outcome};
use model::{BranchRef, CommitId, KernelId, ResultKey, Status};

use crate::db;
use crate::error::Result;
use crate::reader::Reader;
use crate::types::{Attempt, HistoryEntry, TestEntry};

/// A part of the reason of a test that ran until its time limit.
const TIMED_OUT: &str = "timed out after ";

/// A flaky test of a branch.
#[derive(Debug, Clone, PartialEq)]
pub struct FlakyEntry {
    /// The test.
    pub key: ResultKey,
    /// Its failure rate, and since when it is flaky.
    pub flaky: FlakyTest,
}

/// One test at one commit.
pub(crate) type AtCommit = (CommitId, TestEntry);

impl TestEntry {
    /// The status to show: that of the decisive attempt, or [`Status::Flaky`] if it failed and an attempt of the same
    /// experiment passed.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.decisive.status == Status::Failed && self.is_flaky() {
            Status::Flaky
        } else {
            self.decisive.status
        }
    }

    /// Whether one experiment has both outcomes. Attempts without a recorded experiment are the same one if the kernel is.
    #[must_use]
    pub fn is_flaky(&self) -> bool {
        let ended = |wanted| self.all().filter(move |attempt| attempt.status == wanted);
        !self.others.is_empty()
            && ended(Status::Failed)
                .any(|failed| ended(Status::Passed).any(|passed| self.is_same_experiment(failed, passed)))
    }

    fn is_same_experiment(&self, one: &Attempt, other: &Attempt) -> bool {
        match (one.conditions.experiment, other.conditions.experiment) {
            (Some(one), Some(other)) => one == other,
            _ => self.kernel(one) == self.kernel(other),
        }
    }

    /// Whether retries confirm that it fails ([`belief::confirmation`]).
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        matches!(belief::confirmation(&self.outcomes()), Confirmation::Confirmed(_))
    }

    /// Whether it failed here, and a retry can still show that it is flaky. Results of other systems have no host, and are
    /// not retried.
    #[must_use]
    pub fn may_be_flaky(&self) -> bool {
        self.status() == Status::Failed && self.decisive.host.is_some() && !self.is_confirmed()
    }

    /// The outcomes of the attempts, in their order.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.in_order().into_iter().map(outcome).collect()
    }

    fn in_order(&self) -> Vec<&Attempt> {
        let mut attempts: Vec<&Attempt> = self.all().collect();
        attempts.sort_by_key(|attempt| attempt.number);
        attempts
    }

    fn all(&self) -> impl Iterator<Item = &Attempt> {
        std::iter::once(&self.decisive).chain(&self.others)
    }

    /// The kernel of an attempt. One that is not recorded is that of the decisive attempt.
    fn kernel<'a>(&'a self, attempt: &'a Attempt) -> Option<&'a KernelId> {
        attempt.kernel.as_ref().or(self.decisive.kernel.as_ref())
    }

    /// The attempts as observations, in their order. Without a recorded experiment, attempts with the same kernel at the same commit
    /// are one.
    #[must_use]
    pub fn observations(&self, commit: &CommitId) -> Vec<Observation> {
        self.in_order().into_iter().filter_map(|attempt| self.observation(commit, attempt)).collect()
    }

    fn observation(&self, commit: &CommitId, attempt: &Attempt) -> Option<Observation> {
        let host = attempt.host.clone().or_else(|| "unknown".parse().ok())?;
        let started = attempt.started.and_then(|started| u64::try_from(started).ok()).unwrap_or(0);
        Some(Observation {
            commit: commit.clone(),
            experiment: Experiment(match attempt.conditions.experiment {
                Some(key) => key.to_string(),
                None => {
                    format!("{commit} {}", self.kernel(attempt).map(KernelId::as_str).unwrap_or_default())
                }
            }),
            alone: attempt.conditions.alone,
            ran_at: attempt.ran_at.clone(),
            outcome: outcome(attempt),
            duration: attempt.duration,
            timed_out: attempt.reason.as_deref().is_some_and(|reason| reason.contains(TIMED_OUT)),
            host_class: HostClass::of(&host),
            host,
            at_ms: Duration::from_secs(started)
                .saturating_add(attempt.duration)
                .as_millis()
                .try_into()
                .unwrap_or(0),
        })
    }
}

fn outcome(attempt: &Attempt) -> Outcome {
    Outcome::of(attempt.status, attempt.reason.as_deref(), attempt.crash.as_deref())
}

/// The flaky tests among tests at commits, newest commit first; by name.
fn find(newest_first: impl IntoIterator<Item = (ResultKey, AtCommit)>) -> Vec<FlakyEntry> {
    let mut tests: BTreeMap<ResultKey, Vec<Observation>> = BTreeMap::new();
    for (key, (commit, entry)) in newest_first {
        tests.entry(key).or_default().extend(entry.observations(&commit));
    }
    let flaky = |(key, observations): (ResultKey, Vec<Observation>)| {
        Some(FlakyEntry { key, flaky: FlakyTest::find(&observations)? })
    };
    tests.into_iter().filter_map(flaky).collect()
}

/// The flakiness of a test in its history, newest commit first; `None` if it is not flaky at the newest
/// [`belief::COMMITS`] commits with a result.
#[must_use]
pub fn flaky_in(history: &[HistoryEntry]) -> Option<FlakyTest> {
    let entries = history.iter().filter_map(|listed| Some((&listed.commit, listed.entry.as_ref()?)));
    let newest: Vec<(&CommitId, &TestEntry)> = entries.take(belief::COMMITS).collect();
    if !newest.iter().any(|(_, entry)| entry.is_flaky()) {
        return None;
    }
    let observations: Vec<Observation> =
        newest.into_iter().flat_map(|(commit, entry)| entry.observations(commit)).collect();
    FlakyTest::find(&observations)
}

impl Reader {
    /// The flaky tests of a branch, by name, from the newest [`belief::COMMITS`] commits with results; `None` if the branch does
    /// not exist.
    pub fn flaky(&self, at: &BranchRef) -> Result<Option<Vec<FlakyEntry>>> {
        let Some(listed) = self.branch(at)? else { return Ok(None) };
        if let Some(Some(found)) = self.database.query(|database| db::flaky::attempts(database, at)) {
            return Ok(Some(find(found)));
        }
        let tested = listed.iter().filter(|entry| entry.counts.total() > 0).take(belief::COMMITS);
        let mut found = Vec::new();
        for listed in tested {
            let Some(results) = self.commit(&listed.commit)? else { continue };
            let at = |entry: TestEntry| (entry.key.clone(), (listed.commit.clone(), entry));
            found.extend(results.entries.into_iter().map(at));
        }
        Ok(Some(find(found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_of_one_experiment_can_have_different_kernels() {
        let attempt = |number, status, kernel: &str, experiment: Option<&str>| {
            let mut attempt =
                Attempt { number, kernel: Some(kernel.repeat(64).parse().unwrap()), ..Attempt::new(status) };
            attempt.conditions.experiment = experiment.map(|digit| digit.repeat(64).parse().unwrap());
            attempt
        };
        let is_flaky = |decisive, other| {
            TestEntry { key: "t.a".parse().unwrap(), decisive, others: vec![other] }.is_flaky()
        };
        let inherited = || attempt(1, Status::Passed, "1", Some("e"));
        // The kernel of the source was built from another tree.
        assert!(is_flaky(inherited(), attempt(2, Status::Failed, "2", Some("e"))));
        assert!(!is_flaky(inherited(), attempt(2, Status::Failed, "2", Some("f"))));
        assert!(!is_flaky(inherited(), attempt(2, Status::Passed, "2", Some("e"))));
        assert!(!is_flaky(attempt(1, Status::Passed, "1", None), attempt(2, Status::Failed, "2", None)));
        assert!(is_flaky(attempt(1, Status::Passed, "1", None), attempt(2, Status::Failed, "1", None)));
    }
}
