//! Force-pushes: the versions of a branch are compared and recorded, and the old commits stay in the repository.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use model::{BranchRef, CommitId};
use results::pushes::{self, Mark, Pushes};

use crate::support::Farm;

fn at() -> BranchRef {
    "u/next".parse().unwrap()
}

fn recorded(farm: &Farm) -> Option<Pushes> {
    pushes::read(&farm.path("data"), &at()).unwrap()
}

/// A commit of a file that is long enough for a change of one line to be a change.
fn commit(farm: &Farm, name: &str, line: &str) -> CommitId {
    let text: String = (0..40).map(|at| format!("{name} {}\n", if at == 20 { line } else { "-" })).collect();
    farm.repo.commit(&format!("add {name} <b>"), &[(name, &text)])
}

/// The marks, from the newest to the oldest, with the subjects.
fn marks(farm: &Farm) -> Vec<String> {
    let push = recorded(farm).unwrap().pushes.remove(0);
    push.pairs.iter().map(|pair| format!("{} {}", pair.mark.words().0, pair.subject)).collect()
}

#[test]
fn a_force_push_is_recorded_once() {
    let farm = Farm::new();
    let base = farm.commit("base", "");
    farm.repo.git(["tag", "base"]);
    let config = farm.config("").replace("ref = \"master\"\n", "ref = \"master\"\nbase = \"base\"\n");
    farm.configure(&config);
    let a = commit(&farm, "a", "1");
    commit(&farm, "b", "1");
    commit(&farm, "c", "1");
    let old = commit(&farm, "d", "1");
    farm.once();
    assert_eq!(recorded(&farm).unwrap(), Pushes::new(old.clone()));
    // A commit on top is no force-push.
    let old = commit(&farm, "e", "1");
    farm.once();
    assert_eq!(recorded(&farm).unwrap(), Pushes::new(old.clone()));

    farm.repo.git(["reset", "-q", "--hard", a.as_str()]);
    commit(&farm, "b", "2");
    commit(&farm, "c", "1");
    commit(&farm, "f", "1");
    let new = commit(&farm, "e", "1");
    farm.once();
    let first = recorded(&farm).unwrap();
    assert_eq!((first.pushes.len(), &first.tip), (1, &new));
    let push = &first.pushes[0];
    assert_eq!((&push.old, &push.new, push.unchanged, &push.problem), (&old, &new, 1, &None));
    let mut shown = marks(&farm);
    assert_eq!(shown[0], "= add e <b>");
    shown.sort();
    assert_eq!(shown, ["! add b <b>", "< add d <b>", "= add c <b>", "= add e <b>", "> add f <b>"]);
    let kept = push.pairs.iter().find(|pair| pair.mark == Mark::Kept).unwrap();
    assert_ne!(kept.old, kept.new);
    // The old commits are kept, also if the repository is cleaned up.
    let has = |commit: &CommitId| {
        let dir = format!("--git-dir={}", farm.linux().join(".git").display());
        farm.repo.git([&dir, "gc", "-q", "--prune=now"]);
        farm.repo.git([&dir, "cat-file", "-t", commit.as_str()]) == "commit"
    };
    assert!(has(&old));
    farm.once();
    assert_eq!(recorded(&farm).unwrap(), first, "it is recorded once");

    // The branch moves to a newer base: its commits are not those of the branch.
    farm.repo.git(["reset", "-q", "--hard", base.as_str()]);
    farm.repo.commit("upstream", &[("upstream", "1")]);
    farm.repo.git(["tag", "-f", "base"]);
    commit(&farm, "a", "1");
    commit(&farm, "b", "2");
    farm.once();
    let second = recorded(&farm).unwrap();
    assert_eq!((second.pushes.len(), &second.pushes[1]), (2, push));
    let mut shown = marks(&farm);
    shown.sort();
    assert_eq!(shown, ["< add c <b>", "< add e <b>", "< add f <b>", "= add a <b>", "= add b <b>"]);
    assert!(has(&old) && has(&new));
}

#[test]
fn versions_without_a_common_commit_are_not_compared() {
    let farm = Farm::new();
    farm.commit("one", "");
    farm.once();
    farm.repo.git(["checkout", "-q", "--orphan", "other"]);
    farm.repo.git(["branch", "-q", "-D", "master"]);
    farm.repo.git(["checkout", "-q", "--orphan", "master"]);
    farm.commit("another root", "");
    farm.once();
    let push = recorded(&farm).unwrap().pushes.remove(0);
    assert_eq!(push.problem.as_deref(), Some("the versions have no commit in common"));
}
