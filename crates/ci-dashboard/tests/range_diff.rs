//! The page of a force-push, and its line on the page of the branch.

mod common;

use common::{Farm, NOW, page_text};
use model::Verdict;
use results::pushes::{Mark, Push, PushedCommit, Pushes};
use testkit::results_fixture::{TestResult, commit_id};

const BRANCH: &str = "/ci?user=mira&branch=next";

fn farm() -> Farm {
    Farm::with(|fixture| testkit::pushed(fixture, "mira", "next", NOW - 300))
}

#[test]
fn a_force_push_shows_what_became_of_each_commit() {
    let farm = farm();
    let page = farm.get(&format!("{BRANCH}&range-diff"));
    insta::assert_snapshot!("range_diff", page_text(&page));
    insta::assert_snapshot!("range_diff_json", farm.get(&format!("{BRANCH}&range-diff&format=json")));
    assert!(!page.contains("<b>") && !page.contains('\u{1b}'), "{page}");
    let branch = farm.get(BRANCH);
    let text = page_text(&branch);
    assert!(text.contains("2 of 4 commits kept their results, 1 to run"), "{text}");
    assert!(branch.contains("range-diff\">force-pushed</a>"), "{branch}");
    let (old, new) = (commit_id("old next ext4: changed"), commit_id("new next ext4: changed"));
    assert!(page.contains(&format!("compare={old}..{new}")), "{page}");
    assert_eq!(farm.status(&format!("/ci?user=mira&compare={old}..{new}")), 200);
    assert_eq!(farm.status(&format!("/c/{old}/")), 200);
}

#[test]
fn other_pushes_have_pages() {
    let farm = farm();
    let earlier = page_text(&farm.get(&format!("{BRANCH}&range-diff={}", commit_id("earlier"))));
    assert!(earlier.contains("no commit in common &#60;i&#62;"), "{earlier}");
    assert!(earlier.contains("more than 200 commits"), "{earlier}");
    assert_eq!(farm.status(&format!("{BRANCH}&range-diff={}", "7".repeat(40))), 404);
    assert_eq!(farm.status(&format!("{BRANCH}&range-diff=x")), 400);
    assert_eq!(farm.status("/ci?user=mira&branch=none&range-diff"), 404);
}

#[test]
fn an_old_push_and_a_damaged_file_are_not_on_the_page_of_the_branch() {
    let farm = Farm::with(|fixture| testkit::pushed(fixture, "mira", "next", NOW - 8 * 24 * 3600));
    assert!(!farm.get(BRANCH).contains("range-diff"));
    assert_eq!(farm.status(&format!("{BRANCH}&range-diff")), 200);
    let farm = self::farm();
    std::fs::write(farm.path().join("pushes.mira.next.json"), "{").unwrap();
    assert!(!farm.get(BRANCH).contains("range-diff"));
    assert_eq!(farm.status(&format!("{BRANCH}&range-diff")), 404);
}

#[test]
fn the_commits_of_a_base_that_moved_are_collapsed() {
    let farm = Farm::with(|fixture| {
        let commits: Vec<_> = (0..20).map(|row| commit_id(&format!("base {row}"))).collect();
        let listing: Vec<_> = commits.iter().map(|commit| (commit.clone(), "upstream".to_owned())).collect();
        fixture.branch("mira", "next", &listing);
        let (old, new) = (commit_id("old"), commits[0].clone());
        fixture.test(TestResult::new(&old, "fs.ext4.basic.punch", Verdict::Passed, 900));
        let kept = PushedCommit {
            mark: Mark::Kept,
            old: Some(old.clone()),
            new: Some(new.clone()),
            subject: "mine".into(),
        };
        let added = commits[1..].iter().map(|commit| PushedCommit {
            mark: Mark::New,
            old: None,
            new: Some(commit.clone()),
            subject: "upstream".into(),
        });
        let pairs = std::iter::once(kept).chain(added).collect();
        let mut pushes = Pushes::new(new.clone());
        pushes.add(Push { at: NOW, old, new, pairs, unchanged: 0, is_cut: false, problem: None });
        fixture.pushes("mira", "next", &pushes);
    });
    let text = page_text(&farm.get(&format!("{BRANCH}&range-diff")));
    assert_eq!(farm.status(&format!("/c/{}/", commit_id("old"))), 200);
    assert!(text.contains("19 commits below are new: the base of the branch has moved"), "{text}");
}
