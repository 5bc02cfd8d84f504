//! The commits of a bisection. Pure.

use std::collections::HashMap;

use gitio::CommitInfo;
use model::{CommitId, Status};
use regress::first_bad::stretches;
use regress::request::RangeError;
use results::bisections::BisectionRecord;
use results::requests::BisectRange;

/// Why there are no commits to search.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The range is wrong.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The base does not lead to the head.
    #[error("{} is not on the first-parent history of {}; use a base that is", base.short(), head.short())]
    NotAnAncestor {
        /// The base.
        base: CommitId,
        /// The head.
        head: CommitId,
    },
    /// The test does not fail on the branch.
    #[error("the test fails at no commit of this branch; for a test that is only flaky, give BASE..HEAD")]
    NoRange,
}

/// The base, then the suspects from oldest to newest along first parents, and the second parents of merges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The commits.
    pub commits: Vec<CommitId>,
    /// Merges, with their second parents.
    pub merges: Vec<(CommitId, CommitId)>,
}

/// A first bad commit that is verified again, after its parent in the search that found it.
pub(super) fn verified(found: &BisectionRecord, range: &BisectRange) -> Chain {
    let merges = found.merges.get(&range.head).map(|second| (range.head.clone(), second.clone()));
    Chain { commits: vec![range.base.clone(), range.head.clone()], merges: merges.into_iter().collect() }
}

/// The commits of a range of a branch. `listed` are those of the branch.
pub(super) fn chain(listed: &[CommitInfo], range: &BisectRange) -> Result<Chain, ChainError> {
    let BisectRange { base, head } = range;
    if base == head {
        return Err(RangeError::Empty(head.clone()).into());
    }
    let known: HashMap<&CommitId, &CommitInfo> = listed.iter().map(|commit| (&commit.id, commit)).collect();
    if !known.contains_key(head) {
        return Err(RangeError::NotListed(head.clone()).into());
    }
    let mut chain = Chain::default();
    let mut next = Some(head);
    while let Some(info) = next.filter(|id| *id != base).and_then(|id| known.get(id)) {
        chain.commits.push(info.id.clone());
        if let Some(second) = info.parents.get(1) {
            chain.merges.push((info.id.clone(), second.clone()));
        }
        next = info.parents.first();
    }
    if next == Some(base) {
        chain.commits.push(base.clone());
        chain.commits.reverse();
        return Ok(chain);
    }
    let place = |id: &CommitId| listed.iter().position(|commit| commit.id == *id);
    let (base, head) = (base.clone(), head.clone());
    Err(if place(&base).is_some_and(|place_of| Some(place_of) < place(&head)) {
        RangeError::Reversed { base, head }.into()
    } else {
        ChainError::NotAnAncestor { base, head }
    })
}

/// The range between the newest pass before the newest failures and the oldest of these failures, along first parents. Without a
/// pass, it begins before the oldest commit of the branch. `listed` has the tip first.
pub(super) fn newest(
    listed: &[CommitInfo],
    status: impl Fn(&CommitId) -> Option<Status>,
) -> Result<BisectRange, ChainError> {
    let known: HashMap<&CommitId, &CommitInfo> = listed.iter().map(|commit| (&commit.id, commit)).collect();
    let mut line = Vec::new();
    let mut next = listed.first();
    // A commit is visited once.
    while let Some(info) = next.filter(|_| line.len() < listed.len()) {
        line.push(&info.id);
        next = info.parents.first().and_then(|parent| known.get(parent)).copied();
    }
    let found = stretches(line.iter().map(|id| status(id))).into_iter().next();
    let stretch = found.ok_or(ChainError::NoRange)?;
    let before_oldest = || known.get(line.last()?)?.parents.first();
    let base = stretch.last_good.map(|good| line[good]).or_else(before_oldest).ok_or(ChainError::NoRange)?;
    Ok(BisectRange { base: base.clone(), head: line[stretch.first_bad].clone() })
}
