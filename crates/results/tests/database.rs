//! `results.db`: the queries in docs/database.md, the import, the backup, and databases that must be refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use model::{CommitId, ResultKey, Status, Verdict};
use results::{CommitResults, Error, Reader, VerdictRecord, Writer, checked_line};
use rusqlite::{Connection, OpenFlags};

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn record(commit: &CommitId, key: &str, verdict: Verdict, millis: u64) -> VerdictRecord {
    let (key, duration): (ResultKey, _) = (key.parse().unwrap(), Duration::from_millis(millis));
    let mut record = VerdictRecord::new(commit.clone(), key, verdict, duration);
    record.started = Some(fsx::clock::unix_seconds() - 60);
    record.host = Some("farm1".parse().unwrap());
    record.slot = Some(2);
    record.kernel = Some("a".repeat(64).parse().unwrap());
    record.image_hash = Some("b".repeat(64));
    record
}

fn failed() -> Verdict {
    Verdict::Failed { reason: "the files differ".into() }
}

/// Creates two branches, a regression with a crash, a flaky test, and an attempt that failed to run.
async fn fill(dir: &Path) {
    const PUNCH: &str = "fs.ext4.basic.punch_hole";
    let writer = Writer::open(dir).unwrap();
    let (a, b) = (commit('a'), commit('b'));
    let listing = vec![(b.clone(), "ext4: two\n\nbody".into()), (a.clone(), "ext4: one".into())];
    writer.set_branch(&"kmo/next/ext4".parse().unwrap(), listing).await.unwrap();
    writer.set_branch(&"kmo/base".parse().unwrap(), vec![(a.clone(), "ext4: one".into())]).await.unwrap();
    writer.record(record(&a, PUNCH, Verdict::Passed, 1500)).await.unwrap();
    let mut crash = record(&b, PUNCH, failed(), 900);
    crash.crash = Some("kernel BUG in ext4_ext_remove_space".into());
    writer.record(crash).await.unwrap();
    for verdict in [Verdict::FailedToRun { reason: "no VM".into() }, failed(), Verdict::Passed] {
        writer.record(record(&b, "fs.ext4.basic.quota", verdict, 100)).await.unwrap();
    }
    writer
        .record(record(&b, "fs.xfs.basic.quota", Verdict::NotRun { reason: "no xfs".into() }, 5))
        .await
        .unwrap();
    writer.close().await.unwrap();
}

fn open(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{}?immutable=1", path.display()), flags).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_query_in_the_document_returns_rows() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let connection = open(&dir.path().join("results.db"));
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/database.md");
    let document = std::fs::read_to_string(document).unwrap();
    let mut found = 0;
    for block in document.split("```sql\n").skip(1) {
        let sql = block.split("```").next().unwrap();
        let mut select = connection.prepare(sql).unwrap();
        let mut rows = select.query([]).unwrap();
        assert!(rows.next().unwrap().is_some(), "no rows: {sql}");
        found += 1;
    }
    assert!(found >= 10, "{found}");
    // The document contains every table and column of the schema.
    let names = "SELECT c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'view'";
    for name in connection.prepare(names).unwrap().query_map([], |row| row.get::<_, String>(0)).unwrap() {
        let name = name.unwrap();
        assert!(document.contains(&format!("`{name}`")), "{name}");
    }
}

fn all(reader: &Reader) -> Vec<CommitResults> {
    let mut all: Vec<_> =
        reader.commits().unwrap().iter().map(|commit| reader.commit(commit).unwrap().unwrap()).collect();
    for entry in all.iter_mut().flat_map(|results| &mut results.entries) {
        entry.others.sort_by_key(|other| other.number);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_files_are_imported_completely() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let before = all(&Reader::open(dir.path()).unwrap());
    std::fs::remove_file(dir.path().join("results.db")).unwrap();

    let writer = Writer::open(dir.path()).unwrap();
    let imported = writer.opened().imported;
    assert_eq!(
        (imported.commits, imported.tests, imported.attempts, imported.branches, imported.durations),
        (2, 4, 6, 2, 2)
    );
    assert_eq!(writer.opened().unpublished, 0);
    // A new verdict makes the writer publish the commit from the database.
    for results in &before {
        writer.record(record(&results.commit, "z.z", Verdict::Passed, 1)).await.unwrap();
    }
    writer.close().await.unwrap();
    let mut after = all(&Reader::open(dir.path()).unwrap());
    for results in &mut after {
        results.entries.retain(|entry| entry.key.as_str() != "z.z");
    }
    assert_eq!(after, before);
    // The next start imports nothing.
    let writer = Writer::open(dir.path()).unwrap();
    assert_eq!(writer.opened(), results::Opened::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_journal_is_imported_once() {
    let dir = tempfile::tempdir().unwrap();
    let private = dir.path().join(".store");
    std::fs::create_dir_all(&private).unwrap();
    let line = |sequence: u32, key: &str, millis: u32| {
        let commit = commit('c');
        let json = format!(
            r#"{{"seq":{sequence},"record":"verdict","commit":"{commit}","key":"{key}","status":"Passed","duration_ms":{millis}}}"#
        );
        checked_line(json.as_bytes())
    };
    let mut bytes =
        [line(1, "f.x", 1000), line(2, "f.y", 2000), b"damaged\n".to_vec(), line(4, "f.x", 500)].concat();
    bytes.extend_from_slice(b"0000");
    let segment = private.join("journal.00000000000000ab.00000000000000000001");
    std::fs::write(&segment, bytes).unwrap();
    for round in 0..2 {
        let writer = Writer::open(dir.path()).unwrap();
        let imported = writer.opened().imported;
        if round == 0 {
            assert_eq!(
                (imported.journal.records, imported.journal.damaged, imported.journal.torn),
                (3, 1, true)
            );
            assert_eq!((imported.tests, imported.attempts, imported.durations), (2, 3, 2));
        } else {
            assert_eq!(imported, results::Imported::default());
        }
        writer.close().await.unwrap();
        let results = Reader::open(dir.path()).unwrap().commit(&commit('c')).unwrap().unwrap();
        let attempts: Vec<_> = results.entries.iter().map(results::TestEntry::attempts).collect();
        assert_eq!(attempts, [2, 1]);
        let reader = Reader::open(dir.path()).unwrap();
        let status = reader.artifact(&commit('c'), &"f.y".parse().unwrap(), "status").unwrap();
        assert_eq!(String::from_utf8(status).unwrap(), "========= PASSED f.y in 2s\n");
    }
    assert!(
        !segment.exists() && private.join("imported.journal.00000000000000ab.00000000000000000001").exists()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_during_writes_can_be_restored() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(dir.path()).await;
    let writer = Writer::open(dir.path()).unwrap();
    writer.record(record(&commit('c'), "f.x", Verdict::Passed, 1)).await.unwrap();
    let copy = other.path().join("results.db");
    results::backup(dir.path(), &copy).unwrap();
    assert!(matches!(results::backup(dir.path(), &copy), Err(Error::Io { .. })), "a file is not replaced");
    writer.record(record(&commit('c'), "f.y", Verdict::Passed, 1)).await.unwrap();
    let count = |path: &Path| -> i64 {
        open(path).query_row("SELECT count(*) FROM verdict", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&copy), 5);
    // A writer continues with the backup in an empty directory, and publishes everything.
    let restored = Writer::open(other.path()).unwrap();
    assert!(restored.has_verdict(&commit('a'), &"fs.ext4.basic.punch_hole".parse().unwrap()).unwrap());
    assert_eq!(restored.opened().unpublished, 3);
    restored.record(record(&commit('b'), "z.z", Verdict::Passed, 1)).await.unwrap();
    restored.directories_written().await.unwrap();
    restored.close().await.unwrap();
    let results = Reader::open(other.path()).unwrap().commit(&commit('b')).unwrap().unwrap();
    assert_eq!(results.entries.len(), 4);
    let listing =
        Reader::open(other.path()).unwrap().branch(&"kmo/next/ext4".parse().unwrap()).unwrap().unwrap();
    assert_eq!((listing.len(), listing[0].subject(), listing[0].counts.failed), (2, "ext4: two", 2));
    assert!(other.path().join(commit('a').as_str()).join("fs.ext4.basic.punch_hole/status").exists());
    let quota = results.get(&"fs.ext4.basic.quota".parse().unwrap()).unwrap();
    assert_eq!((quota.decisive.status, quota.decisive.number, quota.attempts()), (Status::Failed, 2, 3));
    assert!(results::backup(Path::new("/nowhere"), &other.path().join("x")).is_err());
    assert!(!other.path().join("x").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_newer_and_damaged_databases_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let path = dir.path().join("results.db");
    let good = std::fs::read(&path).unwrap();
    let refused = || Writer::open(dir.path()).unwrap_err().to_string();

    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(refused().contains("written by a newer ci-daemon (schema 99"), "{}", refused());
    std::fs::write(&path, "this is not a database, but a text of some length\n".repeat(100)).unwrap();
    assert!(refused().contains("results.db: cannot"), "{}", refused());
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(refused().contains("another program"), "{}", refused());
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    std::fs::write(dir.path().join("results.db-wal"), "").unwrap();
    assert!(refused().contains("results.db"), "{}", refused());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_damage_causes_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let path = dir.path().join("results.db");
    let good = std::fs::read(&path).unwrap();
    for (round, at) in (0..good.len()).step_by(1531).enumerate() {
        let mut bytes = good.clone();
        for byte in bytes.iter_mut().skip(at).take(1 + round % 40) {
            *byte = byte.wrapping_add(u8::try_from(1 + round % 250).unwrap());
        }
        std::fs::write(&path, &bytes).unwrap();
        if round % 2 == 0 {
            // The last writer did not stop cleanly.
            std::fs::write(dir.path().join("results.db-wal"), &bytes[..at.min(9000)]).unwrap();
        }
        if let Ok(writer) = Writer::open(dir.path()) {
            let _ = writer.record(record(&commit('b'), "z.z", Verdict::Passed, 1)).await;
            let _ = writer.clear_stale_in_progress().await;
            let _ = writer.close().await;
        }
        for name in ["results.db-wal", "results.db-shm"] {
            let _ = std::fs::remove_file(dir.path().join(name));
        }
    }
}
