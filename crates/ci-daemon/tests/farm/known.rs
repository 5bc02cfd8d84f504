//! Known failures: entries of `known-issues.toml` apply to verdicts that are recorded, and to recorded ones. Owners of test
//! files.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use model::{CommitId, Status};
use results::TestEntry;

use crate::support::{Farm, until};

fn entry(farm: &Farm, commit: &CommitId, key: &str) -> TestEntry {
    farm.reader().commit(commit).unwrap().unwrap().get(&key.parse().unwrap()).unwrap().clone()
}

fn issues(farm: &Farm, text: &str) {
    std::fs::write(farm.path("kt/tests/t/known-issues.toml"), text).unwrap();
}

fn issue(more: &str) -> String {
    format!(
        "[[issue]]\ntest = \"t.one.*\"\nreason = \"a bug\"\nlink = \"https://bugs.example.org/7\"\n{more}\n"
    )
}

#[test]
fn entries_apply_to_new_and_recorded_verdicts_until_they_are_removed() {
    let farm = Farm::new();
    farm.commit("base", "");
    let commit = farm.commit("one", "first");
    farm.once();
    let failed = entry(&farm, &commit, "t.one.b");
    assert_eq!(failed.status(), Status::Failed);
    let counts = |farm: &Farm| {
        let listed = farm.reader().branch(&"u/next".parse().unwrap()).unwrap().unwrap();
        let entry = listed.iter().find(|entry| entry.commit == commit).unwrap();
        (entry.counts.failed, entry.counts.notrun)
    };
    let (before, ran) = (counts(&farm), farm.ran().len());
    let reason = failed.decisive.reason.clone().unwrap();

    // Recorded verdicts become known, without a run.
    issues(&farm, &issue("branch = \"u/*\""));
    farm.once();
    assert_eq!(farm.ran().len(), ran);
    let known = entry(&farm, &commit, "t.one.b").decisive;
    let text = format!("known failure: a bug (https://bugs.example.org/7); it failed: {reason}");
    assert_eq!((known.status, known.reason), (Status::NotRun, Some(text)));
    assert_eq!(entry(&farm, &commit, "t.one.b").decisive.log_bytes, failed.decisive.log_bytes);
    assert_eq!(counts(&farm), (before.0 - 3, before.1 + 3), "a, b and c");

    // New verdicts are judged when they are recorded.
    let next = farm.commit("two", "first");
    farm.once();
    assert_eq!(entry(&farm, &next, "t.one.b").status(), Status::NotRun);

    // Another failure, branch or configuration, an entry that is over, and no entry: it is a failure.
    for more in [
        "failure = \"something else\"",
        "branch = \"u/main\"",
        "configuration = \"arch=arm64\"",
        "until = \"2020-01-01\"",
    ] {
        issues(&farm, &issue(more));
        farm.once();
        assert_eq!(entry(&farm, &commit, "t.one.b").decisive, failed.decisive, "{more}");
        issues(&farm, &issue(&format!("failure = {:?}", &reason[1..])));
        farm.once();
        assert_eq!(entry(&farm, &commit, "t.one.b").status(), Status::NotRun, "after {more}");
    }
    issues(&farm, "");
    farm.once();
    assert_eq!(entry(&farm, &commit, "t.one.b"), failed);
    assert_eq!(counts(&farm), before);
}

#[test]
fn the_owners_of_test_files_are_published() {
    let farm = Farm::new();
    let script = "#!/bin/bash\n[[ $1 = list-tests ]] && echo a b c\nexit 0\nconfig-owner \"Mira <mira@example.org>\"\nconfig-owner $USER\n";
    std::fs::write(farm.path("kt/tests/t/one.ktest"), script).unwrap();
    farm.commit("base", "");
    farm.once();
    let owners = farm.reader().owners().unwrap();
    let of = |key: &str| owners.of(&key.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((of("t.one.a"), of("t.two.x")), (vec!["Mira <mira@example.org>".to_owned()], Vec::new()));
    let problem =
        "t/one.ktest: line 5: config-owner is followed by a quoted text: config-owner \"Name <mail>\"";
    assert!(
        farm.snapshot().problems.iter().any(|text| text.ends_with(problem)),
        "{:?}",
        farm.snapshot().problems
    );
}

#[test]
fn the_last_valid_entries_stay_and_the_error_is_shown() {
    let farm = Farm::new();
    farm.configure(&farm.config("").replace("poll = 3600", "poll = 1"));
    issues(&farm, &issue(""));
    farm.commit("base", "");
    let commit = farm.commit("one", "first");
    let daemon = farm.start(&[]);
    let is_known =
        |commit: &CommitId| farm.statuses(commit).get("t.one.b").map(String::as_str) == Some("Not run");
    until("the first commit", || is_known(&commit));
    issues(&farm, "[[issue]]\n");
    let problem = "known-issues.toml:1: missing field `test`; its last valid entries stay";
    let is_shown = || farm.snapshot().problems.iter().any(|text| text.ends_with(problem));
    until("the error", is_shown);
    let next = farm.commit("two", "first");
    until("the next commit", || is_known(&next));
    issues(&farm, "");
    let failed = || farm.statuses(&next).get("t.one.b").map(String::as_str) == Some("Failed");
    until("the failure", failed);
    until("no error", || !is_shown());
    drop(daemon);
}
