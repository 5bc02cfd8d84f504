//! Claims from stored attempts.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use belief::{
    AtCommit, Confidence, Evidence, Experiment, FixClaim, FixState, HostClass, Observation, Outcome,
    Signature,
};
use model::CommitId;
use proptest::prelude::*;

fn commit(at: usize) -> CommitId {
    format!("{at:040x}").parse().unwrap()
}

/// An attempt: `p` passes, `-` has no verdict, another letter is the signature of a failure.
fn attempt(at: usize, letter: char) -> Observation {
    let outcome = match letter {
        'p' => Outcome::Passed,
        '-' => Outcome::NoVerdict,
        letter => Outcome::Failed { signature: Signature::new(Some(&letter.to_string()), "") },
    };
    Observation {
        commit: commit(at),
        ran_at: None,
        experiment: Experiment(format!("experiment {at}")),
        alone: None,
        outcome,
        duration: Duration::from_secs(100),
        timed_out: false,
        host: "local".parse().unwrap(),
        host_class: HostClass("local".into()),
        at_ms: 0,
    }
}

fn at(number: usize, letters: &str) -> AtCommit {
    letters.chars().map(|letter| attempt(number, letter)).collect()
}

/// The attempts of commits, newest commit first. The numbers of commits begin with `from`.
fn commits(from: usize, newest_first: &[&str]) -> Vec<AtCommit> {
    newest_first.iter().zip(from..).map(|(letters, number)| at(number, letters)).collect()
}

fn find(since: &[AtCommit], older: &[AtCommit], stretch: usize) -> Option<FixClaim> {
    FixClaim::find(since, older, stretch, Confidence::USUAL)
}

/// `3/25: fixed? 14 of 33 runs`
fn words(since: &[&str], older: &[&str], stretch: usize) -> String {
    let claim = find(&commits(0, since), &commits(100, older), stretch).unwrap();
    format!("{}: {claim}", claim.evidence())
}

#[test]
fn the_passes_since_the_newest_stretch_count() {
    assert_eq!(words(&["p"], &["ff", "f", "p"], 2), "3/3: fixed? 1 of 2 runs");
    assert_eq!(words(&["p", "p"], &["ff", "f", "p"], 2), "3/3: fixed, 2 passes, 95 % confidence");
    assert_eq!(words(&["pppp", "p-"], &["f"], 1), "1/1: fixed, 5 passes, 95 % confidence");
    assert_eq!(words(&["ppp", "-", "pp"], &["ff", "-f"], 2), "3/3: fixed, 5 passes, 95 % confidence");
    // Another failure is no observation, on both sides.
    assert_eq!(words(&["pxp"], &["xf", "fx"], 2), "2/2: fixed? 2 of 3 runs");
    assert_eq!(words(&["pfp"], &["f"], 1), "1/1: still fails, after 2 passes");
    assert_eq!(find(&commits(0, &["p"]), &commits(9, &["p-", "--"]), 2), None);
}

#[test]
fn the_evidence_of_a_flaky_test_is_its_rate() {
    let mut older = vec!["fppp"];
    older.extend(["p"; 10]);
    older.extend(["pf", "ppp", "fp", "ppp", "x", "p"]);
    assert_eq!(words(&["p"; 14], &older, 1), "3/21: fixed? 14 of 27 runs");
    // Commits at which it only fails, and only passes, are not one experiment.
    assert_eq!(words(&["p"], &["f", "p", "f", "p"], 1), "1/1: fixed? 1 of 5 runs");
    // The other failure is flaky, this one is not.
    assert_eq!(words(&["p"], &["f", "p", "xp", "f"], 1), "1/1: fixed? 1 of 5 runs");
}

#[test]
fn a_pass_that_is_too_short_does_not_count() {
    let with = |seconds: u64, of: Observation| Observation { duration: Duration::from_secs(seconds), ..of };
    let since = |seconds: &[u64]| vec![seconds.iter().map(|s| with(*s, attempt(0, 'p'))).collect()];
    let failing = |seconds: u64| vec![vec![with(seconds, attempt(1, 'f'))]];
    let counts = |passes: &[u64], failure: u64| {
        let claim = find(&since(passes), &failing(failure), 1).unwrap();
        (claim.passes(), claim.early_passes())
    };
    assert_eq!(counts(&[300, 451, 449, 600], 600), (2, 2));
    assert_eq!(counts(&[3, 6], 10), (1, 1));
    assert_eq!(counts(&[0, 1], 3), (2, 0));
    let mut timed_out = failing(600);
    timed_out[0][0].timed_out = true;
    assert_eq!(find(&since(&[1]), &timed_out, 1).unwrap().passes(), 1);
    let mut other_host = failing(600);
    other_host[0][0].host_class = HostClass("slow".into());
    assert_eq!(find(&since(&[1]), &other_host, 1).unwrap().passes(), 1);
}

#[test]
fn attempts_of_the_same_experiment_are_pooled() {
    let same = |letter: char, number: usize| Observation {
        experiment: Experiment("same".into()),
        ..attempt(number, letter)
    };
    let changed = attempt(0, 'p');
    let older = [vec![same('f', 5), same('f', 5)]];
    let claim = find(&[vec![changed], vec![same('p', 1), same('p', 1)]], &older, 1).unwrap();
    assert_eq!((claim.evidence(), claim.passes()), (Evidence::new(2, 4).unwrap(), 1));
    assert_eq!(claim.state(), FixState::Unproven);
}

/// The numbers of the claim, counted letter by letter.
fn naive(since: &[String], older: &[String]) -> Option<(u32, u32, u32, bool)> {
    let signature = older.iter().find_map(|at| at.chars().rev().find(|c| "fx".contains(*c)))?;
    let has = |at: &String, letter: char| at.contains(letter);
    let is_flaky = older.iter().any(|at| has(at, signature) && has(at, 'p'));
    let end = if is_flaky { older.iter().rposition(|at| has(at, signature))? + 1 } else { 1 };
    let count = |of: &[String], letter: char| {
        u32::try_from(of.concat().chars().filter(|it| *it == letter).count()).unwrap()
    };
    let evidence = &older[..end.max(1)];
    let failures = count(evidence, signature);
    let again = since.iter().any(|at| has(at, signature));
    (failures > 0).then(|| (failures, failures + count(evidence, 'p'), count(since, 'p'), again))
}

proptest! {
    #[test]
    fn claims_match_the_definition(
        since in proptest::collection::vec("[ppppfx-]{0,4}", 0..6),
        older in proptest::collection::vec("[ppfx-]{0,4}", 1..6),
    ) {
        let groups = |from: usize, of: &[String]| {
            commits(from, &of.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let claim = find(&groups(0, &since), &groups(50, &older), 1);
        let found = claim.map(|claim| {
            let (evidence, fails) = (claim.evidence(), claim.state() == FixState::StillFails);
            (evidence.failures(), evidence.attempts(), claim.passes(), fails)
        });
        prop_assert_eq!(found, naive(&since, &older));
    }

    /// Commits that inherit attempts, one of them or none with the commit at which they ran, do not change a claim.
    #[test]
    fn inherited_attempts_count_once(
        since in proptest::collection::vec("[ppfx-]{1,3}", 1..5),
        heirs in proptest::collection::vec(0_usize..5, 0..5),
    ) {
        let older = commits(50, &["fpf", "f"]);
        let groups = commits(10, &since.iter().map(String::as_str).collect::<Vec<_>>());
        let numbered = |group: &AtCommit| -> AtCommit {
            group.iter().zip(1..).map(|(it, at_ms)| Observation { at_ms, ..it.clone() }).collect()
        };
        let source: Vec<AtCommit> = groups.iter().map(numbered).collect();
        let inherit = |(number, from): (usize, &usize)| -> AtCommit {
            let from = source[from % source.len()].iter().cloned();
            from.map(|it| Observation { ran_at: Some(it.commit), commit: commit(number), ..it }).collect()
        };
        let copies: Vec<AtCommit> = heirs.iter().enumerate().map(inherit).collect();
        let all: Vec<AtCommit> = copies.iter().chain(&source).cloned().collect();
        prop_assert_eq!(find(&all, &older, 2), find(&source, &older, 2));
        // Without the source, the first heir of each commit counts.
        let heirs: std::collections::BTreeSet<usize> = heirs.iter().map(|from| from % source.len()).collect();
        let kept: Vec<AtCommit> = heirs.iter().map(|from| source[*from].clone()).collect();
        prop_assert_eq!(find(&copies, &older, 2), find(&kept, &older, 2));
    }
}
