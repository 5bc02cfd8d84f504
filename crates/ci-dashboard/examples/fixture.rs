//! Writes a directory of realistic results, to view the dashboard without a farm: `cargo run -p ci-dashboard --example
//! fixture -- DIR`, then `ci-dashboard serve --output-dir DIR`.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for developers")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::snapshot::{BatchStatus, BranchStatus, DiskStatus, ExecutorStatus, HostStatus, JobStatus};
use model::{
    CommitId, Drained, Finding, FindingKind, FindingRate, HostReport, Paused, StatusSnapshot, Stopped,
    Verdict,
};
use results::notes::{BuildNote, BuildOutcome};
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id, kernel_id};

mod logs;

use logs::{OPCODE, build_log, crash_report};

const EXT4: [(&str, u64); 14] = [
    ("mkfs_mount", 1_840),
    ("write_fsync", 4_210),
    ("punch_hole", 3_380),
    ("fallocate_modes", 5_020),
    ("rename_storm", 11_730),
    ("xattr_acl", 2_150),
    ("remount_ro", 1_390),
    ("device_full", 9_440),
    ("journal_replay", 14_870),
    ("orphan_cleanup", 6_310),
    ("inline_data", 1_120),
    ("bigalloc", 4_770),
    ("quota", 240),
    ("fsck_clean", 2_660),
];
const XFS: [(&str, u64); 6] = [
    ("mkfs_mount", 2_010),
    ("reflink", 7_930),
    ("log_recovery", 18_120),
    ("growfs", 3_450),
    ("rmap", 5_280),
    ("quota", 2_900),
];
const KUNIT: [(&str, u64); 5] =
    [("list_sort", 80), ("ext4_inode_test", 110), ("ext4_mballoc", 350), ("bitmap", 60), ("lib_sort", 70)];

/// A fault of the tree after a commit: a test and how it fails.
#[derive(Clone, Copy)]
struct Fault {
    test: &'static str,
    reason: &'static str,
    crash: &'static str,
}

const PUNCH: Fault = Fault {
    test: "fs.ext4.basic.punch_hole",
    reason: "kernel BUG at fs/ext4/extents.c:3211!",
    crash: "kernel BUG in ext4_ext_remove_space",
};
const REPLAY: Fault = Fault {
    test: "fs.ext4.basic.journal_replay",
    reason: "fsck found errors after replay: Inode 12, i_blocks is 16, should be 8",
    crash: "",
};
const ORPHAN: Fault = Fault {
    test: "fs.ext4.basic.orphan_cleanup",
    reason: "BUG: KASAN: slab-use-after-free in ext4_orphan_cleanup+0x3c1/0x8f0",
    crash: "KASAN: slab-use-after-free Read in ext4_orphan_cleanup",
};
const XATTR: Fault = Fault {
    test: "fs.ext4.basic.xattr_acl",
    reason: "setfattr: /mnt/f: No space left on device (expected 64 KiB to fit)",
    crash: "",
};
const LOCKDEP: Fault = Fault {
    test: "fs.ext4.basic.rename_storm",
    reason: "WARNING: possible circular locking dependency detected",
    crash: "possible deadlock in ext4_rename2",
};

const AUTHORS: [&str; 4] = [
    "Mira Adler <mira@example.org>",
    "Jan Kovář <jan@example.org>",
    "Anton Berg <anton@example.org>",
    "Wilhelmina Featherstonehaugh-Cholmondeley <wfc@example.org>",
];

enum Change {
    Nothing,
    Breaks(&'static [Fault]),
    Fixes(&'static str),
    DoesNotCompile,
    Untested,
    Running,
}

use Change::{Breaks, DoesNotCompile, Fixes, Nothing, Running, Untested};

/// Newest first.
const EXT4_COMMITS: [(&str, &str, Change); 18] = [
    ("ext4: drop the last caller of ext4_discard_allocated_blocks()", "", Untested),
    ("ext4: document the rules for i_disksize", "", Untested),
    (
        "ext4: keep the journal credits of a truncate in one place",
        "The estimate was made in three places, each a little different.",
        Running,
    ),
    ("ext4: hold the group lock while the buddy is rebuilt", "", Nothing),
    (
        "ext4: do not free the orphan inode before its list entry",
        "ext4_orphan_cleanup() dropped the last reference of the inode and then\ntook it off the in-memory list. Keep the reference until both lists are\nconsistent.\n\nFixes: 1f3c9a07d2be (\"ext4: process orphans in the order of the list\")\nReported-by: ktest-ci",
        Fixes("fs.ext4.basic.orphan_cleanup"),
    ),
    (
        "ext4: process orphans in the order of the list",
        "The on-disk list is last in, first out; walk it once instead of restarting\nafter each inode.",
        Breaks(&[ORPHAN]),
    ),
    ("ext4: convert ext4_rename() to the new dentry helpers", "", Breaks(&[LOCKDEP])),
    ("ext4: mballoc: count preallocations per group", "", Nothing),
    (
        "jbd2: write the commit block with the right checksum seed",
        "The seed was taken before the superblock was updated, so a replay after\na crash skipped the last transaction.",
        Fixes("fs.ext4.basic.journal_replay"),
    ),
    ("ext4: fix the build without CONFIG_EXT4_FS_POSIX_ACL", "", Nothing),
    ("ext4: move the ACL helpers out of line", "", DoesNotCompile),
    ("ext4: allow an xattr value to span two blocks", "", Breaks(&[XATTR])),
    (
        "jbd2: compute the checksum seed once a transaction",
        "Cheaper, and the seed cannot change under us.",
        Breaks(&[REPLAY]),
    ),
    (
        "ext4: take the extent lock for the whole of a punch",
        "ext4_punch_hole() dropped i_data_sem between finding the extent and\nremoving it; a concurrent writeback split the extent in that window and\next4_ext_remove_space() met a tree it did not expect.\n\nHold the lock over both steps. The journal is started before, so the lock\norder stays as it is.\n\nFixes: 8a52e0f41c77 (\"ext4: punch holes extent by extent\")",
        Fixes("fs.ext4.basic.punch_hole"),
    ),
    ("ext4: remove unused argument of ext4_ext_map_blocks()", "", Untested),
    ("ext4: make ext4_es_lookup_extent() return the status", "", Nothing),
    ("ext4: punch holes extent by extent", "Large holes held i_data_sem for seconds.", Breaks(&[PUNCH])),
    ("Linux 6.1.27", "", Nothing),
];

struct Writer<'a> {
    fixture: &'a ResultsFixture,
    now: i64,
}

fn main() -> ExitCode {
    let Some(dir) = std::env::args().nth(1) else {
        eprintln!("usage: fixture DIR");
        return ExitCode::from(2);
    };
    let fixture = ResultsFixture::new(Path::new(&dir));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let writer = Writer { fixture: &fixture, now: i64::try_from(now).unwrap_or(0) };
    let tip = writer.ext4();
    writer.stable();
    writer.xfs();
    writer.nfsd();
    writer.findings();
    writer.snapshot(&tip);
    fixture.finish();
    println!("ci-dashboard serve --output-dir {dir}");
    ExitCode::SUCCESS
}

impl Writer<'_> {
    /// Writes `mira/ext4-testing`. Returns the commit that is being tested.
    fn ext4(&self) -> CommitId {
        let ids: Vec<CommitId> = EXT4_COMMITS.iter().map(|(subject, ..)| commit_id(subject)).collect();
        let listing: Vec<_> = ids
            .iter()
            .zip(&EXT4_COMMITS)
            .map(|(id, (subject, body, _))| (id.clone(), message(subject, body)))
            .collect();
        self.fixture.branch("mira", "ext4-testing", &listing);
        self.authors(&ids);
        let mut faults: Vec<Fault> = Vec::new();
        for (row, (_, _, change)) in EXT4_COMMITS.iter().enumerate().rev() {
            let commit = &ids[row];
            let began = self.now - 1_500 * (i64::try_from(row).unwrap_or(0) + 1);
            match change {
                Breaks(new) => faults.extend(*new),
                Fixes(test) => faults.retain(|fault| fault.test != *test),
                Nothing | DoesNotCompile | Untested | Running => {}
            }
            match change {
                Untested => {}
                DoesNotCompile => self.unbuilt(commit, of_ext4(), "fs/ext4/acl.c:143:2: error: implicit declaration of function 'ext4_set_acl_inline'; did you mean 'ext4_set_acl'?"),
                Running => self.half(commit, began, &faults),
                _ => {
                    self.suite(commit, "fs.ext4.basic", &EXT4, began, &faults);
                    self.suite(commit, "kunit", &KUNIT, began + 100, &faults);
                    self.boot(commit, began);
                }
            }
        }
        // A retry that passed: flaky.
        let flaky =
            TestResult::new(&ids[3], LOCKDEP.test, Verdict::Passed, 11_900).on("farm2", 1, self.now - 4_000);
        self.fixture.test(flaky);
        ids[2].clone()
    }

    /// Writes what broke and what is fixed on `mira/ext4-testing`.
    fn findings(&self) {
        let ids: Vec<CommitId> = EXT4_COMMITS.iter().map(|(subject, ..)| commit_id(subject)).collect();
        let mut findings: Vec<Finding> = Vec::new();
        for (row, (_, _, change)) in EXT4_COMMITS.iter().enumerate().rev() {
            let row = row.min(ids.len() - 2);
            let finding = |kind: FindingKind, tests: &[&str], signature: &str| Finding {
                id: format!("{:016x}", findings.len() + 0xa1),
                kind,
                branch: Some("mira/ext4-testing".parse().expect("a branch")),
                commit: Some(ids[row].clone()),
                tests: tests.iter().map(|test| test.parse().expect("a test")).collect(),
                tests_total: if tests.is_empty() { 15 } else { 1 },
                signature: signature.into(),
                first_bad: Some(ids[row].clone()),
                last_good: Some(ids[row + 1].clone()),
                rate: None,
                at: self.now - 1_500 * (i64::try_from(row).unwrap_or(0) + 1),
            };
            let found = match change {
                Breaks(faults) => {
                    let rate = Some(FindingRate { failed: 5, runs: 5 });
                    let broke = |fault: &Fault| Finding {
                        rate,
                        ..finding(FindingKind::Broke, &[fault.test], fault.reason)
                    };
                    faults.iter().take(1).map(broke).collect()
                }
                Fixes(test) => vec![finding(FindingKind::Fixed, &[test], "")],
                DoesNotCompile => vec![finding(
                    FindingKind::BuildBroke,
                    &[],
                    "fs/ext4/acl.c:143:2: error: implicit declaration of function 'ext4_set_acl_inline'",
                )],
                Nothing | Running | Untested => Vec::new(),
            };
            let fixed = |mut new: Finding| {
                if new.kind == FindingKind::Fixed
                    && let Some(broke) = findings.iter().find(|broke| broke.tests == new.tests)
                {
                    new.signature.clone_from(&broke.signature);
                    new.first_bad.clone_from(&broke.first_bad);
                }
                new
            };
            let found: Vec<Finding> = found.into_iter().map(fixed).collect();
            findings.extend(found);
        }
        self.fixture.findings("mira/ext4-testing", findings, None);
        self.fixture.findings("farm", Vec::new(), None);
    }

    /// Writes authors, and dates that are older from commit to commit.
    fn authors(&self, newest_first: &[CommitId]) {
        let dated = newest_first.iter().zip(AUTHORS.iter().cycle()).zip(1_i64..);
        let details: Vec<_> =
            dated.map(|((id, author), row)| (id, *author, self.now - row * row * 3_600)).collect();
        self.fixture.authors(&details);
    }

    /// Writes `mira/stable-6.1`, on which all tests pass.
    fn stable(&self) {
        let subjects = [
            "Linux 6.1.28",
            "btrfs: fix a leak of the delayed ref head",
            "tcp: reset the window clamp when a socket is reused",
            "x86/retbleed: add the new part to the list",
        ];
        let ids: Vec<CommitId> = subjects.iter().map(|subject| commit_id(subject)).collect();
        let listing: Vec<_> =
            ids.iter().zip(subjects).map(|(id, subject)| (id.clone(), message(subject, ""))).collect();
        self.fixture.branch("mira", "stable-6.1", &listing);
        self.authors(&ids);
        for (row, commit) in ids.iter().enumerate() {
            let began = self.now - 86_400 - 3_000 * i64::try_from(row).unwrap_or(0);
            self.suite(commit, "fs.ext4.basic", &EXT4, began, &[]);
            self.boot(commit, began);
        }
    }

    /// Writes `anton/xfs/for-next`, a branch with a slash in its name.
    fn xfs(&self) {
        let growfs = Fault {
            test: "fs.xfs.basic.growfs",
            reason: "xfs_growfs: XFS_IOC_FSGROWFSDATA: Structure needs cleaning",
            crash: "",
        };
        let subjects = [
            "xfs: reserve enough blocks for the new allocation group",
            "xfs: widen the transaction reservation of rmap updates",
            "xfs: initialize the secondary superblocks lazily",
            "xfs: tidy up the log recovery of intents",
            "Linux 6.1.27",
        ];
        let ids: Vec<CommitId> = subjects.iter().map(|subject| commit_id(subject)).collect();
        let listing: Vec<_> =
            ids.iter().zip(subjects).map(|(id, subject)| (id.clone(), message(subject, ""))).collect();
        self.fixture.branch("anton", "xfs/for-next", &listing);
        self.authors(&ids);
        for (row, commit) in ids.iter().enumerate() {
            let faults: &[Fault] = if (1..=2).contains(&row) { &[growfs] } else { &[] };
            self.suite(
                commit,
                "fs.xfs.basic",
                &XFS,
                self.now - 7_000 - 2_000 * i64::try_from(row).unwrap_or(0),
                faults,
            );
        }
    }

    fn suite(&self, commit: &CommitId, file: &str, tests: &[(&str, u64)], began: i64, faults: &[Fault]) {
        let kernel = kernel_id(commit.as_str());
        let mut at = began;
        let mut whole = boot_log();
        let mut keys = Vec::new();
        for (number, (name, millis)) in tests.iter().enumerate() {
            let key = format!("{file}.{name}");
            // A small variation that is the same in every run of this program.
            let spread = u64::from(commit.as_str().as_bytes()[number % 40] % 16);
            let millis = millis + millis * spread / 100;
            let fault = faults.iter().find(|fault| fault.test == key);
            let verdict = match fault {
                Some(fault) => Verdict::Failed { reason: fault.reason.into() },
                None if *name == "quota" && file == "fs.ext4.basic" => {
                    Verdict::NotRun { reason: "no quotacheck in the image".into() }
                }
                None => Verdict::Passed,
            };
            let log = test_log(name, &verdict, fault, millis);
            whole.push_str(&log);
            let host = if file == "kunit" { "farm2" } else { "farm1" };
            let slot = u32::try_from(number % 4).unwrap_or(0);
            let mut result = TestResult::new(commit, &key, verdict, millis)
                .on(host, slot, at)
                .kernel(kernel.clone())
                .log(log);
            if let Some(fault) = fault.filter(|fault| !fault.crash.is_empty()) {
                result = result.crash(fault.crash);
            }
            self.fixture.test(result);
            keys.push(key);
            at += i64::try_from(millis / 1000).unwrap_or(0) + 1;
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.fixture.full_log(commit, &keys, &whole);
    }

    fn boot(&self, commit: &CommitId, began: i64) {
        let log = format!("{}00002 ========= TEST   boots\n00003 ========= PASSED boots in 1s\n", boot_log());
        let result =
            TestResult::new(commit, "boot.boots", Verdict::Passed, 1_260).on("farm1", 0, began).log(log);
        self.fixture.test(result);
    }

    fn unbuilt(&self, commit: &CommitId, keys: impl IntoIterator<Item = String>, error: &str) {
        for key in keys.into_iter().chain(["boot.boots".into()]) {
            let verdict = Verdict::FailedToRun { reason: model::build_failed_reason(error) };
            self.fixture.test(TestResult::new(commit, &key, verdict, 0).on("farm1", 1, self.now - 3_000));
        }
        self.build(commit, "boot", "", Err(error));
        self.fixture.artifact(commit, &["boot.boots"], "build.log", &build_log(error));
    }

    /// Records the build of a kernel that took 6 minutes.
    fn build(&self, commit: &CommitId, file: &str, flavor: &str, result: Result<(), &str>) {
        let flavor = (!flavor.is_empty()).then(|| ("ktest_flavor".to_owned(), flavor.to_owned()));
        let env: BTreeMap<String, String> = flavor.into_iter().collect();
        self.fixture.build(BuildNote {
            commit: commit.clone(),
            file: file.parse().expect("a test file"),
            env: env.try_into().expect("an environment"),
            kernel: result.is_ok().then(|| kernel_id(commit.as_str())),
            image_hash: None,
            started: self.now - 4_000,
            duration: Duration::from_secs(372),
            host: "farm1".parse().expect("a host name"),
            slot: 1,
            outcome: if result.is_ok() { BuildOutcome::Built } else { BuildOutcome::Failed },
            error: result.err().map(Into::into),
        });
    }

    /// Writes `anton/nfsd-next`: the tip does not build since the commit before it, and the flavor kasan since the one before that.
    fn nfsd(&self) {
        let subjects = [
            "nfsd: use the new helper in the v4 code",
            "sunrpc: move svc_xprt_deferred_close() to the header, so that the transports in modules can use it",
            "sunrpc: check the bounds of the reply page array with a KASAN shadow",
            "nfsd: count the open states per client",
            "Linux 6.1.27",
        ];
        let ids: Vec<CommitId> = subjects.iter().map(|subject| commit_id(subject)).collect();
        let listing: Vec<_> =
            ids.iter().zip(subjects).map(|(id, subject)| (id.clone(), message(subject, ""))).collect();
        self.fixture.branch("anton", "nfsd-next", &listing);
        let (nfs, kasan) = ("fs.nfs.connectathon", "fs.nfs.connectathon@ktest_flavor=kasan");
        let both = || {
            [nfs, kasan]
                .into_iter()
                .flat_map(|file| XFS.iter().map(move |(name, _)| format!("{file}.{name}")))
        };
        for (row, commit) in ids.iter().enumerate() {
            let began = self.now - 5_000 - 2_000 * i64::try_from(row).unwrap_or(0);
            match row {
                0 | 1 => self.unbuilt(commit, both(), "net/sunrpc/svcsock.c:412:9: error: static declaration of 'svc_xprt_deferred_close' follows non-static declaration"),
                2 => {
                    self.suite(commit, nfs, &XFS, began, &[]);
                    let error = "net/sunrpc/xdr.c:1012:2: error: implicit declaration of function 'kasan_check_range'";
                    for (name, _) in XFS {
                        let verdict = Verdict::FailedToRun { reason: model::build_failed_reason(error) };
                        self.fixture.test(TestResult::new(commit, &format!("{kasan}.{name}"), verdict, 0));
                    }
                    let first = format!("{kasan}.{}", XFS[0].0);
                    self.fixture.artifact(commit, &[&first], "build.log", &build_log(error));
                    self.build(commit, "fs/nfs/connectathon", "kasan", Err(error));
                    self.build(commit, "fs/nfs/connectathon", "", Ok(()));
                }
                _ => {
                    self.suite(commit, nfs, &XFS, began, &[]);
                    self.suite(commit, kasan, &XFS, began + 300, &[]);
                }
            }
        }
    }

    /// Writes a commit with running tests.
    fn half(&self, commit: &CommitId, began: i64, faults: &[Fault]) {
        self.suite(commit, "kunit", &KUNIT, began, faults);
        let (done, rest) = EXT4.split_at(5);
        self.suite(commit, "fs.ext4.basic", done, began, faults);
        let (name, _) = rest[0];
        let log = format!(
            "00000 ========= TEST   {name}\n00000 [   41.208113] EXT4-fs (vdb): mounted filesystem with ordered data mode. Quota mode: none.\n00001 setfacl: 500 of 2000 files\n"
        );
        self.fixture.running(commit, &format!("fs.ext4.basic.{name}"), self.now - 4, &log);
    }

    fn snapshot(&self, running: &CommitId) {
        self.fixture.snapshot(&StatusSnapshot {
            written: self.now,
            started: self.now - 93_000,
            pid: 4711,
            version: "0.1.0".into(),
            jobs: self.jobs(running),
            pending_by_group: BTreeMap::from([("mira".parse().expect("a user name"), 1_240), ("anton".parse().expect("a user name"), 318)]),
            fairshare: BTreeMap::from([
                ("mira".parse().expect("a user name"), 25_300.0),
                ("anton".parse().expect("a user name"), 9_850.0),
            ]),
            weights: BTreeMap::from([("mira".parse().expect("a user name"), 1.0), ("anton".parse().expect("a user name"), 0.5)]),
            executors: self.executors(running),
            hosts: self.hosts(),
            disks: vec![
                DiskStatus { name: "results".into(), free: 187 << 30, total: 931 << 30 },
                DiskStatus { name: "cache".into(), free: 61 << 30, total: 465 << 30 },
            ],
            branches: self.branches(),
            drained: vec![Drained { place: "cloud".parse().expect("a host"), stopped: self.stopped("new disk") }],
            paused: vec![Paused {
                branch: "mira/stable-6.1".parse().expect("a branch"),
                stopped: self.stopped("rebase of the stable queue"),
            }],
            problems: vec!["users/anton.toml:14: unknown key \"test_group\"; did you mean \"test_groups\"? The last good configuration stays in force.".into()],
            ..StatusSnapshot::default()
        });
    }

    fn stopped(&self, reason: &str) -> Stopped {
        Stopped { at: self.now - 5_400, by: Some("mira".into()), reason: Some(reason.into()) }
    }

    /// What the hosts of the executors did in the last day.
    fn hosts(&self) -> Vec<HostStatus> {
        let host = |(name, load): (&str, u32)| HostStatus {
            name: name.into(),
            since: self.now - 86_000,
            tests: 8_200 + u64::from(load),
            building_s: 61_000,
            booting_s: 9_800,
            testing_s: 142_000,
            idle_s: 31_000 * u64::from(load % 4),
            load: Some(load),
            load_at: Some(self.now - 40),
            report: Some(HostReport {
                load: Some(load),
                memory_total: Some(125 << 30),
                memory_available: Some((u64::from(load) << 30) / 2),
                cache_total: Some(465 << 30),
                cache_free: Some(61 << 30),
            }),
            reported: Some(self.now - 12),
        };
        [("farm1", 87), ("farm2", 104), ("cloud", 42)].map(host).into()
    }

    fn jobs(&self, running: &CommitId) -> Vec<JobStatus> {
        let job = |id, name: &str, status: &str, executor: &str, ago| JobStatus {
            id,
            name: format!("{} {name}", running.short()),
            status: status.into(),
            executor: Some(executor.into()),
            started: Some(self.now - ago),
            ..JobStatus::default()
        };
        vec![
            job(8120, "kunit.bitmap", "completed", "farm1/1", 95),
            job(8121, "fs.ext4.basic.rename_storm", "completed", "farm1/0", 21),
            job(8122, "fs.ext4.basic.xattr_acl", "running", "farm1/0", 4),
            job(8123, "fs.ext4.basic.remount_ro", "running", "farm1/0", 4),
        ]
    }

    fn executors(&self, running: &CommitId) -> Vec<ExecutorStatus> {
        let busy = |slot: u32, batch: BatchStatus| ExecutorStatus {
            name: format!("farm1/{slot}"),
            host: "farm1".into(),
            state: "busy".into(),
            batch: Some(batch),
            ..ExecutorStatus::default()
        };
        let batch = |test: &str, phase: &str, current: Option<&str>, done, subtests, ago| BatchStatus {
            commit: running.to_string(),
            test: test.into(),
            subtests,
            done,
            current: current.map(Into::into),
            phase: phase.into(),
            started: self.now - ago,
            phase_started: Some(self.now - ago),
            objects: (phase == "building").then_some(1_840),
            objects_total: (phase == "building").then_some(2_900),
            ..BatchStatus::default()
        };
        let idle = |name: &str, state: &str, problem: Option<&str>| ExecutorStatus {
            name: name.into(),
            host: name.split('/').next().unwrap_or("").into(),
            state: state.into(),
            problem: problem.map(Into::into),
            ..ExecutorStatus::default()
        };
        vec![
            busy(0, batch("fs/ext4/basic", "testing", Some("xattr_acl"), 5, 14, 63)),
            busy(1, batch("fs/ext4/bigalloc", "building", None, 0, 22, 372)),
            busy(2, batch("fs/xfs/basic", "booting", None, 0, 6, 3)),
            idle("farm1/3", "idle", None),
            idle("farm2/0", "idle", None),
            idle("cloud/0", "drained", None),
            idle(
                "farm2/1",
                "quarantined",
                Some("no space left on /var/lib/ktest; free 4 GB there, it is tried again every 10 minutes"),
            ),
        ]
    }

    fn branches(&self) -> Vec<BranchStatus> {
        let branch = |user: &str, name: &str, error: Option<&str>, ago| BranchStatus {
            user: user.parse().expect("a user name"),
            branch: name.parse().expect("a branch name"),
            tip: Some(commit_id(name).to_string()),
            fetched: Some(self.now - ago),
            error: error.map(Into::into),
        };
        vec![
            branch("mira", "ext4-testing", None, 40),
            branch("mira", "stable-6.1", None, 40),
            branch("anton", "xfs/for-next", Some("git fetch: could not resolve host git.example.org"), 7_300),
        ]
    }
}

fn message(subject: &str, body: &str) -> String {
    let signed = "Signed-off-by: Mira Example <mira@example.org>\n";
    if body.is_empty() {
        format!("{subject}\n\n{signed}")
    } else {
        format!("{subject}\n\n{body}\n\n{signed}")
    }
}

/// The tests of a commit of `mira/ext4-testing` but for `boot.boots`.
fn of_ext4() -> impl Iterator<Item = String> {
    let ext4 = EXT4.iter().map(|(name, _)| format!("fs.ext4.basic.{name}"));
    ext4.chain(KUNIT.iter().map(|(name, _)| format!("kunit.{name}")))
}

fn boot_log() -> String {
    let mut log = String::new();
    for (at, line) in [
        (0.0, "Linux version 6.1.27-ktest (gcc 12.2.0, GNU ld 2.40) #1 SMP PREEMPT_DYNAMIC"),
        (0.0, "Command line: console=hvc0 root=/dev/vda rw panic=-1"),
        (0.000_101, "x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'"),
        (0.004_8, "BIOS-provided physical RAM map:"),
        (0.218_4, "Memory: 3987120K/4193784K available"),
        (0.731_2, "virtio_blk virtio1: [vda] 4194304 512-byte logical blocks (2.15 GB/2.00 GiB)"),
        (0.812_9, "virtio_blk virtio2: [vdb] 8388608 512-byte logical blocks (4.29 GB/4.00 GiB)"),
        (1.004_1, "EXT4-fs (vda): mounted filesystem with ordered data mode. Quota mode: none."),
        (1.198_7, "Run /init as init process"),
    ] {
        log.push_str(&format!("00001 [{at:12.6}] {line}\n"));
    }
    log
}

fn test_log(name: &str, verdict: &Verdict, fault: Option<&Fault>, millis: u64) -> String {
    let seconds = millis / 1000;
    let mut log = format!("00000 ========= TEST   {name}\n");
    let mut stamp = 41.2;
    let mut print = |at: u64, text: &str| {
        stamp += 0.031;
        log.push_str(&format!("{at:05} [{stamp:12.6}] {text}\n"));
    };
    print(0, "EXT4-fs (vdb): mounted filesystem with ordered data mode. Quota mode: none.");
    for step in 0..12u64 {
        print(step * seconds / 12, &format!("{name}: step {} of 12", step + 1));
    }
    match fault {
        Some(fault) if fault.crash.is_empty() => print(seconds, &format!("error: {}", fault.reason)),
        Some(fault) => crash_report(&[fault.reason, OPCODE], "ext4_ext_remove_space")
            .for_each(|line| print(seconds, &line)),
        None => print(seconds, "EXT4-fs (vdb): unmounting filesystem."),
    }
    let word = match verdict {
        Verdict::Passed => "PASSED",
        Verdict::NotRun { .. } => "NOTRUN",
        _ => "FAILED",
    };
    let reason =
        verdict.reason().filter(|_| word == "NOTRUN").map(|reason| format!(": {reason}")).unwrap_or_default();
    log.push_str(&format!("{seconds:05} ========= {word} {name} in {seconds}s{reason}\n"));
    log
}
