//! Flaky tests: from attempts in the store to statuses, counts and rates.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use model::{BranchRef, CommitId, Counts, ResultKey, Status, Verdict};
use results::{Reader, TestEntry, VerdictRecord, Writer};

fn commit(number: usize) -> CommitId {
    format!("{number:040x}").parse().unwrap()
}

fn branch() -> BranchRef {
    "kmo/next".parse().unwrap()
}

fn key(name: &str) -> ResultKey {
    name.parse().unwrap()
}

fn record(commit: &CommitId, name: &str, passed: bool, kernel: char) -> VerdictRecord {
    let verdict = if passed { Verdict::Passed } else { Verdict::Failed { reason: "lost 3 of 8".into() } };
    let mut record = VerdictRecord::new(commit.clone(), key(name), verdict, Duration::from_millis(1500));
    record.host = Some("farm1".parse().unwrap());
    record.kernel = Some(kernel.to_string().repeat(64).parse().unwrap());
    record
}

/// 40 commits: f.flaky fails at every second one and passes its confirmation, f.broken fails from commit 30 on.
async fn forty_commits(dir: &Path) {
    let writer = Writer::open(dir).unwrap();
    let newest_first = (0..40).rev().map(|number| (commit(number), format!("commit {number}")));
    writer.set_branch(&branch(), newest_first.collect()).await.unwrap();
    for number in 0..40 {
        let at = commit(number);
        let is_odd = number % 2 == 1;
        writer.record(record(&at, "f.flaky", !is_odd, 'a')).await.unwrap();
        if is_odd {
            writer.record(record(&at, "f.flaky", true, 'a')).await.unwrap();
        }
        for _ in 0..2 {
            writer.record(record(&at, "f.broken", number < 30, 'a')).await.unwrap();
        }
    }
    writer.close().await.unwrap();
}

/// What a reader of `dir` finds, with or without a database.
fn check(dir: &Path) {
    let reader = Reader::open(dir).unwrap();
    let listed = reader.branch(&branch()).unwrap().unwrap();
    assert_eq!(listed[0].counts, Counts { failed: 1, flaky: 1, ..Counts::default() });
    assert_eq!(listed[1].counts, Counts { failed: 1, passed: 1, ..Counts::default() });
    assert_eq!(listed[38].counts, Counts { passed: 1, flaky: 1, ..Counts::default() });
    assert_eq!(reader.statuses(&commit(39)).unwrap().unwrap().statuses, [Status::Failed, Status::Flaky]);
    assert_eq!(reader.summary(&commit(39)).unwrap().unwrap().counts, listed[0].counts);
    let only = reader.branch_filtered(&branch(), |key| key.as_str() == "f.flaky").unwrap().unwrap();
    assert_eq!(only[0].counts, Counts { flaky: 1, ..Counts::default() });
    let flaky = reader.flaky(&branch()).unwrap().unwrap();
    assert_eq!(flaky.len(), 1, "a regression is not flaky: {flaky:?}");
    let found = &flaky[0].flaky;
    assert_eq!((flaky[0].key.as_str(), found.to_string().as_str()), ("f.flaky", "flaky 20 of 60"));
    assert_eq!((found.since.clone(), found.experiments), (commit(1), 20));
    assert!(found.rate.low > 0.2 && found.rate.high < 0.5, "{found:?}");
    let classes: Vec<String> = found.by_class.iter().map(|(class, rate)| format!("{class} {rate}")).collect();
    assert_eq!(classes, ["farm* 20 of 60"]);
    assert_eq!(reader.flaky(&"kmo/other".parse().unwrap()).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_passes_its_confirmation_is_flaky() {
    let dir = tempfile::tempdir().unwrap();
    forty_commits(dir.path()).await;
    check(dir.path());
    // The database counts them among the failed tests, for queries of verdicts.
    let database = rusqlite::Connection::open(dir.path().join("results.db")).unwrap();
    let counts = "SELECT failed, flaky FROM commit_ WHERE subject = 'commit 39'";
    let counts = database.query_row(counts, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(counts, (2, 1));
    drop(database);
    // The same without a database.
    std::fs::remove_file(dir.path().join("results.db")).unwrap();
    check(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flaky_failures_of_an_earlier_version_are_published_again() {
    let dir = tempfile::tempdir().unwrap();
    forty_commits(dir.path()).await;
    let database = rusqlite::Connection::open(dir.path().join("results.db")).unwrap();
    let columns = ["suite", "experiment", "load", "ran_at", "alone"];
    let columns = ["attempt", "history"].map(|table| columns.map(|column| (table, column))).concat();
    let drops = columns.iter().map(|(table, column)| format!("ALTER TABLE {table} DROP COLUMN {column};"));
    let undo = format!(
        "DROP VIEW verdict; DROP INDEX commit_by_tree; {} \
         DROP TABLE suite; DROP TABLE experiment; DROP TABLE code; DROP TABLE same_code; DROP TABLE patch; DROP TABLE finding_state; DROP TABLE sent; DROP TABLE finding; DROP TABLE sender; DROP TABLE finding_mark; DROP TABLE heir; DROP TABLE tested; \
         DROP INDEX other_attempt; ALTER TABLE commit_ DROP COLUMN flaky; PRAGMA user_version = 7;",
        drops.collect::<String>()
    );
    database.execute_batch(&undo).unwrap();
    drop(database);
    for number in 0..40 {
        std::fs::remove_file(dir.path().join(format!("{}.capnp", commit(number)))).unwrap();
    }
    let writer = Writer::open(dir.path()).unwrap();
    assert_eq!(writer.opened().unpublished, 40);
    writer.flush().await.unwrap();
    writer.close().await.unwrap();
    check(dir.path());
}

#[test]
fn an_experiment_with_both_outcomes_is_flaky() {
    // The status of each attempt and the digit of its kernel, the decisive one first; `-`: not recorded.
    for (attempts, expected) in [
        ("f1", Status::Failed),
        ("f1 f1 f1", Status::Failed),
        ("f1 p1", Status::Flaky),
        ("f1 f1 p1", Status::Flaky),
        ("f1 p2", Status::Failed),
        ("f1 p2 f2", Status::Flaky),
        ("f1 p-", Status::Flaky),
        ("f- p-", Status::Flaky),
        ("p1 f1", Status::Passed),
        ("n1 p1 f1", Status::NotRun),
        ("f1 n1 r1", Status::Failed),
    ] {
        let mut numbered = attempts.split(' ').zip(1..).map(|(attempt, number)| {
            let status = match &attempt[..1] {
                "p" => Status::Passed,
                "f" => Status::Failed,
                "n" => Status::NotRun,
                _ => Status::FailedToRun,
            };
            let kernel = Some(&attempt[1..]).filter(|kernel| *kernel != "-");
            let kernel = kernel.map(|digit| digit.repeat(64).parse().unwrap());
            results::Attempt { number, kernel, ..results::Attempt::new(status) }
        });
        let decisive = numbered.next().unwrap();
        let entry = TestEntry { key: key("f.x"), decisive, others: numbered.collect() };
        assert_eq!(entry.status(), expected, "{attempts}");
        let found = belief::FlakyTest::find(&entry.observations(&commit(1)));
        assert_eq!(found.is_some(), entry.is_flaky(), "{attempts}");
    }
}
