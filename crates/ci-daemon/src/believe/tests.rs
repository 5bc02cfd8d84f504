//! Claims on a simulated farm.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use belief::{Evidence, FixClaim};
use model::ResultKey;
use results::claims::ClaimState;

use super::*;
use crate::plan::fixture;

/// A farm with a test that failed in 3 of 25 attempts: 33 passes are needed.
struct SimulatedFarm {
    /// The attempts at the commit: whether they passed.
    attempts: RefCell<Vec<bool>>,
    look: Cell<Option<Look>>,
    has_test: Cell<bool>,
}

fn key() -> ResultKey {
    "a.s0".parse().unwrap()
}

fn name() -> JobRef {
    JobRef { commit: fixture::commit(0), key: key() }
}

fn failed() -> Verdict {
    Verdict::Failed { reason: "lost 3 files".into() }
}

impl Bench for SimulatedFarm {
    fn look(&self, _: &BranchRef, _: &JobRef, confidence: Confidence) -> Look {
        if let Some(look) = self.look.take() {
            self.look.set(Some(look.clone()));
            return look;
        }
        let mut claim = FixClaim::new(Evidence::new(3, 25).unwrap(), confidence, None);
        for passed in self.attempts.borrow().iter() {
            if *passed {
                claim.passed(Duration::from_secs(1));
            } else {
                claim.failed();
            }
        }
        Look::Claim(claim)
    }

    fn job(&self, _: &BranchRef, job: &JobRef) -> Option<PlannedJob> {
        self.has_test.get().then(|| fixture::job(job.commit.clone(), "a", "s0"))
    }

    fn has_verdict(&self, _: &JobRef) -> bool {
        !self.attempts.borrow().is_empty()
    }
}

impl SimulatedFarm {
    fn new(passes: usize) -> Self {
        Self { attempts: RefCell::new(vec![true; passes]), look: Cell::new(None), has_test: Cell::new(true) }
    }

    fn begin(&self, claims: &mut Claims) -> Result<String, BelieveError> {
        let request = Believe { branch: "u/b".parse().unwrap(), key: key(), confidence: 95 };
        let tip = name().commit;
        let asked = Asked { request: &request, account: Some("kmo".into()), file: None, tip, now: 5 };
        claims.begin(asked, self)
    }

    /// Executes a run.
    fn run(&self, claims: &mut Claims, job: &PlannedJob, passed: bool) {
        self.attempts.borrow_mut().push(passed);
        claims.attempted(job, &if passed { Verdict::Passed } else { failed() });
        claims.ended(&job.name(), &Outcome::Done);
    }
}

fn last(round: &Round) -> ClaimRecord {
    serde_json::from_str(&round.write.last().unwrap().1).unwrap()
}

#[test]
fn exactly_the_missing_runs_are_carried_out() {
    for idle in [0, 1, 4, 100] {
        let (farm, mut claims) = (SimulatedFarm::new(14), Claims::default());
        farm.begin(&mut claims).unwrap();
        let (mut runs, mut record) = (0, None);
        let mut batches = std::collections::HashSet::new();
        for now in 0.. {
            let round = claims.round(&farm, idle, &|_| true, now);
            assert!(round.submit.len() <= idle.max(1) && round.unneeded.is_empty());
            if !round.write.is_empty() {
                record = Some(last(&round));
            }
            if claims.is_empty() {
                break;
            }
            for job in round.submit {
                assert!(batches.insert(job.batch_key()), "each run has a VM of its own");
                assert_eq!(job.value, FIRST);
                runs += 1;
                farm.run(&mut claims, &job, true);
            }
        }
        let record = record.unwrap();
        assert_eq!((runs, record.runs, record.state), (33 - 14, 33 - 14, ClaimState::Fixed), "{idle}");
        assert_eq!(record.to_string(), "fixed: 33 passes, 95 % confidence");
    }
}

#[test]
fn a_failure_ends_a_claim() {
    let (farm, mut claims) = (SimulatedFarm::new(1), Claims::default());
    farm.begin(&mut claims).unwrap();
    assert!(matches!(farm.begin(&mut claims), Err(BelieveError::Running(_))));
    let jobs = claims.round(&farm, 8, &|_| true, 0).submit;
    assert_eq!(jobs.len(), 8);
    for (at, job) in jobs[..7].iter().enumerate() {
        farm.run(&mut claims, job, at != 6);
    }
    let round = claims.round(&farm, 7, &|_| true, 1);
    assert!(round.submit.is_empty() && claims.is_empty());
    assert_eq!(round.unneeded, [name()], "one run is left");
    assert_eq!(last(&round).to_string(), "not fixed: failed in run 7: lost 3 files");
}

#[test]
fn a_commit_without_a_verdict_gets_it_first() {
    let (farm, mut claims) = (SimulatedFarm::new(0), Claims::default());
    farm.begin(&mut claims).unwrap();
    let first = claims.round(&farm, 8, &|_| true, 0).submit;
    assert_eq!((first.len(), claims.round(&farm, 8, &|_| true, 1).submit.len()), (1, 0));
    farm.run(&mut claims, &first[0], true);
    assert_eq!(claims.round(&farm, 8, &|_| true, 2).submit.len(), 8);
    // It fails in its first run.
    farm.look.set(Some(Look::Fails));
    let round = claims.round(&farm, 8, &|_| true, 3);
    assert_eq!(last(&round).state, ClaimState::NotFixed);
}

#[test]
fn a_claim_continues_after_a_restart() {
    let (farm, mut claims) = (SimulatedFarm::new(14), Claims::default());
    farm.begin(&mut claims).unwrap();
    let round = claims.round(&farm, 4, &|_| true, 0);
    let record = last(&round);
    // One run ended, three were killed.
    farm.attempts.borrow_mut().push(true);
    let mut next = Claims::default();
    next.resume(record.clone());
    assert_eq!(next.round(&farm, 100, &|_| true, 1).submit.len(), 33 - 15);
    next = Claims::default();
    next.resume(ClaimRecord { state: ClaimState::Fixed, ..record });
    assert!(next.is_empty());
}

#[test]
fn a_claim_that_cannot_be_proved_ends() {
    let end = |disturb: &dyn Fn(&SimulatedFarm, &mut Claims, &PlannedJob)| {
        let (farm, mut claims) = (SimulatedFarm::new(14), Claims::default());
        farm.begin(&mut claims).unwrap();
        let mut runs = 0;
        for now in 0..100 {
            let round = claims.round(&farm, 1, &|_| true, now);
            runs += round.submit.len();
            if claims.is_empty() {
                return (runs, last(&round).to_string());
            }
            round.submit.iter().for_each(|job| disturb(&farm, &mut claims, job));
        }
        panic!("the claim does not end");
    };
    let skipped = |_: &SimulatedFarm, claims: &mut Claims, job: &PlannedJob| {
        claims.attempted(job, &Verdict::NotRun { reason: "no device".into() });
        claims.ended(&job.name(), &Outcome::Done);
    };
    assert_eq!(end(&skipped), (5, "not proven: 14 of 33 runs: no device".into()));
    let gone = |farm: &SimulatedFarm, claims: &mut Claims, job: &PlannedJob| {
        farm.look.set(Some(Look::Gone));
        claims.ended(&job.name(), &Outcome::Removed);
    };
    assert_eq!(end(&gone).1, "not proven: 14 of 33 runs: the branch no longer has the commit");
    let abandoned = |_: &SimulatedFarm, claims: &mut Claims, job: &PlannedJob| {
        claims.ended(&job.name(), &Outcome::Abandoned { reason: "no host".into() });
    };
    assert_eq!(end(&abandoned), (5, "not proven: 14 of 33 runs: no host".into()));
    let cancelled = |_: &SimulatedFarm, claims: &mut Claims, _: &PlannedJob| {
        let id = claims::id(&key(), &name().commit);
        claims.cancel(&id).unwrap();
        assert!(matches!(claims.cancel("x"), Err(BelieveError::NotRunning)));
    };
    assert_eq!(end(&cancelled), (1, "cancelled: 14 of 33 runs".into()));
}

#[test]
fn a_claim_waits_for_its_branch() {
    let (farm, mut claims) = (SimulatedFarm::new(14), Claims::default());
    farm.look.set(Some(Look::Gone));
    assert!(matches!(farm.begin(&mut claims), Err(BelieveError::NoFix)));
    farm.look.set(None);
    farm.begin(&mut claims).unwrap();
    farm.look.set(Some(Look::Unknown));
    assert!(claims.round(&farm, 8, &|_| true, 0).submit.is_empty() && !claims.is_empty());
    farm.look.set(None);
    farm.has_test.set(false);
    claims.view_changed();
    let round = claims.round(&farm, 8, &|_| true, 1);
    assert_eq!(last(&round).to_string(), "14 of 33 runs: no test group of u/b has the test");
    farm.has_test.set(true);
    assert_eq!(claims.round(&farm, 8, &|_| true, 2).submit.len(), 8);
}

#[test]
fn a_claim_of_the_farm_uses_idle_slots_only() {
    let (farm, mut claims) = (SimulatedFarm::new(31), Claims::default());
    let request = Believe { branch: "u/b".parse().unwrap(), key: key(), confidence: 95 };
    let asked = |account: Option<&str>| Asked {
        request: &request,
        account: account.map(Into::into),
        file: None,
        tip: name().commit,
        now: 5,
    };
    claims.begin(asked(None), &farm).unwrap();
    assert!(claims.has_soak() && matches!(claims.begin(asked(None), &farm), Err(BelieveError::Running(_))));
    assert!(claims.round(&farm, 0, &|_| true, 0).submit.is_empty(), "no slot is idle");
    assert!(claims.round(&farm, 9, &|_| false, 1).submit.is_empty(), "the share is used");
    let jobs = claims.round(&farm, 9, &|_| true, 2).submit;
    assert_eq!((jobs.len(), jobs[0].value, claims.soaking()), (1, i64::MAX, 1));
    assert!(claims.round(&farm, 9, &|_| true, 3).submit.is_empty(), "one run at a time");
    // A user wants it now.
    claims.begin(asked(Some("kmo")), &farm).unwrap();
    assert!(!claims.has_soak() && claims.soaking() == 0);
    farm.run(&mut claims, &jobs[0], true);
    let jobs = claims.round(&farm, 0, &|_| false, 4).submit;
    assert_eq!((jobs.len(), jobs[0].value), (1, FIRST));
}
