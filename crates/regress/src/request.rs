//! Whether a request about a test on a branch can have an answer. `ci-status` and the dashboard check it before the daemon does.

use belief::Confidence;
use model::{CommitId, Status};
use results::requests::BisectRange;
use results::{BranchEntry, HistoryEntry, TestEntry};

use crate::first_bad::stretches;
use crate::fix;

/// What is wrong with a range of commits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Base and head are the same.
    #[error("base and head are the same commit, {}", .0.short())]
    Empty(CommitId),
    /// The head is not on the branch.
    #[error("{} is not among the commits of the branch", .0.short())]
    NotListed(CommitId),
    /// The base is newer than the head.
    #[error("{} is newer than {}; give the older commit first", base.short(), head.short())]
    Reversed {
        /// The base.
        base: CommitId,
        /// The head.
        head: CommitId,
    },
}

/// Why a test is not bisected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBisected {
    /// There is no failure to begin with.
    #[error("no commit of the branch fails; for a test that is only flaky, give BASE..HEAD")]
    NoFailure,
    /// There are no commits to search.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The head does not fail.
    #[error("it has no failure at {}", .0.short())]
    Passes(CommitId),
}

/// There is no fix to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no commit before the tip of the branch fails, or the tip fails")]
pub struct NoFix;

/// Checks the request of a bisection. `listed` and `entries` are the commits of the branch and the results of the test, newest first.
pub fn check_bisect(
    listed: &[BranchEntry],
    entries: &[HistoryEntry],
    range: Option<&BisectRange>,
) -> Result<(), NotBisected> {
    let Some(BisectRange { base, head }) = range else {
        let status = |row: &HistoryEntry| row.entry.as_ref().map(TestEntry::status);
        let newest = stretches(entries.iter().map(status)).into_iter().next();
        return newest.map(drop).ok_or(NotBisected::NoFailure);
    };
    if base == head {
        return Err(RangeError::Empty(head.clone()).into());
    }
    let place = |id: &CommitId| listed.iter().position(|entry| entry.commit == *id);
    let at = place(head).ok_or_else(|| RangeError::NotListed(head.clone()))?;
    if place(base).is_some_and(|place| place < at) {
        return Err(RangeError::Reversed { base: base.clone(), head: head.clone() }.into());
    }
    let entry = entries.iter().find(|entry| entry.commit == *head).and_then(|found| found.entry.as_ref());
    if entry.is_none_or(|entry| entry.attempts_in(Status::Failed) == 0) {
        return Err(NotBisected::Passes(head.clone()));
    }
    Ok(())
}

/// Checks the request of runs that prove a fix at the tip of a branch.
pub fn check_believe(entries: &[HistoryEntry], confidence: Confidence) -> Result<(), NoFix> {
    fix::at(entries, 0, confidence).map(drop).ok_or(NoFix)
}
