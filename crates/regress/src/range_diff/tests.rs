use std::collections::HashMap;

use super::*;

fn commit(name: &str) -> CommitId {
    let digit = |byte: u8| format!("{byte:02x}");
    format!("{:0<40}", name.bytes().map(digit).collect::<String>()).parse().unwrap()
}

/// Results by the name of the commit: one letter for each test, in capitals if the verdict is inherited.
#[derive(Default)]
struct Fake(HashMap<CommitId, &'static str>);

impl Fake {
    fn new(results: &[(&str, &'static str)]) -> Self {
        Self(results.iter().map(|(name, letters)| (commit(name), *letters)).collect())
    }
}

impl PushResults for Fake {
    fn statuses(&self, commit: &CommitId) -> Option<CommitStatuses> {
        let letters = self.0.get(commit)?;
        let status = |letter: char| match letter.to_ascii_lowercase() {
            'p' => Status::Passed,
            'f' => Status::Failed,
            _ => Status::InProgress,
        };
        let names = (0..letters.len()).map(|at| format!("t.{at}").into()).collect();
        Some(CommitStatuses { names, statuses: letters.chars().map(status).collect() })
    }

    fn inherited(&self, commit: &CommitId) -> usize {
        self.0.get(commit).map_or(0, |letters| letters.chars().filter(char::is_ascii_uppercase).count())
    }

    fn mean(&self, _: &str) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }
}

fn pair(mark: Mark, old: &str, new: &str) -> PushedCommit {
    let id = |name: &str| (!name.is_empty()).then(|| commit(name));
    PushedCommit { mark, old: id(old), new: id(new), subject: format!("{old}{new}") }
}

fn pushes(pairs: Vec<PushedCommit>, unchanged: usize) -> Pushes {
    let mut pushes = Pushes::new(commit("x"));
    for (at, old, pairs) in [(1, "older", Vec::new()), (2, "old", pairs)] {
        let (old, new) = (commit(old), commit("new"));
        pushes.add(Push { at, old, new, pairs, unchanged, is_cut: false, problem: None });
    }
    pushes
}

fn listed(results: &Fake, names: &[&str]) -> Vec<BranchEntry> {
    let entry = |name: &&str| {
        let counts = results.statuses(&commit(name)).map(|of| counts(&of)).unwrap_or_default();
        BranchEntry {
            commit: commit(name),
            message: String::new(),
            authorship: results::Authorship::default(),
            counts,
            duration: Duration::ZERO,
        }
    };
    names.iter().map(entry).collect()
}

fn view(results: &Fake, pairs: Vec<PushedCommit>, unchanged: usize, names: &[&str]) -> RangeDiffView {
    let at = "kmo/next".parse().unwrap();
    RangeDiffView::new(&at, &pushes(pairs, unchanged), None, &listed(results, names), results, 2.0).unwrap()
}

#[test]
fn each_mark_has_its_results() {
    let results = Fake::new(&[
        ("a", "ppp"),
        ("b", "ppf"),
        ("c", "pfp"),
        ("d", "ppp"),
        ("A", "PPP"),
        ("B", "pfp"),
        ("e", "ppi"),
        ("u", "ppp"),
        ("v", "ppp"),
    ]);
    let pairs = vec![
        pair(Mark::New, "", "f"),
        pair(Mark::New, "", "e"),
        pair(Mark::Gone, "d", ""),
        pair(Mark::Changed, "c", "C"),
        pair(Mark::Changed, "b", "B"),
        pair(Mark::Kept, "a", "A"),
    ];
    let view = view(&results, pairs, 3, &["f", "e", "C", "B", "A", "u", "v", "w"]);
    let states: Vec<Option<PairResults>> = view.pairs.iter().map(|pair| pair.results).collect();
    use PairResults::{Kept, Ran, ToRun};
    assert_eq!(states, [Some(ToRun), Some(ToRun), None, Some(ToRun), Some(Ran), Some(Kept)]);
    let changed = &view.pairs[4];
    assert_eq!(
        (&changed.broke.names[..], &changed.fixed.names[..]),
        (&["t.1".to_owned()][..], &["t.2".to_owned()][..])
    );
    assert!(view.pairs[0].broke.is_empty());
    assert_eq!(
        (view.commits, view.kept, view.to_run, view.unchanged),
        (8, 3, 3, 3),
        "one unchanged commit has no results"
    );
    // All tests of two commits, and one that runs.
    assert_eq!((view.tests_left, view.seconds_left), (7, Some(210)));
    assert_eq!(view.summary(), "3 of 8 commits kept their results, 3 to run");
    assert_eq!(view.others, [PushRow { pushed: 1, old: commit("older"), new: commit("new") }]);
}

#[test]
fn commits_that_are_not_tested_are_not_left_to_run() {
    let results = Fake::new(&[("b", "pp"), ("B", "PP")]);
    let pairs = vec![pair(Mark::Kept, "b", "B"), pair(Mark::Kept, "a", "A")];
    // The older one is beyond the commits that are tested.
    let view = view(&results, pairs, 0, &["B", "A"]);
    assert_eq!((view.kept, view.to_run, view.tests_left, view.seconds_left), (1, 0, 0, None));
    assert_eq!(view.pairs[1].results, Some(PairResults::NotTested));
    assert_eq!(view.summary(), "1 of 2 commits kept their results");
}

#[test]
fn a_new_commit_below_the_others_is_tested_like_them() {
    let results = Fake::new(&[("a", "pp")]);
    let pairs = vec![pair(Mark::Kept, "a", "A"), pair(Mark::New, "", "n")];
    let view = view(&results, pairs, 0, &["A", "n"]);
    assert_eq!((view.to_run, view.tests_left), (2, 4));
    // The limit of the configuration is not known: a base that moved has many commits.
    let mut names = vec!["A".to_owned()];
    names.extend((0..99).map(|at| format!("n{at}")));
    let mut pairs = vec![pair(Mark::Kept, "a", "A")];
    pairs.extend(names[1..].iter().map(|name| pair(Mark::New, "", name)));
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(self::view(&results, pairs, 0, &listed).to_run, 1 + MORE);
}

#[test]
fn an_earlier_push_has_nothing_left_to_run() {
    let results = Fake::new(&[("b", "pp")]);
    let pushes = pushes(vec![pair(Mark::Kept, "b", "B")], 0);
    let at = "kmo/next".parse().unwrap();
    let of = |old: Option<&CommitId>| RangeDiffView::new(&at, &pushes, old, &[], &results, 1.0);
    assert_eq!(of(Some(&commit("old"))).unwrap().to_run, 0);
    assert_eq!(of(Some(&commit("older"))).unwrap().pushed, 1);
    assert_eq!(of(Some(&commit("none"))), None);
    assert_eq!(RangeDiffView::new(&at, &Pushes::new(commit("x")), None, &[], &results, 1.0), None);
}

#[test]
fn many_broken_tests_are_counted() {
    let all: &'static str = Box::leak("p".repeat(30).into_boxed_str());
    let none: &'static str = Box::leak("f".repeat(30).into_boxed_str());
    let results = Fake::new(&[("a", all), ("A", none)]);
    let view = view(&results, vec![pair(Mark::Changed, "a", "A")], 0, &["A"]);
    assert_eq!((view.pairs[0].broke.count, view.pairs[0].broke.names.len()), (30, NAMED_MAX));
}
