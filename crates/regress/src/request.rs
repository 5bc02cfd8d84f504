//! Whether a request can have an answer. `ci-status` and the dashboard check it before the daemon does.

use belief::Confidence;
use model::{BranchRef, CommitId, HostName, HostOrSlot, Status, StatusSnapshot};
use results::requests::{BisectRange, CancelBatch, Drain, PauseBranch, RequestKind, is_reason};
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

/// Why nothing is stopped or resumed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotControlled {
    /// The farm has no such host.
    #[error("the farm has no host or slot {0}")]
    NoHost(HostOrSlot),
    /// It takes batches.
    #[error("{0} is not drained")]
    NotDrained(HostOrSlot),
    /// It is a host, not a slot.
    #[error("{0} is a host; give one of its slots: {0}/0")]
    NoSlot(HostName),
    /// It runs no batch, or another one.
    #[error("{0} does not run that batch; it has ended")]
    NoBatch(HostOrSlot),
    /// The farm has no such branch.
    #[error("the farm has no branch {0}")]
    NoBranch(BranchRef),
    /// Its tests run.
    #[error("{0} is not paused")]
    NotPaused(BranchRef),
    /// The reason cannot be shown.
    #[error("a reason is one line of at most 200 bytes")]
    Reason,
}

/// Checks a request to stop or resume something, against the state of the farm. Other requests are not checked.
pub fn check_control(snapshot: &StatusSnapshot, kind: &RequestKind) -> Result<(), NotControlled> {
    if kind.reason().is_some_and(|reason| !is_reason(reason)) {
        return Err(NotControlled::Reason);
    }
    let (holds, error) = match kind {
        RequestKind::Drain(Drain { place, .. }) => {
            let known = snapshot.executors.iter().any(|executor| place.has(&executor.name));
            (known, NotControlled::NoHost(place.clone()))
        }
        RequestKind::Resume(place) => {
            let known = snapshot.drained.iter().any(|drained| place.includes(&drained.place));
            (known, NotControlled::NotDrained(place.clone()))
        }
        RequestKind::CancelBatch(cancel) => {
            let place = HostOrSlot { host: cancel.host.clone(), slot: Some(cancel.slot) };
            (running_batch(snapshot, &place)? == *cancel, NotControlled::NoBatch(place))
        }
        RequestKind::PauseBranch(PauseBranch { branch, .. }) => {
            let known = snapshot
                .branches
                .iter()
                .any(|status| status.user == branch.user && status.branch == branch.branch);
            (known, NotControlled::NoBranch(branch.clone()))
        }
        RequestKind::ResumeBranch(branch) => {
            let known = snapshot.paused.iter().any(|paused| paused.branch == *branch);
            (known, NotControlled::NotPaused(branch.clone()))
        }
        _ => return Ok(()),
    };
    holds.then_some(()).ok_or(error)
}

/// The batch that a slot runs.
pub fn running_batch(snapshot: &StatusSnapshot, place: &HostOrSlot) -> Result<CancelBatch, NotControlled> {
    let slot = place.slot.ok_or_else(|| NotControlled::NoSlot(place.host.clone()))?;
    let executor = snapshot.executors.iter().find(|executor| place.has(&executor.name));
    let executor = executor.ok_or_else(|| NotControlled::NoHost(place.clone()))?;
    let batch = executor.batch.as_ref().ok_or_else(|| NotControlled::NoBatch(place.clone()))?;
    Ok(CancelBatch { host: place.host.clone(), slot, started: batch.started })
}

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

#[cfg(test)]
mod tests {
    use model::snapshot::{BatchStatus, BranchStatus, ExecutorStatus};
    use model::{Drained, Paused, Stopped};

    use super::*;

    fn farm() -> StatusSnapshot {
        let stopped = Stopped { at: 1, by: None, reason: None };
        let executor = |name: &str, started: Option<i64>| ExecutorStatus {
            name: name.into(),
            batch: started.map(|started| BatchStatus { started, ..BatchStatus::default() }),
            ..ExecutorStatus::default()
        };
        StatusSnapshot {
            executors: vec![executor("a/0", Some(5)), executor("a/1", None), executor("b/0", None)],
            drained: vec![Drained { place: "b/0".parse().unwrap(), stopped: stopped.clone() }],
            branches: vec![BranchStatus::new(&"u/b".parse().unwrap())],
            paused: vec![Paused { branch: "u/old".parse().unwrap(), stopped }],
            ..StatusSnapshot::default()
        }
    }

    fn place(text: &str) -> HostOrSlot {
        text.parse().unwrap()
    }

    fn drain(text: &str, reason: Option<&str>) -> RequestKind {
        RequestKind::Drain(Drain { place: place(text), reason: reason.map(Into::into) })
    }

    fn cancel(slot: u32, started: i64) -> RequestKind {
        RequestKind::CancelBatch(CancelBatch { host: "a".parse().unwrap(), slot, started })
    }

    #[test]
    fn what_the_farm_does_not_have_is_not_stopped() {
        let branch = |text: &str| text.parse::<BranchRef>().unwrap();
        let pause = |text: &str| RequestKind::PauseBranch(PauseBranch { branch: branch(text), reason: None });
        for (kind, expected) in [
            (drain("a", Some("new disk")), ""),
            (drain("a/1", None), ""),
            (drain("a/2", None), "the farm has no host or slot a/2"),
            (drain("c", None), "the farm has no host or slot c"),
            (drain("a", Some("x\ny")), "a reason is one line of at most 200 bytes"),
            (drain("a", Some(&"x".repeat(201))), "a reason is one line of at most 200 bytes"),
            (RequestKind::Resume(place("b")), ""),
            (RequestKind::Resume(place("a/0")), "a/0 is not drained"),
            (cancel(0, 5), ""),
            (cancel(0, 6), "a/0 does not run that batch; it has ended"),
            (cancel(1, 5), "a/1 does not run that batch; it has ended"),
            (cancel(7, 5), "the farm has no host or slot a/7"),
            (pause("u/b"), ""),
            (pause("u/c"), "the farm has no branch u/c"),
            (RequestKind::ResumeBranch(branch("u/old")), ""),
            (RequestKind::ResumeBranch(branch("u/b")), "u/b is not paused"),
        ] {
            let error = check_control(&farm(), &kind).err().map(|error| error.to_string());
            assert_eq!(error.unwrap_or_default(), expected, "{kind:?}");
        }
        assert!(running_batch(&farm(), &place("a")).is_err());
    }
}
