//! Reading gives the same results as the git command.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::fmt::Write as _;

use gitio::{GitError, Repo};
use proptest::prelude::*;
use testkit::ScratchRepo;

#[test]
fn a_commit_by_every_kind_of_revision() {
    let scratch = ScratchRepo::new();
    let first = scratch.commit("first\n\nbody", &[("a", "1\n")]);
    scratch.git(["tag", "-a", "-m", "annotated", "v1"]);
    let second = scratch.commit("second", &[("a", "2\n")]);
    let third = scratch.commit("back to first", &[("a", "1\n")]);
    for path in
        [scratch.path().to_owned(), scratch.path().join(".git"), scratch.bare_clone().path().to_owned()]
    {
        let Ok(repo) = Repo::open(&path) else { continue };
        for (spec, id) in
            [("HEAD", &third), ("master~1", &second), ("v1", &first), (&first.as_str()[..10], &first)]
        {
            assert_eq!(repo.resolve(spec).unwrap(), *id, "{spec}");
        }
    }
    let repo = Repo::open(scratch.path()).unwrap();
    let info = repo.commit(&first).unwrap();
    assert_eq!(
        (info.subject(), info.message.trim_end(), info.time),
        ("first", "first\n\nbody", 1_704_067_260)
    );
    assert_eq!(repo.tree_id(&first).unwrap(), repo.tree_id(&third).unwrap());
    assert_ne!(repo.tree_id(&first).unwrap(), repo.tree_id(&second).unwrap());
    assert!(repo.is_ancestor(&first, &third).unwrap());
    assert!(repo.is_ancestor(&third, &third).unwrap());
    assert!(!repo.is_ancestor(&third, &first).unwrap());
    let head = repo.head().unwrap();
    assert_eq!((head.branch.as_deref(), head.commit), (Some("master"), third.clone()));
    scratch.git(["checkout", "-q", "--detach", "HEAD~1"]);
    let head = repo.head().unwrap();
    assert_eq!((head.branch, head.commit), (None, second));
    std::fs::create_dir_all(scratch.path().join("deep/er")).unwrap();
    assert_eq!(Repo::discover(&scratch.path().join("deep/er")).unwrap().resolve("v1").unwrap(), first);
}

#[test]
fn errors_say_what_to_do() {
    let scratch = ScratchRepo::new();
    let repo = Repo::open(scratch.path()).unwrap();
    assert!(matches!(repo.head(), Err(GitError::Unborn { .. })));
    let at = scratch.path().display();
    for spec in ["nope", "", "--help", "HEAD^{tree}", "a\nb", "HEAD:file"] {
        let error = repo.resolve(spec).unwrap_err().to_string();
        assert_eq!(error, format!("{at}: no such commit: {spec}; check the name, or fetch it"));
    }
    let empty = tempfile::tempdir().unwrap();
    let error = Repo::open(empty.path()).unwrap_err().to_string();
    assert!(error.contains("cannot open it as a git repository"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(Repo::discover(std::path::Path::new("/proc")).is_err());
}

#[test]
fn a_walk_reads_like_git_log() {
    let scratch = ScratchRepo::new();
    let base = scratch.commit("base", &[("a", "0")]);
    scratch.switch("side");
    let side = scratch.commit("side", &[("b", "1")]);
    scratch.switch("master");
    let main = scratch.commit("main", &[("a", "1")]);
    let merge = scratch.merge("side", "merge");
    let repo = Repo::open(scratch.path()).unwrap();
    let ids = |base, max| -> Vec<_> {
        repo.walk(&merge, base, max).unwrap().into_iter().map(|commit| commit.id).collect()
    };
    assert_eq!(ids(None, 10), [merge.clone(), main.clone(), side.clone(), base.clone()]);
    assert_eq!(ids(None, 2), [merge.clone(), main.clone()]);
    assert_eq!(ids(Some(&base), 10), [merge.clone(), main.clone(), side]);
    assert_eq!(ids(Some(&main), 10).len(), 2);
    assert_eq!(ids(Some(&merge), 10), []);
    assert_eq!(repo.walk(&merge, None, 1).unwrap()[0].parents.len(), 2);
}

/// A history as input of `git fast-import`: each commit has a date, and parents among the previous commits.
fn history() -> impl Strategy<Value = Vec<(i64, Vec<usize>)>> {
    let commit = (-3_i64..30, proptest::collection::vec(any::<prop::sample::Index>(), 0..3));
    proptest::collection::vec(commit, 2..40).prop_map(|commits| {
        let mut history = Vec::new();
        for (at, (skew, parents)) in commits.into_iter().enumerate() {
            let near = at.min(6);
            let mut parents: Vec<usize> =
                parents.iter().filter(|_| at > 0).map(|index| at - 1 - index.index(near)).collect();
            parents.dedup();
            // Dates are distinct, so that the order is well-defined; some are older than their parents' dates.
            history.push(((at as i64 * 10 + skew) * 1000 + at as i64, parents));
        }
        history
    })
}

fn import(scratch: &ScratchRepo, history: &[(i64, Vec<usize>)]) {
    let mut stream = String::new();
    for (at, (date, parents)) in history.iter().enumerate() {
        let time = 1_700_000_000 + date;
        let who = format!("A <a@example.org> {time} +0000");
        write!(
            stream,
            "commit refs/heads/c{at}\nmark :{}\nauthor {who}\ncommitter {who}\ndata 1\nx\n",
            at + 1
        )
        .unwrap();
        for (nth, parent) in parents.iter().enumerate() {
            writeln!(stream, "{} :{}", if nth == 0 { "from" } else { "merge" }, parent + 1).unwrap();
        }
        stream.push('\n');
    }
    scratch.git_fed(["fast-import", "--quiet"], &stream);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn walks_match_git(history in history(), base in any::<prop::sample::Index>(), graph: bool) {
        let scratch = ScratchRepo::new();
        import(&scratch, &history);
        if graph {
            scratch.git(["commit-graph", "write", "--reachable"]);
        }
        let repo = Repo::open(scratch.path()).unwrap();
        let tip = scratch.tip(&format!("c{}", history.len() - 1));
        let base = scratch.tip(&format!("c{}", base.index(history.len())));
        for base in [None, Some(&base)] {
            let not = base.map(|base| format!("^{base}"));
            let theirs = scratch.git(["rev-list", "--date-order", tip.as_str()].into_iter().chain(not.as_deref()));
            let ours = repo.walk(&tip, base, 1000).unwrap();
            let ours: Vec<&str> = ours.iter().map(|commit| commit.id.as_str()).collect();
            prop_assert_eq!(&ours, &theirs.lines().collect::<Vec<_>>());
            // For any limit: children first, nothing hidden, as many as requested.
            for max in [1, 3, 7] {
                let some = repo.walk(&tip, base, max).unwrap();
                prop_assert_eq!(some.len(), max.min(ours.len()));
                let place: HashMap<_, _> = some.iter().enumerate().map(|(at, commit)| (&commit.id, at)).collect();
                for (at, commit) in some.iter().enumerate() {
                    prop_assert!(ours.contains(&commit.id.as_str()));
                    prop_assert!(commit.parents.iter().all(|parent| place.get(parent).is_none_or(|p| *p > at)));
                }
            }
        }
    }
}

#[tokio::test]
async fn the_changes_between_two_trees() {
    use gitio::ChangeKind::{Added, Deleted, Modified, Special};
    let scratch = ScratchRepo::new();
    let first = scratch.commit(
        "first",
        &[("a", "1\n"), ("dir/b c", "2\n"), ("dir/mode", "3\n"), ("link", "4\n"), ("old", "5\n")],
    );
    std::fs::remove_file(scratch.path().join("link")).unwrap();
    std::os::unix::fs::symlink("a", scratch.path().join("link")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(scratch.path().join("dir/mode"), executable).unwrap();
    scratch.git(["mv", "old", "new\nname"]);
    let second = scratch.commit("second", &[("dir/b c", "changed\n")]);
    let repo = Repo::open(scratch.path()).unwrap();
    let [from, to] = [&first, &second].map(|commit| repo.tree_id(commit).unwrap());
    let mut changes = repo.tree_changes(&from, &to).await.unwrap();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let changes: Vec<_> = changes.iter().map(|change| (change.path.as_str(), change.kind)).collect();
    assert_eq!(
        changes,
        [
            ("dir/b c", Modified),
            ("dir/mode", Modified),
            ("link", Special),
            ("new\nname", Added),
            ("old", Deleted)
        ]
    );
    assert_eq!(repo.tree_changes(&from, &from).await.unwrap(), []);
    for id in ["", "--help", "0000000000000000000000000000000000000000"] {
        assert!(repo.tree_changes(&from, id).await.is_err(), "{id}");
    }
}
