//! The durations of the newest runs of every test.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::{CommitId, Verdict};
use results::{Reader, VerdictRecord, Writer};
use rusqlite::Connection;

fn commit(n: u32) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

/// `HOST:SECONDS` of the runs of each test.
fn recent(dir: &Path, most: usize) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    Reader::open(dir).unwrap().recent_runs(most, &mut |key, runs| {
        let runs = runs.iter().map(|run| {
            let host = run.host.as_ref().map_or("-", |host| host.as_str());
            format!("{host}:{}", run.duration.as_secs())
        });
        found.insert(key.to_string(), runs.collect::<Vec<_>>().join(" "));
    });
    found
}

async fn record(writer: &Writer, n: u32, key: &str, verdict: Verdict) {
    let duration = Duration::from_secs(n.into());
    let mut record = VerdictRecord::new(commit(n), key.parse().unwrap(), verdict, duration);
    record.host = Some(format!("h{}", n % 2).parse().unwrap());
    writer.record(record).await.unwrap();
}

#[tokio::test]
async fn the_newest_runs_are_first_and_only_runs_that_ended_count() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(recent(dir.path(), 3), BTreeMap::new(), "no database");
    let writer = Writer::open(dir.path()).unwrap();
    let failed = |reason: &str| Verdict::Failed { reason: reason.into() };
    for n in 1..=5 {
        record(&writer, n, "t.a", if n == 4 { failed("x") } else { Verdict::Passed }).await;
    }
    record(&writer, 6, "t.a", Verdict::NotRun { reason: "no device".into() }).await;
    record(&writer, 6, "t.b", Verdict::FailedToRun { reason: "no VM".into() }).await;
    writer.close().await.unwrap();
    let expected = |runs: &str| BTreeMap::from([("t.a".to_owned(), runs.to_owned())]);
    assert_eq!(recent(dir.path(), 3), expected("h1:5 h0:4 h1:3"));
    assert_eq!(recent(dir.path(), 9), expected("h1:5 h0:4 h1:3 h0:2 h1:1"));
    // The same if the rows of the older commits are in the order of tests, and those of a commit partly are.
    let connection = Connection::open(dir.path().join("results.db")).unwrap();
    for (state, from, to) in [(2, 1, 3), (1, 4, 4)] {
        let commits = format!("sha BETWEEN '{from:040x}' AND '{to:040x}'");
        let copied = format!(
            "INSERT INTO history SELECT test, commit_, n, decisive, status, started, duration_ms, reason, crash, host, slot, kernel,
                image, log_bytes, full_log_bytes, suite, experiment, load, ran_at, alone FROM attempt
                WHERE commit_ IN (SELECT id FROM commit_ WHERE {commits})
                AND NOT EXISTS (SELECT 1 FROM history h WHERE h.test = attempt.test AND h.commit_ = attempt.commit_);
             UPDATE commit_ SET in_history = {state} WHERE {commits};"
        );
        connection.execute_batch(&copied).unwrap();
    }
    drop(connection);
    assert_eq!(recent(dir.path(), 9), expected("h1:5 h0:4 h1:3 h0:2 h1:1"));
    assert_eq!(recent(dir.path(), 2), expected("h1:5 h0:4"));
}
