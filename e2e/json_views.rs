//! `ci-status --json` and the dashboard's `&format=json` print equal JSON for every view that both have, with results
//! in a directory and over `--remote`.

#![expect(clippy::unwrap_used, reason = "a test reports what is wrong by failing")]

#[path = "../crates/ci-status/tests/common/mod.rs"]
mod common;
mod dashboard;

use std::path::Path;
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use ci_dashboard::{Request, Site, TestFiles, handle};
use common::{NOW, commits, failed, results};
use dashboard::Dashboard;
use model::Verdict;
use results::Reader;
use serde_json::Value;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// A view: the arguments of `ci-status` and the address on the dashboard.
struct View {
    arguments: String,
    address: String,
}

fn view(arguments: impl Into<String>, address: impl Into<String>) -> View {
    View { arguments: arguments.into(), address: address.into() }
}

/// The JSON of a view from the dashboard, as a value.
fn from_dashboard(dir: &Path, address: &str) -> Value {
    let site = Site::new(Reader::open(dir).unwrap(), TestFiles::default());
    let separator = if address.contains('?') { '&' } else { '?' };
    let response = handle(&site, &Request::get(&format!("{address}{separator}format=json")), NOW);
    assert_eq!(response.status, 200, "{address}");
    let mut body = Vec::new();
    response.body.write_to(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// The JSON of a view from the command line, as a value.
fn from_command(home: &Path, location: &[&str], arguments: &str) -> Value {
    let mut command = Command::new(cargo_bin("ci-status"));
    command.args(location).args(arguments.split(' ')).arg("--json").current_dir("/proc/1");
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ci-status {arguments}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asserts that all views of a results directory are equal.
fn assert_equal(dir: &Path, views: &[View]) {
    let (home, dashboard) = (tempfile::tempdir().unwrap(), Dashboard::start(dir));
    let directory = format!("--output-dir={}", dir.display());
    let remote = format!("--remote={}", dashboard.address);
    for View { arguments, address } in views {
        let expected = from_dashboard(dir, address);
        for location in [&directory, &remote] {
            let found = from_command(home.path(), &[location], arguments);
            assert_eq!(found, expected, "ci-status {location} {arguments} and {address}");
        }
    }
}

#[test]
fn every_view_is_equal() {
    let dir = results();
    let [four, three, two, one] = commits();
    let five = commit_id("five");
    let mut views = vec![
        view("branches", "/ci"),
        view("log kmo/next", "/ci?user=kmo&branch=next&untested=1"),
        view("log kmo/ext4/testing", "/ci?user=kmo&branch=ext4/testing&untested=1"),
        view("log kmo/next --test punch$", "/ci?user=kmo&branch=next&test=punch$&untested=1"),
        view("show amy/next", format!("/ci?user=amy&branch=next&commit={two}")),
        view(format!("show {two} --test punch"), format!("/c/{two}/?test=punch")),
        view("history kmo/next punch", "/ci?user=kmo&branch=next&history=fs.ext4.basic.punch"),
        view("history amy/next mount", "/ci?user=amy&branch=next&history=fs.ext4.basic.mount"),
        view("crashes kmo/next", "/ci?user=kmo&branch=next&crashes"),
        view("flaky kmo/next", "/ci?user=kmo&branch=next&flaky"),
        view("compare amy/next kmo/next", "/ci?compare=amy/next..kmo/next"),
        view("compare kmo/ext4/testing amy/next", "/ci?compare=kmo/ext4/testing..amy/next"),
        view("workers", "/ci?status"),
    ];
    for commit in [&five, &four, &three, &two, &one] {
        views.push(view(format!("show {commit}"), format!("/c/{commit}/")));
        views.push(view(format!("show {}", commit.short()), format!("/ci?commit={commit}")));
    }
    for (base, head) in [(&one, &two), (&two, &three), (&two, &four), (&four, &two), (&one, &one)] {
        let short = format!("{}..{}", base.short(), head.short());
        views.push(view(format!("compare {base} {head}"), format!("/ci?compare={base}..{head}")));
        views
            .push(view(format!("compare {} {}", base.short(), head.short()), format!("/ci?compare={short}")));
    }
    assert_equal(dir.path(), &views);
}

/// A user's branches are an object on the dashboard and a list with one element in `ci-status branches --user`. The
/// artifacts of a test and the controls of its failure are a part of its view on the dashboard.
#[test]
fn parts_of_views_are_equal() {
    let (dir, home) = (results(), tempfile::tempdir().unwrap());
    let dashboard = Dashboard::start(dir.path());
    let [_, _, two, _] = commits();
    let remote = format!("--remote={}", dashboard.address);
    for location in [format!("--output-dir={}", dir.path().display()), remote] {
        let users = from_command(home.path(), &[&location], "branches --user kmo");
        assert_eq!(users, serde_json::json!([from_dashboard(dir.path(), "/ci?user=kmo")]));
        let artifacts = from_command(home.path(), &[&location], &format!("artifacts {two} punch"));
        let test = from_dashboard(dir.path(), &format!("/c/{two}/fs.ext4.basic.punch/"));
        assert_eq!(artifacts["artifacts"], test["artifacts"], "{location}");
        let show = from_command(home.path(), &[&location], &format!("show {two} --test punch"));
        let mut row = test;
        for own in ["artifacts", "controls", "since"] {
            assert!(row.as_object_mut().unwrap().remove(own).is_some(), "{own}");
        }
        assert_eq!(show["tests"], serde_json::json!([row]), "{location}");
    }
}

/// Each kind of change, and suspicious passes.
#[test]
fn comparisons_with_every_kind_of_change_are_equal() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = ResultsFixture::new(dir.path());
    let subjects = ["new", "old", "4", "3", "2", "1"];
    let commits = subjects.map(|subject| (commit_id(subject), subject.to_owned()));
    let [new, old] = [&commits[0].0, &commits[1].0];
    fixture.branch("kmo", "next", &commits);
    for (commit, _) in &commits[2..] {
        fixture.test(TestResult::new(commit, "fs.x.faster", Verdict::Passed, 80_000));
    }
    let skipped = || Verdict::NotRun { reason: "no tools".into() };
    let unbuilt = || Verdict::FailedToRun { reason: "no build".into() };
    let no_kernel = || Verdict::FailedToRun { reason: model::build_failed_reason("a.c:1: error: x") };
    let pass = || Verdict::Passed;
    let tests = [
        ("broke", Some((pass(), 100)), Some((failed("BUG"), 100))),
        ("failing", Some((skipped(), 0)), Some((failed("BUG"), 100))),
        ("fixed", Some((failed("BUG"), 100)), Some((pass(), 100))),
        ("still", Some((failed("one"), 100)), Some((failed("two"), 100))),
        ("stopped", Some((pass(), 100)), Some((unbuilt(), 0))),
        ("skipped", Some((pass(), 100)), Some((skipped(), 0))),
        ("resumed", Some((unbuilt(), 0)), Some((pass(), 100))),
        ("unbuilt", Some((pass(), 100)), Some((no_kernel(), 0))),
        ("slower", Some((pass(), 1000)), Some((pass(), 9000))),
        ("faster", Some((pass(), 90_000)), Some((pass(), 1000))),
        ("gone", Some((pass(), 100)), None),
        ("new", None, Some((pass(), 100))),
        ("alike", Some((pass(), 100)), Some((pass(), 100))),
        ("flaky", Some((pass(), 100)), Some((failed("BUG"), 100))),
    ];
    for (name, base, head) in tests {
        for (commit, verdict) in [(old, base), (new, head)] {
            let Some((verdict, millis)) = verdict else { continue };
            let result = TestResult::new(commit, &format!("fs.x.{name}"), verdict, millis);
            fixture.test(if name == "broke" { result.crash("BUG in x") } else { result });
        }
    }
    fixture.waiting(new, "fs.x.gone", old);
    // Its retry.
    fixture.test(TestResult::new(new, "fs.x.flaky", pass(), 100));
    testkit::pushed(&fixture, "kmo", "pushed", 1_790_000_000);
    fixture.finish();
    let compare = format!("/ci?compare={old}..{new}");
    let kinds = from_dashboard(dir.path(), &compare);
    let kinds: std::collections::BTreeSet<&str> =
        kinds["changes"].as_array().unwrap().iter().map(|row| row["change"].as_str().unwrap()).collect();
    for view in [format!("/c/{new}/"), compare.clone()] {
        let found = from_dashboard(dir.path(), &view)["suspicious"].to_string();
        assert_eq!(found.matches("median of the 5 passes before: 80.0 s").count(), 1, "{view} {found}");
    }
    assert_eq!(kinds.len(), regress::compare::KINDS.len(), "{kinds:?}");
    assert_equal(
        dir.path(),
        &[
            view(format!("compare {old} {new}"), compare),
            view("flaky kmo/next", "/ci?user=kmo&branch=next&flaky"),
            view("range-diff kmo/pushed", "/ci?user=kmo&branch=pushed&range-diff"),
            view(format!("compare {new} {old}"), format!("/ci?compare={new}..{old}")),
            view(format!("show {new}"), format!("/c/{new}/")),
            view(format!("show {new} --test s"), format!("/c/{new}/?test=s")),
        ],
    );
}

/// What broke and what is fixed, of a branch and of the farm.
#[test]
fn findings_are_equal() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = ResultsFixture::new(dir.path());
    let [new, old] = ["new", "old"].map(commit_id);
    fixture.branch("kmo", "next", &[(new.clone(), "new".into()), (old.clone(), "old".into())]);
    testkit::found(&fixture, "kmo/next", [&new, &new, &old], 1_790_000_000);
    fixture.finish();
    let views = [
        view("findings kmo/next", "/ci?user=kmo&branch=next&findings"),
        view("findings", "/c/findings.json?"),
    ];
    assert_eq!(from_dashboard(dir.path(), &views[1].address).as_array().unwrap().len(), 3);
    assert_equal(dir.path(), &views);
}

/// The tests of one configuration or of several. Errors are equal, too, for a directory and a dashboard.
#[test]
fn test_configurations_are_equal() {
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fixture = ResultsFixture::new(dir.path());
    testkit::configured(&fixture, "kmo", "next");
    fixture.branch("kmo", "untested", &[(commit_id("new"), "new".into())]);
    fixture.finish();
    let tip = commit_id("next three");
    let mut views = Vec::new();
    for (value, encoded) in [
        ("default", "default"),
        ("arch=aarch64", "arch=aarch64"),
        ("arch=aarch64,flavor=", "arch=aarch64,flavor="),
        ("flavor=kasan", "flavor=kasan"),
        // Only at an older commit.
        ("debian_trixie", "debian_trixie"),
    ] {
        let log = format!("/ci?user=kmo&branch=next&config={encoded}&untested=1");
        views.push(view(format!("log kmo/next --configuration {value}"), log.clone()));
        views.push(view(format!("log kmo/next --configuration {value} --test ^b"), format!("{log}&test=^b")));
        if value != "debian_trixie" {
            let show = format!("/c/{tip}/?config={encoded}");
            views.push(view(format!("show {tip} --configuration {value}"), show));
        }
    }
    let untested = "/ci?user=kmo&branch=untested&config=kasan&untested=1";
    views.push(view("log kmo/untested --configuration kasan", untested));
    assert_equal(dir.path(), &views);

    let dashboard = Dashboard::start(dir.path());
    let directory = format!("--output-dir={}", dir.path().display());
    let remote = format!("--remote={}", dashboard.address);
    let text = |location: &str, arguments: &str| {
        let mut command = Command::new(cargo_bin("ci-status"));
        command.arg(location).args(arguments.split(' ')).current_dir("/proc/1").stdin(Stdio::null());
        let output = command.env_clear().env("HOME", home.path()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for arguments in [
        "log kmo/next --configuration arch=aarch64",
        "show kmo/next --configuration flavor=kasan",
        "log kmo/next --configuration arch64",
        "show kmo/next --configuration arch64",
        "log kmo/next --configuration ,",
    ] {
        let local = text(&directory, arguments);
        assert_eq!(text(&remote, arguments), local, "{arguments}");
        let is_error = local.starts_with("ci-status: no test configuration \"");
        assert_eq!(
            is_error,
            arguments.ends_with("arch64") && !arguments.contains('=') || arguments.ends_with(','),
            "{local}"
        );
    }
}
