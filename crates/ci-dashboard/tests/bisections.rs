//! The bisection of a test, on its pages.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Farm, NOW, page_text};
use model::{CommitId, Verdict};
use testkit::results_fixture::{TestResult, commit_id};

const TEST: &str = "fs.ext4.basic.punch";

/// Newest first. Row 0 is newer than the head of the bisection, and the base is row 5.
fn commits() -> Vec<CommitId> {
    (0..7).map(|row| commit_id(&format!("commit {row}"))).collect()
}

fn farm(state: &serde_json::Value, verified: bool) -> Farm {
    let commits = commits();
    let farm = Farm::with(|fixture| {
        let listing: Vec<_> = commits.iter().map(|id| (id.clone(), "ext4: a change".to_owned())).collect();
        fixture.branch("mira", "next", &listing);
        for (row, (commit, _)) in listing.iter().enumerate().filter(|(row, _)| [0, 1, 5, 6].contains(row)) {
            let lost = Verdict::Failed { reason: "lost a file".into() };
            let verdict = if row < 2 { lost } else { Verdict::Passed };
            fixture.test(TestResult::new(commit, TEST, verdict, 900).on("farm1", 0, NOW));
        }
    });
    let range: Vec<&CommitId> = commits[1..=5].iter().rev().collect();
    let id = results::bisections::id(&TEST.parse().unwrap(), range[0], range[4]);
    let rate = serde_json::json!({"failures": 0, "attempts": 0, "low": 0.0, "high": 1.0});
    let mut record = serde_json::json!({
        "id": id, "test": TEST, "signature": "lost a file", "base": range[0], "head": range[4],
        "posterior": [{"commit": range[3], "probability": 0.997}, {"commit": range[2], "probability": 0.002}],
        "no_culprit": 0.001, "rates": {"old": rate, "new": rate}, "steps": [],
        "runs": 9, "builds": 3, "wall_s": 12.5, "branch": {"user": "mira", "branch": "next"}, "begun": NOW, "commits": range,
        "earlier": {"failures": 0, "passes": 1}, "run_s": 0.9, "builds_kernel": true, "counted": {}, "pending": [],
    });
    record.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
    if verified {
        record["verification"] = serde_json::json!({
            "runs_each": 5, "culprit": {"failures": 5, "passes": 0}, "parent": {"failures": 0, "passes": 5},
            "p": 0.004, "confirmed": true, "revert_fixes": false,
        });
    }
    results::bisections::write(farm.path(), &id, &record.to_string()).unwrap();
    assert_eq!(results::bisections::list(farm.path()).problems, [""; 0]);
    farm
}

fn page(farm: &Farm, row: usize) -> String {
    page_text(&farm.get(&format!("/c/{}/{TEST}/", commits()[row])))
}

#[test]
fn the_history_of_a_test_shows_its_suspects_and_its_failures_the_result() {
    let culprit = serde_json::json!({"state": "culprit", "culprit": commits()[2], "parent": commits()[3]});
    let farm = farm(&culprit, true);
    let short = commits()[2].short().to_owned();
    let line = format!("Bisection, found: first bad commit {short}, posterior 0.997, verified 5 of 5");
    let html = farm.get(&format!("/ci?user=mira&branch=next&history={TEST}"));
    let history = page_text(&html);
    assert!(history.contains(&line), "{history}");
    assert!(history.contains("suspect, 99.7 %") && history.contains("suspect, 0.2 %"), "{history}");
    assert!(
        html.contains(r#"width="80" height="8"/>"#) && html.contains(r#"width="1" height="8"/>"#),
        "{html}"
    );
    // The suspects have no results; the others without one are collapsed.
    assert!(history.contains("1 commit without a result") && history.contains("no result"), "{history}");
    for (row, has) in [(0, true), (1, true), (5, false), (6, false)] {
        assert_eq!(page(&farm, row).contains(&line), has, "{row}");
    }
    // The link leads to the record.
    let (_, after) = html.split_once("href=\"/c/bisect/").unwrap();
    let (name, _) = after.split_once('"').unwrap();
    let record: serde_json::Value = serde_json::from_str(&farm.get(&format!("/c/bisect/{name}"))).unwrap();
    assert_eq!((&record["state"], &record["runs"]), (&"culprit".into(), &9.into()));
    assert_eq!(farm.status("/c/bisect/no-such.json"), 404);
    assert_eq!(farm.status("/c/bisect/..%2f..%2fsecret.json"), 404);
}

#[test]
fn the_branch_has_a_bar_for_each_suspect() {
    let farm = farm(&serde_json::json!({"state": "running"}), false);
    let html = farm.get("/ci?user=mira&branch=next");
    let branch = page_text(&html);
    let short = commits()[2].short().to_owned();
    let line = format!("Bisection of {TEST}, running: most probable: {short} with 99.7 %");
    assert!(branch.contains(&line), "{branch}");
    assert!(branch.contains("suspect, 99.7 %") && branch.contains("suspect, 0.2 %"), "{branch}");
    // Untested suspects have rows of their own; the others are collapsed.
    assert!(branch.contains("1 commit not tested"), "{branch}");
    // A filter that leaves the test out leaves out its bisection.
    let other = page_text(&farm.get("/ci?user=mira&branch=next&test=no.such"));
    assert!(!other.contains("Bisection"), "{other}");
}

#[test]
fn a_running_bisection_and_a_record_that_cannot_be_read() {
    let farm = farm(&serde_json::json!({"state": "running"}), false);
    let most = format!("Bisection, running: most probable: {} with 99.7 %", commits()[2].short());
    assert!(page(&farm, 1).contains(&most), "{}", page(&farm, 1));
    for entry in std::fs::read_dir(farm.path().join("bisect")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{\"id\": 1").unwrap();
    }
    // A page is at most half a second old.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(!page(&farm, 1).contains("Bisection"));
}

#[test]
fn the_first_bad_commit_in_a_merge_is_shown() {
    let culprit = serde_json::json!({"state": "culprit", "culprit": commits()[2], "parent": commits()[3]});
    let farm = farm(&culprit, true);
    let mut found = results::bisections::list(farm.path()).records.remove(0);
    let (inner, parent) = (commit_id("of the side"), commit_id("before it"));
    // The search continued in the merge.
    let outer = found.record.clone();
    let (merge, base) = (commits()[2].clone(), commits()[3].clone());
    found.record.outer = vec![outer];
    found.record.state = belief::bisect::State::Culprit {
        culprit: inner.clone(),
        parent: parent.clone(),
        second_parent: None,
    };
    found.record.posterior = vec![belief::bisect::Suspicion { commit: inner.clone(), probability: 0.995 }];
    (found.record.base, found.record.head) = (base.clone(), merge.clone());
    let verification = found.record.verification.as_mut().unwrap();
    (verification.revert, verification.revert_fixes) = (Some(belief::Tally::new(0, 5)), true);
    found.outer_commits =
        std::mem::replace(&mut found.commits, vec![base, parent, inner.clone(), merge.clone()]);
    results::bisections::write(farm.path(), &found.record.id, &results::bisections::text(&found)).unwrap();
    assert_eq!(results::bisections::list(farm.path()).problems, [""; 0]);
    let line = format!(
        "Bisection, found: first bad commit {}, in merge {}, posterior 0.995, verified 5 of 5, revert fixes it",
        inner.short(),
        merge.short()
    );
    let history = page_text(&farm.get(&format!("/ci?user=mira&branch=next&history={TEST}")));
    assert!(history.contains(&line), "{history}");
    // The merge keeps the bar of its search.
    assert!(history.contains("suspect, 99.7 %") && history.contains("suspect, 0.2 %"), "{history}");
    for (row, has) in [(0, true), (1, true), (5, false), (6, false)] {
        assert_eq!(page(&farm, row).contains(&line), has, "{row}");
    }
}
