//! A test that fails on half of 40 commits, and passes its confirmation every time: it accuses no commit.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use ci_dashboard::Request;
use common::{Farm, NOW, body, page_text};
use model::{CommitId, StatusSnapshot, Verdict};
use testkit::results_fixture::{TestResult, commit_id};

const BRANCH: &str = "/ci?user=mira&branch=next";
const FLAKY: &str = "fs.ext4.basic.flaky";
const BROKEN: &str = "fs.ext4.basic.broken";

fn commits() -> Vec<CommitId> {
    (0..40).map(|row| commit_id(&format!("commit {row}"))).collect()
}

/// The results, newest commit first. The flaky test fails at every second commit, another one since row 9.
fn farm() -> Farm {
    Farm::with(|fixture| {
        let listing: Vec<_> =
            commits().into_iter().map(|commit| (commit, "ext4: a change".to_owned())).collect();
        fixture.branch("mira", "next", &listing);
        let failed = |reason: &str| Verdict::Failed { reason: reason.into() };
        for (row, (commit, _)) in listing.iter().enumerate() {
            let at = NOW - 100 * i64::try_from(row).unwrap();
            let broken = if row < 10 { failed("lost a file") } else { Verdict::Passed };
            fixture.test(TestResult::new(commit, BROKEN, broken, 900).on("farm1", 0, at));
            if row % 2 == 0 {
                let failed = failed("kernel BUG at fs/ext4/extents.c:3211!");
                let crashed = TestResult::new(commit, FLAKY, failed, 800).on("farm1", 1, at);
                fixture.test(crashed.crash("kernel BUG in ext4_ext_remove_space"));
            }
            fixture.test(TestResult::new(commit, FLAKY, Verdict::Passed, 800).on("farm2", 1, at + 5));
        }
    })
}

#[test]
fn a_flaky_failure_accuses_no_commit() {
    let farm = farm();
    let branch = farm.get(BRANCH);
    let text = page_text(&branch);
    assert!(text.contains("1 test failing now"), "{text}");
    let accused = |name: &str| text.lines().filter(|line| line.contains(name)).count();
    assert_eq!((accused(BROKEN), accused(FLAKY)), (2, 0), "{text}");
    assert!(branch.contains("flaky\">flaky tests</a>"), "{branch}");
    let feed = farm.get(&format!("{BRANCH}&format=atom"));
    assert!(feed.contains(BROKEN) && !feed.contains(FLAKY), "{feed}");
    let home = page_text(&farm.get("/ci?user=mira"));
    assert!(home.contains("1 failed"), "{home}");
    // A flaky crash is a crash.
    let crashes = page_text(&farm.get(&format!("{BRANCH}&crashes")));
    assert!(crashes.contains("kernel BUG in ext4_ext_remove_space"), "{crashes}");
}

#[test]
fn a_flaky_test_has_a_state_and_a_rate() {
    let farm = farm();
    let tip = &commits()[0];
    insta::assert_snapshot!("flaky", page_text(&farm.get(&format!("{BRANCH}&flaky"))));
    insta::assert_snapshot!("flaky_json", farm.get(&format!("{BRANCH}&flaky&format=json")));
    let history = page_text(&farm.get(&format!("{BRANCH}&history={FLAKY}")));
    assert!(history.contains("≈ flaky 20 of 60, 33 % (22 to 46 %) since "), "{history}");
    assert!(history.contains("≈ Flaky") && !history.contains("broke"), "{history}");
    let commit = page_text(&farm.get(&format!("{BRANCH}&commit={tip}")));
    assert!(commit.contains("1 flaky") && commit.contains("failed 1 of 2 runs"), "{commit}");
    let only = |status: &str| page_text(&farm.get(&format!("{BRANCH}&commit={tip}&status={status}")));
    assert!(only("flaky").contains(FLAKY) && !only("flaky").contains(BROKEN), "{}", only("flaky"));
    assert!(!only("failed").contains(FLAKY), "{}", only("failed"));
    let json: serde_json::Value =
        serde_json::from_str(&farm.get(&format!("{BRANCH}&commit={tip}&format=json"))).unwrap();
    let tests = json["tests"].as_array().unwrap();
    let flaky: Vec<_> = tests.iter().map(|test| test["flaky"].to_string()).collect();
    assert_eq!(flaky, ["null", r#"{"failed":1,"runs":2}"#]);
    let rows: serde_json::Value = serde_json::from_str(&farm.get(&format!("{BRANCH}&format=json"))).unwrap();
    assert_eq!((&rows[0]["failed"], &rows[0]["flaky"]), (&1.into(), &1.into()));
    let compared = format!("/ci?compare={}..{tip}", commits()[1]);
    assert!(page_text(&farm.get(&compared)).contains("1 flaky"), "{}", farm.get(&compared));
}

#[test]
fn a_failure_is_in_the_feed_when_it_is_confirmed() {
    let farm = |retried: bool, queued: u64| {
        Farm::with(|fixture| {
            let [new, old] = ["new", "old"].map(commit_id);
            fixture.branch("mira", "next", &[(new.clone(), "new".into()), (old.clone(), "old".into())]);
            fixture.test(TestResult::new(&old, BROKEN, Verdict::Passed, 900).on("farm1", 0, NOW - 100));
            for attempt in 0..=i64::from(retried) {
                let failed = Verdict::Failed { reason: "lost a file".into() };
                fixture.test(TestResult::new(&new, BROKEN, failed, 900).on("farm1", 0, NOW - 50 + attempt));
            }
            let pending = [(new.to_string(), queued)].into();
            let snapshot = StatusSnapshot {
                written: NOW - 1,
                pending_by_commit: Some(pending),
                ..StatusSnapshot::default()
            };
            fixture.snapshot(&snapshot);
        })
    };
    for (retried, queued, shown) in [(false, 1, false), (false, 0, true), (true, 1, true)] {
        let feed = farm(retried, queued).get(&format!("{BRANCH}&format=atom"));
        assert_eq!(feed.contains(BROKEN), shown, "{retried} {queued}");
    }
}

#[test]
fn a_branch_without_flaky_tests() {
    let farm = common::small();
    let branch = "/ci?user=mira&branch=ext4-testing";
    assert!(!farm.get(branch).contains("&#38;flaky"));
    assert!(page_text(&farm.get(&format!("{branch}&flaky"))).contains("No test is flaky"));
}

#[test]
fn the_log_of_each_attempt_can_be_opened() {
    let commit = commit_id("new");
    let farm = Farm::with(|fixture| {
        fixture.branch("mira", "next", &[(commit.clone(), "new".into())]);
        let failed = |reason: &str| Verdict::Failed { reason: reason.into() };
        for (at, log) in ["the first log\n", "the second log\n"].into_iter().enumerate() {
            let at = NOW - 50 + i64::try_from(at).unwrap();
            let result = TestResult::new(&commit, BROKEN, failed("lost a file"), 900).on("farm1", 0, at);
            fixture.test(result.log(log));
        }
    });
    let page = farm.get(&format!("/c/{commit}/{BROKEN}/"));
    let href = format!("/c/{commit}/{BROKEN}/attempt.2/log.br");
    assert!(page.contains(&format!("href=\"{href}\"")), "{page}");
    let response = farm.ask(&Request::get(&href));
    assert_eq!(response.status, 200);
    let mut plain = Vec::new();
    brotli::BrotliDecompress(&mut body(response).as_slice(), &mut plain).unwrap();
    assert_eq!(String::from_utf8(plain).unwrap(), "the second log\n");
    for bad in [
        "attempt.3/log.br",
        "attempt.2/status",
        "attempt./log.br",
        "attempt.x/log.br",
        "other.2/log.br",
        "attempt.2/..%2Flog.br",
    ] {
        assert_eq!(farm.ask(&Request::get(&format!("/c/{commit}/{BROKEN}/{bad}"))).status, 404, "{bad}");
    }
}

#[test]
fn the_heads_of_a_table_sort_it() {
    let farm = Farm::with(|fixture| {
        let commit = commit_id("one");
        fixture.branch("mira", "next", &[(commit.clone(), "one".into())]);
        // The first one fails more often.
        for (key, failures) in [("t.b", 3), ("t.a", 1), ("t.c", 1)] {
            for run in 0..=failures {
                let failed = Verdict::Failed { reason: "lost".into() };
                let verdict = if run < failures { failed } else { Verdict::Passed };
                fixture.test(TestResult::new(&commit, key, verdict, 100));
            }
        }
    });
    let order = |sort: &str| -> Vec<String> {
        let page = farm.get(&format!("{BRANCH}&flaky{sort}"));
        let keys =
            page.match_indices("&#38;history=").map(|(at, text)| page[at + text.len()..][..3].to_owned());
        keys.collect()
    };
    assert_eq!(order(""), ["t.b", "t.a", "t.c"]);
    assert_eq!(order("&sort=test"), ["t.a", "t.b", "t.c"]);
    assert_eq!(order("&sort=-test"), ["t.c", "t.b", "t.a"]);
    assert_eq!(order("&sort=-rate"), ["t.a", "t.c", "t.b"]);
    let page = farm.get(&format!("{BRANCH}&flaky&sort=test"));
    let head = r#"aria-sort="ascending"><a class="order" href="/ci?user=mira&#38;branch=next&#38;flaky&#38;sort=-test">"#;
    assert!(page.contains(head), "{page}");
    assert_eq!(farm.status(&format!("{BRANCH}&flaky&sort=tets")), 400);
    assert_eq!(farm.status(&format!("{BRANCH}&crashes&sort=-hits")), 200);
}
