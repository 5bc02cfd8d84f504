//! A program that is killed leaves no process of its sandboxes, at whatever time it is killed.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::Sandbox;
use spawn::{Exit, Limits};

/// The variable that marks the processes of one attempt. It is visible in the command line of bwrap.
const MARK: &str = "KTEST_MARK";
/// The number of attempts, each with another time between the start and the kill.
const ATTEMPTS: u32 = 150;

/// The program that is killed: this test, started by the other one.
#[tokio::test]
#[ignore = "started by a_killed_program_leaves_no_process"]
async fn starts_a_sandbox() {
    let mark = std::env::var_os(MARK).unwrap();
    let _ = Sandbox::new().env(MARK, mark).command("sleep").arg("600").output(Limits::seconds(600)).await;
}

/// The process ids of the programs whose command line contains `mark`.
fn marked(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.map(|entry| entry.file_name().into_string().unwrap_or_default());
    let is_marked = |pid: &String| {
        let line = std::fs::read(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
    };
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())).filter(is_marked).collect()
}

/// The processes that are left after a second.
fn left(mark: &str) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let found = marked(mark);
        if found.is_empty() || begun.elapsed() > Duration::from_secs(5) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_killed_program_leaves_no_process() {
    if let Err(error) = sandbox::probe().await {
        eprintln!("skipped: a_killed_program_leaves_no_process: {error}");
        return;
    }
    let mut caught = 0;
    for attempt in 0..ATTEMPTS {
        let mark = format!("mark-{}-{attempt}-", std::process::id());
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "starts_a_sandbox", "--ignored"]).env(MARK, &mark).stdout(Stdio::null());
        let mut program = program.spawn().unwrap();
        // Wait for bwrap, then for a moment that differs: bwrap needs about 10 ms until the program runs.
        let begun = Instant::now();
        while marked(&mark).is_empty() && begun.elapsed() < Duration::from_secs(20) {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_micros(u64::from(attempt) * 50));
        caught += usize::from(!marked(&mark).is_empty());
        program.kill().unwrap();
        assert_eq!(program.wait().unwrap().signal(), Some(9));
        assert_eq!(left(&mark), [""; 0], "attempt {attempt}");
    }
    assert!(caught > 0, "bwrap was never running");
}

#[tokio::test]
async fn a_guarded_program_ends_like_itself() {
    let run = async |script: &str| {
        let cmd = spawn::Cmd::new("sh").guarded().args(["-c", script]);
        cmd.output(Limits::seconds(20)).await.unwrap()
    };
    assert_eq!(run("echo out; echo err >&2; exit 7").await.exit, Exit::Code(7));
    assert_eq!(run("echo out").await.text(), "out\n");
    assert_eq!(run("kill -TERM $$").await.exit, Exit::Signal(15));
    // Processes that it leaves in its group end with it if it is killed.
    let begun = Instant::now();
    assert_eq!(run("sleep 600 & kill -KILL $$").await.exit, Exit::Signal(9));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let missing = spawn::Cmd::new("no-such-program").guarded().output(Limits::seconds(20)).await;
    assert!(matches!(missing, Err(spawn::SpawnError::NotFound { .. })), "{missing:?}");
}
