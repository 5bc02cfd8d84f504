//! The results for the tests of the commands.

use model::snapshot::{BatchStatus, BranchStatus, ExecutorStatus};
use model::{CommitId, StatusSnapshot, Verdict};
use tempfile::TempDir;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// The time at which the commands run, in Unix seconds.
pub const NOW: i64 = 1_700_000_100;

/// The commits with results, newest first.
pub fn commits() -> [CommitId; 4] {
    ["four", "three", "two", "one"].map(commit_id)
}

/// A failure.
pub fn failed(reason: &str) -> Verdict {
    Verdict::Failed { reason: reason.into() }
}

/// Four commits, oldest first: all tests pass, one test breaks, the build fails, one test is fixed and one is running.
/// A fifth commit is untested.
pub fn results() -> TempDir {
    // The store syncs each step, which is slow on a disk.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let fixture = ResultsFixture::new(dir.path());
    let [four, three, two, one] = &commits();
    let listing = [
        (commit_id("five"), "ext4: not tested yet".into()),
        (four.clone(), "ext4: fix hole punching\n\nFixes: 123".into()),
        (three.clone(), "ext4: break the build".into()),
        (two.clone(), "ext4: be clever\u{1b}[2J".into()),
        (one.clone(), "ext4: tidy up".into()),
    ];
    fixture.branch("kmo", "next", &listing);
    fixture.branch("kmo", "ext4/testing", &listing[4..]);
    fixture.branch("amy", "next", &listing[3..]);
    fixture.authors(&[
        (four, "Kim <kim@example.org>", NOW - 5_000),
        (two, "Eve\u{1b}[2J \u{202e}<eve@example.org>", NOW - 3 * 86_400),
        (one, "<amy@example.org>", NOW - 90_000),
    ]);
    write_tests(&fixture);
    fixture.snapshot(&snapshot(four));
    fixture.finish();
    dir
}

fn write_tests(fixture: &ResultsFixture) {
    let [four, three, two, one] = &commits();
    let punch = "fs.ext4.basic.punch";
    let mount = "fs.ext4.basic.mount";
    let xattr = "fs.ext4.basic.xattr";
    fixture
        .test(TestResult::new(one, punch, Verdict::Passed, 12_345).log("00001 fine\n"))
        .test(TestResult::new(one, mount, Verdict::Passed, 900))
        .test(TestResult::new(one, xattr, Verdict::NotRun { reason: "no attr tools".into() }, 0))
        .test(
            TestResult::new(two, punch, failed("kernel BUG at fs/ext4/inode.c:123!"), 3_200)
                .on("farm1", 2, 1_700_000_000)
                .crash("BUG in ext4_punch_hole")
                .log("00001 start\n00002 kernel BUG at fs/ext4/inode.c:123!\n00003 ktest: to run it again, in a clone of the kernel repository: ktest run -k . fs/ext4/basic.ktest punch\n"),
        )
        .test(TestResult::new(two, punch, failed("kernel BUG at fs/ext4/inode.c:123!"), 3_100))
        .test(TestResult::new(two, mount, Verdict::Passed, 950));
    fixture.full_log(two, &[punch, mount], "00000 booting\n00001 start\n");
    let reason = || Verdict::FailedToRun {
        reason: model::build_failed_reason("fs/ext4/inode.c:9: error: expected ';'"),
    };
    for key in [punch, mount, xattr] {
        fixture.test(TestResult::new(three, key, reason(), 0));
    }
    fixture.test(TestResult::new(four, punch, Verdict::Passed, 192_000));
    fixture.running(four, mount, 1_700_000_090, "00001 \u{1b}[31mmounting\n");
}

fn snapshot(running: &CommitId) -> StatusSnapshot {
    StatusSnapshot {
        written: NOW - 2,
        pending_by_commit: Some([(running.to_string(), 12)].into()),
        pending_by_group: [("kmo".parse().unwrap(), 12), ("amy".parse().unwrap(), 0)].into(),
        executors: vec![
            ExecutorStatus {
                name: "local/0".into(),
                host: "local".into(),
                state: "busy".into(),
                batch: Some(BatchStatus {
                    commit: running.to_string(),
                    test: "fs/ext4/basic".into(),
                    subtests: 3,
                    done: 1,
                    current: Some("mount".into()),
                    phase: "testing".into(),
                    started: NOW - 61,
                    ..BatchStatus::default()
                }),
                ..ExecutorStatus::default()
            },
            ExecutorStatus { name: "local/1".into(), state: "idle".into(), ..ExecutorStatus::default() },
            ExecutorStatus {
                name: "farm1/0".into(),
                state: "quarantined".into(),
                problem: Some("no answer since 10:00".into()),
                ..ExecutorStatus::default()
            },
        ],
        branches: vec![BranchStatus {
            error: Some("no route to host".into()),
            ..BranchStatus::new(&"amy/next".parse().unwrap())
        }],
        problems: vec!["disk is full".into()],
        ..StatusSnapshot::default()
    }
}
