//! The status page of a farm with several hosts.

mod common;

use common::{Farm, page_text};
use model::StatusSnapshot;
use model::snapshot::{BatchStatus, DiskStatus, ExecutorStatus, HostStatus, JobStatus};

fn slot(host: &str, number: usize, state: &str) -> ExecutorStatus {
    let batch = BatchStatus { phase: "building".into(), ..BatchStatus::default() };
    ExecutorStatus {
        name: format!("{host}/{number}"),
        host: host.into(),
        state: state.into(),
        batch: (state == "busy").then_some(batch),
        problem: (state == "backing off").then(|| "ssh: timed out".into()),
        ..ExecutorStatus::default()
    }
}

fn page(executors: Vec<ExecutorStatus>) -> String {
    let failed = JobStatus {
        status: "failed".into(),
        executor: Some("failing/0".into()),
        started: Some(common::NOW - 60),
        ..JobStatus::default()
    };
    let problems = vec!["executor lost/0 is quarantined: ssh: timed out".into(), "the disk is full".into()];
    let snapshot = StatusSnapshot {
        written: common::NOW,
        executors,
        jobs: vec![failed],
        problems,
        hosts: vec![HostStatus {
            name: "busy".into(),
            since: common::NOW - 7200,
            tests: 824,
            testing_s: 3,
            idle_s: 1,
            load: Some(87),
            ..HostStatus::default()
        }],
        disks: vec![DiskStatus { name: "results".into(), free: 3 << 30, total: 8 << 30 }],
        ..Default::default()
    };
    let farm = Farm::with(|fixture| {
        fixture.snapshot(&snapshot);
    });
    farm.get("/ci?status")
}

#[test]
fn hosts_with_problems_are_first_and_lines_of_a_large_farm_are_folded() {
    let mut executors = vec![slot("a-idle", 0, "idle"), slot("busy", 0, "busy"), slot("busy", 1, "idle")];
    executors.extend([slot("failing", 0, "busy"), slot("lost", 0, "quarantined"), slot("partly", 0, "busy")]);
    executors.push(slot("partly", 1, "backing off"));
    let small = page(executors.clone());
    assert_eq!(small.matches("<details id=\"host-").count(), small.matches(" open><summary").count());
    executors.extend((1..8).map(|number| slot("a-idle", number, "idle")));
    let large = page(executors);
    assert!(!large.contains(" open><summary"), "{large}");
    let text = page_text(&large);
    let lines = [
        "✗ lost 0 of 1 busy 1 quarantined",
        "! failing 1 of 1 busy 1 building 1 infrastructure error",
        "! partly 1 of 2 busy 1 building, 1 backing off ssh: timed out",
        "▸ busy 1 of 2 busy 1 building, 1 idle load 87 %, 412 tests per hour",
        "– a-idle 0 of 8 busy 8 idle",
    ];
    let places: Vec<usize> = lines.iter().map(|line| text.find(line).expect(line)).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains(": 0 % building, 0 % booting, 75 % testing, 25 % idle"), "{text}");
    assert!(text.contains("free of 8.0 GiB for results"), "{text}");
    assert!(text.contains("the disk is full") && !text.contains("is quarantined"), "{text}");
    let one = page((0..20).map(|number| slot("local", number, "idle")).collect());
    assert!(one.contains(" open><summary"), "the only host is unfolded");
}

#[test]
fn the_heads_of_the_tables_sort_them() {
    let branch = |name: &str, fetched| model::snapshot::BranchStatus {
        tip: Some("1".repeat(40)),
        fetched: Some(common::NOW - fetched),
        ..model::snapshot::BranchStatus::new(&name.parse().unwrap())
    };
    let job = |id, name: &str| JobStatus {
        id,
        name: name.into(),
        status: "running".into(),
        ..JobStatus::default()
    };
    let snapshot = StatusSnapshot {
        written: common::NOW,
        branches: vec![branch("u/b", 40), branch("u/a", 90), branch("u/c", 7)],
        jobs: vec![job(1, "zz"), job(2, "yy")],
        ..StatusSnapshot::default()
    };
    let farm = Farm::with(|fixture| {
        fixture.snapshot(&snapshot);
    });
    let places = |query: &str, words: [&str; 3]| {
        let text = page_text(&farm.get(query));
        words.map(|word| text.find(word).expect(word)).is_sorted()
    };
    assert!(places("/ci?status", ["u/b", "u/a", "u/c"]));
    assert!(places("/ci?status&sort=branch", ["u/a", "u/b", "u/c"]));
    assert!(places("/ci?status&sort=-branch", ["u/c", "u/b", "u/a"]));
    assert!(places("/status?sort=fetched", ["u/c", "u/b", "u/a"]));
    assert!(places("/ci?status&sort=name", ["u/b", "yy", "zz"]), "only the table with the column");
    assert!(farm.get("/ci?status&sort=-fetched").contains("aria-sort=\"ascending\""));
    assert_eq!(farm.status("/ci?status&sort=branhc"), 400);
}
