//! Options of a running daemon: `--limit`, `--clear-failed-to-run`.

use rustix::process::Signal;
use spawn::Exit;

use super::support::{Farm, until};

#[test]
fn a_limit_holds_for_commits_that_are_pushed_later() {
    let farm = Farm::new();
    farm.commit("one", "");
    let daemon = farm.start(&["--limit", "3"]);
    until("the jobs of the limit ran", || farm.ran().len() == 3);
    let pushed = farm.commit("two", "");
    daemon.signal(Signal::USR1);
    until("the daemon sees the new commit", || {
        let tips = farm.snapshot().branches.into_iter().filter_map(|branch| branch.tip);
        tips.into_iter().any(|tip| pushed.to_string().starts_with(&tip))
    });
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
    assert_eq!(farm.ran().len(), 3, "{:?}", farm.ran());
    // Without the limit, the rest runs.
    farm.once();
    assert_eq!(farm.ran().len(), 10, "{:?}", farm.ran());
}

#[test]
fn what_failed_to_run_is_tested_again_on_request() {
    let farm = Farm::new();
    let commit = farm.commit("one", "refuse");
    farm.once();
    assert_eq!(farm.tally(&commit), "5 Failed to run");
    std::fs::write(farm.path("fake/accept"), "").unwrap();
    farm.once();
    assert_eq!((farm.tally(&commit).as_str(), farm.ran().len()), ("5 Failed to run", 0));
    let daemon = farm.start(&["--clear-failed-to-run"]);
    until("the tests run", || farm.tally(&commit) == "5 Passed");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
    assert_eq!(farm.ran().len(), 5, "{:?}", farm.ran());
}
