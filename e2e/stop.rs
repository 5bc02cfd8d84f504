//! SIGTERM ends `ktest run` within seconds, even if a file operation or a child process hangs.

#![expect(clippy::panic, reason = "a test reports errors by failing")]
#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The time limit in docs/security.md.
const LIMIT: Duration = Duration::from_secs(10);

fn ktest(dir: &Path, script: &str) -> Child {
    let file = dir.join("tests/a.ktest");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("#!/bin/bash\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_ktest"))
        .args(["--cache-dir".as_ref(), dir.join("cache").as_os_str()])
        .args(["run", "--events", "--accel", "tcg", "-k"])
        .arg(dir.join("linux"))
        .arg("--out")
        .arg(dir.join("out"))
        .arg(&file)
        .arg("one")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn kernel(dir: &Path) {
    std::fs::create_dir_all(dir.join("linux")).unwrap();
    std::fs::write(dir.join("linux/Makefile"), "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\n").unwrap();
    std::fs::write(dir.join("linux/Kconfig"), "").unwrap();
}

/// Waits until the process is blocked, sends SIGTERM, and returns how long it took to exit.
fn stop(mut child: Child, busy: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !busy() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(child.try_wait().unwrap(), None, "it has ended by itself");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let began = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if began.elapsed() > 3 * LIMIT => {
                child.kill().unwrap();
                panic!("it does not end");
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    assert_eq!(status.code(), Some(128 + 15), "{status}");
    began.elapsed()
}

#[test]
fn a_fifo_in_the_kernel_source_does_not_delay_the_end() {
    let dir = tempfile::tempdir().unwrap();
    kernel(dir.path());
    let makefile = dir.path().join("linux/Makefile");
    std::fs::remove_file(&makefile).unwrap();
    assert!(Command::new("mkfifo").arg(&makefile).status().unwrap().success());
    let took = stop(ktest(dir.path(), "echo one"), || true);
    assert!(took < LIMIT, "{took:?}");
}

#[test]
fn a_child_that_ignores_signals_or_is_stopped_does_not_delay_the_end() {
    for action in [
        "trap '' TERM INT HUP; touch \"$ktest_dir/busy\"; sleep 1000",
        "touch \"$ktest_dir/busy\"; kill -STOP $$",
    ] {
        let dir = tempfile::tempdir().unwrap();
        kernel(dir.path());
        let busy = dir.path().join("busy");
        // In the sandbox, the tree is read-only: then the test waits, and the child is stopped anyway.
        let took = stop(ktest(dir.path(), action), || busy.exists() || dir.path().join("cache").exists());
        assert!(took < LIMIT, "{action}: {took:?}");
    }
}
