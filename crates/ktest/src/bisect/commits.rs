//! The commits of a search: those of the first parents, from the base to the head.

use std::str::FromStr;

use belief::bisect::Suspect;
use gitio::{CommitInfo, GitError, Repo};
use model::CommitId;

/// The maximum number of suspects.
const MOST: usize = 20_000;

/// `BASE..HEAD`, as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    base: String,
    head: String,
}

/// Why there are no suspects.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RangeError {
    /// Not a range.
    #[error("{0:?} is not a range; use BASE..HEAD, for example v6.12..HEAD")]
    NoRange(String),
    /// The base does not lead to the head.
    #[error(
        "{base} is not on the first-parent history of {head}; use a base that is, for example: git merge-base {base} {head}"
    )]
    NotAnAncestor { base: String, head: String },
    /// Base and head are one commit.
    #[error("{base} and {head} are the same commit")]
    Empty { base: String, head: String },
    /// Too many commits.
    #[error("more than {MOST} commits between {base} and {head}; use a newer base")]
    TooMany { base: String, head: String },
    /// The repository cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (base, head) = text.split_once("..").ok_or_else(|| RangeError::NoRange(text.into()))?;
        if base.is_empty() || head.starts_with('.') || head.contains("..") {
            return Err(RangeError::NoRange(text.into()));
        }
        Ok(Self { base: base.into(), head: if head.is_empty() { "HEAD".into() } else { head.into() } })
    }
}

impl Range {
    /// The base, then the suspects from oldest to newest.
    pub(crate) fn commits(&self, repo: &Repo) -> Result<Vec<CommitInfo>, RangeError> {
        let (base, head) = (repo.resolve(&self.base)?, repo.resolve(&self.head)?);
        let (name, tip) = (self.base.clone(), self.head.clone());
        if base == head {
            return Err(RangeError::Empty { base: name, head: tip });
        }
        if !repo.is_ancestor(&base, &head)? {
            return Err(RangeError::NotAnAncestor { base: name, head: tip });
        }
        let mut commits = vec![repo.commit(&head)?];
        while let Some(parent) = commits.last().and_then(|newest| newest.parents.first()) {
            commits.push(repo.commit(parent)?);
            if commits.last().is_some_and(|commit| commit.id == base) {
                commits.reverse();
                return Ok(commits);
            }
            if commits.len() > MOST {
                return Err(RangeError::TooMany { base: name, head: tip });
            }
        }
        Err(RangeError::NotAnAncestor { base: name, head: tip })
    }
}

/// The commits of the search in a merge: its base, the commits that the merge took from its second parent, and the merge. `None` if
/// there are none, or too many.
pub(super) fn of_merge(
    repo: &Repo,
    base: &CommitId,
    merge: &CommitId,
) -> Result<Option<Vec<CommitInfo>>, GitError> {
    let Some(side) = repo.merged_commits(merge, MOST)?.filter(|side| !side.is_empty()) else {
        return Ok(None);
    };
    let base = std::iter::once(repo.commit(base)?);
    Ok(Some(base.chain(side).chain([repo.commit(merge)?]).collect()))
}

/// A suspect of which nothing is known.
pub(super) fn suspect(commit: &CommitInfo) -> Suspect {
    Suspect { second_parent: commit.parents.get(1).cloned(), ..Suspect::new(commit.id.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = |text: &str| text.parse::<Range>().map(|range| format!("{} {}", range.base, range.head));
        assert_eq!(range("v6.12..topic").unwrap(), "v6.12 topic");
        assert_eq!(range("HEAD~20..").unwrap(), "HEAD~20 HEAD");
        for bad in ["", "v6.12", "..", "..HEAD", "a...b", "a..b..c"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
