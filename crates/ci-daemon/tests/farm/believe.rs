//! Claims that a failure is fixed.

use model::CommitId;
use results::claims::ClaimState;
use rustix::process::Signal;

use crate::support::{Farm, until};

/// Commits with these modes, all with verdicts. Five passes prove that the failure of one attempt is gone.
fn tested(modes: &[&str]) -> (Farm, Vec<CommitId>) {
    let farm = Farm::new();
    let commit = |(at, mode): (usize, &&str)| {
        let commit = farm.commit(&at.to_string(), mode);
        farm.once();
        commit
    };
    let commits = modes.iter().enumerate().map(commit).collect();
    (farm, commits)
}

#[test]
fn the_missing_runs_are_carried_out() {
    let (farm, commits) = tested(&["own", "own fail", "own"]);
    let before = farm.ran().len();
    farm.ask_believe("t.one.b", 95);
    farm.once();
    let [record] = farm.claims().try_into().unwrap();
    assert_eq!(record.to_string(), "fixed: 5 passes, 95 % confidence");
    assert_eq!((record.runs, &record.commit, record.requested_by.is_some()), (4, &commits[2], true));
    assert_eq!(farm.ran()[before..], vec![format!("{} t/one b", commits[2]); 4]);
    assert_eq!((farm.attempts(&commits[2], "t.one.b").len(), farm.requests()), (5, 0));
    // It is believed: nothing runs.
    farm.ask_believe("t.one.b", 95);
    farm.once();
    assert_eq!((farm.ran().len(), farm.claims()[0].runs), (before + 4, 0));
    // With a higher confidence, more runs are missing.
    farm.ask_believe("t.one.b", 99);
    farm.once();
    assert_eq!((farm.ran().len(), farm.claims()[0].runs), (before + 13, 9));
}

#[test]
fn a_failure_ends_the_claim() {
    let (farm, commits) = tested(&["own", "own fail", "own late"]);
    let before = farm.ran().len();
    farm.ask_believe("t.one.a", 95);
    farm.once();
    let [record] = farm.claims().try_into().unwrap();
    assert_eq!((record.state, record.failed_run), (ClaimState::NotFixed, Some(2)));
    assert_eq!(record.to_string(), "not fixed: failed in run 2: mode says so");
    assert_eq!((farm.ran().len() - before, farm.attempts(&commits[2], "t.one.a").len()), (2, 3));
}

#[test]
fn a_claim_continues_after_a_kill() {
    let (farm, commits) = tested(&["own", "own fail", "own"]);
    let before = farm.ran().len();
    farm.delay("0.3");
    farm.ask_believe("t.one.b", 99);
    let daemon = farm.start(&[]);
    until("three runs", || farm.claims().iter().any(|record| record.runs >= 3));
    daemon.signal(Signal::KILL);
    daemon.wait();
    assert_eq!(farm.claims()[0].state, ClaimState::Running);
    farm.once();
    let [record] = farm.claims().try_into().unwrap();
    assert_eq!(record.to_string(), "fixed: 14 passes, 99 % confidence");
    assert_eq!(farm.attempts(&commits[2], "t.one.b").len(), 14);
    // At most the run that was killed is lost.
    assert!(farm.ran().len() - before <= 14, "{:?}", farm.ran());
}

#[test]
fn impossible_claims_are_refused() {
    let (farm, _) = tested(&["own", "own", "own fail"]);
    let before = farm.ran().len();
    for (key, confidence) in [("t.one.z", 95), ("no.such", 95), ("t.one.a", 95), ("t.one.a", 3)] {
        farm.ask_believe(key, confidence);
        farm.once();
        assert_eq!((farm.requests(), farm.ran().len(), farm.claims().len()), (0, before, 0), "{key}");
    }
}

#[test]
fn idle_slots_finish_claims() {
    let (farm, commits) = tested(&["own", "own fail", "own"]);
    let config = farm.config("").replace("[test_group.g]\n", "[test_group.g]\nsoak = \"100%\"\n");
    farm.configure(&config);
    let daemon = farm.start(&[]);
    until("a believed fix", || farm.claims().iter().any(|record| record.state == ClaimState::Fixed));
    daemon.signal(Signal::TERM);
    daemon.wait();
    let claims = farm.claims();
    let first = claims.last().unwrap();
    assert_eq!((first.state, first.runs, &first.requested_by), (ClaimState::Fixed, 4, &None), "{first:?}");
    assert_eq!(farm.attempts(&commits[2], first.test.as_str()).len(), 5);
}
