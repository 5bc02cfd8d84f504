//! Two versions of a series are compared.

use gitio::{CommitRange, RangePair, Repo};
use model::{CommitId, RefName};
use testkit::ScratchRepo;

/// A file that is long enough for a change of one line to be a change.
fn lines(name: &str, changed: &str) -> String {
    (0..40).map(|at| if at == 20 { format!("{changed}\n") } else { format!("{name} {at}\n") }).collect()
}

/// The subjects of the pairs with their marks, oldest first.
fn shown(scratch: &ScratchRepo, pairs: &[RangePair]) -> Vec<String> {
    let subject = |commit: &Option<CommitId>| {
        commit.as_ref().map_or("-".into(), |commit| {
            scratch.git(["log", "-1", "--format=%s", commit.as_str()]).trim().to_owned()
        })
    };
    let line = |pair: &RangePair| {
        let mark = if pair.same { "=" } else { "!" };
        format!("{} {mark} {}", subject(&pair.old), subject(&pair.new))
    };
    pairs.iter().map(line).collect()
}

#[tokio::test]
async fn a_rebased_series_is_paired() {
    let scratch = ScratchRepo::new();
    let base = scratch.commit("base", &[("x", "1")]);
    let commit = |name: &str, text: &str| scratch.commit(name, &[(&name[..1], &lines(name, text))]);
    commit("a <b>\u{1b}[31m = 7: kept", "1");
    commit("b changed", "1");
    commit("c gone", "1");
    let old = scratch.tip("HEAD");
    scratch.git(["reset", "-q", "--hard", base.as_str()]);
    let new_base = scratch.commit("upstream", &[("x", "2")]);
    commit("a <b>\u{1b}[31m = 7: kept", "1");
    commit("b changed", "2");
    commit("d new", "1");
    let new = scratch.tip("HEAD");
    let repo = Repo::open(scratch.path()).unwrap();
    let range = |base: &CommitId, tip: &CommitId| CommitRange { base: base.clone(), tip: tip.clone() };
    let pairs = repo.range_diff(&range(&base, &old), &range(&new_base, &new)).await.unwrap();
    let mut shown = shown(&scratch, &pairs);
    shown.sort();
    let kept = "a <b>\u{1b}[31m = 7: kept";
    assert_eq!(
        shown,
        [
            "- ! d new".to_owned(),
            format!("{kept} = {kept}"),
            "b changed ! b changed".into(),
            "c gone ! -".into()
        ]
    );
    assert_eq!(repo.merge_base(&old, &new).await.unwrap(), Some(base.clone()));
    let unrelated = ScratchRepo::new();
    unrelated.commit("other", &[("y", "1")]);
    scratch.git(["fetch", "-q", unrelated.url(), "HEAD"]);
    assert_eq!(repo.merge_base(&old, &scratch.tip("FETCH_HEAD")).await.unwrap(), None);
    assert!(repo.merge_base(&old, &"7".repeat(40).parse().unwrap()).await.is_err());
}

#[test]
fn a_long_range_ends_at_a_merge_or_at_the_limit() {
    let scratch = ScratchRepo::new();
    let base = scratch.commit("base", &[("x", "0")]);
    for at in 1..6 {
        scratch.commit("change", &[("x", &at.to_string())]);
    }
    let tip = scratch.tip("HEAD");
    let repo = Repo::open(scratch.path()).unwrap();
    let of = |tip: &CommitId, max| repo.bounded_range(tip, &base, max).unwrap();
    assert_eq!(of(&tip, 5), (CommitRange { base: base.clone(), tip: tip.clone() }, false));
    assert_eq!(of(&tip, 2), (CommitRange { base: scratch.tip("HEAD~2"), tip: tip.clone() }, true));
    scratch.switch("side");
    scratch.git(["reset", "-q", "--hard", base.as_str()]);
    scratch.commit("side", &[("y", "1")]);
    scratch.git(["checkout", "-q", "master"]);
    let merge = scratch.merge("side", "merge");
    let last = scratch.commit("last", &[("x", "9")]);
    assert_eq!(of(&last, 3), (CommitRange { base: merge, tip: last.clone() }, true));
}

#[tokio::test]
async fn commits_are_kept_by_refs() {
    let scratch = ScratchRepo::new();
    let one = scratch.commit("one", &[("x", "1")]);
    let two = scratch.commit("two", &[("x", "2")]);
    let repo = Repo::open(scratch.path()).unwrap();
    let dir: RefName = "refs/ktest-ci/pushes/u/next".parse().unwrap();
    let refs = || scratch.git(["for-each-ref", "--format=%(refname)", "refs/ktest-ci"]);
    for (kept, expected) in [
        (vec![one.clone()], 1),
        (vec![one, two.clone()], 2),
        (vec![two.clone()], 1),
        (vec![two], 1),
        (vec![], 0),
    ] {
        repo.keep_commits(&dir, &kept).await.unwrap();
        assert_eq!(refs().lines().count(), expected);
        assert!(
            kept.iter()
                .all(|commit| refs().contains(&format!("{dir}/{commit}\n"))
                    || refs().contains(commit.as_str()))
        );
    }
}
