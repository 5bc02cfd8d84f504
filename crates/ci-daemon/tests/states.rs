//! The diagrams in docs/states.md have the states and transitions of the code.

use std::collections::BTreeSet;
use std::time::Duration;

use ci_daemon::executor::batch::{BatchState, Phase};
use model::{Event, Status, SubtestName, Verdict};

/// The transitions of the diagram below a heading: from, to.
fn diagram(heading: &str) -> BTreeSet<(String, String)> {
    let (_, section) =
        include_str!("../../../docs/states.md").split_once(heading).expect("the heading is there");
    let (_, section) = section.split_once("```mermaid\nstateDiagram-v2\n").expect("a diagram follows");
    let (diagram, _) = section.split_once("```").expect("the diagram ends");
    let way = |line: &str| {
        let (from, to) = line.trim().split_once(" --> ").expect("a line of the diagram is a way");
        (from.to_owned(), to.split_once(':').map_or(to, |(to, _)| to).to_owned())
    };
    diagram.lines().map(way).collect()
}

fn states(transitions: &BTreeSet<(String, String)>) -> BTreeSet<String> {
    let all = transitions.iter().flat_map(|(from, to)| [from.clone(), to.clone()]);
    all.filter(|state| state != "[*]").collect()
}

#[test]
fn the_batch_diagram_equals_the_code() {
    let subtest: SubtestName = "x".parse().expect("a name");
    let events = [
        Event::BuildStarted,
        Event::BootStarted { vm: 1, accel: "tcg".into(), experiment: None, code: None },
        Event::Booted { vm: 1, duration_ms: 1 },
        Event::SubtestStarted { subtest: subtest.clone() },
    ];
    // All orders of a few events that `ktest run` can send: no build after the start of a VM.
    let mut gone = BTreeSet::new();
    let mut queue = vec![vec![]];
    while let Some(sent) = queue.pop() {
        let key = "a.x".parse().expect("a key");
        let mut batch = BatchState::new("a".parse().expect("a file"), [(subtest.clone(), key)]);
        for at in &sent {
            let before = batch.phase();
            let event: &Event = &events[*at];
            batch.on_event(event.clone());
            gone.insert((format!("{before:?}"), format!("{:?}", batch.phase())));
        }
        let last = sent.last().copied();
        for next in 0..events.len() {
            let sensible = match (last, next) {
                (_, 0) => last.is_none(),
                (None | Some(0), 1) => true,
                (Some(2 | 3), 1) => true,
                (Some(1), 2) => true,
                (None | Some(0 | 2 | 3), 3) => true,
                _ => false,
            };
            if sensible && sent.len() < 5 {
                queue.push(sent.iter().copied().chain([next]).collect());
            }
        }
    }
    gone.retain(|(from, to)| from != to);
    let mut drawn = diagram("## A batch");
    assert_eq!(states(&drawn), Phase::ALL.map(|phase| format!("{phase:?}")).into());
    drawn.retain(|(from, to)| from != "[*]" && to != "[*]");
    assert_eq!(drawn, gone);
}

#[test]
fn the_status_diagram_equals_the_code() {
    let mut drawn = diagram("## A status");
    let known: BTreeSet<String> = Status::ALL.map(|status| format!("{status:?}")).into();
    let mut shown = states(&drawn);
    shown.insert("Unknown".into());
    assert_eq!(shown, known);
    // The status after two successive records.
    let verdicts = || {
        let reason = || "r".to_owned();
        [
            Verdict::Passed,
            Verdict::Failed { reason: reason() },
            Verdict::NotRun { reason: reason() },
            Verdict::FailedToRun { reason: reason() },
        ]
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let mut gone = BTreeSet::new();
    runtime.block_on(async {
        let writer = results::Writer::open(dir.path()).expect("a writer");
        let commit: model::CommitId = "1".repeat(40).parse().expect("a commit");
        for (a, first) in verdicts().into_iter().enumerate() {
            for (b, second) in verdicts().into_iter().enumerate() {
                let key: model::ResultKey = format!("a.t{a}{b}").parse().expect("a key");
                for verdict in [&first, &second] {
                    let time = Duration::from_secs(1);
                    let record =
                        results::VerdictRecord::new(commit.clone(), key.clone(), verdict.clone(), time);
                    writer.record(record).await.expect("it is recorded");
                }
                writer.flush().await.expect("it is published");
                let results = writer.reader().commit(&commit).expect("readable").expect("there");
                let status = results.get(&key).expect("it is there").status();
                gone.insert((format!("{:?}", first.status()), format!("{status:?}")));
            }
        }
    });
    gone.retain(|(from, to)| from != to);
    drawn.retain(|(from, to)| from != "[*]" && to != "[*]" && from != "InProgress");
    assert_eq!(drawn, gone);
}
