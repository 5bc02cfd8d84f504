//! What is known of a commit from others: tests that wait for an idle slot, because they ran at one with the same code, and the results
//! of those with the same patch.

mod common;

use common::Farm;
use model::Verdict;
use testkit::results_fixture::{TestResult, commit_id};

fn farm() -> Farm {
    Farm::with(|fixture| {
        let [new, old, older] = ["new", "old", "older"].map(commit_id);
        let listing = [(&new, "new"), (&old, "old"), (&older, "older")];
        let listing: Vec<_> = listing.map(|(id, name)| (id.clone(), name.to_owned())).to_vec();
        fixture.branch("kmo", "next", &listing);
        for (key, source) in
            [("t.a", &old), ("t.b", &old), ("t.c", &older), ("t.gone", &older), ("t.ran", &old)]
        {
            fixture.waiting(&new, key, source);
        }
        let failed = Verdict::Failed { reason: "lost".into() };
        fixture.test(TestResult::new(&old, "t.a", Verdict::Passed, 100));
        fixture.test(TestResult::new(&old, "t.b", failed, 100));
        fixture.test(TestResult::new(&old, "t.ran", Verdict::Passed, 100));
        fixture.test(TestResult::new(&older, "t.c", Verdict::Passed, 100));
        fixture.test(TestResult::new(&new, "t.ran", Verdict::Passed, 100));
    })
}

#[test]
fn a_commit_has_the_verdicts_of_a_commit_with_the_same_code() {
    let farm = farm();
    let page = common::page_text(&farm.get(&format!("/c/{}/", commit_id("new"))));
    let (old, older) = (commit_id("old"), commit_id("older"));
    let first = format!("○ 2 tests wait for an idle slot. With the same code, at {}", old.short());
    let second = format!("○ 1 test waits for an idle slot. With the same code, at {}", older.short());
    assert!(page.contains(&first) && page.contains(&second), "{page}");
    // They are no results: neither in the counts nor on the branch.
    let json = farm.get(&format!("/c/{}/?format=json", commit_id("new")));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["tests"].as_array().map(Vec::len), Some(1));
    let names: Vec<_> = json["same_code"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["t.a", "t.b", "t.c"]);
    assert_eq!(
        (&json["same_code"][1]["status"], &json["same_code"][1]["commit"]),
        (&"Failed".into(), &old.as_str().into())
    );
    // A filter applies to them.
    let filtered = common::page_text(&farm.get(&format!("/c/{}/?test=t.c", commit_id("new"))));
    assert!(filtered.contains(&second) && !filtered.contains("2 tests wait"), "{filtered}");
    assert!(!farm.get(&format!("/c/{old}/")).contains("idle slot"));
}

#[test]
fn a_commit_has_the_counts_of_those_with_the_same_patch() {
    let farm = Farm::with(|fixture| {
        let [new, old, other] = ["new", "old", "other"].map(commit_id);
        fixture.branch("kmo", "next", &[(new.clone(), "v2".to_owned())]);
        for commit in [&new, &old] {
            fixture.patch(commit, "0123abcd");
        }
        fixture.patch(&other, "4567");
        for commit in [&old, &other] {
            let failed = Verdict::Failed { reason: "lost".into() };
            fixture.test(TestResult::new(commit, "t.a", Verdict::Passed, 100));
            fixture.test(TestResult::new(commit, "t.b", failed, 100));
        }
    });
    let (new, old) = (commit_id("new"), commit_id("old"));
    let page = farm.get(&format!("/c/{new}/"));
    let line =
        format!("○ The same patch on another base, at {}, which is no result of this commit:", old.short());
    let text = common::page_text(&page);
    assert!(text.contains("This commit is not tested yet."), "{text}");
    assert_eq!((text.matches("The same patch").count(), text.contains(&line)), (1, true), "{text}");
    let json: serde_json::Value = serde_json::from_str(&farm.get(&format!("/c/{new}/?format=json"))).unwrap();
    let [row] = json["same_patch"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!((&row["commit"], &row["counts"]["failed"]), (&old.as_str().into(), &1.into()));
    assert!(!farm.get(&format!("/c/{}/", commit_id("other"))).contains("same patch"));
}
