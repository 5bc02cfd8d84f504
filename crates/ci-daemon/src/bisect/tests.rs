//! Bisections on a simulated farm: each run is an attempt in a store, as on a real one.

use std::cell::RefCell;

use belief::bisect::{Arm, Limit, Revert, Why};
use model::Status;
use results::Attempt;
use results::requests::BisectRange;

use super::changes::Suspects;
use super::range::Chain;
use super::*;
use crate::plan::fixture;

const HEAD: u32 = 16;

/// A farm with a test that gives `outcome` in the attempt with a number at a commit.
struct SimulatedFarm<F> {
    store: RefCell<HashMap<JobRef, TestEntry>>,
    has_test: bool,
    outcome: F,
    /// A merge, and the commits that it merged, oldest first.
    merge: Option<(u32, Vec<u32>)>,
    /// The revert of each commit.
    revert: Option<u32>,
    /// A commit that changes code that the test runs.
    covered: Option<u32>,
    /// The suspects whose changes were asked for.
    asked: RefCell<Vec<Suspects>>,
}

fn key() -> ResultKey {
    "a.s0".parse().unwrap()
}

fn name(at: u32) -> JobRef {
    JobRef { commit: commit(at), key: key() }
}

/// Its first digits are its number.
fn commit(at: u32) -> CommitId {
    format!("{at:08x}{at:032x}").parse().unwrap()
}

fn number(commit: &CommitId) -> u32 {
    u32::from_str_radix(&commit.as_str()[..8], 16).unwrap()
}

fn failed(reason: &str) -> Attempt {
    Attempt { reason: Some(reason.into()), ..Attempt::new(Status::Failed) }
}

/// The attempt with a kernel of the commit's own.
fn with_kernel(at: u32, attempt: Attempt) -> Attempt {
    let kernel = Some(testkit::results_fixture::kernel_id("k"));
    Attempt { kernel, image_hash: Some(format!("image {at}").into()), ..attempt }
}

/// Fails from the culprit on.
fn broken_by(culprit: u32) -> impl Fn(u32, u32) -> Attempt {
    move |at, _| with_kernel(at, if at >= culprit { failed("lost 3") } else { Attempt::new(Status::Passed) })
}

/// A number from 0 to 99 that looks random.
fn percent(at: u32, attempt: u32) -> u64 {
    let mut word = (u64::from(at) << 32 | u64::from(attempt)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3 {
        word = (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    (word >> 33) % 100
}

impl<F: Fn(u32, u32) -> Attempt> SimulatedFarm<F> {
    fn new(outcome: F) -> Self {
        Self {
            store: RefCell::default(),
            has_test: true,
            outcome,
            merge: None,
            revert: None,
            covered: None,
            asked: RefCell::default(),
        }
    }

    /// Executes a run.
    fn run(&self, at: u32) {
        let mut store = self.store.borrow_mut();
        let count = store.get(&name(at)).map_or(0, TestEntry::attempts) + 1;
        let attempt = Attempt { number: count, ..(self.outcome)(at, count) };
        match store.get_mut(&name(at)) {
            Some(entry) => entry.others.push(attempt),
            None => {
                let entry = TestEntry { key: key(), decisive: attempt, others: Vec::new() };
                store.insert(name(at), entry);
            }
        }
    }

    fn runs(&self, at: u32) -> u32 {
        self.store.borrow().get(&name(at)).map_or(0, TestEntry::attempts)
    }

    fn begin(&self, bisections: &mut Bisections, range: Option<(u32, u32)>) -> Result<String, BisectError> {
        let info = |at: u32| CommitInfo {
            id: commit(at),
            message: String::new(),
            parents: at.checked_sub(1).map(commit).into_iter().chain(self.second_parent(at)).collect(),
            time: 0,
            tree: String::new(),
            author: String::new(),
        };
        let listed: Vec<CommitInfo> = (0..=HEAD).rev().map(info).collect();
        let store = self.store.borrow();
        let entries = store.iter().map(|(name, entry)| (name.commit.clone(), entry.clone())).collect();
        let range = range.map(|(base, head)| BisectRange { base: commit(base), head: commit(head) });
        bisections.begin(&Asked {
            rechecks: None,
            request: &Bisect { branch: "u/b".parse().unwrap(), key: key(), range },
            account: Some("kmo".into()),
            file: Some("r.json".into()),
            job: &fixture::job(commit(HEAD), "a", "s0"),
            listed: &listed,
            entries: &entries,
            now: 0,
        })
    }

    fn second_parent(&self, at: u32) -> Option<CommitId> {
        let (merge, side) = self.merge.as_ref()?;
        side.last().filter(|_| at == *merge).map(|last| commit(*last))
    }

    /// The answer of the repository.
    fn answer(&self, question: &GitQuestion) -> GitAnswer {
        match question {
            GitQuestion::Changes(suspects) => {
                self.asked.borrow_mut().push(suspects.clone());
                let covered = self.covered.map(commit).filter(|at| suspects.commits.contains(at));
                let known =
                    |commit| KnownSuspect { commit, change: Change::Covered, passes_on_other_base: false };
                GitAnswer::Changes(covered.map(known).into_iter().collect())
            }
            GitQuestion::Merged(merge) => {
                let side = self.merge.as_ref().filter(|(at, _)| commit(*at) == *merge);
                let commits = |side: &[u32]| side.iter().copied().map(commit).collect();
                let chain =
                    |(_, side): &(u32, Vec<u32>)| Chain { commits: commits(side), merges: Vec::new() };
                GitAnswer::Merged(side.map(chain))
            }
            GitQuestion::Revert { culprit, tip } => GitAnswer::Revert(self.revert.map(|at| Revert {
                culprit: culprit.clone(),
                tip: tip.clone(),
                commit: commit(at),
            })),
        }
    }

    /// A round, with the answer to what the suspects change.
    fn round(&self, bisections: &mut Bisections, idle: usize, now: i64) -> Round {
        let asked = bisections.round(self, idle, now);
        let [(id, _, question @ GitQuestion::Changes(_))] = asked.ask.as_slice() else { return asked };
        assert!(asked.submit.is_empty() && !asked.write.is_empty(), "{asked:?}");
        bisections.answered(id, self.answer(question), self);
        let next = bisections.round(self, idle, now);
        Round { write: if next.write.is_empty() { asked.write } else { next.write }, ..next }
    }

    /// Runs the bisections until none is left. `between` is called with the records of each round that asks nothing.
    fn drive(
        &self,
        bisections: &mut Bisections,
        idle: usize,
        mut between: impl FnMut(&mut Bisections, &[(String, String)]),
    ) -> BisectionRecord {
        let mut last = None;
        for now in 0..2000 {
            let round = bisections.round(self, idle, now);
            if let Some((_, text)) = round.write.last() {
                last = Some(serde_json::from_str(text).unwrap());
            }
            for (id, _, question) in &round.ask {
                bisections.answered(id, self.answer(question), self);
            }
            if round.ask.is_empty() {
                between(bisections, &round.write);
            }
            if bisections.is_empty() {
                return last.unwrap();
            }
            for job in round.submit {
                self.run(number(&job.commit));
                bisections.attempted(&job.name());
                bisections.ended(&job, &Outcome::Done, now);
            }
        }
        panic!("the bisection does not end: {last:?}");
    }

    /// The same with a daemon that is killed after each round and continues from the record, also between two searches. Returns the
    /// number of restarts, too.
    fn drive_with_restarts(&self, bisections: &mut Bisections) -> (BisectionRecord, usize) {
        let (mut restarts, mut last) = (0, None);
        let end = self.drive(bisections, 2, |bisections, records| {
            last = records.last().map(|(_, text)| text.clone()).or(last.take());
            let record: BisectionRecord = serde_json::from_str(last.as_ref().unwrap()).unwrap();
            if !record.record.state.is_final() {
                let mut restarted = Bisections::default();
                restarted.resume(record, self).unwrap();
                *bisections = restarted;
                restarts += 1;
            }
        });
        (end, restarts)
    }

    fn bisect(&self, range: (u32, u32), idle: usize) -> BisectionRecord {
        let mut bisections = Bisections::default();
        self.begin(&mut bisections, Some(range)).unwrap();
        self.drive(&mut bisections, idle, |_, _| {})
    }
}

impl<F: Fn(u32, u32) -> Attempt> Bench for SimulatedFarm<F> {
    fn entry(&self, job: &JobRef) -> Option<TestEntry> {
        self.store.borrow().get(job).cloned()
    }

    fn job(&self, _: &BranchRef, job: &JobRef) -> Option<PlannedJob> {
        let job = fixture::job(job.commit.clone(), "a", "s0");
        self.has_test.then_some(job)
    }

    fn tip(&self, _: &BranchRef) -> Option<CommitId> {
        Some(commit(HEAD))
    }
}

fn found(culprit: u32) -> State {
    let (culprit, parent) = (commit(culprit), commit(culprit - 1));
    State::Culprit { culprit, parent, second_parent: None }
}

#[test]
fn a_break_is_found_and_verified_and_what_is_known_is_not_run_again() {
    for (idle, culprit) in [(0, 1), (0, 11), (4, 5), (8, 16)] {
        let farm = SimulatedFarm::new(broken_by(culprit));
        [0, HEAD].into_iter().for_each(|at| farm.run(at));
        let found_now = farm.bisect((0, HEAD), idle);
        let record = &found_now.record;
        assert_eq!(record.state, found(culprit), "{idle} {record:?}");
        assert!(record.verification.unwrap().confirmed);
        let attempts: u32 = (0..=HEAD).map(|at| farm.runs(at)).sum();
        assert_eq!(record.runs + 2, attempts, "each attempt is counted once");
        assert!(record.runs <= 60 && record.builds <= 16, "{} {}", record.runs, record.builds);
        assert!(record.steps.iter().filter(|step| step.why == Why::Known).all(|step| step.runs == 1));
        assert!(found_now.pending.is_empty() && found_now.requested_by.as_deref() == Some("kmo"));
        assert!(record.summary().starts_with("first bad commit "), "{}", record.summary());
    }
    // With all verdicts in the store, nothing is left to search.
    let farm = SimulatedFarm::new(broken_by(7));
    (0..3).for_each(|_| (0..=HEAD).for_each(|at| farm.run(at)));
    let record = farm.bisect((0, HEAD), 8).record;
    assert_eq!(record.state, found(7));
    assert!(record.steps.iter().all(|step| !matches!(step.why, Why::Selected { .. })), "{:?}", record.steps);
}

#[test]
fn a_test_that_fails_in_30_percent_of_the_runs() {
    for culprit in [3, 8, 13] {
        let outcome = |at: u32, attempt: u32| {
            let fails = at >= culprit && percent(at, attempt) < 30;
            with_kernel(at, if fails { failed("lost 3") } else { Attempt::new(Status::Passed) })
        };
        let farm = SimulatedFarm::new(outcome);
        (0..20).for_each(|_| farm.run(HEAD));
        let record = farm.bisect((0, HEAD), 2).record;
        assert_eq!(record.state, found(culprit), "{record:?}");
    }
}

#[test]
fn a_restart_after_any_round_changes_nothing() {
    let outcome = |at: u32, attempt: u32| match at {
        4 => Attempt::new(Status::FailedToRun),
        9.. if percent(at, attempt) < 60 => with_kernel(at, failed("lost 3")),
        _ => with_kernel(at, Attempt::new(Status::Passed)),
    };
    let straight = SimulatedFarm::new(outcome);
    (0..3).for_each(|_| straight.run(HEAD));
    let expected = straight.bisect((0, HEAD), 3);
    assert_eq!(expected.record.state, found(9), "{expected:?}");
    let farm = SimulatedFarm::new(outcome);
    (0..3).for_each(|_| farm.run(HEAD));
    let mut bisections = Bisections::default();
    farm.begin(&mut bisections, Some((0, HEAD))).unwrap();
    let mut written = None;
    let end = farm.drive(&mut bisections, 3, |bisections, records| {
        // The last record that was written may be older than this round.
        written = records.last().map(|(_, text)| text.clone()).or(written.take());
        let record: BisectionRecord = serde_json::from_str(written.as_ref().unwrap()).unwrap();
        let jobs = bisections.running.values().flat_map(|running| running.submitted.keys().cloned());
        let jobs: Vec<CommitId> = jobs.collect();
        let mut restarted = Bisections::default();
        restarted.resume(record, &farm).unwrap();
        for running in restarted.running.values_mut() {
            running.submitted = jobs.iter().map(|commit| (commit.clone(), None)).collect();
        }
        *bisections = restarted;
    });
    assert_eq!(end.record.state, expected.record.state);
    assert!(end.record.verification.unwrap().confirmed);
}

#[test]
fn a_daemon_that_is_killed_before_it_writes_counts_the_attempts_that_it_has() {
    let farm = SimulatedFarm::new(broken_by(6));
    [0, HEAD].into_iter().for_each(|at| farm.run(at));
    let mut bisections = Bisections::default();
    farm.begin(&mut bisections, Some((0, HEAD))).unwrap();
    let round = farm.round(&mut bisections, 4, 0);
    let record: BisectionRecord = serde_json::from_str(&round.write[0].1).unwrap();
    assert_eq!((round.submit.len(), record.pending.len()), (4, 4));
    assert!(round.submit.iter().all(|job| job.purpose == Purpose::Bisect));
    // Two of the runs end, and the daemon is killed.
    round.submit[..2].iter().for_each(|job| farm.run(number(&job.commit)));
    let mut restarted = Bisections::default();
    restarted.resume(record, &farm).unwrap();
    let next = farm.round(&mut restarted, 0, 5);
    let record: BisectionRecord = serde_json::from_str(&next.write[0].1).unwrap();
    assert_eq!((record.record.runs, record.pending.len()), (2, 2));
    let again: Vec<&CommitId> = next.submit.iter().map(|job| &job.commit).collect();
    assert_eq!(again, round.submit[2..].iter().map(|job| &job.commit).collect::<Vec<_>>());
    let mut driven = restarted;
    for job in next.submit {
        farm.run(number(&job.commit));
        driven.attempted(&job.name());
        driven.ended(&job, &Outcome::Done, 6);
    }
    assert_eq!(farm.drive(&mut driven, 1, |_, _| {}).record.state, found(6));
}

#[test]
fn commits_that_do_not_build_are_run_once_and_remain_suspects() {
    let outcome = |at: u32, _: u32| match at {
        8..=10 => Attempt { reason: Some("no kernel".into()), ..Attempt::new(Status::FailedToRun) },
        11.. => with_kernel(at, failed("lost 3")),
        _ => with_kernel(at, Attempt::new(Status::Passed)),
    };
    let farm = SimulatedFarm::new(outcome);
    farm.run(HEAD);
    let record = farm.bisect((0, HEAD), 0).record;
    let State::Range { range, because } = &record.state else { panic!("{record:?}") };
    assert_eq!((number(&range.oldest), number(&range.newest)), (8, 11));
    assert_eq!(*because, Limit::DoesNotBuild);
    assert!((8..=10).all(|at| farm.runs(at) <= 1));
    // A subtest that never has a verdict is not run for ever.
    let farm = SimulatedFarm::new(|at, _| match at {
        HEAD => with_kernel(at, failed("lost 3")),
        _ => with_kernel(at, Attempt::new(Status::NotRun)),
    });
    farm.run(HEAD);
    let record = farm.bisect((0, HEAD), 0).record;
    assert!(matches!(record.state, State::Unresolved { .. } | State::Range { .. }), "{:?}", record.state);
    assert!((0..HEAD).all(|at| farm.runs(at) <= 3));
}

#[test]
fn without_a_culprit_and_at_the_end_of_the_budget() {
    let outcome = |at: u32, attempt: u32| {
        with_kernel(
            at,
            if percent(at, attempt) < 50 { failed("lost 3") } else { Attempt::new(Status::Passed) },
        )
    };
    let farm = SimulatedFarm::new(outcome);
    (0..9).for_each(|_| farm.run(HEAD));
    let record = farm.bisect((0, HEAD), 1).record;
    assert!(matches!(record.state, State::NotConfirmed { .. }), "{:?}", record.state);
    // Other failures are no observations, but runs.
    let farm = SimulatedFarm::new(|at, attempt| {
        with_kernel(at, failed(if at == HEAD && attempt == 1 { "lost 3" } else { "out of memory" }))
    });
    farm.run(HEAD);
    let record = farm.bisect((0, HEAD), 7).record;
    assert!(record.state.is_final() && record.runs <= 400 + 8, "{} {:?}", record.runs, record.state);
    assert!(!matches!(record.state, State::Culprit { .. }), "{:?}", record.state);
}

#[test]
fn a_test_that_vanished_is_waited_for() {
    let mut farm = SimulatedFarm::new(broken_by(6));
    [0, HEAD].into_iter().for_each(|at| farm.run(at));
    let mut bisections = Bisections::default();
    let id = farm.begin(&mut bisections, Some((0, HEAD))).unwrap();
    farm.has_test = false;
    let round = farm.round(&mut bisections, 2, 0);
    assert!(round.submit.is_empty());
    let record: BisectionRecord = serde_json::from_str(&round.write[0].1).unwrap();
    assert_eq!(record.waits_for.as_deref(), Some("no test group of the branch u/b has the test"));
    assert!(farm.round(&mut bisections, 2, 1).write.is_empty(), "nothing changed");
    farm.has_test = true;
    let mut again = Bisections::default();
    again.resume(record, &farm).unwrap();
    assert_eq!(farm.drive(&mut again, 2, |_, _| {}).record.state, found(6));
    // After a week, it ends.
    farm.has_test = false;
    let late = farm.round(&mut bisections, 2, 8 * 24 * 3600);
    let record: BisectionRecord = serde_json::from_str(&late.write[0].1).unwrap();
    assert!(record.record.state.is_final() && bisections.is_empty(), "{:?}", record.record.state);
    assert!(bisections.cancel(&id).is_err());
}

#[test]
fn a_run_that_the_farm_gives_up_is_no_observation() {
    let farm = SimulatedFarm::new(broken_by(6));
    [0, HEAD].into_iter().for_each(|at| farm.run(at));
    let mut bisections = Bisections::default();
    farm.begin(&mut bisections, Some((0, HEAD))).unwrap();
    let mut record = None;
    // A host that cannot run anything.
    for now in 0..1000 {
        let round = farm.round(&mut bisections, 1, now);
        record = round.write.last().map(|(_, text)| text.clone()).or(record);
        let outcome = Outcome::Abandoned { reason: "no disk".into() };
        round.submit.iter().for_each(|job| bisections.ended(job, &outcome, now));
    }
    let record: BisectionRecord = serde_json::from_str(&record.unwrap()).unwrap();
    assert!(bisections.is_empty() && record.record.state.is_final(), "{:?}", record.record.state);
    let counts = record.given_up.values();
    assert!(counts.len() == HEAD as usize + 1 && counts.max() == Some(&3), "{:?}", record.given_up);
    // A removed job is submitted again, and one without an attempt is given up after a time.
    let mut bisections = Bisections::default();
    farm.begin(&mut bisections, Some((0, HEAD))).unwrap();
    let first = farm.round(&mut bisections, 1, 0).submit;
    bisections.ended(&first[0], &Outcome::Removed, 0);
    let again = farm.round(&mut bisections, 0, 1).submit;
    assert_eq!(again, first);
    bisections.ended(&again[0], &Outcome::Done, 2);
    assert!(farm.round(&mut bisections, 0, 3).submit.is_empty());
    assert!(!farm.round(&mut bisections, 0, 2 + NO_ATTEMPT).submit.is_empty());
}

#[test]
fn requests_that_have_no_answer() {
    let farm = SimulatedFarm::new(broken_by(6));
    [0, 5, 9, HEAD].into_iter().for_each(|at| farm.run(at));
    let mut bisections = Bisections::default();
    let mut ask = |range| farm.begin(&mut bisections, range).map_err(|error| error.to_string());
    let short = |at: u32| commit(at).short().to_owned();
    for (range, reason) in [
        ((3, 3), format!("base and head are the same commit, {}", short(3))),
        ((9, 5), format!("{} is newer than {}; give the older commit first", short(9), short(5))),
        ((0, 99), format!("{} is not among the commits of the branch", short(99))),
        (
            (99, 9),
            format!("{} is not on the first-parent history of {}; use a base that is", short(99), short(9)),
        ),
        ((0, 5), format!("the test has no failure at {}", short(5))),
        ((0, 7), format!("the test has no failure at {}", short(7))),
    ] {
        assert_eq!(ask(Some(range)), Err(reason));
    }
    // Without a range: the newest pass before the failures, and the oldest of them.
    let found = ask(None).unwrap();
    assert!(found.starts_with(&format!("{}-{}-", short(5), short(9))), "{found}");
    assert_eq!(ask(None), Err(format!("bisection {found} is running already")));
    assert_eq!(ask(Some((8, 9))).map(|other| other == found), Ok(false), "one suspect is verified");
    for base in 0..8 {
        let _ = ask(Some((base, HEAD)));
    }
    for base in 0..8 {
        let _ = ask(Some((base, 9)));
    }
    assert!(ask(Some((7, HEAD))).is_err());
    assert!(bisections.running.len() <= RUNNING_MAX);
    let none = SimulatedFarm::new(broken_by(6));
    none.run(HEAD);
    let error = none.begin(&mut Bisections::default(), None).unwrap_err().to_string();
    assert_eq!(
        error,
        "the test fails at no commit of this branch; for a test that is only flaky, give BASE..HEAD"
    );
}

#[test]
fn commits_that_change_code_that_the_test_ran_are_run_first() {
    let first_built = |covered| {
        let farm = SimulatedFarm { covered, ..SimulatedFarm::new(broken_by(14)) };
        [0, HEAD].into_iter().for_each(|at| farm.run(at));
        let record = farm.bisect((0, HEAD), 1).record;
        assert_eq!(record.state, found(14));
        let suspects = farm.asked.take();
        assert_eq!(suspects.len(), 1, "asked once");
        assert_eq!(suspects[0].commits, (1..=HEAD).map(commit).collect::<Vec<_>>());
        assert_eq!((suspects[0].ran_at.len(), suspects[0].kernels.len()), (17, 2));
        let mut others = record.steps.iter().map(|step| number(&step.commit));
        others.find(|at| ![0, HEAD].contains(at)).unwrap()
    };
    let of_none = first_built(None);
    assert!(first_built(Some(14)) > of_none && first_built(Some(2)) < of_none);
}

#[test]
fn a_cancelled_bisection_ends() {
    let farm = SimulatedFarm::new(broken_by(6));
    [0, HEAD].into_iter().for_each(|at| farm.run(at));
    let mut bisections = Bisections::default();
    let id = farm.begin(&mut bisections, None).unwrap();
    farm.round(&mut bisections, 1, 0);
    bisections.cancel(&id).unwrap();
    let record: BisectionRecord =
        serde_json::from_str(&farm.round(&mut bisections, 1, 1).write[0].1).unwrap();
    assert_eq!((record.record.state, record.pending.len()), (State::Cancelled, 0));
    assert!(bisections.is_empty());
}

/// A merge at 9 of the commits 101 to 105, of which those from 103 on fail.
fn merged_break() -> SimulatedFarm<impl Fn(u32, u32) -> Attempt> {
    let mut farm = SimulatedFarm::new(|at, _| {
        let fails = matches!(at, 9..=HEAD | 103..=105);
        with_kernel(at, if fails { failed("lost 3") } else { Attempt::new(Status::Passed) })
    });
    farm.merge = Some((9, (101..=105).collect()));
    [0, HEAD].into_iter().for_each(|at| farm.run(at));
    farm
}

#[test]
fn the_search_continues_in_the_commits_of_a_merge() {
    let farm = merged_break();
    let mut bisections = Bisections::default();
    let id = farm.begin(&mut bisections, Some((0, HEAD))).unwrap();
    let (end, restarts) = farm.drive_with_restarts(&mut bisections);
    let record = &end.record;
    let (culprit, parent) = (commit(103), commit(102));
    assert_eq!(record.state, State::Culprit { culprit, parent, second_parent: None }, "{record:?}");
    assert!(restarts > 10 && record.verification.unwrap().confirmed && record.id == id);
    let [outer] = &record.outer[..] else { panic!("{:?}", record.outer) };
    assert!(
        matches!(&outer.state, State::Culprit { culprit, second_parent: Some(_), .. } if *culprit == commit(9))
    );
    assert_eq!((record.merge(), end.range()), (Some(&commit(9)), (&commit(0), &commit(HEAD))));
    assert_eq!((number(&record.base), number(&record.head)), (8, 9));
    let summary =
        format!("first bad commit {}, in merge {}, posterior ", commit(103).short(), commit(9).short());
    assert!(record.summary().starts_with(&summary), "{}", record.summary());
    assert!((0..=HEAD).chain(101..=105).all(|at| end.has_commit(&commit(at))));
    let attempts: u32 = (0..=HEAD).chain(101..=105).map(|at| farm.runs(at)).sum();
    assert_eq!(record.all_runs().0 + 2, attempts, "each attempt is counted once");
    let known = |at| record.steps.iter().any(|step| step.why == Why::Known && step.commit == commit(at));
    // In the merge, coverage of any commit of the range counts.
    let asked = farm.asked.take();
    let inner = asked.iter().find(|suspects| suspects.commits[0] == commit(101)).unwrap();
    assert!(inner.ran_at.ends_with(&[commit(1), commit(0)]) && inner.ran_at[0] == commit(9), "{inner:?}");
    assert!(known(9) && is_readable(&end));
}

/// Whether the record is one that the next daemon can read.
fn is_readable(found: &BisectionRecord) -> bool {
    let (dir, id) = (tempfile::tempdir().unwrap(), &found.record.id);
    bisections::write(dir.path(), id, &bisections::text(found)).unwrap();
    bisections::read(dir.path(), id) == Ok(Some(found.clone()))
}

#[test]
fn without_its_commits_the_merge_is_the_result() {
    let mut farm = merged_break();
    let Some((merge, side)) = farm.merge.take() else { unreachable!() };
    let mut bisections = Bisections::default();
    let with_merge = SimulatedFarm { merge: Some((merge, side)), ..merged_break() };
    with_merge.begin(&mut bisections, Some((0, HEAD))).unwrap();
    // The repository does not have them.
    let record = farm.drive(&mut bisections, 1, |_, _| {}).record;
    let State::Culprit { culprit, second_parent: Some(_), .. } = &record.state else { panic!("{record:?}") };
    assert_eq!((number(culprit), record.outer.len()), (9, 0));
    // Cancelled before the answer: the merge is the result.
    let mut bisections = Bisections::default();
    let id = with_merge.begin(&mut bisections, Some((0, HEAD))).unwrap();
    for now in 0..1000 {
        let round = with_merge.round(&mut bisections, 1, now);
        if let Some((_, _, GitQuestion::Merged(_))) = round.ask.first() {
            break;
        }
        assert!(round.ask.is_empty(), "a merge is not reverted before its commits are searched");
        for job in round.submit {
            with_merge.run(number(&job.commit));
            bisections.attempted(&job.name());
            bisections.ended(&job, &Outcome::Done, now);
        }
    }
    assert!(bisections.is_counting() && with_merge.round(&mut bisections, 1, 1000).write.is_empty());
    bisections.cancel(&id).unwrap();
    let record: BisectionRecord =
        serde_json::from_str(&with_merge.round(&mut bisections, 1, 1001).write[0].1).unwrap();
    assert!(matches!(record.record.state, State::Culprit { .. }) && bisections.is_empty());
    bisections.answered(&id, GitAnswer::Merged(None), &with_merge);
}

#[test]
fn the_newest_commit_is_run_without_the_first_bad_one() {
    const REVERT: u32 = 900;
    let of = |outcome: fn(u32) -> Attempt| {
        let mut farm = SimulatedFarm::new(move |at, _| match at {
            REVERT => outcome(at),
            6.. => with_kernel(at, failed("lost 3")),
            _ => with_kernel(at, Attempt::new(Status::Passed)),
        });
        farm.revert = Some(REVERT);
        [0, HEAD].into_iter().for_each(|at| farm.run(at));
        let mut bisections = Bisections::default();
        farm.begin(&mut bisections, Some((0, HEAD))).unwrap();
        let (end, _) = farm.drive_with_restarts(&mut bisections);
        assert_eq!(end.record.state, found(6));
        assert!(is_readable(&end));
        (end.record, farm.runs(REVERT))
    };
    let (record, runs) = of(|at| with_kernel(at, Attempt::new(Status::Passed)));
    let verification = record.verification.unwrap();
    assert!(verification.revert_fixes && runs == verification.runs_each, "{verification:?}");
    assert_eq!(record.revert.as_ref().map(|revert| &revert.tip), Some(&commit(HEAD)));
    assert!(record.steps.iter().any(|step| step.why == Why::Verification(Arm::Revert)));
    assert!(record.summary().ends_with(", revert fixes it"), "{}", record.summary());
    let (record, _) = of(|at| with_kernel(at, failed("lost 3")));
    assert!(record.summary().ends_with(", fails 5 of 5 runs with the revert, too"), "{}", record.summary());
    // A revert that cannot be run does not stop the verification.
    let (record, runs) = of(|_| Attempt::new(Status::FailedToRun));
    assert_eq!((record.revert, runs <= 2), (None, true), "{runs}");
    let (record, runs) = of(|at| with_kernel(at, Attempt::new(Status::NotRun)));
    assert_eq!((record.revert, runs <= 6), (None, true), "{runs}");
}
