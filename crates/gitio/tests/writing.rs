//! Fetching, pushing, checking out and archiving, with the real git.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use gitio::{Checkout, CommitRange, GitError, Repo, SshRemote};
use model::{CommitId, RefName, Remote};
use testkit::ScratchRepo;

const LIMIT: Duration = Duration::from_secs(60);

fn name(text: &str) -> RefName {
    text.parse().unwrap()
}

fn remote(repo: &ScratchRepo) -> Remote {
    repo.url().parse().unwrap()
}

#[tokio::test]
async fn force_pushed_commits_are_fetched() {
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
    assert_eq!(error.to_string(), format!("{} has no ref nope; check the branch name", theirs.url()));
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
async fn a_fetch_from_a_hanging_remote_is_aborted() {
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
async fn checkouts_write_only_files_that_differ() {
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
    // Two trees of one repository are independent.
    let (dir2, index2) = (work.path().join("tree2"), work.path().join("index2"));
    repo.checkout_into(&one, &dir2, &index2, how).await.unwrap();
    assert_eq!(contents(&dir), pairs(&[("a", "2"), ("dir/b", "1"), ("new", "2")]));
    assert!(!bare.path().join("index").exists());
}

#[tokio::test]
async fn checkouts_repair_interrupted_ones() {
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
    // Missing files, a directory instead of a file, a file instead of a directory.
    std::fs::remove_file(dir.join("a")).unwrap();
    std::fs::create_dir_all(dir.join("a/x")).unwrap();
    std::fs::write(dir.join("a/x/y"), "?").unwrap();
    std::fs::remove_dir_all(dir.join("dir")).unwrap();
    std::fs::write(dir.join("dir"), "?").unwrap();
    repo.checkout_into(&one, &dir, &index, how).await.unwrap();
    assert_eq!(contents(&dir), expected);
    // An invalid index, and a missing one.
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

/// A repository with a configuration and attributes that name a program wherever git allows one.
fn hostile_repository() -> (ScratchRepo, CommitId) {
    let scratch = ScratchRepo::new();
    let one =
        scratch.commit("one", &[("a", "1"), (".gitattributes", "* filter=evil diff=evil export-subst\n")]);
    for version in ["v1", "v2"] {
        scratch.git(["reset", "-q", "--hard", one.as_str()]);
        scratch.commit("two", &[("a", version)]);
        scratch.git(["tag", version]);
    }
    scratch.git(["reset", "-q", "--hard", one.as_str()]);
    let touch = format!("touch {}/ran; cat", scratch.path().display());
    for (key, value) in [
        ("filter.evil.smudge", touch.as_str()),
        ("filter.evil.clean", &touch),
        ("filter.evil.required", "true"),
        ("filter.in.valid.process", &touch),
        ("diff.evil.textconv", &touch),
        ("diff.evil.command", &touch),
        ("diff.external", &touch),
        ("gpg.program", &touch),
        ("log.showSignature", "true"),
        ("core.fsmonitor", &touch),
        ("core.sshCommand", &touch),
        ("core.gitProxy", &touch),
        ("core.askPass", &touch),
        ("core.pager", &touch),
        ("tar.tar.command", &touch),
        ("protocol.ext.allow", "always"),
        ("remote.evil.url", scratch.url()),
        ("remote.evil.uploadpack", &format!("{touch}; git-upload-pack")),
        ("remote.helper.url", scratch.url()),
        ("remote.helper.vcs", "ext"),
    ] {
        scratch.git(["config", key, value]);
    }
    scratch.git(["config", "url.ext::sh.insteadOf", "other:"]);
    let info = scratch.path().join(".git/info");
    std::fs::create_dir_all(&info).unwrap();
    std::fs::write(info.join("attributes"), "a filter=in.valid\n").unwrap();
    (scratch, one)
}

#[tokio::test]
async fn programs_that_the_configuration_names_do_not_run() {
    let (scratch, one) = hostile_repository();
    let repo = Repo::open(scratch.path()).unwrap();
    let work = tempfile::tempdir().unwrap();
    let (dir, index) = (work.path().join("t"), work.path().join("i"));
    for _ in 0..2 {
        repo.checkout_into(&one, &dir, &index, Checkout::default()).await.unwrap();
        std::fs::write(dir.join("a"), "changed").unwrap();
    }
    assert_eq!(repo.file(&one, "a", 10).await.unwrap(), b"1");
    repo.archive(&one, &["a".into()], &work.path().join("a.tar")).await.unwrap();
    let into = name("refs/x/y");
    for remote in ["evil", "helper", "other:/x"] {
        // The result does not matter.
        let _ = repo.fetch(&remote.parse().unwrap(), &name("master"), &into, LIMIT).await;
        let _ = repo.ls_remote(&remote.parse().unwrap(), &name("master"), LIMIT).await;
    }
    let range = |tip: CommitId| CommitRange { base: one.clone(), tip };
    let versions = ["v1", "v2"].map(|tag| range(repo.resolve(tag).unwrap()));
    assert!(!repo.range_diff(&versions[0], &versions[1]).await.unwrap().is_empty());
    assert!(!scratch.path().join("ran").exists());
}

#[tokio::test]
async fn files_and_trees_of_a_commit() {
    let scratch = ScratchRepo::new();
    let one = scratch.commit("one", &[("dir/a", "1"), ("dir/b", "2"), ("c", "3")]);
    let two = scratch.commit("two", &[("c", "4")]);
    let repo = Repo::open(scratch.path()).unwrap();
    assert_eq!(repo.file(&one, "dir/a", 100).await.unwrap(), b"1");
    assert!(repo.file(&two, "c", 0).await.is_err(), "larger than the limit");
    assert_eq!(repo.path_id(&one, "dir").unwrap(), repo.path_id(&two, "dir").unwrap());
    assert_ne!(repo.path_id(&one, "c").unwrap(), repo.path_id(&two, "c").unwrap());
    let missing = repo.file(&one, "dir/none", 100).await.unwrap_err();
    assert!(matches!(missing, GitError::NoSuchPath { .. }), "{missing}");
    let work = tempfile::tempdir().unwrap();
    let archive = work.path().join("dir.tar");
    repo.archive(&one, &["dir".into()], &archive).await.unwrap();
    let list =
        spawn::Cmd::new("tar").arg("-tf").arg(&archive).output(spawn::Limits::seconds(30)).await.unwrap();
    assert_eq!(list.text(), "dir/\ndir/a\ndir/b\n");
    let error = repo.archive(&one, &["--remote=x".into()], &archive).await.unwrap_err();
    assert!(matches!(error, GitError::Command { .. }), "{error}");
}

#[tokio::test]
async fn a_commit_is_pushed_to_a_mirror() {
    let scratch = ScratchRepo::new();
    let one = scratch.commit("one", &[("a", "1")]);
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("mirror.git");
    let mirror = Repo::create_mirror(&path).await.unwrap();
    assert!(!path.join("hooks").exists());
    assert!(mirror.resolve("refs/ktest/x").is_err());
    // Like ssh: the last argument is a command line for a shell.
    let command = "f() { for last; do :; done; eval \"$last\"; }; f".to_owned();
    let to = SshRemote { url: format!("host:{}", path.display()).parse().unwrap(), command };
    let repo = Repo::open(scratch.path()).unwrap();
    repo.push(&one, &to, &name("refs/ktest/x"), LIMIT).await.unwrap();
    assert_eq!(Repo::create_mirror(&path).await.unwrap().resolve("refs/ktest/x").unwrap(), one);
    let missing = SshRemote { url: "host:/nowhere.git".parse().unwrap(), ..to };
    let error = repo.push(&one, &missing, &name("refs/ktest/x"), LIMIT).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot push commit {} to host:/nowhere.git: ", one.short())),
        "{error}"
    );
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
