//! The commits of a merge, and reverts.

use gitio::Repo;
use testkit::ScratchRepo;

#[test]
fn the_commits_of_a_merge() {
    let scratch = ScratchRepo::new();
    let base = scratch.commit("base", &[("a", "1")]);
    scratch.switch("inner");
    scratch.commit("inner", &[("i", "1")]);
    scratch.git(["switch", "-q", "-c", "side", base.as_str()]);
    let first = scratch.commit("s1", &[("b", "1")]);
    let inner = scratch.merge("inner", "inner merge");
    let last = scratch.commit("s2", &[("b", "2")]);
    scratch.switch("master");
    scratch.commit("main", &[("c", "1")]);
    let merge = scratch.merge("side", "merge");
    let repo = Repo::open(scratch.path()).unwrap();
    let of = |commit, max| {
        let commits = repo.merged_commits(commit, max).unwrap();
        commits.map(|found| found.into_iter().map(|info| info.id).collect::<Vec<_>>())
    };
    assert_eq!(of(&merge, 3), Some(vec![first, inner, last]), "along first parents");
    assert_eq!(of(&merge, 2), None);
    assert_eq!(of(&base, 9), Some(vec![]));
    let missing = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    assert!(repo.merged_commits(&missing, 9).is_err());
}

#[tokio::test]
async fn a_commit_is_reverted_on_the_tip() {
    let scratch = ScratchRepo::new();
    scratch.commit("base", &[("a", "1"), ("b", "1")]);
    let bad = scratch.commit("bad: \"x\"\u{1b}[31m", &[("a", "2")]);
    let later = scratch.commit("later", &[("b", "2")]);
    scratch.git(["switch", "-q", "-c", "other", "HEAD~2"]);
    let other = scratch.commit("other", &[("c", "1")]);
    scratch.switch("master");
    let repo = Repo::open(scratch.path()).unwrap();
    let revert = repo.revert(&bad, &later).await.unwrap().unwrap();
    let file = |name: &str| scratch.git(["show", &format!("{revert}:{name}")]);
    assert_eq!((file("a"), file("b")), ("1".into(), "2".into()));
    let info = repo.commit(&revert).unwrap();
    assert_eq!(info.parents, std::slice::from_ref(&later));
    assert!(info.message.contains(&format!("This reverts commit {bad}.")), "{}", info.message);
    assert_eq!(repo.revert(&bad, &later).await.unwrap(), Some(revert), "the same id");
    // No ref and no file of a work tree changed.
    assert_eq!(scratch.git(["status", "--porcelain"]), "");
    assert_eq!(scratch.tip("HEAD"), later);
    // A later commit changes the same line, the tip does not have the commit, and the first commit has no parent.
    let conflict = scratch.commit("conflict", &[("a", "3")]);
    assert_eq!(repo.revert(&bad, &conflict).await.unwrap(), None);
    assert_eq!(repo.revert(&other, &later).await.unwrap(), None);
    assert_eq!(repo.revert(&scratch.tip("HEAD~3"), &later).await.unwrap(), None);
    // A merge is reverted to its first parent.
    let merge = scratch.merge("other", "merge");
    let revert = repo.revert(&merge, &merge).await.unwrap().unwrap();
    assert_eq!(repo.tree_id(&revert).unwrap(), repo.tree_id(&conflict).unwrap());
}

#[tokio::test]
async fn a_merge_driver_of_the_repository_does_not_run() {
    let scratch = ScratchRepo::new();
    let marker = scratch.path().join("ran");
    scratch.git(["config", "merge.evil.driver", &format!("touch {}", marker.display())]);
    let text = |line: &str| format!("{line}\n{}", "same\n".repeat(20));
    scratch.commit("base", &[("a", &text("1")), (".gitattributes", "a merge=evil\n")]);
    let bad = scratch.commit("bad", &[("a", &text("2"))]);
    let tip = scratch.commit("tip", &[("a", &format!("{}end\n", text("2")))]);
    std::fs::create_dir_all(scratch.path().join(".git/info")).unwrap();
    std::fs::write(scratch.path().join(".git/info/attributes"), "a merge=evil\n").unwrap();
    let repo = Repo::open(scratch.path()).unwrap();
    assert_eq!(repo.revert(&bad, &tip).await.unwrap(), None, "a conflict");
    assert!(!marker.exists());
}
