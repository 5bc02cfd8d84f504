//! Records the patches of listed commits, so that a commit is found that has the same patch on another base.

use std::path::PathBuf;
use std::sync::Arc;

use gitio::{GitError, Repo};
use model::BranchRef;
use results::Writer;
use results::notes::Note;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use crate::watch::fetch_loop::View;

/// The maximum number of commits of a branch whose patches are read after a listing, the newest first.
const COMMITS_MAX: usize = 1000;

/// Records patches in the background, of one branch at a time.
#[derive(Debug)]
pub(crate) struct PatchRecorder {
    writer: Writer,
    turn: Arc<Semaphore>,
}

/// Why patches are not recorded.
#[derive(Debug, thiserror::Error)]
enum PatchError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Results(#[from] results::Error),
    #[error("the task failed: {0}")]
    Task(#[from] JoinError),
}

impl PatchRecorder {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Records the patches of the listed commits of these branches that are not recorded yet.
    pub(crate) fn record(&self, view: &View, listed: &[BranchRef]) {
        for name in listed {
            let branch = view.config.branch(name);
            let Some(repo) = branch.and_then(|branch| view.config.repo(&branch.repo)).map(PathBuf::from)
            else {
                continue;
            };
            let (writer, turn, name) = (self.writer.clone(), Arc::clone(&self.turn), name.clone());
            tokio::spawn(async move {
                let _turn = turn.acquire_owned().await;
                if let Err(error) = record(&writer, repo, name.clone()).await {
                    tracing::warn!(branch = %name, "the patches of its commits are not recorded: {error}");
                }
            });
        }
    }
}

async fn record(writer: &Writer, repo: PathBuf, branch: BranchRef) -> Result<(), PatchError> {
    let reader = writer.reader();
    let read = move || Ok::<_, GitError>((reader.unknown_patches(&branch, COMMITS_MAX), Repo::open(&repo)?));
    let (commits, repo) = tokio::task::spawn_blocking(read).await??;
    if commits.is_empty() {
        return Ok(());
    }
    let mut patches = repo.patch_ids(&commits).await?;
    for commit in commits {
        let patch = patches.remove(&commit);
        writer.note(Note::Patch { commit, patch })?;
    }
    // Nothing else may change for a while.
    writer.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{CommitId, Status};
    use testkit::ScratchRepo;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_commit_with_the_same_patch_on_another_base_is_found() {
        let (dir, scratch) = (tempfile::tempdir().unwrap(), ScratchRepo::new());
        let root = scratch.commit("root", &[("a.c", "1\n"), ("b.c", "1\n")]);
        let first = scratch.commit("v1", &[("a.c", "2\n")]);
        scratch.git(["checkout", "-q", "-b", "other", root.as_str()]);
        scratch.commit("base", &[("b.c", "2\n")]);
        let second = scratch.commit("v2", &[("a.c", "2\n")]);
        let writer = Writer::open(dir.path()).unwrap();
        let branch: BranchRef = "u/b".parse().unwrap();
        let list = |ids: Vec<&CommitId>| ids.into_iter().map(|id| (id.clone(), String::new())).collect();
        writer.set_branch(&branch, list(vec![&first, &root])).await.unwrap();
        record(&writer, scratch.path().into(), branch.clone()).await.unwrap();
        assert_eq!(writer.reader().unknown_patches(&branch, 9), []);
        let verdict = model::Verdict::Passed;
        let test = |commit: &CommitId| {
            let key = "t.x".parse().unwrap();
            results::VerdictRecord::new(commit.clone(), key, verdict.clone(), std::time::Duration::ZERO)
        };
        writer.record(test(&first)).await.unwrap();
        // After a force-push, the old commit is no longer listed.
        writer.set_branch(&branch, list(vec![&second, &root])).await.unwrap();
        assert_eq!(writer.reader().unknown_patches(&branch, 9), std::slice::from_ref(&second));
        record(&writer, scratch.path().into(), branch.clone()).await.unwrap();
        let reader = writer.reader();
        let [row] = reader.same_patch(&second).try_into().unwrap();
        assert_eq!((&row.commit, row.counts.get(Status::Passed)), (&first, 1));
        assert_eq!((reader.same_patch(&first), reader.same_patch(&root)), (vec![], vec![]));
        let policy = results::retention::Policy { commits: 9, rest: std::time::Duration::ZERO };
        writer.apply(writer.plan_retention(policy).unwrap()).await.unwrap();
        assert_eq!(reader.same_patch(&second), []);
        writer.close().await.unwrap();
    }
}
