//! Compares the planner with a simple oracle that materializes and sorts the whole matrix.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use config::TestGroup;
use model::{CommitId, Env, ResultKey};
use proptest::prelude::*;

use super::{Branch, History, Input, PlannedJob, Planner, fixture};

type Done = HashSet<(CommitId, ResultKey)>;

fn commit(n: u8) -> CommitId {
    fixture::commit(n.into())
}

/// The plan, computed in the simplest way.
fn oracle(input: &Input, out: &Done) -> Vec<(i64, CommitId, ResultKey)> {
    let mut all = Vec::new();
    for (branch_at, branch) in input.branches.iter().enumerate() {
        let mut rank = 0;
        for group in &branch.groups {
            for unit in super::units_of(group) {
                for (age, commit) in branch.commits.iter().take(group.max_commits as usize).enumerate() {
                    let listing = input
                        .listings
                        .get(&(unit.test.clone(), unit.env.clone()))
                        .cloned()
                        .unwrap_or_default();
                    for (at, subtest) in listing.iter().enumerate() {
                        let key =
                            ResultKey::new(&unit.test, unit.kernel.as_ref(), &unit.env, subtest).unwrap();
                        let value = age as i64 + History::nice_in(input.history.get(&key), group);
                        all.push(((value, age, rank, branch_at, at), commit.clone(), key));
                    }
                }
                rank += 1;
            }
        }
    }
    all.sort();
    let mut seen = BTreeSet::new();
    all.into_iter()
        .filter(|(_, commit, key)| !out.contains(&(commit.clone(), key.clone())))
        .filter(|(_, commit, key)| seen.insert((commit.clone(), key.clone())))
        .map(|((value, ..), commit, key)| (value, commit, key))
        .collect()
}

fn shown(jobs: &[PlannedJob]) -> Vec<(i64, CommitId, ResultKey)> {
    jobs.iter().map(|job| (job.value, job.commit.clone(), job.key.clone())).collect()
}

fn env_of(set: bool) -> Env {
    if set { BTreeMap::from([("K".into(), "v".into())]).try_into().unwrap() } else { Env::default() }
}

fn groups() -> impl Strategy<Value = Vec<Arc<TestGroup>>> {
    let group = (
        proptest::collection::vec(0u8..5, 0..4),
        -2i64..3,
        0u32..5,
        0u64..3,
        proptest::bool::ANY,
        proptest::bool::ANY,
    );
    proptest::collection::vec(group, 1..4).prop_map(|groups| {
        let group =
            |(at, (files, nice, max_commits, adjust, kernel, env)): (usize, (Vec<u8>, _, _, _, _, _))| {
                Arc::new(TestGroup {
                    name: at.to_string().parse().unwrap(),
                    tests: files.iter().map(|n| format!("t/{n}").parse().unwrap()).collect(),
                    nice,
                    test_duration_nice: adjust * 10,
                    test_always_passes_nice: adjust,
                    max_commits,
                    inherit: true,
                    inherit_check: model::Share::default(),
                    soak: model::Share::default(),
                    bisect: model::BisectStart::Ask,
                    kernels: if kernel { vec!["a/b".parse().unwrap(), "c".parse().unwrap()] } else { vec![] },
                    env: env_of(env),
                })
            };
        groups.into_iter().enumerate().map(group).collect()
    })
}

prop_compose! {
    fn inputs()(
        groups in groups(),
        branches in proptest::collection::vec(
            (proptest::collection::hash_set(0u8..8, 0..6), proptest::collection::vec(0usize..9, 0..3)), 0..4),
        listings in proptest::collection::vec(proptest::collection::btree_set(0u8..6, 0..5), 0..10),
        history in proptest::collection::vec((0u8..5, 0u8..6, 0u64..40, 0u64..4, 0u64..2), 0..20),
    ) -> Input {
        let branch = |(at, (commits, wants)): (usize, (HashSet<u8>, Vec<usize>))| Branch {
            name: Arc::new(format!("u/{at}").parse().unwrap()),
            repo: Arc::new(model::RepoName::linux()),
            commits: commits.into_iter().map(commit).collect(),
            groups: wants.iter().map(|want| groups[want % groups.len()].clone()).collect(),
        };
        let listing = |(n, subtests): (usize, BTreeSet<u8>)| {
            let env = if n % 2 == 0 { Env::default() } else { env_of(true) };
            let subtests = subtests.iter().map(|s| format!("s{s}").parse().unwrap()).collect();
            ((format!("t/{}", n / 2).parse().unwrap(), env), subtests)
        };
        let record = |(file, subtest, seconds, passed, failed)| {
            (format!("t.{file}.s{subtest}").parse().unwrap(), History { mean: Duration::from_secs(seconds), passed, failed, p75: None })
        };
        Input {
            branches: branches.into_iter().enumerate().map(branch).collect(),
            listings: listings.into_iter().enumerate().map(listing).collect(),
            history: history.into_iter().map(record).collect::<HashMap<_, _>>(),
            default_cost: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Take(usize),
    Peek(usize),
    Verdict(usize),
    GiveBack(usize),
    Clear,
    Update(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0usize..20).prop_map(Op::Take),
        1 => (0usize..20).prop_map(Op::Peek),
        6 => (0usize..50).prop_map(Op::Verdict),
        2 => (0usize..50).prop_map(Op::GiveBack),
        1 => Just(Op::Clear),
        1 => (0usize..3).prop_map(Op::Update),
    ];
    proptest::collection::vec(op, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_planner_matches_the_oracle(inputs in proptest::collection::vec(inputs(), 3), before in proptest::collection::vec(any::<u16>(), 0..20), ops in ops()) {
        let mut current = &inputs[0];
        let mut done: Done = HashSet::new();
        // Some verdicts were recorded earlier.
        for pick in before {
            let plan = oracle(current, &done);
            if let Some((_, commit, key)) = plan.get(pick as usize % plan.len().max(1)) {
                done.insert((commit.clone(), key.clone()));
            }
        }
        let mut running: Vec<PlannedJob> = Vec::new();
        let mut planner = Planner::new();
        planner.update(current);
        for op in ops {
            let mut out = done.clone();
            out.extend(running.iter().map(|job| (job.commit.clone(), job.key.clone())));
            let stored = done.clone();
            let mut verdicts = |commit: &CommitId, keys: &[ResultKey], each: &mut dyn FnMut(u32)| {
                let has = |key: &ResultKey| stored.contains(&(commit.clone(), key.clone()));
                (0..).zip(keys).filter(|(_, key)| has(key)).for_each(|(at, _)| each(at));
                Ok(())
            };
            match op {
                Op::Take(n) => {
                    let jobs = planner.take(n, &mut verdicts);
                    let plan = oracle(current, &out);
                    prop_assert_eq!(shown(&jobs), &plan[..n.min(plan.len())]);
                    running.extend(jobs);
                }
                Op::Peek(n) => {
                    let plan = oracle(current, &out);
                    prop_assert_eq!(shown(&planner.peek(n, &mut verdicts)), &plan[..n.min(plan.len())]);
                }
                Op::Verdict(n) if n < running.len() => {
                    let job = running.swap_remove(n);
                    planner.set_done(&job.name());
                    done.insert((job.commit, job.key));
                }
                Op::GiveBack(n) if n < running.len() => {
                    let job = running.swap_remove(n);
                    planner.give_back(&job.name());
                }
                Op::Clear => planner.clear_verdicts(),
                Op::Update(n) => {
                    current = &inputs[n];
                    planner.update(current);
                }
                Op::Verdict(_) | Op::GiveBack(_) => {}
            }
        }
    }
}

fn one_branch(commits: &[u8]) -> Input {
    fixture::input(vec![fixture::branch("u/b", commits)], 2)
}

#[test]
fn a_push_goes_to_the_front() {
    let mut none = |_: &CommitId, _: &[ResultKey], _: &mut dyn FnMut(u32)| Ok(());
    let mut planner = Planner::new();
    planner.update(&one_branch(&[1, 0]));
    let window = planner.take(3, &mut none);
    assert_eq!(window.iter().map(|job| job.age).collect::<Vec<_>>(), [0, 0, 1]);
    planner.update(&one_branch(&[2, 1, 0]));
    // The first job runs; the pending jobs are put back.
    for job in &window[1..] {
        planner.give_back(&job.name());
    }
    let names: Vec<_> =
        planner.take(9, &mut none).iter().map(|j| format!("{:.40} {}", j.commit, j.subtest)).collect();
    let expected: Vec<_> = [(2, "s0"), (2, "s1"), (1, "s1"), (0, "s0"), (0, "s1")]
        .map(|(n, s)| format!("{} {s}", commit(n)))
        .into();
    assert_eq!(names, expected);
}

#[test]
fn nothing_is_planned_for_a_commit_whose_results_are_unreadable() {
    let mut planner = Planner::new();
    planner.update(&one_branch(&[1, 0]));
    let mut unreadable = |of: &CommitId, _: &[ResultKey], _: &mut dyn FnMut(u32)| {
        if *of == commit(1) { Err(results::Error::Write("bad blob".into())) } else { Ok(()) }
    };
    let jobs = planner.take(9, &mut unreadable);
    assert!(jobs.iter().all(|job| job.commit == commit(0)) && jobs.len() == 2);
    assert_eq!(planner.unreadable().collect::<Vec<_>>(), [(&commit(1), "bad blob")]);
    // The next update reads the results again.
    planner.update(&one_branch(&[1, 0]));
    let mut readable = |_: &CommitId, _: &[ResultKey], _: &mut dyn FnMut(u32)| Ok(());
    assert_eq!(planner.take(9, &mut readable).len(), 2);
}

#[test]
fn a_commit_is_read_once() {
    let mut reads = Vec::new();
    let mut planner = Planner::new();
    planner.update(&one_branch(&[2, 1, 0]));
    let mut count = |of: &CommitId, keys: &[ResultKey], each: &mut dyn FnMut(u32)| {
        reads.push(of.clone());
        assert_eq!(keys[0].as_str(), "a.s0");
        each(0);
        Ok(())
    };
    assert_eq!(planner.take(1, &mut count).len(), 1);
    assert_eq!(planner.take(9, &mut count).len(), 2);
    planner.update(&one_branch(&[3, 2, 1, 0]));
    assert_eq!(planner.take(9, &mut count).len(), 1);
    assert_eq!(reads, [2, 1, 0, 3].map(commit));
}
