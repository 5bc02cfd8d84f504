//! SIGTERM ends `ktest run` and `ci-dashboard` within seconds, even if a file operation or a child process hangs.

#![expect(clippy::panic, reason = "a test reports errors by failing")]
#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::HungFileSystem;
use testkit::results_fixture::ResultsFixture;

mod dashboard;

/// The time limit in docs/security.md.
const LIMIT: Duration = Duration::from_secs(10);

fn ktest(dir: &Path, script: &str) -> Child {
    run(dir, &write_file(dir, script))
}

fn write_file(dir: &Path, script: &str) -> PathBuf {
    let file = dir.join("tests/a.ktest");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("#!/bin/bash\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

fn run(dir: &Path, file: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ktest"))
        .args(["--cache-dir".as_ref(), dir.join("cache").as_os_str()])
        .args(["run", "--events", "--accel", "tcg", "-k"])
        .arg(dir.join("linux"))
        .arg("--out")
        .arg(dir.join("out"))
        .arg(file)
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
    let (code, took) = terminate(&mut child, busy);
    assert_eq!(code, Some(128 + 15));
    took
}

/// Like [`stop`]; also returns the exit code.
fn terminate(child: &mut Child, busy: impl Fn() -> bool) -> (Option<i32>, Duration) {
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
    (status.code(), began.elapsed())
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

#[test]
fn a_file_system_that_hangs_does_not_delay_the_end_of_a_run() {
    for place in ["out", "cache", "linux", "tests", "tests/a.ktest"] {
        let dir = tempfile::tempdir().unwrap();
        kernel(dir.path());
        for name in ["out", "cache"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        // Created before its directory hangs.
        let file = write_file(dir.path(), "echo one");
        let _hung = match HungFileSystem::mount(&dir.path().join(place)) {
            Ok(hung) => hung,
            Err(error) => {
                println!("skipped: a_file_system_that_hangs_does_not_delay_the_end_of_a_run: {error}");
                return;
            }
        };
        let took = stop(run(dir.path(), &file), || true);
        assert!(took < LIMIT, "{place}: {took:?}");
    }
}

#[test]
fn results_that_hang_do_not_delay_the_end_of_the_dashboard() {
    let dir = tempfile::tempdir().unwrap();
    ResultsFixture::new(dir.path()).branch("u", "b", &[]);
    let mut dashboard = dashboard::Dashboard::start(dir.path());
    let _hung = match HungFileSystem::mount(dir.path()) {
        Ok(hung) => hung,
        Err(error) => {
            println!("skipped: results_that_hang_do_not_delay_the_end_of_the_dashboard: {error}");
            return;
        }
    };
    // Requests that block on a file.
    let address = dashboard.address.split('/').nth(2).unwrap().to_owned();
    let clients: Vec<_> = ["/", "/ci", "/c/x/log.br", "/ci?user=u&branch=b"]
        .map(|path| {
            let mut client = std::net::TcpStream::connect(&address).unwrap();
            std::io::Write::write_all(
                &mut client,
                format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
            )
            .unwrap();
            client
        })
        .into();
    let (_, took) = terminate(&mut dashboard.child, || true);
    drop(clients);
    assert!(took < LIMIT, "{took:?}");
}
