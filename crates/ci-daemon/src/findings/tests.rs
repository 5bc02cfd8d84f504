use model::{CommitId, Status, Verdict};
use results::VerdictRecord;
use results::findings::FindingQuery;

use super::*;

fn commit(number: usize) -> CommitId {
    format!("{number:040x}").parse().unwrap()
}

fn config(dir: &std::path::Path) -> Arc<Config> {
    let text = format!(
        "linux_repo = {dir:?}\noutput_dir = {dir:?}\nktest_dir = {dir:?}\nuser = \"kmo\"\n\
         [branch.next]\nremote = \"https://example.org/linux.git\"\nref = \"next\"\ntest_groups = [\"g\"]\n\
         [test_group.g]\ntests = [\"a.ktest\"]\n[host.local]\narch = \"x86_64\"\nslots = 1\n"
    );
    let path = dir.join("ci.toml");
    std::fs::write(&path, text).unwrap();
    Arc::new(config::load(&path).unwrap())
}

async fn verdict(writer: &Writer, number: usize, failed: bool) {
    let verdict = if failed { Verdict::Failed { reason: "lost 3 of 8".into() } } else { Verdict::Passed };
    let key = "a.x".parse().unwrap();
    let mut record = VerdictRecord::new(commit(number), key, verdict, Duration::from_secs(1));
    record.host = Some("farm1".parse().unwrap());
    writer.record(record).await.unwrap();
}

fn found(writer: &Writer) -> Vec<String> {
    let query = FindingQuery { most: 99, oldest_first: true, ..FindingQuery::default() };
    let words = |found: results::findings::RecordedFinding| {
        let commit = found.finding.commit.map_or(String::new(), |commit| commit.as_str()[38..].to_owned());
        format!("{} {} {commit}", found.n, found.finding.kind)
    };
    writer.reader().findings(&query).into_iter().map(words).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_are_recorded_once_also_by_the_next_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let writer = Writer::open(dir.path()).unwrap();
    let branch: BranchRef = "kmo/next".parse().unwrap();
    let listing = |tip: usize| (1..=tip).rev().map(|number| (commit(number), String::new())).collect();
    writer.set_branch(&branch, listing(3)).await.unwrap();
    let idle = StatusSnapshot::default();
    let mut recorder = FindingRecorder::default();
    recorder.begin(&writer, &config, &idle, 100).await;
    for (number, failed) in [(1, false), (2, true), (2, true)] {
        verdict(&writer, number, failed).await;
    }
    writer.flush().await.unwrap();
    recorder.end(&writer, &config, &idle, 110).await;
    assert_eq!(found(&writer), ["1 broke 02"]);
    // A new daemon knows it, and finds the fix.
    let mut recorder = FindingRecorder::default();
    recorder.begin(&writer, &config, &idle, 120).await;
    verdict(&writer, 3, false).await;
    writer.flush().await.unwrap();
    for now in 121..125 {
        recorder.end(&writer, &config, &idle, now).await;
    }
    assert_eq!(found(&writer), ["1 broke 02", "2 fixed 03"]);
    let recorded =
        writer.reader().finding(&writer.reader().findings_at(&commit(2))[0].finding.id[..6]).unwrap();
    assert_eq!((recorded.finding.signature.as_str(), recorded.finding.at), ("lost 3 of 8", 110));
    assert_eq!(recorded.finding.rate.map(|rate| (rate.failed, rate.runs)), Some((2, 2)));
    assert_eq!(
        writer.reader().entry(&commit(2), &"a.x".parse().unwrap()).unwrap().unwrap().status(),
        Status::Failed
    );
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_before_the_first_examination_is_no_news() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let writer = Writer::open(dir.path()).unwrap();
    let listing = (1..=2).rev().map(|number| (commit(number), String::new())).collect();
    writer.set_branch(&"kmo/next".parse().unwrap(), listing).await.unwrap();
    for (number, failed) in [(1, false), (2, true), (2, true)] {
        verdict(&writer, number, failed).await;
    }
    writer.flush().await.unwrap();
    let mut recorder = FindingRecorder::default();
    recorder.begin(&writer, &config, &StatusSnapshot::default(), 100).await;
    recorder.end(&writer, &config, &StatusSnapshot::default(), 110).await;
    assert_eq!(found(&writer), Vec::<String>::new());
    writer.close().await.unwrap();
}

#[test]
fn a_problem_of_the_farm_is_a_finding_if_it_stands() {
    let mut state = Examined::default();
    let mut at = |now: i64, problems: &[&str]| {
        let problems: Vec<String> = problems.iter().map(|problem| (*problem).to_owned()).collect();
        let begun = (now > 0).then_some("{\"problems\":[]}");
        let note = of_farm(&mut state, begun, &problems, now);
        let Some(Note::Findings { findings, .. }) = note else { return Vec::new() };
        findings.into_iter().map(|finding| finding.signature).collect::<Vec<_>>()
    };
    assert_eq!(at(0, &["disk full: 3 MiB free"]), Vec::<String>::new());
    assert_eq!(at(30, &[]), Vec::<String>::new());
    assert_eq!(at(61, &["disk full: 2 MiB free"]), ["disk full: 2 MiB free"]);
    assert_eq!(at(90, &["disk full: 1 MiB free"]), Vec::<String>::new(), "the same problem");
    assert_eq!(at(4000, &[]), Vec::<String>::new());
    assert_eq!(at(4001, &["disk full: 1 MiB free"]), Vec::<String>::new());
    assert_eq!(at(4100, &["disk full: 1 MiB free"]), ["disk full: 1 MiB free"], "it was gone");
}
