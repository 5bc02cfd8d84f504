//! `ci-status range-diff`: the commits of a branch before and after a force-push.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use tempfile::TempDir;
use testkit::results_fixture::{ResultsFixture, commit_id};

const NOW: i64 = 1_700_000_000;

fn results() -> TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let fixture = ResultsFixture::new(dir.path());
    testkit::pushed(&fixture, "kmo", "next", NOW - 300);
    fixture.branch("kmo", "stable", &[(commit_id("stable"), "Linux 6.1".into())]);
    fixture.finish();
    dir
}

/// The output of a command without colors, or its error.
fn run(dir: &TempDir, arguments: &str) -> String {
    let given = ["ci-status", "--output-dir", dir.path().to_str().unwrap()];
    let arguments = given.into_iter().chain(arguments.split(' '));
    let mut out = Vec::new();
    match ci_status::cli::answer(arguments, Path::new("/proc/1").to_owned(), NOW, &mut out) {
        Ok(_) => anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string(),
        Err(error) => format!("error: {error}\n"),
    }
}

#[test]
fn what_a_force_push_changed() {
    let dir = results();
    let mut text = String::new();
    let earlier = format!("range-diff next --of {}", commit_id("earlier").short());
    for arguments in ["range-diff next", &earlier, "range-diff next --of 0000", "range-diff stable"] {
        text.push_str(&format!("$ ci-status {arguments}\n{}\n", run(&dir, arguments)));
    }
    insta::assert_snapshot!(text);
    let json: serde_json::Value = serde_json::from_str(&run(&dir, "range-diff next --json")).unwrap();
    assert_eq!(
        (&json["kept"], &json["to_run"], &json["pairs"][3]["results"]),
        (&2.into(), &1.into(), &"kept".into())
    );
}
