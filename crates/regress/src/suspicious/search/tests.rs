use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Commits by number, newest first.
struct Results(Vec<CommitResults>);

impl Source for &Results {
    fn columns(&self, commit: &CommitId) -> Option<Columns> {
        Some(self.commit(commit)?.into())
    }

    fn entry(&self, commit: &CommitId, key: &ResultKey) -> Option<TestEntry> {
        self.commit(commit)?.get(key).cloned()
    }
}

/// The same, with one copy of the names of commits that have the same tests, as the readers of results have.
struct Shared<'a>(&'a Results, RefCell<Vec<Names>>);

impl Source for Shared<'_> {
    fn columns(&self, commit: &CommitId) -> Option<Columns> {
        let mut columns = self.0.columns(commit)?;
        let mut sets = self.1.borrow_mut();
        match sets.iter().find(|names| *names == columns.names()) {
            Some(names) => columns.statuses.names = Arc::clone(names),
            None => sets.push(Arc::clone(columns.names())),
        }
        Some(columns)
    }

    fn entry(&self, commit: &CommitId, key: &ResultKey) -> Option<TestEntry> {
        self.0.entry(commit, key)
    }
}

impl Results {
    fn new(newest_first: Vec<Vec<TestEntry>>) -> Self {
        let commit = |(number, mut entries): (usize, Vec<TestEntry>)| {
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            CommitResults {
                commit: format!("{number:040}").parse().unwrap(),
                message: String::new(),
                entries,
            }
        };
        Self(newest_first.into_iter().enumerate().map(commit).collect())
    }

    fn commit(&self, commit: &CommitId) -> Option<&CommitResults> {
        self.0.iter().find(|results| results.commit == *commit)
    }

    fn find_at(&self, row: usize, complete: bool) -> Vec<SuspiciousPass> {
        let ids: Vec<&CommitId> = self.0.iter().map(|results| &results.commit).collect();
        let compared = Compared { now: ids[row], older: &ids[row + 1..], complete };
        let found = Search::new(self, usize::MAX).find(compared, |_| true);
        let shared = Search::new(Shared(self, RefCell::default()), usize::MAX).find(compared, |_| true);
        assert_eq!(found, shared);
        found
    }

    fn lines(&self, row: usize, complete: bool) -> Vec<String> {
        let line = |pass: &SuspiciousPass| format!("{}: {}", pass.key, pass.suspicion);
        self.find_at(row, complete).iter().map(line).collect()
    }
}

fn entry(key: &str, status: Status, seconds: u64) -> TestEntry {
    let mut entry = TestEntry::new(key.parse().unwrap(), status);
    entry.decisive.duration = Duration::from_secs(seconds);
    entry
}

fn on(host: &str, mut entry: TestEntry) -> TestEntry {
    entry.decisive.host = Some(host.parse().unwrap());
    entry
}

#[test]
fn each_suspicion() {
    let before = || {
        vec![
            entry("x.collapses", Status::Passed, 40),
            entry("x.faster", Status::Passed, 40),
            entry("x.gone", Status::Passed, 1),
            entry("x.other_host", Status::Passed, 40),
            entry("x.short", Status::Passed, 2),
            entry("x.skips", Status::Passed, 2),
            entry("x.always_skipped", Status::NotRun, 0),
            entry("x.was_bad", Status::Failed, 40),
            entry("y.whole_file", Status::Passed, 1),
        ]
    };
    let mut skips = entry("x.skips", Status::NotRun, 0);
    skips.decisive.reason = Some("no such device".into());
    let mut commits = vec![vec![
        entry("x.collapses", Status::Passed, 5),
        entry("x.faster", Status::Passed, 20),
        on("farm2", entry("x.other_host", Status::Passed, 2)),
        entry("x.short", Status::Passed, 0),
        skips,
        entry("x.was_bad", Status::Passed, 1),
    ]];
    commits.extend((0..PASSES_LEAST).map(|_| before()));
    let results = Results::new(commits);
    assert_eq!(results.lines(0, false).len(), 2, "no test is gone while more results are to come");
    assert_eq!(
        results.lines(0, true),
        [
            "x.collapses: passed in 5.0 s, median of the 5 passes before: 40.0 s",
            "x.gone: no longer listed by its test file",
            "x.skips: skipped, passed before: no such device",
        ]
    );
    assert_eq!(results.lines(1, true), Vec::<String>::new());
}

/// A farm on which the tests of other branches passed in these times.
struct WithPast<'a>(&'a Results, &'a [(&'a str, u64)]);

impl Source for WithPast<'_> {
    fn columns(&self, commit: &CommitId) -> Option<Columns> {
        self.0.columns(commit)
    }

    fn entry(&self, commit: &CommitId, key: &ResultKey) -> Option<TestEntry> {
        self.0.entry(commit, key)
    }

    fn means(&self) -> Vec<TestDuration> {
        let sum: u64 = self.1.iter().map(|(_, seconds)| seconds).sum();
        let mean = Duration::from_secs(sum / self.1.len().max(1) as u64);
        vec![TestDuration { test: "x.soak".parse().unwrap(), mean, nr: 1, passed: 1, failed: 0 }]
    }

    fn past(&self, _: &CommitId, _: &TestEntry) -> Vec<RecentRun> {
        let run = |(host, seconds): &(&str, u64)| RecentRun {
            host: host.parse().ok(),
            duration: Duration::from_secs(*seconds),
        };
        self.1.iter().map(run).collect()
    }
}

#[test]
fn the_first_run_on_a_branch_is_compared_with_other_branches() {
    let found = |past: &[(&str, u64)], here: &[u64]| {
        let commit = |seconds: &u64| vec![on("f1", entry("x.soak", Status::Passed, *seconds))];
        let results = Results::new(here.iter().map(commit).collect());
        let ids: Vec<&CommitId> = results.0.iter().map(|results| &results.commit).collect();
        let compared = Compared { now: ids[0], older: &ids[1..], complete: true };
        let source = WithPast(&results, past);
        let found = Search::new(source, 9).find(compared, |_| true);
        found.first().map(|pass| pass.suspicion.to_string())
    };
    let soak = [("f1", 600); 5];
    let words = "passed in 3.0 s, median of the 5 passes before on all branches: 600.0 s";
    assert_eq!(found(&soak, &[3]).as_deref(), Some(words));
    assert_eq!(found(&soak, &[3, 600, 590]).as_deref(), Some(words), "two passes are too few");
    assert_eq!(found(&soak, &[90]), None);
    assert_eq!(found(&soak[1..], &[3]), None);
    assert_eq!(found(&[("g1", 600); 9], &[3]), None, "other hosts may be much slower");
    assert_eq!(found(&[("f2", 600); 5], &[3]).as_deref(), Some(words));
    // The passes on the branch are enough: they count alone.
    assert_eq!(found(&soak, &[3, 4, 4, 4, 4, 4]), None);
    assert_eq!(found(&[], &[3]), None);
}

/// Durations of one test, newest commit first, and which of the newest commits are suspicious.
#[test]
fn durations_of_a_branch() {
    let column = |seconds: &[u64]| {
        let commits = seconds.iter().map(|seconds| vec![entry("x.a", Status::Passed, *seconds)]);
        let results = Results::new(commits.collect());
        let found = (0..seconds.len()).filter(|row| !results.find_at(*row, true).is_empty());
        found.collect::<Vec<_>>()
    };
    for (seconds, wanted) in [
        // A single earlier run under load does not count.
        (&[5, 60, 5, 5, 5, 5, 5][..], &[][..]),
        (&[5, 60, 70, 5, 5, 5, 5], &[]),
        // generic/476 of xfstests is to run for minutes: in 3 s it has tested nothing.
        (&[3, 260, 250, 270, 255, 265, 260], &[0]),
        // A pass like the ones before, and one on a host under load.
        (&[250, 260, 250, 270, 255, 265, 260], &[]),
        (&[250, 2600, 250, 270, 255, 265, 260], &[]),
        // Too few passes.
        (&[5, 60, 60, 60, 60], &[]),
        (&[5, 60, 60, 60, 60, 60], &[0]),
        // The previous pass was already too fast, or ended early.
        (&[5, 5, 60, 60, 60, 60, 60], &[0, 1]),
        // After some commits, it is the usual duration.
        (&[5, 5, 5, 5, 5, 5, 60, 60, 60, 60, 60], &[1, 2, 3, 4, 5]),
        (&[5, 5, 5, 5, 5, 5, 5, 60, 60, 60, 60, 60], &[2, 3, 4, 5, 6]),
        // A test that became slower.
        (&[60, 60, 60, 60, 60, 60, 5, 5, 5, 5, 5], &[]),
    ] {
        assert_eq!(column(seconds), wanted, "{seconds:?}");
    }
}

#[test]
fn passes_are_compared_across_failures_and_untested_commits() {
    let passed = || vec![entry("x.a", Status::Passed, 60)];
    let mut commits =
        vec![vec![entry("x.a", Status::Passed, 3)], vec![], vec![entry("x.a", Status::Failed, 1)]];
    for _ in 0..4 {
        commits.push(passed());
        commits.push(vec![entry("x.a", Status::NotRun, 0)]);
    }
    assert_eq!(Results::new(commits.clone()).lines(0, true), Vec::<String>::new());
    commits.push(passed());
    let found = Results::new(commits).lines(0, true);
    assert_eq!(found, ["x.a: passed in 3.0 s, median of the 5 passes before: 60.0 s"]);
}

#[test]
fn a_search_is_limited_and_filtered() {
    let all = |seconds| ["x.a", "x.b", "x.c"].map(|key| entry(key, Status::Passed, seconds)).to_vec();
    let mut commits = vec![all(1)];
    commits.extend((0..6).map(|_| all(60)));
    let results = Results::new(commits);
    let ids: Vec<&CommitId> = results.0.iter().map(|results| &results.commit).collect();
    let compared = Compared { now: ids[0], older: &ids[1..], complete: true };
    let keys = |limit, wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        let found = Search::new(&results, limit).find(compared, wanted);
        found.iter().map(|pass| pass.key.to_string()).collect()
    };
    assert_eq!(keys(2, &|_| true), ["x.a", "x.b"]);
    assert_eq!(keys(1, &|key| key.ends_with('c')), ["x.c"]);
    let missing: CommitId = "f".repeat(40).parse().unwrap();
    let compared = Compared { now: &missing, ..compared };
    assert_eq!(Search::new(&results, 9).find(compared, |_| true), vec![]);
}

/// What failed to run says nothing about what its file lists.
#[test]
fn a_test_is_gone_if_another_one_of_its_file_has_a_verdict() {
    for (status, gone) in [
        (Status::Passed, true),
        (Status::Failed, true),
        (Status::NotRun, true),
        (Status::FailedToRun, false),
        (Status::Unknown, false),
    ] {
        let before = ["x.a", "x.b", "alone"].map(|key| entry(key, Status::Passed, 1)).to_vec();
        let results = Results::new(vec![vec![entry("x.a", status, 1)], before]);
        let found = results.lines(0, true);
        let of_b = found.iter().any(|line| line.starts_with("x.b: no longer listed"));
        assert_eq!(of_b, gone, "{status:?}: {found:?}");
        assert!(!found.iter().any(|line| line.starts_with("alone")), "{found:?}");
    }
}

#[test]
fn columns_are_of_the_same_tests() {
    let statuses = |count: usize| CommitStatuses {
        names: vec![Box::from("x.a")].into(),
        statuses: vec![Status::Passed; count].into(),
    };
    assert!(Columns::new(statuses(1), vec![Duration::ZERO]).is_some());
    assert!(Columns::new(statuses(1), vec![Duration::ZERO; 2]).is_none());
    assert!(Columns::new(statuses(2), vec![Duration::ZERO]).is_none());
}

const STATUSES: [Status; 6] = [
    Status::Passed,
    Status::NotRun,
    Status::Failed,
    Status::FailedToRun,
    Status::InProgress,
    Status::Unknown,
];

/// The suspicion about a test, computed from its complete results.
fn naive(results: &Results, key: &ResultKey, complete: bool) -> Option<Suspicion> {
    let [now, older @ ..] = results.0.as_slice() else { return None };
    let old = older.first().and_then(|before| before.get(key));
    let Some(new) = now.get(key) else {
        let file = |key: &ResultKey| key.as_str().split('.').next().unwrap().to_owned();
        let mut others = now.entries.iter().filter(|other| file(&other.key) == file(key));
        let listed = others.any(|other| has_verdict(other.decisive.status));
        let judged = old.is_some_and(|old| old.decisive.status.is_judged());
        return (complete && judged && listed).then_some(Suspicion::Gone);
    };
    match new.decisive.status {
        Status::NotRun => old
            .is_some_and(|old| old.decisive.status == Status::Passed)
            .then_some(Suspicion::Skipped { reason: None }),
        Status::Passed => {
            let passes = older.iter().filter_map(|commit| commit.get(key)).map(|entry| &entry.decisive);
            let passes = passes.filter(|attempt| attempt.status == Status::Passed);
            let passes: Vec<Pass> = passes
                .map(|attempt| Pass { host: attempt.host.clone(), duration: attempt.duration })
                .collect();
            let before = Typical::on(new.decisive.host.as_ref(), &passes)?;
            let now = new.decisive.duration;
            before.is_far_above(now).then_some(Suspicion::Faster { now, before, on_any_branch: false })
        }
        _ => None,
    }
}

proptest! {
    /// Compares the search in columns with a lookup of each test.
    #[test]
    fn a_search_in_columns_finds_what_a_lookup_finds(
        commits in proptest::collection::vec(
            proptest::collection::btree_map("[ab]\\.[a-c]", (0_usize..4, 0_u64..60, "[fg][12]"), 0..6), 1..14),
        complete: bool,
    ) {
        let of = |rows: &BTreeMap<String, (usize, u64, String)>| {
            rows.iter().map(|(key, (status, seconds, host))| on(host, entry(key, STATUSES[*status], *seconds))).collect()
        };
        let results = Results::new(commits.iter().map(of).collect());
        let keys: BTreeSet<&ResultKey> = results.0.iter().flat_map(|commit| &commit.entries).map(|entry| &entry.key).collect();
        let wanted = keys.into_iter().filter_map(|key| {
            Some(SuspiciousPass { key: key.clone(), suspicion: naive(&results, key, complete)? })
        });
        prop_assert_eq!(results.find_at(0, complete), wanted.collect::<Vec<_>>());
    }

    /// The results that were read for other commits do not affect a commit.
    #[test]
    fn one_search_over_all_commits_equals_a_search_per_commit(
        seconds in proptest::collection::vec((0_u64..90, 0_u64..90), 1..20),
    ) {
        let commit = |(a, b): &(u64, u64)| vec![entry("x.a", Status::Passed, *a), entry("x.b", Status::Passed, *b)];
        let results = Results::new(seconds.iter().map(commit).collect());
        let ids: Vec<&CommitId> = results.0.iter().map(|results| &results.commit).collect();
        let mut search = Search::new(&results, usize::MAX);
        for row in 0..ids.len() {
            let compared = Compared { now: ids[row], older: &ids[row + 1..], complete: true };
            prop_assert_eq!(search.find(compared, |_| true), results.find_at(row, true));
        }
    }

    #[test]
    fn equal_results_are_not_suspicious(seconds in proptest::collection::vec(0_u64..100, 0..20), status in 0_usize..6) {
        let entries = seconds.iter().enumerate();
        let commit: Vec<_> = entries.map(|(at, s)| entry(&format!("x.t{at}"), STATUSES[(at + status) % 6], *s)).collect();
        let results = Results::new(vec![commit; PASSES_LEAST + 2]);
        prop_assert_eq!(results.find_at(0, true), vec![]);
    }
}
