//! Repositories in unusual locations and with unusual storage: the walk is that of `git log`, or the error states what
//! is not supported.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use gitio::{CommitInfo, Repo};
use model::{RefName, Remote};
use testkit::ScratchRepo;

const TIME: Duration = Duration::from_secs(60);

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = std::process::Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").arg("-C").arg(dir);
    let output =
        command.args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with the commits c1 to c4.
fn four() -> ScratchRepo {
    let scratch = ScratchRepo::new();
    for n in 1..=4 {
        scratch.commit(&format!("c{n}"), &[("f", &format!("{n}\n"))]);
    }
    scratch
}

fn subjects(path: &Path, rev: &str) -> Vec<String> {
    let repo = Repo::open(path).unwrap();
    let tip = repo.resolve(rev).unwrap();
    repo.walk(&tip, None, 10).unwrap().iter().map(|commit| CommitInfo::subject(commit).to_owned()).collect()
}

fn logged(path: &Path, rev: &str) -> Vec<String> {
    git(path, &["log", "--format=%s", rev]).lines().map(str::to_owned).collect()
}

fn clone(scratch: &ScratchRepo, dir: &Path, options: &[&str]) -> PathBuf {
    let url = format!("file://{}", scratch.path().display());
    git(dir, &[&["clone", "-q", "-b", "master"], options, &[&url, "clone"]].concat());
    dir.join("clone")
}

#[test]
fn storage_that_git_uses_is_read() {
    let scratch = four();
    let dir = tempfile::tempdir().unwrap();
    scratch.git(["pack-refs", "--all"]);
    scratch.git(["gc", "-q"]);
    assert_eq!(subjects(scratch.path(), "master"), ["c4", "c3", "c2", "c1"], "packed refs");
    let local = scratch.path().to_string_lossy().into_owned();
    git(dir.path(), &["clone", "-q", "--shared", "-b", "master", &local, "shared"]);
    assert_eq!(subjects(&dir.path().join("shared"), "master"), ["c4", "c3", "c2", "c1"], "alternates");
    git(dir.path(), &["clone", "-q", "--separate-git-dir", "apart.git", "-b", "master", &local, "gitfile"]);
    assert_eq!(subjects(&dir.path().join("gitfile"), "HEAD"), ["c4", "c3", "c2", "c1"], "a gitfile");
    scratch.git([
        "worktree",
        "add",
        "-q",
        "-b",
        "side",
        &dir.path().join("tree").to_string_lossy(),
        "master~1",
    ]);
    assert_eq!(subjects(&dir.path().join("tree"), "HEAD"), ["c3", "c2", "c1"], "a worktree");
    assert_eq!(subjects(&dir.path().join("tree"), "master"), ["c4", "c3", "c2", "c1"], "a worktree");
}

#[test]
fn replaced_objects_are_those_of_git_log() {
    let scratch = four();
    let other = scratch.git(["commit-tree", "-p", "master~3", "-m", "replacement", "master~1^{tree}"]);
    scratch.git(["replace", "master~1", other.trim()]);
    assert_eq!(subjects(scratch.path(), "master"), logged(scratch.path(), "master"));
}

#[test]
fn a_partial_clone_has_its_commits() {
    let scratch = four();
    scratch.git(["config", "uploadpack.allowFilter", "true"]);
    let dir = tempfile::tempdir().unwrap();
    let path = clone(&scratch, dir.path(), &["--bare", "--filter=tree:0"]);
    assert_eq!(subjects(&path, "master"), ["c4", "c3", "c2", "c1"]);
}

#[test]
fn a_branch_without_commits_is_no_such_commit() {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "-b", "master", "unborn"]);
    let repo = Repo::open(&dir.path().join("unborn")).unwrap();
    for rev in ["HEAD", "master", "refs/heads/master", "HEAD~1"] {
        let error = repo.resolve(rev).unwrap_err().to_string();
        assert!(error.contains(rev) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_missing_object_in_the_middle_is_reported() {
    let scratch = four();
    let (tip, lost) = (scratch.tip("master"), scratch.tip("master~2"));
    let (head, tail) = lost.as_str().split_at(2);
    let object = scratch.path().join(".git/objects").join(head).join(tail);
    let content = std::fs::read(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    let walk = |most| Repo::open(scratch.path()).unwrap().walk(&tip, None, most);
    let error = walk(10).unwrap_err().to_string();
    assert!(error.contains(lost.as_str()), "{error}");
    for damaged in [&content[..content.len() / 2], b"", b"\0\0\0\0\0\0\0\0"] {
        std::fs::write(&object, damaged).unwrap();
        let error = walk(10).unwrap_err().to_string();
        assert!(error.contains(lost.as_str()) && !error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn the_branch_is_fetched_despite_other_refs_with_its_name() {
    let scratch = four();
    let (old, new) = (scratch.tip("master~1"), scratch.tip("master"));
    // A tag of a tag, a remote and other refs that look like the branch.
    scratch.git(["tag", "-a", "-m", "inner", "inner", "master~1"]);
    scratch.git(["tag", "-a", "-m", "outer", "outer", "inner"]);
    for name in ["refs/heads/HEAD", "refs/heads/-x", "refs/heads/origin/master", "refs/remotes/origin/master"]
    {
        scratch.git(["update-ref", name, old.as_str()]);
    }
    let local = ScratchRepo::new();
    local.git(["remote", "add", "master", "/nowhere"]);
    let farm = Repo::open(local.path()).unwrap();
    let remote: Remote = scratch.url().parse().unwrap();
    let into: RefName = "refs/ktest/u/b".parse().unwrap();
    for (name, commit) in [
        ("master", &new),
        ("origin/master", &old),
        ("refs/tags/outer", &old),
        ("refs/heads/HEAD", &old),
        ("refs/heads/-x", &old),
    ] {
        let Ok(name) = name.parse::<RefName>() else { continue };
        let fetched = farm.fetch(&remote, &name, &into, TIME).await.unwrap();
        assert_eq!(fetched.new, *commit, "{name}");
    }
    // A tag of a tree or of a blob is not a branch.
    scratch.git(["tag", "-a", "-m", "x", "tree", "master^{tree}"]);
    scratch.git(["tag", "-a", "-m", "x", "blob", "master:f"]);
    for name in ["refs/tags/tree", "refs/tags/blob"] {
        let error = farm.fetch(&remote, &name.parse().unwrap(), &into, TIME).await.unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains('\n'), "{error}");
    }
    assert_eq!(farm.fetch(&remote, &"master".parse().unwrap(), &into, TIME).await.unwrap().new, new);
}
