//! What is known of the suspects of a bisection: they change code that the test ran, according to gcov, or nothing that is part of the
//! build; or the test passes with the same patch on another base. The first are searched first, the others last; the result does not
//! depend on it.

use std::collections::HashSet;

use belief::bisect::Change;
use coverage::Coverage;
use gitio::{GitError, Repo};
use kernel::closure::BuildFiles;
use kernel::{Cache, Store};
use model::{CommitId, KernelId, KeyParts, ResultKey, Status};
use results::Reader;
use results::json::SamePatchRow;

/// The name of the artifact with the coverage of a run.
const COVERAGE: &str = "coverage.info";
/// The maximum number of bytes of a tracefile that are read.
const COVERAGE_BYTES: u64 = 256 << 20;
/// The maximum number of commits that are searched for coverage.
const COVERED_MAX: usize = 100;
/// The maximum number of kernels that are searched for the files of their build.
const KERNELS_MAX: usize = 100;

/// The suspects of a bisection, and where their changes may have an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspects {
    /// The commits that may be the culprit.
    pub commits: Vec<CommitId>,
    /// The test that fails.
    pub test: ResultKey,
    /// The commits where it may have run, the newest first; in a merge, those outside of it follow.
    pub ran_at: Vec<CommitId>,
    /// Kernels of these commits, the newest first.
    pub kernels: Vec<KernelId>,
}

/// What is known of a suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSuspect {
    /// The commit.
    pub commit: CommitId,
    /// What it changes.
    pub change: Change,
    /// Whether the test passes at another commit with the same patch.
    pub passes_on_other_base: bool,
}

/// The source files of which something is known.
#[derive(Debug, Default)]
struct KnownFiles {
    /// Those with code that the test ran.
    executed: HashSet<String>,
    /// Those that are part of the build.
    build: Option<BuildFiles>,
}

/// What is known of the suspects. Those of which nothing is known are left out.
pub(super) async fn of(
    repo: &Repo,
    reader: Reader,
    suspects: Suspects,
) -> Result<Vec<KnownSuspect>, GitError> {
    let asked = suspects.clone();
    let read = move || {
        let passes = asked.commits.iter().filter(|commit| passes_on_other_base(&reader, commit, &asked.test));
        (KnownFiles::find(&reader, &asked), passes.cloned().collect::<HashSet<CommitId>>())
    };
    let (files, passes) = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    let mut found = Vec::new();
    for commit in suspects.commits {
        let change = files.change(repo, &commit).await?;
        let passes_on_other_base = passes.contains(&commit);
        if change != Change::Unknown || passes_on_other_base {
            found.push(KnownSuspect { commit, change, passes_on_other_base });
        }
    }
    Ok(found)
}

/// Whether a test passes at another commit with the same patch.
fn passes_on_other_base(reader: &Reader, commit: &CommitId, test: &ResultKey) -> bool {
    let passes = |other: &SamePatchRow| {
        let entry = reader.recorded_entry(&other.commit, test).ok().flatten();
        entry.is_some_and(|entry| entry.status() == Status::Passed)
    };
    reader.same_patch(commit).iter().any(passes)
}

impl KnownFiles {
    fn find(reader: &Reader, suspects: &Suspects) -> Self {
        let newest = suspects.ran_at.iter().take(COVERED_MAX);
        let mut executed = newest.map(|commit| executed(reader, commit, &suspects.test));
        Self {
            executed: executed.find(|files| !files.is_empty()).unwrap_or_default(),
            build: build_files(&suspects.kernels),
        }
    }

    async fn change(&self, repo: &Repo, commit: &CommitId) -> Result<Change, GitError> {
        if self.executed.is_empty() && self.build.is_none() {
            return Ok(Change::Unknown);
        }
        let changes = repo.commit_changes(&repo.commit(commit)?).await?;
        Ok(Change::of(
            changes.iter().any(|change| self.executed.contains(&change.path)),
            self.build.as_ref().is_some_and(|build| !build.has_any(&changes)),
        ))
    }
}

/// The files with code that a test ran at a commit, in any configuration. Coverage that cannot be read counts as none.
fn executed(reader: &Reader, commit: &CommitId, test: &ResultKey) -> HashSet<String> {
    let parts = KeyParts::of(test.as_str());
    let entries = reader.commit(commit).ok().flatten().map(|results| results.entries);
    let mut all = Coverage::default();
    for entry in entries.into_iter().flatten() {
        if !KeyParts::of(entry.key.as_str()).is_same_test(parts) {
            continue;
        }
        let Ok(Some(found)) = reader.open_artifact(commit, &entry.key, COVERAGE) else { continue };
        let Ok((bytes, _)) = found.read(COVERAGE_BYTES) else { continue };
        all.merge(String::from_utf8_lossy(&bytes).parse().unwrap_or_default());
    }
    all.executed_files().map(str::to_owned).collect()
}

/// The files of the build of one of these kernels, if the kernel store of this machine has it.
fn build_files(kernels: &[KernelId]) -> Option<BuildFiles> {
    let cache = Cache::from_env(|name| std::env::var_os(name)).ok()?;
    let store = Store::of(&cache);
    kernels.iter().take(KERNELS_MAX).find_map(|id| BuildFiles::of(&store.get(id)?))
}

#[cfg(test)]
mod tests {
    use model::Verdict;
    use testkit::results_fixture::{ResultsFixture, TestResult};

    use super::*;

    #[test]
    fn coverage_of_another_configuration_says_what_the_test_ran() {
        let (dir, scratch) = (tempfile::tempdir().unwrap(), testkit::ScratchRepo::new());
        let base = scratch.commit("base", &[("fs/a.c", "1"), ("fs/b.c", "1")]);
        let a = scratch.commit("a", &[("fs/a.c", "2")]);
        let b = scratch.commit("b", &[("fs/b.c", "2")]);
        let fixture = ResultsFixture::new(dir.path());
        let listed = [&b, &a, &base].map(|id| (id.clone(), String::new()));
        fixture.branch("u", "b", &listed);
        let covered = "TN:\nSF:fs/a.c\nDA:1,5\nend_of_record\nSF:fs/b.c\nDA:1,0\nend_of_record\n";
        let other = "TN:\nSF:fs/b.c\nDA:1,5\nend_of_record\n";
        for (key, text) in [("fs.x@ktest_flavor=gcov.s", covered), ("fs.x@ktest_flavor=gcov.other", other)] {
            fixture.test(TestResult::new(&base, key, Verdict::Passed, 1));
            fixture.artifact(&base, &[key], COVERAGE, text);
        }
        fixture.test(TestResult::new(&b, "fs.x.s", Verdict::Passed, 1));
        fixture.finish();
        let repo = Repo::open(scratch.path()).unwrap();
        let suspects = Suspects {
            commits: vec![a.clone(), b.clone()],
            test: "fs.x.s".parse().unwrap(),
            ran_at: vec![b.clone(), a.clone(), base.clone()],
            kernels: Vec::new(),
        };
        let reader = Reader::open(dir.path()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let found = |suspects| runtime.block_on(of(&repo, reader.clone(), suspects));
        let [known] = found(suspects.clone()).unwrap().try_into().unwrap();
        assert_eq!(known, KnownSuspect { commit: a, change: Change::Covered, passes_on_other_base: false });
        // Nothing is known of a test without coverage, and no commit is read.
        let unknown = Suspects {
            test: "fs.y.s".parse().unwrap(),
            commits: vec![testkit::results_fixture::commit_id("absent")],
            ..suspects.clone()
        };
        assert_eq!(found(unknown).unwrap(), []);
        let absent = Suspects { commits: vec![testkit::results_fixture::commit_id("absent")], ..suspects };
        assert!(found(absent).is_err());
    }
}
