//! The search for the first bad commit: each rule, driven as a farm drives it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use belief::bisect::{
    Arm, Budget, Change, Cost, FinishedRun, KernelState, Limit, PlannedRun, Question, QuestionError, Record,
    Revert, State, Suspect, Why, verification_runs,
};
use belief::{Bisection, Outcome, Signature, Tally};
use model::CommitId;
use proptest::prelude::*;

fn commit(at: usize) -> CommitId {
    format!("{at:040x}").parse().unwrap()
}

fn index(commit: &CommitId) -> usize {
    usize::from_str_radix(commit.as_str(), 16).unwrap()
}

fn fails() -> Outcome {
    Outcome::Failed { signature: Signature::new(None, "the failure") }
}

/// A question about this many suspects. The base is commit 0.
fn question(suspects: usize) -> Question {
    Question {
        test: "fs.ext4.basic.punch".parse().unwrap(),
        signature: Signature::new(None, "the failure"),
        base: Suspect { kernel: KernelState::Stored, ..Suspect::new(commit(0)) },
        suspects: (1..=suspects).map(|at| Suspect::new(commit(at))).collect(),
        earlier: Tally::new(0, 20),
        cost: Cost { run: Duration::from_secs(30), build: Duration::from_secs(60) },
        budget: Budget::usual(suspects, Duration::from_secs(3600)),
    }
}

fn finish(bisection: &mut Bisection, planned: PlannedRun, outcome: Outcome) {
    bisection.finished(FinishedRun { planned, outcome, image: None, host: None }).unwrap();
}

/// Runs what is planned until the bisection ends; `outcome` gives the result of each run. Returns the commits that were run by
/// the search.
fn drive(
    bisection: &mut Bisection,
    slots: usize,
    outcome: impl Fn(usize, &PlannedRun) -> Outcome,
) -> Vec<usize> {
    let mut searched = Vec::new();
    while !bisection.state().is_final() {
        let planned = bisection.next(slots, &[]);
        assert!(!planned.is_empty() && planned.len() <= slots, "{planned:?}");
        for run in planned {
            let at = index(&run.commit);
            if matches!(run.why, Why::Selected { .. }) {
                searched.push(at);
            }
            let outcome = outcome(at, &run);
            finish(bisection, run, outcome);
        }
    }
    searched
}

fn from(culprit: usize) -> impl Fn(usize, &PlannedRun) -> Outcome {
    move |at, _| if at >= culprit { fails() } else { Outcome::Passed }
}

#[test]
fn questions_without_an_answer() {
    assert_eq!(Bisection::new(question(0)).err(), Some(QuestionError::NoSuspects));
    let mut twice = question(3);
    twice.suspects[2].commit = commit(0);
    assert_eq!(Bisection::new(twice).err(), Some(QuestionError::Duplicate(commit(0))));
    let mut base = question(3);
    base.base.kernel = KernelState::SameAsParent;
    assert_eq!(Bisection::new(base).err(), Some(QuestionError::Base(commit(0))));
    let mut bisection = Bisection::new(question(3)).unwrap();
    assert!(bisection.known([(&commit(9), &fails())]).is_err());
    assert!(bisection.built(&commit(9), KernelState::Stored).is_err());
}

#[test]
fn a_plain_regression_is_found_and_verified() {
    for culprit in [1, 2, 11, 16] {
        for slots in [1, 3, 8] {
            let mut bisection = Bisection::new(question(16)).unwrap();
            drive(&mut bisection, slots, from(culprit));
            let parent = commit(culprit - 1);
            let expected = State::Culprit { culprit: commit(culprit), parent, second_parent: None };
            assert_eq!(bisection.state(), expected);
            let verification = bisection.record("1").verification.unwrap();
            assert_eq!(verification.culprit, Tally::new(verification.runs_each, 0));
            assert!(verification.confirmed && verification.p <= 0.01);
        }
    }
}

#[test]
fn known_verdicts_are_not_run_again() {
    let mut bisection = Bisection::new(question(16)).unwrap();
    let verdict = |at: usize| (commit(at), from(11)(at, &PlannedRun { commit: commit(at), why: Why::Known }));
    let verdicts: Vec<_> = (0..4).flat_map(|_| (0..=16).map(verdict)).collect();
    bisection.known(verdicts.iter().map(|(commit, outcome)| (commit, outcome))).unwrap();
    assert_eq!(bisection.verifying(), Some(&commit(11)));
    assert_eq!(drive(&mut bisection, 1, from(11)), [0_usize; 0]);
    let record = bisection.record("1");
    assert_eq!(
        record.runs,
        record.steps.iter().filter(|step| step.why != Why::Known).map(|step| step.runs).sum::<u32>()
    );
}

#[test]
fn a_failure_that_is_older_than_the_base_is_not_confirmed() {
    let mut old = question(16);
    old.earlier = Tally::new(20, 20);
    let mut bisection = Bisection::new(old).unwrap();
    let turn = std::cell::Cell::new(0);
    drive(&mut bisection, 1, |_, _| {
        turn.set(turn.get() + 1);
        if turn.get() % 2 == 0 { fails() } else { Outcome::Passed }
    });
    let State::NotConfirmed { rate } = bisection.state() else { panic!("{:?}", bisection.state()) };
    assert!((0.4..0.6).contains(&rate.mean()), "{rate}");
}

#[test]
fn other_failures_and_infrastructure_errors_are_no_observations() {
    let mut bisection = Bisection::new(question(4)).unwrap();
    let before = bisection.probabilities();
    let other = Outcome::Failed { signature: Signature::new(None, "another") };
    for outcome in [other, Outcome::NoVerdict] {
        let run = bisection.next(1, &[]).remove(0);
        finish(&mut bisection, run, outcome);
    }
    assert_eq!(bisection.probabilities(), before);
    let record = bisection.record("1");
    assert_eq!((record.runs, record.steps[0].other, record.steps[0].tally()), (2, 1, Tally::default()));
}

#[test]
fn commits_that_do_not_build_are_suspects_that_are_never_run() {
    let mut bisection = Bisection::new(question(16)).unwrap();
    for at in [9, 10] {
        bisection.built(&commit(at), KernelState::DoesNotBuild).unwrap();
    }
    let searched = drive(&mut bisection, 2, from(10));
    assert!(!searched.contains(&9) && !searched.contains(&10));
    let State::Range { range, because: Limit::DoesNotBuild } = bisection.state() else { panic!() };
    assert_eq!((range.oldest, range.newest, range.commits), (commit(9), commit(11), 3));
    assert_eq!(bisection.record("1").builds, 2);
}

#[test]
fn a_commit_with_the_kernel_of_its_parent_is_no_suspect() {
    let mut same = question(16);
    for at in [10, 11] {
        same.suspects[at - 1].kernel = KernelState::SameAsParent;
    }
    let mut bisection = Bisection::new(same.clone()).unwrap();
    let searched = drive(&mut bisection, 1, from(9));
    assert!(!searched.contains(&10) && !searched.contains(&11));
    assert!(matches!(bisection.state(), State::Culprit { culprit, .. } if culprit == commit(9)));
    // Verdicts of the commit are verdicts of its parent, also those from before this was known.
    let mut bisection = Bisection::new(question(16)).unwrap();
    bisection.known([(&commit(10), &fails())]).unwrap();
    bisection.built(&commit(10), KernelState::SameAsParent).unwrap();
    let mut direct = Bisection::new(same).unwrap();
    direct.kernel(&commit(11), KernelState::ToBuild).unwrap();
    direct.known([(&commit(9), &fails())]).unwrap();
    assert_eq!(bisection.probabilities(), direct.probabilities());
}

#[test]
fn coverage_decides_where_to_look_but_not_what_is_concluded() {
    let mut covered = question(64);
    covered.suspects[50].change = Change::Covered;
    for at in 0..40 {
        covered.suspects[at].change = Change::OutsideBuild;
    }
    let bisection = Bisection::new(covered).unwrap();
    let plain = Bisection::new(question(64)).unwrap();
    assert_eq!(bisection.probabilities(), plain.probabilities());
    let first = |bisection: &Bisection| index(&bisection.next(1, &[])[0].commit);
    assert!(first(&bisection) > first(&plain), "{} {}", first(&bisection), first(&plain));
    // The same patch passes on another base.
    let mut passing = Bisection::new(question(64)).unwrap();
    (1..=40).for_each(|at| passing.passes_on_other_base(&commit(at)).unwrap());
    assert_eq!(passing.probabilities(), plain.probabilities());
    assert!(first(&passing) > first(&plain), "{} {}", first(&passing), first(&plain));
}

#[test]
fn stored_kernels_are_preferred() {
    let mut stored = question(64);
    stored.suspects[27].kernel = KernelState::Stored;
    stored.cost.build = Duration::from_secs(600);
    let run = Bisection::new(stored).unwrap().next(1, &[]).remove(0);
    let Why::Selected { gain_bits, cost_s } = run.why else { panic!() };
    assert_eq!((run.commit, cost_s), (commit(28), 30.0));
    assert!(gain_bits > 0.0);
}

#[test]
fn idle_slots_get_different_commits() {
    let bisection = Bisection::new(question(64)).unwrap();
    let planned = bisection.next(8, &[]);
    let mut commits: Vec<usize> = planned.iter().map(|run| index(&run.commit)).collect();
    commits.sort_unstable();
    commits.dedup();
    assert_eq!(commits.len(), 8, "{commits:?}");
    // Runs that have not ended count as picked.
    let next = bisection.next(1, &planned[..1]);
    assert_ne!(next[0].commit, planned[0].commit);
}

#[test]
fn a_used_up_budget_gives_a_range() {
    let mut small = question(64);
    small.budget.runs = 6;
    let mut bisection = Bisection::new(small).unwrap();
    let searched = drive(&mut bisection, 4, from(33));
    assert_eq!(searched.len(), 6);
    match bisection.state() {
        State::Range { range, because: Limit::Runs } => {
            assert!((index(&range.oldest)..=index(&range.newest)).contains(&33), "{range:?}");
        }
        state => panic!("{state:?}"),
    }
    let mut late = Bisection::new(question(64)).unwrap();
    late.elapsed(Duration::from_secs(3600));
    assert!(matches!(late.state(), State::Range { range, because: Limit::WallTime } if range.commits > 60));
    let mut flaky = question(2);
    flaky.earlier = Tally::new(10, 10);
    let mut builds = Bisection::new(flaky).unwrap();
    for _ in 0..12 {
        builds.built(&commit(1), KernelState::Stored).unwrap();
    }
    assert_eq!(builds.state(), State::Unresolved { because: Limit::Builds });
}

#[test]
fn nothing_to_run() {
    let mut bisection = Bisection::new(question(2)).unwrap();
    for at in 0..=2 {
        bisection.kernel(&commit(at), KernelState::DoesNotBuild).unwrap();
    }
    assert_eq!(bisection.state(), State::Unresolved { because: Limit::NothingToRun });
}

#[test]
fn runs_of_a_verification() {
    for (rate, runs) in [(0.0, 60), (0.1, 60), (0.2, 31), (0.5, 10), (0.9, 5), (0.9995, 5), (1.0, 5)] {
        assert_eq!(verification_runs(rate), runs, "{rate}");
    }
}

#[test]
fn a_verification_alternates_and_may_contradict() {
    let mut bisection = Bisection::new(question(8)).unwrap();
    while bisection.verifying().is_none() {
        let run = bisection.next(1, &[]).remove(0);
        let outcome = from(5)(index(&run.commit), &run);
        finish(&mut bisection, run, outcome);
    }
    let planned = bisection.next(4, &[]);
    let arms: Vec<Why> = planned.iter().map(|run| run.why).collect();
    let [culprit, parent] = [Arm::Culprit, Arm::Parent].map(Why::Verification);
    assert_eq!(arms, [culprit, parent, culprit, parent]);
    // Neither fails any more.
    while bisection.verifying().is_some() {
        let run = bisection.next(1, &[]).remove(0);
        finish(&mut bisection, run, Outcome::Passed);
    }
    assert_eq!(bisection.state(), State::Running, "the search continues with the new evidence");
    assert!(!bisection.record("1").verification.unwrap().confirmed);
}

#[test]
fn a_revert_that_applies_is_run_too() {
    let revert = |culprit| Revert { culprit: commit(culprit), tip: commit(8), commit: commit(100) };
    // Runs the search until it verifies its result.
    let verifying = || {
        let mut bisection = Bisection::new(question(8)).unwrap();
        while bisection.verifying().is_none() {
            let run = bisection.next(1, &[]).remove(0);
            let outcome = from(5)(index(&run.commit), &run);
            finish(&mut bisection, run, outcome);
        }
        assert_eq!(bisection.to_revert(), Some(&commit(5)));
        bisection
    };
    let mut bisection = verifying();
    bisection.set_revert(revert(5));
    assert_eq!(bisection.to_revert(), None);
    // The record has it, too: nothing of it is lost with the process.
    let run = bisection.next(3, &[]).into_iter().find(|run| run.commit == commit(100)).unwrap();
    finish(&mut bisection, run, Outcome::Passed);
    let mut resumed = Bisection::resume(question(8), &bisection.record("1")).unwrap();
    assert_eq!(resumed.record("1"), bisection.record("1"));
    for bisection in [&mut bisection, &mut resumed] {
        drive(bisection, 3, |at, _| if (5..100).contains(&at) { fails() } else { Outcome::Passed });
        let record = bisection.record("1");
        let verification = record.verification.unwrap();
        assert!(verification.confirmed && verification.revert_fixes);
        assert_eq!(verification.revert, Some(Tally::new(0, verification.runs_each)));
        assert!(record.summary().ends_with("verified 5 of 5, revert fixes it"), "{}", record.summary());
    }
    // It fails with the revert, too.
    let mut bisection = verifying();
    bisection.set_revert(revert(5));
    drive(&mut bisection, 3, from(5));
    let summary = bisection.record("1").summary();
    assert!(summary.ends_with(", fails 5 of 5 runs with the revert, too"), "{summary}");
    // One that cannot be run, and one of another commit.
    let mut bisection = verifying();
    bisection.set_revert(revert(5));
    bisection.drop_revert();
    bisection.set_revert(revert(4));
    drive(&mut bisection, 3, from(5));
    assert_eq!(bisection.record("1").verification.unwrap().revert, None);
}

#[test]
fn the_search_continues_in_the_second_parent_of_a_merge() {
    let mut merged = question(8);
    merged.suspects[4].second_parent = Some(commit(103));
    let find = |culprit: usize| {
        let mut bisection = Bisection::new(merged.clone()).unwrap();
        drive(&mut bisection, 2, from(5));
        let side = (101..=103).map(|at| Suspect::new(commit(at))).collect();
        let runs = bisection.record("b").runs;
        let mut bisection = bisection.into_second_parent("b", side).unwrap().unwrap();
        let summary = bisection.record("b").summary();
        assert!(
            summary.starts_with("first bad commit is in merge 000000000000: most probable: "),
            "{summary}"
        );
        drive(&mut bisection, 2, |at, _| if at == 5 || at >= culprit { fails() } else { Outcome::Passed });
        let record = bisection.record("b");
        assert_eq!((record.merge(), record.outer.len()), (Some(&commit(5)), 1));
        assert_eq!(record.all_runs().0, record.runs + runs);
        (bisection.state(), record.summary())
    };
    let (state, summary) = find(102);
    assert!(matches!(state, State::Culprit { culprit, .. } if culprit == commit(102)));
    assert!(
        summary.starts_with("first bad commit 000000000000, in merge 000000000000, posterior "),
        "{summary}"
    );
    let (state, summary) = find(200);
    assert!(matches!(state, State::Culprit { culprit, .. } if culprit == commit(5)), "the merge itself");
    assert!(summary.contains(", the merge itself, posterior "), "{summary}");
}

#[test]
fn a_cancelled_bisection_plans_nothing() {
    let mut bisection = Bisection::new(question(8)).unwrap();
    bisection.cancel();
    assert_eq!((bisection.state(), bisection.next(4, &[]).len()), (State::Cancelled, 0));
}

#[test]
fn the_record_reads_back_and_resumes() {
    let mut bisection = Bisection::new(question(64)).unwrap();
    for _ in 0..5 {
        let run = bisection.next(1, &[]).remove(0);
        let outcome = from(33)(index(&run.commit), &run);
        finish(&mut bisection, run, outcome);
    }
    let record = bisection.record("b1");
    let json = serde_json::to_string(&record).unwrap();
    assert!(
        json.starts_with(r#"{"id":"b1","test":"fs.ext4.basic.punch","signature":"the failure","#),
        "{json}"
    );
    assert!(json.contains(r#""state":"running""#), "{json}");
    assert_eq!(record.posterior.len(), 20);
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    let mut resumed = Bisection::resume(question(64), &record).unwrap();
    assert_eq!(resumed.record("b1"), record);
    assert_eq!(resumed.next(4, &[]), bisection.next(4, &[]));
    drive(&mut resumed, 1, from(33));
    let record = resumed.record("b1");
    let json = serde_json::to_string(&record).unwrap();
    assert!(json.contains(r#""state":"culprit","culprit":""#), "{json}");
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    assert_eq!(Bisection::resume(question(64), &record).unwrap().state(), record.state);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the outcomes, a bisection ends within its budget, its probabilities sum to 1, and equal inputs give equal answers.
    #[test]
    fn every_bisection_ends(
        suspects in 1_usize..12,
        outcomes in prop::collection::vec(0_u8..8, 40),
        slots in 1_usize..5,
        broken in prop::collection::vec(0_u8..6, 12),
    ) {
        let run = || {
            let mut limited = question(suspects);
            limited.budget.runs = 60;
            let mut bisection = Bisection::new(limited).unwrap();
            for (at, broken) in broken.iter().enumerate().take(suspects) {
                match broken {
                    0 => bisection.kernel(&commit(at + 1), KernelState::DoesNotBuild).unwrap(),
                    1 => bisection.kernel(&commit(at + 1), KernelState::SameAsParent).unwrap(),
                    _ => {}
                }
            }
            let turn = std::cell::Cell::new(0);
            drive(&mut bisection, slots, |at, _| {
                turn.set(turn.get() + 1);
                match outcomes[(turn.get() * 7 + at) % outcomes.len()] {
                    0 => Outcome::NoVerdict,
                    1..4 => fails(),
                    _ => Outcome::Passed,
                }
            });
            let (suspects, none) = bisection.probabilities();
            let sum: f64 = suspects.iter().map(|suspect| suspect.probability).sum();
            assert!((sum + none - 1.0).abs() < 1e-9);
            bisection.record("1")
        };
        prop_assert_eq!(run(), run());
    }
}

#[test]
fn a_search_that_used_its_builds_continues_its_verification() {
    let mut bisection = Bisection::new(question(16)).unwrap();
    while bisection.verifying().is_none() {
        let run = bisection.next(1, &[]).remove(0);
        bisection.built(&run.commit, KernelState::Stored).unwrap();
        let outcome = from(11)(index(&run.commit), &run);
        finish(&mut bisection, run, outcome);
    }
    let mut last = question(16);
    last.suspects.iter_mut().for_each(|suspect| suspect.kernel = KernelState::Stored);
    last.budget.builds = bisection.record("1").builds;
    let mut resumed = Bisection::resume(last, &bisection.record("1")).unwrap();
    assert_eq!((resumed.state(), resumed.verifying()), (State::Running, bisection.verifying()));
    drive(&mut resumed, 1, from(11));
    assert!(matches!(resumed.state(), State::Culprit { .. }), "{:?}", resumed.state());
}

#[test]
fn what_is_known_of_a_change_is_added_up() {
    use Change::{Covered, OutsideBuild, Unknown};
    for (one, other, both) in [
        (Unknown, OutsideBuild, OutsideBuild),
        (Unknown, Covered, Covered),
        (OutsideBuild, Covered, Covered),
        (Unknown, Unknown, Unknown),
    ] {
        assert_eq!([one.and(other), other.and(one)], [both, both]);
    }
    let mut bisection = Bisection::new(question(8)).unwrap();
    bisection.changes(&commit(3), Covered).unwrap();
    bisection.changes(&commit(3), OutsideBuild).unwrap();
    assert_eq!(bisection.question().suspects[2].change, Covered);
    assert!(bisection.changes(&commit(99), Covered).is_err());
}
