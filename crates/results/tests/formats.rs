//! The blobs in docs/formats.md: blobs of the ktest system can be read, the schemas of the ktest system can read ours,
//! and malformed blobs are errors or data. Tests that need the capnp tool are skipped with a message if it is not
//! installed.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{CommitId, Conditions, Counts, ResultKey, Status};
use proptest::prelude::*;
use results::codec::{self, Aligned, CommitBlob, DurationsBlob, Mark};
use results::{Attempt, Authorship, BranchEntry, CommitResults, Reader, TestDuration, TestEntry};
use spawn::{Cmd, Limits};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn golden(name: &str) -> Aligned {
    Aligned::from(std::fs::read(here().join(name)).unwrap().as_slice())
}

fn commit() -> CommitId {
    "0123456789abcdef0123456789abcdef01234567".parse().unwrap()
}

#[test]
fn a_commit_of_the_existing_system() {
    let blob = codec::decode_commit(&commit(), golden("commit.bin").bytes()).unwrap();
    assert_eq!(blob.mark, Mark::default());
    assert_eq!(blob.results.message, "bcachefs: Fix a thing\n\nSigned-off-by: Ä\n");
    let entries: Vec<_> = blob
        .results
        .entries
        .iter()
        .map(|entry| {
            (
                entry.key.as_str(),
                entry.decisive.status,
                entry.decisive.duration.as_secs(),
                entry.decisive.started,
            )
        })
        .collect();
    // Sorted, without invalid keys; of two equal keys, the first is kept.
    assert_eq!(
        entries,
        [
            ("boot.boots", Status::InProgress, 1, None),
            ("fs.bcachefs.single_device.crash", Status::Failed, 3, Some(1_700_000_013)),
            ("fs.bcachefs.single_device@debian_trixie.punch", Status::Passed, 12, Some(1_700_000_000)),
            ("fs.xfs.fstests.generic.001", Status::NotRun, 0, None),
            ("fs.xfs.fstests.generic.002", Status::FailedToRun, 0, None),
            ("fs.xfs.fstests.generic.003", Status::Unknown, 7, Some(-1)),
        ]
    );
    let entry = &blob.results.entries[0];
    assert_eq!(
        (entry.decisive.number, entry.attempts(), &entry.decisive.host, &entry.decisive.reason),
        (1, 1, &None, &None)
    );
}

#[test]
fn a_directory_of_the_existing_system_is_read_in_place() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(here().join("commit.bin"), dir.path().join(format!("{}.capnp", commit()))).unwrap();
    std::fs::copy(here().join("branch.bin"), dir.path().join("branch.kmo.bcachefs-testing.capnp")).unwrap();
    std::fs::copy(here().join("durations.bin"), dir.path().join("test_durations.capnp")).unwrap();
    let old = "76543210fedcba9876543210fedcba9876543210".parse().unwrap();
    let directory = dir.path().join("76543210fedcba9876543210fedcba9876543210/fs.ext4.basic.punch");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("status"), "========= FAILED punch in 4s\n").unwrap();
    std::fs::write(directory.join("duration"), "4\n").unwrap();

    let reader = Reader::open(dir.path()).unwrap();
    let branch = reader.branch(&"kmo/bcachefs-testing".parse().unwrap()).unwrap().unwrap();
    let counts =
        Counts { passed: 1, failed: 2, notrun: 3, failed_to_run: 4, inprogress: 5, unknown: 6, flaky: 0 };
    assert_eq!(branch.len(), 2, "entries without a valid commit id are omitted");
    assert_eq!((branch[0].counts, branch[0].duration), (counts, Duration::from_secs(777)));
    let durations = reader.durations().unwrap();
    assert_eq!((durations[0].mean, durations[0].nr), (Duration::from_secs(2), 10));
    let key: ResultKey = "fs.ext4.basic.punch".parse().unwrap();
    let history = reader.history(&"kmo/bcachefs-testing".parse().unwrap(), &key).unwrap().unwrap();
    assert_eq!(history[1].entry.as_ref().unwrap().decisive.status, Status::Failed);
    assert_eq!(reader.entry(&old, &key).unwrap().unwrap().decisive.duration, Duration::from_secs(4));
    let crashed = reader
        .branch_filtered(&"kmo/bcachefs-testing".parse().unwrap(), |key| key.as_str().contains("crash"));
    assert_eq!(crashed.unwrap().unwrap()[0].counts, Counts { failed: 1, ..Counts::default() });
}

/// Results in which every field has a value.
fn ours() -> CommitResults {
    let mut failed = TestEntry::new("fs.ext4.basic.punch".parse().unwrap(), Status::Failed);
    failed.decisive.duration = Duration::from_millis(3_250);
    failed.decisive.started = Some(1_700_000_000);
    failed.decisive.reason = Some("kernel BUG at fs/ext4/inode.c:123!".into());
    failed.decisive.crash = Some("BUG in ext4_punch_hole".into());
    failed.decisive.host = Some("farm1".parse().unwrap());
    failed.decisive.slot = Some(0);
    failed.decisive.kernel = Some("c".repeat(64).parse().unwrap());
    failed.decisive.image_hash = Some("d".repeat(64).into());
    failed.decisive.number = 2;
    failed.decisive.log_bytes = 1234;
    failed.decisive.full_log_bytes = 56_789;
    failed.decisive.conditions = Conditions {
        suite: Some(format!("xfstests {}", "e".repeat(40)).parse().unwrap()),
        experiment: Some("f".repeat(16).parse().unwrap()),
        load: Some(0),
        alone: Some(true),
    };
    failed.decisive.ran_at = Some("1".repeat(40).parse().unwrap());
    let other = |number, status| Attempt {
        number,
        status,
        duration: Duration::from_millis(10 + u64::from(number)),
        started: Some(1_700_000_100),
        reason: (status != Status::Passed).then(|| "no VM".into()),
        crash: None,
        host: Some("farm2".parse().unwrap()),
        slot: None,
        kernel: None,
        image_hash: None,
        log_bytes: 5,
        full_log_bytes: 0,
        conditions: Conditions::default(),
        ran_at: None,
    };
    failed.others = vec![other(1, Status::FailedToRun), other(3, Status::Passed)];
    let mut passed = TestEntry::new("fs.ext4.basic.xattr".parse().unwrap(), Status::Passed);
    passed.decisive.duration = Duration::from_millis(950);
    passed.decisive.host = Some("farm1".parse().unwrap());
    passed.decisive.slot = Some(0);
    CommitResults { commit: commit(), message: "ext4: be clever\n".into(), entries: vec![failed, passed] }
}

/// Blobs of this version must remain readable, so the bytes of one are committed.
#[test]
fn our_committed_blob_is_still_readable() {
    let mark = Mark { epoch: 7, sequence: 42 };
    let bytes = codec::encode_commit(&ours(), mark);
    let path = here().join("ours.bin");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(
        bytes == std::fs::read(&path).unwrap(),
        "the encoding has changed; check that old blobs are still readable"
    );
    let blob = codec::decode_commit(&commit(), golden("ours.bin").bytes()).unwrap();
    assert_eq!(blob, CommitBlob { results: ours(), mark });
}

/// A blob of the last version without the conditions of attempts.
#[test]
fn a_blob_of_an_earlier_version_is_still_readable() {
    let blob = codec::decode_commit(&commit(), golden("ours_v8.bin").bytes()).unwrap();
    let mut expected = ours();
    for entry in &mut expected.entries {
        entry.decisive =
            Attempt { conditions: Conditions::default(), ran_at: None, ..entry.decisive.clone() };
    }
    assert_eq!(blob.results, expected);
}

/// The output of the capnp tool; `None` if it is not installed.
fn capnp(arguments: &[&str], input: Vec<u8>) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let command = Cmd::new("capnp").args(arguments).dir(here()).input(input);
    match runtime.block_on(command.output(Limits::seconds(30))) {
        Ok(output) => {
            assert!(output.exit.success(), "capnp {arguments:?}: {}", output.error_line());
            Some(output.text())
        }
        Err(spawn::SpawnError::NotFound { .. }) => {
            eprintln!("skipped: the capnp tool is not installed (apt-get install capnproto)");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_golden_blobs_match_the_capnp_tool() {
    for (schema, name, stem) in [
        ("test_results.capnp", "TestResults", "commit"),
        ("branch_log.capnp", "BranchLog", "branch"),
        ("durations.capnp", "Durations", "durations"),
    ] {
        let text = std::fs::read(here().join(format!("{stem}.txt"))).unwrap();
        let bytes = std::fs::read(here().join(format!("{stem}.bin"))).unwrap();
        let Some(of_bytes) = capnp(&["decode", schema, name], bytes) else { return };
        let of_text = capnp(&["convert", "text:text", schema, name], text).unwrap();
        assert_eq!(of_bytes, of_text, "{stem}");
    }
}

#[test]
fn existing_readers_read_what_we_write() {
    let bytes = codec::encode_commit(&ours(), Mark { epoch: 7, sequence: 42 });
    let Some(text) = capnp(&["decode", "test_results.capnp", "TestResults"], bytes) else { return };
    insta::assert_snapshot!(text, @r#"
    ( entries = [
        ( name = "fs.ext4.basic.punch",
          duration = 3,
          status = failed,
          starttime = 1700000000 ),
        ( name = "fs.ext4.basic.xattr",
          duration = 0,
          status = passed,
          starttime = 0 ) ],
      message = "ext4: be clever\n",
      commitId = "0123456789abcdef0123456789abcdef01234567" )
    "#);
    let entries = [BranchEntry {
        commit: commit(),
        message: "two".into(),
        authorship: Authorship { author: "Kim <kim@example.org>".into(), date: 1_700_000_000 },
        // Existing readers count flaky tests as failed.
        counts: Counts {
            passed: 1,
            failed: 1,
            notrun: 3,
            failed_to_run: 4,
            inprogress: 5,
            unknown: 6,
            flaky: 1,
        },
        duration: Duration::from_millis(1_999),
    }];
    let text = capnp(&["decode", "branch_log.capnp", "BranchLog"], codec::encode_branch(&entries)).unwrap();
    insta::assert_snapshot!(text, @r#"
    ( entries = [
        ( commitId = "0123456789abcdef0123456789abcdef01234567",
          message = "two",
          passed = 1,
          failed = 2,
          notrun = 3,
          failedToRun = 4,
          inprogress = 5,
          unknown = 6,
          duration = 1 ) ] )
    "#);
    let entry = TestDuration {
        test: "a.b".parse().unwrap(),
        mean: Duration::from_millis(2_500),
        nr: 4,
        passed: 3,
        failed: 1,
    };
    let bytes = codec::encode_durations([entry].iter(), Mark::default());
    let text = capnp(&["decode", "durations.capnp", "Durations"], bytes).unwrap();
    insta::assert_snapshot!(text, @r#"
    ( entries = [
        (test = "a.b", duration = 2, nr = 4, passed = 3, failed = 1) ] )
    "#);
}

#[test]
fn the_generated_code_matches_the_schemas() {
    if capnp(&["--version"], Vec::new()).is_none() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let mut command = capnpc::CompilerCommand::new();
    command.src_prefix(root.join("schema")).output_path(out.path());
    command.default_parent_module(vec!["generated".into()]);
    for name in ["test_results", "branch_log", "durations"] {
        command.file(root.join("schema").join(name).with_extension("capnp"));
    }
    command.run().unwrap();
    for name in ["test_results", "branch_log", "durations"] {
        let file = format!("{name}_capnp.rs");
        let code = |dir: &Path| {
            let text = std::fs::read_to_string(dir.join(&file)).unwrap();
            // The version of the tool does not matter.
            let lines = text.lines().filter(|line| !line.starts_with("// capnp"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let same = code(out.path()) == code(&root.join("src/generated"));
        assert!(same, "{file} is out of date; run: cargo run -p results --example generate");
    }
}

#[test]
fn a_damaged_blob_is_an_error_or_data() {
    let results = ours();
    let bytes = codec::encode_commit(&results, Mark::default());
    for len in 0..bytes.len() {
        let _ = codec::decode_commit(&commit(), Aligned::from(&bytes[..len]).bytes());
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("{}.capnp", commit()));
    let reader = Reader::open(dir.path()).unwrap();
    for at in 0..bytes.len() {
        for flip in [1 << (at % 8), 0xff] {
            let mut flipped = bytes.clone();
            flipped[at] ^= flip;
            let _ = codec::decode_commit(&commit(), Aligned::from(flipped.as_slice()).bytes());
            let _ = codec::decode_branch(Aligned::from(flipped.as_slice()).bytes());
            let _ = codec::decode_durations(Aligned::from(flipped.as_slice()).bytes());
            std::fs::write(&path, &flipped).unwrap();
            let _ = reader.summary(&commit());
            for entry in &results.entries {
                let _ = reader.entry(&commit(), &entry.key);
            }
        }
    }
}

#[test]
fn a_small_blob_cannot_claim_billions_of_entries() {
    // A list pointer to 2^29-1 structs without fields, which need no bytes.
    let words: [u64; 4] = [3 << 32, 1 << 48, 1 | 7 << 32, ((1 << 29) - 1) << 2];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let start = std::time::Instant::now();
    let aligned = Aligned::from(bytes.as_slice());
    assert!(codec::decode_commit(&commit(), aligned.bytes()).is_err());
    assert!(codec::decode_branch(aligned.bytes()).is_err());
    assert!(codec::decode_durations(aligned.bytes()).is_err());
    assert!(start.elapsed() < Duration::from_secs(1));
}

fn status() -> impl Strategy<Value = Status> {
    prop::sample::select(Status::STORED.to_vec())
}

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::of("[ -~äöü]{1,80}")
}

fn entry() -> impl Strategy<Value = TestEntry> {
    let numbers = (0u64..1 << 40, prop::option::of(1i64..1 << 40), any::<u64>(), any::<u64>());
    let place = (prop::option::of("[a-z][a-z0-9.]{0,20}"), prop::option::of(0u32..1000));
    let kernel = (prop::option::of("[0-9a-f]{64}"), text());
    ("[a-c@=,.+-]{0,6}[a-d]", status(), numbers, (text(), text()), place, kernel, 1u32..9).prop_map(
        |(
            key,
            status,
            (millis, started, log, full),
            (reason, crash),
            (host, slot),
            (kernel, image),
            attempt,
        )| {
            let mut entry = TestEntry::new(format!("k{key}").parse().unwrap(), status);
            entry.decisive.duration = Duration::from_millis(millis);
            (entry.decisive.started, entry.decisive.log_bytes, entry.decisive.full_log_bytes) =
                (started, log, full);
            (entry.decisive.reason, entry.decisive.crash, entry.decisive.number) = (reason, crash, attempt);
            (entry.decisive.host, entry.decisive.slot) = (host.and_then(|host| host.parse().ok()), slot);
            entry.decisive.kernel = kernel.map(|kernel| kernel.parse().unwrap());
            entry.decisive.image_hash = image.map(Into::into);
            entry
        },
    )
}

fn results() -> impl Strategy<Value = CommitResults> {
    let entry = (entry(), prop::collection::vec(entry(), 0..3));
    (prop::collection::vec(entry, 0..30), "\\PC{0,60}").prop_map(|(entries, message)| {
        let mut entries: Vec<TestEntry> = entries
            .into_iter()
            .map(|(mut entry, others)| {
                entry.others = others.into_iter().map(|other| other.decisive).collect();
                entry
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        CommitResults { commit: commit(), message, entries }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn commits_round_trip_whole_and_by_peeking(results in results(), epoch: u64, sequence: u64) {
        let mark = Mark { epoch, sequence };
        let bytes = codec::encode_commit(&results, mark);
        prop_assert_eq!(&bytes[..4], &[0; 4], "one segment");
        let blob = codec::decode_commit(&commit(), Aligned::from(bytes.as_slice()).bytes()).unwrap();
        prop_assert_eq!(&blob, &CommitBlob { results: results.clone(), mark });

        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(format!("{}.capnp", commit())), bytes).unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        let summary = reader.summary(&commit()).unwrap().unwrap();
        prop_assert_eq!((summary.counts, summary.duration), (results.counts(), results.duration()));
        for entry in &results.entries {
            let read = reader.entry(&commit(), &entry.key).unwrap();
            prop_assert_eq!(read.as_ref(), Some(entry));
        }
        prop_assert_eq!(reader.entry(&commit(), &"absent".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn listings_and_durations_round_trip(
        rows in prop::collection::vec(("[0-9a-f]{40}", "\\PC{0,40}", any::<[u32; 7]>(), 0u64..1 << 41, "\\PC{0,20}", any::<i64>()), 0..20),
        tests in prop::collection::btree_map("[a-z.]{0,10}[a-z]", (0u64..1 << 41, any::<[u64; 3]>()), 0..20),
    ) {
        let entries: Vec<BranchEntry> = rows
            .into_iter()
            .map(|(commit, message, [passed, failed, notrun, failed_to_run, inprogress, unknown, flaky], millis, author, date)| {
                let authorship = Authorship { author, date };
                let (failed, flaky) = (failed / 2, flaky / 2);
                let counts = Counts { passed, failed, notrun, failed_to_run, inprogress, unknown, flaky };
                BranchEntry { commit: commit.parse().unwrap(), message, authorship, counts, duration: Duration::from_millis(millis) }
            })
            .collect();
        let bytes = codec::encode_branch(&entries);
        prop_assert_eq!(codec::decode_branch(Aligned::from(bytes.as_slice()).bytes()).unwrap(), entries);

        let entries: Vec<TestDuration> = tests
            .into_iter()
            .filter_map(|(test, (millis, [nr, passed, failed]))| {
                Some(TestDuration { test: test.parse().ok()?, mean: Duration::from_millis(millis), nr, passed, failed })
            })
            .collect();
        let mark = Mark { epoch: 1, sequence: 2 };
        let bytes = codec::encode_durations(entries.iter(), mark);
        let blob = codec::decode_durations(Aligned::from(bytes.as_slice()).bytes()).unwrap();
        prop_assert_eq!(blob, DurationsBlob { entries, mark });
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), head in 0usize..4) {
        let mut bytes = bytes;
        // Some inputs start with a valid header.
        if head == 0 && bytes.len() >= 16 {
            let words = u32::try_from(bytes.len() / 8 - 1).unwrap();
            bytes[..4].fill(0);
            bytes[4..8].copy_from_slice(&words.to_le_bytes());
        }
        let aligned = Aligned::from(bytes.as_slice());
        let _ = codec::decode_commit(&commit(), aligned.bytes());
        let _ = codec::decode_branch(aligned.bytes());
        let _ = codec::decode_durations(aligned.bytes());
    }
}

/// A regression test: the sum of such durations overflowed (found by `fuzz/run`).
#[test]
fn huge_durations_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let millis: u64 = 0x0a0b_0c0d_0000;
    let entry = |key: &str| {
        let mut entry = TestEntry::new(key.parse().unwrap(), Status::Passed);
        entry.decisive.duration = Duration::from_millis(millis);
        entry
    };
    let entries = ["a.b", "a.c", "a.d"].map(entry).into();
    let results = CommitResults { commit: commit(), message: "m".into(), entries };
    let mut blob = codec::encode_commit(&results, Mark::default());
    let places = [millis / 1000, millis, millis * 3].map(u64::to_le_bytes);
    let mut changed = 0;
    for at in (0..blob.len()).step_by(8) {
        if places.iter().any(|place| blob[at..].starts_with(place)) {
            blob[at..at + 8].fill(0xff);
            changed += 1;
        }
    }
    assert_eq!(changed, 7);
    let (path, directory) =
        (dir.path().join(format!("{}.capnp", commit())), dir.path().join(commit().as_str()));
    std::fs::write(&path, &blob).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let century = Duration::from_secs(100 * 365 * 86_400);
    let read = reader.commit(&commit()).unwrap().unwrap();
    assert!(read.duration() > century);
    let again = Aligned::from(&*codec::encode_commit(&read, Mark::default()));
    assert_eq!(codec::decode_commit(&commit(), again.bytes()).unwrap().results, read);
    assert!(reader.summary(&commit()).unwrap().unwrap().duration > century);
    // The same for the directory of a commit.
    std::fs::remove_file(path).unwrap();
    for key in ["a.b", "a.c"] {
        std::fs::create_dir_all(directory.join(key)).unwrap();
        std::fs::write(directory.join(key).join("status"), "========= PASSED x in 1s\n").unwrap();
        std::fs::write(directory.join(key).join("duration"), format!("{}\n", u64::MAX)).unwrap();
    }
    assert!(reader.summary(&commit()).unwrap().unwrap().duration > century);
}
