//! Patches that are applied to different commits.

use gitio::Repo;
use testkit::ScratchRepo;

#[tokio::test]
async fn a_patch_has_the_same_id_on_another_base() {
    let scratch = ScratchRepo::new();
    let root = scratch.commit("root", &[("a.c", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"), ("b.c", "x\n")]);
    let patch = [("a.c", "1\n2\n3\n4\n5\n6\n7\n8\nnine\n")];
    // The message looks like the begin of a patch.
    let first = scratch.commit(&format!("v1\n\ncommit {root}\ndiff --git a/a.c b/a.c\n"), &patch);
    scratch.git(["checkout", "-q", "-b", "other", root.as_str()]);
    let base = scratch.commit("base", &[("b.c", "y\n"), ("new.c", "\n")]);
    let second = scratch.commit("v2", &patch);
    let third = scratch.commit("v3", &[("a.c", "1\n2\n3\n4\n5\n6\n7\n8\n9\nten\n")]);
    let empty =
        scratch.git(["commit-tree", "-p", third.as_str(), "-m", "empty", &format!("{third}^{{tree}}")]);
    let empty = empty.trim().parse().unwrap();
    scratch.git(["config", "diff.noprefix", "true"]);
    let repo = Repo::open(scratch.path()).unwrap();
    let all = [&root, &first, &base, &second, &third, &empty].map(Clone::clone);
    let ids = repo.patch_ids(&all).await.unwrap();
    assert_eq!(ids.len(), 4, "the root and the empty commit have none: {ids:?}");
    assert_eq!(ids[&first], ids[&second]);
    assert!(ids[&first] != ids[&base] && ids[&second] != ids[&third]);
    // One at a time gives the same.
    for (commit, id) in &ids {
        assert_eq!(repo.patch_ids(std::slice::from_ref(commit)).await.unwrap()[commit], *id);
    }
    let absent = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    assert_eq!(repo.patch_ids(&[absent, first.clone()]).await.map(|ids| ids.len()).ok(), Some(1));
    assert!(repo.patch_ids(&[]).await.unwrap().is_empty());
}
