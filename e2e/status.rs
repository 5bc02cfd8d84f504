//! Every `ci-status` command prints the same bytes for a dashboard as for the results directory.

#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

#[path = "../crates/ci-status/tests/common/mod.rs"]
mod common;
mod dashboard;

use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use common::{commits, results};
use dashboard::Dashboard;
use model::{StatusSnapshot, Verdict};
use stdio::terminal::is_unsafe;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// The environment of a command: no checkout, no configuration, an empty cache.
struct Environment {
    home: tempfile::TempDir,
}

impl Environment {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn run(&self, place: &[&str], words: &str) -> Output {
        let mut command = Command::new(cargo_bin("ci-status"));
        command.args(place).args(words.split(' ')).current_dir("/proc/1").stdin(Stdio::null());
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_CACHE_HOME", self.home.path().join("cache"));
        command.output().unwrap()
    }

    /// The exit code and standard output; after a failure, also standard error.
    fn output(&self, place: &[&str], words: &str) -> (String, Option<i32>) {
        let output = self.run(place, words);
        let mut text = String::from_utf8(output.stdout).unwrap();
        if !output.status.success() {
            text.push_str(&String::from_utf8(output.stderr).unwrap());
        }
        (text, output.status.code())
    }
}

/// The commands that print the same text at any time.
fn commands() -> [String; 28] {
    let [four, three, two, one] = commits().map(|commit| commit.short().to_owned());
    let untested = testkit::results_fixture::commit_id("five");
    [
        "branches".into(),
        "log kmo/next".into(),
        "log kmo/next -n 2 --test punch$".into(),
        "log nowhere".into(),
        "log next".into(),
        "show kmo/next".into(),
        format!("show {one}"),
        format!("show {two}"),
        format!("show {three} --failed --test mount"),
        format!("show {four}"),
        format!("show {untested}"),
        "show ffffffff".into(),
        format!("logs {two} punch"),
        format!("logs {two} punch --follow"),
        format!("logs {two} mount --machine"),
        format!("logs {four} mount"),
        format!("logs {three} mount"),
        format!("logs {two} fs.ext4"),
        format!("artifacts {two} punch"),
        format!("artifacts {four} mount"),
        "history kmo/next punch".into(),
        "history amy/next mount".into(),
        "history amy/next nothing".into(),
        format!("compare {one} {two}"),
        format!("compare {two} {four}"),
        format!("wait {one}"),
        format!("wait {two}"),
        format!("wait {three}"),
    ]
}

#[test]
fn a_dashboard_gives_the_same_output_as_the_directory() {
    let dir = results();
    let directory = format!("--output-dir={}", dir.path().display());
    let dashboard = Dashboard::start(dir.path());
    let remote = format!("--remote={}", dashboard.address);
    let environment = Environment::new();
    let places: [(&str, &[&str]); 2] =
        [("blobs", &[remote.as_str()]), ("the JSON views alone", &[remote.as_str(), "--user=kmo"])];
    for words in commands() {
        for json in ["", " --json"] {
            let words = format!("{words}{json}");
            for (name, place) in places {
                let mut local = vec![directory.as_str()];
                // --user also selects the owner of a branch.
                local.extend(place.iter().skip(1));
                // The second time from the cache.
                for time in ["", " again"] {
                    let (local_output, remote_output) =
                        (environment.output(&local, &words), environment.output(place, &words));
                    assert_eq!(local_output, remote_output, "ci-status {words} over {name}{time}");
                    assert!(!local_output.0.is_empty(), "{words}");
                }
            }
        }
    }
    assert!(environment.home.path().join("cache/ktest/remote").read_dir().unwrap().count() > 10);
    // These print the time, which differs.
    let digits = |(text, code): (String, Option<i32>)| {
        (text.replace(|c: char| c.is_ascii_digit(), "").replace(" h m", " m s"), code)
    };
    for words in ["workers", "watch kmo/next --once"] {
        assert_eq!(
            digits(environment.output(&[&directory], words)),
            digits(environment.output(&[&remote], words)),
            "{words}"
        );
    }
    assert_eq!(
        environment.output(&[&directory], "workers --json"),
        environment.output(&[&remote], "workers --json")
    );
    let (text, code) = environment.output(&[&remote], &format!("rerun {} punch", commits()[2].short()));
    assert!(code == Some(1) && text.contains("this dashboard takes no requests"), "{text}");
}

#[test]
fn an_unreachable_dashboard_is_a_one_line_error() {
    let environment = Environment::new();
    for (place, words) in [
        ("--remote=http://127.0.0.1:1/ci", "http://127.0.0.1:1/ci?format=json: Connection refused"),
        ("--remote=ftp://x", "--remote \"ftp://x\": it must begin with http:// or https://"),
        ("--remote", "no configuration found"),
    ] {
        let (text, code) = environment.output(&[place], "branches");
        assert!(text.starts_with("ci-status: ") && text.contains(words), "{text}");
        assert_eq!((text.lines().count(), code), (1, Some(1)), "{text}");
    }
}

/// Control, bidirectional and invisible characters in a commit message, a reason, a crash title and a live status.
const HOSTILE: &str = "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{9b}2J\u{202e}evil\u{2066}\u{200b}\u{feff}\u{e0041}";

#[test]
fn no_control_characters_of_results_are_printed() {
    let dir = results();
    let fixture = ResultsFixture::new(dir.path());
    let commit = commit_id("hostile");
    fixture.branch("eve", "next", &[(commit.clone(), format!("fix{HOSTILE}\n\nbody{HOSTILE}"))]);
    let failed = Verdict::Failed { reason: format!("reason{HOSTILE}") };
    fixture.test(
        TestResult::new(&commit, "fs.ext4.basic.punch", failed, 100)
            .crash(&format!("crash{HOSTILE}"))
            .log(format!("log{HOSTILE}\n")),
    );
    fixture.snapshot(&StatusSnapshot {
        problems: vec![format!("problem{HOSTILE}")],
        ..StatusSnapshot::default()
    });
    fixture.finish();
    let dashboard = Dashboard::start(dir.path());
    let (directory, remote) =
        (format!("--output-dir={}", dir.path().display()), format!("--remote={}", dashboard.address));
    let environment = Environment::new();
    let short = commit.short();
    for place in [[directory.as_str()].as_slice(), &[&remote], &[&remote, "--user=eve"]] {
        for words in [
            "branches",
            "log eve/next",
            "history eve/next punch",
            "workers",
            "watch eve/next --once",
            &format!("show {short}"),
            &format!("compare {short} {short}"),
            &format!("wait {short}"),
            &format!("logs {short} punch --json"),
            &format!("artifacts {short} punch"),
            &format!("show {short}{HOSTILE}"),
        ] {
            for json in ["", " --json"] {
                let output = environment.run(place, &format!("{words}{json}"));
                for text in [output.stdout, output.stderr] {
                    let text = String::from_utf8(text).unwrap();
                    let found = text.chars().find(|c| is_unsafe(*c) && *c != '\n');
                    assert_eq!(found, None, "ci-status {words}{json}: {text:?}");
                }
            }
        }
    }
}
