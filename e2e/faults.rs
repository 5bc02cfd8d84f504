//! Faults of the host at every point of a run: none of them becomes a verdict. The run ends with exit code 125, or with
//! the verdicts of the tests.
//!
//! The file systems and limits are real: a tmpfs with few inodes or pages, few file descriptors.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a test reports what it skips, and errors by failing"
)]
#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use model::{Event, Stamped, Status};

/// A test file that passes on a healthy host, without a VM.
const FILE: &str = r#"#!/bin/bash
case $1 in
deps) echo 'ktest_mem=64; ktest_no_vm=true; ktest_timeout=60' ;;
list-tests) echo one two ;;
run-tests)
    shift
    for name; do
        echo "========= TEST   $name"
        echo something > "$ktest_out/$name" 2>/dev/null
        echo "========= PASSED $name in 0s"
    done
    echo "TEST SUCCESS" ;;
esac
"#;

fn setup(dir: &Path) {
    let file = dir.join("tests/a.ktest");
    for name in ["tests", "linux", "out", "cache"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    std::fs::write(dir.join("linux/Makefile"), "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\n").unwrap();
    std::fs::write(&file, FILE).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs `ktest run --events` through a command that limits it.
fn run(before: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).arg(env!("CARGO_BIN_EXE_ktest")).arg("--cache-dir").arg(dir.join("cache"));
    command.args(["run", "--events", "-k"]).arg(dir.join("linux")).arg("--out").arg(dir.join("out"));
    command.arg(dir.join("tests/a.ktest")).output().unwrap()
}

/// Checks that only the tests gave verdicts. Returns whether the run was complete.
fn check(output: &Output, what: &str) -> bool {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut passed = 0;
    for line in stdout.lines() {
        if let Ok(Some(Stamped { event: Event::Verdict { verdict, .. }, .. })) = Stamped::parse(line) {
            assert_eq!(verdict.status(), Status::Passed, "{what}: {line}\n{stderr}");
            passed += 1;
        }
    }
    match output.status.code() {
        Some(0) => assert_eq!(passed, 2, "{what}: {stdout}{stderr}"),
        // 127: the dynamic linker could not load the program. 101: the runtime could not start. The daemon treats both
        // as infrastructure errors.
        Some(101 | 125 | 127) => {}
        other => panic!("{what}: exit code {other:?}\n{stdout}{stderr}"),
    }
    passed == 2
}

/// Mounts a tmpfs with these options at `dir/out`, in its own mount namespace.
fn with_tmpfs<'a>(script: &'a str, out: &'a str) -> [&'a str; 6] {
    ["unshare", "-rm", "bash", "-c", script, out]
}

fn tmpfs(options: &str, dir: &Path) -> Output {
    let script = format!("mount -t tmpfs -o {options} tmpfs \"$0\" && exec \"$@\"");
    run(&with_tmpfs(&script, dir.join("out").to_str().unwrap()), dir)
}

/// Whether a tmpfs can be mounted; prints why the tests with file systems are skipped.
fn can_mount(dir: &Path) -> bool {
    let output = tmpfs("size=16m", dir);
    let complete = output.status.code() == Some(0);
    if !complete {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_sandbox =
            stderr.contains("sandbox") || String::from_utf8_lossy(&output.stdout).contains("sandbox");
        assert!(is_sandbox || stderr.contains("unshare") || stderr.contains("mount"), "{output:?}");
        println!("skipped: no user namespaces here: {stderr}");
    }
    complete
}

#[test]
fn an_output_directory_without_inodes_gives_no_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    setup(dir.path());
    if !can_mount(dir.path()) {
        return;
    }
    let runs = (1..24)
        .map(|inodes| check(&tmpfs(&format!("nr_inodes={inodes}"), dir.path()), &format!("{inodes} inodes")));
    let runs: Vec<bool> = runs.collect();
    // Every call that creates something failed once, up to a run that had enough inodes.
    assert!(!runs[0] && runs[runs.len() - 1], "{runs:?}");
}

#[test]
fn a_full_output_directory_gives_no_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    setup(dir.path());
    if !can_mount(dir.path()) {
        return;
    }
    for pages in 1..12 {
        let output = tmpfs(&format!("size={}k", pages * 4), dir.path());
        // Less than 64 MiB are free, so no failure is trusted.
        check(&output, &format!("{pages} pages"));
    }
}

#[test]
fn too_few_file_descriptors_give_no_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    setup(dir.path());
    let limit = |descriptors: u32| format!("--nofile={descriptors}:{descriptors}");
    if !Command::new("prlimit").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: no prlimit here");
        return;
    }
    let complete = run(&["prlimit", &limit(1024)], dir.path()).status.code() == Some(0);
    for descriptors in 4..48 {
        check(&run(&["prlimit", &limit(descriptors)], dir.path()), &format!("{descriptors} descriptors"));
    }
    println!("complete with 1024 descriptors: {complete}");
}

/// A repository with six commits, none of which is bad.
fn good_commits(dir: &Path) {
    let script = "git init -q && for n in 1 2 3 4 5 6; do
        git add -A && git -c user.name=A -c user.email=a@example.org commit -q --allow-empty -m \"c$n\" || exit
    done";
    let git = Command::new("bash").args(["-ec", script]).current_dir(dir.join("linux")).output().unwrap();
    assert!(git.status.success(), "{git:?}");
}

#[test]
fn git_bisect_does_not_blame_a_commit_for_a_host_fault() {
    let dir = tempfile::tempdir().unwrap();
    setup(dir.path());
    good_commits(dir.path());
    if !can_mount(dir.path()) {
        return;
    }
    let file = dir.path().join("tests/a.ktest");
    let run = |out: &str, end: &str| {
        format!(
            "{} --cache-dir {} run -k . -o {out} {end} {}",
            env!("CARGO_BIN_EXE_ktest"),
            dir.path().join("cache").display(),
            file.display()
        )
    };
    std::fs::write(dir.path().join("file"), "").unwrap();
    let up = |name: &str| format!("../{name}");
    for (what, prepare, command) in [
        (
            "full",
            "mount -t tmpfs -o size=4k tmpfs ../out; head -c 4096 /dev/zero >../out/z",
            run("../out/o", ""),
        ),
        ("no inodes", "mount -t tmpfs -o nr_inodes=2 tmpfs ../out", run("../out/a/b", "")),
        ("read-only", "mount -t tmpfs -o ro tmpfs ../out", run("../out/o", "")),
        ("a file", ":", run(&up("file"), "")),
        ("below a file", ":", run(&up("file/o"), "")),
        ("in use", "mkdir -p ../used; exec 9>../used/.lock; flock 9", run(&up("used"), "")),
        ("report", ":", run(&up("o"), "--junit /dev/full")),
        ("report is a directory", ":", run(&up("o"), "--junit ..")),
        ("standard output", ":", format!("bash -c '{} >/dev/full'", run(&up("o"), ""))),
    ] {
        let script = format!(
            "cd \"$0\"; {prepare}; git bisect start HEAD HEAD~5 >/dev/null && git bisect run {command} >../bisect.log 2>&1; git bisect log; \
             git bisect reset >/dev/null"
        );
        let output = Command::new("unshare")
            .args(["-rm", "bash", "-c", &script])
            .arg(dir.path().join("linux"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        let log = std::fs::read_to_string(dir.path().join("bisect.log")).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            !text.contains("# first bad commit: [") && !log.contains("is the first bad commit"),
            "{what}: {log}"
        );
        assert!(text.contains("git bisect skip"), "{what}: {text}\n{log}");
    }
}
