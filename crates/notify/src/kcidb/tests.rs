use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

fn test(name: &str, status: Status) -> Test {
    Test {
        name: name.into(),
        attempt: 1,
        status,
        reason: (status != Status::Passed).then(|| "kernel BUG in \u{1b}x".into()),
        started: Some(1_796_100_000),
        duration: Some(Duration::from_millis(3_400)),
        log_url: Some("https://ci.example.org/c/a/b/".into()),
        host: Some("farm1".into()),
    }
}

fn submission() -> Value {
    let built = Build {
        arch: "x86_64".into(),
        config: String::new(),
        started: Some(1_796_099_000),
        duration: Some(Duration::from_secs(300)),
        error: None,
        log_url: None,
        tests: vec![
            test("fs.ext4.basic.punch", Status::Failed),
            test("fs.ext4.basic@kernel=a b.quota", Status::NotRun),
            test("fs..x.é", Status::Passed),
            test("fs.ext4.basic.rename", Status::FailedToRun),
            test("fs.ext4.basic.truncate", Status::InProgress),
        ],
    };
    let broken = Build {
        config: "kasan".into(),
        error: Some("fs/ext4/acl.c:143: error: expected ';'".into()),
        ..built.clone()
    };
    let commit = Commit {
        id: "a".repeat(40).parse().unwrap(),
        git_url: Some("https://git.example.org/linux.git".into()),
        git_branch: Some("next".into()),
        tree: "kmo/next".into(),
        subject: "ext4: punch holes".into(),
        started: Some(1_796_099_000),
        builds: vec![built.clone(), broken],
    };
    let issue = Issue {
        id: "3f2a9c0011223344".into(),
        signature: "kernel BUG in ext4_ext_remove_space".into(),
        url: Some("https://ci.example.org/x".into()),
        hits: vec![(commit.id.clone(), built.clone(), built.tests[0].clone())],
    };
    body("ktest_test", &[commit], &[issue])
}

#[test]
fn a_submission_has_only_results_of_the_kernel() {
    let body = submission();
    let builds: Vec<&str> =
        body["builds"].as_array().unwrap().iter().map(|build| build["status"].as_str().unwrap()).collect();
    assert_eq!(builds, ["PASS", "FAIL"]);
    let tests: Vec<(&str, &str)> = body["tests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|test| (test["path"].as_str().unwrap(), test["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        tests,
        [
            ("ktest.fs.ext4.basic.punch", "FAIL"),
            ("ktest.fs.ext4.basic_kernel_a_b.quota", "SKIP"),
            ("ktest.fs.x._", "PASS")
        ]
    );
    assert_eq!(body["incidents"][0]["test_id"], body["tests"][0]["id"]);
    assert!(!body.to_string().contains("u001b"));
    let request = request("https://kcidb.example", Some("secret"), &body);
    assert_eq!(
        (request.url.as_str(), request.headers[1].1.as_str()),
        ("https://kcidb.example/submit", "Bearer secret")
    );
}

/// With the validator of the project (the Python package kcidb-io), if it is installed.
#[test]
fn the_validator_accepts_a_submission() {
    let script = "import sys,json\nfrom kcidb_io.schema import V5_3 as V\nV.validate(json.load(sys.stdin))\nprint('valid')";
    let python = std::env::var("KCIDB_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_package = Command::new(&python).args(["-c", "import kcidb_io"]).stderr(Stdio::null()).status();
    if !has_package.is_ok_and(|status| status.success()) {
        eprintln!("skipped: python3 has no package kcidb_io");
        return;
    }
    let mut child = Command::new(&python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(submission().to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "valid");
}
