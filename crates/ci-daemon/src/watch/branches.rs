//! Fetches the branches in parallel and lists their commits.
//!
//! If the remote of a branch fails or hangs, the branch keeps its last good state and does not delay other branches
//! (`schedule`). A branch consists of the commits that are reachable from its tip, so a force-push needs no special
//! case.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::{Branch, Config, RemoteHost};
use gitio::{CommitInfo, GitError, Repo};
use model::snapshot::BranchStatus;
use model::{BranchRef, CommitId, NameError, RefName, Remote, RepoName, SuiteName};
use testfile::suites::SuiteError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::schedule::{FetchedRef, Schedule};
use super::suites::{self, FetchedSuite, SuiteFetch};

/// Time limit of `git ls-remote`.
const LS_REMOTE_LIMIT: Duration = Duration::from_secs(60);
/// Time limit of a fetch. The first fetch of a kernel tree downloads gigabytes.
const FETCH_LIMIT: Duration = Duration::from_secs(3600);
/// Time limit of a name lookup.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// A branch as it was last fetched.
#[derive(Debug, Clone, Default)]
pub struct FetchedBranch {
    /// Its commits, tip first, down to its base, or as many as are tested or have results that retention keeps.
    pub commits: Arc<[CommitInfo]>,
    /// The time of the last successful fetch, Unix seconds.
    pub fetched: Option<i64>,
    /// The error of the last fetch, if it failed.
    pub error: Option<String>,
    /// Why its ref for clients of the existing system was not written.
    pub legacy_error: Option<String>,
}

/// Why a branch cannot be fetched or walked.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A name that is not valid in git.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its repository is not configured.
    #[error("repo {0:?} is not configured; add [repo.{0}]")]
    NoRepo(RepoName),
    /// Neither the repository nor the remote has its base.
    #[error("base {base} is neither in {repo} nor at the remote; correct base = ...")]
    NoBase {
        /// The base.
        base: String,
        /// The repository.
        repo: String,
    },
    /// The host of a user's remote does not have a public address.
    #[error(
        "{host} has the address {address}, which is not public; an entry of allow_remotes that names the host allows it"
    )]
    Private {
        /// The host.
        host: String,
        /// Its address.
        address: IpAddr,
    },
    /// The address of a user's remote cannot be resolved.
    #[error("{host}: no address found: {reason}")]
    Lookup {
        /// The host.
        host: String,
        /// The error.
        reason: String,
    },
    /// The ref for clients of the existing system cannot be written.
    #[error("legacy_refs: {0}")]
    LegacyRef(GitError),
    /// The source of a test suite cannot be used.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// The task panicked.
    #[error("fetching the branch failed: {0}")]
    Task(String),
}

/// The commits that a fetch found.
#[derive(Debug)]
struct FetchResult {
    commits: Vec<CommitInfo>,
    /// The error of the fetch, if the commits are those that an earlier daemon fetched.
    failed: Option<WatchError>,
    /// Why the legacy ref was not written.
    legacy: Option<WatchError>,
}

/// The end of a fetch.
#[derive(Debug)]
enum FetchOutcome {
    Branch(BranchRef, Result<FetchResult, WatchError>),
    Suite(SuiteName, Result<SuiteFetch, WatchError>),
}

impl FetchOutcome {
    fn failed(name: FetchedRef, error: WatchError) -> Self {
        match name {
            FetchedRef::Branch(name) => Self::Branch(name, Err(error)),
            FetchedRef::Suite(name) => Self::Suite(name, Err(error)),
        }
    }
}

/// Keeps the error of the last fetch. Returns it if it is another one than before.
pub(super) fn keep_error(kept: &mut Option<String>, failed: Option<WatchError>) -> Option<&str> {
    let error = failed.map(|error| error.to_string());
    let is_new = error != *kept;
    *kept = error;
    kept.as_deref().filter(|_| is_new)
}

/// Fetches the branches and the suites, and keeps their last good state.
#[derive(Debug, Default)]
pub struct Watcher {
    branches: BTreeMap<BranchRef, FetchedBranch>,
    schedule: Schedule,
    suites: BTreeMap<SuiteName, FetchedSuite>,
    fetches: JoinSet<FetchOutcome>,
    names: HashMap<tokio::task::Id, FetchedRef>,
}

impl Watcher {
    /// Schedules a fetch of every branch and suite without one, and removes those that are no longer configured.
    pub fn start(&mut self, config: &Config) {
        let branches = config.all_branches();
        let branches = branches.map(|branch| (FetchedRef::Branch(branch.name.clone()), &branch.remote));
        let suites = config.suites.iter();
        let suites = suites.map(|(name, suite)| (FetchedRef::Suite(name.clone()), &suite.remote));
        for (name, remote) in branches.chain(suites) {
            let remote = remote.as_str();
            let host = config::host_and_port(remote).map_or(remote, |(host, _)| host);
            self.schedule.add(name, host);
        }
        self.schedule.retain(|name| match name {
            FetchedRef::Branch(name) => config.branch(name).is_some(),
            FetchedRef::Suite(name) => config.suites.contains_key(name),
        });
        self.branches.retain(|name, _| config.branch(name).is_some());
        suites::update(&mut self.suites, config);
        self.start_scheduled(config);
    }

    /// Starts the fetches for which there are permits.
    fn start_scheduled(&mut self, config: &Config) {
        while let Some(name) = self.schedule.start(Instant::now(), config.users.max_fetches) {
            let id = match &name {
                FetchedRef::Branch(name) => self.start_branch(name, config),
                FetchedRef::Suite(name) => self.start_suite(name, config),
            };
            match id {
                Some(id) => drop(self.names.insert(id, name)),
                None => self.schedule.ended(&name, Instant::now(), false),
            }
        }
    }

    fn start_branch(&mut self, name: &BranchRef, config: &Config) -> Option<tokio::task::Id> {
        let branch = config.branch(name)?.clone();
        let most = commits_max(config, &branch);
        let fetched_before = self.branches.contains_key(name);
        let repo = config.repo(&branch.repo).map(PathBuf::from);
        let legacy_refs = config.top.legacy_refs;
        let name = name.clone();
        let fetch = self.fetches.spawn(async move {
            let fetch = async {
                let repo = repo.ok_or_else(|| WatchError::NoRepo(branch.repo.clone()))?;
                fetch_and_walk(&branch, repo, most, fetched_before, legacy_refs).await
            };
            FetchOutcome::Branch(name, fetch.await)
        });
        Some(fetch.id())
    }

    fn start_suite(&mut self, name: &SuiteName, config: &Config) -> Option<tokio::task::Id> {
        let (suite, known) = (config.suites.get(name)?.clone(), self.suites.get(name)?);
        let (repo, has_source) = (known.repo.clone(), known.source.found.is_some());
        let name = name.clone();
        let fetch = self.fetches.spawn(async move {
            let result = suites::fetch_suite(name.clone(), suite, repo, has_source).await;
            FetchOutcome::Suite(name, result)
        });
        Some(fetch.id())
    }

    /// Waits for the next fetch to end and stores its result. Returns false if none is scheduled. Cancel safe.
    pub async fn next(&mut self, config: &Config, now: impl Fn() -> i64) -> bool {
        let (id, outcome) = loop {
            self.start_scheduled(config);
            let overdue = self.schedule.next_overdue(Instant::now());
            let permit = async {
                match overdue {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                joined = self.fetches.join_next_with_id() => match joined {
                    Some(Ok((id, outcome))) => break (id, Ok(outcome)),
                    Some(Err(error)) => break (error.id(), Err(WatchError::Task(error.to_string()))),
                    None => return false,
                },
                () = permit => {}
            }
        };
        let Some(name) = self.names.remove(&id) else { return true };
        let succeeded = match outcome.unwrap_or_else(|error| FetchOutcome::failed(name.clone(), error)) {
            FetchOutcome::Branch(name, result) => {
                let succeeded = matches!(&result, Ok(FetchResult { failed: None, .. }));
                if config.branch(&name).is_some() {
                    self.branches.entry(name.clone()).or_default().take(&name, result, now());
                }
                succeeded
            }
            FetchOutcome::Suite(name, result) => {
                self.suites.get_mut(&name).is_some_and(|suite| suite.take(&name, result))
            }
        };
        self.schedule.ended(&name, Instant::now(), succeeded);
        self.start_scheduled(config);
        true
    }

    /// Whether no fetch is scheduled or running.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.schedule.is_idle()
    }

    /// Whether only fetches of slow or failing remotes are left.
    #[must_use]
    pub fn only_slow_left(&self) -> bool {
        self.schedule.only_slow_left(Instant::now())
    }

    /// The branches as last fetched.
    #[must_use]
    pub fn branches(&self) -> &BTreeMap<BranchRef, FetchedBranch> {
        &self.branches
    }

    /// The suites as last fetched.
    #[must_use]
    pub fn suites(&self) -> &BTreeMap<SuiteName, FetchedSuite> {
        &self.suites
    }
}

impl FetchedBranch {
    /// The newest commit.
    #[must_use]
    pub fn tip(&self) -> Option<&CommitId> {
        self.commits.first().map(|commit| &commit.id)
    }

    /// Stores the result of a fetch, which ended at `now`.
    fn take(&mut self, name: &BranchRef, result: Result<FetchResult, WatchError>, now: i64) {
        let failed = match result {
            Ok(FetchResult { commits, failed, legacy }) => {
                if self.tip() != commits.first().map(|commit| &commit.id) {
                    let tip = commits.first();
                    let tip = tip
                        .map_or("at its base".into(), |tip| format!("{} {}", tip.id.short(), tip.subject()));
                    tracing::info!(branch = %name, "now {tip}");
                }
                self.commits = commits.into();
                self.legacy_error = legacy.map(|error| error.to_string());
                failed
            }
            Err(error) => Some(error),
        };
        if failed.is_none() {
            self.fetched = Some(now);
        }
        if let Some(error) = keep_error(&mut self.error, failed) {
            tracing::warn!(branch = %name, "{error}");
        }
    }

    /// Its entry in the status snapshot.
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

/// The number of commits of a branch that are listed: those that are tested or have results that retention keeps.
pub(super) fn commits_max(config: &Config, branch: &Branch) -> usize {
    let tested = config.groups_of(branch).map(|group| group.max_commits as usize).max().unwrap_or(0);
    tested.max(config.top.keep_results_commits)
}

/// Fetches a branch and walks its commits. If the fetch fails and this daemon has not `fetched_before`, uses the
/// commits that an earlier daemon fetched.
async fn fetch_and_walk(
    branch: &Branch,
    repo: PathBuf,
    most: usize,
    fetched_before: bool,
    legacy_refs: bool,
) -> Result<FetchResult, WatchError> {
    let opened = tokio::task::spawn_blocking(move || Repo::open(&repo)).await;
    let mut repo = opened.map_err(|error| WatchError::Task(error.to_string()))??;
    if branch.remote_host == RemoteHost::Public {
        check_public(branch.remote.as_str()).await?;
        repo = repo.without_redirects();
    }
    let into: RefName = branch.local_ref().parse()?;
    let (tip, failed) = match fetch(&repo, &branch.remote, &branch.git_ref, &into).await {
        Ok(tip) => (tip, None),
        Err(error) if fetched_before => return Err(error),
        // The existing system fetched into the legacy ref.
        Err(error) => match repo.resolve(into.as_str()).or_else(|_| repo.resolve(&branch.legacy_ref())) {
            Ok(tip) => (tip, Some(error)),
            Err(_) => return Err(error),
        },
    };
    let legacy = if legacy_refs { write_legacy_ref(&repo, branch, &tip).await.err() } else { None };
    let base = match &branch.base {
        Some(base) => Some(find_base(&repo, branch, base).await?),
        None => None,
    };
    let walked = tokio::task::spawn_blocking(move || repo.walk(&tip, base.as_ref(), most)).await;
    let commits = walked.map_err(|error| WatchError::Task(error.to_string()))??;
    Ok(FetchResult { commits, failed, legacy })
}

/// Sets the ref in which clients of the existing system look for the branch.
async fn write_legacy_ref(repo: &Repo, branch: &Branch, tip: &CommitId) -> Result<(), WatchError> {
    let (name, record) = (branch.legacy_ref().parse()?, branch.legacy_record().parse()?);
    repo.set_own_ref(&name, &record, tip).await.map_err(WatchError::LegacyRef)
}

/// Refuses a URL if its host has an address that is not public.
async fn check_public(url: &str) -> Result<(), WatchError> {
    let (host, port) = config::host_and_port(url).unwrap_or((url, 0));
    let lookup = |reason: String| WatchError::Lookup { host: host.into(), reason };
    let addresses = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((host, port))).await;
    let addresses = addresses
        .map_err(|_| lookup(format!("no answer within {} s", LOOKUP_LIMIT.as_secs())))?
        .map_err(|error| lookup(error.to_string()))?;
    match addresses.map(|address| address.ip()).find(|address| !config::is_public(*address)) {
        Some(address) => Err(WatchError::Private { host: host.into(), address }),
        None => Ok(()),
    }
}

/// Fetches a ref of a remote into the local ref `into`, unless it is there.
pub(super) async fn fetch(
    repo: &Repo,
    remote: &Remote,
    git_ref: &RefName,
    into: &RefName,
) -> Result<CommitId, WatchError> {
    if let Some(tip) = repo.ls_remote(remote, git_ref, LS_REMOTE_LIMIT).await?
        && repo.resolve(into.as_str()).is_ok_and(|here| here == tip)
    {
        return Ok(tip);
    }
    Ok(repo.fetch(remote, git_ref, into, FETCH_LIMIT).await?.new)
}

/// Resolves the base in the repository, or else at the remote.
async fn find_base(repo: &Repo, branch: &Branch, base: &RefName) -> Result<CommitId, WatchError> {
    // A tag with the name of the branch must not be used instead.
    let branch_ref = format!("refs/heads/{base}");
    if let Ok(commit) = repo.resolve(&branch_ref).or_else(|_| repo.resolve(base.as_str())) {
        return Ok(commit);
    }
    let into: RefName = branch.base_ref().parse()?;
    match repo.fetch(&branch.remote, base, &into, FETCH_LIMIT).await {
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
        let shown = watcher.branches().iter().map(|(name, branch)| {
            let subjects: Vec<_> = branch.commits.iter().map(CommitInfo::subject).collect();
            let error = branch.error.as_ref().map_or("", |_| " error");
            format!("{}: {} {:?}{error}", name.branch, subjects.join(" "), branch.fetched)
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
        // Without the remote, the last good state is kept, also for a daemon that starts now.
        std::fs::rename(remote.path().join(".git"), remote.path().join("gone")).unwrap();
        assert_eq!(
            cycle(&mut watcher, &config, 40).await[..2],
            ["all: d3 c2 c1 Some(30) error", "based: d3 c2 Some(30) error"]
        );
        let mut watcher = Watcher::default();
        assert_eq!(cycle(&mut watcher, &config, 50).await[0], "all: d3 c2 c1 None error");
    }

    #[tokio::test]
    async fn legacy_refs_are_where_the_existing_clients_look() {
        let dir = tempfile::tempdir().unwrap();
        let (linux, remote) = (ScratchRepo::new(), ScratchRepo::new());
        linux.commit("other", &[("x", "1")]);
        remote.commit("c0", &[("a", "0")]);
        let mut config = config(dir.path(), linux.url(), &branch("next", remote.url(), ""));
        let mut watcher = Watcher::default();
        cycle(&mut watcher, &config, 10).await;
        let refs = || linux.git(["for-each-ref", "--format=%(subject)", "refs/heads/u"]);
        assert_eq!(refs(), "", "off by default");
        config.top.legacy_refs = true;
        cycle(&mut watcher, &config, 10).await;
        assert_eq!(refs(), "c0");
        remote.commit("c1", &[("a", "1")]);
        cycle(&mut watcher, &config, 20).await;
        assert_eq!(refs(), "c1");
        // A branch with a foreign ref is tested nevertheless.
        linux.git(["update-ref", "refs/heads/u/next", "master"]);
        remote.commit("c2", &[("a", "2")]);
        assert_eq!(cycle(&mut watcher, &config, 30).await, ["next: c2 c1 c0 Some(30)"]);
        assert_eq!(refs(), "other");
        let name = "u/next".parse().unwrap();
        let error = watcher.branches()[&name].legacy_error.clone().unwrap();
        assert!(error.starts_with("legacy_refs: ") && error.contains("update-ref -d"), "{error}");
        linux.git(["update-ref", "-d", "refs/heads/u/next"]);
        cycle(&mut watcher, &config, 40).await;
        assert_eq!((refs().as_str(), &watcher.branches()[&name].legacy_error), ("c2", &None));
    }

    #[tokio::test]
    async fn a_host_with_a_local_address_is_refused() {
        for url in ["https://localhost/x", "git://127.0.0.1:1/x", "https://127.1/x", "https://[::1]/x"] {
            let error = check_public(url).await.unwrap_err();
            assert!(matches!(error, WatchError::Private { .. }), "{url}: {error}");
        }
        assert!(check_public("https://9.9.9.9/x").await.is_ok());
    }

    /// A git server on a loopback port that reports a ref and sends no pack, or does not respond at all.
    fn hanging_remote(reports_ref: bool) -> String {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("git://{}/linux", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let packet = |text: String| format!("{:04x}{text}", text.len() + 4);
                    let id = "1".repeat(40);
                    let mut request = [0; 4096];
                    if stream.read(&mut request).is_err() {
                        return;
                    }
                    if reports_ref {
                        let head = packet(format!("{id} HEAD\0multi_ack side-band-64k ofs-delta\n"));
                        let master = packet(format!("{id} refs/heads/master\n"));
                        stream.write_all(format!("{head}{master}0000").as_bytes()).ok();
                    }
                    while stream.read(&mut request).is_ok_and(|count| count > 0) {}
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn fifty_hanging_remotes_do_not_delay_a_healthy_one() {
        let dir = tempfile::tempdir().unwrap();
        let (linux, remote) = (ScratchRepo::new(), ScratchRepo::new());
        linux.commit("other", &[("x", "1")]);
        remote.commit("c0", &[("a", "0")]);
        let hanging = [hanging_remote(true), hanging_remote(false)];
        // In alphabetical order, the healthy branch is after the others.
        let mut branches: String =
            (0..50).map(|number| branch(&format!("hangs{number}"), &hanging[number % 2], "")).collect();
        branches += &branch("healthy", remote.url(), "");
        let config = config(dir.path(), linux.url(), &branches);
        let healthy: BranchRef = "u/healthy".parse().unwrap();
        let mut watcher = Watcher::default();
        // Its first fetch waits until the other remotes are known to be slow.
        watcher.start(&config);
        let began = Instant::now();
        while watcher.branches().get(&healthy).is_none() {
            assert!(watcher.next(&config, || 10).await);
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        for round in 0..3 {
            remote.commit("next", &[("a", &format!("{round}"))]);
            let tip = remote.git(["rev-parse", "HEAD"]);
            let began = Instant::now();
            watcher.start(&config);
            while watcher.branches()[&healthy].tip().map(ToString::to_string).as_deref() != Some(tip.trim()) {
                assert!(watcher.next(&config, || 20).await);
            }
            assert!(began.elapsed() < Duration::from_secs(2), "{:?} in round {round}", began.elapsed());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(!watcher.is_idle());
    }
}
