//! Failures that an earlier daemon recorded and did not confirm.

use belief::{Confirmation, Outcome, confirmation};
use model::{CommitId, Status};
use results::{Reader, TestEntry};

use crate::plan::JobRef;
use crate::plan::reruns::CONFIRMED_MAX;

/// A failure that needs retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The job.
    pub job: JobRef,
    /// The outcomes of its attempts, in their order.
    pub outcomes: Vec<Outcome>,
}

/// The failures in the results of `commits` that ran here and have fewer than `times` retries, unless these decide whether
/// the test is flaky. Unreadable results have none.
#[must_use]
pub fn unconfirmed(reader: &Reader, commits: &[CommitId], times: u32) -> Vec<Unconfirmed> {
    let mut left = Vec::new();
    let is_open = |entry: &TestEntry| {
        entry.attempts() <= times && confirmation(&entry.outcomes()) == Confirmation::RunAgain
    };
    for commit in commits {
        let Ok(Some(results)) = reader.commit(commit) else { continue };
        let failed = results.entries.iter().filter(|entry| entry.decisive.status == Status::Failed);
        let (open, done): (Vec<_>, Vec<_>) = failed.partition(|entry| is_open(entry));
        // Results of other systems have no host.
        let open = open.into_iter().filter(|entry| entry.decisive.host.is_some());
        let room = CONFIRMED_MAX.saturating_sub(done.len());
        left.extend(open.take(room).map(|entry| Unconfirmed {
            job: JobRef { commit: commit.clone(), key: entry.key.clone() },
            outcomes: entry.outcomes(),
        }));
    }
    left
}
