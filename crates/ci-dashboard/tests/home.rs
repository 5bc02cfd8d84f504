//! The list of branches: the order, the filter, pages.

mod common;

use common::{Farm, NOW, page_text};
use model::Verdict;
use testkit::results_fixture::{TestResult, commit_id};

/// Branches with one test each: `fine`, `old` (fails for a while), `broke` (fails at its newest commit), `build` (no longer builds).
fn farm() -> Farm {
    Farm::with(|fixture| {
        for name in ["broke", "build", "fine", "old"] {
            let commits: Vec<_> = (0..3)
                .map(|row| (commit_id(&format!("{name} {row}")), format!("ext4: {name} {row}")))
                .collect();
            let user = if name == "broke" { "zoe" } else { "amy" };
            fixture.branch(user, name, &commits);
            fixture.authors(&[(&commits[0].0, "Mira Example", NOW - 100)]);
            for (row, (commit, _)) in commits.iter().enumerate() {
                let verdict = match (name, row) {
                    ("broke", 0) | ("old", 0 | 1) => Verdict::Failed { reason: "x".into() },
                    ("build", 0) => {
                        Verdict::FailedToRun { reason: model::build_failed_reason("a.c:1: error: x") }
                    }
                    _ => Verdict::Passed,
                };
                fixture.test(TestResult::new(commit, "boot.boots", verdict, 10).on("farm1", 2, NOW - 100));
            }
        }
        for number in 0..50 {
            fixture.branch(
                "tim",
                &format!("topic/{number:02}"),
                &[(commit_id(&format!("t {number}")), "x".into())],
            );
        }
    })
}

#[test]
fn newly_broken_branches_come_first() {
    let farm = farm();
    let page = farm.get("/ci");
    let text = page_text(&page);
    let at = |name: &str| text.find(&format!("\n| {name} |")).unwrap_or_else(|| panic!("{name}: {text}"));
    assert!(at("broke") < at("old") && at("build") < at("old") && at("old") < at("fine"), "{text}");
    assert!(at("fine") < at("topic/00"), "{text}");
    assert!(text.contains("✗ 1 failed 1 new") && text.contains("✗ 1 failed 1 earlier"), "{text}");
    assert!(text.contains("✗ build failed new") && text.contains("Mira Example"), "{text}");
    assert!(page.contains(r#"aria-label="2 of the newest 3 tested commits failed""#), "{page}");
    // 54 branches are two pages.
    assert!(text.contains("page 1 of 2, 54 branches") && !text.contains("topic/49"), "{text}");
    let next = page_text(&farm.get("/ci?find=&page=1"));
    assert!(next.contains("topic/49") && !next.contains("| broke"), "{next}");
}

#[test]
fn the_filter_keeps_what_was_typed() {
    let farm = farm();
    let page = farm.get("/ci?find=AMY/o%22%3F");
    assert!(page.contains(r#"name="find" value="AMY/o&#34;?""#), "{page}");
    let text = page_text(&page);
    assert!(text.contains("| old |") && !text.contains("| fine |") && !text.contains("topic"), "{text}");
    let none = page_text(&farm.get("/ci?user=amy&find=nothing"));
    assert!(none.contains("No branch matches nothing."), "{none}");
    assert_eq!(farm.status("/ci?find=("), 400);
    assert_eq!(farm.get("/ci?find=nothing&format=json"), farm.get("/ci?format=json"));
}
