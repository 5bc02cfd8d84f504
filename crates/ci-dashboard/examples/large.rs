//! Writes a large results directory for measurements: `--example large -- DIR COMMITS TESTS [CONFIGURATIONS [BRANCHES
//! [SLOTS]]]`. The branch `u/big` has the commits; each of its tests runs in each configuration, and fails in stretches, about one
//! in 300 at a time; a third of the failures are kernel crashes. A third of the tests fail at its commit number 5, the flavor kasan does not
//! build at number 10, and the tip has tests with the logs of their crashes. Of the other branches, which are small, `u/flaky`
//! has a flaky test, the tip of `u/unbuilt` does not build, and `u/rebased` was force-pushed. SLOTS is the number of slots in the status
//! snapshot, eight on a host. Prints the name and the address of each page, which `e2e/browser/pages.mjs` reads.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for developers")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use model::snapshot::{BatchStatus, BranchStatus, ExecutorStatus, HostStatus};
use model::{
    BranchRef, CommitId, HostReport, ResultKey, Status, StatusSnapshot, Verdict, build_failed_reason,
};
use results::notes::{BuildNote, BuildOutcome};
use results::{CommitResults, TestEntry};
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id, kernel_id, write_blob};

mod logs;
#[path = "logs/oops.rs"]
mod oops;

use oops::Oops;

/// The size of what is written.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Commits of the large branch.
    pub commits: usize,
    /// Subtests of each of its commits, in each configuration.
    pub tests: usize,
    /// Configurations.
    pub configurations: usize,
    /// Branches, with the large one.
    pub branches: usize,
    /// Slots in the status snapshot; without any, there is none.
    pub slots: usize,
}

/// The configurations in result keys. Further ones are flavors.
const CONFIGURATIONS: [&str; 6] = [
    "",
    "@ktest_arch=aarch64",
    "@ktest_flavor=kasan",
    "@debian_trixie",
    "@ktest_xfstests_variant=1k",
    "@ktest_arch=aarch64,ktest_flavor=kasan",
];
/// Commits of each small branch.
const SMALL_COMMITS: usize = 20;
/// Subtests of each commit of a small branch.
const SMALL_TESTS: usize = 200;
/// The time of the newest commit of each branch.
const NEWEST: i64 = 1_700_000_000;
const SLOTS_PER_HOST: usize = 8;
/// The commit of the large branch at which a third of the tests fail.
const MANY_FAILURES: usize = 5;
/// The commit of the large branch at which the flavor kasan does not build.
const UNBUILT: usize = 10;
const BUILD_ERROR: &str =
    "fs/ext4/acl.c:143:2: error: implicit declaration of function 'ext4_set_acl_inline'";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next();
    let numbers: Option<Vec<usize>> = arguments.map(|number| number.parse().ok()).collect();
    let (Some(dir), Some([commits, tests, more @ ..])) = (dir, numbers.as_deref()) else {
        eprintln!("usage: large DIR COMMITS TESTS [CONFIGURATIONS [BRANCHES [SLOTS]]]");
        return ExitCode::from(2);
    };
    let number = |at: usize, default: usize| more.get(at).copied().unwrap_or(default);
    let (configurations, branches, slots) = (number(0, 1), number(1, 1), number(2, 0));
    let size = Size { commits: *commits, tests: *tests, configurations, branches, slots };
    match fill_all(Path::new(&dir), size) {
        Ok(()) => {
            for (name, address) in pages(size) {
                println!("{name} {address}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{dir}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Each kind of page of the results, by name.
pub fn pages(size: Size) -> Vec<(&'static str, String)> {
    const BIG: &str = "/ci?user=u&branch=big";
    let commit = |row: usize| format!("{BIG}&commit={}", commit_id(&format!("large {row}")));
    let id = |row: usize| commit_id(&format!("large {row}"));
    let subtest = "fs.ext4.suite00.generic.012";
    let mut pages = vec![
        ("home", "/ci".to_owned()),
        ("user", "/ci?user=u".into()),
        ("status", "/ci?status".into()),
        ("branch", BIG.into()),
        ("branch, older", format!("{BIG}&from={}", id(size.commits / 2))),
        ("branch, filtered", format!("{BIG}&test=suite00")),
        ("crashes", format!("{BIG}&crashes")),
        ("grid", format!("{BIG}&grid")),
        ("history", format!("{BIG}&history={subtest}")),
        ("commit", commit(7)),
        ("commit, tip", commit(0)),
        ("commit, passed", format!("{}&status=passed", commit(7))),
        ("commit, 1/3 failed", commit(MANY_FAILURES)),
        ("commit, 1/3 failed, failed", format!("{}&status=failed", commit(MANY_FAILURES))),
        ("matrix", format!("/c/{}/matrix", id(7))),
        ("matrix of a file", format!("/c/{}/matrix?file=fs.ext4.suite00.generic", id(7))),
        ("compare", format!("/ci?compare={}..{}", id(size.commits - 1), id(7))),
        ("compare, 1/3 failed", format!("/ci?compare={}..{}", id(MANY_FAILURES + 1), id(MANY_FAILURES))),
        ("test", format!("/c/{}/{subtest}/", id(7))),
        ("test, log", format!("/c/{}/fs.ext4.crashes.00/", id(0))),
        ("coverage", format!("/c/{}/coverage", id(0))),
        ("coverage of a directory", format!("/c/{}/coverage?path=fs/part01", id(0))),
        ("coverage of a file", format!("/c/{}/coverage?path=fs/part01/file051.c", id(0))),
        ("range-diff", "/ci?user=u&branch=rebased&range-diff".into()),
        ("error", format!("{BIG}&commit=none")),
    ];
    if size.configurations > 2 {
        pages.push(("branch, configuration", format!("{BIG}&config=kasan")));
        pages.push(("commit, configuration", format!("{}&config=kasan", commit(7))));
        pages.push(("commit, unbuilt", commit(UNBUILT)));
        pages.push(("grid, configuration", format!("{BIG}&grid&config=kasan")));
    }
    if size.branches > 2 {
        pages.push(("flaky", "/ci?user=u&branch=flaky&flaky".into()));
        pages.push(("unbuilt", "/ci?user=u&branch=unbuilt".into()));
        pages.push(("build", format!("/c/{}/build", commit_id("unbuilt 0"))));
    }
    pages
}

/// Writes the results of the large branch in one configuration.
pub fn fill(dir: &Path, commits: usize, tests: usize) -> std::io::Result<()> {
    fill_all(dir, Size { commits, tests, configurations: 1, branches: 1, slots: 0 })
}

/// Writes the results.
pub fn fill_all(dir: &Path, size: Size) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let large = keys(size.tests, size.configurations);
    let small = keys(SMALL_TESTS, size.configurations.min(2));
    let crashes = Oops::all();
    let mut listings = Vec::new();
    for number in 0..size.branches.max(1) {
        let name = match number {
            0 => "big".to_owned(),
            1 => "flaky".into(),
            2 => "unbuilt".into(),
            _ => format!("topic/{number:02}"),
        };
        let (keys, commits) = if number == 0 { (&large, size.commits) } else { (&small, SMALL_COMMITS) };
        let mut listing = Vec::new();
        for row in 0..commits {
            // The names of the commits of the large branch are those that benchmarks ask for.
            let word = if number == 0 { "large" } else { name.as_str() };
            let commit = commit_id(&format!("{word} {row}"));
            let message =
                format!("ext4: change number {row} of the {word} branch\n\nIt changes one thing.\n");
            listing.push((commit.clone(), message.clone()));
            let entries = keys.iter().map(|named| entry((&name, row), named, &commit, &crashes)).collect();
            write_blob(dir, &CommitResults { commit, message, entries });
        }
        listings.push((name, listing));
    }
    let fixture = ResultsFixture::new(dir);
    // A directory per test of the newest commits would be millions of files.
    fixture.without_directories();
    for (name, listing) in &listings {
        fixture.branch("u", name, listing);
        let authors: Vec<_> = (0i64..)
            .zip(listing)
            .map(|(row, (commit, _))| (commit, "Mira Example", NEWEST - 600 * row - 60))
            .collect();
        fixture.authors(&authors);
    }
    logs_of_tips(&fixture, &listings, &crashes);
    testkit::pushed(&fixture, "u", "rebased", now() - 3_600);
    if size.slots > 0 {
        fixture.snapshot(&snapshot(&listings, size.slots));
    }
    fixture.finish();
    Ok(())
}

/// A result key, and the number that its verdicts depend on.
struct Named {
    key: ResultKey,
    number: usize,
    is_default: bool,
}

/// The keys of this many subtests in each configuration, sorted.
fn keys(tests: usize, configurations: usize) -> Vec<Named> {
    let mut keys = Vec::new();
    for number in 0..configurations.max(1) {
        let further = format!("@ktest_flavor=flavor{number:02}");
        let configuration = CONFIGURATIONS.get(number).copied().unwrap_or(&further);
        for test in 0..tests {
            let (file, subtest) = (test / 100, test % 100);
            let key = format!("fs.ext4.suite{file:02}{configuration}.generic.{subtest:03}");
            // A third of the tests fail in all configurations, the others in each on its own.
            let own = if test.is_multiple_of(3) { 0 } else { number * 7919 };
            let key = key.parse().expect("a result key");
            keys.push(Named { key, number: test + own, is_default: number == 0 });
        }
    }
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    keys
}

fn entry((branch, row): (&str, usize), named: &Named, commit: &CommitId, crashes: &[Oops]) -> TestEntry {
    // Each test has its own period; most never reach their failing commits.
    let noise = named.number.wrapping_mul(2_654_435_761) >> 7;
    let is_flaky = branch == "flaky" && named.number == 7 && named.is_default;
    let is_kasan = named.key.as_str().contains("ktest_flavor=kasan");
    let failing = if is_flaky {
        row.is_multiple_of(2)
    } else {
        (noise.is_multiple_of(29) && (row + noise % 400) % 400 < 40)
            || (branch == "big" && row == MANY_FAILURES && named.number.is_multiple_of(3))
    };
    let is_unbuilt = (branch == "unbuilt" && row == 0) || (branch == "big" && row == UNBUILT && is_kasan);
    let (status, reason) = if is_unbuilt {
        (Status::FailedToRun, Some(build_failed_reason(BUILD_ERROR)))
    } else if failing {
        (Status::Failed, Some(reason(noise)))
    } else if noise.is_multiple_of(41) {
        (Status::NotRun, Some("no quotacheck in the image".into()))
    } else {
        (Status::Passed, None)
    };
    let mut entry = TestEntry::new(named.key.clone(), status);
    entry.decisive.duration = Duration::from_millis(900 + (noise % 5000) as u64);
    entry.decisive.started = Some(NEWEST - 600 * i64::try_from(row).unwrap_or(0));
    if status == Status::Failed && noise.is_multiple_of(3) {
        entry.decisive.crash = Some(crashes[noise / 3 % crashes.len()].title.clone());
    }
    entry.decisive.reason = reason;
    entry.decisive.host = "farm1".parse().ok();
    entry.decisive.slot = Some(u32::try_from(named.number % 16).unwrap_or(0));
    entry.decisive.kernel = (!is_unbuilt).then(|| kernel_id(commit.short()));
    entry.decisive.log_bytes = 4000;
    if is_flaky && failing {
        // The retry passed with the same kernel.
        let mut retry = entry.decisive.clone();
        (retry.number, retry.status, retry.reason) = (2, Status::Passed, None);
        entry.others.push(retry);
    }
    entry
}

/// Two in three failures share their reason with many others.
fn reason(noise: usize) -> String {
    match noise / 7 % 6 {
        0 | 1 => "fsck found errors: Inode 12, i_blocks is 16, should be 8".into(),
        2 => "output mismatch (see generic.out.bad)".into(),
        3 => "mount: /mnt/scratch: wrong fs type, bad option, bad superblock on /dev/vdc".into(),
        _ => format!("checksum of block {noise} is 0x{:08x}, expected 0x{:08x}", noise * 7, noise * 11),
    }
}

/// The crashed tests of the tip of the large branch, and the log of the build of the branch that does not build.
fn logs_of_tips(fixture: &ResultsFixture, listings: &[(String, Vec<(CommitId, String)>)], crashes: &[Oops]) {
    let tip = |branch: &str| {
        let (_, listing) = listings.iter().find(|(name, _)| name == branch)?;
        listing.first().map(|(commit, _)| commit)
    };
    if let Some(tip) = tip("big") {
        for (number, Oops { title, log }) in crashes.iter().enumerate().step_by(7) {
            let verdict = Verdict::Failed { reason: title.clone() };
            let result = TestResult::new(tip, &format!("fs.ext4.crashes.{number:02}"), verdict, 41_000);
            fixture.test(result.on("farm1", 3, NEWEST).kernel(kernel_id(tip.short())).crash(title).log(log));
        }
        fixture.artifact(tip, &["fs.ext4.crashes.00"], "coverage.info", &coverage());
    }
    if let Some(tip) = tip("unbuilt") {
        let key = "fs.ext4.suite00.generic.000";
        fixture.artifact(tip, &[key], "build.log", &logs::build_log(BUILD_ERROR));
        fixture.build(BuildNote {
            commit: tip.clone(),
            file: "fs/ext4/suite00".parse().expect("a test file"),
            env: Default::default(),
            kernel: None,
            image_hash: None,
            started: NEWEST - 400,
            duration: Duration::from_secs(372),
            host: "farm1".parse().expect("a host name"),
            slot: 1,
            outcome: BuildOutcome::Failed,
            error: Some(BUILD_ERROR.into()),
        });
        // A build becomes durable with the next verdict.
        fixture.test(TestResult::new(
            tip,
            "fs.ext4.suite00.mkfs",
            Verdict::FailedToRun { reason: build_failed_reason(BUILD_ERROR) },
            0,
        ));
    }
}

/// The coverage of 3,000 source files in 60 directories.
fn coverage() -> String {
    let mut text = String::from("TN:\n");
    for file in 0..3_000u32 {
        text.push_str(&format!("SF:fs/part{:02}/file{file:03}.c\n", file / 50));
        for function in 0..40u32 {
            let (line, calls) = (10 + function * 20, (file + function) % 3);
            text.push_str(&format!(
                "FN:{line},function_{file}_{function}\nFNDA:{calls},function_{file}_{function}\n"
            ));
            text.extend((line..line + 12).map(|line| format!("DA:{line},{calls}\n")));
        }
        text.push_str("end_of_record\n");
    }
    text
}

fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// A busy farm.
fn snapshot(listings: &[(String, Vec<(CommitId, String)>)], slots: usize) -> StatusSnapshot {
    let now = now();
    let tip =
        |number: usize| listings[number % listings.len()].1.first().map(|(commit, _)| commit.to_string());
    let branches = listings.iter().enumerate().map(|(number, (name, _))| {
        let at: BranchRef = format!("u/{name}").parse().expect("a branch");
        BranchStatus { tip: tip(number), fetched: Some(now - 40), ..BranchStatus::new(&at) }
    });
    let pending = (0..listings.len()).filter_map(|number| Some((tip(number)?, 100 + 7 * number as u64)));
    StatusSnapshot {
        written: now,
        started: now - 3 * 86_400,
        pid: 4711,
        version: model::build::version().into(),
        pending_by_group: [("u".parse().expect("a user"), 100 * listings.len() as u64)].into(),
        pending_by_commit: Some(pending.collect()),
        fairshare: [("u".parse().expect("a user"), 25_300.0)].into(),
        weights: [("u".parse().expect("a user"), 1.0)].into(),
        executors: (0..slots).map(|slot| executor(slot, tip(slot).unwrap_or_default(), now)).collect(),
        hosts: (0..slots.div_ceil(SLOTS_PER_HOST)).map(|host| host_status(host, now)).collect(),
        branches: branches.collect(),
        ..StatusSnapshot::default()
    }
}

/// What a host did in the last day.
fn host_status(host: usize, now: i64) -> HostStatus {
    HostStatus {
        name: format!("farm{host:02}"),
        since: now - 86_000,
        tests: 90_000,
        building_s: 61_000,
        booting_s: 9_800,
        testing_s: 142_000,
        idle_s: 31_000,
        load: Some(87),
        load_at: Some(now - 40),
        report: Some(HostReport {
            load: Some(87),
            memory_total: Some(125 << 30),
            memory_available: Some(61 << 30),
            cache_total: Some(931 << 30),
            cache_free: Some(187 << 30),
        }),
        reported: Some(now - 9),
    }
}

fn executor(slot: usize, commit: String, now: i64) -> ExecutorStatus {
    let host = format!("farm{:02}", slot / SLOTS_PER_HOST);
    let name = format!("{host}/{}", slot % SLOTS_PER_HOST);
    let idle = |state: &str, problem: Option<&str>| ExecutorStatus {
        name: name.clone(),
        host: host.clone(),
        state: state.into(),
        problem: problem.map(Into::into),
        ..ExecutorStatus::default()
    };
    let batch = match slot % 16 {
        // One host of eight has no slot that works.
        _ if slot / SLOTS_PER_HOST % 8 == 5 => {
            return idle("quarantined", Some("no space left on /var/lib/ktest; free 4 GB there"));
        }
        3 => return idle("idle", None),
        11 => return idle("backing off", Some("ssh: connection timed out")),
        7 => BatchStatus {
            phase: "building".into(),
            objects: Some(1_840),
            objects_total: Some(2_900),
            ..BatchStatus::default()
        },
        12 => BatchStatus { phase: "booting".into(), ..BatchStatus::default() },
        _ => BatchStatus {
            phase: "testing".into(),
            current: Some(format!("generic/{slot:03}")),
            done: u32::try_from(slot % 90).unwrap_or(0),
            ..BatchStatus::default()
        },
    };
    let started = now - 10 * i64::try_from(slot).unwrap_or(0) - 30;
    let test = format!("fs/ext4/suite{:02}", slot % 50);
    let batch =
        BatchStatus { commit, test, subtests: 100, started, phase_started: Some(started + 20), ..batch };
    ExecutorStatus { state: "busy".into(), batch: Some(batch), ..idle("", None) }
}
