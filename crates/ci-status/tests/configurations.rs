//! `--configuration` selects tests by their configuration.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use insta::assert_snapshot;
use testkit::results_fixture::ResultsFixture;

fn run(arguments: &str) -> String {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let fixture = ResultsFixture::new(dir.path());
    testkit::configured(&fixture, "kmo", "next");
    fixture.finish();
    let given = ["ci-status", "--output-dir", dir.path().to_str().unwrap()];
    // A value may have spaces.
    let arguments = given.into_iter().chain(arguments.split('|'));
    let mut out = Vec::new();
    match ci_status::cli::answer(arguments, "/proc/1".into(), 1_700_000_100, &mut out) {
        Ok(_) => anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string(),
        Err(error) => format!("error: {error:#}"),
    }
}

#[test]
fn configurations_are_selected() {
    let commands = [
        "log|kmo/next",
        "log|kmo/next|--configuration|aarch64, kasan",
        "log|kmo/next|--configuration|arch=aarch64,flavor=",
        "log|kmo/next|--configuration|debian_trixie",
        "show|kmo/next|--configuration|arch=aarch64",
        "show|kmo/next|--configuration|arch=aarch64|--test|nothing",
    ];
    let text: Vec<String> = commands.iter().map(|words| format!("$ {words}\n{}", run(words))).collect();
    assert_snapshot!(text.join("\n"));
}

#[test]
fn an_unknown_configuration_is_an_error() {
    let commands = [
        "log|kmo/next|--configuration|arch64",
        "log|kmo/next|--configuration|kasam",
        "show|kmo/next|--configuration|debian_trixie",
        "show|kmo/next|--configuration|",
    ];
    let text: Vec<String> = commands.iter().map(|words| format!("$ {words}\n{}", run(words))).collect();
    assert_snapshot!(text.join("\n"));
}
