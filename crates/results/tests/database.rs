//! `results.db`: the queries in docs/database.md, the import, the backup, and databases that must be refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::{CommitId, ResultKey, Status, Verdict};
use results::notes::{BuildNote, BuildOutcome, Note, RequestEnd, RequestNote};
use results::requests::{RequestKind, Rerun};
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
    writer.note(Note::Build(build(&a, BuildOutcome::Built, None))).unwrap();
    writer.note(Note::Build(build(&b, BuildOutcome::Failed, Some("fs/inode.c:1: error")))).unwrap();
    for file in ["1.json", "2.json"] {
        let kind = RequestKind::Rerun(Rerun { commit: b.clone(), key: PUNCH.parse().unwrap() });
        let (at, account) = (fsx::clock::unix_seconds(), "kmo".into());
        writer.note(Note::Request(RequestNote { at, kind, account, file: file.into() })).unwrap();
    }
    let end = RequestEnd::Refused("no such test".into());
    writer.note(Note::RequestEnded { file: "1.json".into(), at: fsx::clock::unix_seconds(), end }).unwrap();
    writer.close().await.unwrap();
}

fn build(commit: &CommitId, outcome: BuildOutcome, error: Option<&str>) -> BuildNote {
    let kernel = error.is_none().then(|| "a".repeat(64).parse().unwrap());
    BuildNote {
        commit: commit.clone(),
        file: "fs/ext4/basic".parse().unwrap(),
        env: BTreeMap::from([("ktest_flavor".to_owned(), "kasan".to_owned())]).try_into().unwrap(),
        kernel,
        image_hash: None,
        started: fsx::clock::unix_seconds() - 100,
        duration: Duration::from_secs(90),
        host: "farm1".parse().unwrap(),
        slot: 1,
        outcome,
        error: error.map(Into::into),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_and_requests_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let rows = |sql: &str| -> Vec<String> {
        let connection = open(&dir.path().join("results.db"));
        let mut select = connection.prepare(sql).unwrap();
        let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let builds = "SELECT concat_ws(' ', c.sha, b.file, b.flavor, k.name, b.duration_ms, h.name, b.slot, b.outcome, b.error) \
        FROM build b JOIN commit_ c ON c.id = b.commit_ JOIN host h ON h.id = b.host LEFT JOIN kernel k ON k.id = b.kernel \
        ORDER BY b.id";
    let (a, b, kernel) = (commit('a'), commit('b'), "a".repeat(64));
    let built = format!("{a} fs/ext4/basic kasan {kernel} 90000 farm1 1 built");
    let failed = format!("{b} fs/ext4/basic kasan 90000 farm1 1 failed fs/inode.c:1: error");
    assert_eq!(rows(builds), [built.clone(), failed]);
    let requests =
        "SELECT concat_ws(' ', kind, account, sha, test, file, outcome, reason) FROM request ORDER BY id";
    let request = format!("rerun kmo {b} fs.ext4.basic.punch_hole");
    let expected = [format!("{request} 1.json refused no such test"), format!("{request} 2.json")];
    assert_eq!(rows(requests), expected);
    // The builds of a removed commit are removed, and the requests stay.
    let writer = Writer::open(dir.path()).unwrap();
    writer.set_branch(&"kmo/next/ext4".parse().unwrap(), vec![(a, "ext4: one".into())]).await.unwrap();
    let policy = results::retention::Policy { commits: 1, rest: Duration::ZERO };
    let plan = writer.plan_retention(policy).unwrap();
    writer.apply(plan).await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(rows(builds), [built]);
    assert_eq!(rows(requests), expected);
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
    let counts = listing[0].counts;
    assert_eq!((listing.len(), listing[0].subject(), counts.failed, counts.flaky), (2, "ext4: two", 1, 1));
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

/// The steps to the version before the current one.
const SCHEMAS: [&str; 7] = [
    include_str!("../src/db/schema/1.sql"),
    include_str!("../src/db/schema/2.sql"),
    include_str!("../src/db/schema/3.sql"),
    include_str!("../src/db/schema/4.sql"),
    include_str!("../src/db/schema/5.sql"),
    include_str!("../src/db/schema/6.sql"),
    include_str!("../src/db/schema/7.sql"),
];

/// A database of an earlier version: two commits of a branch, and one test that passed and then crashed.
fn create_version(dir: &Path, version: usize) {
    let connection = Connection::open(dir.join("results.db")).unwrap();
    SCHEMAS[..version].iter().for_each(|step| connection.execute_batch(step).unwrap());
    let (a, b) = (commit('a'), commit('b'));
    connection
        .execute_batch(&format!(
            "INSERT INTO user VALUES (1, 'kmo'); INSERT INTO branch (id, user, name) VALUES (1, 1, 'next'); \
             INSERT INTO commit_ (id, sha, message, subject, has_results, passed, failed) \
                VALUES (1, '{a}', 'one', 'one', 1, 1, 0), (2, '{b}', 'two', 'two', 1, 0, 1); \
             INSERT INTO branch_commit VALUES (1, 0, 1), (1, 1, 2); \
             INSERT INTO test (id, key, runs, passed, failed, mean_ms) VALUES (1, 'f.x', 3, 1, 2, 900); \
             INSERT INTO crash VALUES (1, 'kernel BUG'); INSERT INTO host VALUES (1, 'farm1'); \
             INSERT INTO attempt VALUES (1, 1, 1, 1, 1, 1700000000, 900, NULL, NULL, 1, 2, NULL, NULL, 0, 0), \
                (2, 1, 1, 1, 2, 1700000000, 900, 'why', 1, 1, 2, NULL, NULL, 0, 0), \
                (2, 1, 2, 0, 2, 1700000000, 900, 'why', 1, NULL, NULL, NULL, NULL, 0, 0); \
             INSERT INTO import VALUES (1700000000, 0, 0, 0, 0, 0, 0); \
             PRAGMA application_id = 0x6b747374; PRAGMA user_version = {version};"
        ))
        .unwrap();
    if version >= 5 {
        let facets = "INSERT INTO facet VALUES (1, 1, 1, 0, 1), (2, 2, 1, 0, 1)";
        connection.execute_batch(facets).unwrap();
    }
    if version >= 7 {
        connection.execute_batch("INSERT INTO branch_crash VALUES (1, 1, 1, 2)").unwrap();
    }
}

/// The schema, without comments and white space, which differ between a new table and a changed one.
fn schema(path: &Path) -> Vec<(String, String)> {
    let sql = "SELECT m.name, group_concat(c.name || c.type || c.pk || c.\"notnull\", ' ' ORDER BY c.name) \
        FROM sqlite_schema m, pragma_table_xinfo(m.name) c WHERE m.type IN ('table', 'view') GROUP BY 1 \
        UNION ALL SELECT m.name, group_concat(coalesce(c.name, ''), ' ' ORDER BY c.seqno) \
        FROM sqlite_schema m, pragma_index_xinfo(m.name) c WHERE m.type = 'index' GROUP BY 1";
    let connection = open(path);
    let mut select = connection.prepare(sql).unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_all_earlier_versions_are_migrated() {
    let new = tempfile::tempdir().unwrap();
    fill(new.path()).await;
    for version in 1..=SCHEMAS.len() {
        let dir = tempfile::tempdir().unwrap();
        create_version(dir.path(), version);
        let writer = Writer::open(dir.path()).unwrap();
        writer.record(record(&commit('b'), "f.y", Verdict::Passed, 5)).await.unwrap();
        writer.close().await.unwrap();
        let database = dir.path().join("results.db");
        assert_eq!(schema(&database), schema(&new.path().join("results.db")), "{version}");
        let reader = Reader::open(dir.path()).unwrap();
        let (branch, key) = ("kmo/next".parse().unwrap(), "f.x".parse().unwrap());
        let history = reader.history(&branch, &key).unwrap().unwrap();
        let found: Vec<_> = history
            .iter()
            .map(|row| row.entry.as_ref().map(|entry| (entry.decisive.status, entry.attempts())))
            .collect();
        assert_eq!(found, [Some((Status::Failed, 2)), Some((Status::Passed, 1))], "{version}");
        assert_eq!(reader.crashes(&branch).unwrap().len(), 2, "{version}");
        check_derived(&open(&database), &version.to_string());
    }
}

/// Checks the tables that are derived from `attempt`.
fn check_derived(connection: &Connection, context: &str) {
    let differ = |what: &str, left: &str, right: &str| {
        let sql = format!(
            "SELECT count(*) FROM (SELECT * FROM ({left} EXCEPT {right}) UNION ALL SELECT * FROM ({right} EXCEPT {left}))"
        );
        let differences: i64 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(differences, 0, "{context}: {what}");
    };
    let columns = "test, commit_, n, decisive, status, started, duration_ms, reason, crash, host, slot, kernel, image, \
        log_bytes, full_log_bytes";
    let rest = "FROM attempt JOIN (SELECT id, in_history FROM commit_) c ON c.id = commit_ \
        WHERE in_history = 0 OR in_history = 1 AND test >= (SELECT next_test FROM history_copy)";
    let all = format!("SELECT {columns} FROM history UNION ALL SELECT {columns} {rest}");
    differ("history", &format!("SELECT * FROM ({all})"), &format!("SELECT {columns} FROM attempt"));
    differ("rows", &format!("SELECT count(*) FROM ({all})"), "SELECT count(*) FROM attempt");
    differ(
        "facet",
        "SELECT * FROM facet",
        "SELECT commit_, status, coalesce(host, 0), coalesce(kernel, 0), count(*) FROM attempt \
         WHERE decisive = 1 AND status BETWEEN 1 AND 4 GROUP BY 1, 2, 3, 4",
    );
    differ(
        "branch_crash",
        "SELECT * FROM branch_crash",
        "SELECT branch, crash, position, count(*) FROM branch_commit JOIN attempt USING (commit_) \
         WHERE crash IS NOT NULL GROUP BY 1, 2, 3",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_are_copied_in_the_order_of_tests() {
    let dir = tempfile::tempdir().unwrap();
    let key = |number: usize| format!("f.t{number}");
    let hash = |number: usize| number.wrapping_mul(0x9e37_79b9) >> 7;
    for round in 0..6 {
        let tuning = results::Tuning { copy_rows: 20, ..results::Tuning::default() };
        let writer = Writer::open_with(dir.path(), tuning).unwrap();
        for number in round * 60..round * 60 + 60 {
            let commit = commit(char::from(b"abcdef"[hash(number) % 6]));
            let verdict = match number % 5 {
                0 => failed(),
                1 => Verdict::FailedToRun { reason: "no VM".into() },
                _ => Verdict::Passed,
            };
            let mut record = record(&commit, &key(hash(number + 7) % 23), verdict, 7);
            record.host = (number % 3 > 0).then(|| format!("farm{}", number % 3).parse().unwrap());
            record.crash = (number % 5 == 0).then(|| "kernel BUG".into());
            let (test, attempt) = (record.key.clone(), writer.record(record).await.unwrap().attempt);
            if number % 7 == 0 {
                let mut log = tempfile::NamedTempFile::new().unwrap();
                std::io::Write::write_all(&mut log, b"00001 text\n").unwrap();
                let log = results::PlainFile::open(log.path()).unwrap();
                writer.publish_log(&commit, &test, attempt, results::LogKind::Subtest, log).await.unwrap();
            }
            if number % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(12)).await;
            }
        }
        // Another listing with the same crashes: new ones, a push, one that drops the oldest commit.
        let listing = ["cba", "dcba", "edcb", "bd", "fedcb", "fed"][round];
        let listing: Vec<_> = listing.chars().map(|digit| (commit(digit), digit.to_string())).collect();
        writer.set_branch(&"u/one".parse().unwrap(), listing.clone()).await.unwrap();
        writer.set_branch(&format!("u/{}", round % 2).parse().unwrap(), listing).await.unwrap();
        if round == 4 {
            writer.unlist_branch(&"u/0".parse().unwrap()).await.unwrap();
        }
        writer.close().await.unwrap();
        let connection = open(&dir.path().join("results.db"));
        check_derived(&connection, &format!("round {round}"));
        let counted: i64 =
            connection.query_row("SELECT count(*) FROM branch_crash", [], |row| row.get(0)).unwrap();
        assert!(counted > 0, "round {round}");
        let copied: i64 = connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0)).unwrap();
        assert!(copied > 0, "round {round}");
    }
    // A removed commit leaves nothing.
    let writer = Writer::open(dir.path()).unwrap();
    for branch in ["u/one", "u/1"] {
        writer.set_branch(&branch.parse().unwrap(), vec![(commit('a'), "a".into())]).await.unwrap();
    }
    // The directories of the other commits are removed in the background.
    writer.directories_written().await.unwrap();
    let policy = results::retention::Policy { commits: 1, rest: Duration::ZERO };
    let plan = writer.plan_retention(policy).unwrap();
    assert_eq!(plan.remove.len(), 5);
    writer.apply(plan).await.unwrap();
    writer.close().await.unwrap();
    check_derived(&open(&dir.path().join("results.db")), "removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_commits_are_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let tuning = results::Tuning { checkpoint_records: 0, ..results::Tuning::default() };
    let writer = Writer::open_with(dir.path(), tuning).unwrap();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(dir.path().join("results.db"), flags).unwrap();
    let unpublished =
        || -> i64 { database.query_row("SELECT count(*) FROM unpublished", [], |row| row.get(0)).unwrap() };
    for round in 0..2 {
        let records = (0..100).map(|test| record(&commit('a'), &format!("f.t{test}"), Verdict::Passed, 1));
        let tasks: Vec<_> = records
            .map(|record| {
                let writer = writer.clone();
                tokio::spawn(async move { writer.record(record).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        writer.flush().await.unwrap();
        // The published files become durable in the background.
        for _ in 0..1000 {
            if unpublished() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(unpublished(), 0, "round {round}");
    }
    writer.close().await.unwrap();
    assert_eq!(Writer::open(dir.path()).unwrap().opened().unpublished, 0);
}
