use std::sync::Arc;

use model::{Counts, build_failed_reason};
use results::Attempt;

use super::*;
use crate::CommitStatuses;
use crate::builds::CommitBuilds;
use crate::suspicious::Suspicion;

/// A branch: its commits newest first, each with the letters of the tests a.0, a.1 and so on: `p`assed, `f`ailed, `x` failed with another
/// reason, `l` flaky, `s` passed suspiciously, `b` not built, `-` not tested.
struct Branch {
    rows: Vec<&'static str>,
    busy: Vec<usize>,
    /// The outcomes of retries: attempts that failed and passed.
    retries: (u32, u32),
    /// Added to the numbers of commits: that of a branch that was rewritten.
    base: usize,
}

fn commit(number: usize) -> CommitId {
    format!("{number:040x}").parse().unwrap()
}

fn key(test: usize) -> ResultKey {
    format!("a.{test}").parse().unwrap()
}

impl Branch {
    fn new(newest_first: &[&'static str]) -> Self {
        Self { rows: newest_first.to_vec(), busy: Vec::new(), retries: (1, 0), base: 0 }
    }

    /// The number of a commit does not change when newer ones are pushed.
    fn id(&self, row: usize) -> CommitId {
        commit(self.base + self.rows.len() - row)
    }

    fn letter(&self, row: usize, test: usize) -> Option<char> {
        self.rows.get(row)?.chars().nth(test).filter(|letter| *letter != '-')
    }

    fn entry(&self, row: usize, test: usize) -> Option<TestEntry> {
        let letter = self.letter(row, test)?;
        let status = status(letter);
        let mut entry = TestEntry::new(key(test), status);
        entry.decisive.host = Some("farm1".parse().unwrap());
        let reason = match letter {
            'x' => format!("another reason {test}{}", "abcdefghijklmnop".chars().nth(test).unwrap()),
            'b' => build_failed_reason("fs/a.c:1: error: no"),
            _ => "lost 3 of 8".into(),
        };
        entry.decisive.reason = Some(reason);
        if status == Status::Failed {
            let (failed, passed) = self.retries;
            let mut add = |status| {
                let mut attempt: Attempt = entry.decisive.clone();
                attempt.status = status;
                attempt.number = u32::try_from(entry.others.len()).unwrap() + 2;
                entry.others.push(attempt);
            };
            (0..failed).for_each(|_| add(Status::Failed));
            (0..passed).for_each(|_| add(Status::Passed));
        }
        Some(entry)
    }

    fn examine(&self, known: &Known, first: bool) -> (Vec<Finding>, Known) {
        let tests = self.rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let names: crate::Names = (0..tests).map(|test| key(test).to_string().into_boxed_str()).collect();
        let listed: Vec<BranchEntry> = (0..self.rows.len())
            .map(|row| BranchEntry {
                commit: self.id(row),
                message: String::new(),
                authorship: results::Authorship::default(),
                counts: Counts { passed: 1, ..Counts::default() },
                duration: std::time::Duration::ZERO,
            })
            .collect();
        let statuses = |row: usize| {
            let letters = (0..tests).map(|test| self.letter(row, test).map_or(Status::Unknown, status));
            CommitStatuses { names: Arc::clone(&names), statuses: letters.collect() }
        };
        let history = BranchHistory::new((0..self.rows.len()).map(|row| Some(statuses(row))));
        let builds = |row: usize| {
            let keys: Vec<String> = (0..tests).map(|test| key(test).to_string()).collect();
            let tests = keys
                .iter()
                .enumerate()
                .filter_map(|(test, key)| Some((key.as_str(), status(self.letter(row, test)?))));
            Arc::new(CommitBuilds::new(tests.collect::<Vec<_>>(), |key| {
                let test = keys.iter().position(|known| known == key)?;
                self.entry(row, test)?.decisive.reason
            }))
        };
        let builds = BuildHistory::new((0..self.rows.len()).map(|row| Some(builds(row))).collect());
        let row_of = |commit: &CommitId| (0..self.rows.len()).find(|row| self.id(*row) == *commit);
        let facts = Facts {
            branch: &"kmo/next".parse().unwrap(),
            listed: &listed,
            history: &history,
            builds: &builds,
            flaky: &[],
            bisections: &[],
            entry: &|commit, test| {
                let number = test.as_str().strip_prefix("a.")?.parse().ok()?;
                self.entry(row_of(commit)?, number)
            },
            claim: &|_| None,
            suspicious: &|row| self.suspicious(row),
            has_jobs: &|commit| row_of(commit).is_some_and(|row| self.busy.contains(&row)),
            now: 7,
        };
        if first { (Vec::new(), baseline(&facts)) } else { changes(known, &facts) }
    }

    fn suspicious(&self, row: usize) -> Vec<SuspiciousPass> {
        let tests = (0..self.rows[row].len()).filter(|test| self.letter(row, *test) == Some('s'));
        tests.map(|test| SuspiciousPass { key: key(test), suspicion: Suspicion::Gone }).collect()
    }

    /// Two examinations, as the farm makes them.
    fn after(&self, known: &Known) -> (Vec<String>, Known) {
        let (mut findings, next) = self.examine(known, false);
        let (more, next) = self.examine(&next, false);
        findings.extend(more);
        (findings.iter().map(words).collect(), next)
    }
}

fn status(letter: char) -> Status {
    match letter {
        'p' | 's' => Status::Passed,
        'f' | 'x' => Status::Failed,
        'l' => Status::Flaky,
        'b' => Status::FailedToRun,
        _ => Status::Unknown,
    }
}

/// `broke 3: a.0 a.1`: the kind, the number of the commit, the tests.
fn words(finding: &Finding) -> String {
    let commit = finding.commit.as_ref().map_or("", |commit| commit.as_str().trim_start_matches('0'));
    let tests: Vec<&str> = finding.tests.iter().map(ResultKey::as_str).collect();
    format!("{} {commit}: {}", finding.kind, tests.join(" "))
}

/// The findings of a branch that is examined after each of these states.
fn stream(states: &[&[&'static str]]) -> Vec<Vec<String>> {
    let mut known = Branch::new(&[]).examine(&Known::default(), true).1;
    let mut all = Vec::new();
    for rows in states {
        let (found, next) = Branch::new(rows).after(&known);
        // Nothing is found again.
        assert_eq!(Branch::new(rows).after(&next).0, Vec::<String>::new(), "{rows:?}");
        // What is recorded is enough.
        known = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
        all.push(found);
    }
    all
}

#[test]
fn a_failure_is_found_once_and_so_is_its_fix() {
    let found =
        stream(&[&["p"], &["f", "p"], &["f", "f", "p"], &["p", "f", "f", "p"], &["f", "p", "f", "f", "p"]]);
    let expected: [&[&str]; 5] = [&[], &["broke 2: a.0"], &[], &["fixed 4: a.0"], &["broke 5: a.0"]];
    assert_eq!(found, expected);
    // All at once.
    assert_eq!(stream(&[&["p", "f", "p"]]), [["broke 2: a.0", "fixed 3: a.0"]]);
}

#[test]
fn one_cause_is_one_finding() {
    assert_eq!(stream(&[&["fff", "ppp"]]), [["broke 2: a.0 a.1 a.2"]]);
    assert_eq!(stream(&[&["fxx", "ppp"]])[0].len(), 3, "three reasons");
    let many = stream(&[&["xxxxxxxxxxxx", "pppppppppppp"]]);
    assert_eq!(many[0].len(), 1, "{many:?}");
    assert_eq!(
        stream(&[&["xxxxxxxxxxxx", "pppppppppppp"], &["pppppppppppp", "xxxxxxxxxxxx", "pppppppppppp"]])[1]
            .len(),
        1
    );
}

#[test]
fn suspicious_passes_are_found_at_the_first_commit_that_has_them() {
    let found = stream(&[&["pp"], &["sp", "pp"], &["ss", "sp", "pp"], &["pp", "ss", "sp", "pp"]]);
    let expected: [&[&str]; 4] = [&[], &["suspicious_pass 2: a.0"], &["suspicious_pass 3: a.1"], &[]];
    assert_eq!(found, expected);
    // Not before the tests of the commit have ended.
    let mut branch = Branch::new(&["ss", "pp"]);
    let known = Branch::new(&["pp"]).after(&Known::default()).1;
    branch.busy = vec![0];
    let (none, known) = branch.after(&known);
    assert_eq!(none, [""; 0]);
    branch.busy.clear();
    assert_eq!(branch.after(&known).0, ["suspicious_pass 2: a.0 a.1"]);
}

/// The findings of states of a branch, each with the number that a rewrite adds to its commits, and the rows with jobs.
fn rewritten(states: &[(usize, &[&'static str], &[usize])]) -> Vec<Vec<String>> {
    let mut known = Branch::new(&[]).examine(&Known::default(), true).1;
    let of_state = |(base, rows, busy): &(usize, &[&'static str], &[usize])| {
        let branch = Branch { base: *base, busy: busy.to_vec(), ..Branch::new(rows) };
        let (found, next) = branch.after(&known);
        assert_eq!(branch.after(&next).0, [""; 0], "{rows:?}");
        known = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
        found
    };
    states.iter().map(of_state).collect()
}

#[test]
fn a_failure_is_not_found_again_after_a_rebase() {
    // Ids are hexadecimal: 32 is 0x20.
    let found = rewritten(&[
        (0, &["f", "p"], &[]),
        (32, &["-", "-"], &[0, 1]),
        (32, &["-", "p"], &[0]),
        (32, &["f", "p"], &[]),
        (32, &["p", "f", "p"], &[]),
        (64, &["-", "-", "-"], &[0, 1, 2]),
        (64, &["p", "f", "p"], &[]),
        (64, &["f", "p", "f", "p"], &[]),
    ]);
    let expected: [&[&str]; 8] =
        [&["broke 2: a.0"], &[], &[], &[], &["fixed 23: a.0"], &[], &[], &["broke 44: a.0"]];
    assert_eq!(found, expected);
}

#[test]
fn a_failure_that_an_amended_commit_does_not_have_is_fixed() {
    let found = rewritten(&[
        (0, &["ffb", "ppp"], &[]),
        (32, &["---", "ppp"], &[0]),
        (32, &["ppp", "ppp"], &[]),
        (32, &["ppp", "ppp", "ppp"], &[]),
    ]);
    let expected: [&[&str]; 4] =
        [&["broke 2: a.0 a.1", "build_broke 2: a.2"], &[], &["fixed 22: a.0 a.1", "build_fixed 22: "], &[]];
    assert_eq!(found, expected);
}

#[test]
fn a_failure_is_fixed_after_its_first_bad_commit_is_no_longer_listed() {
    let old: &[&str] = &["f", "f", "p"];
    let mut known = Branch::new(&[]).examine(&Known::default(), true).1;
    let (found, next) = Branch::new(old).after(&known);
    assert_eq!(found, ["broke 2: a.0"]);
    known = next;
    // The two oldest commits are gone; the numbers stay.
    let listed = |rows: &[&'static str]| Branch { base: 2, ..Branch::new(rows) };
    let (found, next) = listed(&["f", "f"]).after(&known);
    assert_eq!(found, [""; 0]);
    assert_eq!(listed(&["p", "f", "f"]).after(&next).0, ["fixed 5: a.0"]);
    // Only the last good commit is gone.
    let listed = |rows: &[&'static str]| Branch { base: 1, ..Branch::new(rows) };
    let (found, next) = listed(&["f", "f"]).after(&known);
    assert_eq!(found, [""; 0]);
    assert_eq!(listed(&["p", "f", "f"]).after(&next).0, ["fixed 4: a.0"]);
}

#[test]
fn without_an_older_pass_no_commit_is_accused() {
    assert_eq!(stream(&[&["f"], &["f", "f"], &["p", "f", "f"]]), [[""; 0], [], []]);
    assert_eq!(stream(&[&["l", "p"], &["p", "l", "p"]]), [[""; 0], []], "flaky");
}

#[test]
fn what_existed_before_is_no_news() {
    let before = Branch::new(&["f", "p"]);
    let known = before.examine(&Known::default(), true).1;
    assert_eq!(before.after(&known).0, Vec::<String>::new());
    assert_eq!(Branch::new(&["p", "f", "p"]).after(&known).0, Vec::<String>::new());
    assert_eq!(Branch::new(&["f", "p", "f", "p"]).after(&known).0, ["broke 4: a.0"]);
}

#[test]
fn it_waits_for_retries_and_for_commits_between() {
    let known = Branch::new(&[]).examine(&Known::default(), true).1;
    let mut unconfirmed = Branch::new(&["f", "p"]);
    (unconfirmed.retries, unconfirmed.busy) = ((0, 0), vec![0]);
    let (found, next) = unconfirmed.after(&known);
    assert_eq!((found.len(), next.waits()), (0, true));
    unconfirmed.busy.clear();
    assert_eq!(unconfirmed.after(&next).0, ["broke 2: a.0"], "it has no retries");
    // Commit 2 is not tested yet.
    let mut hole = Branch::new(&["f", "-", "p"]);
    hole.busy = vec![1];
    let (found, next) = hole.after(&known);
    assert_eq!((found.len(), next.waits()), (0, true));
    assert_eq!(Branch::new(&["f", "f", "p"]).after(&next).0, ["broke 2: a.0"]);
    // The first bad commit is found later to be older.
    let (found, next) = Branch::new(&["f", "-", "p"]).after(&known);
    assert_eq!(found, ["broke 3: a.0"]);
    assert_eq!(Branch::new(&["f", "f", "p"]).after(&next).0, Vec::<String>::new());
    // Another round is needed: the queue may be older than the results.
    let (found, next) = Branch::new(&["f", "p"]).examine(&known, false);
    assert_eq!((found.len(), next.waits()), (0, true));
}

#[test]
fn a_fix_of_a_failure_that_also_passed_has_to_be_believed() {
    let known = Branch::new(&[]).examine(&Known::default(), true).1;
    let mut flaky = Branch::new(&["f", "p"]);
    flaky.retries = (1, 1);
    let known = flaky.after(&known).1;
    let mut fixed = Branch::new(&["p", "f", "p"]);
    fixed.retries = (1, 1);
    assert_eq!(fixed.after(&known).0, Vec::<String>::new());
}

#[test]
fn a_build_that_breaks_is_one_finding() {
    let found = stream(&[&["bb", "pp"], &["pp", "bb", "pp"]]);
    assert_eq!(found[0].len(), 1, "{found:?}");
    assert!(found[0][0].starts_with("build_broke 2"), "{found:?}");
    assert!(found[1][0].starts_with("build_fixed 3") && found[1].len() == 1, "{found:?}");
}

#[test]
fn ids_are_stable_and_differ() {
    let branch: BranchRef = "kmo/next".parse().unwrap();
    let id = |kind, cause: &str, at: usize| digest(&branch, kind, cause, Some(&commit(at)));
    let first = id(FindingKind::Broke, "lost", 1);
    assert_eq!(first, id(FindingKind::Broke, "lost", 1));
    let others = [
        id(FindingKind::Fixed, "lost", 1),
        id(FindingKind::Broke, "los", 1),
        id(FindingKind::Broke, "lost", 2),
    ];
    assert!(!others.contains(&first) && first.len() == 16);
}
