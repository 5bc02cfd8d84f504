//! Inputs and jobs for tests: test file `a` with the subtests `s0`, `s1` and so on, in test group `g`.

use std::sync::Arc;
use std::time::Duration;

use config::TestGroup;
use model::{CommitId, Env, RepoName};

use super::{Branch, Input, PlannedJob, Purpose, Unit};

pub(crate) fn commit(n: u32) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

pub(crate) fn branch(name: &str, commits: &[u8]) -> Branch {
    let group = TestGroup {
        name: "g".parse().unwrap(),
        tests: vec!["a".parse().unwrap()],
        nice: 0,
        max_commits: 50,
        test_duration_nice: 0,
        test_always_passes_nice: 0,
        inherit: true,
        inherit_check: model::Share::default(),
        soak: model::Share::default(),
        bisect: model::BisectStart::Ask,
        kernels: Vec::new(),
        env: Env::default(),
    };
    Branch {
        name: Arc::new(name.parse().unwrap()),
        repo: Arc::new(RepoName::linux()),
        commits: commits.iter().map(|n| commit((*n).into())).collect(),
        groups: vec![Arc::new(group)],
    }
}

pub(crate) fn input(branches: Vec<Branch>, subtests: usize) -> Input {
    let listing = (0..subtests).map(|n| format!("s{n}").parse().unwrap()).collect();
    Input {
        branches,
        listings: [(("a".parse().unwrap(), Env::default()), listing)].into(),
        default_cost: Duration::from_secs(30),
        ..Input::default()
    }
}

/// A first attempt on branch `u/b`.
pub(crate) fn job(commit: CommitId, test: &str, subtest: &str) -> PlannedJob {
    PlannedJob {
        branch: Arc::new("u/b".parse().unwrap()),
        group: Arc::new("g".parse().unwrap()),
        repo: Arc::new(RepoName::linux()),
        commit,
        age: 0,
        unit: Arc::new(Unit { test: test.parse().unwrap(), kernel: None, env: Env::default() }),
        subtest: subtest.parse().unwrap(),
        key: format!("{}.{subtest}", test.replace('/', ".")).parse().unwrap(),
        value: 0,
        cost: Duration::from_secs(1),
        purpose: Purpose::First,
        inherit: true,
        inherit_check: model::Share::default(),
        bisect: model::BisectStart::Ask,
        alone: false,
    }
}
