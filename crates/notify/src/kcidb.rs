//! Results for KCIDB, in version 5.3 of its format.

use std::time::Duration;

use model::{CommitId, Status};
use serde_json::{Map, Value, json};

use crate::http::HttpRequest;
use crate::text::line;
use crate::webhook::timestamp;

/// The maximum length of a text, in characters.
const TEXT_MAX: usize = 1000;
/// The maximum number of bytes of a part of an id.
const ID_MAX: usize = 200;

/// A commit with its results.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The commit.
    pub id: CommitId,
    /// The address from which its repository is fetched.
    pub git_url: Option<String>,
    /// The branch in that repository.
    pub git_branch: Option<String>,
    /// The name of the tree: `user/branch`.
    pub tree: String,
    /// The subject.
    pub subject: String,
    /// When its tests started, in Unix seconds.
    pub started: Option<i64>,
    /// Its kernels.
    pub builds: Vec<Build>,
}

/// A kernel with the results of its tests.
#[derive(Debug, Clone)]
pub struct Build {
    /// The architecture, as in the kernel: `x86_64`.
    pub arch: String,
    /// The name of the configuration; empty for the default.
    pub config: String,
    /// When its build started, in Unix seconds.
    pub started: Option<i64>,
    /// The duration of its build.
    pub duration: Option<Duration>,
    /// The error, if it does not build.
    pub error: Option<String>,
    /// The address of the log of the build.
    pub log_url: Option<String>,
    /// Its tests; none if it does not build.
    pub tests: Vec<Test>,
}

/// A result.
#[derive(Debug, Clone)]
pub struct Test {
    /// The key of the result.
    pub name: String,
    /// The attempt.
    pub attempt: u32,
    /// The status. Only passed, failed, flaky and not run are results of the kernel.
    pub status: Status,
    /// The crash title or the reason.
    pub reason: Option<String>,
    /// When it started, in Unix seconds.
    pub started: Option<i64>,
    /// How long it took.
    pub duration: Option<Duration>,
    /// The address of its log.
    pub log_url: Option<String>,
    /// The host.
    pub host: Option<String>,
}

impl Test {
    /// Whether it is a result of the kernel.
    #[must_use]
    pub fn is_result(&self) -> bool {
        matches!(self.status, Status::Passed | Status::Failed | Status::Flaky | Status::NotRun)
    }
}

/// A cause of failures.
#[derive(Debug, Clone)]
pub struct Issue {
    /// The id of the finding.
    pub id: String,
    /// The crash title or the reason.
    pub signature: String,
    /// The address of the finding.
    pub url: Option<String>,
    /// Its commit, the name of the configuration of the kernel, the test and its attempt.
    pub hits: Vec<(CommitId, Build, Test)>,
}

/// The body of a submission. `origin` is the name of the farm in KCIDB: lower-case letters, digits and `_`.
#[must_use]
pub fn body(origin: &str, commits: &[Commit], issues: &[Issue]) -> Value {
    let (mut checkouts, mut builds, mut tests, mut incidents) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for commit in commits {
        checkouts.push(checkout(origin, commit));
        for build in &commit.builds {
            builds.push(of_build(origin, commit, build));
            if build.error.is_none() {
                tests.extend(build.tests.iter().filter_map(|test| of_test(origin, &commit.id, build, test)));
            }
        }
    }
    for issue in issues {
        for (commit, build, test) in &issue.hits {
            let test = test_id(origin, commit, build, test);
            incidents.push(json!({
                "id": format!("{origin}:{}.{}", part(&issue.id), part(test.split_once(':').map_or("", |(_, id)| id))),
                "origin": origin,
                "issue_id": issue_id(origin, issue),
                "issue_version": 1,
                "test_id": test,
                "present": true,
            }));
        }
    }
    let issues: Vec<Value> = issues.iter().map(|issue| of_issue(origin, issue)).collect();
    let mut body = json!({"version": {"major": 5, "minor": 3}});
    for (name, list) in [
        ("checkouts", checkouts),
        ("builds", builds),
        ("tests", tests),
        ("issues", issues),
        ("incidents", incidents),
    ] {
        if !list.is_empty() {
            body[name] = list.into();
        }
    }
    body
}

/// The request that submits a body. `base` is the address without `/submit`.
#[must_use]
pub fn request(base: &str, token: Option<&str>, body: &Value) -> HttpRequest {
    let mut headers = vec![("content-type", "application/json".to_owned())];
    headers.extend(token.map(|token| ("authorization", format!("Bearer {token}"))));
    HttpRequest {
        method: "POST",
        url: format!("{base}/submit"),
        headers,
        body: body.to_string().into_bytes(),
    }
}

fn checkout_id(origin: &str, commit: &CommitId) -> String {
    format!("{origin}:{commit}")
}

fn build_id(origin: &str, commit: &CommitId, build: &Build) -> String {
    let config = if build.config.is_empty() { "default" } else { &build.config };
    format!("{origin}:{commit}.{}.{}", part(&build.arch), part(config))
}

fn test_id(origin: &str, commit: &CommitId, build: &Build, test: &Test) -> String {
    format!("{}.{}.{}", build_id(origin, commit, build), part(&test.name), test.attempt)
}

fn issue_id(origin: &str, issue: &Issue) -> String {
    format!("{origin}:{}", part(&issue.id))
}

/// A part of an id: printable ASCII.
fn part(text: &str) -> String {
    let plain =
        |b: u8| if b.is_ascii_alphanumeric() || b"._-+@=,/".contains(&b) { char::from(b) } else { '_' };
    text.bytes().take(ID_MAX).map(plain).collect()
}

fn checkout(origin: &str, commit: &Commit) -> Value {
    let mut value = json!({
        "id": checkout_id(origin, &commit.id),
        "origin": origin,
        "git_commit_hash": commit.id.as_str(),
        "tree_name": line(&commit.tree, TEXT_MAX),
        "git_commit_message": line(&commit.subject, TEXT_MAX),
        "valid": true,
    });
    put(&mut value, "git_repository_url", commit.git_url.clone());
    put(&mut value, "git_repository_branch", commit.git_branch.clone());
    put(&mut value, "start_time", commit.started.map(timestamp));
    value
}

fn of_build(origin: &str, commit: &Commit, build: &Build) -> Value {
    let mut value = json!({
        "id": build_id(origin, &commit.id, build),
        "origin": origin,
        "checkout_id": checkout_id(origin, &commit.id),
        "architecture": line(&build.arch, 100),
        "status": if build.error.is_some() { "FAIL" } else { "PASS" },
    });
    put(&mut value, "config_name", (!build.config.is_empty()).then(|| line(&build.config, TEXT_MAX)));
    put(&mut value, "comment", build.error.as_deref().map(|error| line(error, TEXT_MAX)));
    put(&mut value, "start_time", build.started.map(timestamp));
    put(&mut value, "duration", build.duration.map(|time| time.as_secs_f64()));
    put(&mut value, "log_url", build.log_url.clone());
    value
}

/// A test; `None` if it has no result of the kernel.
fn of_test(origin: &str, commit: &CommitId, build: &Build, test: &Test) -> Option<Value> {
    let status = match test.status {
        Status::Passed => "PASS",
        Status::Failed | Status::Flaky => "FAIL",
        Status::NotRun => "SKIP",
        Status::FailedToRun | Status::InProgress | Status::Unknown => return None,
    };
    let mut value = json!({
        "id": test_id(origin, commit, build, test),
        "origin": origin,
        "build_id": build_id(origin, commit, build),
        "path": path(&test.name),
        "status": status,
    });
    put(&mut value, "comment", test.reason.as_deref().map(|reason| line(reason, TEXT_MAX)));
    put(&mut value, "start_time", test.started.map(timestamp));
    put(&mut value, "duration", test.duration.map(|time| time.as_secs_f64()));
    put(&mut value, "log_url", test.log_url.clone());
    if let Some(host) = &test.host {
        value["environment"] = json!({"comment": line(host, TEXT_MAX)});
    }
    Some(value)
}

/// `ktest.fs.ext4.basic.punch`: letters, digits, `_` and `-` between dots.
fn path(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let parts = name.split('.').filter(|part| !part.is_empty());
    let parts: Vec<String> = parts.map(|part| part.chars().map(plain).collect()).collect();
    format!("ktest.{}", parts.join("."))
}

fn of_issue(origin: &str, issue: &Issue) -> Value {
    let mut value = json!({
        "id": issue_id(origin, issue),
        "version": 1,
        "origin": origin,
        "comment": line(&issue.signature, TEXT_MAX),
        "culprit": {"code": true, "harness": false, "tool": false},
    });
    put(&mut value, "report_url", issue.url.clone());
    value
}

fn put(value: &mut Value, name: &str, field: Option<impl Into<Value>>) {
    let object: Option<&mut Map<String, Value>> = value.as_object_mut();
    if let (Some(object), Some(field)) = (object, field) {
        object.insert(name.to_owned(), field.into());
    }
}

#[cfg(test)]
mod tests;
