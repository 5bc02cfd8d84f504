//! Fetching and checking out, with the real git.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use gitio::{Checkout, GitError, Repo};
use model::{RefName, Remote};
use testkit::ScratchRepo;

const LIMIT: Duration = Duration::from_secs(60);

fn name(text: &str) -> RefName {
    text.parse().unwrap()
}

fn remote(repo: &ScratchRepo) -> Remote {
    repo.url().parse().unwrap()
}

#[tokio::test]
async fn fetches_also_what_was_force_pushed() {
    let theirs = ScratchRepo::new();
    let first = theirs.commit("first", &[("a", "1")]);
    theirs.git(["tag", "v1"]);
    let second = theirs.commit("second", &[("a", "2")]);
    let ours = ScratchRepo::new().bare_clone();
    let repo = Repo::open(ours.path()).unwrap();
    let into = name("refs/heads/kmo/next");
    assert_eq!(repo.ls_remote(&remote(&theirs), &name("master"), LIMIT).await.unwrap(), Some(second.clone()));
    assert_eq!(repo.ls_remote(&remote(&theirs), &name("nope"), LIMIT).await.unwrap(), None);
    let fetched = repo.fetch(&remote(&theirs), &name("master"), &into, LIMIT).await.unwrap();
    assert_eq!((fetched.old.clone(), &fetched.new, fetched.moved()), (None, &second, true));
    assert!(!repo.fetch(&remote(&theirs), &name("master"), &into, LIMIT).await.unwrap().moved());
    theirs.git(["reset", "-q", "--hard", "HEAD~1"]);
    let third = theirs.commit("instead", &[("a", "3")]);
    let fetched = repo.fetch(&remote(&theirs), &name("master"), &into, LIMIT).await.unwrap();
    assert_eq!((fetched.old, fetched.new), (Some(second), third.clone()));
    assert!(repo.is_ancestor(&first, &third).unwrap());
    assert_eq!(
        ours.git(["for-each-ref", "--format=%(refname)"]),
        "refs/heads/kmo/next",
        "no tags, no others"
    );
}

#[tokio::test]
async fn fetch_errors_are_one_line() {
    let theirs = ScratchRepo::new();
    theirs.commit("first", &[("a", "1")]);
    let ours = ScratchRepo::new();
    let repo = Repo::open(ours.path()).unwrap();
    let into = name("refs/heads/kmo/next");
    let error = repo.fetch(&remote(&theirs), &name("nope"), &into, LIMIT).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} has no ref nope; check the branch's name", theirs.url()));
    let missing: Remote = "/nowhere/at/all.git".parse().unwrap();
    let error = repo.fetch(&missing, &name("master"), &into, LIMIT).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot fetch from /nowhere/at/all.git: '/nowhere/at/all.git' does not appear to be a git repository"
    );
    let refused: Remote = "https://127.0.0.1:1/x.git".parse().unwrap();
    let error = repo.ls_remote(&refused, &name("master"), LIMIT).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot fetch from https://127.0.0.1:1/x.git: ") && error.lines().count() == 1,
        "{error}"
    );
}

#[tokio::test]
async fn a_hanging_remote_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url: Remote = format!("git://{}/x.git", silent.local_addr().unwrap()).parse().unwrap();
    let ours = ScratchRepo::new();
    let repo = Repo::open(ours.path()).unwrap();
    let error = repo.ls_remote(&url, &name("master"), Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(error, GitError::Spawn(spawn::SpawnError::Time { .. })), "{error}");
}

/// Path, content and modification time (ns) of all files.
fn files(dir: &Path) -> BTreeMap<String, (String, i64)> {
    let mut files = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let meta = path.metadata().unwrap();
                let stamp = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
                let content = std::fs::read_to_string(&path).unwrap();
                files.insert(path.strip_prefix(dir).unwrap().display().to_string(), (content, stamp));
            }
        }
    }
    files
}

fn contents(dir: &Path) -> Vec<(String, String)> {
    files(dir).into_iter().map(|(path, (content, _))| (path, content)).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(path, content)| ((*path).into(), (*content).into())).collect()
}

#[tokio::test]
async fn checkouts_touch_only_what_differs() {
    let scratch = ScratchRepo::new();
    let one = scratch.commit("one", &[("a", "1"), ("dir/b", "1"), ("c", "1")]);
    std::fs::remove_file(scratch.path().join("c")).unwrap();
    let two = scratch.commit("two", &[("a", "2"), ("new", "2")]);
    let bare = scratch.bare_clone();
    let repo = Repo::open(bare.path()).unwrap();
    let work = tempfile::tempdir().unwrap();
    let (dir, index) = (work.path().join("tree"), work.path().join("index"));
    let how = Checkout { time: LIMIT, ..Checkout::default() };
    repo.checkout_into(&one, &dir, &index, how).await.unwrap();
    assert_eq!(contents(&dir), pairs(&[("a", "1"), ("c", "1"), ("dir/b", "1")]));
    let before = files(&dir);
    std::fs::write(dir.join("object.o"), "ours").unwrap();
    repo.checkout_into(&two, &dir, &index, how).await.unwrap();
    assert_eq!(contents(&dir), pairs(&[("a", "2"), ("dir/b", "1"), ("new", "2"), ("object.o", "ours")]));
    assert_eq!(files(&dir)["dir/b"], before["dir/b"], "not written again");
    let clean = Checkout { clean: true, ..how };
    repo.checkout_into(&two, &dir, &index, clean).await.unwrap();
    assert_eq!(contents(&dir), pairs(&[("a", "2"), ("dir/b", "1"), ("new", "2")]));
    // Two trees of one repository do not know of each other.
    let (dir2, index2) = (work.path().join("tree2"), work.path().join("index2"));
    repo.checkout_into(&one, &dir2, &index2, how).await.unwrap();
    assert_eq!(contents(&dir), pairs(&[("a", "2"), ("dir/b", "1"), ("new", "2")]));
    assert!(!bare.path().join("index").exists());
}

#[tokio::test]
async fn checkouts_repair_what_was_left() {
    let scratch = ScratchRepo::new();
    let one = scratch.commit("one", &[("a", "1"), ("dir/b", "1"), ("d", "1")]);
    let two = scratch.commit("two", &[("a", "2"), ("new", "2")]);
    let repo = Repo::open(scratch.path()).unwrap();
    let work = tempfile::tempdir().unwrap();
    let (dir, index) = (work.path().join("tree"), work.path().join("index"));
    let how = Checkout { time: LIMIT, clean: true };
    let expected = pairs(&[("a", "1"), ("d", "1"), ("dir/b", "1")]);
    repo.checkout_into(&one, &dir, &index, how).await.unwrap();
    // A checkout of `two` that was killed after it wrote files and before it wrote the index.
    std::fs::write(dir.join("a"), "2").unwrap();
    std::fs::write(dir.join("new"), "2").unwrap();
    std::fs::write(work.path().join("index.lock"), "half").unwrap();
    repo.checkout_into(&one, &dir, &index, how).await.unwrap();
    assert_eq!(contents(&dir), expected);
    // Files gone, a folder where a file was, a file where a folder was.
    std::fs::remove_file(dir.join("a")).unwrap();
    std::fs::create_dir_all(dir.join("a/x")).unwrap();
    std::fs::write(dir.join("a/x/y"), "?").unwrap();
    std::fs::remove_dir_all(dir.join("dir")).unwrap();
    std::fs::write(dir.join("dir"), "?").unwrap();
    repo.checkout_into(&one, &dir, &index, how).await.unwrap();
    assert_eq!(contents(&dir), expected);
    // An index that is rubbish, and one that is gone.
    std::fs::write(&index, "rubbish").unwrap();
    std::fs::write(dir.join("d"), "?").unwrap();
    repo.checkout_into(&one, &dir, &index, how).await.unwrap();
    assert_eq!(contents(&dir), expected);
    std::fs::remove_file(&index).unwrap();
    std::fs::write(dir.join("d"), "?").unwrap();
    repo.checkout_into(&one, &dir, &index, how).await.unwrap();
    assert_eq!(contents(&dir), expected);
    let gone = "0123456789012345678901234567890123456789".parse().unwrap();
    let error = repo.checkout_into(&gone, &dir, &index, how).await.unwrap_err();
    assert!(matches!(error, GitError::NoSuchCommit { .. }), "{error}");
    repo.checkout_into(&two, &dir, &index, how).await.unwrap();
    assert_eq!(contents(&dir), pairs(&[("a", "2"), ("d", "1"), ("dir/b", "1"), ("new", "2")]));
}

#[tokio::test]
async fn hooks_of_the_repository_do_not_run() {
    let scratch = ScratchRepo::new();
    let one = scratch.commit("one", &[("a", "1")]);
    let hook = scratch.path().join(".git/hooks/post-index-change");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\ntouch {}/ran\n", scratch.path().display())).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let repo = Repo::open(scratch.path()).unwrap();
    let work = tempfile::tempdir().unwrap();
    repo.checkout_into(&one, &work.path().join("t"), &work.path().join("i"), Checkout::default())
        .await
        .unwrap();
    assert!(!scratch.path().join("ran").exists());
}

#[tokio::test]
async fn a_repository_of_another_user() {
    if !is_root() {
        eprintln!("skipped: only root can give a repository away");
        return;
    }
    let theirs = ScratchRepo::new();
    let one = theirs.commit("one", &[("a", "1")]);
    let shared = theirs.bare_clone();
    for repo in [&theirs, &shared] {
        let status = spawn::Cmd::new("chown").args(["-R", "65534"]).arg(repo.path());
        assert!(status.output(spawn::Limits::seconds(30)).await.unwrap().exit.success());
    }
    let repo = Repo::open(shared.path()).unwrap();
    assert_eq!(repo.resolve("master").unwrap(), one);
    let into = name("refs/heads/kmo/x");
    assert_eq!(repo.fetch(&remote(&theirs), &name("master"), &into, LIMIT).await.unwrap().new, one);
    let work = tempfile::tempdir().unwrap();
    repo.checkout_into(&one, &work.path().join("t"), &work.path().join("i"), Checkout::default())
        .await
        .unwrap();
    assert_eq!(contents(&work.path().join("t")), pairs(&[("a", "1")]));
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
