//! Bisections of the daemon.

use belief::bisect::{State, Why};
use model::CommitId;
use results::bisections::BisectionRecord;
use rustix::process::Signal;

use crate::support::{Farm, until};

/// Commits of which the newest ones fail, with verdicts only of the oldest and the newest one.
fn broken(modes: &[&str]) -> (Farm, Vec<CommitId>) {
    let farm = Farm::new();
    let mut commits = vec![farm.commit("0", modes[0])];
    farm.once();
    commits.extend((1..modes.len()).map(|at| farm.commit(&at.to_string(), modes[at])));
    let daemon = farm.start(&["--once", "--limit", "5"]);
    assert_eq!(daemon.wait(), spawn::Exit::Code(0));
    assert_eq!((farm.ran().len(), farm.statuses(&commits[1]).len()), (10, 0));
    (farm, commits)
}

#[test]
fn the_first_bad_commit_among_eight_is_found_and_verified() {
    let modes = ["own", "own", "own unbuilt", "own", "own", "own", "own fail", "own fail", "own fail"];
    let (farm, commits) = broken(&modes);
    farm.ask_bisect("t.one.b", None);
    // Only what is asked for runs.
    assert_eq!(farm.start(&["--once", "--limit", "0"]).wait(), spawn::Exit::Code(0));
    let [found] = farm.bisections().try_into().unwrap();
    let record = &found.record;
    let (culprit, parent) = (commits[6].clone(), commits[5].clone());
    assert_eq!(record.state, State::Culprit { culprit, parent, second_parent: None }, "{record:?}");
    let verification = record.verification.unwrap();
    assert!(verification.confirmed && verification.culprit.failures >= 5, "{verification:?}");
    assert!(farm.ran()[10..].iter().all(|line| line.ends_with(" t/one b")), "{:?}", farm.ran());
    // The runs, and those of kernels that do not build, which are no runs. The known verdicts are not repeated by the search.
    let runs = u32::try_from(farm.ran().len()).unwrap() - 10;
    let unbuilt = u32::try_from(farm.attempts(&commits[2], "t.one.b").len()).unwrap();
    assert_eq!((record.runs + unbuilt, unbuilt <= 1), (runs, true), "{:?}", farm.ran());
    let known: Vec<&CommitId> =
        record.steps.iter().filter(|step| step.why == Why::Known).map(|step| &step.commit).collect();
    assert_eq!(known, [&commits[0], &commits[8]]);
    assert!(record.steps.iter().any(|step| step.host.is_some() && step.image.is_some()));
    assert_eq!((farm.requests(), found.requested_by.is_some()), (0, true));
    // It has ended: the next daemon does nothing.
    let ran = farm.ran().len();
    assert_eq!(farm.start(&["--once", "--limit", "0"]).wait(), spawn::Exit::Code(0));
    assert_eq!((farm.ran().len(), farm.bisections().len()), (ran, 1));
}

#[test]
fn a_confirmed_new_failure_is_bisected_by_itself() {
    let farm = Farm::new();
    let config = |start: &str| {
        // The plan leaves out all commits but the tip.
        let group = format!("[test_group.g]\nbisect = \"{start}\"\nmax_commits = 1\n");
        farm.configure(&farm.config("confirm_failures = 4").replace("[test_group.g]\n", &group));
    };
    config("ask");
    let modes = ["own", "own", "own", "own fail", "own fail"];
    let mut commits = vec![farm.commit("0", modes[0])];
    farm.once();
    commits.extend((1..modes.len()).map(|at| farm.commit(&at.to_string(), modes[at])));
    config("auto");
    assert_eq!(farm.start(&["--once", "--limit", "5"]).wait(), spawn::Exit::Code(0));
    let found = farm.bisections();
    assert_eq!(found.len(), 5, "each of the five tests fails at the newest commit");
    for record in found {
        let (culprit, parent) = (commits[3].clone(), commits[2].clone());
        let expected = State::Culprit { culprit, parent, second_parent: None };
        assert_eq!((&record.record.state, record.requested_by), (&expected, None));
    }
    // The failure at the commit before is not new any more, and what has ended does not begin again.
    farm.once();
    assert_eq!(farm.bisections().len(), 5);
    // A group can refuse them.
    config("off");
    farm.ask_bisect("t.one.a", Some((&commits[1], &commits[4])));
    farm.once();
    assert_eq!((farm.requests(), farm.bisections().len()), (0, 5));
}

#[test]
fn without_a_pass_on_the_branch_the_search_begins_at_its_base() {
    let farm = Farm::new();
    let base = farm.commit("0", "own");
    farm.repo.git(["tag", "start"]);
    let commits: Vec<CommitId> = (1..4).map(|at| farm.commit(&at.to_string(), "own fail")).collect();
    let branch = "ref = \"master\"\nbase = \"start\"\n";
    farm.configure(&farm.config("").replace("ref = \"master\"\n", branch));
    farm.once();
    assert_eq!(farm.tally(&base), "");
    farm.ask_bisect("t.one.b", None);
    farm.once();
    let [found] = farm.bisections().try_into().unwrap();
    let expected = State::Culprit { culprit: commits[0].clone(), parent: base.clone(), second_parent: None };
    assert_eq!((found.record.state, found.commits[0] == base), (expected, true));
}

#[test]
fn a_bisection_continues_after_a_kill() {
    let modes = ["own", "own", "own", "own fail", "own fail", "own fail"];
    let (farm, commits) = broken(&modes);
    farm.delay("0.2");
    farm.ask_bisect("t.one.a", Some((&commits[0], &commits[5])));
    let daemon = farm.start(&["--limit", "0"]);
    until("two runs", || farm.bisections().iter().any(|found| found.record.runs >= 2));
    daemon.signal(Signal::KILL);
    daemon.wait();
    let before = farm.bisections().remove(0).record;
    assert_eq!(before.state, State::Running);
    assert_eq!(farm.start(&["--once", "--limit", "0"]).wait(), spawn::Exit::Code(0));
    let after = farm.bisections().remove(0).record;
    let State::Culprit { culprit, .. } = &after.state else { panic!("{after:?}") };
    assert_eq!(*culprit, commits[3]);
    assert!(after.verification.unwrap().confirmed && after.runs > before.runs);
    // At most the run that was killed is lost.
    let runs = u32::try_from(farm.ran().len()).unwrap() - 10;
    assert!(runs - after.runs <= 1, "{runs} {}", after.runs);
}

#[test]
fn impossible_requests_are_refused() {
    let (farm, commits) = broken(&["own", "own", "own fail"]);
    let other = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let [base, middle, head] = [&commits[0], &commits[1], &commits[2]];
    let ranges = [(head, base), (head, head), (base, &other), (&other, head), (base, middle)];
    for (key, range) in [("t.one.z", None), ("no.such", None), ("t.two.x", Some((base, base)))]
        .into_iter()
        .chain(ranges.map(|range| ("t.one.a", Some(range))))
    {
        farm.ask_bisect(key, range);
        assert_eq!(farm.start(&["--once", "--limit", "0"]).wait(), spawn::Exit::Code(0));
        assert_eq!((farm.requests(), farm.ran().len(), farm.bisections().len()), (0, 10, 0), "{key}");
    }
}

/// The bisection that verifies the result of this one again, two days later.
fn verified_again(farm: &Farm, found: &BisectionRecord) -> BisectionRecord {
    let mut old = found.clone();
    old.begun -= 2 * 24 * 3600;
    results::bisections::write(&farm.path("data"), &old.record.id, &results::bisections::text(&old))
        .expect("a record is written");
    let daemon = farm.start(&["--limit", "0"]);
    let again = || {
        let mut records = farm.bisections().into_iter();
        records.find(|again| again.rechecks.is_some() && again.record.state.is_final())
    };
    until("the verification", || again().is_some());
    daemon.signal(Signal::TERM);
    daemon.wait();
    again().expect("the verification")
}

#[test]
fn a_first_bad_commit_is_verified_again() {
    let (farm, _) = broken(&["own", "own", "own fail"]);
    farm.ask_bisect("t.one.b", None);
    assert_eq!(farm.start(&["--once", "--limit", "0"]).wait(), spawn::Exit::Code(0));
    let found = farm.bisections().remove(0);
    let ran = farm.ran().len();
    let again = verified_again(&farm, &found);
    assert_eq!((again.rechecks.as_ref(), &again.record.state), (Some(&found.record.id), &found.record.state));
    assert!(again.record.verification.as_ref().unwrap().confirmed && farm.ran().len() >= ran + 10);
    let named = results::bisections::read_named(&farm.path("data")).unwrap();
    assert_eq!(named.to_string(), "of 1 named, 1 held");
}

#[test]
fn the_search_continues_in_a_merge_after_a_kill_and_the_revert_is_run() {
    let farm = Farm::new();
    // Only the tip is tested, and the merged commits are not listed.
    let group = "[test_group.g]\nmax_commits = 1\n";
    farm.configure(&farm.config("keep_results_commits = 4").replace("[test_group.g]\n", group));
    let base = farm.commit("0", "own");
    farm.once();
    let commit = |name: &str, mode: &str| farm.repo.commit(name, &[("mode", mode), (name, "1")]);
    farm.repo.switch("side");
    let side: Vec<CommitId> = [("s1", "own"), ("s2", "own "), ("s3", "own fail"), ("s4", "own fail ")]
        .map(|(a, b)| commit(a, b))
        .into();
    farm.repo.switch("master");
    farm.repo.commit("m1", &[("m1", "1")]);
    let merge = farm.repo.merge("side", "merge");
    farm.repo.commit("m2", &[("m2", "1")]);
    let tip = farm.repo.commit("m3", &[("m3", "1")]);
    assert_eq!(farm.start(&["--once", "--limit", "5"]).wait(), spawn::Exit::Code(0));
    farm.delay("0.2");
    farm.ask_bisect("t.one.b", Some((&base, &tip)));
    let daemon = farm.start(&["--limit", "0"]);
    until("the commits of the merge", || {
        farm.bisections().iter().any(|found| !found.record.outer.is_empty())
    });
    let refs = || farm.linux.git(["for-each-ref", "--format=%(refname)", "refs/ktest-ci/bisect"]);
    assert!(refs().ends_with(tip.as_str()), "{}", refs());
    daemon.signal(Signal::KILL);
    daemon.wait();
    let before = farm.bisections().remove(0).record;
    assert_eq!((before.state, before.outer.len()), (State::Running, 1));
    farm.delay("0");
    assert_eq!(farm.start(&["--once", "--limit", "0"]).wait(), spawn::Exit::Code(0));
    let [found] = farm.bisections().try_into().unwrap();
    let record = &found.record;
    let (culprit, parent) = (side[2].clone(), side[1].clone());
    assert_eq!(record.state, State::Culprit { culprit, parent, second_parent: None }, "{record:?}");
    assert_eq!((record.merge(), found.range()), (Some(&merge), (&base, &tip)));
    // s4 changes the same line, so the revert of s3 conflicts.
    assert_eq!((record.revert.as_ref(), refs().as_str()), (None, ""));
    let (runs, _) = record.all_runs();
    let ran = u32::try_from(farm.ran().len()).unwrap() - 10;
    assert!(ran - runs <= 1, "at most the run that was killed is lost: {ran} {runs}");
    // The branch does not list the first bad commit.
    let again = verified_again(&farm, &found);
    assert_eq!((again.rechecks.as_ref(), &again.record.state), (Some(&record.id), &record.state));
    assert!(again.record.verification.as_ref().unwrap().confirmed);
}

#[test]
fn the_tip_is_run_without_the_first_bad_commit() {
    let farm = Farm::new();
    let group = "[test_group.g]\nmax_commits = 1\n";
    farm.configure(&farm.config("").replace("[test_group.g]\n", group));
    farm.commit("0", "own");
    farm.once();
    let commit = |name: &str, mode: &str| farm.repo.commit(name, &[("mode", mode), (name, "1")]);
    let commits = [("c1", "own "), ("c2", "own fail"), ("c3", "own fail")].map(|(a, b)| commit(a, b));
    assert_eq!(farm.start(&["--once", "--limit", "5"]).wait(), spawn::Exit::Code(0));
    farm.ask_bisect("t.one.b", None);
    assert_eq!(farm.start(&["--once", "--limit", "0"]).wait(), spawn::Exit::Code(0));
    let [found] = farm.bisections().try_into().unwrap();
    let (record, verification) = (&found.record, found.record.verification.unwrap());
    let revert = record.revert.as_ref().unwrap();
    assert_eq!((&revert.culprit, &revert.tip), (&commits[1], &commits[2]));
    assert!(verification.revert_fixes && record.summary().ends_with(", revert fixes it"), "{record:?}");
    assert_eq!(farm.attempts(&revert.commit, "t.one.b").len(), 5);
    // Its results are not on the branch.
    let listed = farm.reader().branch(&"u/next".parse().unwrap()).unwrap().unwrap();
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().all(|entry| entry.commit != revert.commit));
    // Nothing runs at it afterwards.
    let ran = farm.ran().len();
    assert_eq!(farm.start(&["--once", "--limit", "0"]).wait(), spawn::Exit::Code(0));
    assert_eq!(farm.ran().len(), ran);
}
