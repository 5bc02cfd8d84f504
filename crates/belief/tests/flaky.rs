//! Flaky tests, and the confirmation of failures.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use belief::{
    CONFIRMATION_ATTEMPTS, Calibration, Confirmation, Experiment, FlakyTest, HostClass, NamedCommits,
    Observation, Outcome, Signature, Tally, confirmation,
};
use proptest::prelude::*;

fn outcome(letter: char) -> Outcome {
    match letter {
        'p' => Outcome::Passed,
        '-' => Outcome::NoVerdict,
        letter => Outcome::Failed { signature: Signature::new(Some(&letter.to_string()), "") },
    }
}

/// Attempts of commits, newest commit first. Each commit is an experiment of its own. After a `|`, they are alone on the host.
fn observations(commits: &[&str]) -> Vec<Observation> {
    let observation = |(at, letters): (usize, &&str)| {
        let of_letter = move |(letter, alone): (char, bool)| Observation {
            alone: Some(alone),
            commit: format!("{at:040x}").parse().unwrap(),
            experiment: Experiment(format!("experiment {at}")),
            ran_at: None,
            outcome: outcome(letter.to_ascii_lowercase()),
            duration: Duration::from_secs(1),
            timed_out: false,
            host: "local".parse().unwrap(),
            host_class: HostClass(if letter.is_uppercase() { "slow" } else { "fast" }.into()),
            at_ms: 0,
        };
        let (loaded, alone) = letters.split_once('|').unwrap_or((letters, ""));
        let all =
            loaded.chars().map(|letter| (letter, false)).chain(alone.chars().map(|letter| (letter, true)));
        all.map(of_letter).collect::<Vec<_>>()
    };
    commits.iter().enumerate().flat_map(observation).collect()
}

#[test]
fn one_experiment_with_both_outcomes_is_flaky() {
    assert_eq!(FlakyTest::find(&observations(&[])), None);
    assert_eq!(FlakyTest::find(&observations(&["ff", "pp", "--", "p-"])), None, "a regression is not flaky");
    let flaky = FlakyTest::find(&observations(&["p", "fp", "F", "Ppfp", "p", "ff"])).unwrap();
    assert_eq!(flaky.to_string(), "flaky 5 of 11");
    assert_eq!((flaky.since.as_str().ends_with('3'), flaky.experiments), (true, 2));
    let classes: Vec<String> =
        flaky.by_class.iter().map(|(class, rate)| format!("{class}: {rate}")).collect();
    assert_eq!(classes, ["fast: 4 of 9", "slow: 1 of 2"]);
}

#[test]
fn only_commits_from_the_first_failure_to_the_last_tell_about_the_load() {
    let by_load = |commits: &[&str]| FlakyTest::find(&observations(commits)).unwrap().load;
    let load = by_load(&["|ppp", "p|pp", "fp|ppp", "p", "fp|ppp", "p", "fp|ppp", "pp|pppp"]);
    assert_eq!((load.loaded, load.alone), (Tally::new(3, 5), Tally::new(0, 9)));
    assert!(!load.fails_only_under_load(), "p is 0.08");
    let load = by_load(&["|pp", "ff|pppp", "fp|pppp"]);
    assert!(load.fails_only_under_load());
    assert!(!by_load(&["ff|pppp", "fp|pppf"]).fails_only_under_load());
}

#[test]
fn only_the_newest_commits_count() {
    let mut commits = vec!["p"; 100];
    commits.push("fp");
    assert_eq!(FlakyTest::find(&observations(&commits)), None);
    assert!(FlakyTest::find(&observations(&commits[1..])).is_some());
}

#[test]
fn a_failure_is_confirmed_adaptively() {
    let of = |letters: &str| confirmation(&letters.chars().map(outcome).collect::<Vec<_>>());
    for letters in ["", "a", "a-", "ab", "ap", "apap", "abab", "a-p"] {
        assert_eq!(of(letters), Confirmation::RunAgain, "{letters}");
    }
    assert_eq!(of("aa"), Confirmation::Confirmed(Tally::new(2, 0)));
    assert_eq!(of("a-a"), Confirmation::Confirmed(Tally::new(2, 0)));
    assert_eq!(of("ababa"), Confirmation::Confirmed(Tally::new(5, 0)));
    assert_eq!(of("apppp"), Confirmation::Flaky(Tally::new(1, 4)));
    assert_eq!(of("aaaap"), Confirmation::Flaky(Tally::new(4, 1)), "a later pass shows that it is flaky");
}

#[test]
fn of_the_named_some_are_verified_again() {
    let mut named = NamedCommits::default();
    let again = (0..214).filter(|_| named.name()).count();
    assert_eq!(again, 3);
    for held in [true, false, false, false] {
        named.rechecked(held);
    }
    assert_eq!(named.to_string(), "of 214 named, 211 held");
}

#[test]
fn calibration_compares_posteriors_with_answers() {
    let mut calibration = Calibration::default();
    assert_eq!((calibration.posterior(), calibration.right()), (0.0, 0.0));
    for (posterior, right) in [(1.0, true), (0.5, false), (0.75, true), (0.75, true)] {
        calibration.add(posterior, right);
    }
    assert_eq!((calibration.conclusions(), calibration.posterior(), calibration.right()), (4, 0.75, 0.75));
}

proptest! {
    /// Every failure is decided after the maximum of attempts, and an attempt without a verdict changes nothing.
    #[test]
    fn a_confirmation_ends(letters in "[abp-]{0,12}") {
        let letters = format!("a{letters}");
        let of = |letters: &str| confirmation(&letters.chars().map(outcome).collect::<Vec<_>>());
        let verdicts = letters.replace('-', "");
        prop_assert_eq!(of(&letters), of(&verdicts));
        if verdicts.len() >= CONFIRMATION_ATTEMPTS {
            prop_assert_ne!(of(&letters), Confirmation::RunAgain);
        }
    }
}
