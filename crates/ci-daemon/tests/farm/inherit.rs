//! Commits with the same source tree: nothing runs twice.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use model::CommitId;
use results::{LogKind, TestEntry};
use rustix::process::Signal;

use crate::support::{Farm, until};

/// Rewrites the newest commit with another message.
fn amend(farm: &Farm, message: &str) -> CommitId {
    farm.repo.git(["commit", "-q", "--amend", "-m", message]);
    farm.repo.tip("HEAD")
}

fn entry(farm: &Farm, commit: &CommitId, key: &str) -> TestEntry {
    farm.reader().commit(commit).unwrap().unwrap().get(&key.parse().unwrap()).unwrap().clone()
}

#[test]
fn an_amended_commit_inherits_the_verdicts() {
    let farm = Farm::new();
    farm.configure(&farm.config("confirm_failures = 4"));
    let base = farm.commit("base", "");
    let old = farm.commit("one", "first");
    farm.once();
    let ran = farm.ran().len();
    let before = entry(&farm, &old, "t.one.b");
    assert_eq!((before.attempts(), farm.attempts(&old, "t.one.b")[0].as_str()), (5, "1 Failed"));

    let new = amend(&farm, "one, in better words");
    farm.once();
    assert_eq!(farm.ran().len(), ran, "nothing runs");
    assert_eq!(farm.statuses(&new), farm.statuses(&old));
    let inherited = entry(&farm, &new, "t.one.b");
    assert_eq!(inherited.decisive.ran_at.as_ref(), Some(&old));
    assert_eq!(inherited.others.len(), 4);
    let own = |mut entry: TestEntry| {
        entry.decisive.ran_at = None;
        entry.others.iter_mut().for_each(|attempt| attempt.ran_at = None);
        // The sizes of logs are those of own files.
        let attempts = std::iter::once(&mut entry.decisive).chain(&mut entry.others);
        attempts.for_each(|attempt| (attempt.log_bytes, attempt.full_log_bytes) = (0, 0));
        entry
    };
    assert_eq!(own(inherited.clone()), own(before));
    let reader = farm.reader();
    let log = |commit: &CommitId| {
        let log = reader.log(commit, &inherited.key, LogKind::Subtest).unwrap().unwrap();
        String::from_utf8(log.read(1000).unwrap().0).unwrap()
    };
    assert_eq!((log(&new), log(&old)), ("00001 the log of b\n".into(), "00001 the log of b\n".into()));
    for number in 1..=5 {
        let log = |commit| reader.attempt_log(commit, &inherited, number, LogKind::Subtest).unwrap();
        assert_eq!(
            log(&new).map(|log| log.identity().unwrap()),
            log(&old).map(|log| log.identity().unwrap())
        );
    }
    let names = |commit| -> Vec<String> {
        reader.artifacts(commit, &inherited.key).unwrap().into_iter().map(|row| row.name).collect()
    };
    assert_eq!(names(&new), names(&old));
    // Each run counts once.
    let runs = |key: &str| reader.durations().unwrap().iter().find(|of| of.test.as_str() == key).unwrap().nr;
    assert_eq!(runs("t.two.x"), 6, "one at the base, and five at the commit");

    // The source of an inherited verdict is where it ran.
    let newest = amend(&farm, "one, in the best words");
    farm.once();
    assert_eq!(farm.ran().len(), ran);
    assert_eq!(entry(&farm, &newest, "t.one.b").decisive.ran_at.as_ref(), Some(&old));
    assert_eq!(entry(&farm, &base, "t.one.b").decisive.ran_at, None);
}

#[test]
fn only_what_is_configured_and_was_tested_is_inherited() {
    let farm = Farm::new();
    let old = farm.commit("one", "");
    farm.once();
    assert_eq!(farm.tally(&old), "5 Passed");
    let new = amend(&farm, "again");
    farm.test_file("t/one", "a b c d");
    let config = farm.config("").replace("[\"t/one.ktest\", \"t/two.ktest\"]", "[\"t/one.ktest\"]");
    farm.configure(&config);
    farm.once();
    assert_eq!(farm.tally(&new), "4 Passed");
    let ran: Vec<String> = farm.ran().into_iter().filter(|line| line.starts_with(new.as_str())).collect();
    assert_eq!(ran, [format!("{new} t/one d")]);
    // A group can turn it off.
    farm.configure(&config.replace("[test_group.g]\n", "[test_group.g]\ninherit = false\n"));
    let newest = amend(&farm, "and again");
    farm.once();
    assert_eq!(farm.tally(&newest), "4 Passed");
    assert_eq!(farm.ran().iter().filter(|line| line.starts_with(newest.as_str())).count(), 4);
    assert_eq!(entry(&farm, &newest, "t.one.a").decisive.ran_at, None);
}

#[test]
fn an_inherited_failure_is_confirmed() {
    let farm = Farm::new();
    let old = farm.commit("one", "fail");
    farm.once();
    assert_eq!(farm.attempts(&old, "t.one.a"), ["1 Failed"]);
    let new = amend(&farm, "again");
    farm.configure(&farm.config("confirm_failures = 4"));
    farm.once();
    assert_eq!(farm.attempts(&new, "t.one.a"), ["1 Failed", "2 Failed"]);
    let entry = entry(&farm, &new, "t.one.a");
    assert_eq!((entry.decisive.ran_at.as_ref(), entry.others[0].ran_at.as_ref()), (Some(&old), None));
    // Both have their logs.
    for number in 1..=2 {
        let log = farm.reader().attempt_log(&new, &entry, number, LogKind::Subtest).unwrap();
        assert_eq!(log.unwrap().read(100).unwrap().0, b"00001 the log of a\n", "{number}");
    }
}

#[test]
fn a_commit_with_the_same_experiment_inherits_the_verdicts() {
    let farm = Farm::new();
    farm.experiment(&"e".repeat(64));
    let old = farm.commit("one", "");
    farm.once();
    let new = farm.repo.commit("a change outside the kernel", &[("Documentation/x", "y")]);
    // A subtest that runs would never end.
    farm.hold(true);
    farm.once();
    assert_eq!(farm.tally(&new), "5 Passed");
    assert_eq!(entry(&farm, &new, "t.two.generic.001").decisive.ran_at.as_ref(), Some(&old));
    farm.hold(false);
    // If a test is missing, all of its batch run.
    farm.test_file("t/one", "a b c d");
    let newer = farm.repo.commit("another one", &[("Documentation/x", "z")]);
    let before = farm.ran().len();
    farm.once();
    assert_eq!(farm.tally(&newer), "6 Passed");
    assert_eq!(entry(&farm, &newer, "t.two.x").decisive.ran_at.as_ref(), Some(&old));
    assert_eq!(entry(&farm, &newer, "t.one.a").decisive.ran_at, None);
    let own =
        farm.ran().iter().filter(|line| line.starts_with(newer.as_str()) && line.contains(" t/one ")).count();
    assert!(own >= 4, "{:?}", &farm.ran()[before..]);
    // Another kernel, and a group without inheritance.
    farm.experiment(&"f".repeat(64));
    let newest = farm.repo.commit("in the kernel", &[("fs/x.c", "x")]);
    farm.once();
    assert_eq!(entry(&farm, &newest, "t.two.x").decisive.ran_at, None);
    farm.configure(&farm.config("").replace("[test_group.g]\n", "[test_group.g]\ninherit = false\n"));
    let last = farm.repo.commit("a change outside the kernel", &[("Documentation/x", "last")]);
    farm.once();
    assert_eq!(
        (farm.tally(&last).as_str(), entry(&farm, &last, "t.two.x").decisive.ran_at),
        ("6 Passed", None)
    );
}

/// The configuration with a share of inherited verdicts to check.
fn checking(farm: &Farm, share: &str) -> String {
    farm.config("").replace("[test_group.g]\n", &format!("[test_group.g]\ninherit_check = \"{share}\"\n"))
}

#[test]
fn a_share_of_inherited_verdicts_is_checked() {
    let farm = Farm::new();
    let old = farm.commit("one", "");
    farm.once();
    // The daemon ends before it checks anything.
    let new = amend(&farm, "one, again");
    farm.configure(&checking(&farm, "100%"));
    farm.hold(true);
    let daemon = farm.start(&[]);
    until("a test of the new commit runs", || farm.ran().iter().any(|line| line.starts_with(new.as_str())));
    daemon.signal(Signal::KILL);
    daemon.wait();
    farm.hold(false);
    assert_eq!(farm.attempts(&new, "t.one.a"), ["1 Passed"]);
    // The next one does, and each test fails.
    farm.break_all(true);
    farm.once();
    for key in ["t.one.a", "t.one.b", "t.one.c", "t.two.x", "t.two.generic.001"] {
        assert_eq!(farm.attempts(&new, key), ["1 Passed", "2 Failed"], "{key}");
        let checked = entry(&farm, &new, key);
        assert_eq!((checked.decisive.ran_at.as_ref(), checked.others[0].ran_at.as_ref()), (Some(&old), None));
        assert!(checked.is_flaky(), "one experiment has both outcomes");
    }
    let flaky = farm.reader().flaky(&"u/next".parse().unwrap()).unwrap().unwrap();
    assert_eq!(flaky.len(), 5);
    let ran = farm.ran().len();
    farm.once();
    assert_eq!(farm.ran().len(), ran, "a verdict is checked once");
}

#[test]
fn a_verdict_of_the_same_experiment_is_checked() {
    let farm = Farm::new();
    farm.experiment(&"e".repeat(64));
    farm.commit("one", "");
    farm.configure(&checking(&farm, "100%"));
    farm.once();
    let new = farm.repo.commit("a change outside the kernel", &[("Documentation/x", "y")]);
    farm.once();
    assert_eq!(farm.attempts(&new, "t.one.a"), ["1 Passed", "2 Passed"]);
    assert!(!entry(&farm, &new, "t.one.a").is_flaky());
    farm.configure(&checking(&farm, "0%"));
    let newer = farm.repo.commit("another one", &[("Documentation/x", "z")]);
    farm.once();
    assert_eq!(farm.attempts(&newer, "t.one.a"), ["1 Passed"]);
}

/// The mode of a commit with an experiment and code of these digits.
fn kernel(experiment: char, code: char) -> String {
    let digits = |digit: char| String::from(digit).repeat(16);
    format!("experiment={} code={}", digits(experiment), digits(code))
}

#[test]
fn a_commit_with_the_same_code_waits_for_an_idle_slot() {
    let farm = Farm::new();
    let config = farm.config("confirm_failures = 4");
    farm.configure(&format!("{config}[host.local]\nkind = \"local\"\nslots = 1\n"));
    let old = farm.commit("one", &kernel('1', 'c'));
    farm.once();
    let other = farm.commit("two", &kernel('2', 'd'));
    let same = farm.commit("three", &format!("{} fail", kernel('3', 'c')));
    farm.delay("0.5");
    let daemon = farm.start(&["--once"]);
    let reader = farm.reader();
    until("the tests wait", || reader.waiting_tests(&same).len() == 5);
    assert!(reader.waiting_tests(&same).iter().all(|(_, source)| *source == old));
    assert!(daemon.wait().success());
    // The commit that is not the newest runs first: before, at most the first test of each batch of the newest one starts, until the
    // daemon ends it. A failure of a test that waited is confirmed.
    let ran = farm.ran();
    let last_of_other = ran.iter().rposition(|line| line.starts_with(other.as_str())).unwrap();
    let early = ran[..last_of_other].iter().filter(|line| line.starts_with(same.as_str())).count();
    assert!(early <= 2, "{ran:?}");
    assert_eq!(farm.attempts(&same, "t.one.b"), ["1 Failed", "2 Failed"]);
    assert_eq!((farm.tally(&same), farm.tally(&other)), ("5 Failed".into(), "5 Passed".into()));
    assert_eq!(entry(&farm, &same, "t.one.b").decisive.ran_at, None);
    assert_eq!(reader.waiting_tests(&same), []);
    // A group without inheritance waits for nothing.
    farm.configure(&config.replace("[test_group.g]\n", "[test_group.g]\ninherit = false\n"));
    let last = farm.commit("four", &kernel('4', 'c'));
    farm.once();
    assert_eq!((farm.tally(&last), farm.reader().waiting_tests(&last)), ("5 Passed".into(), Vec::new()));
}

#[test]
fn tests_that_wait_are_found_again_after_a_kill() {
    let farm = Farm::new();
    farm.configure(&format!("{}[host.local]\nkind = \"local\"\nslots = 1\n", farm.config("")));
    farm.commit("one", &kernel('1', 'c'));
    farm.once();
    let other = farm.commit("two", &kernel('2', 'd'));
    let same = farm.commit("three", &kernel('3', 'c'));
    farm.hold(true);
    let daemon = farm.start(&[]);
    until("the other commit runs", || farm.ran().iter().any(|line| line.starts_with(other.as_str())));
    daemon.signal(Signal::KILL);
    daemon.wait();
    farm.hold(false);
    assert_eq!(farm.reader().commit(&same).unwrap().map_or(0, |results| results.entries.len()), 0);
    farm.once();
    assert_eq!((farm.tally(&same), farm.tally(&other)), ("5 Passed".to_owned(), "5 Passed".to_owned()));
}
