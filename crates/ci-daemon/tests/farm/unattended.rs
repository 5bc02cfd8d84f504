//! Unattended operation: retries, requests, the hook, and errors from which the daemon recovers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Farm, until};
use rustix::process::Signal;
use spawn::Exit;

#[test]
fn failures_are_retried_and_requests_are_rerun() {
    let farm = Farm::new();
    farm.configure(&farm.config("confirm_failures = 2"));
    let good = farm.commit("good", "");
    let bad = farm.commit("bad", "fail");
    farm.once();
    assert_eq!((farm.tally(&good), farm.tally(&bad)), ("5 Passed".into(), "5 Failed".into()));
    assert_eq!(farm.attempts(&bad, "t.one.a"), ["1 Failed", "2 Failed"]);
    assert_eq!(farm.attempts(&good, "t.one.a"), ["1 Passed"]);
    assert_eq!(farm.ran().len(), 5 + 5 * 2);
    // Requests while no daemon runs: a valid one, one for an unlisted commit, and one for an unknown test.
    farm.ask_rerun(&good, "t.two.generic.001");
    farm.ask_rerun(&good, "t.two.nothing");
    farm.ask_rerun(&"1".repeat(40).parse().unwrap(), "t.one.b");
    farm.once();
    assert_eq!(farm.attempts(&good, "t.two.generic.001"), ["1 Passed", "2 Passed"]);
    assert_eq!((farm.requests(), farm.ran().len()), (0, 16));
    // A request for a running daemon.
    let daemon = farm.start(&[]);
    until("the daemon is up", || farm.snapshot().executors.iter().any(|of| of.state == "idle"));
    farm.ask_rerun(&bad, "t.one.c");
    until("it ran", || farm.attempts(&bad, "t.one.c").len() == 3);
    until("it is over", || farm.requests() == 0);
    // A request that was not finished when the daemon was killed is taken by the next daemon.
    farm.hold(true);
    farm.ask_rerun(&bad, "t.one.b");
    until("it runs", || farm.ran().len() == 18);
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.wait(), Exit::Signal(9));
    farm.hold(false);
    farm.once();
    assert_eq!((farm.requests(), farm.attempts(&bad, "t.one.b").len()), (0, 3));
    // The database has the requests and the builds.
    let database = rusqlite::Connection::open(farm.reader().output_dir().join("results.db")).unwrap();
    let sql = "SELECT group_concat(test || ' ' || outcome, ', ' ORDER BY test, outcome) FROM request \
        WHERE account != '' AND ended >= at AND reason IS NULL = (outcome = 'done')";
    let requests: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    let expected =
        "t.one.b done, t.one.b refused, t.one.c done, t.two.generic.001 done, t.two.nothing refused";
    assert_eq!(requests, expected);
    let sql = "SELECT group_concat(DISTINCT b.outcome || ' ' || k.name) FROM build b JOIN kernel k ON k.id = b.kernel";
    let builds: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(builds, format!("reused {:064}", 7));
}

#[test]
fn a_failure_that_passes_its_retry_is_flaky() {
    let farm = Farm::new();
    farm.configure(&farm.config("confirm_failures = 4"));
    farm.commit("good", "");
    let flaky = farm.commit("flaky", "first");
    farm.once();
    let attempts = ["1 Failed", "2 Passed", "3 Passed", "4 Passed", "5 Passed"];
    assert_eq!(farm.attempts(&flaky, "t.one.a"), attempts);
    let listed = farm.reader().branch(&"u/next".parse().unwrap()).unwrap().unwrap();
    assert_eq!(listed[0].counts, model::Counts { flaky: 5, ..model::Counts::default() });
    let found = farm.reader().flaky(&"u/next".parse().unwrap()).unwrap().unwrap();
    let rates: Vec<String> = found.iter().map(|test| test.flaky.to_string()).collect();
    assert_eq!(rates, ["flaky 1 of 6"; 5], "five attempts, and the pass of the commit before");
}

#[test]
fn the_next_daemon_retries_failures_after_a_kill() {
    let farm = Farm::new();
    let bad = farm.commit("bad", "fail");
    farm.once();
    assert_eq!(farm.attempts(&bad, "t.one.a"), ["1 Failed"]);
    farm.configure(&farm.config("confirm_failures = 1"));
    farm.once();
    assert_eq!(farm.attempts(&bad, "t.one.a"), ["1 Failed", "2 Failed"]);
    farm.once();
    assert_eq!(farm.ran().len(), 10);
}

#[test]
fn a_job_of_two_branches_runs_once() {
    let farm = Farm::new();
    let base = farm.commit("base", "");
    farm.repo.switch("side");
    let side = farm.commit("side", "");
    let branch = format!("[branch.side]\nremote = {:?}\ntest_groups = [\"g\"]\n", farm.repo.url());
    farm.configure(&(farm.config("") + &branch));
    farm.once();
    assert_eq!((farm.tally(&base), farm.tally(&side)), ("5 Passed".into(), "5 Passed".into()));
    assert_eq!(farm.ran().len(), 10);
    assert!(farm.starts().values().all(|times| *times == 1), "{:?}", farm.starts());
    let reader = farm.reader();
    let lengths = ["next", "side"]
        .map(|branch| reader.branch(&format!("u/{branch}").parse().unwrap()).unwrap().unwrap().len());
    assert_eq!(lengths, [1, 2]);
}

#[test]
fn commits_of_other_repositories_are_tested_on_kernels_of_the_store() {
    let farm = Farm::new();
    let tools = testkit::ScratchRepo::new();
    tools.commit("unrelated", &[("x", "")]);
    let remote = testkit::ScratchRepo::new();
    let commit = remote.commit("of-tools", &[("mode", ""), ("message", "of-tools")]);
    let more = format!(
        "[repo.tools]\npath = {:?}\n[test_group.k]\ntests = [\"t/two.ktest\"]\nkernels = [\"debian/trixie\", \"debian/sid\"]\n\
         [branch.tools]\nrepo = \"tools\"\nremote = {:?}\nref = \"master\"\ntest_groups = [\"k\", \"g\"]\n",
        tools.url(),
        remote.url()
    );
    let kernel = farm.commit("kernel", "");
    farm.configure(&(farm.config("") + &more));
    farm.once();
    assert_eq!(farm.tally(&kernel), "5 Passed");
    let keys: Vec<String> = farm.statuses(&commit).into_keys().collect();
    let expected = ["debian_sid.generic.001", "debian_sid.x", "debian_trixie.generic.001", "debian_trixie.x"];
    assert_eq!(keys, expected.map(|key| format!("t.two@{key}")));
    let ran = farm.ran();
    assert!(ran.contains(&"debian/trixie of-tools t/two x".to_owned()), "{ran:?}");
    // A group without kernels cannot run there, which is reported.
    let problems = farm.snapshot().problems.join("\n");
    assert!(problems.contains("so test group g has no jobs there"), "{problems}");
    assert!(!farm.path("data/ci-daemon-work/local-0.deps").exists());
}

#[test]
fn a_push_reported_to_the_hook_is_tested_at_once() {
    let farm = Farm::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hook = format!("[hook]\nlisten = \"{address}\"\ntoken = \"0123456789abcdef\"\n");
    farm.configure(&(farm.config("") + &hook));
    let first = farm.commit("first", "");
    let daemon = farm.start(&[]);
    until("the first commit is tested", || farm.tally(&first) == "5 Passed");
    let second = farm.commit("second", "");
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "POST /hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer 0123456789abcdef\r\n\
                   Content-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    until("the second commit is tested", || farm.tally(&second) == "5 Passed");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
}

#[test]
fn the_service_manager_is_notified() {
    let farm = Farm::new();
    let socket = std::os::unix::net::UnixDatagram::bind(farm.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    farm.commit("one", "");
    let daemon = farm.start(&[]);
    assert_eq!([heard(), heard(), heard()], ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
    daemon.signal(Signal::TERM);
    let last = (0..5).map(|_| heard()).find(|word| word != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(daemon.wait(), Exit::Code(0));
}

#[test]
fn unreadable_results_and_a_missing_repository_are_reported() {
    let farm = Farm::new();
    let old = farm.commit("old", "");
    let new = farm.commit("new", "");
    let daemon = farm.start(&[]);
    until("both are tested", || farm.tally(&new) == "5 Passed" && farm.tally(&old) == "5 Passed");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
    let blob = farm.path(&format!("data/{old}.capnp"));
    let whole = std::fs::read(&blob).unwrap();
    std::fs::write(&blob, "rubbish").unwrap();
    // Without the commit's directory, there is no fallback to read.
    std::fs::rename(farm.path(&format!("data/{old}")), farm.path("aside")).unwrap();
    let tip = farm.commit("tip", "");
    let daemon = farm.start(&[]);
    until("the tip is tested", || farm.tally(&tip) == "5 Passed");
    until("the damage is said", || {
        farm.snapshot().problems.iter().any(|problem| problem.contains(old.short()))
    });
    // Without the remote, then without the repository: both are reported, and the last good state is kept.
    let remote = farm.repo.path().join(".git");
    std::fs::rename(&remote, farm.repo.path().join("gone")).unwrap();
    daemon.signal(Signal::USR1);
    until("the remote is missed", || farm.snapshot().branches.iter().any(|branch| branch.error.is_some()));
    std::fs::rename(farm.repo.path().join("gone"), &remote).unwrap();
    let last = farm.commit("last", "");
    daemon.signal(Signal::USR1);
    until("it continues", || farm.tally(&last) == "5 Passed");
    until("the problem is gone", || farm.snapshot().branches.iter().all(|branch| branch.error.is_none()));
    std::fs::rename(farm.linux().join(".git"), farm.linux().join("gone")).unwrap();
    let late = farm.commit("late", "");
    daemon.signal(Signal::USR1);
    until("the repository is missed", || {
        farm.snapshot().branches.iter().any(|branch| branch.error.is_some())
    });
    std::fs::rename(farm.linux().join("gone"), farm.linux().join(".git")).unwrap();
    daemon.signal(Signal::USR1);
    until("it continues", || farm.tally(&late) == "5 Passed");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
    std::fs::write(&blob, whole).unwrap();
    std::fs::rename(farm.path("aside"), farm.path(&format!("data/{old}"))).unwrap();
    assert_eq!(farm.tally(&old), "5 Passed");
    assert!(farm.starts().values().all(|times| *times == 1), "{:?}", farm.starts());
}

#[test]
fn a_full_disk_is_reported_and_tests_continue() {
    let farm = Farm::new();
    let data = farm.path("data");
    let Some(_tmpfs) = Tmpfs::mount(&data, "16m") else {
        eprintln!("skipped: a_full_disk_is_reported_and_tests_continue: only root can mount a tmpfs");
        return;
    };
    let first = farm.commit("first", "");
    let daemon = farm.start(&[]);
    until("the first commit is tested", || farm.tally(&first) == "5 Passed");
    // The disk is full, and space that becomes free is filled immediately.
    let full = Arc::new(AtomicBool::new(true));
    let filler = {
        let (full, path) = (full.clone(), data.join("filler"));
        std::thread::spawn(move || {
            let mut file = std::fs::File::create(&path).unwrap();
            while full.load(Ordering::Relaxed) {
                let block =
                    [64 << 10, 4 << 10].into_iter().find(|size| file.write_all(&vec![1; *size]).is_ok());
                if block.is_none() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            drop(file);
            std::fs::remove_file(&path).unwrap();
        })
    };
    until("the disk is full", || std::fs::write(data.join("more"), [1; 1 << 14]).is_err());
    let second = farm.commit("second", "");
    daemon.signal(Signal::USR1);
    std::thread::sleep(Duration::from_secs(5));
    full.store(false, Ordering::Relaxed);
    filler.join().unwrap();
    let _ = std::fs::remove_file(data.join("more"));
    until("it continues", || farm.tally(&second) == "5 Passed");
    let third = farm.commit("third", "");
    daemon.signal(Signal::USR1);
    until("the next push as well", || farm.tally(&third) == "5 Passed");
    until("no problem is left", || farm.snapshot().problems.is_empty());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
    assert!(
        farm.starts().iter().filter(|(job, _)| job.starts_with(third.as_str())).all(|(_, times)| *times == 1)
    );
}

#[test]
fn a_full_disk_is_reported_in_the_snapshot() {
    let farm = Farm::new();
    let data = farm.path("data");
    let Some(_tmpfs) = Tmpfs::mount(&data, "16m") else {
        eprintln!("skipped: a_full_disk_is_reported_in_the_snapshot: only root can mount a tmpfs");
        return;
    };
    let first = farm.commit("first", "");
    let daemon = farm.start(&[]);
    until("the first commit is tested", || farm.tally(&first) == "5 Passed");
    until("the reserve file exists", || data.join("ci-daemon-work/reserve").exists());
    let mut file = std::fs::File::create(data.join("filler")).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    let second = farm.commit("second", "");
    daemon.signal(Signal::USR1);
    until("the snapshot reports it", || {
        let snapshot = farm.snapshot();
        let executors = snapshot.executors.iter().filter_map(|executor| executor.problem.as_deref());
        let mut said = snapshot.problems.iter().map(String::as_str).chain(executors);
        // The file that finds the disk full first is a log or the database.
        said.any(|problem| problem.contains("No space left") || problem.contains("disk is full"))
    });
    std::fs::remove_file(data.join("filler")).unwrap();
    until("it continues", || farm.tally(&second) == "5 Passed");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
}

/// A small file system, unmounted when dropped.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(dir: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(dir).ok()?;
        let options = std::ffi::CString::new(format!("size={size}")).ok()?;
        let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
        rustix::mount::mount("tmpfs", dir, "tmpfs", flags, options.as_c_str()).ok()?;
        Some(Self(dir.into()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
