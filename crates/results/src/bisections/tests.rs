use belief::Tally;

use super::*;

fn commit(at: usize) -> String {
    format!("{at:040x}")
}

fn valid() -> serde_json::Value {
    let rate = serde_json::to_value(Tally::new(1, 2).rate()).unwrap();
    serde_json::json!({
        "id": "x", "test": "fs.a.x", "signature": "lost",
        "base": commit(0), "head": commit(2), "state": "running",
        "posterior": [], "no_culprit": 0.1, "rates": {"old": rate, "new": rate},
        "steps": [{"commit": commit(1), "runs": 2, "fails": 1, "other": 0, "passes": 1, "why": "known"}],
        "runs": 0, "builds": 0, "wall_s": 1.5,
        "branch": {"user": "u", "branch": "b"}, "begun": 5, "commits": [commit(0), commit(1), commit(2)],
        "earlier": {"failures": 0, "passes": 3}, "run_s": 30.0, "builds_kernel": true,
        "counted": {commit(1): 2}, "pending": [{"commit": commit(2), "why": {"verification": "parent"}}],
    })
}

#[test]
fn a_record_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    assert!(list(dir.path()).records.is_empty() && list(dir.path()).problems.is_empty());
    let record: BisectionRecord = serde_json::from_value(valid()).unwrap();
    write(dir.path(), "x", &text(&record)).unwrap();
    assert_eq!(read(dir.path(), "x"), Ok(Some(record.clone())));
    assert_eq!(read(dir.path(), "y"), Ok(None));
    assert_eq!(read(dir.path(), "../bisect/x"), Ok(None));
    let mut newer = record.clone();
    (newer.record.id, newer.begun) = ("y".into(), 9);
    write(dir.path(), "y", &text(&newer)).unwrap();
    assert_eq!(list(dir.path()).records, [newer, record.clone()]);
    let test = &record.record.test;
    let mut named = record.clone();
    named.record.id = id(test, &record.record.base, &record.record.head);
    write(dir.path(), &named.record.id, &text(&named)).unwrap();
    assert_eq!(of_test(dir.path(), test), [named]);
    assert_eq!(of_test(dir.path(), &"fs.a.y".parse().unwrap()), []);
}

#[test]
fn each_hundredth_first_bad_commit_is_verified_again_a_day_later() {
    const DAY: i64 = 24 * 3600;
    let culprit = |at: usize| {
        let mut record: BisectionRecord = serde_json::from_value(valid()).unwrap();
        (record.record.id, record.begun) = (format!("b{at}"), at as i64);
        let [culprit, parent] = [2, 1].map(|at| commit(at).parse().unwrap());
        record.record.state = State::Culprit { culprit, parent, second_parent: None };
        record
    };
    let mut records: Vec<BisectionRecord> = (0..214).rev().map(culprit).collect();
    let due = |records: &[BisectionRecord], now: i64| {
        let (named, due) = rechecks(records, now);
        (named.to_string(), due.iter().map(|record| record.record.id.clone()).collect::<Vec<_>>())
    };
    assert_eq!(due(&records, 150), ("of 214 named, 214 held".into(), vec![]));
    assert_eq!(due(&records, DAY + 150).1, ["b0", "b100"]);
    let again = |of: usize, state: State| {
        let mut record = culprit(of);
        (record.rechecks, record.record.id) = (Some(record.record.id.clone()), recheck_id(&record.record.id));
        record.record.state = state;
        record
    };
    records.push(again(0, State::NotConfirmed { rate: Tally::new(1, 9).rate() }));
    records.push(again(100, records[0].record.state.clone()));
    assert_eq!(due(&records, 10 * DAY), ("of 214 named, 213 held".into(), vec!["b200".into()]));
    assert!(is_id(&recheck_id(&"x".repeat(90))));
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_named(dir.path()), None);
    write(dir.path(), "x", "{}").unwrap();
    let (named, _) = rechecks(&records, 0);
    write_named(dir.path(), &named).unwrap();
    assert_eq!(read_named(dir.path()), Some(named));
}

#[test]
fn ids_are_file_names_and_differ_by_test() {
    let ids = ["fs.a.x", "fs.a.y"].map(|test| {
        let id = id(&test.parse().unwrap(), &commit(1).parse().unwrap(), &commit(2).parse().unwrap());
        assert!(is_id(&id), "{id}");
        id
    });
    assert_ne!(ids[0], ids[1]);
    for bad in ["", ".", "..", "a/b", "a\0", "a b", "ä", &"x".repeat(101)] {
        assert!(!is_id(bad), "{bad:?}");
    }
}

#[test]
fn hostile_records_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(DIRECTORY)).unwrap();
    let put = |name: &str, text: &[u8]| std::fs::write(dir.path().join(DIRECTORY).join(name), text).unwrap();
    put("x.json", serde_json::to_string(&valid()).unwrap().as_bytes());
    let mut outer = valid();
    outer["outer"] = serde_json::json!([valid()]);
    let edits: [(&str, serde_json::Value); 15] = [
        ("/id", "other".into()),
        ("/base", commit(1).into()),
        ("/head", "not a commit".into()),
        ("/commits/1", commit(0).into()),
        ("/commits", serde_json::json!([])),
        ("/steps/0/commit", commit(7).into()),
        ("/steps/0/fails", 9.into()),
        ("/steps/0/runs", 4_000_000_000_u32.into()),
        ("/steps/0/runs", (-1).into()),
        ("/pending/0/commit", commit(7).into()),
        ("/run_s", (-1.0).into()),
        ("/outer", serde_json::json!([outer])),
        ("/outer", vec![valid(); OUTER_MAX + 1].into()),
        ("/outer", "x".into()),
        ("/state", "winning".into()),
    ];
    for (at, (path, value)) in edits.iter().enumerate() {
        let mut record = valid();
        record["id"] = format!("bad{at}").into();
        record["outer"] = serde_json::json!([]);
        *record.pointer_mut(path).unwrap() = value.clone();
        put(&format!("bad{at}.json"), serde_json::to_string(&record).unwrap().as_bytes());
    }
    put("half.json", &serde_json::to_vec(&valid()).unwrap()[..200]);
    put("bytes.json", b"\xff\xfe\0");
    put("deep.json", "[".repeat(100_000).as_bytes());
    put("notes.txt", b"no record");
    std::fs::create_dir(dir.path().join(DIRECTORY).join("dir.json")).unwrap();
    let found = list(dir.path());
    assert_eq!(found.records.len(), 1, "{:?}", found.records);
    assert_eq!(found.problems.len(), edits.len() + 4, "{:#?}", found.problems);
    assert!(found.problems.iter().all(|problem| !problem.contains('\n') && problem.len() < 400));
}

#[test]
fn a_running_bisection_needs_the_results_of_its_commits() {
    let dir = tempfile::tempdir().unwrap();
    let mut record: BisectionRecord = serde_json::from_value(valid()).unwrap();
    let revert: CommitId = commit(9).parse().unwrap();
    record.record.revert = Some(belief::bisect::Revert {
        culprit: record.record.head.clone(),
        tip: record.record.head.clone(),
        commit: revert.clone(),
    });
    record.pending.push(PendingRun { commit: revert.clone(), why: Why::Verification(Arm::Revert) });
    write(dir.path(), "x", &text(&record)).unwrap();
    let all: HashSet<CommitId> = (0..3).map(|at| commit(at).parse().unwrap()).chain([revert]).collect();
    assert_eq!(needed_commits(dir.path()), all);
    record.record.state = State::Cancelled;
    write(dir.path(), "x", &text(&record)).unwrap();
    assert_eq!(needed_commits(dir.path()), HashSet::new());
}
