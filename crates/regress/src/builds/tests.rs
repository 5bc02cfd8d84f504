use model::build_failed_reason;

use super::*;

/// A commit with three tests of the default kernel and two of kasan, as letters: `p`, `f`, `n`, `i` ran or run, `b` is not built,
/// `r` failed to run for another reason; `-` is a commit without results.
fn commit(letters: &str) -> Option<Arc<CommitBuilds>> {
    const KEYS: [&str; 5] = ["a.x", "a.y", "b.z", "a@ktest_flavor=kasan.x", "a@ktest_flavor=kasan.y"];
    let of = |letter| match letter {
        'p' => Status::Passed,
        'f' => Status::Failed,
        'n' => Status::NotRun,
        'i' => Status::InProgress,
        _ => Status::FailedToRun,
    };
    let letter = |key: &str| letters.chars().nth(KEYS.iter().position(|known| *known == key).unwrap());
    let tests = KEYS.iter().zip(letters.chars()).map(|(key, letter)| (*key, of(letter)));
    let reason = |key: &str| match letter(key) {
        Some('b') => Some(build_failed_reason("fs/a.c:1: error: no")),
        _ => Some("no disk".into()),
    };
    (letters != "-").then(|| Arc::new(CommitBuilds::new(tests, reason)))
}

fn history(newest_first: &[&str]) -> BuildHistory {
    BuildHistory::new(newest_first.iter().map(|letters| commit(letters)).collect())
}

/// What each commit changed, in words.
fn changes(newest_first: &[&str]) -> Vec<String> {
    let history = history(newest_first);
    let words = |row| {
        let BuildChange { broke, fixed, unknown } = history.change(row);
        let named = |lead: &'static str, kernels: Vec<BuiltKernel>| {
            kernels.into_iter().map(move |kernel| format!("{lead} {kernel}").trim().to_owned())
        };
        let all = named("broke", broke).chain(named("fixed", fixed)).chain(named("?", unknown));
        all.collect::<Vec<_>>().join(", ")
    };
    (0..newest_first.len()).map(words).collect()
}

fn what(letters: &str) -> Option<String> {
    commit(letters).unwrap().what()
}

#[test]
fn a_commit_breaks_the_build_and_another_fixes_it() {
    assert_eq!(changes(&["ppp", "ppp"]), ["", ""]);
    assert_eq!(changes(&["bbb", "ppp"]), ["broke", ""]);
    assert_eq!(changes(&["bbb", "bbb", "pfp"]), ["", "broke", ""], "still broken");
    assert_eq!(changes(&["ppp", "bbb", "bbb", "ppp"]), ["fixed", "", "broke", ""]);
    assert_eq!(changes(&["bbb", "ppp", "bbb", "ppp"]), ["broke", "fixed", "broke", ""]);
    assert_eq!(changes(&["fff", "bbb", "ppp"]), ["fixed", "broke", ""], "a failed test has a kernel");
    assert_eq!(changes(&["ipp", "bbb", "ppp"]), ["fixed", "broke", ""]);
    assert_eq!(changes(&["rrr", "bbb", "ppp"]), ["", "broke", ""], "no test shows that it builds");
    assert_eq!(changes(&["nnn", "bbb", "ppp"]), ["", "broke", ""]);
}

#[test]
fn one_of_two_flavors_breaks() {
    assert_eq!(changes(&["pppbb", "ppppp"]), ["broke kasan", ""]);
    assert_eq!(changes(&["bbbpp", "pppbb", "ppppp"]), ["broke, fixed kasan", "broke kasan", ""]);
    // The flavor is not tested at each commit.
    assert_eq!(
        changes(&["pppp", "ppp", "bbbbb", "ppp", "ppppp"]),
        ["fixed kasan", "fixed", "broke, broke kasan", "", ""]
    );
    assert_eq!(what("pppbb"), Some("build of kasan".into()));
    assert_eq!(what("bbbpp"), Some("build of the default kernel".into()));
    assert_eq!(what("bbbbb"), Some("build".into()), "no test ran");
    assert_eq!(what("ppbpp"), Some("build for 1 of 3 tests".into()), "another kernel of the same flavor");
    assert_eq!(what("ppbbb"), Some("build of kasan and 1 more".into()));
    assert_eq!(what("prppp"), None);
}

#[test]
fn if_nothing_builds_there_is_one_failure() {
    let history = history(&["bbbbb", "bbbbb", "pppbb", "ppppp"]);
    let failed = |row| {
        let groups = history.failed(row).into_iter();
        groups.map(|group| (group.part, group.failure.tests, group.stretch.first_bad)).collect::<Vec<_>>()
    };
    assert_eq!(failed(0), [(String::new(), 5, 1)]);
    assert_eq!(failed(2), [("kasan".to_owned(), 2, 2)]);
    assert_eq!(failed(3), []);
    assert_eq!((history.tests_resumed(0), words(&BuildRow::default())), (0, None));
}

#[test]
fn a_commit_without_results_between() {
    let found = history(&["bbb", "-", "-", "ppp"]);
    let (_, stretch) = found.failing_now().next().unwrap();
    assert_eq!((stretch.first_bad, stretch.last_good, stretch.untested_between()), (0, Some(3), 2));
    let tip = history(&["-", "bbb", "bbb", "ppp"]);
    let failing: Vec<_> =
        tip.failing_now().map(|(_, stretch)| (stretch.last_bad, stretch.first_bad)).collect();
    assert_eq!(failing, [(1, 2)]);
    assert_eq!(history(&["-", "ppp", "bbb"]).failing_now().count(), 0);
}

#[test]
fn a_merge_has_the_commits_of_both_sides_before_it() {
    // The listing has the merge, the commits that it merged, and the commits before, in this order.
    assert_eq!(changes(&["bbb", "ppp", "-", "ppp", "ppp"]), ["broke", "", "", "", ""], "the merge itself");
    assert_eq!(changes(&["ppp", "bbb", "-", "ppp"]), ["fixed", "broke", "", ""], "a commit that it merged");
}

#[test]
fn a_branch_that_never_built_broke_nowhere() {
    assert_eq!(changes(&["bbb", "-", "bbb"]), ["", "", "?"]);
    assert_eq!(changes(&["ppp", "bbb"]), ["fixed", "?"]);
}

#[test]
fn the_tests_of_a_commit_that_does_not_build_are_one_failure() {
    let builds = commit("bbrbb").unwrap();
    let failed: Vec<_> =
        builds.failed().into_iter().map(|(kernel, failure)| (kernel.to_string(), failure.tests)).collect();
    assert_eq!(failed, [(String::new(), 2), ("kasan".into(), 2)]);
    assert_eq!((builds.tests_not_run(), builds.failed()[0].1.test.as_str()), (4, "a.x"));
    assert_eq!(builds.failed()[0].1.error, "fs/a.c:1: error: no");
    let kernels: Vec<_> =
        builds.kernels().map(|(kernel, failure)| (kernel.to_string(), failure.is_some())).collect();
    assert_eq!(kernels, [(String::new(), true), ("kasan".into(), true)]);
    // A kernel of the store is not built.
    let stored =
        CommitBuilds::new([("a@debian_trixie.x", Status::FailedToRun)], |_| Some(build_failed_reason("x")));
    assert!(!stored.has_failed());
}

#[test]
fn the_json_of_a_listing() {
    let subjects = ["fixed", "", "broke", "good"];
    let entry = |(at, message): (usize, &&str)| BranchEntry {
        commit: format!("{at:040x}").parse().unwrap(),
        message: (*message).into(),
        authorship: results::Authorship::default(),
        counts: model::Counts::default(),
        duration: std::time::Duration::ZERO,
    };
    let entries: Vec<BranchEntry> = subjects.iter().enumerate().map(entry).collect();
    let history = history(&["ppppp", "-", "pppbb", "ppppp"]);
    let row = |row| history.row(row, &entries).map(|row| serde_json::to_value(row).unwrap());
    assert_eq!(row(0), Some(serde_json::json!({"failed": [], "fixed": [{"flavor": "kasan"}]})));
    assert_eq!((row(1), row(3)), (None, None));
    let failed = serde_json::json!({
        "flavor": "kasan", "error": "fs/a.c:1: error: no", "tests": 2, "test": "a@ktest_flavor=kasan.x",
        "first_bad": entries[2].commit, "last_good": entries[3].commit,
    });
    let expected =
        serde_json::json!({"what": "build of kasan", "failed": [failed], "broke": [{"flavor": "kasan"}]});
    assert_eq!(row(2), Some(expected));
}

proptest::proptest! {
    /// A row breaks the build of a kernel if it does not build there, and the next older row that shows its build has it built.
    #[test]
    fn changes_match_the_definition(rows in proptest::collection::vec("[pfrbni]{5}|-", 0..12)) {
        let letters: Vec<&str> = rows.iter().map(String::as_str).collect();
        let history = history(&letters);
        for (kernel, places) in [("", 0..3), ("kasan", 3..5)] {
            let state = |row: usize| {
                let of = letters[row].get(places.clone())?;
                if of.contains('b') { Some(false) } else { of.contains(['p', 'f', 'i']).then_some(true) }
            };
            for row in 0..letters.len() {
                let before = (row + 1..letters.len()).find_map(state);
                let change = history.change(row);
                let has = |kernels: &[BuiltKernel]| kernels.iter().any(|of| of.flavor == kernel);
                proptest::prop_assert_eq!(has(&change.broke), state(row) == Some(false) && before == Some(true));
                proptest::prop_assert_eq!(has(&change.fixed), state(row) == Some(true) && before == Some(false));
            }
        }
    }
}
