//! Force-pushes: compares the versions of a branch, once per push, and keeps the commits of the old one in the repository.
//!
//! A task of its own does this, so that a push of many commits does not delay their tests. The file of a branch
//! ([`results::pushes`]) has the tip up to which its pushes are recorded, so that none is lost when the daemon ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use config::{Branch, Config};
use fsx::clock::unix_seconds;
use gitio::{CommitRange, GitError, RangePair, Repo};
use model::{BranchRef, CommitId, NameError, RefName};
use results::Reader;
use results::pushes::{self, COMMITS_MAX, Mark, Push, PushedCommit, Pushes, PushesError};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use crate::watch::fetch_loop::View;

/// The maximum length of a subject, in characters.
const SUBJECT_MAX: usize = 200;
/// The maximum number of unchanged commits that are counted.
const UNCHANGED_MAX: usize = 1000;
/// A push is kept for at least this time, in seconds, also if no commit of its old version has results.
const KEEP_S: i64 = 24 * 3600;

/// Why pushes are not recorded.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Pushes(#[from] PushesError),
    #[error(transparent)]
    Results(#[from] results::Error),
    #[error("the task failed: {0}")]
    Task(#[from] JoinError),
}

/// Work for the task.
#[derive(Debug)]
enum Work {
    /// A branch has a tip.
    Tip(Box<Tip>),
    /// Drop the pushes whose old version has no results.
    Expire(BTreeMap<BranchRef, PathBuf>),
}

/// A branch as it was fetched.
#[derive(Debug)]
struct Tip {
    branch: Branch,
    repo: PathBuf,
    tip: CommitId,
}

/// The task, and the channel to it.
#[derive(Debug)]
pub struct PushRecorder {
    work: mpsc::UnboundedSender<Work>,
    task: JoinHandle<()>,
}

impl PushRecorder {
    /// Starts the task.
    #[must_use]
    pub fn start(reader: Reader) -> Self {
        let (work, mut received) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(work) = received.recv().await {
                handle(&reader, work).await;
            }
        });
        Self { work, task }
    }

    /// Records the pushes of these branches.
    pub fn record(&self, view: &View, branches: &[BranchRef]) {
        for name in branches {
            let branch = view.config.branch(name);
            let tip = view.branches.get(name).and_then(|fetched| fetched.tip());
            let (Some(branch), Some(tip)) = (branch, tip) else { continue };
            if let Some(repo) = view.config.repo(&branch.repo) {
                let tip = Tip { branch: branch.clone(), repo: repo.into(), tip: tip.clone() };
                let _ = self.work.send(Work::Tip(Box::new(tip)));
            }
        }
    }

    /// Drops the pushes that expired.
    pub fn expire(&self, config: &Config) {
        let repo = |branch: &Branch| Some((branch.name.clone(), config.repo(&branch.repo)?.into()));
        let _ = self.work.send(Work::Expire(config.all_branches().filter_map(repo).collect()));
    }

    /// Waits until everything is recorded.
    pub async fn end(self) {
        drop(self.work);
        let _ = self.task.await;
    }
}

async fn handle(reader: &Reader, work: Work) {
    match work {
        Work::Tip(tip) => {
            if let Err(error) = record(reader, &tip).await {
                tracing::warn!("{}: its push is not recorded: {error}", tip.branch.name);
            }
        }
        Work::Expire(repos) => {
            if let Err(error) = expire_all(reader, &repos).await {
                tracing::warn!("old pushes are not removed: {error}");
            }
        }
    }
}

async fn open(path: PathBuf) -> Result<Repo, PushError> {
    Ok(tokio::task::spawn_blocking(move || Repo::open(&path)).await??)
}

/// The directory of the refs that keep old versions of a branch.
fn refs(name: &BranchRef) -> Result<RefName, NameError> {
    format!("refs/ktest-ci/pushes/{}/{}", name.user, name.branch.ref_component()).parse()
}

async fn record(reader: &Reader, fetched: &Tip) -> Result<(), PushError> {
    let Tip { branch, repo, tip } = fetched;
    let known = pushes::read(reader.output_dir(), &branch.name)?;
    if known.as_ref().is_some_and(|known| known.tip == *tip) {
        return Ok(());
    }
    let repo = open(repo.clone()).await?;
    let mut pushes = known.unwrap_or_else(|| Pushes::new(tip.clone()));
    let old = std::mem::replace(&mut pushes.tip, tip.clone());
    // The configuration can name another repository now.
    pushes.pushes.retain(|push| repo.has_commit(&push.old));
    if repo.has_commit(&old) && !is_ancestor(&repo, &old, tip).await? {
        let push = compare(&repo, branch, &old, tip).await?;
        tracing::info!(
            "{}: force-pushed from {} to {}: {}",
            branch.name,
            old.short(),
            tip.short(),
            words(&push)
        );
        pushes.add(push);
    }
    repo.keep_commits(&refs(&branch.name)?, &pushes.kept()).await?;
    pushes::write(reader.output_dir(), &branch.name, &pushes)?;
    Ok(())
}

async fn is_ancestor(repo: &Repo, old: &CommitId, new: &CommitId) -> Result<bool, PushError> {
    let (repo, old, new) = (repo.clone(), old.clone(), new.clone());
    Ok(tokio::task::spawn_blocking(move || repo.is_ancestor(&old, &new)).await??)
}

fn words(push: &Push) -> String {
    if let Some(problem) = &push.problem {
        return format!("not compared: {problem}");
    }
    let count = |mark: Mark| push.pairs.iter().filter(|pair| pair.mark == mark).count();
    let marks = [Mark::Kept, Mark::Changed, Mark::New, Mark::Gone];
    let words: Vec<String> = marks.map(|mark| format!("{} {}", count(mark), mark.words().1)).into();
    words.join(", ")
}

/// Compares two versions of a branch. A version that cannot be compared, for example because it is too large, is a push with a
/// problem.
async fn compare(repo: &Repo, branch: &Branch, old: &CommitId, new: &CommitId) -> Result<Push, PushError> {
    let mut push = Push {
        at: unix_seconds(),
        old: old.clone(),
        new: new.clone(),
        pairs: Vec::new(),
        unchanged: 0,
        is_cut: false,
        problem: None,
    };
    let Some(fork) = repo.merge_base(old, new).await? else {
        push.problem = Some("the versions have no commit in common".into());
        return Ok(push);
    };
    let (reading, base) = (repo.clone(), base_of(repo, branch));
    let (old, new) = (old.clone(), new.clone());
    let ranges = tokio::task::spawn_blocking(move || ranges(&reading, (&old, &new), &fork, base.as_ref()));
    let (old, new, unchanged, is_cut) = ranges.await??;
    (push.unchanged, push.is_cut) = (unchanged, is_cut);
    match repo.range_diff(&old, &new).await {
        Ok(pairs) => push.pairs = pairs.into_iter().rev().map(|pair| pushed(repo, pair)).collect(),
        Err(error) => push.problem = Some(error.to_string()),
    }
    Ok(push)
}

/// The base of a branch in the repository.
fn base_of(repo: &Repo, branch: &Branch) -> Option<CommitId> {
    let base = branch.base.as_ref()?;
    let names = [format!("refs/heads/{base}"), base.to_string(), branch.base_ref()];
    names.iter().find_map(|name| repo.resolve(name).ok())
}

/// The commits of both versions that differ, the number of those that do not, and whether there are too many.
fn ranges(
    repo: &Repo,
    (old, new): (&CommitId, &CommitId),
    fork: &CommitId,
    base: Option<&CommitId>,
) -> Result<(CommitRange, CommitRange, usize, bool), GitError> {
    // If the base moved with the branch, the commits up to it are not of the branch.
    let above = |tip: &CommitId| -> Result<CommitId, GitError> {
        let Some(base) = base else { return Ok(fork.clone()) };
        let is_between = repo.is_ancestor(base, tip)? && repo.is_ancestor(fork, base)?;
        Ok(if is_between { base.clone() } else { fork.clone() })
    };
    let (old, old_is_cut) = repo.bounded_range(old, &above(old)?, COMMITS_MAX)?;
    let (new, new_is_cut) = repo.bounded_range(new, &above(new)?, COMMITS_MAX)?;
    let unchanged = match base {
        Some(base) if repo.is_ancestor(base, fork)? => repo.walk(fork, Some(base), UNCHANGED_MAX)?.len(),
        _ => 0,
    };
    Ok((old, new, unchanged, old_is_cut || new_is_cut))
}

fn pushed(repo: &Repo, RangePair { old, new, same }: RangePair) -> PushedCommit {
    let mark = match (&old, &new) {
        (Some(_), Some(_)) if same => Mark::Kept,
        (Some(_), Some(_)) => Mark::Changed,
        (None, _) => Mark::New,
        (_, None) => Mark::Gone,
    };
    let subject = new.as_ref().or(old.as_ref()).and_then(|commit| repo.commit(commit).ok());
    let subject = subject.map(|commit| commit.subject().chars().take(SUBJECT_MAX).collect());
    PushedCommit { mark, old, new, subject: subject.unwrap_or_default() }
}

/// Drops the pushes that expired, and those of branches without a listing.
async fn expire_all(reader: &Reader, repos: &BTreeMap<BranchRef, PathBuf>) -> Result<(), PushError> {
    for name in pushes::branches(reader.output_dir())? {
        if let Some(repo) = repos.get(&name) {
            expire(reader, &name, repo.clone()).await?;
        } else if reader.branch(&name)?.is_none() {
            for repo in repos.values().collect::<BTreeSet<_>>() {
                open(repo.clone()).await?.keep_commits(&refs(&name)?, &[]).await?;
            }
            pushes::remove(reader.output_dir(), &name)?;
        }
    }
    Ok(())
}

/// Drops the pushes of a branch whose old version has no results, and what keeps them.
async fn expire(reader: &Reader, name: &BranchRef, repo: PathBuf) -> Result<(), PushError> {
    let Some(mut pushes) = pushes::read(reader.output_dir(), name)? else { return Ok(()) };
    let (before, now) = (pushes.pushes.len(), unix_seconds());
    let has_results =
        |push: &Push| push.old_commits().any(|commit| reader.summary(commit).is_ok_and(|of| of.is_some()));
    pushes.pushes.retain(|push| now.saturating_sub(push.at) < KEEP_S || has_results(push));
    if pushes.pushes.len() < before {
        pushes::write(reader.output_dir(), name, &pushes)?;
        open(repo).await?.keep_commits(&refs(name)?, &pushes.kept()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use results::Writer;
    use testkit::ScratchRepo;

    use super::*;

    fn push(old: &CommitId, new: &CommitId, at: i64) -> Push {
        let pair = PushedCommit {
            mark: Mark::Changed,
            old: Some(old.clone()),
            new: Some(new.clone()),
            subject: String::new(),
        };
        let (old, new) = (old.clone(), new.clone());
        Push { at, old, new, pairs: vec![pair], unchanged: 0, is_cut: false, problem: None }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn old_pushes_without_results_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = ScratchRepo::new();
        let ids: Vec<CommitId> = (0..4).map(|at| scratch.commit("c", &[("x", &at.to_string())])).collect();
        let writer = Writer::open(dir.path()).unwrap();
        let verdict = results::VerdictRecord::new(
            ids[1].clone(),
            "t.x".parse().unwrap(),
            model::Verdict::Passed,
            std::time::Duration::from_secs(1),
        );
        writer.record(verdict).await.unwrap();
        writer.flush().await.unwrap();
        let reader = writer.reader();
        let now = unix_seconds();
        let name: BranchRef = "u/next".parse().unwrap();
        let mut known = Pushes::new(ids[0].clone());
        // The first has no results, the second has some, and the last is new.
        for (at, old) in [(0, &ids[0]), (0, &ids[1]), (now, &ids[2])] {
            known.add(push(old, &ids[3], at));
        }
        pushes::write(reader.output_dir(), &name, &known).unwrap();
        let repo = Repo::open(scratch.path()).unwrap();
        let refs =
            || scratch.git(["for-each-ref", "--format=%(objectname)", "refs/ktest-ci"]).lines().count();
        repo.keep_commits(&super::refs(&name).unwrap(), &known.kept()).await.unwrap();
        assert_eq!(refs(), 4);
        let repos = BTreeMap::from([(name.clone(), scratch.path().to_path_buf())]);
        expire_all(&reader, &repos).await.unwrap();
        let left = pushes::read(reader.output_dir(), &name).unwrap().unwrap();
        let old: Vec<&CommitId> = left.pushes.iter().map(|push| &push.old).collect();
        assert_eq!((old, refs()), (vec![&ids[2], &ids[1]], 3));
        // The branch is neither configured nor listed.
        let other = BTreeMap::from([("u/other".parse().unwrap(), scratch.path().to_path_buf())]);
        expire_all(&reader, &other).await.unwrap();
        assert_eq!((pushes::branches(reader.output_dir()).unwrap(), refs()), (vec![], 0));
        writer.close().await.unwrap();
    }
}
