//! The state diagrams of the README have the same states and transitions as the code.

use std::collections::BTreeSet;
use std::fmt::Debug;

use jobkit::{ExecutorState, JobState};

/// The transitions of the diagram below a heading.
fn diagram(heading: &str) -> BTreeSet<(String, String)> {
    let readme = include_str!("../README.md");
    let (_, section) = readme.split_once(heading).expect("the heading exists");
    let (_, section) = section.split_once("```mermaid\nstateDiagram-v2\n").expect("a diagram follows");
    let (diagram, _) = section.split_once("```").expect("the diagram ends");
    diagram
        .lines()
        .map(|line| {
            let (from, to) = line.trim().split_once(" --> ").expect("a line of the diagram is a transition");
            (from.to_owned(), to.split_once(':').map_or(to, |(to, _)| to).to_owned())
        })
        .collect()
}

fn transitions<S: Debug>(transitions: &[(S, S)]) -> BTreeSet<(String, String)> {
    transitions.iter().map(|(from, to)| (format!("{from:?}"), format!("{to:?}"))).collect()
}

#[test]
fn the_job_diagram_equals_the_code() {
    let mut expected = transitions(&JobState::TRANSITIONS);
    expected.insert(("[*]".into(), "Pending".into()));
    for state in JobState::ALL.into_iter().filter(|state| state.is_final()) {
        expected.insert((format!("{state:?}"), "[*]".into()));
        assert!(!JobState::ALL.iter().any(|next| state.may_become(*next)), "{state:?} is final");
    }
    assert_eq!(diagram("## States of a job\n"), expected);
    for state in JobState::ALL {
        assert!(expected.iter().any(|(_, to)| *to == format!("{state:?}")), "{state:?} can be reached");
    }
}

#[test]
fn the_executor_diagram_equals_the_code() {
    let mut expected = transitions(&ExecutorState::TRANSITIONS);
    expected.insert(("[*]".into(), "Idle".into()));
    assert_eq!(diagram("## States of an executor\n"), expected);
    for state in ExecutorState::ALL {
        assert!(expected.iter().any(|(_, to)| *to == format!("{state:?}")), "{state:?} can be reached");
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(json, format!("\"{}\"", state.label()));
    }
}
