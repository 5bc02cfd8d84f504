//! A test that fails on half of 40 commits, and passes its confirmation every time: it accuses no commit.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use model::{CommitId, StatusSnapshot, Verdict};
use tempfile::TempDir;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

const FLAKY: &str = "fs.ext4.basic.flaky";
const STEADY: &str = "fs.ext4.basic.steady";

fn commits() -> Vec<CommitId> {
    (0..40).map(|row| commit_id(&format!("commit {row}"))).collect()
}

/// The results, newest commit first. The flaky test fails at every second commit.
fn results() -> TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let fixture = ResultsFixture::new(dir.path());
    let listing: Vec<_> = commits().into_iter().map(|commit| (commit, "ext4: a change".to_owned())).collect();
    fixture.branch("kmo", "next", &listing);
    for (row, (commit, _)) in listing.iter().enumerate() {
        let at = 1_700_000_000 - 60 * i64::try_from(row).unwrap();
        fixture.test(TestResult::new(commit, STEADY, Verdict::Passed, 900).on("farm1", 0, at));
        if row % 2 == 0 {
            let failed = Verdict::Failed { reason: "lost 3 of 8 writes".into() };
            fixture.test(TestResult::new(commit, FLAKY, failed, 800).on("farm1", 1, at));
        }
        fixture.test(TestResult::new(commit, FLAKY, Verdict::Passed, 800).on("farm2", 1, at + 5));
    }
    fixture.finish();
    dir
}

/// The exit code and the output of a command without colors.
fn run(dir: &TempDir, arguments: &str) -> (u8, String) {
    let given = ["ci-status", "--output-dir", dir.path().to_str().unwrap()];
    let arguments = given.into_iter().chain(arguments.split(' '));
    let mut out = Vec::new();
    let directory = Path::new("/proc/1").to_owned();
    let code = ci_status::cli::answer(arguments, directory, 1_700_000_100, &mut out).unwrap();
    (code, anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string())
}

#[test]
fn a_flaky_failure_accuses_no_commit() {
    let dir = results();
    let (tip, parent) = (commits()[0].short().to_owned(), commits()[1].short().to_owned());
    let mut text = String::new();
    for arguments in [
        "flaky next",
        "flaky next --json",
        "branches",
        "log next -n 2",
        &format!("show {tip}"),
        &format!("show {tip} --failed"),
        &format!("show {tip} --json --test flaky"),
        &format!("compare {parent} {tip}"),
        &format!("wait {tip}"),
        &format!("wait --json {tip}"),
        &format!("wait --strict {tip}"),
    ] {
        let (code, output) = run(&dir, arguments);
        text.push_str(&format!("$ ci-status {arguments}\n{output}exit code {code}\n\n"));
    }
    let history = run(&dir, "history next flaky").1;
    let head: Vec<&str> = history.lines().take(5).collect();
    text.push_str(&format!("$ ci-status history next flaky\n{}\n", head.join("\n")));
    insta::assert_snapshot!(text);
}

#[test]
fn a_failure_ends_the_wait_when_it_is_confirmed() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (commit, fixture) = (commit_id("new"), ResultsFixture::new(dir.path()));
    fixture.branch("kmo", "next", &[(commit.clone(), "ext4: a change".to_owned())]);
    let failed = || {
        let failed = Verdict::Failed { reason: "lost 3 of 8 writes".into() };
        TestResult::new(&commit, STEADY, failed, 800).on("farm1", 1, 1_700_000_000)
    };
    fixture.test(failed());
    let pending = Some([(commit.to_string(), 1)].into());
    fixture.snapshot(&StatusSnapshot {
        written: 1_700_000_099,
        pending_by_commit: pending,
        ..StatusSnapshot::default()
    });
    let wait = |more: &str| -> Result<u8, String> {
        let given = ["ci-status", "--output-dir", dir.path().to_str().unwrap(), "wait", commit.as_str()];
        let arguments = given.into_iter().chain(more.split_whitespace());
        let directory = Path::new("/proc/1").to_owned();
        ci_status::cli::answer(arguments, directory, 1_700_000_100, &mut Vec::new())
            .map_err(|error| error.to_string())
    };
    fixture.publish();
    assert!(wait("--limit 1ms").unwrap_err().contains("1 queued"), "its retry may pass");
    assert_eq!(wait("--limit 1ms --strict"), Ok(1));
    fixture.test(failed());
    fixture.publish();
    assert_eq!(wait("--limit 1ms"), Ok(1));
    fixture.finish();
}

#[test]
fn the_owners_of_failed_tests_are_shown() {
    let dir = results();
    let base = commit_id("commit 40");
    let fixture = ResultsFixture::new(dir.path());
    fixture.test(TestResult::new(&base, STEADY, Verdict::Failed { reason: "1".into() }, 900));
    fixture.test(TestResult::new(&base, FLAKY, Verdict::Passed, 900));
    fixture.finish();
    std::fs::write(dir.path().join("owners.json"), r#"{"fs/ext4/basic":["Mira <mira@example.org>","Ö"]}"#)
        .unwrap();
    let (_, text) = run(&dir, &format!("show {base}"));
    assert!(text.contains("  owner of fs.ext4.basic.steady: Mira <mira@example.org>, Ö\n"), "{text}");
    let (_, json) = run(&dir, &format!("show {base} --json"));
    let view: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(view["owners"][0]["tests"], serde_json::json!([STEADY]), "{view}");
    assert!(!run(&dir, &format!("show {base} --test flaky")).1.contains("owner of"));
}
