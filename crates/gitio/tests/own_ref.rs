//! Refs that other programs can also write, with the real git.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use gitio::{GitError, Repo};
use model::{CommitId, RefName};
use testkit::ScratchRepo;

struct Refs {
    scratch: ScratchRepo,
    repo: Repo,
}

impl Refs {
    fn new() -> (Self, [CommitId; 2]) {
        let scratch = ScratchRepo::new();
        let commits = ["1", "2"].map(|text| scratch.commit(text, &[("a", text)]));
        let repo = Repo::open(scratch.path()).unwrap();
        (Self { scratch, repo }, commits)
    }

    async fn set(&self, name: &str, commit: &CommitId) -> Result<(), GitError> {
        let name: RefName = format!("refs/heads/{name}").parse().unwrap();
        self.repo.set_own_ref(&name, &"refs/ktest-ci/legacy/x".parse().unwrap(), commit).await
    }

    fn get(&self, name: &str) -> String {
        self.scratch.git(["for-each-ref", "--format=%(objectname)", &format!("refs/heads/{name}")])
    }
}

#[tokio::test]
async fn a_ref_of_another_program_is_not_overwritten() {
    let (refs, [first, second]) = Refs::new();
    refs.set("kmo/next", &first).await.unwrap();
    refs.set("kmo/next", &first).await.unwrap();
    refs.set("kmo/next", &second).await.unwrap();
    refs.set("kmo/next", &first).await.unwrap();
    assert_eq!(refs.get("kmo/next"), first.as_str(), "also backwards");
    // Another program moves it.
    refs.scratch.git(["update-ref", "refs/heads/kmo/next", second.as_str()]);
    for commit in [&first, &second] {
        let error = refs.set("kmo/next", commit).await.unwrap_err();
        assert!(matches!(error, GitError::ForeignRef { .. }), "{error}");
        assert!(error.to_string().ends_with("update-ref -d refs/heads/kmo/next"), "{error}");
    }
    assert_eq!(refs.get("kmo/next"), second.as_str());
    // The advice helps.
    refs.scratch.git(["update-ref", "-d", "refs/heads/kmo/next"]);
    refs.set("kmo/next", &first).await.unwrap();
    assert_eq!(refs.get("kmo/next"), first.as_str());
    // A symbolic ref is of another program too.
    refs.scratch.git(["symbolic-ref", "refs/heads/kmo/next", "refs/heads/master"]);
    assert!(matches!(refs.set("kmo/next", &first).await, Err(GitError::ForeignRef { .. })));
    assert_eq!(refs.get("master"), second.as_str());
}

#[tokio::test]
async fn a_ref_that_was_written_before_a_crash_is_known() {
    let (refs, [first, second]) = Refs::new();
    refs.set("kmo/next", &first).await.unwrap();
    refs.scratch.git(["update-ref", "refs/ktest-ci/legacy/x/next", second.as_str()]);
    refs.scratch.git(["update-ref", "refs/heads/kmo/next", second.as_str()]);
    refs.set("kmo/next", &first).await.unwrap();
    assert_eq!(refs.get("kmo/next"), first.as_str());
}

#[tokio::test]
async fn a_file_that_would_have_to_be_a_directory_is_an_error() {
    let (refs, [first, _]) = Refs::new();
    refs.scratch.git(["branch", "kmo", first.as_str()]);
    refs.scratch.git(["branch", "amy/next/ext4", first.as_str()]);
    for (name, other) in [("kmo/next", "kmo"), ("kmo/a/b", "kmo"), ("amy/next", "amy/next/ext4")] {
        let error = refs.set(name, &first).await.unwrap_err();
        assert!(matches!(error, GitError::RefConflict { .. }), "{error}");
        assert!(error.to_string().ends_with(&format!("update-ref -d refs/heads/{other}")), "{error}");
    }
    refs.scratch.git(["pack-refs", "--all"]);
    assert!(matches!(refs.set("kmo/next", &first).await, Err(GitError::RefConflict { .. })));
}
