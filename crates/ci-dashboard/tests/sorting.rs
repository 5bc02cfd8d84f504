//! The order of the history of a test.

mod common;

use common::{Farm, page_text};
use model::{CommitId, Verdict};
use testkit::results_fixture::{TestResult, commit_id};

const KEY: &str = "fs.ext4.basic.punch";

/// Three commits with results, of 3 s, 1 s and 2 s from the newest on, and one without.
fn farm() -> Farm {
    Farm::with(|fixture| {
        let names = ["new", "none", "middle", "old"];
        let listed: Vec<(CommitId, String)> =
            names.iter().map(|name| (commit_id(name), format!("subject {name}"))).collect();
        fixture.branch("u", "b", &listed);
        for (name, took, host) in [("new", 3000, "a"), ("middle", 1000, "c"), ("old", 2000, "b")] {
            let verdict =
                if name == "old" { Verdict::Failed { reason: "lost".into() } } else { Verdict::Passed };
            let result = TestResult::new(&commit_id(name), KEY, verdict, took);
            fixture.test(result.on(host, 0, common::NOW - 9));
        }
    })
}

#[test]
fn the_heads_of_a_history_sort_its_commits_and_its_hosts() {
    let farm = farm();
    let address = format!("/ci?user=u&branch=b&history={KEY}");
    let order = |sort: &str| {
        let text = page_text(&farm.get(&format!("{address}{sort}")));
        let commits = text.split("Commits ").nth(1).unwrap_or_default().to_owned();
        let mut found: Vec<(usize, &str)> = ["new", "middle", "old"]
            .map(|name| (commits.find(&format!("subject {name}")).unwrap(), name))
            .into();
        found.sort_unstable();
        let names: Vec<&str> = found.into_iter().map(|(_, name)| name).collect();
        (names.join(" "), commits.contains("without a result"))
    };
    assert_eq!(order(""), ("new middle old".into(), true));
    assert_eq!(order("&sort=took"), ("new old middle".into(), false));
    assert_eq!(order("&sort=-took"), ("middle old new".into(), false));
    assert_eq!(order("&sort=host"), ("new old middle".into(), false));
    assert_eq!(order("&sort=-commit"), ("old middle new".into(), false));
    // The table of the hosts has this column; the commits keep their order.
    assert_eq!(order("&sort=-name"), ("new middle old".into(), true));
    let html = farm.get(&format!("{address}&sort=-name"));
    assert!(html.contains("aria-sort=\"descending\""), "{html}");
    assert_eq!(farm.status(&format!("{address}&sort=tok")), 400);
}
