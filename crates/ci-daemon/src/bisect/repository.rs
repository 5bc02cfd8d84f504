//! What bisections need of a repository: what commits change, the commits of a merge, a commit that reverts another one, and refs that
//! keep their commits. The only part of bisections that uses git.

use std::path::{Path, PathBuf};

use belief::bisect::Revert;
use gitio::{GitError, Repo};
use model::{CommitId, NameError, RefName};
use results::Reader;
use tokio::task::JoinError;

use super::SUSPECTS_MAX;
use super::changes::{self, KnownSuspect, Suspects};
use super::range::Chain;

/// What a bisection asks a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitQuestion {
    /// What these suspects change.
    Changes(Suspects),
    /// The commits that this merge took from its second parent.
    Merged(CommitId),
    /// The newest commit without this one.
    Revert {
        /// The commit.
        culprit: CommitId,
        /// The newest commit.
        tip: CommitId,
    },
}

/// The answer to a [`GitQuestion`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitAnswer {
    /// What is known of suspects.
    Changes(Vec<KnownSuspect>),
    /// The commits from oldest to newest, and the second parents of merges; `None` if there are none, or too many.
    Merged(Option<Chain>),
    /// The revert; `None` if it does not apply.
    Revert(Option<Revert>),
}

/// Why a repository has no answer.
#[derive(Debug, thiserror::Error)]
enum RepositoryError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the task failed: {0}")]
    Task(#[from] JoinError),
}

/// Asks a repository. `reader` has the results of its commits. Without a repository, and after an error, the bisection continues with
/// what it has.
pub async fn ask(id: &str, repo: Option<PathBuf>, reader: Reader, question: GitQuestion) -> GitAnswer {
    let none = match &question {
        GitQuestion::Changes(_) => GitAnswer::Changes(Vec::new()),
        GitQuestion::Merged(_) => GitAnswer::Merged(None),
        GitQuestion::Revert { .. } => GitAnswer::Revert(None),
    };
    let Some(repo) = repo else { return none };
    answer(repo, reader, question).await.unwrap_or_else(|error| {
        tracing::warn!("bisection {id}: {error}");
        none
    })
}

async fn answer(repo: PathBuf, reader: Reader, question: GitQuestion) -> Result<GitAnswer, RepositoryError> {
    let repo = open(repo).await?;
    Ok(match question {
        GitQuestion::Changes(suspects) => GitAnswer::Changes(changes::of(&repo, reader, suspects).await?),
        GitQuestion::Merged(merge) => {
            let read = move || repo.merged_commits(&merge, SUSPECTS_MAX);
            let commits = tokio::task::spawn_blocking(read).await??;
            GitAnswer::Merged(commits.filter(|commits| !commits.is_empty()).map(|commits| {
                Chain {
                    merges: commits
                        .iter()
                        .filter_map(|commit| Some((commit.id.clone(), commit.parents.get(1)?.clone())))
                        .collect(),
                    commits: commits.into_iter().map(|commit| commit.id).collect(),
                }
            }))
        }
        GitQuestion::Revert { culprit, tip } => {
            let commit = repo.revert(&culprit, &tip).await?;
            GitAnswer::Revert(commit.map(|commit| Revert { culprit, tip, commit }))
        }
    })
}

/// Keeps these commits with their ancestors in the repository for a bisection, and no others.
pub async fn keep(id: &str, repo: &Path, commits: &[CommitId]) {
    let kept = async {
        let dir: RefName = format!("refs/ktest-ci/bisect/{id}").parse()?;
        Ok::<_, RepositoryError>(open(repo.into()).await?.keep_commits(&dir, commits).await?)
    };
    if let Err(error) = kept.await {
        tracing::warn!("bisection {id}: its commits are not kept in the repository: {error}");
    }
}

async fn open(path: PathBuf) -> Result<Repo, RepositoryError> {
    Ok(tokio::task::spawn_blocking(move || Repo::open(&path)).await??)
}
