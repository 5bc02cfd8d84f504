//! A branch that was force-pushed.

use model::{CommitId, Verdict};
use results::pushes::{self, Mark, Push, PushedCommit, Pushes};

use crate::results_fixture::{ResultsFixture, TestResult, commit_id};

/// The tests of each commit.
const TESTS: [&str; 3] = ["fs.ext4.basic.punch", "fs.ext4.basic.rename", "fs.ext4.basic.xattr"];

/// Writes the branch `<user>/<branch>`, with a force-push at the time `at` (Unix seconds): one commit kept its results, one
/// changed, broke a test and fixed another, one is new and not tested yet, one is gone, and one is in both versions.
pub fn pushed(fixture: &ResultsFixture, user: &str, branch: &str, at: i64) {
    let old = |subject: &str| commit_id(&format!("old {branch} {subject}"));
    let new = |subject: &str| commit_id(&format!("new {branch} {subject}"));
    let (kept, changed, added) =
        ("ext4: kept <b>&amp;\u{1b}[31m", "ext4: changed", "ext4: new \u{202e}subject");
    let (gone, base) = ("ext4: gone", commit_id(&format!("{branch} base")));
    let listing =
        [(new(added), added), (new(changed), changed), (new(kept), kept), (base.clone(), "ext4: unchanged")];
    let listing: Vec<(CommitId, String)> =
        listing.into_iter().map(|(commit, subject)| (commit, subject.to_owned())).collect();
    fixture.branch(user, branch, &listing);
    // The letters are those of the verdicts of the tests.
    let tests = |commit: &CommitId, letters: &str, source: Option<&CommitId>| {
        for (test, letter) in TESTS.iter().zip(letters.chars()) {
            let verdict = match letter {
                'p' => Verdict::Passed,
                _ => Verdict::Failed { reason: "lost 3 of 8".into() },
            };
            let result = TestResult::new(commit, test, verdict, 90_000).on("farm1", 0, at);
            fixture.test(source.map_or(result.clone(), |source| result.inherited_from(source)));
        }
    };
    tests(&base, "ppp", None);
    tests(&old(kept), "ppp", None);
    tests(&old(changed), "ppf", None);
    tests(&old(gone), "ppp", None);
    tests(&new(kept), "ppp", Some(&old(kept)));
    tests(&new(changed), "fpp", None);
    let pair = |mark, was: Option<CommitId>, is: Option<CommitId>, subject: &str| PushedCommit {
        mark,
        old: was,
        new: is,
        subject: subject.into(),
    };
    let push = Push {
        at,
        old: old(gone),
        new: new(added),
        pairs: vec![
            pair(Mark::New, None, Some(new(added)), added),
            pair(Mark::Gone, Some(old(gone)), None, gone),
            pair(Mark::Changed, Some(old(changed)), Some(new(changed)), changed),
            pair(Mark::Kept, Some(old(kept)), Some(new(kept)), kept),
        ],
        unchanged: 1,
        is_cut: false,
        problem: None,
    };
    let earlier = Push {
        at: at - 3600,
        old: commit_id("earlier"),
        new: old(gone),
        pairs: Vec::new(),
        unchanged: 0,
        is_cut: true,
        problem: Some("the versions have no commit in common <i>".into()),
    };
    let mut recorded = Pushes::new(push.new.clone());
    recorded.add(earlier);
    recorded.add(push);
    fixture.pushes(user, branch, &recorded);
}

impl ResultsFixture {
    /// Writes the force-pushes of a branch.
    pub fn pushes(&self, user: &str, branch: &str, recorded: &Pushes) -> &Self {
        let at = format!("{user}/{branch}").parse().expect("the name of a branch");
        pushes::write(self.dir(), &at, recorded).expect("the pushes are written");
        self
    }
}
