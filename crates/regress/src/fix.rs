//! Fixes: what the passes since a test failed prove. The crate `belief` counts and decides.

use belief::{AtCommit, Confidence, FixClaim, FixState, Observation};
use model::Status;
use results::{HistoryEntry, TestEntry};

use crate::first_bad::{Stretch, stretches};

/// The maximum number of fixes of one test that are examined, newest first.
const FIXES_MAX: usize = 100;

/// A test that failed and passes since.
#[derive(Debug, Clone, PartialEq)]
pub struct Fix {
    /// The first commit that passes: rows are numbered from the newest commit, which is row 0.
    pub row: usize,
    /// Whether the commits before it only failed. Otherwise the test is flaky, and no commit claims to fix it.
    pub is_change: bool,
    /// What its passes prove.
    pub claim: FixClaim,
}

/// The fixes in the history of a test, newest first. The first one is about the newest failure.
#[must_use]
pub fn fixes(history: &[HistoryEntry]) -> Vec<Fix> {
    let status = |row: usize| history.get(row)?.entry.as_ref().map(TestEntry::status);
    let observations = |row: usize| {
        let HistoryEntry { commit, entry, .. } = &history[row];
        entry.as_ref().map(|entry| entry.observations(commit)).unwrap_or_default()
    };
    let found = stretches((0..history.len()).map(status));
    let flaky = flaky_stretch(history.len(), status, found.first());
    let fixed = |(stretch, is_change): (Stretch, bool)| {
        let claim = claim(&stretch, history.len(), status, observations, Confidence::USUAL)?;
        Some(Fix { row: stretch.first_good?, is_change, claim })
    };
    let all = flaky.map(|stretch| (stretch, false)).into_iter();
    let all = all.chain(found.into_iter().map(|stretch| (stretch, true)));
    all.filter(|(stretch, _)| !stretch.still_fails()).take(FIXES_MAX).filter_map(fixed).collect()
}

/// What the passes since the newest failure prove at a commit, with this confidence; `None` if no older commit fails, or if the test
/// fails at the commit or at a newer one. The test does not have to have a verdict at the commit.
#[must_use]
pub fn at(history: &[HistoryEntry], row: usize, confidence: Confidence) -> Option<FixClaim> {
    let recorded = |row: usize| history.get(row)?.entry.as_ref().map(TestEntry::status);
    let status = |at: usize| match recorded(at) {
        Some(status) if status.is_judged() => Some(status),
        _ if at == row => Some(Status::Passed),
        other => other,
    };
    let observations = |row: usize| {
        let HistoryEntry { commit, entry, .. } = &history[row];
        entry.as_ref().map(|entry| entry.observations(commit)).unwrap_or_default()
    };
    let newest = stretches((0..history.len()).map(status)).into_iter().next();
    let stretch = flaky_stretch(history.len(), status, newest.as_ref()).or(newest)?;
    stretch.first_good.filter(|good| row <= *good)?;
    claim(&stretch, history.len(), status, observations, confidence)
}

/// The newest commit at which the test is flaky, as a stretch, if it is newer than the passes after the newest other failure.
fn flaky_stretch(
    rows: usize,
    status: impl Fn(usize) -> Option<Status>,
    newest: Option<&Stretch>,
) -> Option<Stretch> {
    let end = newest.map_or(rows, |stretch| stretch.first_good.unwrap_or(0));
    let at = (0..end).find(|row| status(*row) == Some(Status::Flaky))?;
    let first_good = (0..at).rev().find(|row| status(*row) == Some(Status::Passed))?;
    Some(Stretch { first_bad: at, last_bad: at, last_good: None, first_good: Some(first_good) })
}

/// What the passes after a stretch prove, up to the next commit at which the test fails. `None` if the test still fails, or if its
/// failures have no attempts. Only the attempts at the rows that matter are read: if many commits pass, those next to the fix, until
/// it is believed.
pub fn claim(
    stretch: &Stretch,
    rows: usize,
    status: impl Fn(usize) -> Option<Status>,
    mut observations: impl FnMut(usize) -> Vec<Observation>,
    confidence: Confidence,
) -> Option<FixClaim> {
    let row = stretch.first_good?;
    let judged = |row: &usize| status(*row).is_some_and(Status::is_judged);
    let fails_again = (0..row).rev().find(|row| status(*row) == Some(Status::Failed)).unwrap_or(0);
    let since = (fails_again..=row).rev().filter(judged);
    let (passing, failing): (Vec<usize>, Vec<usize>) =
        since.partition(|row| status(*row) == Some(Status::Passed));
    // Without a flaky commit, only the stretch counts.
    let window = (row + 1..rows).filter(judged).take(belief::COMMITS);
    let is_flaky = window.clone().any(|row| status(row) == Some(Status::Flaky));
    let older: Vec<usize> = window.take_while(|row| is_flaky || *row <= stretch.first_bad).collect();
    let in_stretch = older.iter().filter(|row| **row <= stretch.first_bad).count();
    let older: Vec<AtCommit> = older.into_iter().map(&mut observations).collect();
    let mut since: Vec<AtCommit> = failing.into_iter().map(&mut observations).collect();
    let mut passing = passing.into_iter();
    loop {
        let claim = FixClaim::find(&since, &older, in_stretch, confidence)?;
        let missing = if claim.state() == FixState::Unproven { claim.missing() } else { 0 };
        let known = since.len();
        since.extend(passing.by_ref().take(missing as usize).map(&mut observations));
        if since.len() == known {
            return Some(claim);
        }
    }
}

/// `fixed? 14 of 33 runs`, `fixed`, or `not fixed, fails again`.
#[must_use]
pub fn words(claim: &FixClaim) -> String {
    match claim.state() {
        FixState::Fixed => "fixed".into(),
        FixState::StillFails => "not fixed, fails again".into(),
        FixState::Unproven => match claim.early_passes() {
            0 => claim.to_string(),
            early => format!("{claim}, {early} too short"),
        },
    }
}

#[cfg(test)]
mod tests {
    use belief::Evidence;
    use model::CommitId;
    use results::Attempt;

    use super::*;

    fn commit(row: usize) -> CommitId {
        format!("{row:040x}").parse().unwrap()
    }

    /// The attempts at a commit, in their order: the first one gives the verdict.
    fn entry(letters: &str) -> Option<TestEntry> {
        let attempts = letters.chars().zip(1..).map(|(letter, number)| {
            let status = match letter {
                'p' => Status::Passed,
                'r' => Status::FailedToRun,
                _ => Status::Failed,
            };
            Attempt { number, reason: Some(letter.to_string()), ..Attempt::new(status) }
        });
        let mut attempts: Vec<Attempt> = attempts.collect();
        let decisive = (!attempts.is_empty()).then(|| attempts.remove(0))?;
        Some(TestEntry { key: "a.b".parse().unwrap(), decisive, others: attempts })
    }

    fn history(newest_first: &[&str]) -> Vec<HistoryEntry> {
        let entry = |(row, letters): (usize, &&str)| HistoryEntry {
            commit: commit(row),
            message: String::new(),
            authorship: results::Authorship::default(),
            entry: entry(letters),
        };
        newest_first.iter().enumerate().map(entry).collect()
    }

    fn found(newest_first: &[&str]) -> Vec<(usize, String, String)> {
        let fix = |fix: Fix| (fix.row, fix.claim.evidence().to_string(), words(&fix.claim));
        fixes(&history(newest_first)).into_iter().map(fix).collect()
    }

    fn row(row: usize, evidence: &str, words: &str) -> (usize, String, String) {
        (row, evidence.into(), words.into())
    }

    #[test]
    fn the_fixes_of_a_test() {
        assert_eq!(found(&[]), []);
        assert_eq!(found(&["p", "", "p"]), []);
        assert_eq!(found(&["ff", "p"]), [], "it still fails");
        assert_eq!(found(&["", "p", "r", "ff", "p"]), [row(1, "2/2", "fixed? 1 of 3 runs")]);
        assert_eq!(found(&["p", "pp", "ff", "p"]), [row(1, "2/2", "fixed")]);
        // Each fix has its own evidence. The passes up to the next failure count.
        let twice = found(&["p", "x", "p", "p", "ff", "ff", "p"]);
        assert_eq!(twice, [row(0, "1/1", "fixed? 1 of 5 runs"), row(3, "4/4", "fixed")]);
        let again = found(&["f", "p", "ff", "p"]);
        assert_eq!(again, [row(1, "2/2", "not fixed, fails again")]);
    }

    #[test]
    fn the_fix_of_a_flaky_test() {
        let mut commits = vec!["p"; 14];
        commits.extend(["fppp", "p", "p", "pf", "p"]);
        let fix = &fixes(&history(&commits))[0];
        assert_eq!((fix.row, fix.is_change), (13, false));
        assert_eq!(fix.claim.evidence(), Evidence::new(2, 8).unwrap());
        assert_eq!(words(&fix.claim), "fixed? 14 of 17 runs");
        // Flaky before and after the commits at which it only failed.
        let mixed = found(&["p", "fp", "p", "f", "fp", "p", "pf"]);
        assert_eq!(mixed[0], row(0, "4/9", "fixed? 1 of 7 runs"));
        assert_eq!(mixed[1], row(2, "3/6", "not fixed, fails again"));
        assert_eq!(found(&["fp", "p"]), [], "no commit since passed only");
    }

    #[test]
    fn a_claim_at_a_commit() {
        let of = |newest_first: &[&str], row: usize| {
            at(&history(newest_first), row, Confidence::HIGH).map(|claim| words(&claim))
        };
        assert_eq!(of(&["", "ff", "p"], 0), Some("fixed? 0 of 6 runs".into()), "it has no verdict yet");
        assert_eq!(of(&["", "p", "", "ff", "p"], 0), Some("fixed? 1 of 6 runs".into()));
        assert_eq!(of(&["p", "ppp", "", "ff"], 1), Some("fixed? 4 of 6 runs".into()));
        assert_eq!(of(&["pf", "p", "f"], 0), Some("not fixed, fails again".into()));
        assert_eq!(of(&["f", "p"], 0), None);
        assert_eq!(of(&["p", "f", "p"], 2), None, "it was newer");
        assert_eq!(of(&["", "fp", "p", "p"], 0), Some("fixed? 0 of 36 runs".into()));
        assert_eq!(of(&["", "p"], 0), None);
    }

    #[test]
    fn only_the_rows_that_matter_are_read() {
        let read = |newest_first: &[&str]| {
            let history = history(newest_first);
            let status = |row: usize| history[row].entry.as_ref().map(TestEntry::status);
            let stretch = stretches((0..history.len()).map(status))[0];
            let mut read = Vec::new();
            let observations = |row: usize| {
                read.push(row);
                history[row].entry.as_ref().unwrap().observations(&history[row].commit)
            };
            let found = claim(&stretch, history.len(), status, observations, Confidence::USUAL);
            (found.unwrap().to_string(), read)
        };
        let few = read(&["p", "r", "p", "", "f", "f", "p", "p"]);
        assert_eq!(few, ("fixed? 2 of 3 runs".into(), vec![4, 5, 2, 0]));
        // The newest commits are not read once the fix is believed.
        let many = read(&[&["p"; 50][..], &["ff"]].concat());
        assert_eq!(many, ("fixed, 3 passes, 95 % confidence".into(), vec![50, 49, 48, 47]));
    }
}
