//! Requests reruns of all tests that match a pattern. The existing system deletes the results instead, so that its daemon
//! runs the tests again; here a verdict stands, and a further attempt is shown next to it.

use std::collections::BTreeSet;
use std::fmt;

use config::Config;
use gitio::{GitError, Repo, Revision, RevisionError};
use glob::{Pattern, PatternError};
use model::{CommitId, RepoName, ResultKey, Status};
use results::Reader;
use results::requests::{self, RequestKind, Rerun};

/// The maximum number of reruns that are requested at a time.
const TESTS_MAX: usize = 10_000;
/// The maximum number of commits of a range.
const COMMITS_MAX: usize = 100_000;

/// Why no reruns are requested.
#[derive(Debug, thiserror::Error)]
pub enum RerunManyError {
    /// The pattern.
    #[error("{pattern:?} is not a pattern: {reason}; write * for any characters")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The reason.
        reason: PatternError,
    },
    /// A side of the range.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// The repository is not configured.
    #[error("repo {0:?} is not configured; add [repo.{0}]")]
    NoRepo(RepoName),
    /// The range.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The results.
    #[error(transparent)]
    Results(#[from] results::Error),
    /// Too many.
    #[error(
        "{0} tests match, and at most {TESTS_MAX} reruns can be requested at a time; give fewer commits with --commits"
    )]
    Many(usize),
    /// A request cannot be written.
    #[error("cannot write a request for ci-daemon: {0}")]
    Request(#[from] std::io::Error),
}

/// A test that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchingTest {
    /// The commit.
    pub commit: CommitId,
    /// The test.
    pub key: ResultKey,
    /// Its present status.
    pub status: Status,
}

impl fmt::Display for MatchingTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.commit.short(), self.status, self.key)
    }
}

/// What is searched.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// A pattern of names of tests: `*`, `?`, `[abc]`; `/` is the same as `.`.
    pub pattern: &'a str,
    /// `A..B` or one revision; all commits with results if it is `None`.
    pub commits: Option<&'a str>,
    /// The repository of the revisions.
    pub repo: &'a RepoName,
}

impl Search<'_> {
    /// The tests with a verdict that match.
    pub fn find(&self, config: &Config, reader: &Reader) -> Result<Vec<MatchingTest>, RerunManyError> {
        let pattern = glob(self.pattern)
            .map_err(|reason| RerunManyError::Pattern { pattern: self.pattern.into(), reason })?;
        let mut commits = reader.commits()?;
        if let Some(range) = self.commits {
            let path = config.repo(self.repo).ok_or_else(|| RerunManyError::NoRepo(self.repo.clone()))?;
            let wanted = commits_of(&Repo::open(path)?, range)?;
            commits.retain(|commit| wanted.contains(commit));
        }
        let mut found = Vec::new();
        for commit in commits {
            let Some(results) = reader.commit(&commit)? else { continue };
            let entries = results
                .entries
                .into_iter()
                .filter(|entry| entry.decisive.status.is_final() && pattern.matches(entry.key.as_str()));
            found.extend(entries.map(|entry| MatchingTest {
                commit: commit.clone(),
                key: entry.key,
                status: entry.decisive.status,
            }));
        }
        Ok(found)
    }
}

/// Writes the requests.
pub fn request(reader: &Reader, tests: &[MatchingTest]) -> Result<(), RerunManyError> {
    if tests.len() > TESTS_MAX {
        return Err(RerunManyError::Many(tests.len()));
    }
    for MatchingTest { commit, key, .. } in tests {
        let rerun = Rerun { commit: commit.clone(), key: key.clone() };
        requests::submit(reader.output_dir(), RequestKind::Rerun(rerun), None)?;
    }
    Ok(())
}

fn commits_of(repo: &Repo, range: &str) -> Result<BTreeSet<CommitId>, RerunManyError> {
    let resolve = |text: &str| -> Result<CommitId, RerunManyError> {
        Ok(repo.resolve_revision(&text.parse::<Revision>()?)?)
    };
    let Some((base, tip)) = range.split_once("..") else { return Ok([resolve(range)?].into()) };
    let tip = resolve(if tip.is_empty() { "HEAD" } else { tip })?;
    let commits = repo.walk(&tip, Some(&resolve(base)?), COMMITS_MAX)?;
    Ok(commits.into_iter().map(|commit| commit.id).collect())
}

/// A shell pattern of names.
fn glob(pattern: &str) -> Result<Pattern, PatternError> {
    let mut text = pattern.replace('/', ".");
    // In names there are no directories that `**` could match.
    while text.contains("**") {
        text = text.replace("**", "*");
    }
    Pattern::new(&text)
}

#[cfg(test)]
mod tests {
    use model::Verdict;
    use testkit::ScratchRepo;
    use testkit::results_fixture::{ResultsFixture, TestResult};

    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, expected) in [
            ("fs/bcachefs/snap*", "fs.bcachefs.snapshots.a", true),
            ("fs/bcachefs/snap*", "fs.ext4.snapshots.a", false),
            ("boot", "boot.boots", false),
            ("boot.boot?", "boot.boots", true),
            ("a.[xy]", "a.x", true),
            ("a.[!xy]", "a.x", false),
            ("a.[0-9]", "a.7", true),
            ("a+b", "a+b", true),
            ("a.b", "axb", false),
            ("a**x", "a.b.x", true),
        ] {
            assert_eq!(glob(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        }
        assert!(glob("a[").is_err());
    }

    #[test]
    fn tests_of_a_range_are_found_and_requested() {
        let repo = ScratchRepo::new();
        let commits = ["c0", "c1", "c2"].map(|name| repo.commit(name, &[("a", name)]));
        let dir = tempfile::tempdir().unwrap();
        let fixture = ResultsFixture::new(dir.path());
        for commit in &commits {
            fixture.test(TestResult::new(commit, "fs.a.x", Verdict::Passed, 1));
            fixture.test(TestResult::new(commit, "fs.b.x", Verdict::FailedToRun { reason: "r".into() }, 1));
        }
        fixture.finish();
        let text = format!("linux_repo = {:?}\noutput_dir = \"o\"\nktest_dir = \"k\"\n", repo.url());
        std::fs::write(dir.path().join("ci.toml"), text).unwrap();
        let config = config::load(&dir.path().join("ci.toml")).unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        let linux = RepoName::linux();
        let find = |pattern, commits| {
            let search = Search { pattern, commits, repo: &linux };
            search.find(&config, &reader).map(|found| found.len()).map_err(|error| error.to_string())
        };
        assert_eq!(find("fs/*", None), Ok(6));
        assert_eq!(find("fs/a*", Some("HEAD~2..HEAD")), Ok(2));
        assert_eq!(find("fs/a*", Some("HEAD~2..")), Ok(2));
        assert_eq!(find("*", Some(commits[1].short())), Ok(2));
        assert!(find("*", Some("nowhere")).is_err() && find("*", Some(":/c1")).is_err());
        let search = Search { pattern: "fs/b/*", commits: Some("HEAD"), repo: &linux };
        let found = search.find(&config, &reader).unwrap();
        assert_eq!(found[0].to_string(), format!("{} Failed to run fs.b.x", commits[2].short()));
        assert!(requests::pending_reruns(dir.path()).is_empty());
        request(&reader, &found).unwrap();
        let pending = requests::pending_reruns(dir.path());
        assert_eq!(pending, [Rerun { commit: commits[2].clone(), key: "fs.b.x".parse().unwrap() }]);
    }
}
