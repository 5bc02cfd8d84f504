use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use model::{BranchRef, CommitId, Finding, FindingKind, ResultKey, Verdict};
use results::findings::{Mark, MarkKind};
use results::{LogKind, VerdictRecord};

use super::*;

/// A receiver over HTTP, which keeps the headers and the bodies of requests.
struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<(String, String)>>>,
    /// The answer to the next requests.
    status: Arc<Mutex<&'static str>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (received, status) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new("204 No Content")));
        let (to, answer) = (Arc::clone(&received), Arc::clone(&status));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(&stream);
                let (mut head, mut length, mut line) = (String::new(), 0, String::new());
                while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                    let text = std::mem::take(&mut line).to_ascii_lowercase();
                    if let Some(value) = text.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&text);
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let status = *answer.lock().unwrap();
                if status.starts_with('2') {
                    to.lock().unwrap().push((head, String::from_utf8(body).unwrap()));
                }
                let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = (&stream).write_all(text.as_bytes());
            }
        });
        Self { address, received, status }
    }

    /// The ids of what it received, in order.
    fn ids(&self) -> Vec<String> {
        let id = |(head, _): &(String, String)| {
            let line = head.lines().find_map(|line| line.strip_prefix("webhook-id: finding_")).unwrap();
            line.trim().to_owned()
        };
        self.received.lock().unwrap().iter().map(id).collect()
    }
}

fn config(dir: &Path, senders: &str) -> Arc<Config> {
    let text = format!(
        "linux_repo = {dir:?}\noutput_dir = {dir:?}\nktest_dir = {dir:?}\nuser = \"kmo\"\nci_url = \"https://ci.example.org/ci\"\n\
         [branch.next]\nremote = \"https://example.org/linux.git\"\nref = \"next\"\ntest_groups = [\"g\"]\n\
         [test_group.g]\ntests = [\"a.ktest\"]\n[host.local]\narch = \"x86_64\"\nslots = 1\n{senders}"
    );
    let path = dir.join("ci.toml");
    std::fs::write(&path, text).unwrap();
    Arc::new(config::load(&path).unwrap())
}

fn write_token(dir: &Path) {
    let token = dir.join("token");
    std::fs::write(&token, "secret").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn webhook(receiver: &Receiver) -> String {
    format!(
        "[notify.hook]\nkind = \"webhook\"\nurl = \"http://{}/in\"\nmax_per_day = 100000\n",
        receiver.address
    )
}

fn commit(number: i64) -> CommitId {
    format!("{number:040x}").parse().unwrap()
}

fn finding(number: i64, kind: FindingKind) -> Finding {
    Finding {
        id: format!("{number:016x}"),
        kind,
        branch: Some("kmo/next".parse().unwrap()),
        commit: Some(commit(number)),
        tests: vec!["a.x".parse().unwrap()],
        tests_total: 1,
        signature: "lost 3 of 8".into(),
        first_bad: Some(commit(number)),
        last_good: None,
        rate: None,
        at: 100,
    }
}

async fn found(writer: &Writer, numbers: impl IntoIterator<Item = i64>) {
    let findings = numbers.into_iter().map(|number| finding(number, FindingKind::Broke)).collect();
    writer.note(Note::Findings { branch: "kmo/next".into(), findings, known: "{}".into() }).unwrap();
    writer.flush().await.unwrap();
}

fn id(number: i64) -> String {
    format!("{number:016x}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_finding_is_sent_once_and_again_after_an_error() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let writer = Writer::open(dir.path()).unwrap();
    let config = config(dir.path(), &webhook(&receiver));
    found(&writer, [1]).await;
    let mut senders = Senders::default();
    senders.end(&writer, &config, 1000).await;
    assert!(receiver.ids().is_empty(), "what was found before a sender existed is not sent");
    found(&writer, [2, 3]).await;
    senders.end(&writer, &config, 1001).await;
    assert_eq!(receiver.ids(), [id(2), id(3)]);
    // The receiver is down, then up again. Another daemon continues.
    *receiver.status.lock().unwrap() = "503 Busy";
    found(&writer, [4]).await;
    senders.end(&writer, &config, 1002).await;
    let state = writer.reader().sender("hook").unwrap().unwrap();
    assert!(state.error.as_ref().unwrap().contains("503"), "{state:?}");
    *receiver.status.lock().unwrap() = "200 OK";
    Senders::default().end(&writer, &config, 1003).await;
    Senders::default().end(&writer, &config, 1004).await;
    assert_eq!(receiver.ids(), [id(2), id(3), id(4)]);
    let state = writer.reader().sender("hook").unwrap().unwrap();
    assert_eq!((state.handled, state.error), (4, None));
    assert_eq!(writer.reader().sent_since("hook", 1001), 3);
    // One that is removed and added again begins with the findings to come.
    senders.step(&writer, &self::config(dir.path(), ""), 1005).await;
    writer.flush().await.unwrap();
    assert_eq!(writer.reader().senders(), []);
    let body: serde_json::Value = serde_json::from_str(&receiver.received.lock().unwrap()[0].1).unwrap();
    assert_eq!(
        body["data"]["url"],
        "https://ci.example.org/ci?user=kmo&branch=next&findings#0000000000000002"
    );
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_that_is_refused_does_not_stop_others() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let writer = Writer::open(dir.path()).unwrap();
    let config = config(dir.path(), &webhook(&receiver));
    let mut senders = Senders::default();
    senders.end(&writer, &config, 1000).await;
    found(&writer, [1]).await;
    *receiver.status.lock().unwrap() = "422 No";
    for round in 0..REFUSALS_MAX {
        assert_eq!(senders.problems().len(), usize::from(round >= FAILURES), "{round}");
        assert_eq!(writer.reader().sender("hook").unwrap().unwrap().handled, 0);
        senders.end(&writer, &config, 1001).await;
    }
    *receiver.status.lock().unwrap() = "200 OK";
    found(&writer, [2]).await;
    senders.end(&writer, &config, 1002).await;
    assert_eq!(receiver.ids(), [id(2)]);
    // It is sent on request.
    let send = NotifyRequest::Send { finding: id(1), sender: None };
    let (copy, same) = (writer.clone(), Arc::clone(&config));
    tokio::task::spawn_blocking(move || request(&copy, &same, &send, 1003)).await.unwrap().unwrap();
    assert_eq!(receiver.ids(), [id(2), id(1)]);
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn muted_findings_are_left_out_and_a_day_has_a_limit() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let writer = Writer::open(dir.path()).unwrap();
    let settings = webhook(&receiver).replace("100000", "2");
    let config = config(dir.path(), &settings);
    let mut senders = Senders::default();
    senders.end(&writer, &config, 1000).await;
    let mark = Mark { what: MarkKind::Invalid, at: 1, account: "kim@x.example".into() };
    writer.note(Note::Mark { finding: id(1), mark }).unwrap();
    found(&writer, 1..=5).await;
    senders.end(&writer, &config, 1001).await;
    assert_eq!(receiver.ids(), [id(2), id(3)]);
    let state = writer.reader().sender("hook").unwrap().unwrap();
    assert!(state.handled == 3 && state.error.unwrap().contains("max_per_day"));
    senders.end(&writer, &config, 1001 + DAY + 1).await;
    assert_eq!(receiver.ids().len(), 4);
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_has_the_log_and_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path()).unwrap();
    let file = dir.path().join("mails");
    let mail = format!(
        "[notify.ops]\nkind = \"mail\"\nfrom = \"ktest@ci.example\"\nto = \"list@x.example\"\noperator = \"op@x.example\"\n\
         command = [\"sh\", \"-c\", \"cat >> {}\"]\n",
        file.display()
    );
    let config = config(dir.path(), &mail);
    let mut senders = Senders::default();
    senders.end(&writer, &config, 1000).await;
    let branch: BranchRef = "kmo/next".parse().unwrap();
    let message = "x: break it\n\nLink: https://lore.kernel.org/r/1@x.example\n".to_owned();
    writer.set_branch(&branch, vec![(commit(1), message)]).await.unwrap();
    let key: ResultKey = "a.x".parse().unwrap();
    let failed = Verdict::Failed { reason: "lost 3 of 8".into() };
    let record = VerdictRecord::new(commit(1), key.clone(), failed, Duration::from_secs(1));
    let recorded = writer.record(record).await.unwrap();
    let log = dir.path().join("log");
    std::fs::write(&log, "00001 lost 3 of 8\n00002 ========= FAILED x in 1s\n").unwrap();
    let attempts = [(key, recorded.attempt)];
    let plain = results::PlainFile::new(std::fs::File::open(&log).unwrap(), log.clone());
    writer.publish_logs(&commit(1), &attempts, LogKind::Subtest, plain).await.unwrap();
    // The second one has no log: it is not sent, and waits for one for a while.
    found(&writer, [1, 2]).await;
    senders.end(&writer, &config, 101).await;
    let state = || writer.reader().sender("ops").unwrap().unwrap();
    assert_eq!((state().handled, state().error.as_deref()), (1, Some(NO_LOG)));
    senders.end(&writer, &config, 100 + LOG_WITHIN).await;
    assert_eq!((state().handled, state().error), (2, None));
    let mails = std::fs::read_to_string(&file).unwrap();
    assert_eq!(mails.matches("Message-ID:").count(), 1, "{mails}");
    for part in [
        "To: op@x.example\n",
        "In-Reply-To: <1@x.example>\n",
        "  00001 lost 3 of 8\n",
        "x: break it",
        "ci-status notify send 0000000000000001",
        "Closes: https://ci.example.org/c/",
    ] {
        assert!(mails.contains(part), "{part}\n{mails}");
    }
    let (copy, send) = (writer.clone(), NotifyRequest::Send { finding: id(1), sender: Some("ops".into()) });
    tokio::task::spawn_blocking(move || request(&copy, &config, &send, 1002)).await.unwrap().unwrap();
    let mails = std::fs::read_to_string(&file).unwrap();
    assert!(mails.contains("To: list@x.example\n"), "{mails}");
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forge_and_kcidb_get_the_state_of_each_commit_once() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let writer = Writer::open(dir.path()).unwrap();
    write_token(dir.path());
    let address = receiver.address;
    let settings = format!(
        "[notify.forge]\nkind = \"forgejo\"\nurl = \"http://{address}\"\nproject = \"a/linux\"\ntoken_file = \"token\"\n\
         [notify.kcidb]\nkind = \"kcidb\"\nurl = \"http://{address}\"\norigin = \"test\"\n"
    );
    let config = config(dir.path(), &settings);
    let branch: BranchRef = "kmo/next".parse().unwrap();
    let listing = (1..=4).rev().map(|number| (commit(number), format!("subject {number}"))).collect();
    writer.set_branch(&branch, listing).await.unwrap();
    let unbuilt = model::build_failed_reason("a.c:1: error: x");
    let crashed = Verdict::Failed { reason: "lost 3 of 8".into() };
    for (number, key, verdict) in [
        (1, "a.x", Verdict::Passed),
        (2, "a.x", crashed),
        (2, "a.y", Verdict::FailedToRun { reason: "the disk is full".into() }),
        (3, "a.x", Verdict::FailedToRun { reason: unbuilt }),
        // Nothing is known of this one.
        (4, "a.x", Verdict::FailedToRun { reason: "the disk is full".into() }),
    ] {
        let record =
            VerdictRecord::new(commit(number), key.parse().unwrap(), verdict, Duration::from_secs(1));
        writer.record(record).await.unwrap();
    }
    found(&writer, [2]).await;
    writer.write_snapshot(&model::StatusSnapshot::default()).unwrap();
    let mut senders = Senders::default();
    senders.end(&writer, &config, 1000).await;
    senders.end(&writer, &config, 1001).await;
    let received = std::mem::take(&mut *receiver.received.lock().unwrap());
    let bodies = |path: &str| {
        let of_path = received.iter().filter(|(head, _)| head.starts_with(&format!("post {path}")));
        of_path.map(|(_, body)| serde_json::from_str(body).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let states: Vec<String> = bodies("/api/v1/repos/a/linux/statuses/")
        .iter()
        .map(|body| format!("{} {}", body["state"].as_str().unwrap(), body["description"].as_str().unwrap()))
        .collect();
    assert_eq!(
        states,
        [
            "success 0 failed, 1 passed",
            "failure 1 failed, 0 passed, 1 failed to run",
            "failure the build failed: a.c:1: error: x",
            "pending 0 failed, 0 passed, 1 failed to run",
        ]
    );
    let submissions = bodies("/submit");
    assert_eq!(submissions.len(), 3);
    assert_eq!(submissions[1]["tests"].as_array().unwrap().len(), 1, "no infrastructure error is sent");
    assert_eq!(submissions[1]["incidents"][0]["test_id"], submissions[1]["tests"][0]["id"]);
    assert_eq!((&submissions[2]["builds"][0]["status"], submissions[2].get("tests")), (&"FAIL".into(), None));
    // Only what changed is sent again.
    let record =
        VerdictRecord::new(commit(1), "a.y".parse().unwrap(), Verdict::Passed, Duration::from_secs(1));
    writer.record(record).await.unwrap();
    writer.flush().await.unwrap();
    senders.end(&writer, &config, 1002).await;
    assert_eq!(receiver.received.lock().unwrap().len(), 2);
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_failures_of_one_cause_are_one_message_and_faults_of_the_farm_are_none() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let writer = Writer::open(dir.path()).unwrap();
    let config = config(dir.path(), &webhook(&receiver));
    let branch: BranchRef = "kmo/next".parse().unwrap();
    let listing = (1..=3).rev().map(|number| (commit(number), String::new())).collect();
    writer.set_branch(&branch, listing).await.unwrap();
    let idle = model::StatusSnapshot::default();
    let (mut recorder, mut senders) = (crate::findings::FindingRecorder::default(), Senders::default());
    recorder.begin(&writer, &config, &idle, 1000).await;
    senders.end(&writer, &config, 1000).await;
    let record = async |number: i64, test: usize, verdict: Verdict| {
        let key = format!("a.{test}").parse().unwrap();
        let mut record = VerdictRecord::new(commit(number), key, verdict, Duration::from_secs(1));
        record.crash = (number == 2).then(|| "kernel BUG in ext4_punch_hole".into());
        record.host = Some("farm1".parse().unwrap());
        writer.record(record).await.unwrap();
    };
    for test in 0..1000 {
        record(1, test, Verdict::Passed).await;
        // All fail twice; at the next commit, the farm has a fault.
        record(2, test, Verdict::Failed { reason: format!("BUG in test {test}") }).await;
        record(2, test, Verdict::Failed { reason: format!("BUG in test {test}") }).await;
        record(3, test, Verdict::FailedToRun { reason: "no space left on farm1".into() }).await;
    }
    writer.flush().await.unwrap();
    for now in 1001..1004 {
        recorder.end(&writer, &config, &idle, now).await;
        senders.end(&writer, &config, now).await;
    }
    let received = receiver.received.lock().unwrap().clone();
    assert_eq!(received.len(), 1, "{received:?}");
    let body: serde_json::Value = serde_json::from_str(&received[0].1).unwrap();
    assert_eq!((&body["type"], &body["data"]["tests_total"]), (&"finding.broke".into(), &1000.into()));
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_commit_that_a_forge_refuses_does_not_stop_the_others() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let writer = Writer::open(dir.path()).unwrap();
    write_token(dir.path());
    let settings = format!(
        "[notify.forge]\nkind = \"gitlab\"\nurl = \"http://{}\"\nproject = \"a/linux\"\ntoken_file = \"token\"\n",
        receiver.address
    );
    let config = config(dir.path(), &settings);
    writer.write_snapshot(&model::StatusSnapshot::default()).unwrap();
    let branch: BranchRef = "kmo/next".parse().unwrap();
    let listing = (1..=2).rev().map(|number| (commit(number), String::new())).collect();
    writer.set_branch(&branch, listing).await.unwrap();
    let pass = async |number: i64, key: &str| {
        let record =
            VerdictRecord::new(commit(number), key.parse().unwrap(), Verdict::Passed, Duration::from_secs(1));
        writer.record(record).await.unwrap();
        writer.flush().await.unwrap();
    };
    pass(1, "a.x").await;
    let mut senders = Senders::default();
    *receiver.status.lock().unwrap() = "400 No";
    senders.end(&writer, &config, 1000).await;
    assert!(writer.reader().sender("forge").unwrap().unwrap().error.unwrap().contains("400"));
    *receiver.status.lock().unwrap() = "201 Created";
    pass(2, "a.x").await;
    senders.end(&writer, &config, 1001).await;
    assert_eq!(receiver.received.lock().unwrap().len(), 1, "the refused one did not change");
    // GitLab refuses the state that a commit has: more passes change nothing.
    pass(2, "a.y").await;
    senders.end(&writer, &config, 1002).await;
    assert_eq!(receiver.received.lock().unwrap().len(), 1);
    assert_eq!(writer.reader().sender("forge").unwrap().unwrap().error, None);
    // A wrong token is tried again.
    *receiver.status.lock().unwrap() = "401 Unauthorized";
    let failed = Verdict::Failed { reason: "lost".into() };
    let record = VerdictRecord::new(commit(2), "a.z".parse().unwrap(), failed, Duration::from_secs(1));
    writer.record(record).await.unwrap();
    writer.flush().await.unwrap();
    senders.end(&writer, &config, 1003).await;
    *receiver.status.lock().unwrap() = "201 Created";
    senders.end(&writer, &config, 1004).await;
    assert_eq!(receiver.received.lock().unwrap().len(), 2);
    writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_commit_on_two_branches_is_one_message() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let writer = Writer::open(dir.path()).unwrap();
    let config = config(dir.path(), &webhook(&receiver));
    let mut senders = Senders::default();
    senders.end(&writer, &config, 1000).await;
    let on = |number: i64, branch: &str, signature: &str| Finding {
        branch: Some(branch.parse().unwrap()),
        commit: Some(commit(1)),
        first_bad: Some(commit(1)),
        signature: signature.into(),
        ..finding(number, FindingKind::Broke)
    };
    let findings =
        vec![on(1, "kmo/next", "BUG"), on(2, "kmo/testing", "BUG"), on(3, "kmo/testing", "another BUG")];
    writer.note(Note::Findings { branch: "kmo/next".into(), findings, known: "{}".into() }).unwrap();
    writer.flush().await.unwrap();
    senders.end(&writer, &config, 1001).await;
    assert_eq!(receiver.ids(), [id(1), id(3)]);
    writer.close().await.unwrap();
}

/// The number of times that the daemon is killed.
const KILLS: usize = 100;
/// The environment variable with the directory of the process that is killed.
const CHILD: &str = "KTEST_SENDERS_TEST_DIR";

/// A process that records and sends findings until it is killed. Started by the next test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let config = Arc::new(config::load(&dir.join("ci.toml")).unwrap());
    let writer = Writer::open(dir).unwrap();
    let mut senders = Senders::default();
    loop {
        let next = writer.reader().newest_finding().unwrap() + 1;
        found(&writer, [next, next + 1]).await;
        senders.end(&writer, &config, 1000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_if_the_daemon_is_killed() {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let config = config(dir.path(), &webhook(&receiver));
    let writer = Writer::open(dir.path()).unwrap();
    Senders::default().end(&writer, &config, 1000).await;
    writer.close().await.unwrap();
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "senders::tests::process_that_is_killed"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It is killed a little later after each message: at the start, while it sends, before and after it records.
        let count = receiver.ids().len();
        let start = std::time::Instant::now();
        while receiver.ids().len() == count && start.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(u64::try_from(round).unwrap() * 331 % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let writer = Writer::open(dir.path()).unwrap();
    Senders::default().end(&writer, &config, 1000).await;
    let received = receiver.ids();
    let distinct: BTreeSet<&String> = received.iter().collect();
    let newest = writer.reader().newest_finding().unwrap();
    assert_eq!(distinct.len(), usize::try_from(newest).unwrap(), "a finding is lost");
    // A message that arrived before the kill and was not recorded is sent again with its id: at most one per kill.
    let repeated = received.len() - distinct.len();
    assert!(repeated <= KILLS, "{repeated}");
    eprintln!("{KILLS} kills, {newest} findings, {repeated} messages were sent twice with the same id");
    writer.close().await.unwrap();
}
