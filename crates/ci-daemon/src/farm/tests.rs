//! Events, with the commands that the farm is expected to return.

use std::path::Path;

use jobkit::ChoirConfig;
use model::ResultKey;
use results::Writer;
use results::notes::RequestEnd;
use results::requests::Bisect;

use super::*;
use crate::watch::branches::FetchedBranch;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn view(dir: &Path) -> View {
    let path = dir.join("ci.toml");
    let text = format!(
        "linux_repo = \"{0}\"\noutput_dir = \"{0}\"\nktest_dir = \"{0}\"\nuser = \"kmo\"\n\
         [test_group.g]\ntests = [\"boot.ktest\"]\n[branch.next]\nremote = \"/r\"\ntest_groups = [\"g\"]\n",
        dir.display()
    );
    std::fs::write(&path, text).unwrap();
    let info = gitio::CommitInfo {
        id: COMMIT.parse().unwrap(),
        message: "one".into(),
        parents: Vec::new(),
        time: 1,
        tree: String::new(),
        author: String::new(),
    };
    let branch = FetchedBranch { commits: [info].into(), fetched: Some(1), ..FetchedBranch::default() };
    View {
        config: Arc::new(config::load(&path).unwrap()),
        branches: [("kmo/next".parse().unwrap(), branch)].into(),
        suites: BTreeMap::new(),
        listings: [(("boot".parse().unwrap(), model::Env::default()), ["boots".parse().unwrap()].into())]
            .into(),
        known_issues: std::sync::Arc::default(),
        problems: Vec::new(),
        complete: true,
    }
}

fn request(kind: RequestKind) -> FarmEvent {
    FarmEvent::Request(TakenRequest { kind, requester: None, file: "r".into() })
}

fn rerun(key: &str) -> FarmEvent {
    let (commit, key) = (COMMIT.parse().unwrap(), key.parse::<ResultKey>().unwrap());
    request(RequestKind::Rerun(Rerun { commit, key }))
}

#[tokio::test]
async fn events_lead_to_commands() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let choir = Choir::new(ChoirConfig::default());
    let mut ends = choir.ends();
    let (view, verdicts) = (view(dir.path()), RecordedVerdicts::new(writer.clone()));
    let identity = Identity { started: 1, pid: 2 };
    let mut farm = Farm::new(view.clone(), choir.clone(), verdicts, dir.path().into(), identity);
    assert_eq!(farm.take_view(view, HashMap::new()), []);
    assert_eq!((choir.pending_len(), farm.left(10)), (1, 1));
    // Requests that cannot be carried out are finished.
    let refused = |reason: &str| [Command::FinishRequest("r".into(), RequestEnd::Refused(reason.into()))];
    let unknown = "no branch of the configuration has this test at this commit";
    assert_eq!(farm.handle(rerun("boot.nothing")), refused(unknown));
    let bisect =
        Bisect { branch: "kmo/gone".parse().unwrap(), key: "boot.boots".parse().unwrap(), range: None };
    let unknown = "no test group of this branch has this test";
    assert_eq!(farm.handle(request(RequestKind::Bisect(bisect.clone()))), refused(unknown));
    let bisect = Bisect { branch: "kmo/next".parse().unwrap(), ..bisect };
    let no_range =
        "the test fails at no commit of this branch; for a test that is only flaky, give BASE..HEAD";
    assert_eq!(farm.handle(request(RequestKind::Bisect(bisect))), refused(no_range));
    let cancel = RequestKind::CancelBisection("../x".into());
    assert_eq!(farm.handle(request(cancel)), refused("no such bisection is running"));
    let configured = request(RequestKind::Unlist("kmo/next".parse().unwrap()));
    assert_eq!(farm.handle(configured), refused("the branch is in the configuration"));
    let old: BranchRef = "kmo/old".parse().unwrap();
    let unlist = Command::Unlist { branch: old.clone(), request: "r".into() };
    assert_eq!(farm.handle(request(RequestKind::Unlist(old))), [unlist]);
    // A rerun of a planned job makes it run sooner, and its request is finished with the job.
    assert_eq!(farm.handle(rerun("boot.boots")), []);
    assert_eq!(choir.pending_len(), 1);
    let removed = ends.recv().await.unwrap();
    let job = Arc::new(PlannedJob { purpose: Purpose::Requested, ..PlannedJob::clone(&removed.payload) });
    let done = End { payload: job.clone(), outcome: Outcome::Done, ..removed.clone() };
    let finish = Command::FinishRequest("r".into(), RequestEnd::Done);
    assert_eq!(farm.handle(FarmEvent::JobEnded(done)), [finish]);
    // A job that the scheduler gave up gets a verdict.
    let reason = "no space left".to_owned();
    let outcome = Outcome::Abandoned { reason: reason.clone() };
    let job = removed.payload.clone();
    let commands = farm.handle(FarmEvent::JobEnded(End { outcome, ..removed }));
    assert_eq!(commands, [Command::RecordAbandoned { job, reason }]);
    // Without executors, the rerun cannot be placed.
    let problems = farm.snapshot(&["disk full".into()], 5).problems;
    assert!(problems.len() == 2 && problems[0] == "disk full", "{problems:?}");
    assert!(problems[1].starts_with("no host has arch="), "{problems:?}");
    // A build that differs from a clean one is the first problem, and only the newest ones are kept.
    for at in 0..10 {
        farm.handle(FarmEvent::Executor(ExecutorEvent::CachedBuildDiffers(format!("alarm {at}"))));
    }
    let problems = farm.snapshot(&[], 5).problems;
    assert_eq!(problems[..5], ["alarm 5", "alarm 6", "alarm 7", "alarm 8", "alarm 9"], "{problems:?}");
    writer.close().await.unwrap();
}

#[tokio::test]
async fn a_test_that_fails_only_under_load_has_a_batch_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let choir = Choir::new(ChoirConfig::default());
    let mut ends = choir.ends();
    let mut view = view(dir.path());
    let names = ["boots", "hangs"].map(|name| name.parse().unwrap());
    view.listings = [(("boot".parse().unwrap(), model::Env::default()), names.into())].into();
    let verdicts = RecordedVerdicts::new(writer.clone());
    let identity = Identity { started: 1, pid: 2 };
    let mut farm = Farm::new(view.clone(), choir.clone(), verdicts, dir.path().into(), identity);
    farm.run_alone(Arc::new(["boot.hangs".parse().unwrap()].into()));
    farm.take_view(view, HashMap::new());
    choir.remove_where(|_| true);
    let mut keys = Vec::new();
    for _ in 0..2 {
        let job = ends.recv().await.unwrap().payload;
        keys.push((job.key.to_string(), job.alone, job.batch_key().ends_with(" alone")));
    }
    assert_eq!(keys, [("boot.boots".into(), false, false), ("boot.hangs".into(), true, true)]);
    writer.close().await.unwrap();
}

#[tokio::test]
async fn a_request_waits_for_the_branches() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let choir = Choir::new(ChoirConfig::default());
    let full = view(dir.path());
    let empty = View { branches: BTreeMap::new(), complete: false, ..full.clone() };
    let identity = Identity { started: 1, pid: 2 };
    let verdicts = RecordedVerdicts::new(writer.clone());
    let mut farm = Farm::new(empty.clone(), choir.clone(), verdicts, dir.path().into(), identity);
    assert_eq!(farm.take_view(empty.clone(), HashMap::new()), []);
    assert_eq!((farm.handle(rerun("boot.boots")), farm.handle(rerun("boot.nothing"))), (vec![], vec![]));
    assert_eq!(farm.take_view(empty, HashMap::new()), []);
    // The branch arrives while others are still being fetched: one request is carried out, the other still waits.
    assert_eq!(farm.take_view(View { complete: false, ..full.clone() }, HashMap::new()), []);
    assert_eq!((choir.pending_len(), farm.waiting.len()), (1, 1));
    let unknown = "no branch of the configuration has this test at this commit".to_owned();
    let refused = Command::FinishRequest("r".into(), RequestEnd::Refused(unknown));
    assert_eq!(farm.take_view(full, HashMap::new()), [refused]);
    assert!(farm.waiting.is_empty());
    writer.close().await.unwrap();
}

#[tokio::test]
async fn claims_for_idle_slots_wait_for_the_branches() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let mut full = view(dir.path());
    let path = dir.path().join("ci.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}[host.local]\nkind = \"local\"\nslots = 1\n")).unwrap();
    full.config = Arc::new(config::load(&path).unwrap());
    let empty = View { branches: BTreeMap::new(), complete: false, ..full.clone() };
    let verdicts = RecordedVerdicts::new(writer.clone());
    let (choir, identity) = (Choir::new(ChoirConfig::default()), Identity { started: 1, pid: 2 });
    let mut farm = Farm::new(empty, choir, verdicts, dir.path().into(), identity);
    let (branch, key) = ("kmo/next".parse().unwrap(), "boot.boots".parse().unwrap());
    farm.set_open_claims(vec![OpenClaim { branch, key, missing: 1 }]);
    assert_eq!((farm.idle(), farm.believe(5), farm.open_claims.len()), (1, vec![], 1));
    farm.view = full;
    // The group has no share.
    assert_eq!((farm.believe(6), farm.open_claims.len()), (vec![], 0));
    writer.close().await.unwrap();
}
