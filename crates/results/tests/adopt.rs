//! A results directory of the ktest system is used in place: a writer opens it and adds results, and all old results
//! keep their paths. The blobs are those of `golden/`, made with the capnp tool.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use model::{CommitId, ResultKey, Status, Verdict};
use results::{LogKind, Reader, VerdictRecord, Writer};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const DIRECTORY_ONLY: &str = "76543210fedcba9876543210fedcba9876543210";
const PUNCH: &str = "fs.bcachefs.single_device@debian_trixie.punch";

fn brotli(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = brotli::CompressorWriter::new(&mut bytes, 4096, 9, 22);
    encoder.write_all(text.as_bytes()).unwrap();
    drop(encoder);
    bytes
}

/// Creates the layout in formats.md: blobs, a directory per test, and a log that is a hard link to the log of another
/// test of the VM.
fn create_results(dir: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (from, to) in [
        ("commit.bin", format!("{COMMIT}.capnp")),
        ("branch.bin", "branch.kmo.bcachefs-testing.capnp".into()),
        ("durations.bin", "test_durations.capnp".into()),
    ] {
        std::fs::copy(golden.join(from), dir.join(to)).unwrap();
    }
    let tests = [
        (COMMIT, PUNCH, "========= PASSED punch in 12s\n", "12\n"),
        (COMMIT, "fs.bcachefs.single_device.crash", "TEST FAILED\n", "3\n"),
        (COMMIT, "boot.boots", "IN PROGRESS\n", ""),
        (DIRECTORY_ONLY, "fs.ext4.basic.punch", "========= FAILED punch in 4s\n", "4\n"),
        (DIRECTORY_ONLY, "fs.ext4.basic.mount", "========= NOT STARTED\n", ""),
    ];
    for (commit, key, status, duration) in tests {
        let directory = dir.join(commit).join(key);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("status"), status).unwrap();
        std::fs::write(directory.join("duration"), duration).unwrap();
        std::fs::write(directory.join("log.br"), brotli(&format!("00001 {key}\n{status}"))).unwrap();
    }
    let punch = dir.join(COMMIT).join(PUNCH);
    std::fs::write(punch.join("full_log.br"), brotli("00000 the whole machine\n")).unwrap();
    let link = dir.join(COMMIT).join("fs.bcachefs.single_device.crash/full_log.br");
    symlink(format!("../{PUNCH}/full_log.br"), link).unwrap();
    std::fs::create_dir(dir.join("ci-daemon-logs")).unwrap();
    std::fs::write(dir.join("ci-daemon-logs/farm1.0"), "theirs\n").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_adopted_in_place() {
    let dir = tempfile::tempdir().unwrap();
    create_results(dir.path());
    let (commit, old): (CommitId, CommitId) = (COMMIT.parse().unwrap(), DIRECTORY_ONLY.parse().unwrap());

    let writer = Writer::open(dir.path()).unwrap();
    // A test that was running when the ktest system stopped is no longer in progress.
    assert_eq!(writer.clear_stale_in_progress().await.unwrap(), 1);
    // Only tests without a verdict are planned.
    for (commit, name, judged) in [
        (&commit, PUNCH, true),
        (&commit, "fs.bcachefs.single_device.crash", true),
        (&commit, "boot.boots", false),
        (&commit, "fs.xfs.fstests.generic.003", false),
        (&old, "fs.ext4.basic.punch", true),
    ] {
        assert_eq!(writer.has_verdict(commit, &key(name)).unwrap(), judged, "{name}");
    }
    assert_eq!(writer.duration(&key("boot.boots")).unwrap().nr, 10);
    for (commit, name, millis) in [(&commit, "boot.boots", 1_500), (&old, "fs.ext4.basic.xattr", 700)] {
        let took = Duration::from_millis(millis);
        let record = VerdictRecord::new(commit.clone(), key(name), Verdict::Passed, took);
        assert!(writer.record(record).await.unwrap().decisive);
    }
    let listing = vec![(commit.clone(), "two\n".into()), (old.clone(), "one\n".into())];
    writer.set_branch(&"kmo/bcachefs-testing".parse().unwrap(), listing).await.unwrap();
    writer.flush().await.unwrap();
    let reader = writer.reader();
    writer.close().await.unwrap();

    check_results(&reader, &commit, &old);
    check_listing(&reader);
    check_logs(&reader, &commit, &old);
    assert_eq!(std::fs::read_to_string(dir.path().join("ci-daemon-logs/farm1.0")).unwrap(), "theirs\n");
}

fn key(name: &str) -> ResultKey {
    name.parse().unwrap()
}

/// The results of the blob with the new ones, and those of a commit that had only a directory.
fn check_results(reader: &Reader, commit: &CommitId, old: &CommitId) {
    let results = reader.commit(commit).unwrap().unwrap();
    assert_eq!(results.message, "bcachefs: Fix a thing\n\nSigned-off-by: Ä\n");
    let statuses: Vec<_> =
        results.entries.iter().map(|entry| (entry.key.as_str(), entry.decisive.status)).collect();
    assert_eq!(
        statuses,
        [
            ("boot.boots", Status::Passed),
            ("fs.bcachefs.single_device.crash", Status::Failed),
            (PUNCH, Status::Passed),
            ("fs.xfs.fstests.generic.001", Status::NotRun),
            ("fs.xfs.fstests.generic.002", Status::FailedToRun),
            ("fs.xfs.fstests.generic.003", Status::Unknown),
        ]
    );
    assert_eq!(results.get(&key(PUNCH)).unwrap().decisive.started, Some(1_700_000_000));
    // A commit that had only a directory now also has a blob, with the results of the directory.
    let results = reader.commit(old).unwrap().unwrap();
    assert!(reader.output_dir().join(format!("{old}.capnp")).is_file());
    assert_eq!(results.get(&key("fs.ext4.basic.punch")).unwrap().decisive.duration, Duration::from_secs(4));
    assert_eq!(results.get(&key("fs.ext4.basic.xattr")).unwrap().decisive.status, Status::Passed);
}

fn check_listing(reader: &Reader) {
    let listing = reader.branch(&"kmo/bcachefs-testing".parse().unwrap()).unwrap().unwrap();
    assert_eq!((listing[0].counts.passed, listing[0].counts.failed, listing[0].counts.inprogress), (2, 1, 0));
    assert_eq!((listing[1].counts.passed, listing[1].counts.failed), (1, 1));
    let durations = reader.durations().unwrap();
    let of = |name: &str| durations.iter().find(|of| of.test == key(name)).unwrap();
    assert_eq!((of("boot.boots").nr, of("fs.ext4.basic.punch").nr, of("fs.ext4.basic.xattr").nr), (11, 2, 1));
}

fn check_logs(reader: &Reader, commit: &CommitId, old: &CommitId) {
    let text = |commit: &CommitId, name: &str, kind| {
        let log = reader.log(commit, &key(name), kind).unwrap().unwrap();
        let mut text = String::new();
        log.open().unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert!(text(commit, PUNCH, LogKind::Subtest).ends_with("PASSED punch in 12s\n"));
    assert_eq!(text(commit, "fs.bcachefs.single_device.crash", LogKind::Full), "00000 the whole machine\n");
    assert!(text(old, "fs.ext4.basic.punch", LogKind::Subtest).starts_with("00001 fs.ext4.basic.punch\n"));
}
