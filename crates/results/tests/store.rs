//! The public interface of the store: one writer, concurrent readers, and the files after the writer was closed.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use model::{CommitId, Counts, ResultKey, Status, StatusSnapshot, Verdict};
use results::{Error, LogKind, PlainFile, Reader, Resolved, VerdictRecord, Writer};

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn key(name: &str) -> ResultKey {
    name.parse().unwrap()
}

fn record(commit: &CommitId, name: &str, verdict: Verdict) -> VerdictRecord {
    let mut record = VerdictRecord::new(commit.clone(), key(name), verdict, Duration::from_millis(1500));
    record.started = Some(1_700_000_000);
    record.host = Some("farm1".parse().unwrap());
    record.slot = Some(0);
    record.kernel = Some("a".repeat(64).parse().unwrap());
    record.image_hash = Some("b".repeat(64));
    record
}

fn failed(reason: &str) -> Verdict {
    Verdict::Failed { reason: reason.into() }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_results_are_published_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let (a, b) = (commit('a'), commit('b'));
    writer
        .set_branch(
            &"kmo/next/ext4".parse().unwrap(),
            vec![(b.clone(), "two\n\nbody".into()), (a.clone(), "one".into())],
        )
        .await
        .unwrap();
    writer.in_progress(&a, vec![key("f.x"), key("f.y")], 1_700_000_000, None, None).unwrap();
    let outcome = writer.record(record(&a, "f.x", Verdict::Passed)).await.unwrap();
    assert_eq!((outcome.attempt, outcome.decisive), (1, true));
    writer.record(record(&a, "f.z", Verdict::NotRun { reason: "no xfs".into() })).await.unwrap();
    let outcome = writer.record(record(&a, "f.x", failed("flaky"))).await.unwrap();
    assert_eq!((outcome.attempt, outcome.decisive), (2, false));
    writer.flush().await.unwrap();

    let reader = Reader::open(dir.path()).unwrap();
    let results = reader.commit(&a).unwrap().unwrap();
    assert_eq!(results.message, "one");
    let statuses: Vec<_> =
        results.entries.iter().map(|entry| (entry.key.as_str(), entry.decisive.status)).collect();
    assert_eq!(statuses, [("f.x", Status::Passed), ("f.y", Status::InProgress), ("f.z", Status::NotRun)]);
    let x = results.get(&key("f.x")).unwrap();
    assert_eq!((x.attempts(), x.decisive.number, x.others[0].status), (2, 1, Status::Failed));
    assert_eq!((x.decisive.duration, x.decisive.slot), (Duration::from_millis(1500), Some(0)));
    assert_eq!(x.decisive.host.as_ref().unwrap().as_str(), "farm1");
    assert_eq!(results.get(&key("f.z")).unwrap().decisive.reason.as_deref(), Some("no xfs"));

    let branch = reader.branch(&"kmo/next/ext4".parse().unwrap()).unwrap().unwrap();
    assert_eq!((branch[0].commit.clone(), branch[0].subject()), (b, "two"));
    assert_eq!(branch[1].counts, Counts { passed: 1, notrun: 1, inprogress: 1, ..Counts::default() });
    assert_eq!(branch[1].duration, Duration::from_millis(3000));
    assert_eq!(reader.users().unwrap().get("kmo").unwrap()[0].as_str(), "next/ext4");
    assert_eq!(reader.branch(&"kmo/other".parse().unwrap()).unwrap(), None);

    let directory = dir.path().join(a.as_str());
    assert_eq!(text(&directory.join("f.x/status")), "========= PASSED f.x in 1s\n");
    assert_eq!(text(&directory.join("f.x/duration")), "1\n");
    assert_eq!(text(&directory.join("f.y/status")), "IN PROGRESS\n");
    let durations = reader.durations().unwrap();
    assert_eq!((durations.len(), durations[0].nr, durations[0].passed, durations[0].failed), (1, 2, 1, 1));
    assert!(writer.problems().is_empty());
}

#[tokio::test]
async fn a_second_writer_gets_the_process_id_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let error = Writer::open(dir.path()).unwrap_err();
    assert!(matches!(&error, Error::Locked { pid: Some(pid), .. } if *pid == std::process::id()), "{error}");
    assert!(error.to_string().contains("another ci-daemon is writing here (process "), "{error}");
    drop(writer);
    Writer::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_verdict_is_published_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let a = commit('a');
    writer.record(record(&a, "f.x", Verdict::Passed)).await.unwrap();
    let recorded = Instant::now();
    while writer.reader().entry(&a, &key("f.x")).unwrap().is_none() {
        assert!(recorded.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn stale_in_progress_is_cleared_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let a = commit('a');
    {
        let writer = Writer::open(dir.path()).unwrap();
        writer.set_branch(&"u/b".parse().unwrap(), vec![(a.clone(), "one".into())]).await.unwrap();
        writer.record(record(&a, "f.x", Verdict::Passed)).await.unwrap();
        writer.in_progress(&a, vec![key("f.y")], 5, None, None).unwrap();
        writer.live_log(&a, &key("f.y"), LogKind::Subtest).unwrap();
    }
    let writer = Writer::open(dir.path()).unwrap();
    assert!(writer.reader().log(&a, &key("f.y"), LogKind::Subtest).unwrap().is_some());
    assert_eq!(writer.reader().commit(&a).unwrap().unwrap().counts().inprogress, 1);
    assert_eq!(writer.clear_stale_in_progress().await.unwrap(), 1);
    writer.flush().await.unwrap();
    assert_eq!(writer.reader().commit(&a).unwrap().unwrap().counts().total(), 1);
    assert_eq!(writer.reader().branch(&"u/b".parse().unwrap()).unwrap().unwrap()[0].counts.inprogress, 0);
    assert!(!dir.path().join(a.as_str()).join("f.y/status").exists());
    assert!(writer.reader().log(&a, &key("f.y"), LogKind::Subtest).unwrap().is_none());
    assert_eq!(writer.clear_stale_in_progress().await.unwrap(), 0);
}

#[tokio::test]
async fn a_commit_whose_only_test_stops_has_no_running_test() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let running = |commit: &CommitId| {
        writer.reader().commit(commit).unwrap().map_or(0, |results| results.counts().inprogress)
    };
    for a in [commit('a'), commit('b')] {
        writer.in_progress(&a, vec![key("f.y")], 5, None, None).unwrap();
        writer.flush().await.unwrap();
        assert_eq!(running(&a), 1);
        match a.as_str().starts_with('a') {
            true => writer.not_in_progress(&a, vec![key("f.y")]).unwrap(),
            false => assert_eq!(writer.clear_stale_in_progress().await.unwrap(), 1),
        }
        writer.flush().await.unwrap();
        assert_eq!(running(&a), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdict_sets_follow_blobs_and_records() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (commit('a'), commit('b'));
    {
        let writer = Writer::open(dir.path()).unwrap();
        for commit in [&a, &b] {
            writer.record(record(commit, "f.x", Verdict::Passed)).await.unwrap();
        }
        writer.in_progress(&a, vec![key("f.y")], 5, None, None).unwrap();
    }
    let writer = Writer::open(dir.path()).unwrap();
    let (x, y) = (writer.key_id(&key("f.x")), writer.key_id(&key("f.y")));
    let before = writer.verdicts(&a).unwrap();
    assert!(before.contains(x) && !before.contains(y));
    writer.record(record(&a, "f.y", failed("x"))).await.unwrap();
    let after = writer.verdicts(&a).unwrap();
    assert!(after.contains(y) && after.changes() != before.changes());
    assert!(writer.has_verdict(&b, &key("f.x")).unwrap());
    assert!(!writer.has_verdict(&b, &key("f.y")).unwrap());
    assert!(writer.verdicts(&commit('c')).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_and_finished_logs_and_those_of_other_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let a = commit('a');
    let (x, y) = (key("f.x"), key("f.y"));
    let read = |attempt: Option<u32>, key: &ResultKey, kind| {
        let reader = writer.reader();
        let log = match attempt {
            None => reader.log(&a, key, kind),
            Some(number) => {
                let entry = reader.commit(&a).unwrap().unwrap().get(key).unwrap().clone();
                reader.attempt_log(&a, &entry, number, kind)
            }
        };
        log.unwrap().map(|log| String::from_utf8(log.read(1 << 20).unwrap().0).unwrap())
    };
    let mut live = writer.live_log(&a, &x, LogKind::Subtest).unwrap();
    std::io::Write::write_all(&mut live, b"00001 hello\n").unwrap();
    let log = writer.reader().log(&a, &x, LogKind::Subtest).unwrap().unwrap();
    assert!(log.is_live());
    assert_eq!(log.read_live(6, 100).unwrap(), b"hello\n");

    let plain = dir.path().join("plain");
    std::fs::write(&plain, "first\n").unwrap();
    writer.record(record(&a, "f.x", Verdict::FailedToRun { reason: "no VM".into() })).await.unwrap();
    writer.publish_log(&a, &x, 1, LogKind::Subtest, PlainFile::open(&plain).unwrap()).await.unwrap();
    assert_eq!(read(None, &x, LogKind::Subtest).as_deref(), Some("first\n"));
    assert!(!dir.path().join(a.as_str()).join("f.x/log").exists());

    // An attempt that ran replaces one that failed to run, and its log replaces the other log.
    for (number, verdict) in [(2, Verdict::Passed), (3, failed("x"))] {
        let recorded = writer.record(record(&a, "f.x", verdict)).await.unwrap();
        assert_eq!(recorded.attempt, number);
        std::fs::write(&plain, format!("attempt {number}\n")).unwrap();
        writer.publish_log(&a, &x, number, LogKind::Subtest, PlainFile::open(&plain).unwrap()).await.unwrap();
    }
    writer.record(record(&a, "f.y", Verdict::Passed)).await.unwrap();
    writer
        .publish_logs(&a, &[(x.clone(), 2), (y.clone(), 1)], LogKind::Full, PlainFile::open(&plain).unwrap())
        .await
        .unwrap();
    writer.flush().await.unwrap();
    assert_eq!(read(None, &x, LogKind::Subtest).as_deref(), Some("attempt 2\n"));
    assert_eq!(read(Some(1), &x, LogKind::Subtest).as_deref(), Some("first\n"));
    assert_eq!(read(Some(2), &x, LogKind::Subtest).as_deref(), Some("attempt 2\n"));
    assert_eq!(read(Some(3), &x, LogKind::Subtest).as_deref(), Some("attempt 3\n"));
    assert_eq!(read(None, &y, LogKind::Full).as_deref(), Some("attempt 3\n"));
    assert_eq!(read(None, &y, LogKind::Subtest), None);
    let entry = writer.reader().entry(&a, &x).unwrap().unwrap();
    assert_eq!((entry.decisive.log_bytes, entry.decisive.full_log_bytes), (10, 10));
    assert!(PlainFile::open(Path::new("/nowhere")).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_of_one_vm_share_one_stream() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let plain = dir.path().join("plain");
    let keys = [key("f.x"), key("f.y")];
    for words in ["CONFIG_A=y\n", "CONFIG_A=n\n"] {
        std::fs::write(&plain, words).unwrap();
        writer
            .publish_artifact(
                &commit('a'),
                &keys,
                "kernel.config".parse().unwrap(),
                PlainFile::open(&plain).unwrap(),
            )
            .await
            .unwrap();
        for key in &keys {
            let found = writer.reader().open_artifact(&commit('a'), key, "kernel.config").unwrap().unwrap();
            assert_eq!(found.read(100).unwrap(), (words.as_bytes().to_vec(), true));
            let rows = writer.reader().artifacts(&commit('a'), key).unwrap();
            assert_eq!((rows.len(), rows[0].name.as_str()), (1, "kernel.config.br"));
            let bytes = writer.reader().artifact(&commit('a'), key, "kernel.config.br").unwrap();
            let mut read = Vec::new();
            brotli::BrotliDecompress(&mut bytes.as_slice(), &mut read).unwrap();
            assert_eq!((read.as_slice(), bytes.len() as u64), (words.as_bytes(), rows[0].bytes));
        }
    }
    let pack = dir.path().join(".packs").join(format!("{}.1.pack", commit('a')));
    let x = writer.reader().packed(&commit('a'), &keys[0], "kernel.config.br").unwrap();
    assert_eq!(Some(&x), writer.reader().packed(&commit('a'), &keys[1], "kernel.config.br").as_ref());
    let bytes = std::fs::read(pack).unwrap();
    let headers = bytes.windows(8).filter(|window| window == b"{\"file\":").count();
    assert_eq!(headers, 2, "one stream for each kernel.config");
}

#[tokio::test]
async fn a_link_out_of_the_results_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join(commit('a').as_str()).join("f.x");
    std::fs::create_dir_all(&directory).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.join("full_log.br")).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    assert!(matches!(reader.log(&commit('a'), &key("f.x"), LogKind::Full), Err(Error::Damaged { .. })));
}

#[tokio::test]
async fn a_torn_blob_is_restored_from_the_database_or_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let a = commit('a');
    {
        let writer = Writer::open(dir.path()).unwrap();
        writer.set_branch(&"u/b".parse().unwrap(), vec![(a.clone(), "one".into())]).await.unwrap();
        writer.record(record(&a, "f.x", Verdict::Passed)).await.unwrap();
        writer.record(record(&a, "f.y", Verdict::NotRun { reason: "no xfs".into() })).await.unwrap();
    }
    let blob = dir.path().join(format!("{a}.capnp"));
    let bytes = std::fs::read(&blob).unwrap();
    std::fs::write(&blob, &bytes[..bytes.len() / 2]).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let results = reader.commit(&a).unwrap().unwrap();
    assert_eq!(results.counts(), Counts { passed: 1, notrun: 1, ..Counts::default() });
    assert_eq!(results.get(&key("f.y")).unwrap().decisive.reason.as_deref(), Some("no xfs"));
    let writer = Writer::open(dir.path()).unwrap();
    assert!(writer.has_verdict(&a, &key("f.x")).unwrap());
    writer.record(record(&a, "f.z", failed("x"))).await.unwrap();
    writer.flush().await.unwrap();
    let results = reader.commit(&a).unwrap().unwrap();
    assert_eq!(results.entries.len(), 3);
    assert_eq!(results.get(&key("f.x")).unwrap().decisive.host.as_ref().unwrap().as_str(), "farm1");
    writer.close().await.unwrap();

    // Without the database, the blob is used, or else the directory.
    std::fs::remove_file(dir.path().join("results.db")).unwrap();
    std::fs::write(&blob, &bytes[..bytes.len() / 2]).unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    assert_eq!(writer.opened().imported.tests, 3);
    writer.record(record(&a, "f.v", failed("x"))).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(reader.commit(&a).unwrap().unwrap().entries.len(), 4);
    assert!(dir.path().join(".store").join(format!("damaged.{a}.capnp")).exists());
}

#[tokio::test]
async fn history_and_filter() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let commits: Vec<CommitId> = "dcba".chars().map(commit).collect();
    let listing =
        commits.iter().map(|commit| (commit.clone(), format!("subject {}", commit.short()))).collect();
    writer.set_branch(&"u/b".parse().unwrap(), listing).await.unwrap();
    writer.record(record(&commits[0], "f.x", failed("broken"))).await.unwrap();
    writer.record(record(&commits[2], "f.x", Verdict::Passed)).await.unwrap();
    writer.record(record(&commits[2], "f.w", Verdict::Passed)).await.unwrap();
    writer.record(record(&commits[3], "f.x", Verdict::Passed)).await.unwrap();
    writer.record(record(&commits[3], "f.x", failed("flaky"))).await.unwrap();
    writer.flush().await.unwrap();
    let reader = writer.reader();
    let history = reader.history(&"u/b".parse().unwrap(), &key("f.x")).unwrap().unwrap();
    let statuses: Vec<_> =
        history.iter().map(|row| row.entry.as_ref().map(|entry| entry.decisive.status)).collect();
    assert_eq!(statuses, [Some(Status::Failed), None, Some(Status::Passed), Some(Status::Passed)]);
    // A peeked entry equals the decoded one.
    for row in history.iter().filter(|row| row.entry.is_some()) {
        let whole = reader.commit(&row.commit).unwrap().unwrap();
        assert_eq!(row.entry.as_ref(), whole.get(&key("f.x")));
    }
    let statuses = reader.statuses(&commits[2]).unwrap().unwrap();
    assert_eq!(statuses.statuses, [Status::Passed, Status::Passed]);
    assert_ne!(statuses.keys_hash, reader.statuses(&commits[3]).unwrap().unwrap().keys_hash);
    assert_eq!(reader.statuses(&commits[1]).unwrap(), None);
    let only = reader.branch_filtered(&"u/b".parse().unwrap(), |key| key.as_str() == "f.w").unwrap().unwrap();
    let passed: Vec<u32> = only.iter().map(|entry| entry.counts.total()).collect();
    assert_eq!(passed, [0, 0, 1, 0]);
    let all = reader.branch_filtered(&"u/b".parse().unwrap(), |_| true).unwrap().unwrap();
    assert_eq!(all, reader.branch(&"u/b".parse().unwrap()).unwrap().unwrap());

    assert_eq!(reader.resolve_prefix("AAAA").unwrap(), Resolved::One(commit('a')));
    assert_eq!(reader.resolve_prefix("cccc").unwrap(), Resolved::One(commit('c')), "listed, without results");
    assert_eq!(reader.resolve_prefix("aaab").unwrap(), Resolved::None);
    assert_eq!(reader.resolve_prefix("aaa").unwrap(), Resolved::None);
}

#[tokio::test]
async fn the_snapshot_is_replaced_atomically() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    assert_eq!(writer.reader().snapshot().unwrap(), None);
    let snapshot = StatusSnapshot { pid: 7, ..StatusSnapshot::default() };
    writer.write_snapshot(&snapshot).unwrap();
    assert_eq!(writer.reader().snapshot().unwrap(), Some(snapshot));
    std::fs::write(dir.path().join("ci-daemon-status.json"), "{").unwrap();
    assert!(writer.reader().snapshot().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_removes_commits_that_no_branch_lists() {
    use results::retention::Policy;
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    for digit in "abc".chars() {
        writer.record(record(&commit(digit), "f.x", Verdict::Passed)).await.unwrap();
    }
    writer.flush().await.unwrap();
    let policy = Policy { commits: 1, rest: Duration::ZERO };
    assert!(writer.plan_retention(policy).unwrap().remove.is_empty(), "without a listing nothing is removed");
    writer
        .set_branch(&"u/b".parse().unwrap(), vec![(commit('c'), "c".into()), (commit('b'), "b".into())])
        .await
        .unwrap();
    assert!(writer.plan_retention(Policy { commits: 1, ..Policy::default() }).unwrap().remove.is_empty());
    let plan = writer.plan_retention(policy).unwrap();
    let gone: Vec<_> = plan.remove.iter().map(|removal| removal.commit.clone()).collect();
    assert_eq!((gone, plan.keep), (vec![commit('a'), commit('b')], 1));
    writer.apply(plan).await.unwrap();
    assert_eq!(writer.reader().commits().unwrap(), [commit('c')]);
    assert!(writer.verdicts(&commit('a')).unwrap().is_empty());

    // An unreadable listing may contain any commit.
    std::fs::write(dir.path().join("branch.u.broken.capnp"), "rubbish").unwrap();
    assert!(writer.plan_retention(policy).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_to_run_before_can_count_as_not_tested() {
    let dir = tempfile::tempdir().unwrap();
    let a = commit('a');
    let broken = || Verdict::FailedToRun { reason: "no VM".into() };
    let writer = Writer::open(dir.path()).unwrap();
    for (name, verdict) in [("f.x", broken()), ("f.y", broken()), ("f.z", failed("r"))] {
        writer.record(record(&a, name, verdict)).await.unwrap();
    }
    writer.close().await.unwrap();
    let tuning = results::Tuning { retry_failed_to_run: true, ..results::Tuning::default() };
    let writer = Writer::open_with(dir.path(), tuning).unwrap();
    let tested = |name| writer.has_verdict(&a, &key(name)).unwrap();
    assert_eq!(["f.x", "f.y", "f.z"].map(tested), [false, false, true]);
    // Once: it runs, or fails to run again.
    writer.record(record(&a, "f.x", Verdict::Passed)).await.unwrap();
    writer.record(record(&a, "f.y", broken())).await.unwrap();
    assert_eq!(["f.x", "f.y", "f.z"].map(tested), [true; 3]);
    writer.close().await.unwrap();
    let results = Reader::open(dir.path()).unwrap().commit(&a).unwrap().unwrap();
    assert_eq!(results.get(&key("f.x")).unwrap().decisive.status, Status::Passed);
}
