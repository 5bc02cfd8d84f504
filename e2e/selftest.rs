//! Runs the test files in tests/selftest and compares the verdicts with the expectations in the header of each file:
//!
//!     # expect: SUBTEST STATUS [WORDS OF THE REASON]
//!     # expect-core: SUBTEST [WORDS OF THE KERNEL'S LOG]     (its core; no other subtest of the file has one)
//!     # expect-artifact: SUBTEST NAME WORDS      (an artifact that the test left)
//!     # args: WORDS                     (added to the command line)
//!     # expect-file: Failed to run [WORDS OF THE COMPLAINT]      (the whole file cannot be used)
//!
//! The kernel is the branch `base` of the repository in KTEST_TEST_REPO, which `make test` sets.

#![expect(clippy::print_stdout, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use model::{Event, Stamped, Status, Verdict};

/// One VM at a time, because CI machines are small and the time limits are real.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The kernel repository; if there is none, prints why the test is skipped.
fn kernel_repo() -> Option<PathBuf> {
    let repo = std::env::var_os("KTEST_TEST_REPO").map(PathBuf::from);
    if repo.is_none() {
        println!("skipped: KTEST_TEST_REPO is not set; `make test` sets it");
    }
    repo
}

fn selftests() -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(root().join("tests/selftest")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "ktest"));
    files.sort();
    files
}

/// The test files that are merged into the kernel, so that all tests here share one kernel.
fn merged_files() -> Vec<PathBuf> {
    let named = [
        "boot",
        "fs/ext4/basic",
        "selftest/kernel_trouble",
        "selftest/panic",
        "selftest/devices_scsi",
        "selftest/devices_ahci",
        "selftest/devices_nvme",
        "selftest/pmem",
    ];
    named.iter().map(|name| root().join(format!("tests/{name}.ktest"))).collect()
}

fn command(repo: &Path, out: &Path, file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ktest"));
    command.args(["run", "--events", "--commit", "base", "-k"]).arg(repo).arg("--out").arg(out);
    for other in merged_files() {
        command.arg("--merge").arg(other);
    }
    let head = std::fs::read_to_string(file).unwrap();
    for words in head.lines().filter_map(|line| line.strip_prefix("# args: ")) {
        command.args(words.split_whitespace());
    }
    command.arg(file).current_dir(out).stdin(Stdio::null());
    command
}

fn events(output: &Output) -> Vec<Event> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| Stamped::parse(line).unwrap().unwrap().event).collect()
}

/// Processes with the directory in their command line.
fn processes_of(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&*dir.to_string_lossy()) {
            found.push(line);
        }
    }
    found
}

#[derive(Debug, PartialEq)]
struct Expected {
    status: Status,
    words: String,
}

/// The expectations for the subtests and for the whole file, from its header.
fn expectations(file: &Path) -> (BTreeMap<String, Expected>, Option<String>) {
    let text = std::fs::read_to_string(file).unwrap();
    let mut subtests = BTreeMap::new();
    let mut whole = None;
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        if let Some(rest) = line.strip_prefix("# expect-file: Failed to run") {
            whole = Some(rest.trim().to_string());
        } else if let Some(rest) = line.strip_prefix("# expect: ") {
            let (name, rest) = rest.split_once(' ').unwrap();
            let status = Status::STORED
                .into_iter()
                .find(|s| rest == s.label() || rest.starts_with(&format!("{} ", s.label())));
            // "Failed to run" starts with "Failed".
            let status =
                if rest.starts_with("Failed to run") { Status::FailedToRun } else { status.unwrap() };
            let words = rest[status.label().len()..].trim().to_string();
            subtests.insert(name.to_string(), Expected { status, words });
        }
    }
    (subtests, whole)
}

/// The variable that enables a file with its own kernel, which takes five minutes to build on two processors.
fn wants_kernel_of_its_own(file: &Path) -> Option<&'static str> {
    match file.file_name()?.to_str()? {
        "crash_titles_kasan.ktest" => Some("KTEST_TEST_KASAN"),
        name if name.starts_with("flavor_") => Some("KTEST_TEST_FLAVORS"),
        _ => None,
    }
}

#[test]
fn every_selftest_has_its_expected_verdicts() {
    let Some(repo) = kernel_repo() else { return };
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut wrong = Vec::new();
    for file in selftests() {
        if let Some(variable) = wants_kernel_of_its_own(&file)
            && std::env::var_os(variable).is_none()
        {
            eprintln!("skipped: {}: builds a kernel of its own; set {variable}=1", file.display());
            continue;
        }
        let out = tempfile::tempdir().unwrap();
        let began = std::time::Instant::now();
        let output = command(&repo, out.path(), &file).output().unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        println!("{name}: {:.1} s", began.elapsed().as_secs_f64());
        wrong.extend(
            differences(&file, &output, out.path()).into_iter().map(|what| format!("{name}: {what}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The differences between a run and the expectations of its test file.
fn differences(file: &Path, output: &Output, out: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let (expected, whole) = expectations(file);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if let Some(words) = whole {
        if output.status.code() != Some(2) || !stderr.contains(&words) {
            wrong.push(format!("{} {stderr}", output.status));
        }
        return wrong;
    }
    // If list-tests of a file fails, it has no subtests, so there is no verdict.
    let none_starts = expected.values().all(|expected| expected.status == Status::FailedToRun);
    if none_starts && output.status.code() == Some(2) && stderr.lines().count() == 1 {
        return wrong;
    }
    let found = verdicts(output, out, &mut wrong);
    for (subtest, expected) in &expected {
        let verdict = found.get(subtest);
        let right = verdict.is_some_and(|verdict| {
            verdict.status() == expected.status && verdict.reason().unwrap_or("").contains(&expected.words)
        });
        if !right {
            wrong.push(format!("{subtest}: expected {expected:?}, found {verdict:?} {stderr}"));
        }
    }
    if found.len() != expected.len() {
        wrong.push(format!("{} verdicts, {} expected", found.len(), expected.len()));
    }
    wrong.extend(wrong_cores(file, &expected, out));
    wrong.extend(wrong_artifacts(file, out));
    let left = processes_of(out);
    if !left.is_empty() {
        wrong.push(format!("still running: {left:?}"));
    }
    wrong
}

/// The directory of a test file's results is `out/` and this name, followed by a subtest.
fn dotted(file: &Path) -> String {
    let test = file.strip_prefix(root().join("tests")).unwrap().with_extension("");
    test.to_string_lossy().replace('/', ".")
}

/// The expected artifacts that are missing or have other content.
fn wrong_artifacts(file: &Path, out: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("# expect-artifact: "));
    let mut wrong = Vec::new();
    for line in lines {
        let (subtest, rest) = line.split_once(' ').unwrap();
        let (name, words) = rest.split_once(' ').unwrap();
        let dir = format!("out/{}.{}/artifacts", dotted(file), subtest.replace('/', "."));
        let found = std::fs::read_to_string(out.join(dir).join(name)).unwrap_or_default();
        if !found.contains(words) {
            wrong.push(format!("{subtest}: the artifact {name} is {found:?}"));
        }
    }
    wrong
}

/// The differences of the cores, if the header of the file has expectations for them.
fn wrong_cores(file: &Path, subtests: &BTreeMap<String, Expected>, out: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("# expect-core: "));
    let expected: BTreeMap<_, _> = lines.map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
    if expected.is_empty() {
        return vec![];
    }
    let test = dotted(file);
    let mut wrong = Vec::new();
    for subtest in subtests.keys() {
        let dir = out.join(format!("out/{test}.{subtest}"));
        let has_core = dir.join("vmcore").exists();
        let Some(words) = expected.get(subtest.as_str()).filter(|_| has_core) else {
            if has_core || expected.contains_key(subtest.as_str()) {
                let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
                wrong.push(format!("{subtest}: has a core: {has_core}\n{log}"));
            }
            continue;
        };
        let output = Command::new(env!("CARGO_BIN_EXE_ktest")).args(["core", "--dmesg"]).arg(&dir).output();
        let output = output.unwrap();
        let log = String::from_utf8_lossy(&output.stdout);
        if !log.contains("Linux version") || !log.contains(words) {
            wrong.push(format!("{subtest}: {} {log}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    wrong
}

/// The verdicts of a run by subtest. Each subtest must have one verdict, and a log that ends with it.
fn verdicts(output: &Output, out: &Path, wrong: &mut Vec<String>) -> BTreeMap<String, Verdict> {
    let mut found = BTreeMap::new();
    for event in events(output) {
        if let Event::Verdict { subtest, verdict, dir, .. } = event {
            let log = std::fs::read_to_string(out.join(&dir).join("log")).unwrap_or_default();
            let status = std::fs::read_to_string(out.join(&dir).join("status")).unwrap_or_default();
            if log.is_empty() || !log.trim_end().ends_with(status.trim_end()) {
                wrong.push(format!("{subtest}: the log does not end with the status line: {status}"));
            }
            if found.insert(subtest.to_string(), verdict).is_some() {
                wrong.push(format!("{subtest}: two verdicts"));
            }
        }
    }
    found
}

#[test]
fn boot_and_ext4_pass_on_a_good_kernel() {
    let Some(repo) = kernel_repo() else { return };
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for name in ["boot", "fs/ext4/basic"] {
        let out = tempfile::tempdir().unwrap();
        let output =
            command(&repo, out.path(), &root().join(format!("tests/{name}.ktest"))).output().unwrap();
        let verdicts: Vec<_> =
            events(&output).into_iter().filter(|e| matches!(e, Event::Verdict { .. })).collect();
        assert_eq!(output.status.code(), Some(0), "{verdicts:?} {}", String::from_utf8_lossy(&output.stderr));
        assert!(verdicts.len() >= 5, "{verdicts:?}");
    }
}

/// Starts a run that hangs, sends it the signal while its subtest runs, and waits until no process is left.
fn stop_in_the_middle(signal: &str) -> Option<std::process::ExitStatus> {
    let repo = kernel_repo()?;
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let out = tempfile::tempdir().unwrap();
    let file = root().join("tests/selftest/hang.ktest");
    let mut child = command(&repo, out.path(), &file).arg("hang").stdout(Stdio::null()).spawn().unwrap();
    let status = out.path().join("out/selftest.hang.hang/status");
    let deadline = std::time::Instant::now() + Duration::from_secs(1500);
    while !status.exists() {
        assert!(
            std::time::Instant::now() < deadline && child.try_wait().unwrap().is_none(),
            "the subtest never started"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(processes_of(out.path()).iter().any(|line| line.contains("qemu-system")));
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !processes_of(out.path()).is_empty() {
        assert!(std::time::Instant::now() < deadline, "still running: {:?}", processes_of(out.path()));
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(ended)
}

#[test]
fn terminated_runs_leave_no_process() {
    if let Some(ended) = stop_in_the_middle("-TERM") {
        assert_eq!(ended.code(), Some(143));
    }
    if let Some(ended) = stop_in_the_middle("-INT") {
        assert_eq!(ended.code(), Some(130));
    }
}

#[test]
fn killed_runs_leave_no_process() {
    let _ = stop_in_the_middle("-KILL");
}
