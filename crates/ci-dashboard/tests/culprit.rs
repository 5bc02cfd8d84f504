//! The first bad commit in words: on the page of a failure, with the last good commit, the other branches that fail, links to
//! the web pages of the repository, and the command that reproduces the failure.

#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

mod common;

use ci_dashboard::{Repos, Request, Site};
use common::{Farm, NOW, page_text};
use model::{CommitId, Verdict};
use results::Reader;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

const PUNCH: &str = "fs.ext4.basic.punch";
const EVE: &str = "Eve \"onload=alert(1)\" & \u{202e}Co <eve@example.org>";

/// `mira/next`, newest first, with an untested commit before the first bad one, and three more branches, of which one fails.
fn farm() -> Farm {
    let dir = tempfile::tempdir().unwrap();
    let fixture = ResultsFixture::new(dir.path());
    let commits = ["tip", "bad again", "<b>bad</b>", "not tested", "good"];
    let listing: Vec<(CommitId, String)> =
        commits.iter().map(|subject| (commit_id(subject), (*subject).to_owned())).collect();
    fixture.branch("mira", "next", &listing);
    fixture
        .authors(&[(&listing[2].0, EVE, NOW - 86_400), (&listing[4].0, "<kim@example.org>", NOW - 900_000)]);
    let failed = || Verdict::Failed { reason: "kernel BUG at fs/ext4/extents.c:3211!".into() };
    for (row, verdict) in [(1, failed()), (2, failed()), (4, Verdict::Passed)] {
        fixture
            .test(TestResult::new(&listing[row].0, PUNCH, verdict, 900).on("farm1", 0, NOW - 500).log("x\n"));
    }
    for (branch, verdict) in [("stable", failed()), ("good", Verdict::Passed)] {
        let commit = commit_id(branch);
        fixture.branch("anton", branch, &[(commit.clone(), branch.to_owned())]);
        fixture.test(TestResult::new(&commit, PUNCH, verdict, 900));
    }
    // A branch whose newest tested commit is that of the page says nothing new.
    fixture.branch("zed", "copy", &listing[1..]);
    fixture.finish();
    let config = dir.path().join("ci.toml");
    let text = "linux_repo = \"l.git\"\noutput_dir = \"out\"\nktest_dir = \"kt\"\nuser = \"mira\"\n\
         commit_url = \"https://git.example.org/linux.git/commit/?id={commit}\"\n\
         [test_group.g]\ntests = [\"fs/ext4/basic.ktest\"]\n\
         [branch.next]\nremote = \"/nowhere\"\ntest_groups = [\"g\"]\n";
    std::fs::write(&config, text).unwrap();
    let repos = Repos::of(&config::load(&config).unwrap());
    let tests = std::iter::once("fs/ext4/basic".parse().unwrap()).collect();
    let site = Site::new(Reader::open(dir.path()).unwrap(), tests).with_repos(repos);
    Farm { dir, site }
}

#[test]
fn the_page_of_a_failure_names_the_first_bad_commit() {
    let farm = farm();
    let (newest, first) = (commit_id("bad again"), commit_id("<b>bad</b>"));
    let html = farm.get(&format!("/c/{newest}/{PUNCH}/"));
    let text = page_text(&html)
        .replace("&#34;", "\"")
        .replace("&#38;", "&")
        .replace("&#60;", "<")
        .replace("&#62;", ">");
    for part in [
        "First bad",
        "<b>bad</b> Eve \"onload=alert(1)\" & \u{202e}Co, 2026-09-20",
        "or the untested commit before it",
        "good kim@example.org, 2026-09-11",
        "on 2 commits, first failed 2026-09-21 14:05; no newer commit passes",
        "anton/stable",
        "ktest run -k ~/linux --commit",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("anton/good") && !text.contains("zed/copy"), "{text}");
    assert!(!html.contains("<b>bad") && !html.contains("\"onload"), "names are escaped");
    let web = format!("href=\"https://git.example.org/linux.git/commit/?id={first}\" rel=\"noreferrer\"");
    assert!(html.contains(&web), "{html}");
    // The command is above the log.
    assert!(html.find("ktest run -k").unwrap() < html.find("class=\"con\"").unwrap());
    let history = page_text(&farm.get(&format!("/ci?user=mira&branch=next&history={PUNCH}")));
    assert!(history.contains("Last good") && history.contains("Also fails in"), "{history}");
    let branch = farm.get("/ci?user=mira&branch=next");
    let link = format!("/c/{first}/{PUNCH}/#failure");
    assert!(branch.contains(&link), "the broken test leads to its failure: {branch}");
    let passed = page_text(&farm.get(&format!("/c/{}/{PUNCH}/", commit_id("good"))));
    assert!(!passed.contains("First bad"), "{passed}");
}

#[test]
fn the_json_of_a_failure_has_the_first_bad_commit() {
    let farm = farm();
    let json = |target: &str| -> serde_json::Value {
        let response = farm.ask(&Request::get(target));
        serde_json::from_slice(&common::body(response)).unwrap()
    };
    let newest = commit_id("bad again");
    let test = json(&format!("/c/{newest}/{PUNCH}/?format=json"));
    let since = &test["since"];
    assert_eq!(since["first_bad"]["commit"], commit_id("<b>bad</b>").as_str());
    assert_eq!(since["first_bad"]["author"], EVE);
    assert_eq!(since["last_good"]["subject"], "good");
    assert_eq!((&since["untested_between"], &since["commits"]), (&1.into(), &2.into()));
    assert_eq!(test["also_fails_in"][0]["branch"], "stable");
    assert_eq!(test["also_fails_in"].as_array().unwrap().len(), 1);
    let commit = json(&format!("/ci?user=mira&branch=next&commit={newest}&format=json"));
    assert_eq!(commit["since"], serde_json::json!([since]));
    let filtered = json(&format!("/ci?user=mira&branch=next&commit={newest}&test=other&format=json"));
    assert!(filtered.get("since").is_none(), "{filtered}");
}

#[test]
fn owners_are_on_the_page_of_a_test_and_in_json() {
    let commit = commit_id("one");
    let farm = Farm::with(|fixture| {
        fixture.branch("mira", "next", &[(commit.clone(), "one".into())]);
        for (key, verdict) in [
            ("fs.a.bad", Verdict::Failed { reason: "1".into() }),
            ("fs.a.good", Verdict::Passed),
            ("b.bad", Verdict::Passed),
        ] {
            fixture.test(TestResult::new(&commit, key, verdict, 10));
        }
    });
    let page = || farm.get(&format!("/c/{commit}/fs.a.bad/"));
    let json = |address: &str| -> serde_json::Value { serde_json::from_str(&farm.get(address)).unwrap() };
    assert!(!page().contains("<span>owner"));
    let write = |text: &str| std::fs::write(farm.path().join("owners.json"), text).unwrap();
    write(r#"{"fs/a":["<b>Mira</b> <mira@example.org>","Ö"]}"#);
    let shown =
        "<span>owner <bdi>&#60;b&#62;Mira&#60;/b&#62; &#60;mira@example.org&#62;</bdi>, <bdi>Ö</bdi></span>";
    assert!(page().contains(shown), "{}", page());
    let owners = serde_json::json!(["<b>Mira</b> <mira@example.org>", "Ö"]);
    assert_eq!(json(&format!("/c/{commit}/fs.a.bad/?format=json"))["owners"], owners);
    let of_commit = json(&format!("/c/{commit}/?format=json"))["owners"].take();
    assert_eq!(of_commit, serde_json::json!([{"owners": owners, "tests": ["fs.a.bad"]}]));
    // A damaged file hides the owners only.
    for text in ["{", r#"{"fs/a":["a\u001bb"]}"#] {
        write(text);
        assert!(page().contains("fs.a.") && !page().contains("<span>owner"));
    }
}

#[test]
fn many_tests_that_failed_for_one_reason_are_one_line_and_links_have_a_preview() {
    let (tip, base) = (commit_id("tip"), commit_id("base"));
    let farm = Farm::with(|fixture| {
        fixture.branch("mira", "next", &[(tip.clone(), "a \"<tip>\"".into()), (base.clone(), "base".into())]);
        let failed = |reason: &str| Verdict::Failed { reason: reason.into() };
        for test in 0..8 {
            let key = format!("a.same{test}");
            fixture.test(TestResult::new(&base, &key, Verdict::Passed, 10));
            fixture.test(TestResult::new(&tip, &key, failed("mount: <no> device"), 10));
        }
        for test in 0..5 {
            fixture.test(TestResult::new(&tip, &format!("a.few{test}"), failed("1 != 2"), 10));
        }
        fixture.test(TestResult::new(&base, "a.fixed", failed("x"), 10));
        fixture.test(TestResult::new(&tip, "a.fixed", Verdict::Passed, 10));
    });
    let page = farm.get(&format!("/ci?user=mira&branch=next&commit={tip}"));
    let summary =
        "<summary><b>8 tests</b> <span class=\"pill bad\">8 new</span> <bdi>mount: &#60;no&#62; device</bdi>";
    assert!(page.contains("13 failed") && page.contains(summary), "{page}");
    assert_eq!(page.matches("mount: &#60;no&#62; device").count(), 1);
    assert_eq!((page.matches("<details class=\"reason\"").count(), page.matches("1 != 2").count()), (1, 5));
    assert_eq!(page.matches("a.</span>same").count(), 8, "all are in the page");
    let preview = |page: &str| {
        let (_, rest) = page.split_once("property=\"og:description\" content=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    assert_eq!(preview(&page), "13 failed; 1 of 14 tests passed");
    let branch = preview(&farm.get("/ci?user=mira&branch=next"));
    let short = tip.short();
    assert_eq!(branch, format!("8 broke, 1 fixed at {short} a &#34;&#60;tip&#62;&#34;; 13 failed"));
    assert_eq!(preview(&farm.get(&format!("/c/{tip}/a.few1/"))), "Failed: 1 != 2");
    assert_eq!(preview(&farm.get("/ci")), "Test results of Linux kernel branches");
}
