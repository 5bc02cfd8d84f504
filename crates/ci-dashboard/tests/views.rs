//! The texts of the pages, and the JSON views in docs/formats.md, for a small branch.

mod common;

use ci_dashboard::Request;
use common::{Farm, NOW, commits, page_text, small};
use http::header;
use model::Verdict;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

fn id(row: usize) -> String {
    commits()[row].0.to_string()
}

#[test]
fn json_views_have_the_schema_of_the_format_document() {
    let farm = small();
    insta::assert_snapshot!("json_users", farm.get("/ci?format=json"));
    insta::assert_snapshot!("json_user", farm.get("/ci?user=mira&format=json"));
    let rows = |more: &str| -> Vec<serde_json::Value> {
        let target = format!("/ci?user=mira&branch=ext4-testing&format=json{more}");
        serde_json::from_str(&farm.get(&target)).unwrap()
    };
    let (tested, all) = (rows(""), rows("&untested=1"));
    assert_eq!(tested, all[1..], "the first commit has no results");
    assert_eq!((rows("&test=rename").len(), rows("&test=rename&untested").len()), (1, 5));
    insta::assert_snapshot!("json_branch_row", all[3]);
    let commit = format!("/ci?user=mira&branch=ext4-testing&commit={}&format=json", id(3));
    let of_commit: serde_json::Value = serde_json::from_str(&farm.get(&commit)).unwrap();
    assert_eq!(
        of_commit,
        serde_json::from_str::<serde_json::Value>(&farm.get(&format!("/c/{}/?format=json", id(3)))).unwrap()
    );
    insta::assert_snapshot!("json_commit", serde_json::to_string_pretty(&of_commit).unwrap());
    insta::assert_snapshot!("json_branch_row_filtered", rows("&untested=1&test=punch%24")[3]);
    let history = farm.get("/ci?user=mira&branch=ext4-testing&history=fs.ext4.basic.punch&format=json");
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    assert_eq!(history[3]["test"]["status"], "Failed");
    assert_eq!(history[0].get("test"), None);
}

#[test]
fn home_and_user() {
    let farm = small();
    // The time of a tip's test is the mtime of its file.
    let times = |text: String| {
        let parts = text
            .split(' ')
            .map(|word| if word.starts_with("20") || word.contains(':') { "TIME" } else { word });
        parts.collect::<Vec<_>>().join(" ")
    };
    insta::assert_snapshot!("home", times(page_text(&farm.get("/ci"))));
    insta::assert_snapshot!("user", times(page_text(&farm.get("/ci?user=anton"))));
    assert_eq!(page_text(&farm.get("/")), page_text(&farm.get("/ci")));
    assert_eq!(page_text(&farm.get("/u/anton")), page_text(&farm.get("/ci?user=anton")));
}

#[test]
fn a_branch_shows_what_each_commit_changed() {
    let farm = small();
    let page = farm.get("/ci?user=mira&branch=ext4-testing");
    insta::assert_snapshot!("branch", page_text(&page));
    assert_eq!(page_text(&page), page_text(&farm.get("/u/mira/ext4-testing")));
    // The failure column of the failing commit, as shapes.
    assert!(page.contains(r#"<path class="l-f" d="M2 0h7v10h-7z"/>"#), "{page}");
    let other = page_text(&farm.get("/ci?user=anton&branch=xfs/for-next"));
    assert!(other.starts_with("xfs/for-next"), "{other}");
    let filtered = page_text(&farm.get("/ci?user=mira&branch=ext4-testing&test=boot"));
    assert!(!filtered.contains("punch_hole") && !filtered.contains("▼ broke:"), "{filtered}");
    let other_case = page_text(&farm.get("/ci?user=mira&branch=ext4-testing&test=BOOT"));
    assert_eq!(other_case.replace("BOOT", "boot"), filtered);
    let none = page_text(&farm.get("/ci?user=mira&branch=ext4-testing&test=nothing"));
    assert!(
        none.contains("No test of this branch matches nothing") && !none.contains("not tested"),
        "{none}"
    );
}

#[test]
fn a_misspelt_name_gets_the_nearest_one() {
    let farm = small();
    for (target, message) in [
        ("/ci?user=mira&branch=ext4-tesing", "No such branch; did you mean &#34;mira/ext4-testing&#34;?"),
        ("/ci?user=nobody&branch=other", "No such branch."),
        (
            "/ci?user=mira&branch=ext4-testing&history=fs.ext4.basic.pnch",
            "No result for this test on this branch; did you mean &#34;fs.ext4.basic.punch&#34;?",
        ),
    ] {
        let page = page_text(&common::body_text(farm.ask(&Request::get(target))));
        assert!(page.contains(message), "{page}");
    }
}

#[test]
fn a_commit_page_lists_failures_first() {
    let farm = small();
    let page = farm.get(&format!("/ci?user=mira&branch=ext4-testing&commit={}", id(3)));
    insta::assert_snapshot!("commit", page_text(&page));
    assert!(page.contains(&format!(r#"href="/c/{}/fs.ext4.basic.punch/#failure""#, id(3))), "{page}");
    let unbuilt = page_text(&farm.get(&format!("/c/{}/", id(2))));
    assert!(unbuilt.contains("3 tests not run: the kernel does not build"), "{unbuilt}");
    let untested = page_text(&farm.get(&format!("/c/{}/", id(0))));
    assert!(untested.contains("This commit is not tested yet."), "{untested}");
    let passed = page_text(&farm.get(&format!("/c/{}/?status=passed&test=punch", id(4))));
    assert!(passed.contains("1 passed") && !passed.contains("boots"), "{passed}");
    // The commit that fixed it, with a running test.
    let running = farm.get(&format!("/c/{}/", id(1)));
    assert!(page_text(&running).contains("In progress | fs.ext4.basic.rename"), "{running}");
    assert!(running.contains(r#"<body data-live="2">"#));
}

/// Newest first: not tested, does not build, does not build, kasan does not build, good.
fn unbuilt() -> (Farm, Vec<model::CommitId>) {
    let subjects = ["not tested", "still broken", "break it", "break kasan", "good"];
    let commits: Vec<_> = subjects.map(|subject| (commit_id(subject), subject.to_owned())).into();
    let keys = ["boot.boots", "fs.ext4.basic.punch", "fs.ext4.basic@ktest_flavor=kasan.punch"];
    let failed = |error: &str| Verdict::FailedToRun { reason: model::build_failed_reason(error) };
    let farm = Farm::with(|fixture| {
        fixture.branch("mira", "next", &commits);
        for (row, (commit, _)) in commits.iter().enumerate().skip(1) {
            for key in keys {
                let verdict = match (row, key.contains("kasan")) {
                    (1, _) => failed("b.c:2: error: <b>"),
                    (2, _) => failed("a.c:1: error: no"),
                    (3, true) => failed("kasan.c:1: error: no"),
                    _ => Verdict::Passed,
                };
                fixture.test(TestResult::new(commit, key, verdict, 10).on("farm1", 2, NOW - 100));
            }
        }
        let log = "  CC      a.o\n/b/a.c: In function 'f':\n/b/a.c:1: error: no\nmake: *** [a.o] Error 1\n";
        fixture.artifact(&commits[2].0, &keys, "build.log", log);
    });
    (farm, commits.into_iter().map(|(commit, _)| commit).collect())
}

#[test]
fn tests_of_a_kernel_that_does_not_build_do_not_count_as_failed_to_run() {
    let (farm, ids) = unbuilt();
    let compared = format!("/ci?user=mira&compare={}&with={}", ids[3], ids[2]);
    let compare = page_text(&farm.get(&compared));
    assert!(compare.contains("2 not run: the kernel does not build"), "{compare}");
    assert!(compare.contains("build failed") && !compare.contains("ailed to run"), "{compare}");
    let json = farm.get(&format!("{compared}&format=json"));
    assert!(json.contains(r#""change":"not_built""#) && !json.contains("stopped"), "{json}");
    let history = page_text(&farm.get("/ci?user=mira&branch=next&history=boot.boots"));
    assert!(history.contains("✗ Build failed") && !history.contains("Failed to run"), "{history}");
    let metrics = farm.get("/metrics");
    let of = |name: &str| format!("{name}{{user=\"mira\",branch=\"next\"");
    assert!(metrics.contains(&format!("{}}} 2\n", of("ktest_branch_kernels_not_built"))), "{metrics}");
    assert!(
        metrics.contains(&format!("{},status=\"failed_to_run\"}} 0\n", of("ktest_branch_tests"))),
        "{metrics}"
    );
}

#[test]
fn a_build_that_failed_is_the_headline() {
    let (farm, ids) = unbuilt();
    let branch = farm.get("/ci?user=mira&branch=next");
    insta::assert_snapshot!("unbuilt_branch", page_text(&branch));
    assert!(branch.contains("b.c:2: error: &#60;b&#62;"), "{branch}");
    insta::assert_snapshot!(
        "unbuilt_commit",
        page_text(&farm.get(&format!("/ci?user=mira&branch=next&commit={}", ids[3])))
    );
    let build = farm.get(&format!("/c/{}/build", ids[2]));
    insta::assert_snapshot!("unbuilt_build", page_text(&build));
    assert!(build.contains(r#"class="k"><a aria-hidden="true">3</a>/b/a.c:1: error: no"#), "{build}");
    let log = format!("/c/{}/boot.boots/build.log.br", ids[2]);
    assert!(build.contains(&format!(r#"href="{log}""#)), "{build}");
    assert_eq!(farm.status(&log), 200);
    // Without a log.
    assert!(
        page_text(&farm.get(&format!("/c/{}/build", ids[1])))
            .contains("The log of this build is not stored.")
    );
    // One kernel of several.
    let kasan = page_text(&farm.get(&format!("/c/{}/build?kernel=kasan", ids[3])));
    assert!(
        kasan.contains("This commit does not build (kasan): kasan.c:1: error: no (1 test not run)"),
        "{kasan}"
    );
    let default = page_text(&farm.get(&format!("/c/{}/build?kernel=", ids[3])));
    assert!(!default.contains("does not build") && default.contains("✓ builds"), "{default}");
    assert_eq!(farm.status(&format!("/c/{}/build?kernel=arm", ids[3])), 404);
    assert!(
        page_text(&farm.get(&format!("/c/{}/build", ids[0])))
            .contains("No kernel of this commit is built yet.")
    );
    assert_eq!(farm.status(&format!("/c/{}/build", "0".repeat(40))), 404);
    // A test has no failure of its own.
    let test = page_text(&farm.get(&format!("/c/{}/boot.boots/", ids[1])));
    assert!(
        test.contains("The kernel does not build, so the test did not run. Build of the kernel"),
        "{test}"
    );
    assert!(!test.contains("Failing tests of this commit"), "{test}");
    let home = page_text(&farm.get("/ci"));
    assert!(home.contains("✗ build failed") && !home.contains("failed to run"), "{home}");
    let badge = farm.get("/ci?user=mira&branch=next&format=badge");
    assert!(badge.contains("build failed"), "{badge}");
    let feed = farm.get("/ci?user=mira&branch=next&format=atom");
    assert_eq!(feed.matches("<title>the build broke: ").count(), 2, "{feed}");
}

#[test]
fn a_running_build_is_shown() {
    use model::snapshot::{BatchStatus, ExecutorStatus};
    let commits = [(commit_id("new"), "new".to_owned())];
    let farm = Farm::with(|fixture| {
        fixture.branch("mira", "next", &commits);
        let batch = BatchStatus {
            commit: commits[0].0.to_string(),
            test: "fs/ext4/basic".into(),
            phase: "building".into(),
            phase_started: Some(NOW - 372),
            objects: Some(1840),
            objects_total: Some(2900),
            subtests: 20,
            ..BatchStatus::default()
        };
        let executor = ExecutorStatus {
            name: "local/0".into(),
            state: "busy".into(),
            batch: Some(batch),
            ..ExecutorStatus::default()
        };
        let pending_by_commit = Some([(commits[0].0.to_string(), 6)].into());
        let branches = vec![model::snapshot::BranchStatus::new(&"mira/next".parse().unwrap())];
        fixture.snapshot(&model::StatusSnapshot {
            written: NOW,
            executors: vec![executor],
            pending_by_commit,
            branches,
            ..Default::default()
        });
    });
    let page = farm.get(&format!("/c/{}/build", commits[0].0));
    assert!(page.contains("building 6 min on local/0 (1,840 of 2,900 objects), for fs/ext4/basic"), "{page}");
    assert!(page.contains(r#"<body data-live="2">"#));
    let json: serde_json::Value =
        serde_json::from_str(&farm.get(&format!("/c/{}/build?format=json", commits[0].0))).unwrap();
    assert_eq!(json["running"][0]["objects"], 1840);
    // 26 tests without history take 30 s each; the rest of the build takes 214 s.
    let words = "building 6 min on local/0 (1,840 of 2,900 objects), 26 tests to come, ETA 16 min";
    for target in ["/ci", "/ci?user=mira", "/ci?user=mira&branch=next", &format!("/c/{}/", commits[0].0)] {
        let page = page_text(&farm.get(target));
        assert!(page.contains(words) && !page.contains("not tested"), "{target}: {page}");
    }
}

#[test]
fn a_log_opens_at_the_failure() {
    let farm = small();
    let page = farm.get(&format!("/c/{}/fs.ext4.basic.punch/", id(3)));
    insta::assert_snapshot!("log", page_text(&page));
    assert!(
        page.contains(
            r##"<span id="L3" class="k"><b id="failure"></b><a href="#L3">3</a><i>00002 [   43.000000] </i>kernel BUG"##
        ),
        "{page}"
    );
    let running = farm.get(&format!("/c/{}/fs.ext4.basic.rename/", id(1)));
    let follow = format!(r#"data-follow="/c/{}/fs.ext4.basic.rename/follow?from=41:2""#, id(1));
    assert!(running.contains(&follow), "{running}");
}

#[test]
fn the_history_of_a_test() {
    let farm = small();
    let page = farm.get("/ci?user=mira&branch=ext4-testing&history=fs.ext4.basic.punch");
    insta::assert_snapshot!("history", page_text(&page));
}

#[test]
fn problems_are_pages_and_json_with_the_right_codes() {
    let farm = small();
    let none = "0".repeat(40);
    for (target, status) in [
        ("/nothing", 404),
        ("/ci?user=nobody", 404),
        ("/ci?user=mira&branch=none", 404),
        ("/ci?branch=ext4-testing", 400),
        ("/ci?commit=xyz", 404),
        ("/ci?commit=:/xyz", 400),
        ("/ci?commit=00000000", 404),
        ("/ci?user=mira&branch=ext4-testing&test=(", 400),
        ("/ci?user=mira&branch=ext4-testing&test=((a{100}){100}){100}", 422),
        ("/ci?format=xml", 400),
        ("/ci?user=mira&branch=ext4-testing&from=1", 400),
        ("/ci?user=%zz", 400),
        ("/ci?user=%00", 400),
        ("/ci?status", 200),
        ("/ci?status&format=json", 404),
        ("/healthz", 200),
        (&format!("/c/{none}/"), 404),
        (&format!("/c/{none}.capnp"), 404),
        (&format!("/c/{none}/a.b/"), 404),
        (&format!("/c/{}/a.b/log.br", id(3)), 404),
        (&format!("/c/{}/a.b/passwd", id(3)), 404),
        (&format!("/c/{}/?status=broken", id(3)), 400),
        (&format!("/c/{}/", &id(3)[..12]), 302),
    ] {
        assert_eq!(farm.status(target), status, "{target}");
    }
    let body = common::body_text(farm.ask(&Request::get("/ci?user=nobody&format=json")));
    insta::assert_snapshot!("json_error", body);
    let post = Request { method: http::Method::POST, ..Request::get("/ci") };
    let answer = farm.ask(&post);
    assert_eq!(
        (answer.status.as_u16(), &answer.headers[header::ALLOW]),
        (405, &"GET, HEAD".parse().unwrap())
    );
}

#[test]
fn the_snapshot_is_shown_and_not_trusted() {
    use model::snapshot::{BatchStatus, ExecutorStatus};
    let farm = Farm::with(|fixture| {
        fixture.snapshot(&model::StatusSnapshot {
            written: common::NOW - 2,
            started: common::NOW - 3600,
            version: "0.1.0".into(),
            executors: vec![ExecutorStatus {
                name: "farm1/0".into(),
                host: "farm1".into(),
                state: "busy".into(),
                batch: Some(BatchStatus {
                    commit: id(1),
                    test: "fs/ext4/basic".into(),
                    subtests: 3,
                    done: 2,
                    current: Some("rename".into()),
                    phase: "testing".into(),
                    started: common::NOW - 60,
                    ..BatchStatus::default()
                }),
                ..ExecutorStatus::default()
            }],
            pending_by_group: [("mira".parse().unwrap(), 7)].into(),
            fairshare: [("mira".parse().unwrap(), 30.0), ("anton".parse().unwrap(), -1e300)].into(),
            weights: [("mira".parse().unwrap(), 1.0), ("anton".parse().unwrap(), f64::MAX)].into(),
            problems: vec!["<script>alert(1)</script>".into()],
            ..Default::default()
        });
    });
    let page = farm.get("/ci?status");
    insta::assert_snapshot!("status", page_text(&page));
    assert!(page.contains(&format!(r#"href="/c/{}/fs.ext4.basic.rename/""#, id(1))));
    let json: serde_json::Value = serde_json::from_str(&farm.get("/ci?status&format=json")).unwrap();
    assert_eq!(json["pending_by_group"]["mira"], 7);
    std::fs::write(farm.path().join("ci-daemon-status.json"), "{\"written\": tomorrow").unwrap();
    let broken = farm.ask(&Request::get("/ci?status"));
    assert_eq!(broken.status, 503);
    assert!(!common::body_text(broken).contains(&farm.path().display().to_string()), "no paths in errors");
}

#[test]
fn a_branch_has_a_feed_and_a_badge() {
    let farm = small();
    let request = Request::get("/ci?user=mira&branch=ext4-testing&format=atom")
        .with_header(header::HOST, "ci.example.org");
    let feed = farm.ask(&ci_dashboard::PublicAddress::default().locate(request, false));
    assert_eq!(feed.headers[header::CONTENT_TYPE], "application/atom+xml; charset=utf-8");
    insta::assert_snapshot!("feed", common::body_text(feed));
    insta::assert_snapshot!("badge", farm.get("/ci?user=mira&branch=ext4-testing&format=badge"));
    assert_eq!(farm.status("/ci?user=mira&branch=none&format=badge"), 404);
    assert_eq!(farm.status("/ci?format=atom"), 400);
}

#[test]
fn two_sides_are_compared() {
    let farm = small();
    let target = format!("/ci?user=mira&compare={}..{}", id(4), &id(3)[..12]);
    insta::assert_snapshot!("compare", page_text(&farm.get(&target)));
    let by_form = format!("/ci?user=mira&compare={}&with={}", id(4), &id(3)[..12]);
    assert_eq!(page_text(&farm.get(&target)), page_text(&farm.get(&by_form)));
    // A branch means its newest tested commit; a branch of another user is prefixed with the user's name.
    let branches: serde_json::Value =
        serde_json::from_str(&farm.get("/ci?user=mira&compare=anton/xfs/for-next..ext4-testing&format=json"))
            .unwrap();
    assert_eq!(
        (&branches["base"]["branch"], &branches["head"]["commit"]),
        (&"xfs/for-next".into(), &id(1).into())
    );
    assert!(page_text(&farm.get("/ci?compare=")).contains("Choose two"));
    for target in
        ["/ci?compare=a..b", "/ci?compare=ext4-testing..ext4-testing", "/ci?compare=0000000..1111111"]
    {
        assert_eq!(farm.status(target), 404, "{target}");
    }
    let none = farm.get(&format!("/ci?compare={0}..{0}&test=nothing", id(4)));
    assert!(page_text(&none).contains("Neither side has a test"), "{none}");
}

#[test]
fn crashes_are_grouped_by_title() {
    let farm = small();
    insta::assert_snapshot!("crashes", page_text(&farm.get("/ci?user=mira&branch=ext4-testing&crashes")));
    let json: serde_json::Value =
        serde_json::from_str(&farm.get("/ci?user=mira&branch=ext4-testing&crashes&format=json")).unwrap();
    assert_eq!(json[0]["crash"], "kernel BUG in ext4_ext_remove_space");
    assert_eq!(json[0]["first"]["commit"], id(3));
    assert!(page_text(&farm.get("/ci?user=anton&branch=xfs/for-next&crashes")).contains("No test crashed"));
}

#[test]
fn a_log_is_searched() {
    let farm = small();
    let log = format!("/c/{}/fs.ext4.basic.punch/", id(3));
    let page = farm.get(&format!("{log}?find=BUG%20AT"));
    assert!(page.contains("1 line of 6 match"), "{page}");
    assert!(page.contains(&format!(r#"<a href="{log}?line=3#L3">3</a>"#)), "{page}");
    assert!(page_text(&farm.get(&format!("{log}?find=nothing%20such"))).contains("none of 6 lines match"));
    assert_eq!(farm.status(&format!("{log}?find=(")), 400);
    assert_eq!(farm.status(&format!("{log}?find=((a{{100}}){{100}}){{100}}")), 422);
}

#[test]
fn a_growing_log_is_followed_by_events() {
    let farm = small();
    let follow = format!("/c/{}/fs.ext4.basic.rename/follow", id(1));
    let answer = farm.ask(&Request::get(&follow));
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/event-stream");
    assert!(answer.headers.get(header::CONTENT_LENGTH).is_none());
    let whole = common::body_text(answer);
    assert_eq!(
        whole,
        "retry: 1000\n\nid: 41:2\ndata: [[1,\"m\",\"00000 \",\"========= TEST   rename\"],[2,\"\",\"00001 \",\"half\"]]\n\n"
    );
    // After the position of the client, which is from the page or its last event.
    let live = farm.path().join(id(1)).join("fs.ext4.basic.rename/log");
    std::fs::write(&live, "00000 ========= TEST   rename\n00001 half\n00002 more\n000").unwrap();
    let more = farm.get(&format!("{follow}?from=41:2"));
    assert_eq!(more, "retry: 1000\n\nid: 52:3\ndata: [[3,\"\",\"00002 \",\"more\"]]\n\n");
    let again = Request::get(&follow).with_header(http::HeaderName::from_static("last-event-id"), "41:2");
    assert_eq!(common::body_text(farm.ask(&again)), more);
    // A page with an incomplete line is followed from before that line.
    let page = farm.get(&format!("/c/{}/fs.ext4.basic.rename/", id(1)));
    assert!(page.contains("follow?from=52:3\""), "{page}");
    // A test with a verdict has ended.
    let ended = farm.get(&format!("/c/{}/fs.ext4.basic.punch/follow", id(3)));
    assert!(ended.ends_with("event: end\ndata: {}\n\n"), "{ended}");
    for (target, status) in [
        (format!("{follow}?from=x"), 400),
        (format!("/c/{}/a.b/follow", id(1)), 404),
        (format!("{follow}?from=99999999999999999999999:1"), 400),
        (format!("{follow}?from=18446744073709551615:1"), 200),
    ] {
        assert_eq!(farm.status(&target), status, "{target}");
        common::body(farm.ask(&Request::get(&target)));
    }
}

#[test]
fn artifacts_are_listed_and_served() {
    let farm = small();
    let directory = farm.path().join(id(3)).join("fs.ext4.basic.punch");
    std::fs::write(directory.join("vmcore"), "core").unwrap();
    std::fs::write(directory.join("trace.txt"), "trace").unwrap();
    std::fs::write(directory.join(".hidden"), "x").unwrap();
    std::fs::write(directory.join("a b"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.join("passwd")).unwrap();
    let base = format!("/c/{}/fs.ext4.basic.punch/", id(3));
    let page = farm.get(&base);
    assert!(page.contains(&format!(r#"href="{base}vmcore">vmcore <span class="mute">4 B</span>"#)), "{page}");
    assert!(!page.contains("passwd") && !page.contains("/.hidden"), "{page}");
    let core = farm.ask(&Request::get(&format!("{base}vmcore")));
    assert_eq!(core.headers[header::CONTENT_DISPOSITION], "attachment");
    let trace = farm.ask(&Request::get(&format!("{base}trace.txt")));
    assert_eq!(trace.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    for bad in ["passwd", ".hidden", "a%20b", "..%2Fstatus", "%2e%2e", "none"] {
        assert_eq!(farm.status(&format!("{base}{bad}")), 404, "{bad}");
    }
}

#[test]
fn metrics_report_the_farm_and_the_branches() {
    let farm = small();
    let text = farm.get("/metrics");
    assert!(
        text.contains("ktest_branch_tests{user=\"mira\",branch=\"ext4-testing\",status=\"passed\"} 2\n"),
        "{text}"
    );
    assert!(
        text.contains("ktest_branch_untested_commits{user=\"mira\",branch=\"ext4-testing\"} 1\n"),
        "{text}"
    );
    std::fs::write(
        farm.path().join("ci-daemon-status.json"),
        r#"{"written":1789999990,"executors":[{"state":"busy"}]}"#,
    )
    .unwrap();
    let text = farm.get("/metrics");
    assert!(text.contains("ktest_snapshot_age_seconds 10\n"), "{text}");
    assert!(text.contains("ktest_executors{state=\"busy\"} 1\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok() && name.starts_with("ktest_"), "{line}");
    }
}

#[test]
fn the_report_of_a_known_failure_is_a_link() {
    let commit = commit_id("one");
    let known = |link: &str| format!("known failure: a <bug> ({link}, until 6.14); it failed: 1 != 2");
    let farm = Farm::with(|fixture| {
        fixture.branch("mira", "next", &[(commit.clone(), "one".into())]);
        for (key, link) in
            [("a.good", "https://bugs.example.org/7?a&b"), ("a.hostile", "javascript:alert(1)")]
        {
            fixture.test(TestResult::new(&commit, key, Verdict::NotRun { reason: known(link) }, 10));
        }
    });
    let page = farm.get(&format!("/c/{commit}/a.good/"));
    let link = "<a href=\"https://bugs.example.org/7?a&#38;b\" rel=\"noreferrer\">https://bugs.example.org/7?a&#38;b</a>";
    assert!(page.contains(link), "{page}");
    assert!(!farm.get(&format!("/c/{commit}/a.hostile/")).contains("href=\"javascript"));
    let page = farm.get(&format!("/c/{commit}/"));
    assert!(page.contains("2 known failures") && !page.contains("2 not run"), "{page}");
    let shown = "known: <a href=\"https://bugs.example.org/7?a&#38;b\" rel=\"noreferrer\">";
    assert!(
        page.contains(shown) && page.contains("a &#60;bug&#62; (until 6.14); it failed: 1 != 2"),
        "{page}"
    );
    assert!(!page.contains("href=\"javascript"));
    let json = |address: &str| -> serde_json::Value { serde_json::from_str(&farm.get(address)).unwrap() };
    let commit_view = json(&format!("/c/{commit}/?format=json"));
    let issue =
        serde_json::json!({"reason": "a <bug>", "link": "https://bugs.example.org/7?a&b", "until": "6.14"});
    assert_eq!(commit_view["tests"][0]["known_issue"], issue);
    assert_eq!(commit_view["tests"][1]["known_issue"].get("link"), None);
    assert_eq!(json(&format!("/c/{commit}/a.good/?format=json"))["known_issue"], issue);
}

#[test]
fn suspicious_passes_are_marked() {
    let subjects = ["now", "does not build", "before", "loaded", "3", "2", "1"];
    let commits: Vec<_> = subjects.map(|subject| (commit_id(subject), subject.to_owned())).into();
    let fill = |fixture: &ResultsFixture, busy: bool| {
        fixture.branch("mira", "next", &commits);
        let at = |row: usize, key: &str, verdict, millis| {
            fixture.test(TestResult::new(&commits[row].0, key, verdict, millis).on("farm1", 2, NOW));
        };
        at(2, "fs.ext4.basic.quota", Verdict::Passed, 900);
        for (row, millis) in [(2, 60_000), (3, 600_000), (4, 58_000), (5, 61_000), (6, 62_000)] {
            at(row, "fs.ext4.basic.fsx", Verdict::Passed, millis);
            // Only one run was slow.
            at(row, "fs.ext4.basic.loaded", Verdict::Passed, if row == 3 { 60_000 } else { 4_000 });
        }
        at(2, "fs.ext4.basic.short", Verdict::Passed, 1_000);
        at(2, "fs.ext4.basic.gone", Verdict::Passed, 1_000);
        for key in ["fs.ext4.basic.quota", "fs.ext4.basic.fsx"] {
            at(1, key, Verdict::FailedToRun { reason: "no".into() }, 0);
        }
        at(0, "fs.ext4.basic.quota", Verdict::NotRun { reason: "no <quota> tools".into() }, 10);
        at(0, "fs.ext4.basic.fsx", Verdict::Passed, 1_000);
        at(0, "fs.ext4.basic.loaded", Verdict::Passed, 4_000);
        at(0, "fs.ext4.basic.short", Verdict::Passed, 10);
        if busy {
            fixture.running(&commits[0].0, "fs.ext4.basic.other", NOW, "");
        }
    };
    let farm = Farm::with(|fixture| fill(fixture, false));
    let sha = commits[0].0.as_str();
    let page = farm.get(&format!("/c/{sha}/"));
    assert!(page.contains("3 suspicious passes"), "{page}");
    for what in [
        "passed in 1.0 s, median of the 5 passes before: 61.0 s",
        "skipped, passed before: no &#60;quota&#62; tools",
        "no longer listed by its test file",
    ] {
        assert!(page.contains(what), "{what}: {page}");
    }
    let json: serde_json::Value = serde_json::from_str(&farm.get(&format!("/c/{sha}/?format=json"))).unwrap();
    let found: Vec<_> = json["suspicious"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["suspicion"].as_str().unwrap()))
        .collect();
    assert_eq!(
        found,
        [
            ("fs.ext4.basic.fsx", "collapsed"),
            ("fs.ext4.basic.gone", "vanished"),
            ("fs.ext4.basic.quota", "stopped applying"),
        ]
    );
    let branch = farm.get("/ci?user=mira&branch=next");
    assert_eq!(branch.matches("suspicious passes").count(), 1, "{branch}");
    assert!(farm.get("/ci?user=mira&branch=next&test=fsx").contains("1 suspicious pass"));
    assert!(!farm.get(&format!("/c/{}/", commits[2].0)).contains("suspicious"));
    // While the commit is being tested, no test is missing yet.
    let busy = Farm::with(|fixture| fill(fixture, true));
    assert!(busy.get(&format!("/c/{sha}/")).contains("2 suspicious passes"));
}
