//! Verdicts, restarts, pushes and changes of the configuration.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{Farm, runs, until};
use results::LogKind;
use rustix::process::Signal;
use spawn::Exit;

/// This test takes as long as a run may be silent.
#[test]
fn a_run_that_is_stopped_is_killed_and_runs_again() {
    let farm = Farm::new();
    let commit = farm.commit("one", "stop");
    let began = Instant::now();
    assert_eq!(farm.start(&["--once"]).wait_for(Duration::from_secs(170)), Exit::Code(0));
    assert!(began.elapsed() > Duration::from_secs(80), "{:?}", began.elapsed());
    assert_eq!(farm.tally(&commit), "5 Passed");
    // The subtest that was running when the run was stopped ran twice.
    assert_eq!(farm.ran().len(), 6);
    assert!(!runs(&farm.path("fake/ktest")));
}

#[test]
fn links_and_fifos_of_a_run_are_not_published() {
    let farm = Farm::new();
    let commit = farm.commit("one", "links");
    farm.once();
    assert_eq!(farm.tally(&commit), "5 Passed");
    let reader = farm.reader();
    let key = "t.one.a".parse().unwrap();
    let log = reader.log(&commit, &key, LogKind::Subtest).unwrap();
    assert_eq!(log.map(|log| log.read(1000).unwrap().0).unwrap_or_default(), b"");
    for name in ["crash", "kernel.config"] {
        assert!(!farm.path(&format!("data/{commit}/t.one.a/{name}.br")).exists(), "{name}");
    }
}

#[test]
fn the_artifacts_of_a_failed_subtest_are_published() {
    let farm = Farm::new();
    let commit = farm.commit("one", "fail");
    farm.once();
    assert_eq!(farm.tally(&commit), "5 Failed");
    let (reader, key) = (farm.reader(), "t.two.generic.001".parse().unwrap());
    let rows = reader.artifacts(&commit, &key).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert!(["full.br", "out.bad.br"].iter().all(|name| names.contains(name)), "{names:?}");
    // Neither links, nor files with the name of a file of the result or of the runner.
    assert!(!names.iter().any(|name| name.starts_with("link") || name.starts_with("crash")), "{names:?}");
    let full = reader.open_artifact(&commit, &key, "full").unwrap().unwrap();
    assert_eq!(full.read(100).unwrap().0, b"all of generic/001\n");
}

#[test]
fn verdicts_are_recorded_once_and_a_push_is_tested() {
    let farm = Farm::new();
    let more = "[branch.broken]\nremote = \"/nowhere/at/all\"\ntest_groups = [\"g\"]\n\
                [test_group.h]\ntests = [\"t/unlisted.ktest\"]\n\
                [branch.odd]\nremote = \"/nowhere/else\"\ntest_groups = [\"h\"]\n";
    farm.configure(&(farm.config("") + more));
    farm.test_file("t/unlisted", "'-rubbish'");
    let old = farm.commit("old", "");
    let new = farm.commit("new", "fail");
    farm.once_with_unreadable_branches();
    assert_eq!(farm.tally(&old), "5 Passed");
    assert_eq!(farm.tally(&new), "5 Failed");
    let keys: Vec<String> = farm.statuses(&new).into_keys().collect();
    assert_eq!(keys, ["t.one.a", "t.one.b", "t.one.c", "t.two.generic.001", "t.two.x"]);
    // The newest commit ran first.
    assert!(farm.ran()[..5].iter().all(|line| line.starts_with(new.as_str())), "{:?}", farm.ran());
    // Every field is recorded.
    let reader = farm.reader();
    let results = reader.commit(&new).unwrap().unwrap();
    let entry = results.get(&"t.one.b".parse().unwrap()).unwrap();
    assert_eq!(entry.decisive.reason.as_deref(), Some("mode says so"));
    assert_eq!(
        (
            entry.decisive.duration.as_millis(),
            entry.decisive.host.as_ref().unwrap().as_str(),
            entry.decisive.slot
        ),
        (1500, "local", Some(0))
    );
    assert!(
        entry.decisive.kernel.is_some()
            && entry.decisive.image_hash.as_deref() == Some("beef")
            && entry.decisive.started.is_some()
    );
    assert_eq!(results.subject(), "new");
    let text = |kind| {
        let log = reader.log(&new, &entry.key, kind).unwrap().unwrap();
        String::from_utf8(log.read(1 << 20).unwrap().0).unwrap()
    };
    assert_eq!(text(LogKind::Subtest), "00001 the log of b\n");
    assert!(text(LogKind::Full).contains("the log of a\n00001 the log of b\n"));
    // The last run exited as well.
    let last = reader.log(&old, &"t.two.x".parse().unwrap(), LogKind::Full).unwrap().unwrap();
    assert!(String::from_utf8(last.read(1 << 20).unwrap().0).unwrap().ends_with("the last line\n"));
    let branch = reader.branch(&"u/next".parse().unwrap()).unwrap().unwrap();
    assert_eq!(branch.iter().map(results::BranchEntry::subject).collect::<Vec<_>>(), ["new", "old"]);
    assert_eq!(branch[0].counts.failed, 5);
    assert!(reader.durations().unwrap().iter().any(|of| of.test.as_str() == "t.one.a" && of.nr == 2));
    // Problems are reported.
    let snapshot = farm.snapshot();
    let problems = snapshot.problems.join("\n");
    assert!(
        problems.contains("branch u/broken: ") && problems.contains("t/unlisted.ktest list-tests: "),
        "{problems}"
    );
    assert_eq!(snapshot.branches.len(), 3);
    assert!(snapshot.jobs.iter().all(|job| job.status == "completed") && snapshot.jobs.len() == 10);
    // No files of runs remain.
    let work = std::fs::read_dir(farm.path("data/ci-daemon-work")).unwrap().filter_map(Result::ok);
    let left: Vec<_> = work.filter(|entry| entry.path().is_dir()).collect();
    assert!(left.is_empty(), "only files of the daemon's own: {left:?}");

    farm.once_with_unreadable_branches();
    assert_eq!(farm.ran().len(), 10);
    let newest = farm.commit("newest", "");
    farm.once_with_unreadable_branches();
    assert_eq!((farm.ran().len(), farm.tally(&newest).as_str()), (15, "5 Passed"));
}

#[test]
fn kill_9_loses_no_reported_verdict() {
    let farm = Farm::new();
    farm.delay("0.2");
    let commits = [farm.commit("c1", ""), farm.commit("c2", "")];
    let mut reported = BTreeMap::new();
    for wanted in [2, 5] {
        let daemon = farm.start(&[]);
        let count = |status: &str| {
            let all = commits.iter().flat_map(|commit| farm.statuses(commit));
            all.filter(|(_, of)| of == status).count()
        };
        until("some verdicts and one in progress", || count("Passed") >= wanted && count("In progress") > 0);
        let passed: Vec<_> = commits
            .iter()
            .flat_map(|commit| {
                let statuses = farm.statuses(commit).into_iter().filter(|(_, status)| status == "Passed");
                statuses.map(|(key, _)| format!("{commit} {key}")).collect::<Vec<_>>()
            })
            .collect();
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.wait(), Exit::Signal(9));
        until("the processes of its run have ended", || !runs(&farm.path("fake/ktest")));
        let starts = farm.starts();
        for job in passed {
            let times = starts[&job];
            // Jobs with a verdict from before the last kill did not run again.
            assert_eq!(*reported.entry(job.clone()).or_insert(times), times, "{job}");
        }
    }
    farm.delay("0");
    farm.once();
    for commit in &commits {
        assert_eq!(farm.tally(commit), "5 Passed");
    }
    let starts = farm.starts();
    for (job, times) in reported {
        assert_eq!(starts[&job], times, "{job}");
    }
}

#[test]
fn sigterm_ends_the_runs_and_leaves_no_test_in_progress() {
    let farm = Farm::new();
    farm.hold(true);
    let commit = farm.commit("c", "");
    let daemon = farm.start(&["run"]);
    until("a subtest runs", || farm.statuses(&commit).values().any(|status| status == "In progress"));
    // The snapshot may be two seconds old, and so from before the first event of the run.
    let shown = || farm.snapshot().executors.iter().find_map(|executor| executor.batch.clone());
    until("the snapshot shows it", || shown().is_some_and(|batch| batch.phase == "testing"));
    let batch = shown().unwrap();
    assert_eq!((batch.phase.as_str(), batch.test.as_str(), batch.subtests), ("testing", "t/one", 3));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
    assert!(!runs(&farm.path("fake/ktest")));
    assert_eq!(farm.tally(&commit), "");
    assert!(farm.snapshot().executors.iter().all(|executor| executor.batch.is_none()));
}

#[test]
fn changes_and_pushes_take_effect_while_the_daemon_runs() {
    let farm = Farm::new();
    let first = farm.commit("first", "");
    let daemon = farm.start(&[]);
    until("the first commit is tested", || farm.tally(&first) == "5 Passed");
    // An invalid change has no effect and is reported; a push is still tested.
    farm.configure(&farm.config("colour = 1"));
    let second = farm.commit("second", "");
    daemon.signal(Signal::USR1);
    until("the second commit is tested", || farm.tally(&second) == "5 Passed");
    until("the problem is shown", || {
        farm.snapshot().problems.iter().any(|problem| problem.contains("colour"))
    });
    // A valid change takes effect: another branch.
    farm.repo.switch("side");
    let side = farm.commit("side", "refuse");
    let branch = format!("[branch.side]\nremote = {:?}\ntest_groups = [\"g\"]\n", farm.repo.url());
    farm.configure(&(farm.config("") + &branch));
    daemon.signal(Signal::USR1);
    // A refused test file has a verdict, and its messages are the log.
    until("the side branch is tested", || farm.tally(&side) == "5 Failed to run");
    until("the problem is gone", || farm.snapshot().problems.is_empty());
    let results = farm.reader().commit(&side).unwrap().unwrap();
    assert_eq!(
        results.entries[0].decisive.reason.as_deref(),
        Some("t/one.ktest: config-no-vm: not supported")
    );
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait(), Exit::Code(0));
    assert_eq!(farm.ran().len(), 10);
}

#[test]
fn a_push_runs_first() {
    let farm = Farm::new();
    farm.hold(true);
    let old = farm.commit("old", "");
    let daemon = farm.start(&[]);
    until("the old commit is being tested", || !farm.ran().is_empty());
    let new = farm.commit("new", "");
    daemon.signal(Signal::USR1);
    until("the new one is planned", || farm.snapshot().pending_by_group.get("u") == Some(&7));
    farm.hold(false);
    until("both are tested", || farm.tally(&new) == "5 Passed" && farm.tally(&old) == "5 Passed");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
    // The running batch can finish; then the new commit runs before the rest of the old one.
    let order: Vec<bool> = farm.ran().iter().map(|line| line.starts_with(new.as_str())).collect();
    assert_eq!(order, [[false; 3].as_slice(), &[true; 5], &[false; 2]].concat(), "{:?}", farm.ran());
}

#[test]
fn jobs_run_again_after_an_infrastructure_error() {
    let farm = Farm::new();
    let commit = farm.commit("flaky host", "flaky");
    farm.once();
    assert_eq!(farm.tally(&commit), "5 Passed");
    assert_eq!(farm.ran().len(), 5, "{:?}", farm.ran());
    let log = std::fs::read_dir(farm.path("data/ci-daemon-logs")).unwrap().next().unwrap().unwrap().path();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("infrastructure: the disk is full"), "{log}");
    assert!(log.contains("not an event, skipped: \"make: this is rubbish\""), "{log}");
}

#[test]
fn a_branch_that_cannot_be_read_does_not_stop_the_others_and_gives_an_exit_code() {
    let farm = Farm::new();
    let commit = farm.commit("one", "");
    let broken = "[branch.gone]\nremote = \"nowhere.git\"\nref = \"master\"\ntest_groups = [\"g\"]\n";
    farm.configure(&(farm.config("") + broken));
    assert_eq!(farm.start(&["--once"]).wait(), Exit::Code(3));
    assert_eq!(farm.tally(&commit), "5 Passed");
    farm.configure(&farm.config(""));
    assert_eq!(farm.start(&["--once"]).wait(), Exit::Code(0));
}

/// The tests on the kernel are tried once, and not again and again; the others run.
#[test]
fn a_kernel_that_is_not_on_the_mirror_stops_only_its_own_tests() {
    let farm = Farm::new();
    let commit = farm.commit("one", "");
    let old = "\n[test_group.old]\ntests = [\"t/one.ktest\"]\nkernels = [\"debian/gone\"]\n";
    let text = farm.config("").replace("test_groups = [\"g\"]", "test_groups = [\"old\", \"g\"]");
    farm.configure(&(text + old));
    assert_eq!(farm.start(&["--once"]).wait(), Exit::Code(3));
    assert_eq!(farm.tally(&commit), "5 Passed");
    let fetched = std::fs::read_to_string(farm.path("fake/fetched")).unwrap();
    assert!(fetched.lines().count() <= 2, "{fetched}");
    let problems = farm.snapshot().problems;
    assert!(
        problems.iter().any(|problem| problem.contains("test group old: its tests on debian/gone")),
        "{problems:?}"
    );
}

#[test]
fn one_daemon_per_directory_and_one_line_per_error() {
    let farm = Farm::new();
    farm.hold(true);
    let commit = farm.commit("c", "");
    let first = farm.start(&[]);
    until("a subtest runs", || farm.statuses(&commit).values().any(|status| status == "In progress"));
    assert_eq!(farm.start(&["--once"]).wait(), Exit::Code(1));
    first.signal(Signal::TERM);
    assert_eq!(first.wait(), Exit::Code(0));
    farm.configure("linux_repo = 1");
    assert_eq!(farm.start(&["--once"]).wait(), Exit::Code(1));
    assert_eq!(farm.start(&["--no-such-option"]).wait(), Exit::Code(2));
}
