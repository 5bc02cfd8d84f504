//! The sources of the test suites of the configuration (`[suite.NAME]`): fetches them like branches, and checks out each
//! new commit for the test files.
//!
//! If a fetch fails, or the new commit is not that of a suite, the last good commit stays in use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, Suite, Suites};
use fsx::digest::sha256_hex;
use fsx::untrusted::Scratch;
use gitio::Repo;
use model::{NameError, RefName, SuiteName, SuiteOrder, SuiteVersion};
use testfile::suites::{SuiteSource, cache_dir, checkout, existing};

use super::branches::{WatchError, fetch, keep_error};

/// The repositories of the suites in the output directory, which nodes of Slurm can read.
const DIRECTORY: &str = "ci-daemon-suites";
/// The time limit of `ci-daemon check` for a suite.
const CHECK_LIMIT: Duration = Duration::from_secs(600);

/// A suite as it was last fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedSuite {
    /// The section of the configuration.
    of: Suite,
    /// Its source for the test files on this host.
    pub source: SuiteSource,
    /// The repository that it was fetched into.
    pub repo: PathBuf,
    /// The error of the last fetch, if it failed.
    pub error: Option<String>,
}

impl FetchedSuite {
    /// The order for a run; `None` if no commit was fetched.
    #[must_use]
    pub fn order(&self) -> Option<SuiteOrder> {
        let (_, version) = self.source.found.as_ref()?;
        Some(SuiteOrder { version: version.clone(), repo: self.repo.clone() })
    }

    /// Its state after a fetch has ended.
    pub(super) fn take(&mut self, name: &SuiteName, result: Result<SuiteFetch, WatchError>) -> bool {
        let failed = match result {
            Ok(SuiteFetch { source, failed }) => {
                if source != self.source
                    && let Some((_, version)) = &source.found
                {
                    tracing::info!(suite = %name, "now {}", version.commit);
                }
                self.source = source;
                failed
            }
            Err(error) => Some(error),
        };
        if let Some(error) = keep_error(&mut self.error, failed) {
            tracing::warn!(suite = %name, "{error}");
        }
        self.error.is_none()
    }
}

/// The result of a fetch.
#[derive(Debug)]
pub(super) struct SuiteFetch {
    source: SuiteSource,
    /// The error of the fetch, if the source is one that an earlier daemon fetched.
    failed: Option<WatchError>,
}

/// Adds the suites of the configuration that are not in `known`, or with another remote or ref, and removes those that are
/// no longer configured. Reads the disk: what an earlier daemon fetched is used at once.
pub(super) fn update(known: &mut BTreeMap<SuiteName, FetchedSuite>, config: &Config) {
    known.retain(|name, suite| config.suites.get(name) == Some(&suite.of));
    for (name, suite) in &config.suites {
        known.entry(name.clone()).or_insert_with(|| {
            let repo = repo_of(&config.top.output_dir, name);
            let source = fetched_before(name, suite, &repo);
            let source = source.unwrap_or_else(|| SuiteSource { name: name.clone(), found: None });
            FetchedSuite { of: suite.clone(), source, repo, error: None }
        });
    }
}

fn fetched_before(name: &SuiteName, suite: &Suite, repo: &Path) -> Option<SuiteSource> {
    let commit = Repo::open(repo).ok()?.resolve(local_ref(suite).ok()?.as_str()).ok()?;
    existing(&cache_dir()?, &SuiteVersion { name: name.clone(), commit })
}

fn repo_of(output_dir: &Path, name: &SuiteName) -> PathBuf {
    output_dir.join(DIRECTORY).join(format!("{name}.git"))
}

/// The ref that a suite is fetched into. Another remote or ref has another one, so that it does not get the commit of the
/// former one if its first fetch fails.
fn local_ref(suite: &Suite) -> Result<RefName, NameError> {
    let from = sha256_hex(format!("{} {}", suite.remote, suite.git_ref));
    format!("refs/ktest/suite/{}", &from[..16]).parse()
}

/// Fetches a suite into `repo`, and checks it out into the cache directory.
pub(super) async fn fetch_suite(
    name: SuiteName,
    suite: Suite,
    repo: PathBuf,
    has_source: bool,
) -> Result<SuiteFetch, WatchError> {
    let cache =
        cache_dir().ok_or_else(|| WatchError::Task("there is no cache directory; set HOME".into()))?;
    fetch_into(name, &suite, &repo, &cache, has_source).await
}

async fn fetch_into(
    name: SuiteName,
    suite: &Suite,
    path: &Path,
    cache: &Path,
    has_source: bool,
) -> Result<SuiteFetch, WatchError> {
    let repo = Repo::create_mirror(path).await?;
    let into = local_ref(suite)?;
    let (commit, failed) = match fetch(&repo, &suite.remote, &suite.git_ref, &into).await {
        Ok(commit) => (commit, None),
        Err(error) if has_source => return Err(error),
        Err(error) => match repo.resolve(into.as_str()) {
            Ok(commit) => (commit, Some(error)),
            Err(_) => return Err(error),
        },
    };
    let order = SuiteOrder { version: SuiteVersion { name, commit }, repo: path.into() };
    let source = checkout(cache, &order).await?;
    Ok(SuiteFetch { source, failed })
}

/// Fetches the suites of a configuration into a temporary directory. Returns an error for each that the farm cannot use.
pub async fn problems(suites: &Suites) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, suite) in suites {
        let problem = match Scratch::temporary() {
            Ok(scratch) => {
                let (repo, cache) = (scratch.path().join("suite.git"), scratch.path().join("cache"));
                let fetched = fetch_into(name.clone(), suite, &repo, &cache, false);
                match tokio::time::timeout(CHECK_LIMIT, fetched).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("not fetched within {} s", CHECK_LIMIT.as_secs()),
                }
            }
            Err(error) => error.to_string(),
        };
        problems.push(format!("suite {name}: {problem}"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use model::CommitId;
    use testkit::ScratchRepo;

    use super::*;

    /// A suite with these cases, as a commit.
    fn commit(repo: &ScratchRepo, case: &str) -> CommitId {
        let check = repo.path().join("check");
        std::fs::write(&check, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&check, std::fs::Permissions::from_mode(0o755)).unwrap();
        repo.git(["add", "check"]);
        repo.commit(case, &[(&format!("tests/{case}"), case)])
    }

    fn suite(remote: &str, git_ref: &str) -> Suite {
        Suite { remote: remote.parse().unwrap(), git_ref: git_ref.parse().unwrap() }
    }

    struct Fetcher {
        dir: tempfile::TempDir,
        name: SuiteName,
    }

    impl Fetcher {
        async fn fetch(&self, suite: &Suite, has_source: bool) -> Result<SuiteFetch, String> {
            let (repo, cache) = (self.dir.path().join("suites/x.git"), self.dir.path().join("cache"));
            let fetched = fetch_into(self.name.clone(), suite, &repo, &cache, has_source).await;
            fetched.map_err(|error| error.to_string())
        }
    }

    fn commit_of(fetch: &SuiteFetch) -> &CommitId {
        &fetch.source.found.as_ref().unwrap().1.commit
    }

    #[tokio::test]
    async fn the_last_good_commit_stays_in_use() {
        let remote = ScratchRepo::new();
        let fetcher = Fetcher { dir: tempfile::tempdir().unwrap(), name: "xfstests".parse().unwrap() };
        let of = suite(remote.url(), "master");
        let source = SuiteSource { name: fetcher.name.clone(), found: None };
        let mut known = FetchedSuite { of: of.clone(), source, repo: "/x".into(), error: None };
        assert_eq!(known.order(), None);
        let first = commit(&remote, "001");
        for round in 0..2 {
            let fetched = fetcher.fetch(&of, round > 0).await.unwrap();
            assert!(commit_of(&fetched) == &first && fetched.failed.is_none());
            assert!(known.take(&fetcher.name, Ok(fetched)));
        }
        assert_eq!(known.order().unwrap().version.commit, first);
        let second = commit(&remote, "002");
        known.take(&fetcher.name, Ok(fetcher.fetch(&of, true).await.unwrap()));
        assert_eq!(known.order().unwrap().version.commit, second);
        // A commit that is no suite.
        remote.git(["rm", "-q", "check"]);
        remote.commit("gone", &[("x", "")]);
        let error = fetch_into(
            fetcher.name.clone(),
            &of,
            &fetcher.dir.path().join("suites/x.git"),
            &fetcher.dir.path().join("cache"),
            true,
        )
        .await
        .unwrap_err();
        assert!(!known.take(&fetcher.name, Err(error)));
        assert!(known.error.as_ref().unwrap().contains("has no program `check`"), "{:?}", known.error);
        assert_eq!(known.order().unwrap().version.commit, second);
        // Without the remote, a daemon that starts now uses what was fetched before.
        commit(&remote, "003");
        fetcher.fetch(&of, true).await.unwrap();
        std::fs::rename(remote.path().join(".git"), remote.path().join("gone")).unwrap();
        assert!(fetcher.fetch(&of, true).await.is_err());
        let fetched = fetcher.fetch(&of, false).await.unwrap();
        assert!(fetched.failed.is_some() && commit_of(&fetched) != &second);
        // Not under another ref.
        assert!(fetcher.fetch(&suite(remote.url(), "for-next"), false).await.is_err());
    }

    #[tokio::test]
    async fn each_suite_that_cannot_be_used_has_an_error() {
        let (good, other) = (ScratchRepo::new(), ScratchRepo::new());
        commit(&good, "001");
        other.commit("other", &[("a", "")]);
        let suites = Suites::from([
            ("good".parse().unwrap(), suite(good.url(), "HEAD")),
            ("missing".parse().unwrap(), suite("/nowhere/at/all", "master")),
            ("noref".parse().unwrap(), suite(good.url(), "for-next")),
            ("other".parse().unwrap(), suite(other.url(), "master")),
        ]);
        let problems = problems(&suites).await;
        assert_eq!(problems.len(), 3, "{problems:?}");
        for (problem, part) in problems.iter().zip(["/nowhere/at/all", "for-next", "no program `check`"]) {
            assert!(problem.starts_with("suite ") && problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn what_is_no_longer_configured_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let config = |suites: &str| {
            let text =
                format!("linux_repo = \"l\"\noutput_dir = \"o\"\nktest_dir = \"k\"\nuser = \"u\"\n{suites}");
            std::fs::write(dir.path().join("ci.toml"), text).unwrap();
            config::load(&dir.path().join("ci.toml")).unwrap()
        };
        let section = |name: &str, git_ref: &str| {
            format!("[suite.{name}]\nrepo = \"https://git.example.org/x.git\"\nref = {git_ref:?}\n")
        };
        let mut known = BTreeMap::new();
        update(&mut known, &config(&(section("a", "master") + &section("b", "master"))));
        known.values_mut().for_each(|suite| suite.error = Some("failed".into()));
        // Another ref is another suite.
        update(&mut known, &config(&(section("a", "for-next") + &section("b", "master"))));
        let errors: Vec<_> = known.values().map(|suite| suite.error.is_some()).collect();
        assert_eq!(errors, [false, true]);
        assert!(known["a"].repo.ends_with("o/ci-daemon-suites/a.git"));
        update(&mut known, &config(""));
        assert!(known.is_empty());
    }
}
