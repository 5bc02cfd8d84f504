//! Output that cannot be written: a reader that has closed its end, a full disk, a closed descriptor. No command
//! panics, and each exits with the exit code of its work or with its own error.

#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

mod programs;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use model::Verdict;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// A directory with test files that need no VM, results, and a configuration.
fn scene() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tests = dir.path().join("tests");
    std::fs::create_dir_all(&tests).unwrap();
    std::fs::create_dir_all(dir.path().join("linux")).unwrap();
    let makefile = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n";
    std::fs::write(dir.path().join("linux/Makefile"), makefile).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(dir.path().join("lib")).unwrap();
    for library in ["tests/test-libs.sh", "tests/prelude.sh", "lib/common.sh", "lib/ktap.sh"] {
        std::fs::copy(sources.join(library), dir.path().join(library)).unwrap();
    }
    for (name, body) in [("good", "true"), ("bad", "false")] {
        let file = tests.join(format!("{name}.ktest"));
        let script = format!(
            "#!/bin/bash\n. \"${{BASH_SOURCE%/*}}/test-libs.sh\"\nconfig-mem 256M\nconfig-no-vm\n\
             test_one() {{ {body}; }}\nmain \"$@\"\n"
        );
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let commit = commit_id("one");
    let results = ResultsFixture::new(&dir.path().join("out"));
    results.branch("kim", "b", &[(commit.clone(), "one".into())]);
    results.test(TestResult::new(&commit, "good.one", Verdict::Passed, 5)).publish();
    results.finish();
    let config = "output_dir = \"out\"\nktest_dir = \".\"\nlinux_repo = \"linux.git\"\n";
    std::fs::write(dir.path().join("ci.toml"), config).unwrap();
    dir
}

/// Standard output of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// A file.
    Read,
    /// A pipe without a reader.
    Gone,
    /// A full disk.
    Full,
    /// No descriptor 1.
    Closed,
}

/// The exit code and standard error of a command line.
fn end(dir: &Path, line: &str, sink: Sink) -> (i32, String) {
    let mut words = line.split(' ');
    let program = assert_cmd::cargo::cargo_bin(words.next().unwrap());
    let mut command = match sink {
        Sink::Closed => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec \"$0\" \"$@\" >&-"]).arg(program);
            shell
        }
        Sink::Read | Sink::Gone | Sink::Full => Command::new(program),
    };
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir);
    command.env("KTEST_CACHE_DIR", dir.join("cache")).current_dir(dir).args(words).stdin(Stdio::null());
    if sink == Sink::Read {
        command.stdout(File::create(dir.join("stdout")).unwrap());
    } else if sink == Sink::Full {
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
    } else if sink == Sink::Gone {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer);
    }
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{line} {sink:?}: {text}");
    (output.status.code().unwrap(), text)
}

/// A command line, its exit code, and the exit code if the disk is full.
const COMMANDS: [(&str, i32, i32); 22] = [
    ("ktest list tests/good.ktest", 0, 125),
    ("ktest list --json tests/good.ktest", 0, 125),
    ("ktest run --json tests/good.ktest", 0, 125),
    ("ktest run --json tests/bad.ktest", 1, 125),
    ("ktest run tests/good.ktest", 0, 125),
    ("ktest run tests/bad.ktest", 1, 125),
    ("ktest run --dry-run tests/good.ktest", 0, 125),
    ("ktest run --dry-run --json tests/good.ktest", 0, 125),
    ("ktest plan tests/good.ktest", 0, 125),
    ("ktest plan --json tests/good.ktest", 0, 125),
    ("ktest kernel list", 0, 125),
    ("ktest kernel list --json", 0, 125),
    ("ktest kernel gc --dry-run --json", 0, 125),
    ("ktest image list", 0, 125),
    ("ktest image list --json", 0, 125),
    ("ktest host setup --print-script h", 0, 125),
    ("ci-daemon --config ci.toml check", 0, 1),
    ("ci-daemon --config ci.toml check --json", 0, 1),
    ("ci-daemon --config ci.toml retention --dry-run --json", 0, 1),
    ("ci-status --output-dir out branches --json", 0, 1),
    ("ci-status completions bash", 0, 1),
    ("ci-status completions bash --json", 0, 1),
];

#[test]
fn the_exit_code_does_not_depend_on_the_reader() {
    let dir = scene();
    for (line, code, _) in COMMANDS {
        for sink in [Sink::Gone, Sink::Closed] {
            let (found, text) = end(dir.path(), line, sink);
            assert_eq!(found, code, "{line} {sink:?}: {text}");
            assert!(!text.contains("standard output"), "{line} {sink:?}: {text}");
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_not_a_verdict() {
    let dir = scene();
    for (line, _, code) in COMMANDS {
        let (found, text) = end(dir.path(), line, Sink::Full);
        assert_eq!(found, code, "{line}: {text}");
        assert!(text.contains("cannot write to standard output: No space left on device"), "{line}: {text}");
    }
}

#[test]
fn a_run_that_is_cut_off_by_its_reader_has_not_passed() {
    let dir = scene();
    for sink in [Sink::Gone, Sink::Full] {
        let (code, text) = end(dir.path(), "ktest run --events tests/good.ktest", sink);
        assert_eq!(code, 125, "{sink:?}: {text}");
    }
    assert_eq!(end(dir.path(), "ktest run --events tests/bad.ktest", Sink::Gone).0, 1);
}

#[test]
fn standard_error_that_cannot_be_written_changes_nothing() {
    let dir = scene();
    for (line, code) in [
        ("ktest run nowhere.ktest", 2),
        ("ktest run tests/good.ktest", 0),
        ("ci-daemon --config nowhere.toml check", 1),
        ("ci-daemon --once check", 2),
        ("ci-dashboard --config nowhere.toml serve", 1),
        ("ci-status --output-dir nowhere branches", 1),
    ] {
        let mut words = line.split(' ');
        let mut command = Command::new(assert_cmd::cargo::cargo_bin(words.next().unwrap()));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir.path());
        command.env("KTEST_CACHE_DIR", dir.path().join("cache")).env("KTEST_LOG", "trace");
        command.current_dir(dir.path()).args(words).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::options().write(true).open("/dev/full").unwrap());
        assert_eq!(command.status().unwrap().code(), Some(code), "{line}");
    }
}

/// The arguments with which a command does something here; SHA is the commit. Without a row it gets none.
const ARGUMENTS: &[(&str, &str)] = &[
    ("ktest run", "tests/good.ktest"),
    ("ktest plan", "tests/good.ktest"),
    ("ktest list", "tests/good.ktest"),
    ("ktest build", "tests/good.ktest -k linux"),
    ("ktest boot", "-k linux"),
    ("ktest host setup", "--print-script h"),
    ("ci-daemon", "--config ci.toml"),
    ("ci-status", "--output-dir out"),
    ("ci-status log", "kim/b"),
    ("ci-status show", "SHA"),
    ("ci-status logs", "SHA good.one"),
    ("ci-status artifacts", "SHA good.one"),
    ("ci-status compare", "SHA SHA"),
    ("ci-status rerun", "SHA good.one"),
    ("ci-status history", "kim/b good.one"),
    ("ci-status completions", "bash"),
    ("ci-dashboard", "--config ci.toml"),
];

/// Commands that run until they are stopped, or use the network, KVM or other hosts: only their help is printed.
const ENDLESS: &[&str] = &[
    "ci-daemon run",
    "ci-dashboard serve",
    "ci-status watch",
    "ci-status wait",
    "ktest boot",
    "ktest doctor",
    "ktest host check",
    "ktest host run",
    "ktest host slurm",
    "ktest image create",
    "ktest image update",
    "ktest kernel fetch",
];

/// The command lines of every subcommand, as clap defines them: its help, and it with each kind of output.
fn command_lines() -> Vec<String> {
    let mut lines = Vec::new();
    for command in programs::commands() {
        let (name, path) = (command.get_name().to_owned(), command.get_name().to_owned());
        add_command_lines(&command, &path, &name, &mut lines);
    }
    let commit = commit_id("one").to_string();
    lines.into_iter().map(|line| line.replace("SHA", &commit)).collect()
}

fn add_command_lines(command: &clap::Command, path: &str, line: &str, lines: &mut Vec<String>) {
    let arguments = |path: &str| ARGUMENTS.iter().find(|(name, _)| *name == path).map(|(_, words)| *words);
    lines.extend([format!("{path} --help"), format!("{path} -h")]);
    let subcommands: Vec<_> = command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
    // The options of a program come before the subcommand.
    let own = arguments(path).map_or_else(|| line.to_owned(), |words| format!("{line} {words}"));
    for sub in &subcommands {
        let name = sub.get_name();
        add_command_lines(sub, &format!("{path} {name}"), &format!("{own} {name}"), lines);
    }
    if !subcommands.is_empty() || ENDLESS.contains(&path) {
        return;
    }
    lines.push(own.clone());
    for option in ["json", "dry-run", "events"] {
        if command.get_arguments().any(|arg| arg.get_long() == Some(option)) {
            lines.push(format!("{own} --{option}"));
        }
    }
}

#[test]
fn no_subcommand_depends_on_the_reader_of_its_output() {
    let lines = command_lines();
    assert!(lines.len() > 100, "{lines:?}");
    for (name, _) in ARGUMENTS {
        assert!(lines.iter().any(|line| line.starts_with(name)), "no such command: {name}");
    }
    for name in ENDLESS {
        assert!(lines.contains(&format!("{name} --help")), "no such command: {name}");
    }
    let mut printed = 0;
    for line in &lines {
        let dir = scene();
        let (code, text) = end(dir.path(), line, Sink::Read);
        let prints = std::fs::metadata(dir.path().join("stdout")).unwrap().len() > 0;
        printed += usize::from(prints);
        for sink in [Sink::Gone, Sink::Closed] {
            let (found, said) = end(dir.path(), line, sink);
            // A run without its events has no verdict: another test.
            if !line.ends_with("--events") {
                assert_eq!(found, code, "{line} {sink:?}: {said}\n{text}");
            }
        }
        let (found, said) = end(dir.path(), line, Sink::Full);
        // clap ignores the error.
        if prints && !line.ends_with("--help") && !line.ends_with("-h") {
            assert!([1, 125].contains(&found), "{line}: {found} {said}");
        }
    }
    assert!(printed * 4 > lines.len() * 3, "only {printed} of {} command lines print something", lines.len());
}
