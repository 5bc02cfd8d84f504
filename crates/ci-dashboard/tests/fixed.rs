//! A test that failed and passes: pages say "fixed" in green only when its passes prove it.

mod common;

use common::{Farm, NOW, page_text};
use model::{CommitId, Verdict};
use testkit::results_fixture::{TestResult, commit_id};

const BRANCH: &str = "/ci?user=mira&branch=next";
const SOON: &str = "fs.ext4.basic.soon";
const FLAKY: &str = "fs.ext4.basic.flaky";
const LONG: &str = "fs.ext4.basic.long";

fn commits() -> Vec<CommitId> {
    (0..8).map(|row| commit_id(&format!("commit {row}"))).collect()
}

/// Rows 4 and 5 fail in both attempts, the newer ones pass. Another test fails in one of 4 attempts of row 4. The third one
/// failed after 10 minutes, and passes after 3 s.
fn farm() -> Farm {
    Farm::with(|fixture| {
        let listing: Vec<_> =
            commits().into_iter().map(|commit| (commit, "ext4: a change".to_owned())).collect();
        fixture.branch("mira", "next", &listing);
        let failed = || Verdict::Failed { reason: "lost 3 files".into() };
        for (row, (commit, _)) in (0..).zip(&listing) {
            let test = |key: &str, verdict: Verdict, millis: u64| {
                fixture.test(TestResult::new(commit, key, verdict, millis).on("farm1", 0, NOW - 100 * row));
            };
            match row {
                4 | 5 => {
                    test(SOON, failed(), 900);
                    test(SOON, failed(), 900);
                    test(LONG, failed(), 600_000);
                }
                _ => {
                    test(SOON, Verdict::Passed, 900);
                    test(LONG, Verdict::Passed, if row == 3 { 601_000 } else { 3_000 });
                }
            }
            if row == 4 {
                test(FLAKY, failed(), 900);
                test(FLAKY, Verdict::Passed, 900);
                test(FLAKY, Verdict::Passed, 900);
            }
            test(FLAKY, Verdict::Passed, 900);
        }
    })
}

#[test]
fn only_a_fix_that_is_believed_is_green() {
    let farm = farm();
    let branch = farm.get(BRANCH);
    assert!(
        branch.contains(
            r#"<span class="delta good"><span>▲ fixed:</span><span class="key">fs.ext4.basic.soon"#
        ),
        "{branch}"
    );
    let claimed = "<span class=\"delta mute\"><span>▲ fixed? 1 of 3 runs, 3 too short:</span><span class=\"key\">fs.ext4.basic.long";
    assert!(branch.contains(claimed), "{branch}");
    assert!(branch.contains(r#"<span class="good">▲ fixed</span>"#), "{branch}");
    assert!(branch.contains(r#"<span class="mute">▲ fixed? 1 of 3 runs, 3 too short</span>"#), "{branch}");
    let history = |key: &str| farm.get(&format!("{BRANCH}&history={key}"));
    assert!(history(SOON).contains(r#"<span class="delta good">▲ fixed</span>"#), "{}", history(SOON));
    assert!(
        history(LONG).contains(r#"<span class="delta mute">▲ fixed? 1 of 3 runs, 3 too short</span>"#),
        "{}",
        history(LONG)
    );
    // No commit claims to fix a flaky test, but its passes count.
    let flaky = page_text(&history(FLAKY));
    let since = commits()[3].short().to_owned();
    assert!(flaky.contains(&format!("fixed? 4 of 24 runs since {since}")) && !flaky.contains("▲"), "{flaky}");
    let json: serde_json::Value =
        serde_json::from_str(&farm.get(&format!("{BRANCH}&history={LONG}&format=json"))).unwrap_or_default();
    let fix = r#"{"failed":2,"needed":3,"passes":1,"runs":2,"state":"unproven","too_short":3}"#;
    assert_eq!(json[3]["fix"].to_string(), fix);
    assert_eq!(json[0].get("fix"), None);
}

#[test]
fn a_comparison_has_the_runs_of_its_commits() {
    let (farm, commits) = (farm(), commits());
    let page = farm.get(&format!("/ci?compare={}..{}", commits[4], commits[3]));
    let text = page_text(&page);
    assert!(text.contains("2 fixed?") && !page.contains("<h2 class=\"good\">"), "{text}");
    assert!(text.contains("fixed? 1 of 3 runs") && text.contains("fixed? 1 of 5 runs"), "{text}");
}

#[test]
fn the_page_of_a_pass_shows_what_it_proves() {
    let farm = farm();
    let html = |row: usize, key: &str| farm.get(&format!("/c/{}/{key}/", commits()[row]));
    assert!(html(3, SOON).contains(r#"<span class="good">▲ fixed</span>"#), "{}", html(3, SOON));
    let claim = r#"<span class="mute">▲ fixed? 1 of 3 runs, 3 too short</span>"#;
    assert!(html(3, LONG).contains(claim), "{}", html(3, LONG));
    let since = commits()[3].short().to_owned();
    let page = page_text(&html(1, LONG));
    assert!(page.contains(&format!("fixed? 1 of 3 runs, 3 too short since {since}")), "{page}");
    let json = |row: usize, key: &str| -> serde_json::Value {
        let text = farm.get(&format!("/c/{}/{key}/?format=json", commits()[row]));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["fix"].clone()
    };
    assert_eq!((&json(3, LONG)["passes"], &json(1, LONG)["needed"]), (&1.into(), &3.into()));
    assert_eq!(json(3, SOON)["state"], "fixed");
    assert_eq!((json(1, SOON), json(4, LONG)), (serde_json::Value::Null, serde_json::Value::Null));
    // A believed fix is not repeated, and neither failures nor older passes prove anything.
    for (row, key) in [(1, SOON), (4, LONG), (5, SOON), (6, LONG)] {
        assert!(!html(row, key).contains("fixed"), "{row} {key}");
    }
    // No commit claims to fix a flaky test.
    let flaky = page_text(&html(3, FLAKY));
    assert!(flaky.contains(&format!("fixed? 4 of 24 runs since {since}")) && !flaky.contains('▲'), "{flaky}");
}
