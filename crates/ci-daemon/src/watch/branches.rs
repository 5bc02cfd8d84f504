//! The branches: where their remotes stand, fetched in parallel, and which commits are to be tested.
//!
//! A remote that fails or hangs keeps its branch at the last good state and delays no other branch. A force-push is
//! nothing special: the branch is what its tip reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::{Branch, Config};
use gitio::{CommitInfo, GitError, Repo};
use model::snapshot::BranchStatus;
use model::{BranchRef, CommitId, NameError, RefName, RepoName};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long `git ls-remote` may take.
const LOOK: Duration = Duration::from_secs(60);
/// How long a fetch may take; the first one of a kernel tree takes long.
const FETCH: Duration = Duration::from_secs(3600);
/// How many remotes are talked to at a time.
const AT_ONCE: usize = 8;

/// What is known of a branch.
#[derive(Debug, Clone, Default)]
pub struct FetchedBranch {
    /// Its commits, the tip first, down to its base: all that are tested or whose results are kept.
    pub commits: Arc<[CommitInfo]>,
    /// When it was last fetched with success, Unix seconds.
    pub fetched: Option<i64>,
    /// Why it could not be fetched the last time.
    pub error: Option<String>,
}

/// Why a branch cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// git.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A name that git would not take.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its repository is not configured.
    #[error("repo {0:?} is not configured; add [repo.{0}]")]
    NoRepo(RepoName),
    /// Its base is nowhere.
    #[error("base {base} is neither in {repo} nor at the remote; correct base = ...")]
    NoBase {
        /// The base.
        base: String,
        /// The repository.
        repo: String,
    },
    /// The task died.
    #[error("looking at the branch failed: {0}")]
    Task(String),
}

/// What a look at a branch showed.
#[derive(Debug)]
struct FetchResult {
    commits: Vec<CommitInfo>,
    /// Why they are only what an earlier daemon fetched.
    failed: Option<WatchError>,
}

/// Watches the branches.
#[derive(Debug, Default)]
pub struct Watcher {
    seen: BTreeMap<BranchRef, FetchedBranch>,
    looking: BTreeSet<BranchRef>,
    looks: JoinSet<(BranchRef, Result<FetchResult, WatchError>)>,
}

impl Watcher {
    /// Starts to look at every branch that is not being looked at already, and forgets those that are gone.
    pub fn start(&mut self, config: &Config) {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut wanted = BTreeSet::new();
        for branch in config.all_branches() {
            let name = branch.name.clone();
            wanted.insert(name.clone());
            if !self.looking.insert(name.clone()) {
                continue;
            }
            let tested = config.groups_of(branch).map(|group| group.max_commits as usize).max().unwrap_or(0);
            let most = tested.max(config.keep_results_commits);
            let known = self.seen.contains_key(&name);
            let repo = config.repo(&branch.repo).map(Into::into);
            let (branch, slots) = (branch.clone(), slots.clone());
            self.looks.spawn(async move {
                let _slot = slots.acquire().await;
                let Some(repo) = repo else { return (name, Err(WatchError::NoRepo(branch.repo))) };
                let looked = look(&branch, repo, most, known).await;
                (name, looked)
            });
        }
        self.seen.retain(|name, _| wanted.contains(name));
    }

    /// Waits until another branch has been looked at, and takes it in; false if none is on its way. Safe to cancel.
    pub async fn next(&mut self, config: &Config, now: impl Fn() -> i64) -> bool {
        let Some(looked) = self.looks.join_next().await else {
            self.looking.clear();
            return false;
        };
        let (name, result) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!("{}", WatchError::Task(error.to_string()));
                return true;
            }
        };
        self.looking.remove(&name);
        if config.branch(&name).is_none() {
            return true;
        }
        let seen = self.seen.entry(name.clone()).or_default();
        let failed = match result {
            Ok(FetchResult { commits, failed }) => {
                if seen.tip() != commits.first().map(|commit| &commit.id) {
                    let tip = commits.first();
                    let tip = tip
                        .map_or("at its base".into(), |tip| format!("{} {}", tip.id.short(), tip.subject()));
                    tracing::info!(branch = %name, "now {tip}");
                }
                seen.commits = commits.into();
                failed
            }
            Err(error) => Some(error),
        };
        let error = failed.map(|error| error.to_string());
        match &error {
            None => seen.fetched = Some(now()),
            Some(error) if seen.error.as_ref() == Some(error) => {}
            Some(error) => tracing::warn!(branch = %name, "{error}"),
        }
        seen.error = error;
        true
    }

    /// Whether no branch is being looked at.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.looks.is_empty()
    }

    /// What is known of the branches.
    #[must_use]
    pub fn seen(&self) -> &BTreeMap<BranchRef, FetchedBranch> {
        &self.seen
    }
}

impl FetchedBranch {
    /// The newest commit.
    #[must_use]
    pub fn tip(&self) -> Option<&CommitId> {
        self.commits.first().map(|commit| &commit.id)
    }

    /// As the status snapshot has it.
    #[must_use]
    pub fn status(&self, name: &BranchRef) -> BranchStatus {
        BranchStatus {
            user: name.user.clone(),
            branch: name.branch.clone(),
            tip: self.tip().map(ToString::to_string),
            fetched: self.fetched,
            error: self.error.clone(),
        }
    }
}

/// Where the branch stands. If its remote does not answer and nothing is `known` of it yet, where it stood when an
/// earlier daemon fetched it is better than nothing.
async fn look(branch: &Branch, repo: PathBuf, most: usize, known: bool) -> Result<FetchResult, WatchError> {
    let opened = tokio::task::spawn_blocking(move || Repo::open(&repo)).await;
    let repo = opened.map_err(|error| WatchError::Task(error.to_string()))??;
    let into: RefName = branch.local_ref().parse()?;
    let (tip, failed) = match fetch(&repo, branch, &into).await {
        Ok(tip) => (tip, None),
        Err(error) if known => return Err(error),
        Err(error) => match repo.resolve(into.as_str()) {
            Ok(tip) => (tip, Some(error)),
            Err(_) => return Err(error),
        },
    };
    let base = match &branch.base {
        Some(base) => Some(find_base(&repo, branch, base).await?),
        None => None,
    };
    let walked = tokio::task::spawn_blocking(move || repo.walk(&tip, base.as_ref(), most)).await;
    let commits = walked.map_err(|error| WatchError::Task(error.to_string()))??;
    Ok(FetchResult { commits, failed })
}

async fn fetch(repo: &Repo, branch: &Branch, into: &RefName) -> Result<CommitId, WatchError> {
    if let Some(tip) = repo.ls_remote(&branch.remote, &branch.git_ref, LOOK).await?
        && repo.resolve(into.as_str()).is_ok_and(|here| here == tip)
    {
        return Ok(tip);
    }
    Ok(repo.fetch(&branch.remote, &branch.git_ref, into, FETCH).await?.new)
}

/// The base is in the repository, or else at the remote.
async fn find_base(repo: &Repo, branch: &Branch, base: &RefName) -> Result<CommitId, WatchError> {
    if let Ok(commit) = repo.resolve(base.as_str()) {
        return Ok(commit);
    }
    let into: RefName = branch.base_ref().parse()?;
    match repo.fetch(&branch.remote, base, &into, FETCH).await {
        Ok(fetched) => Ok(fetched.new),
        Err(GitError::NoSuchRef { .. }) => {
            Err(WatchError::NoBase { base: base.to_string(), repo: repo.path().display().to_string() })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use testkit::ScratchRepo;

    use super::*;

    fn config(dir: &Path, linux: &str, branches: &str) -> Config {
        let text = format!(
            "linux_repo = {linux:?}\noutput_dir = \"out\"\nkeep_results_commits = 3\nktest_dir = \"kt\"\nuser = \"u\"\n\
             [test_group.g]\ntests = [\"a.ktest\"]\nmax_commits = 3\n{branches}"
        );
        let path = dir.join("ci.toml");
        std::fs::write(&path, text).unwrap();
        config::load(&path).unwrap()
    }

    fn branch(name: &str, remote: &str, more: &str) -> String {
        format!("[branch.{name}]\nremote = {remote:?}\nref = \"master\"\ntest_groups = [\"g\"]\n{more}\n")
    }

    async fn cycle(watcher: &mut Watcher, config: &Config, now: i64) -> Vec<String> {
        watcher.start(config);
        while watcher.next(config, || now).await {}
        let shown = watcher.seen().iter().map(|(name, seen)| {
            let subjects: Vec<_> = seen.commits.iter().map(CommitInfo::subject).collect();
            let error = seen.error.as_ref().map_or("", |_| " error");
            format!("{}: {} {:?}{error}", name.branch, subjects.join(" "), seen.fetched)
        });
        shown.collect()
    }

    #[tokio::test]
    async fn pushes_force_pushes_bases_and_broken_remotes() {
        let dir = tempfile::tempdir().unwrap();
        let (linux, remote) = (ScratchRepo::new(), ScratchRepo::new());
        linux.commit("other", &[("x", "1")]);
        for name in ["c0", "c1", "c2", "c3"] {
            remote.commit(name, &[("a", name)]);
        }
        remote.git(["tag", "base", "HEAD~2"]);
        let remotes = [
            branch("all", remote.url(), ""),
            branch("based", remote.url(), "base = \"base\""),
            branch("broken", "/nowhere/at/all", ""),
            branch("nobase", remote.url(), "base = \"v9\""),
        ];
        let config = config(dir.path(), linux.url(), &remotes.concat());
        let mut watcher = Watcher::default();
        insta::assert_snapshot!(cycle(&mut watcher, &config, 10).await.join("\n"), @"
        all: c3 c2 c1 Some(10)
        based: c3 c2 Some(10)
        broken:  None error
        nobase:  None error
        ");
        remote.commit("c4", &[("a", "c4")]);
        assert_eq!(
            cycle(&mut watcher, &config, 20).await[..2],
            ["all: c4 c3 c2 Some(20)", "based: c4 c3 c2 Some(20)"]
        );
        remote.git(["reset", "-q", "--hard", "HEAD~2"]);
        remote.commit("d3", &[("a", "d3")]);
        assert_eq!(
            cycle(&mut watcher, &config, 30).await[..2],
            ["all: d3 c2 c1 Some(30)", "based: d3 c2 Some(30)"]
        );
        // The remote goes away: the last good state stays, also for a daemon that starts now.
        std::fs::rename(remote.path().join(".git"), remote.path().join("gone")).unwrap();
        assert_eq!(
            cycle(&mut watcher, &config, 40).await[..2],
            ["all: d3 c2 c1 Some(30) error", "based: d3 c2 Some(30) error"]
        );
        let mut watcher = Watcher::default();
        assert_eq!(cycle(&mut watcher, &config, 50).await[0], "all: d3 c2 c1 None error");
    }
}
