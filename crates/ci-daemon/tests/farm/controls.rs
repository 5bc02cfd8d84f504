//! Operators drain hosts, pause branches and cancel batches.

#![expect(clippy::unwrap_used, reason = "an error of the setup fails the test")]

use results::requests::{self, CancelBatch, Drain, PauseBranch, RequestKind};
use rustix::process::Signal;

use crate::support::{Farm, until};

const TWO_SLOTS: &str = "[host.local]\nslots = 2\n";

fn busy(farm: &Farm) -> Vec<String> {
    let executors = farm.snapshot().executors;
    executors.into_iter().filter(|it| it.batch.is_some()).map(|it| it.name).collect()
}

fn states(farm: &Farm) -> Vec<String> {
    farm.snapshot().executors.into_iter().map(|it| format!("{} {}", it.name, it.state)).collect()
}

fn ask(farm: &Farm, kind: RequestKind) {
    requests::submit(&farm.path("data"), kind, None).unwrap();
    until("the request is handled", || farm.requests() == 0);
}

fn drain(place: &str, reason: Option<&str>) -> RequestKind {
    RequestKind::Drain(Drain { place: place.parse().unwrap(), reason: reason.map(Into::into) })
}

#[test]
fn a_drained_slot_finishes_its_batch_and_takes_no_other_one_also_after_a_restart() {
    let farm = Farm::new();
    farm.configure(&(farm.config("") + TWO_SLOTS));
    farm.hold(true);
    let old = farm.commit("old", "own");
    let daemon = farm.start(&[]);
    until("both slots are busy", || busy(&farm).len() == 2);
    ask(&farm, drain("local/1", Some("new disk")));
    until("it is shown", || farm.snapshot().drained.len() == 1);
    assert_eq!(busy(&farm).len(), 2, "what runs is not stopped");
    let drained = farm.snapshot().drained.remove(0);
    assert_eq!(
        (drained.place.to_string(), drained.stopped.reason.as_deref()),
        ("local/1".into(), Some("new disk"))
    );
    assert!(drained.stopped.by.is_some() && drained.stopped.at > 0);
    farm.hold(false);
    until("the batches end", || farm.tally(&old) == "5 Passed" && busy(&farm).is_empty());
    until("the slot is drained", || states(&farm) == ["local/0 idle", "local/1 drained"]);
    // A daemon that is killed.
    daemon.signal(Signal::KILL);
    daemon.wait();
    farm.hold(true);
    let new = farm.commit("new", "own");
    let daemon = farm.start(&[]);
    until("a slot is busy", || busy(&farm) == ["local/0"]);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(states(&farm), ["local/0 busy", "local/1 drained"]);
    ask(&farm, RequestKind::Resume("local".parse().unwrap()));
    until("the slot takes a batch", || busy(&farm).len() == 2);
    assert_eq!(farm.snapshot().drained, []);
    farm.hold(false);
    until("the batches end", || farm.tally(&new) == "5 Passed");
    // What does not exist is refused.
    for kind in
        [drain("local/2", None), drain("nowhere", None), RequestKind::Resume("local".parse().unwrap())]
    {
        ask(&farm, kind);
    }
    assert_eq!(farm.snapshot().drained, []);
    daemon.signal(Signal::TERM);
    daemon.wait();
}

#[test]
fn a_cancelled_batch_does_not_run_again_until_a_rerun() {
    let farm = Farm::new();
    farm.hold(true);
    let commit = farm.commit("one", "own");
    let daemon = farm.start(&[]);
    until("a batch runs", || !busy(&farm).is_empty());
    let batch = farm.snapshot().executors[0].batch.clone().unwrap();
    let cancel =
        |started| RequestKind::CancelBatch(CancelBatch { host: "local".parse().unwrap(), slot: 0, started });
    ask(&farm, cancel(batch.started - 60));
    assert!(farm.snapshot().executors[0].batch.is_some(), "another batch is not cancelled");
    ask(&farm, cancel(batch.started));
    let cancelled = batch.subtests as usize;
    until("its tests have a verdict", || {
        farm.statuses(&commit).values().filter(|status| *status == "Failed to run").count() == cancelled
    });
    // The published file of the commit follows the files of its tests.
    let found = || {
        let entries = farm.reader().commit(&commit).unwrap()?.entries;
        entries.into_iter().find(|it| it.decisive.status == model::Status::FailedToRun)
    };
    until("it is published", || found().is_some());
    let found = found().unwrap();
    let reason = found.decisive.reason.clone().unwrap();
    assert!(reason.starts_with("cancelled by "), "{reason}");
    farm.hold(false);
    let rest = format!("{cancelled} Failed to run, {} Passed", 5 - cancelled);
    until("the others pass", || farm.tally(&commit) == rest);
    daemon.signal(Signal::TERM);
    daemon.wait();
    farm.once();
    assert_eq!(farm.tally(&commit), rest, "not after a restart either");
    farm.ask_rerun(&commit, found.key.as_str());
    farm.once();
    assert_eq!(farm.statuses(&commit)[found.key.as_str()], "Passed");
}

#[test]
fn a_paused_branch_runs_nothing_new_until_it_is_resumed() {
    let farm = Farm::new();
    let old = farm.commit("old", "own");
    farm.once();
    let daemon = farm.start(&[]);
    let branch: model::BranchRef = "u/next".parse().unwrap();
    let pause = |branch: &model::BranchRef| {
        RequestKind::PauseBranch(PauseBranch { branch: branch.clone(), reason: None })
    };
    until("it is fetched", || farm.snapshot().branches.iter().any(|it| it.fetched.is_some()));
    ask(&farm, pause(&"u/none".parse().unwrap()));
    ask(&farm, pause(&branch));
    until("it is shown", || farm.snapshot().paused.len() == 1);
    assert_eq!(farm.snapshot().paused[0].branch, branch);
    let new = farm.commit("new", "own");
    daemon.signal(Signal::USR1);
    let tip = |commit: &model::CommitId| {
        farm.snapshot().branches.iter().any(|it| it.tip.as_deref() == Some(commit.as_str()))
    };
    until("it is fetched", || tip(&new));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!((farm.tally(&new).as_str(), farm.tally(&old).as_str()), ("", "5 Passed"));
    // A rerun that a user requests runs nevertheless.
    farm.ask_rerun(&old, "t.one.a");
    until("the rerun ends", || farm.attempts(&old, "t.one.a").len() == 2);
    daemon.signal(Signal::KILL);
    daemon.wait();
    farm.once();
    assert_eq!(farm.tally(&new), "", "the pause survives a restart");
    let daemon = farm.start(&[]);
    until("the daemon runs", || farm.snapshot().paused.len() == 1);
    ask(&farm, RequestKind::ResumeBranch(branch));
    until("it runs", || farm.tally(&new) == "5 Passed");
    daemon.signal(Signal::TERM);
    daemon.wait();
}
