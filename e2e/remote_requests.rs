//! `ci-status bisect`, `believe`, `rerun`, `drain`, `resume`, `cancel` and `pause` from another machine: through a dashboard, with its token.

#![expect(clippy::unwrap_used, reason = "a test reports what is wrong by failing")]

#[path = "../crates/ci-status/tests/common/mod.rs"]
mod common;
mod dashboard;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use common::{commits, results};
use dashboard::Dashboard;
use model::CommitId;
use results::requests::{self, Bisect, RequestKind};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The output, or the error.
fn run(home: &Path, location: &[&str], arguments: &str) -> String {
    let mut command = Command::new(cargo_bin("ci-status"));
    command.args(location).args(arguments.split(' ')).current_dir("/proc/1");
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

fn token(home: &Path, name: &str, token: &str) -> String {
    let path = home.join(name);
    std::fs::write(&path, token).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// The id and the record of a running bisection.
fn running(bisect: &Bisect, one: &CommitId, two: &CommitId) -> (String, serde_json::Value) {
    let id = results::bisections::id(&bisect.key, one, two);
    let rate = serde_json::json!({"failures": 0, "attempts": 0, "low": 0.0, "high": 1.0});
    let record = serde_json::json!({
        "id": id, "test": bisect.key, "signature": "lost", "base": one, "head": two, "state": "running",
        "posterior": [], "no_culprit": 0.1, "rates": {"old": rate, "new": rate}, "steps": [], "runs": 3, "builds": 1,
        "wall_s": 1.5, "branch": {"user": "kmo", "branch": "next"}, "begun": 5, "commits": [one, two], "run_s": 1.0,
        "builds_kernel": true, "counted": {}, "pending": [],
    });
    (id, record)
}

#[test]
fn bisections_and_claims_through_a_dashboard() {
    let (dir, home) = (results(), tempfile::tempdir().unwrap());
    let (right, wrong) =
        (token(home.path(), "right", TOKEN), token(home.path(), "wrong", "0123456789abcdeg"));
    let dashboard = Dashboard::start_with(dir.path(), &["--rerun-token-file", &right]);
    let remote = format!("--remote={}", dashboard.address);
    let local = format!("--output-dir={}", dir.path().display());
    let [_, three, two, one] = &commits();
    let ask = |arguments: &str| run(home.path(), &[&remote, "--token-file", &right], arguments);
    assert_eq!(ask("bisect"), "no bisections; ci-status bisect TEST requests one");
    assert_eq!(ask("believe"), "no claims; ci-status believe TEST requests runs");
    // The same messages as on the machine of the daemon.
    for arguments in [
        "bisect nothing -b kmo/next".to_owned(),
        "bisect mount -b kmo/next".into(),
        format!("bisect punch {two}..{one} -b kmo/next"),
        format!("bisect punch {one}..{three} -b amy/next"),
        "bisect --cancel x".into(),
        "believe mount kmo/next".into(),
        "believe --cancel x".into(),
    ] {
        let answer = ask(&arguments);
        assert!(answer.starts_with("ci-status: "), "{answer}");
        assert_eq!(answer, run(home.path(), &[&local], &arguments));
    }
    let wanted = format!("bisect punch {one}..{two} -b kmo/next");
    for location in [vec![remote.as_str()], vec![remote.as_str(), "--token-file", &wrong]] {
        let error = run(home.path(), &location, &wanted);
        assert!(error.contains("--token-file FILE") && !error.contains("0123456789"), "{error}");
    }
    assert!(requests::pending(dir.path()).is_empty());
    let answer = ask(&wanted);
    let [(file, RequestKind::Bisect(bisect))] = &requests::pending(dir.path())[..] else {
        panic!("{answer}")
    };
    assert_eq!(bisect.range.as_ref().map(|range| (&range.base, &range.head)), Some((one, two)));
    assert_eq!(
        answer,
        format!("bisection of fs.ext4.basic.punch is requested; ci-daemon has not taken {file} yet")
    );
    ask(&format!("rerun {two} punch"));
    assert_eq!(requests::pending(dir.path()).len(), 2);
    // A running bisection is listed, and can be ended.
    let (id, record) = running(bisect, one, two);
    results::bisections::write(dir.path(), &id, &record.to_string()).unwrap();
    for arguments in ["bisect", "bisect --json"] {
        let answer = ask(arguments);
        assert!(answer.contains(&id) && !answer.starts_with("ci-status:"), "{answer}");
        assert_eq!(answer, run(home.path(), &[&local], arguments));
    }
    assert_eq!(ask(&format!("bisect --cancel {id}")), format!("the end of bisection {id} is requested"));
    let cancel = RequestKind::CancelBisection(id);
    assert!(requests::pending(dir.path()).iter().any(|(_, kind)| *kind == cancel));
    // Without a token, a dashboard takes no requests.
    let closed = Dashboard::start(dir.path());
    let remote = format!("--remote={}", closed.address);
    let error = run(home.path(), &[&remote, "--token-file", &right], &wanted);
    assert!(error.contains("this dashboard takes no requests"), "{error}");
}

#[test]
fn hosts_batches_and_branches_are_stopped_through_a_dashboard() {
    let (dir, home) = (results(), tempfile::tempdir().unwrap());
    let right = token(home.path(), "right", TOKEN);
    let dashboard = Dashboard::start_with(dir.path(), &["--rerun-token-file", &right]);
    let remote = format!("--remote={}", dashboard.address);
    let local = format!("--output-dir={}", dir.path().display());
    let ask = |arguments: &str| run(home.path(), &[&remote, "--token-file", &right], arguments);
    for (arguments, expected) in [
        ("drain farm9", "the farm has no host or slot farm9"),
        ("drain local/2", "the farm has no host or slot local/2"),
        ("resume local", "local is not drained"),
        ("cancel local", "give one of its slots: local/0"),
        ("cancel local/1", "local/1 does not run that batch"),
        ("pause nobody/none", "nobody"),
        ("resume amy/next", "amy/next is not paused"),
        ("drain ../x", "invalid value"),
    ] {
        let answer = ask(arguments);
        assert!(answer.contains(expected), "{arguments}: {answer}");
        assert_eq!(answer, run(home.path(), &[&local], arguments));
    }
    let error = run(home.path(), &[&remote], "drain local");
    assert!(error.contains("--token-file FILE"), "{error}");
    assert!(requests::pending(dir.path()).is_empty());
    for arguments in ["drain local/1 --reason disk", "cancel local/0", "pause amy/next"] {
        let answer = ask(arguments);
        assert!(answer.starts_with("requested; ci-daemon has not taken "), "{answer}");
    }
    let kinds: Vec<RequestKind> = requests::pending(dir.path()).into_iter().map(|(_, kind)| kind).collect();
    let json = serde_json::to_string(&kinds).unwrap();
    for part in [
        r#"{"drain":{"host":"local","slot":1,"reason":"disk"}}"#,
        r#"{"cancel_batch":{"host":"local","slot":0,"started":"#,
        r#"{"pause_branch":{"user":"amy","branch":"next"}}"#,
    ] {
        assert!(json.contains(part), "{json}");
    }
}
