//! Packs: groups share syncs, rests of interrupted writes are skipped, and damaged or hostile packs and rows are errors.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::{CommitId, ResultKey, Verdict};
use results::disk::{FaultInjector, Step, StepResult};
use results::retention::Policy;
use results::{Error, LogKind, PlainFile, Reader, Tuning, VerdictRecord, Writer};
use rusqlite::Connection;

fn commit() -> CommitId {
    "a".repeat(40).parse().unwrap()
}

fn key(number: usize) -> ResultKey {
    format!("fs.ext4.t{number}").parse().unwrap()
}

fn text(number: usize) -> String {
    format!("00001 start\n00002 log of test {number}\n")
}

fn pack(dir: &Path, number: u32) -> PathBuf {
    dir.join(".packs").join(format!("{}.{number}.pack", commit()))
}

async fn publish(writer: &Writer, number: usize) {
    let key = key(number);
    let record = VerdictRecord::new(commit(), key.clone(), Verdict::Passed, Duration::from_millis(1));
    let attempt = writer.record(record).await.unwrap().attempt;
    let mut plain = tempfile::NamedTempFile::new().unwrap();
    plain.write_all(text(number).as_bytes()).unwrap();
    let plain = PlainFile::open(plain.path()).unwrap();
    writer.publish_log(&commit(), &key, attempt, LogKind::Subtest, plain).await.unwrap();
}

async fn fill(dir: &Path, numbers: std::ops::Range<usize>) {
    let writer = Writer::open(dir).unwrap();
    for number in numbers {
        publish(&writer, number).await;
    }
    writer.close().await.unwrap();
}

fn read(dir: &Path, number: usize) -> results::Result<String> {
    let log = Reader::open(dir).unwrap().log(&commit(), &key(number), LogKind::Subtest)?;
    Ok(String::from_utf8_lossy(&log.unwrap().read(1 << 20)?.0).into_owned())
}

fn damaged(result: results::Result<String>) -> String {
    match result {
        Err(error @ Error::Damaged { .. }) => error.to_string(),
        other => unreachable!("{other:?}"),
    }
}

/// Counts what is synced and created.
#[derive(Debug, Default)]
struct Count {
    syncs: AtomicUsize,
    files: AtomicUsize,
}

impl FaultInjector for Count {
    fn result(&self, step: Step<'_>) -> StepResult {
        match step {
            Step::Sync(path) if path.extension().is_some_and(|extension| extension == "pack") => {
                self.syncs.fetch_add(1, Ordering::Relaxed);
            }
            Step::Create(path) if path.extension().is_some_and(|extension| extension == "pack") => {
                self.files.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        StepResult::Proceed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_of_many_tests_share_a_pack_and_its_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let count = Arc::new(Count::default());
    let tuning = Tuning { faults: Some(Arc::clone(&count) as Arc<dyn FaultInjector>), ..Tuning::default() };
    let writer = Writer::open_with(dir.path(), tuning).unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for number in (task..640).step_by(64) {
                    publish(&writer, number).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (syncs, files) = (count.syncs.load(Ordering::Relaxed), count.files.load(Ordering::Relaxed));
    assert!(syncs <= 320 && files == 1, "{syncs} syncs, {files} packs for 640 logs of 64 tasks");
    for number in 0..640 {
        assert_eq!(read(dir.path(), number).unwrap(), text(number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_of_an_interrupted_write_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0..3).await;
    let mut file = std::fs::OpenOptions::new().append(true).open(pack(dir.path(), 1)).unwrap();
    file.write_all(&[0x5a; 777]).unwrap();
    fill(dir.path(), 3..6).await;
    assert!(!pack(dir.path(), 2).exists());
    // A full pack gets nothing more.
    file.set_len(64 << 20).unwrap();
    fill(dir.path(), 6..7).await;
    assert!(pack(dir.path(), 2).metadata().unwrap().len() < 1000);
    for number in 0..7 {
        assert_eq!(read(dir.path(), number).unwrap(), text(number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_and_damaged_packs_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0..3).await;
    let (path, good) = (pack(dir.path(), 1), std::fs::read(pack(dir.path(), 1)).unwrap());
    for len in 0..good.len() {
        std::fs::write(&path, &good[..len]).unwrap();
        assert!(damaged(read(dir.path(), 2)).contains(".pack: damaged"));
    }
    for at in (0..good.len()).step_by(7) {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            // Brotli has no checksum: an error, or another text of at most the limit.
            let _ = (0..3).map(|number| read(dir.path(), number)).filter(Result::is_ok).count();
        }
    }
    std::fs::write(&path, &good).unwrap();
    // Nothing that is not a file of the results is opened.
    let aside = dir.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    assert!(damaged(read(dir.path(), 0)).contains("missing"));
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(outside.path(), &good).unwrap();
    std::os::unix::fs::symlink(outside.path(), &path).unwrap();
    assert!(damaged(read(dir.path(), 0)).contains("is not a path below the directory"));
    std::fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(damaged(read(dir.path(), 0)).contains("is a FIFO"));
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(read(dir.path(), 0).unwrap(), text(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_name_other_places_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0..2).await;
    let database = dir.path().join("results.db");
    let good = std::fs::read(&database).unwrap();
    for change in [
        "offset = 100000",
        "length = 9223372036854775807",
        "offset = 9223372036854775807, length = 9223372036854775807",
        "offset = -1",
        "length = -1",
        "pack = 2",
        "offset = offset + 1",
        "length = length - 1",
    ] {
        let connection = Connection::open(&database).unwrap();
        connection.execute(&format!("UPDATE file SET {change}"), []).unwrap();
        drop(connection);
        assert!(read(dir.path(), 0).is_err(), "{change}");
        let reader = Reader::open(dir.path()).unwrap();
        reader.artifacts(&commit(), &key(0)).unwrap();
        std::fs::write(&database, &good).unwrap();
    }
    // A number that is none finds nothing.
    let connection = Connection::open(&database).unwrap();
    connection.execute("UPDATE file SET pack = -1", []).unwrap();
    drop(connection);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.log(&commit(), &key(0), LogKind::Subtest).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_removes_the_packs_of_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0..3).await;
    let writer = Writer::open(dir.path()).unwrap();
    let other: CommitId = "b".repeat(40).parse().unwrap();
    writer.set_branch(&"u/b".parse().unwrap(), vec![(other.clone(), "b".into())]).await.unwrap();
    let policy = Policy { commits: 1, rest: Duration::ZERO };
    let plan = writer.plan_retention(policy).unwrap();
    let pack_bytes = pack(dir.path(), 1).metadata().unwrap().len();
    assert!(plan.remove.len() == 1 && plan.remove[0].bytes > pack_bytes);
    writer.apply(plan).await.unwrap();
    assert!(!pack(dir.path(), 1).exists());
    assert_eq!(writer.reader().log(&commit(), &key(0), LogKind::Subtest).unwrap(), None);
    // What an interrupted deletion left is deleted by the next one.
    std::fs::write(pack(dir.path(), 1), "rest").unwrap();
    let plan = writer.plan_retention(policy).unwrap();
    assert_eq!((plan.remove.len(), plan.remove[0].bytes), (1, 4));
    writer.apply(plan).await.unwrap();
    assert!(!pack(dir.path(), 1).exists());
    // The commit can have results again.
    publish(&writer, 1).await;
    assert_eq!(read(dir.path(), 1).unwrap(), text(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_found_again_without_the_database() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0..3).await;
    let mut file = std::fs::OpenOptions::new().append(true).open(pack(dir.path(), 1)).unwrap();
    file.write_all(b"\n00000000 {\"file\":\"log\",").unwrap();
    // A second attempt, and a log that two tests share.
    let writer = Writer::open(dir.path()).unwrap();
    publish(&writer, 1).await;
    let mut plain = tempfile::NamedTempFile::new().unwrap();
    plain.write_all(b"00001 both\n").unwrap();
    let plain = PlainFile::open(plain.path()).unwrap();
    writer.publish_logs(&commit(), &[(key(0), 1), (key(2), 1)], LogKind::Full, plain).await.unwrap();
    writer.close().await.unwrap();
    let files = |dir: &Path| {
        let connection = Connection::open(dir.join("results.db")).unwrap();
        let sql = "SELECT t.key || ' ' || f.n || ' ' || f.name || ' ' || f.pack || ' ' || f.offset || ' ' || f.length || ' ' || \
            f.plain_bytes FROM file f JOIN test t ON t.id = f.test ORDER BY 1";
        let mut select = connection.prepare(sql).unwrap();
        let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let before = files(dir.path());
    assert_eq!(before.len(), 6);
    std::fs::remove_file(dir.path().join("results.db")).unwrap();
    Writer::open(dir.path()).unwrap().close().await.unwrap();
    assert_eq!(files(dir.path()), before);
    for number in 0..3 {
        assert_eq!(read(dir.path(), number).unwrap(), text(number));
    }
}
