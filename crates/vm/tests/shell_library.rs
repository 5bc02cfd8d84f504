//! The shell library of the test files, on the host: what the selftest files say about their subtests is what their
//! `# expect:` lines promise. Only files whose subtests are harmless outside of a guest.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::SubtestName;
use model::marker::Marker;
use spawn::{Cmd, Limits};

fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").canonicalize().unwrap()
}

async fn call(file: &str, args: &[&str]) -> spawn::Output {
    let tests = tests_dir();
    let cmd =
        Cmd::new(tests.join(file)).args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let cmd = cmd.env("ktest_dir", tests.parent().unwrap()).env("ktest_no_vm", "true");
    cmd.output(Limits::seconds(60)).await.unwrap()
}

#[derive(Debug, PartialEq)]
enum Said {
    Passed,
    Failed(String),
    NotRun(String),
}

/// What `run-tests` said of each subtest; the line before a failure is its reason.
fn said(output: &str) -> BTreeMap<SubtestName, Said> {
    let mut verdicts = BTreeMap::new();
    let (mut before, mut running) = (String::new(), None);
    for line in output.lines() {
        let (name, verdict) = match Marker::parse(line) {
            Some(Marker::Start(name)) => {
                running = Some(name);
                continue;
            }
            Some(Marker::Passed(name)) => (name, Said::Passed),
            Some(Marker::Failed(name)) => (name, Said::Failed(before.clone())),
            Some(Marker::NotRun(name, reason)) => (name, Said::NotRun(reason)),
            _ if line.is_empty() => continue,
            _ => {
                before = line.into();
                continue;
            }
        };
        if running.as_ref() == Some(&name) {
            verdicts.insert(name, verdict);
            running = None;
        }
    }
    verdicts
}

/// The `# expect: SUBTEST STATUS PART-OF-THE-REASON` lines of a file.
fn expected(file: &str) -> Vec<(SubtestName, String, String)> {
    let text = std::fs::read_to_string(tests_dir().join(file)).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("# expect: "));
    let parse = |line: &str| {
        let (name, rest) = line.split_once(' ').unwrap();
        let status =
            ["Passed", "Failed to run", "Failed", "Not run"].into_iter().find(|word| rest.starts_with(word));
        let status = status.unwrap_or_else(|| panic!("{file}: {line}"));
        (name.parse().unwrap(), status.to_string(), rest[status.len()..].trim().to_string())
    };
    lines.map(parse).collect()
}

#[tokio::test]
async fn verdicts_are_the_promised_ones() {
    for file in ["pass", "fail", "skip", "skip_all", "slashes", "forged", "never_run"] {
        let file = format!("selftest/{file}.ktest");
        let listed = call(&file, &["list-tests"]).await.text();
        let names: Vec<&str> = listed.split_whitespace().collect();
        let output = call(&file, &[&["run-tests"], names.as_slice()].concat()).await;
        let said = said(&output.text());

        let expected = expected(&file);
        assert_eq!(names, expected.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), "{file}");
        let mut failed = 0;
        for (name, status, part) in expected {
            let what = format!("{file} {name}: {:?}", said.get(&name));
            match (said.get(&name), status.as_str()) {
                (Some(Said::Passed), "Passed") | (None, "Failed to run") => {}
                (Some(Said::Failed(reason)), "Failed") => {
                    failed += 1;
                    assert!(reason.contains(&part), "{what}, not {part}");
                }
                (Some(Said::NotRun(reason)), "Not run") => {
                    assert!(reason.contains(&part), "{what}, not {part}");
                }
                _ => panic!("{what}, not {status}"),
            }
        }
        assert_eq!(
            output.exit,
            spawn::Exit::Code(failed),
            "{file}: the exit status is the number of failures"
        );
    }
}

#[tokio::test]
async fn the_first_failure_ends_a_failfast_run() {
    let file = tests_dir().join("selftest/fail.ktest");
    let cmd = Cmd::new(file).args(["run-tests", "after", "command", "assertion"]);
    let cmd = cmd.env("ktest_no_vm", "true").env("ktest_failfast", "true");
    let output = cmd.output(Limits::seconds(60)).await.unwrap();
    let said = said(&output.text());
    assert_eq!(said.keys().map(SubtestName::as_str).collect::<Vec<_>>(), ["after", "command"]);
    assert_eq!(output.exit, spawn::Exit::Code(1));
}

#[tokio::test]
async fn a_subtest_that_is_not_there_fails() {
    let output = call("selftest/pass.ktest", &["run-tests", "nowhere"]).await;
    let said = said(&output.text());
    let reason = "failed: there is no subtest nowhere";
    assert!(matches!(&said["nowhere"], Said::Failed(said) if said.contains(reason)), "{said:?}");
}

/// Bad declarations end the call with one line that says what is wrong, and nothing for the runner to evaluate.
#[tokio::test]
async fn bad_declarations_are_explained() {
    let output = call("selftest/deps_fails.ktest", &["deps"]).await;
    assert_eq!(output.text(), "");
    insta::assert_snapshot!(output.complaint(), @"deps_fails.ktest: config-mem: 'lots' is not a size like 512 or 2G");
    let output = call("selftest/no_subtests.ktest", &["list-tests"]).await;
    insta::assert_snapshot!(output.complaint(), @"no_subtests.ktest: the file has no subtests: define functions test_NAME");
    let output = call("selftest/pass.ktest", &["nonsense"]).await;
    assert_eq!(output.exit, spawn::Exit::Code(2));
}
