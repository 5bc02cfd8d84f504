//! The shell library of the test files, run on the host: each subtest of a selftest file gets the verdict in its `#
//! expect:` line. Only for files with subtests that are harmless outside a guest.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use model::SubtestName;
use model::verdict::Verdict;
use spawn::{Cmd, Limits};
use vm::supervise::{Action, LibraryLines, Protocol, Supervisor, TimeLimits, Token, UP, VmEnd};

static TOKEN: LazyLock<Token> = LazyLock::new(Token::random);

fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").canonicalize().unwrap()
}

async fn call(file: &str, args: &[&str]) -> spawn::Output {
    let tests = tests_dir();
    let cmd =
        Cmd::new(tests.join(file)).args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let cmd = cmd.env("ktest_dir", tests.parent().unwrap()).env("ktest_no_vm", "true");
    let cmd = cmd.env("ktest_token", TOKEN.as_str());
    cmd.output(Limits::seconds(60)).await.unwrap()
}

/// The verdicts that the runner reads from the output of `init` and `run-tests`.
fn verdicts(names: &[&str], output: &str) -> BTreeMap<SubtestName, Verdict> {
    let names = names.iter().map(|name| name.parse::<SubtestName>().unwrap());
    // A file that does not use the library has no token.
    let library = match output.contains(TOKEN.as_str()) {
        true => LibraryLines::Token,
        false => LibraryLines::Output,
    };
    let protocol = Protocol { token: TOKEN.clone(), library };
    let mut supervisor = Supervisor::new(names, TimeLimits::interactive(), protocol, Duration::ZERO);
    let up = format!("ktest/{} {UP}", TOKEN.as_str());
    let lines = std::iter::once(up.as_str()).chain(output.lines());
    let mut actions = Vec::new();
    for line in lines {
        let line = supervisor.read(line);
        actions.extend(supervisor.line(&line, Duration::ZERO));
    }
    actions.extend(supervisor.ended(VmEnd::Guest, Duration::ZERO).0);
    let finished = actions.into_iter().filter_map(|action| match action {
        Action::Finished(finished) => Some((finished.subtest, finished.verdict)),
        _ => None,
    });
    finished.collect()
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
async fn verdicts_match_the_expected_ones() {
    for file in ["pass", "fail", "skip", "skip_all", "slashes", "forged", "traced", "never_run", "ktap_no_vm"]
    {
        let file = format!("selftest/{file}.ktest");
        let listed = call(&file, &["list-tests"]).await.text();
        let names: Vec<&str> = listed.split_whitespace().collect();
        let init = if file.contains("ktap") { call(&file, &["init"]).await.text() } else { String::new() };
        let output = call(&file, &[&["run-tests"], names.as_slice()].concat()).await;
        let verdicts = verdicts(&names, &format!("{init}{}", output.text()));

        let expected = expected(&file);
        assert_eq!(names, expected.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), "{file}");
        let mut failed = 0;
        for (name, status, part) in expected {
            let what = format!("{file} {name}: {:?}", verdicts.get(&name));
            match (verdicts.get(&name), status.as_str()) {
                (Some(Verdict::Passed), "Passed") | (None, "Failed to run") => {}
                (Some(Verdict::Failed { reason }), "Failed") => {
                    failed += 1;
                    assert!(reason.contains(&part), "{what}, not {part}");
                }
                (Some(Verdict::NotRun { reason }), "Not run") => {
                    assert!(reason.contains(&part), "{what}, not {part}");
                }
                _ => panic!("{what}, not {status}"),
            }
        }
        // The runner determines the verdicts of KTAP cases, so the guest does not count their failures.
        let counted = if file.contains("ktap") { 0 } else { failed };
        assert_eq!(
            output.exit,
            spawn::Exit::Code(counted),
            "{file}: the exit status is the number of failures"
        );
    }
}

#[tokio::test]
async fn the_first_failure_ends_a_failfast_run() {
    let file = tests_dir().join("selftest/fail.ktest");
    let names = ["after", "command", "assertion"];
    let cmd = Cmd::new(file).args(["run-tests"]).args(names);
    let cmd = cmd.env("ktest_no_vm", "true").env("ktest_failfast", "true").env("ktest_token", TOKEN.as_str());
    let output = cmd.output(Limits::seconds(60)).await.unwrap();
    let verdicts = verdicts(&names, &output.text());
    assert_eq!(verdicts.keys().map(SubtestName::as_str).collect::<Vec<_>>(), ["after", "command"]);
    assert_eq!(output.exit, spawn::Exit::Code(1));
}

#[tokio::test]
async fn an_unknown_subtest_fails() {
    let output = call("selftest/pass.ktest", &["run-tests", "nowhere"]).await;
    let verdicts = verdicts(&["nowhere"], &output.text());
    let reason = "failed: there is no subtest nowhere";
    assert!(
        matches!(&verdicts["nowhere"], Verdict::Failed { reason: found } if found.contains(reason)),
        "{verdicts:?}"
    );
}

/// A call with invalid declarations prints one line with the error, and no assignments.
#[tokio::test]
async fn invalid_declarations_are_explained() {
    let output = call("selftest/deps_fails.ktest", &["deps"]).await;
    assert_eq!(output.text(), "");
    insta::assert_snapshot!(output.error_line(), @"deps_fails.ktest: config-mem: 'lots' is not a size like 512 or 2G");
    let output = call("selftest/no_subtests.ktest", &["list-tests"]).await;
    insta::assert_snapshot!(output.error_line(), @"no_subtests.ktest: the file has no subtests: define functions test_NAME");
    let output = call("selftest/pass.ktest", &["nonsense"]).await;
    assert_eq!(output.exit, spawn::Exit::Code(2));
}
