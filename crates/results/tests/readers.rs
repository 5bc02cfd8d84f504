//! Readers of the database get the same results as from the published files: while a writer runs, from a copy, and
//! without a usable database, and on a read-only file system.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::{BranchRef, CommitId, Env, ResultKey, Status, Verdict};
use results::{Authorship, CommitDetails, Reader, TestEntry, TestParts, VerdictRecord, Writer};
use rusqlite::{Connection, OpenFlags};

const TESTS: usize = 12;
const COMMITS: usize = 9;

fn commit(number: usize) -> CommitId {
    format!("{number:040x}").parse().unwrap()
}

fn key(number: usize) -> ResultKey {
    format!("fs.ext4.basic.t{number}").parse().unwrap()
}

fn at() -> BranchRef {
    "kmo/next/ext4".parse().unwrap()
}

fn record(commit: &CommitId, key: ResultKey, seed: usize) -> VerdictRecord {
    let verdict = match seed % 5 {
        0 => Verdict::Failed { reason: format!("the files differ: {seed}") },
        1 => Verdict::NotRun { reason: "no xfs".into() },
        2 => Verdict::FailedToRun { reason: "no VM".into() },
        _ => Verdict::Passed,
    };
    let mut record = VerdictRecord::new(commit.clone(), key, verdict, Duration::from_millis(seed as u64 * 7));
    record.started = (!seed.is_multiple_of(3)).then_some(1_700_000_000 + i64::try_from(seed).unwrap());
    record.crash = seed.is_multiple_of(10).then(|| format!("kernel BUG in f{}", seed % 4));
    record.host = (!seed.is_multiple_of(4)).then(|| format!("farm{}", seed % 4).parse().unwrap());
    record.slot = (!seed.is_multiple_of(4)).then_some(2);
    record.kernel = (!seed.is_multiple_of(2)).then(|| "a".repeat(64).parse().unwrap());
    record.image_hash = (!seed.is_multiple_of(2)).then(|| "b".repeat(64));
    record
}

/// A branch with retries, crashes, tests that are missing at some commits, and a commit without results.
async fn fill(dir: &Path) -> Writer {
    let writer = Writer::open(dir).unwrap();
    let listing = (0..=COMMITS).rev().map(|number| (commit(number), format!("ext4: {number}"))).collect();
    writer.set_branch(&at(), listing).await.unwrap();
    for number in 0..COMMITS {
        for test in (0..TESTS).filter(|test| !(test + number).is_multiple_of(4)) {
            for attempt in 0..=(test + number) % 3 {
                let seed = number * 31 + test * 7 + attempt * 3;
                writer.record(record(&commit(number), key(test), seed)).await.unwrap();
            }
        }
    }
    writer.flush().await.unwrap();
    writer
}

fn sorted(mut entry: TestEntry) -> TestEntry {
    entry.others.sort_by_key(|other| other.number);
    entry
}

type Answers = (Vec<Vec<Option<TestEntry>>>, Vec<Vec<Option<TestEntry>>>);

/// The history of each test, and each test at each commit.
fn answers(reader: &Reader) -> Answers {
    let history = |test| {
        let history = reader.history(&at(), &key(test)).unwrap().unwrap();
        history.into_iter().map(|row| row.entry.map(sorted)).collect()
    };
    let entries = |test| {
        let entry = |number| reader.entry(&commit(number), &key(test)).unwrap().map(sorted);
        (0..=COMMITS).map(entry).collect()
    };
    ((0..=TESTS).map(history).collect(), (0..=TESTS).map(entries).collect())
}

fn published(dir: &Path) -> Answers {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if file.path().extension().is_some_and(|ending| ending == "capnp") {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    let reader = Reader::open(copy.path()).unwrap();
    assert_eq!(reader.crashes(&at()), None);
    answers(&reader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_and_the_published_files_agree() {
    let dir = tempfile::tempdir().unwrap();
    let writer = fill(dir.path()).await;
    let reader = Reader::open(dir.path()).unwrap();
    let files = published(dir.path());
    assert!(files.0.iter().flatten().flatten().any(|entry| !entry.others.is_empty()));
    assert_eq!(answers(&reader), files, "while a writer has it open");
    let crashes = reader.crashes(&at()).unwrap();
    let crashed = |entry: &&TestEntry| entry.decisive.crash.is_some();
    let expected = files.0.iter().flatten().flatten().filter(crashed).count();
    assert_eq!(crashes.iter().filter(|crash| crash.decisive).count(), expected);
    assert!(expected > 3 && crashes.windows(2).all(|pair| pair[0].commit >= pair[1].commit));

    // The same reader continues when the writer has closed the database, and when another one opens it.
    writer.close().await.unwrap();
    let log = std::fs::metadata(dir.path().join("results.db-wal"));
    assert!(log.is_ok_and(|data| data.len() == 0), "the reader keeps the log, but the writer has emptied it");
    assert_eq!(answers(&reader), files, "after the writer");
    let writer = Writer::open(dir.path()).unwrap();
    writer.record(record(&commit(COMMITS), key(0), 0)).await.unwrap();
    let newest = reader.history(&at(), &key(0)).unwrap().unwrap().remove(0).entry.unwrap();
    assert_eq!(newest.decisive.status, Status::Failed, "a verdict is visible when it is acknowledged");
    assert!(reader.crashes(&"kmo/other".parse().unwrap()).is_none());
}

const READ_ONLY: &str = "RESULTS_READ_ONLY";

/// Prints what a reader finds in a directory, and whether it uses the database.
#[test]
#[ignore = "the next test starts it"]
fn child() {
    let Ok(dir) = std::env::var(READ_ONLY) else { return };
    let reader = Reader::open(dir).unwrap();
    println!("found {:?} {}", answers(&reader), reader.crashes(&at()).is_some());
}

/// The output of [`child`] where no file can be written.
fn found_read_only(dir: &Path) -> String {
    let output = std::process::Command::new("bwrap")
        .args(["--ro-bind", "/", "/", "--dev", "/dev", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(READ_ONLY, dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found = text.find("found ").and_then(|at| text[at..].lines().next());
    found.map_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned(), Into::into)
}

fn copy_files(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_on_a_read_only_file_system_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let writer = fill(dir.path()).await;
    let expected = format!("found {:?} true", published(dir.path()));
    assert_eq!(found_read_only(dir.path()), expected, "while a writer has it open");
    // A copy that is made while the writer runs, with and without the shared memory of the log.
    let copy = tempfile::tempdir().unwrap();
    copy_files(dir.path(), copy.path());
    assert_eq!(found_read_only(copy.path()), expected, "a copy with a log");
    std::fs::remove_file(copy.path().join("results.db-shm")).unwrap();
    let found = found_read_only(copy.path());
    assert_eq!(
        found.trim_end_matches(" false"),
        expected.trim_end_matches(" true"),
        "from the published files"
    );
    writer.close().await.unwrap();
    assert_eq!(found_read_only(dir.path()), expected, "after the writer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_tests_come_from_the_published_files() {
    let dir = tempfile::tempdir().unwrap();
    let writer = fill(dir.path()).await;
    writer.in_progress(&commit(COMMITS), vec![key(0)], 5, None, None).unwrap();
    writer.flush().await.unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let entry = reader.entry(&commit(COMMITS), &key(0)).unwrap().unwrap();
    assert_eq!(entry.decisive.status, Status::InProgress);
    let history = reader.history(&at(), &key(0)).unwrap().unwrap();
    assert_eq!(history[0].entry.as_ref().unwrap().decisive.status, Status::InProgress);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_usable_database_the_published_files_answer() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await.close().await.unwrap();
    let path = dir.path().join("results.db");
    let (good, files) = (std::fs::read(&path).unwrap(), published(dir.path()));
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(answers(&reader), files);
    let damaged: [(&str, Vec<u8>); 4] = [
        ("empty", Vec::new()),
        ("truncated", good[..good.len() / 3].into()),
        ("text", b"this is not a database\n".repeat(500)),
        ("schema", good.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect()),
    ];
    for (name, bytes) in damaged {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(answers(&reader), files, "{name}");
    }
    // A file that is not regular is not opened.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_eq!(answers(&reader), files);
    // Another version has other tables.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &good).unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(answers(&reader), files);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &good).unwrap();
    assert!(reader.crashes(&at()).is_some(), "a restored database is used again");
}

fn open(dir: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(dir.join("results.db"), flags).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_of_a_key_and_the_details_of_a_commit_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let writer = fill(dir.path()).await;
    let env =
        BTreeMap::from([("ktest_arch".to_owned(), "aarch64".to_owned()), ("A".to_owned(), "x".to_owned())]);
    let env: Env = env.try_into().unwrap();
    let (file, subtest) = ("fs/ext4/basic".parse().unwrap(), "generic/001".parse().unwrap());
    let key = ResultKey::new(&file, None, &env, &subtest).unwrap();
    let mut with_parts = record(&commit(0), key, 3);
    with_parts.parts = Some(Box::new(TestParts { file, subtest, kernel: None, env }));
    writer.record(with_parts).await.unwrap();
    let author = "Kim <kim@example.org>\nbcc".to_owned();
    let details = CommitDetails { tree: "t".repeat(40), author, date: 1_700_000_000 };
    writer.set_details(vec![(commit(0), details.clone()), (commit(999), details)]).await.unwrap();
    writer.close().await.unwrap();
    // The listing has them, also if the next writer publishes it.
    let reader = Reader::open(dir.path()).unwrap();
    let authorship = |reader: &Reader| reader.listed(&commit(0)).unwrap().unwrap().authorship;
    let expected = Authorship { author: "Kim <kim@example.org> bcc".into(), date: 1_700_000_000 };
    assert_eq!((authorship(&reader), expected.name()), (expected.clone(), "Kim"));
    let file = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let listings = file.filter(|path| path.to_string_lossy().contains("/branch."));
    listings.for_each(|path| std::fs::remove_file(path).unwrap());
    Writer::open(dir.path()).unwrap().close().await.unwrap();
    assert_eq!(authorship(&reader), expected);
    let database = open(dir.path());
    let parts = "SELECT file || ' ' || subtest || ' ' || arch || ' ' || env FROM test WHERE file IS NOT NULL";
    let parts: String = database.query_row(parts, [], |row| row.get(0)).unwrap();
    assert_eq!(parts, "fs/ext4/basic generic/001 aarch64 A=x,ktest_arch=aarch64");
    let details = "SELECT author || ' ' || date FROM commit_ WHERE tree IS NOT NULL";
    let details: Vec<String> = database
        .prepare(details)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(details, ["Kim <kim@example.org> bcc 1700000000"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_version_1_is_migrated() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await.close().await.unwrap();
    let files = published(dir.path());
    // A database of version 1 with the same rows.
    let (new, old) = (dir.path().join("results.db"), dir.path().join("old.db"));
    let database = Connection::open(&old).unwrap();
    database.execute_batch(include_str!("../src/db/schema/1.sql")).unwrap();
    database
        .execute_batch(
            "CREATE VIEW verdict AS SELECT sha, stands FROM attempt JOIN commit_ c ON c.id = commit_",
        )
        .unwrap();
    database.execute_batch("DELETE FROM status").unwrap();
    database.execute("ATTACH ?1 AS new", [new.to_str().unwrap()]).unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'unpublished'";
    let tables: Vec<String> = database
        .prepare(tables)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for table in tables {
        let columns: Vec<String> = database
            .prepare("SELECT name FROM pragma_table_info(?1, 'main')")
            .unwrap()
            .query_map([&table], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let (to, from) = (columns.join(", "), columns.join(", ").replace("stands", "decisive"));
        database
            .execute(&format!("INSERT INTO main.{table} ({to}) SELECT {from} FROM new.{table}"), [])
            .unwrap();
    }
    database
        .execute_batch("DETACH new; PRAGMA application_id = 1802793844; PRAGMA user_version = 1")
        .unwrap();
    database.close().unwrap();
    std::fs::rename(&old, &new).unwrap();
    // A reader of this version uses the files until the writer has migrated the database.
    let reader = Reader::open(dir.path()).unwrap();
    assert!(reader.crashes(&at()).is_none());
    assert_eq!(answers(&reader), files);
    let writer = Writer::open(dir.path()).unwrap();
    assert_eq!(writer.opened().imported, results::Imported::default());
    assert!(reader.crashes(&at()).is_some());
    assert_eq!(answers(&reader), files);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_contains_commits_behind_many_untested_ones() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let listing = (0..300).rev().map(|number| (commit(number), format!("ext4: {number}"))).collect();
    writer.set_branch(&at(), listing).await.unwrap();
    for number in [0, 150] {
        writer.record(record(&commit(number), key(1), 3)).await.unwrap();
    }
    writer.close().await.unwrap();
    // Only the database has the results.
    std::fs::remove_file(dir.path().join(format!("{}.capnp", commit(0)))).unwrap();
    let history = Reader::open(dir.path()).unwrap().history(&at(), &key(1)).unwrap().unwrap();
    let tested = history.iter().filter(|row| row.entry.is_some()).map(|row| row.commit.clone());
    assert_eq!(tested.collect::<Vec<_>>(), [commit(150), commit(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_history_has_every_verdict_once() {
    const COMMITS: usize = 2500;
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let listing = (0..COMMITS).rev().map(|number| (commit(number), format!("ext4: {number}"))).collect();
    writer.set_branch(&at(), listing).await.unwrap();
    for number in (0..COMMITS).filter(|number| number % 50 == 0 || (1200..1300).contains(number)) {
        for attempt in 0..=number % 3 {
            writer.record(record(&commit(number), key(1), number + attempt)).await.unwrap();
        }
    }
    let reader = Reader::open(dir.path()).unwrap();
    // While rows are copied to the table in the order of tests, and afterwards.
    for _ in 0..20 {
        let history = reader.history(&at(), &key(1)).unwrap().unwrap();
        assert_eq!(history.len(), COMMITS);
        for (row, number) in history.into_iter().zip((0..COMMITS).rev()) {
            assert_eq!(row.commit, commit(number));
            assert_eq!(
                row.entry.map(sorted),
                reader.entry(&commit(number), &key(1)).unwrap().map(sorted),
                "{number}"
            );
        }
    }
    writer.close().await.unwrap();
    let history = reader.history(&at(), &key(1)).unwrap().unwrap();
    assert_eq!(history.iter().filter(|row| row.entry.is_some()).count(), 50 + 100 - 2);
}
