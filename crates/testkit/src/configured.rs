//! A branch with tests in several configurations.

use model::Verdict;

use crate::results_fixture::{ResultsFixture, TestResult, commit_id};

/// Writes the branch `<user>/<branch>`: two commits with tests in three configurations, of which one fails at the newer commit, and an
/// older one that has tests for `debian_trixie`.
pub fn configured(fixture: &ResultsFixture, user: &str, branch: &str) {
    let commits =
        ["three", "two", "one"].map(|name| (commit_id(&format!("{branch} {name}")), name.to_owned()));
    fixture.branch(user, branch, &commits);
    let [three, two, one] = commits.map(|(commit, _)| commit);
    let keys = ["fs.a.x", "fs.a@ktest_arch=aarch64.x", "fs.a@ktest_arch=aarch64,ktest_flavor=kasan.x"];
    for commit in [&three, &two] {
        for key in keys {
            let is_bad = *commit == three && key.contains("kasan");
            let verdict = if is_bad { Verdict::Failed { reason: "KASAN".into() } } else { Verdict::Passed };
            fixture.test(TestResult::new(commit, key, verdict, 1000));
        }
    }
    for key in [keys[0], "fs.a@debian_trixie.x"] {
        fixture.test(TestResult::new(&one, key, Verdict::Passed, 1000));
    }
}
