//! Measures the planner on a matrix of 4,000,000 jobs, and what an amended commit costs. Prints `name value unit` lines: `cargo run --release -p
//! ci-daemon --example bench-ci-daemon`.
//!
//! The matrix is 4 branches x 50 commits x 200 test files x 100 subtests. The newest 10 commits of each branch have all
//! their verdicts, in real result files. A refill picks the next 2,000 jobs. The cold figures are for a new process,
//! which opens the results and reads the cached listings, the durations and the verdicts. The warm figures are for the
//! same planner after the 2,000 jobs have their verdicts.

#![expect(clippy::print_stdout, reason = "a program for developers")]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ci_daemon::farm::RecordedVerdicts;
use ci_daemon::plan::window::Window;
use ci_daemon::plan::{Branch, Input, histories};
use ci_daemon::watch::listing::Listings;
use config::TestGroup;
use model::{CommitId, Env, ResultKey, Status, TestPath};
use results::codec::{Mark, encode_commit, encode_durations};
use results::{CommitResults, TestDuration, TestEntry, Writer};

#[path = "support/amend.rs"]
mod amend;

const BRANCHES: usize = 4;
const COMMITS: usize = 50;
const COMPLETE: usize = 10;
const FILES: usize = 200;
const SUBTESTS: usize = 100;
const WINDOW: usize = 2000;
const WARM: usize = 50;

fn main() -> Result<()> {
    match std::env::args_os().nth(1) {
        Some(word) if word == amend::DAEMON => return amend::daemon(std::env::args_os().skip(2)),
        Some(dir) => return measure(dir.as_ref()),
        None => amend::measure()?,
    }
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR"))?;
    prepare(dir.path())?;
    let own = std::env::current_exe()?;
    let mut cold = Vec::new();
    let mut last = String::new();
    for _ in 0..5 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let cmd = spawn::Cmd::new(&own).arg(dir.path());
        let output = runtime.block_on(cmd.output(spawn::Limits::seconds(300)))?;
        ensure!(output.exit.success(), "{}: {}", output.exit, output.error_line());
        last = output.text();
        let line = last.lines().find_map(|line| line.strip_prefix("planner_refill_cold_ms "));
        let value: f64 = line.and_then(|rest| rest.split(' ').next()).context("no figure")?.parse()?;
        cold.push(value);
    }
    cold.sort_by(f64::total_cmp);
    for line in last.lines().filter(|line| !line.starts_with("planner_refill_cold_ms ")) {
        println!("{line}");
    }
    println!("planner_refill_cold_ms {:.1} ms", cold[cold.len() / 2]);
    Ok(())
}

fn measure(dir: &Path) -> Result<()> {
    let start = Instant::now();
    let writer = Writer::open(dir.join("data"))?;
    let opened = start.elapsed();
    let listings = Listings::load(&dir.join("listings.json"));
    let history = writer.reader().durations()?;
    let mut store = RecordedVerdicts::new(writer);
    let mut window = Window::new(WINDOW);
    let input = input(&listings, history);
    window.update(&input, WINDOW);
    let mut jobs = window.refill(0, &mut store);
    let cold = start.elapsed();
    ensure!(jobs.len() == WINDOW, "{} jobs", jobs.len());
    ensure!(jobs.iter().all(|job| job.age == COMPLETE as u32), "not the newest commits that lack verdicts");
    let mut warm = Vec::new();
    for _ in 0..WARM {
        for job in &jobs {
            window.set_done(&job.name());
        }
        let start = Instant::now();
        jobs = window.refill(0, &mut store);
        warm.push(start.elapsed());
        ensure!(jobs.len() == WINDOW, "{} jobs", jobs.len());
    }
    // A replan after a fetch cycle without changes.
    let start = Instant::now();
    window.update(&input, WINDOW);
    let replan = window.replan(jobs.iter().map(ci_daemon::plan::PlannedJob::name), &mut store);
    let replanned = start.elapsed();
    ensure!(replan.unwanted.is_empty() && replan.submit.is_empty(), "the plan changed");
    warm.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("planner_refill_warm_ms {:.2} ms", ms(warm[WARM / 2]));
    println!("planner_refill_warm_max_ms {:.2} ms", ms(warm[WARM - 1]));
    println!("planner_replan_ms {:.1} ms", ms(replanned));
    println!("planner_open_results_ms {:.1} ms", ms(opened));
    println!("planner_refill_cold_ms {:.1} ms", ms(cold));
    println!("planner_refill_rss_mb {:.1} MB", peak_rss_mb()?);
    Ok(())
}

/// The peak memory of this process, in MB (2^20).
fn peak_rss_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn commit(branch: usize, age: usize) -> Result<CommitId> {
    Ok(format!("{:040x}", branch * 1_000_000 + age + 1).parse()?)
}

fn file(number: usize) -> Result<TestPath> {
    Ok(format!("fs/group{:02}/file{number:03}", number / 20).parse()?)
}

fn input(listings: &Listings, durations: Vec<TestDuration>) -> Input {
    let files = (0..FILES).map(|number| file(number).expect("a test file"));
    let group = Arc::new(TestGroup {
        name: "all".parse().expect("a group name"),
        tests: files.collect(),
        nice: 0,
        max_commits: 50,
        test_duration_nice: 180,
        test_always_passes_nice: 0,
        inherit: true,
        inherit_check: model::Share::default(),
        soak: model::Share::default(),
        bisect: model::BisectStart::Ask,
        kernels: Vec::new(),
        env: Env::default(),
    });
    let branch = |number: usize| Branch {
        name: Arc::new(format!("user{number}/next").parse().expect("a branch")),
        repo: Arc::new(model::RepoName::linux()),
        commits: (0..COMMITS).map(|age| commit(number, age).expect("a commit id")).collect(),
        groups: vec![group.clone()],
    };
    Input {
        branches: (0..BRANCHES).map(branch).collect(),
        listings: listings.all(),
        history: histories(durations, &HashMap::new()),
        default_cost: Duration::from_secs(30),
    }
}

/// Creates test files with their cached listings, and durations and verdicts as a daemon would have left them.
fn prepare(dir: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut wanted = BTreeSet::new();
    for number in 0..FILES {
        let test = file(number)?;
        let path = dir.join("tests").join(test.file());
        std::fs::create_dir_all(path.parent().context("a directory")?)?;
        std::fs::write(&path, "#!/bin/bash\necho t{000..099}\n")?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        wanted.insert((test, Env::default()));
    }
    runtime.block_on(Listings::load(&dir.join("listings.json")).refresh(dir, Vec::new(), &wanted, 0));
    let mut keys: Vec<ResultKey> = Vec::new();
    for (test, env) in &wanted {
        for subtest in 0..SUBTESTS {
            keys.push(ResultKey::new(test, None, env, &format!("t{subtest:03}").parse()?)?);
        }
    }
    keys.sort();
    let data = dir.join("data");
    std::fs::create_dir_all(&data)?;
    let mean = |at: usize| Duration::from_secs(at as u64 * 7 % 400);
    let durations: Vec<TestDuration> = keys
        .iter()
        .enumerate()
        .map(|(at, test)| TestDuration { test: test.clone(), mean: mean(at), nr: 9, passed: 8, failed: 1 })
        .collect();
    std::fs::write(data.join("test_durations.capnp"), encode_durations(durations.iter(), Mark::default()))?;
    let entries: Vec<TestEntry> = keys
        .iter()
        .enumerate()
        .map(|(at, key)| {
            let status = if at % 10 == 0 { Status::Failed } else { Status::Passed };
            let mut entry = TestEntry::new(key.clone(), status);
            entry.decisive.duration = mean(at);
            entry
        })
        .collect();
    for branch in 0..BRANCHES {
        for age in 0..COMPLETE {
            let commit = commit(branch, age)?;
            let results = CommitResults {
                commit: commit.clone(),
                message: "a commit".into(),
                entries: entries.clone(),
            };
            std::fs::write(data.join(format!("{commit}.capnp")), encode_commit(&results, Mark::default()))?;
        }
    }
    Ok(())
}
