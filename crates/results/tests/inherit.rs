//! Commits with the same source tree, and attempts that a commit inherits.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use model::{CommitId, Conditions, TrustDomain, Verdict};
use results::notes::Note;
use results::retention::Policy;
use results::{CommitDetails, Reader, VerdictRecord, Writer};

fn commit(digit: char) -> CommitId {
    String::from(digit).repeat(40).parse().unwrap()
}

fn domain() -> TrustDomain {
    "user/kmo".parse().unwrap()
}

fn record(of: &CommitId, key: &str, ran_at: Option<&CommitId>) -> VerdictRecord {
    let verdict = Verdict::Failed { reason: "lost".into() };
    let conditions = Conditions {
        suite: Some(format!("xfstests {}", "5".repeat(40)).parse().unwrap()),
        experiment: Some("e".repeat(16).parse().unwrap()),
        load: Some(150),
        alone: Some(true),
    };
    VerdictRecord {
        host: Some("farm1".parse().unwrap()),
        conditions,
        ran_at: ran_at.cloned(),
        domain: Some(domain()),
        ..VerdictRecord::new(of.clone(), key.parse().unwrap(), verdict, Duration::from_secs(2))
    }
}

/// Lists commits with their trees, newest first.
async fn list(writer: &Writer, commits: &[(char, &str)]) {
    let listing = commits.iter().map(|(id, _)| (commit(*id), format!("commit {id}"))).collect();
    writer.set_branch(&"kmo/next".parse().unwrap(), listing).await.unwrap();
    let details = commits
        .iter()
        .map(|(id, tree)| (commit(*id), CommitDetails { tree: (*tree).into(), author: "A".into(), date: 1 }));
    writer.set_details(details.collect()).await.unwrap();
}

async fn remove_old(dir: &Path) -> Vec<CommitId> {
    let writer = Writer::open(dir).unwrap();
    let plan = writer.plan_retention(Policy { commits: 1, rest: Duration::ZERO }).unwrap();
    let removed = plan.remove.iter().map(|removal| removal.commit.clone()).collect();
    writer.apply(plan).await.unwrap();
    writer.close().await.unwrap();
    removed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_heir_keeps_the_results_of_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (commit('a'), commit('b'), commit('c'));
    let branch = "kmo/next".parse().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    list(&writer, &[('a', "tree 1"), ('c', "tree 2")]).await;
    for commit in [&a, &c] {
        writer.record(record(commit, "t.x", None)).await.unwrap();
    }
    list(&writer, &[('b', "tree 1"), ('d', "tree 3")]).await;
    assert_eq!(writer.reader().twins(&branch, &domain()), [(b.clone(), a.clone())]);
    writer.record(record(&b, "t.x", Some(&a))).await.unwrap();
    assert_eq!(writer.reader().twins(&branch, &domain()), [], "it has results now");
    writer.close().await.unwrap();

    // From the database and from the published file.
    let reader = Reader::open(dir.path()).unwrap();
    let key = "t.x".parse().unwrap();
    let published = reader.commit(&b).unwrap().unwrap().get(&key).unwrap().clone();
    assert_eq!(published.decisive.ran_at, Some(a.clone()));
    assert_eq!(published.decisive.conditions, record(&a, "t.x", None).conditions);
    assert_eq!(reader.entry(&b, &key).unwrap(), Some(published.clone()));
    let history = reader.history(&branch, &key).unwrap().unwrap();
    assert_eq!(history[0].entry, Some(published));
    let durations = reader.durations().unwrap();
    assert_eq!(durations[0].nr, 2, "the run of an heir does not count again");
    let mut recent = Vec::new();
    reader.recent_runs(20, &mut |_, runs| recent.push(runs.len()));
    assert_eq!(recent, [2]);

    assert_eq!(remove_old(dir.path()).await, [c]);
    let writer = Writer::open(dir.path()).unwrap();
    list(&writer, &[('e', "tree 4")]).await;
    writer.close().await.unwrap();
    assert_eq!(remove_old(dir.path()).await, [a, b]);
}

/// Version 9 had the names of experiments in a table of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_experiments_of_version_9_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let a = commit('a');
    let writer = Writer::open(dir.path()).unwrap();
    list(&writer, &[('a', "tree")]).await;
    writer.record(record(&a, "t.x", None)).await.unwrap();
    writer.close().await.unwrap();
    let database = rusqlite::Connection::open(dir.path().join("results.db")).unwrap();
    let name = format!("f123456789abcdef{}", "0".repeat(48));
    database
        .execute_batch(&format!(
            "DROP VIEW verdict; DROP TABLE experiment; DROP TABLE code; DROP TABLE same_code; DROP TABLE patch; DROP TABLE finding_state; DROP TABLE sent; DROP TABLE finding; DROP TABLE sender; DROP TABLE finding_mark;
             CREATE TABLE experiment (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
             INSERT INTO experiment VALUES (7, '{name}');
             UPDATE attempt SET experiment = 7; UPDATE history SET experiment = 7;
             CREATE INDEX attempt_by_experiment ON attempt (experiment, test)
                WHERE experiment IS NOT NULL AND ran_at IS NULL AND decisive = 1;
             ALTER TABLE attempt DROP COLUMN alone; ALTER TABLE history DROP COLUMN alone;
             PRAGMA user_version = 9;"
        ))
        .unwrap();
    drop(database);
    let writer = Writer::open(dir.path()).unwrap();
    let (key, experiment) = ("t.x".parse().unwrap(), "f123456789abcdef".parse().unwrap());
    let (source, entry) = writer.reader().same_experiment(&commit('b'), &key, experiment).unwrap();
    assert_eq!((source, entry.decisive.conditions.experiment), (a, Some(experiment)));
    assert_eq!(entry.decisive.conditions.alone, None);
    let view = "SELECT experiment FROM verdict";
    let database = rusqlite::Connection::open(dir.path().join("results.db")).unwrap();
    let shown: String = database.query_row(view, [], |row| row.get(0)).unwrap();
    assert_eq!(shown, experiment.to_string());
    writer.close().await.unwrap();
}

/// Another domain could have built another kernel from the same tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_another_domain_are_not_inherited() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (commit('a'), commit('b'));
    let branch = "kmo/next".parse().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    list(&writer, &[('a', "tree"), ('b', "tree")]).await;
    let twins = |domain: &str| writer.reader().twins(&branch, &domain.parse().unwrap());
    let of_domain = |key: &str, domain: Option<&str>| VerdictRecord {
        domain: domain.map(|domain| domain.parse().unwrap()),
        ..record(&a, key, None)
    };
    writer.record(of_domain("t.x", None)).await.unwrap();
    assert_eq!(twins("user/kmo"), [], "an unknown domain");
    writer.record(of_domain("t.y", Some("base"))).await.unwrap();
    assert_eq!(
        (twins("user/kmo"), twins("user/eve")),
        (vec![(b.clone(), a.clone())], vec![(b.clone(), a.clone())])
    );
    writer.record(of_domain("t.z", Some("user/kmo"))).await.unwrap();
    assert_eq!((twins("user/kmo"), twins("user/eve")), (vec![(b, a.clone())], vec![]));
    writer.record(of_domain("t.z", Some("user/eve"))).await.unwrap();
    assert_eq!((twins("user/kmo"), twins("user/eve")), (vec![], vec![]));
}

/// A verdict counts as soon as it is recorded, also if the published file still has the test in progress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_is_inherited_before_it_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (commit('a'), commit('b'));
    let (key, experiment) = ("t.x".parse().unwrap(), "e".repeat(16).parse().unwrap());
    let writer = Writer::open(dir.path()).unwrap();
    list(&writer, &[('b', "tree 2"), ('a', "tree 1")]).await;
    for number in 0..3 {
        let key: model::ResultKey = format!("t.x{number}").parse().unwrap();
        writer.in_progress(&a, vec![key.clone()], 1, None, None).unwrap();
        let is_published = || writer.reader().entry(&a, &key).unwrap().is_some();
        while !is_published() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        writer.record(record(&a, key.as_str(), None)).await.unwrap();
        let (source, entry) = writer.reader().same_experiment(&b, &key, experiment).unwrap();
        assert_eq!((source, entry.decisive.status), (a.clone(), model::Status::Failed), "{number}");
    }
    assert_eq!(writer.reader().same_experiment(&b, &key, experiment), None);
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_wait_while_they_have_no_verdict_and_their_source_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (commit('a'), commit('b'));
    let (x, y) = ("t.x".parse().unwrap(), "t.y".parse().unwrap());
    let [first, other, code]: [model::ExperimentKey; 3] =
        ["e", "f", "c"].map(|digit| digit.repeat(16).parse().unwrap());
    let writer = Writer::open(dir.path()).unwrap();
    list(&writer, &[('b', "tree 2"), ('a', "tree 1")]).await;
    for (experiment, code) in [(first, code), (other, code), (first, other)] {
        writer.note(Note::Code { experiment, code }).unwrap();
    }
    writer.record(record(&a, "t.x", None)).await.unwrap();
    let reader = writer.reader();
    assert_eq!(reader.same_code(&b, &x, code), Some(a.clone()), "the first code of an experiment stands");
    assert_eq!(reader.same_code(&a, &x, code), None, "of other commits");
    assert_eq!((reader.same_code(&b, &y, code), reader.same_code(&b, &x, other)), (None, None));

    let tests = vec![(x.clone(), a.clone()), (y.clone(), a.clone())];
    writer.note(Note::SameCode { commit: b.clone(), tests }).unwrap();
    writer.record(record(&a, "t.z", None)).await.unwrap();
    assert_eq!(reader.waiting_tests(&b), [(x.clone(), a.clone())], "y has no verdict there");
    writer.record(record(&b, "t.x", None)).await.unwrap();
    assert_eq!(reader.waiting_tests(&b), [], "it has a verdict");
    writer.close().await.unwrap();

    let rows = |table: &str| -> i64 {
        let connection = rusqlite::Connection::open(dir.path().join("results.db")).unwrap();
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((rows("code"), rows("same_code")), (2, 2));
    let writer = Writer::open(dir.path()).unwrap();
    list(&writer, &[('d', "tree 3")]).await;
    writer.close().await.unwrap();
    assert_eq!(remove_old(dir.path()).await.len(), 2);
    assert_eq!((rows("code"), rows("same_code")), (1, 0), "an experiment that never ran stays");
}
