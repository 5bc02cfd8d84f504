//! The first run of a test on a branch is compared with its runs on other branches.

mod common;

use common::{Farm, NOW};
use model::Verdict;
use testkit::results_fixture::{TestResult, commit_id};

const SOAK: &str = "fs.ext4.basic.soak";

/// A branch on which a test takes 10 minutes, and a new branch on which it takes 3 s. Another test is always short.
fn farm() -> Farm {
    Farm::with(|fixture| {
        let listing = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| (commit_id(name), (*name).to_owned())).collect()
        };
        let old = listing(&["5", "4", "3", "2", "1"]);
        let new = listing(&["fast", "same"]);
        fixture.branch("mira", "old", &old);
        fixture.branch("mira", "new", &new[..1]);
        fixture.branch("mira", "other", &new[1..]);
        for ((commit, _), at) in old.iter().zip([0, 1, 2, 3, 9]) {
            // The last one started later than the runs of the new branches.
            let started = NOW - 1000 + 200 * at;
            fixture.test(TestResult::new(commit, SOAK, Verdict::Passed, 600_000).on("farm1", 0, started));
        }
        let runs = [("fast", 3_000), ("same", 590_000)];
        for (name, millis) in runs {
            let commit = commit_id(name);
            fixture.test(TestResult::new(&commit, SOAK, Verdict::Passed, millis).on("farm2", 0, NOW));
            let short = TestResult::new(&commit, "fs.ext4.basic.short", Verdict::Passed, 10);
            fixture.test(short.on("farm2", 0, NOW));
        }
        let earlier = commit_id("before");
        fixture.test(TestResult::new(&earlier, SOAK, Verdict::Passed, 610_000).on("farm1", 0, NOW - 9000));
    })
}

#[test]
fn a_soak_test_that_takes_seconds_is_suspicious_on_its_first_run() {
    let farm = farm();
    let page = farm.get(&format!("/c/{}/", commit_id("fast")));
    let words = "passed in 3.0 s, median of the 5 passes before on all branches: 600.0 s";
    assert!(page.contains(words), "{page}");
    assert!(farm.get("/ci?user=mira&branch=new").contains("1 suspicious pass"));
    for (branch, name) in [("other", "same"), ("old", "1")] {
        assert!(!farm.get(&format!("/c/{}/", commit_id(name))).contains("suspicious"), "{name}");
        assert!(!farm.get(&format!("/ci?user=mira&branch={branch}")).contains("suspicious"), "{branch}");
    }
}
