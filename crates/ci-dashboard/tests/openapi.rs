//! `/openapi.json` is correct: every JSON view matches its schema, and every parameter is described.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use ci_dashboard::Request;
use common::{Farm, body_text, commits, small};
use serde_json::{Value, json};

fn document() -> Value {
    serde_json::from_str(&small().get("/openapi.json")).unwrap()
}

/// The errors of a value according to a schema. Supports the keywords that the document uses; any other is an error, so
/// that no rule is ignored.
fn problems(document: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "description" | "properties" | "maxLength" | "minLength" | "additionalProperties" => {}
            "$ref" => {
                let target = document.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
                problems(document, target, value, place, found);
                return;
            }
            "anyOf" | "oneOf" => {
                let fits = rule.as_array().unwrap().iter().any(|schema| {
                    let mut inner = Vec::new();
                    problems(document, schema, value, place, &mut inner);
                    inner.is_empty()
                });
                if !fits {
                    found.push(format!("{place}: {value} fits none of {keyword}"));
                }
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    problems(document, rule, item, &format!("{place}/{at}"), found);
                }
                return check_rest(schema, keyword);
            }
            _ => found.extend(broken(keyword, rule, value).map(|what| format!("{place}: {what}"))),
        }
    }
    for (name, item) in value.as_object().into_iter().flatten() {
        let place = format!("{place}/{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(rule), _) => problems(document, rule, item, &place, found),
            (None, Value::Bool(false)) => found.push(format!("{place}: unknown field")),
            (None, rule @ Value::Object(_)) => problems(document, rule, item, &place, found),
            (None, _) => {}
        }
    }
}

/// How a value breaks the rule of a keyword that does not refer to another schema.
fn broken(keyword: &str, rule: &Value, value: &Value) -> Option<String> {
    match keyword {
        "type" => {
            let kinds = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
            let fits = kinds.iter().any(|kind| has_type(value, kind.as_str().unwrap()));
            (!fits).then(|| format!("{value} is not {rule}"))
        }
        "enum" => (!rule.as_array().unwrap().contains(value)).then(|| format!("{value} is not in {rule}")),
        "minimum" => {
            let below = value.as_f64().is_some_and(|number| number < rule.as_f64().unwrap());
            below.then(|| format!("{value} is below {rule}"))
        }
        "pattern" => {
            let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
            let differs = value.as_str().is_some_and(|text| !pattern.is_match(text));
            differs.then(|| format!("{value} does not match {rule}"))
        }
        "required" => {
            let mut names = rule.as_array().unwrap().iter().filter(|_| value.is_object());
            let missing = names.find(|name| value.get(name.as_str().unwrap()).is_none());
            missing.map(|name| format!("{name} is missing"))
        }
        other => panic!("this test does not support the keyword {other}"),
    }
}

fn has_type(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("{other} is not a type"),
    }
}

/// Checks that the schema of a list has no keywords after its items, which this test would ignore.
fn check_rest(schema: &Value, last: &str) {
    let known = ["description", "type", last];
    assert!(schema.as_object().unwrap().keys().all(|keyword| known.contains(&keyword.as_str())), "{schema}");
}

fn check(document: &Value, farm: &Farm, target: &str, name: &str) {
    let answer = farm.ask(&Request::get(target));
    let value: Value = serde_json::from_str(&body_text(answer)).unwrap();
    let mut found = Vec::new();
    problems(document, &document["components"]["schemas"][name], &value, "", &mut found);
    assert!(found.is_empty(), "{target} is not a {name}: {found:#?}\n{value:#}");
}

/// Checks that the check itself finds wrong values.
#[test]
fn a_wrong_value_is_found() {
    let document = document();
    let wrong = |name: &str, value: Value| {
        let mut found = Vec::new();
        problems(&document, &document["components"]["schemas"][name], &value, "", &mut found);
        !found.is_empty()
    };
    assert!(!wrong("User", json!({"user": "a", "branches": []})));
    assert!(wrong("User", json!({"user": "a"})));
    assert!(wrong("User", json!({"user": "a", "branches": [1]})));
    assert!(wrong("User", json!({"user": "a", "branches": [], "more": 1})));
    assert!(wrong("Test", json!({"name": "a", "status": "passed", "duration": 1, "duration_ms": 1})));
    assert!(wrong("Test", json!({"name": "a", "status": "Passed", "duration": -1, "duration_ms": 1})));
    assert!(wrong("Seen", json!({"commit": "abc", "message": ""})));
}

#[test]
fn every_view_matches_its_schema() {
    let document = document();
    let farm = small();
    let (branch, short) = ("/ci?user=mira&branch=ext4-testing", &commits()[3].0.as_str()[..12].to_owned());
    let (unbuilt, bad, good) = (&commits()[2].0, &commits()[3].0, &commits()[4].0);
    for (target, name) in [
        ("/ci?format=json", "Users"),
        ("/ci?user=mira&format=json", "User"),
        ("/u/mira?format=json", "User"),
        (&format!("{branch}&format=json"), "Branch"),
        (&format!("{branch}&test=punch&format=json"), "Branch"),
        ("/u/mira/ext4-testing?format=json", "Branch"),
        (&format!("{branch}&history=fs.ext4.basic.punch&format=json"), "History"),
        (&format!("{branch}&crashes&format=json"), "Crashes"),
        (&format!("{branch}&flaky&format=json"), "FlakyTests"),
        (&format!("{branch}&findings&format=json"), "Findings"),
        ("/c/findings.json", "Findings"),
        (&format!("{branch}&matrix&format=json"), "Matrix"),
        (&format!("{branch}&grid&format=json"), "Grid"),
        (&format!("{branch}&config=default&format=json"), "Branch"),
        (&format!("{branch}&config=nothing&format=json"), "Error"),
        (&format!("{branch}&changes&format=json"), "Changes"),
        ("/ci?user=mira&branch=none&range-diff&format=json", "Error"),
        (&format!("{branch}&commit={bad}&format=json"), "CommitView"),
        (&format!("/c/{bad}/?format=json"), "CommitView"),
        (&format!("/c/{bad}/?status=failed&format=json"), "CommitView"),
        (&format!("/c/{unbuilt}/?format=json"), "CommitView"),
        (&format!("/c/{unbuilt}/build?format=json"), "BuildView"),
        (&format!("/c/{good}/build?format=json"), "BuildView"),
        (&format!("/c/{bad}/fs.ext4.basic.punch/?format=json"), "TestView"),
        (&format!("/ci?compare={good}..{bad}&format=json"), "Comparison"),
        (&format!("/ci?user=mira&compare=ext4-testing..{short}&format=json"), "Comparison"),
        ("/ci?user=nobody&format=json", "Error"),
        ("/ci?user=mira&branch=none&format=json", "Error"),
        ("/ci?compare=x..y&format=json", "Error"),
        ("/ci?compare=x&format=json", "Error"),
        (&format!("{branch}&test=(&format=json"), "Error"),
        ("/nothing?format=json", "Error"),
        ("/ci?commit=xyz&format=json", "Error"),
    ] {
        check(&document, &farm, target, name);
    }
}

#[test]
fn a_force_push_matches_its_schema() {
    let farm = Farm::with(|fixture| testkit::pushed(fixture, "mira", "next", common::NOW));
    let target = "/ci?user=mira&branch=next&range-diff";
    check(&document(), &farm, &format!("{target}&format=json"), "RangeDiff");
    let earlier = testkit::results_fixture::commit_id("earlier");
    check(&document(), &farm, &format!("{target}={earlier}&format=json"), "RangeDiff");
}

#[test]
fn a_full_and_an_empty_snapshot_match_the_schema() {
    use model::snapshot::{BatchStatus, BranchStatus, DiskStatus, ExecutorStatus, HostStatus, JobStatus};
    use model::{Drained, HostReport, Paused, Stopped};
    let document = document();
    let nothing = Farm::with(|fixture| {
        fixture.snapshot(&model::StatusSnapshot::default());
    });
    check(&document, &nothing, "/status?format=json", "Snapshot");
    let building = BatchStatus {
        phase_started: Some(1),
        objects: Some(1),
        objects_total: Some(2),
        kernel: model::BuiltKernel { arch: "aarch64".into(), flavor: "kasan".into() },
        ..BatchStatus::default()
    };
    let stopped = Stopped { at: 1, by: Some("a".into()), reason: Some("b".into()) };
    let report = HostReport {
        load: Some(1),
        memory_total: Some(2),
        memory_available: Some(1),
        cache_total: Some(2),
        cache_free: Some(1),
    };
    let much = Farm::with(|fixture| {
        fixture.snapshot(&model::StatusSnapshot {
            jobs: vec![JobStatus {
                id: 1,
                executor: Some("a/0".into()),
                started: Some(1),
                ..JobStatus::default()
            }],
            executors: vec![
                ExecutorStatus::default(),
                ExecutorStatus { batch: Some(BatchStatus::default()), ..ExecutorStatus::default() },
                ExecutorStatus { batch: Some(building), ..ExecutorStatus::default() },
            ],
            branches: vec![BranchStatus {
                tip: Some("0".repeat(40)),
                ..BranchStatus::new(&"a/b".parse().unwrap())
            }],
            hosts: vec![HostStatus {
                load: Some(1),
                load_at: Some(1),
                report: Some(report),
                reported: Some(1),
                ..HostStatus::default()
            }],
            drained: vec![
                Drained { place: "a/0".parse().unwrap(), stopped: stopped.clone() },
                Drained { place: "a".parse().unwrap(), stopped: Stopped { by: None, reason: None, at: 1 } },
            ],
            paused: vec![Paused { branch: "a/b".parse().unwrap(), stopped }],
            disks: vec![DiskStatus::default()],
            fairshare: [("a".parse().unwrap(), 1.0)].into(),
            weights: [("a".parse().unwrap(), 0.5)].into(),
            pending_by_group: [("a".parse().unwrap(), 1)].into(),
            ..model::StatusSnapshot::default()
        });
    });
    check(&document, &much, "/ci?status&format=json", "Snapshot");
}

/// Every parameter of the routes is in the document, and every path in the document is a route.
#[test]
fn paths_and_parameters_match_the_routes() {
    let document = document();
    let farm = small();
    let commit = commits()[3].0.to_string();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let target = path
            .replace("{user}", "mira")
            .replace("{branch}", "ext4-testing")
            .replace("{sha}", &commit)
            .replace("{key}", "fs.ext4.basic.punch")
            .replace("{file}", "log.br");
        if methods.get("get").is_none() {
            // Only on a server with a token; tested in tests/shells.rs.
            assert_eq!((path.as_str(), farm.status(&target)), ("/c/{sha}/{key}/rerun", 404));
            continue;
        }
        let status = farm.status(&target);
        let absent = ["ci-daemon-status.json", "/coverage"].iter().any(|end| target.ends_with(end));
        let expected = if absent { 404 } else { 200 };
        assert_eq!(status, expected, "{target}");
    }
    let named: std::collections::BTreeSet<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path["get"]["parameters"].as_array().into_iter().flatten())
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    let read = [
        "branch",
        "changes",
        "commit",
        "compare",
        "config",
        "crashes",
        "file",
        "find",
        "findings",
        "flaky",
        "format",
        "from",
        "grid",
        "history",
        "kernel",
        "kind",
        "line",
        "log",
        "matrix",
        "page",
        "path",
        "range-diff",
        "reason",
        "sort",
        "status",
        "test",
        "untested",
        "user",
        "with",
    ];
    assert_eq!(named.into_iter().collect::<Vec<_>>(), read);
}

#[test]
fn coverage_matches_its_schema_and_has_pages() {
    let (farm, sha) = common::covered();
    let document = document();
    for target in [
        "coverage?format=json",
        "coverage?path=fs/ext4/inode.c&format=json",
        "coverage?path=fs/none&format=json",
    ] {
        let name = if target.contains("none") { "Error" } else { "Coverage" };
        check(&document, &farm, &format!("/c/{sha}/{target}"), name);
    }
    let json: Value = serde_json::from_str(&farm.get(&format!("/c/{sha}/coverage?format=json"))).unwrap();
    // The artifact of a run is linked to two tests and counts once; two test files add up.
    let totals = json!({"lines": 5, "lines_hit": 3, "functions": 2, "functions_hit": 2});
    assert_eq!(json["totals"], totals);
    let tests: Vec<_> =
        json["tests"].as_array().unwrap().iter().map(|row| (&row["name"], &row["lines_hit"])).collect();
    assert_eq!(tests, [(&json!("boot"), &json!(1)), (&json!("fs.ext4.basic"), &json!(2))]);
    let file: Value =
        serde_json::from_str(&farm.get(&format!("/c/{sha}/coverage?path=fs/ext4/inode.c&format=json")))
            .unwrap();
    assert_eq!(file["missed"], json!([[11, 12]]));
    assert_eq!(file["functions"][0], json!({"name": "ext4_map", "line": 9, "calls": 3}));
    let page = farm.get(&format!("/c/{sha}/coverage"));
    for words in ["60.0 %", "By directory", "fs/ext4", "boot"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let page = farm.get(&format!("/c/{sha}/coverage?path=fs/ext4/inode.c&file=fs.ext4.basic"));
    assert!(page.contains("11\u{2013}12") && page.contains("ext4_map"), "{page}");
    assert!(farm.get(&format!("/c/{sha}/")).contains("/coverage\">coverage</a>"));
    assert!(!small().get(&format!("/c/{}/", commits()[3].0)).contains("/coverage"));
}
