//! Functions of the guest's init that need no guest.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;

const INIT: &str = include_str!("../guest/init");

/// The text of a function.
fn function(name: &str) -> &'static str {
    let begin = INIT.find(&format!("\n{name}() {{\n")).unwrap() + 1;
    let close = begin + INIT[begin..].find("\n}").unwrap() + 1;
    let end = close + INIT[close..].find('\n').unwrap();
    &INIT[begin..end]
}

/// Writes a script in another process. A child that another test starts at this time has the open files of this process until
/// it executes its program, and the kernel does not execute a file that is open for writing.
fn script(path: &Path, text: &str) {
    let write = "printf '#!/bin/bash\\n%s\\n' \"$2\" >\"$1\" && chmod 755 \"$1\"";
    let status = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(text).status().unwrap();
    assert!(status.success());
}

/// Calls `build` for a directory with these scripts. Returns its status and what was called.
fn build(scripts: &[(&str, &str)], make: &str) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let [bin, source] = ["bin", "source"].map(|name| dir.path().join(name));
    for path in [&bin, &source] {
        std::fs::create_dir(path).unwrap();
    }
    script(&bin.join("make"), &format!("echo make \"$@\" in \"${{PWD##*/}}\" >>\"$calls\"\n{make}"));
    for (name, text) in scripts {
        script(&source.join(name), &format!("echo {name} >>\"$calls\"\n{text}"));
    }
    let calls = dir.path().join("calls");
    let shell = format!("number=1\n{}\nbuild \"$1\"", function("build"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let status = Command::new("sh")
        .args(["-c", &shell, "sh"])
        .arg(&source)
        .env("PATH", path)
        .env("calls", &calls)
        .env("ktest_cpus", "3")
        .status()
        .unwrap();
    (status.code().unwrap(), std::fs::read_to_string(&calls).unwrap_or_default())
}

#[test]
fn require_make_configures_first() {
    let make = "make -j 3 in source\nmake install in source\n";
    let autogen = ("autogen.sh", "printf 'echo configure >>$calls; : >Makefile' >configure");
    assert_eq!(build(&[autogen], ""), (0, format!("autogen.sh\nconfigure\n{make}")));
    assert_eq!(build(&[("configure", ": >Makefile")], ""), (0, format!("configure\n{make}")));
    assert_eq!(build(&[("Makefile", "")], ""), (0, make.into()));
    // Configured already.
    assert_eq!(build(&[autogen, ("configure", ""), ("Makefile", "")], ""), (0, make.into()));
    // The first step that fails is the last one.
    assert_eq!(build(&[("autogen.sh", "exit 3")], ""), (3, "autogen.sh\n".into()));
    assert_eq!(build(&[("configure", "exit 4")], ""), (4, "configure\n".into()));
    assert_eq!(build(&[], "exit 2"), (2, "make -j 3 in source\n".into()));
}

/// Older kernels refuse to mount with this cache.
#[test]
fn what_outlives_a_guest_is_read_ahead_where_the_kernel_can() {
    let can = |release: &str| {
        let shell = format!("{}\nreads_ahead \"$1\"", function("reads_ahead"));
        Command::new("sh").args(["-c", &shell, "sh", release]).status().unwrap().success()
    };
    for (release, expected) in [
        ("5.10.0-35-amd64", false),
        ("6.1.192", false),
        ("6.3-rc1", false),
        ("6.4.0", true),
        ("6.12.95+deb13-amd64", true),
        ("7.0-rc1", true),
        ("10.1.0", true),
    ] {
        assert_eq!(can(release), expected, "{release}");
    }
}

#[test]
fn traces_and_coverage_of_other_libraries_are_collected() {
    let dir = tempfile::tempdir().unwrap();
    let [sys, out] = ["sys", "out"].map(|name| dir.path().join(name));
    let text = function("collect")
        .replace("/sys/kernel", &sys.display().to_string())
        .replace("/ktest-out", &out.display().to_string());
    let run = |markers: &str| {
        let shell = format!("ktest_markers={markers}\n{text}\ncollect");
        assert!(Command::new("sh").args(["-c", &shell]).status().is_ok());
        let mut names: Vec<_> = walkdir(&out).into_iter().collect();
        names.sort();
        names.join(" ")
    };
    for path in [sys.join("tracing"), sys.join("debug/gcov/build/fs"), out.clone()] {
        std::fs::create_dir_all(path).unwrap();
    }
    std::fs::write(sys.join("tracing/trace"), "# tracer: nop\n#\n").unwrap();
    std::fs::write(sys.join("debug/gcov/reset"), "").unwrap();
    std::fs::write(sys.join("debug/gcov/build/fs/a.gcda"), "data").unwrap();
    assert_eq!(run("token"), "");
    assert_eq!(run(""), "gcov.0/build/fs/a.gcda gcov.0/reset");
    // Another VM of the run does not replace them.
    std::fs::write(sys.join("tracing/trace"), "# tracer: nop\nbash-1 [000] an_event\n").unwrap();
    assert_eq!(run(""), "gcov.0/build/fs/a.gcda gcov.0/reset gcov.1/build/fs/a.gcda gcov.1/reset trace.txt");
    // A kernel without both.
    std::fs::remove_dir_all(&sys).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    std::fs::create_dir(&out).unwrap();
    assert_eq!(run(""), "");
}

/// The files below a directory, relative to it.
fn walkdir(dir: &Path) -> Vec<String> {
    let found = Command::new("find").arg(dir).args(["-type", "f", "-printf", "%P\\n"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn git_does_not_read_files_again_that_only_have_another_inode() {
    let dir = tempfile::tempdir().unwrap();
    let shell = r#"
        set -e
        export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM="$PWD/gitconfig"
        git init -q clone
        echo 123 >clone/file
        touch -d 2001-01-01 clone/file
        git -C clone add file
        git -C clone -c user.name=me -c user.email=me@example.org commit -qm one
        # Another file with the same size and time. If git reads it, git finds a difference.
        echo 124 >file
        touch -d 2001-01-01 file
        mv file clone/file
        git -C clone diff --quiet && exit 1
        git_settings .
        git -C clone diff --quiet
        # A change is found.
        echo 1234 >clone/file
        git -C clone diff --quiet && exit 1
        exit 0
    "#;
    let shell = format!("{}\n{shell}", function("git_settings"));
    let output = Command::new("sh").args(["-c", &shell]).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_test_file_has_a_keyring_like_a_login() {
    let dir = tempfile::tempdir().unwrap();
    let keyctl = r#"[ "$1 $2" = "session -" ] || exit 9
shift 2
echo "Joined session keyring: 123" >&2
in_keyring=yes exec "$@""#;
    script(&dir.path().join("keyctl"), keyctl);
    let run = |keys: &str, path: &Path| {
        let function = function("in_session").replace("/proc/keys", keys);
        let program = r#"echo "$in_keyring $#: $1"; echo trouble >&2; exit 7"#;
        let shell = format!("{function}\nin_session sh -c '{program}' sh 'a  b' c");
        let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh").args(["-c", &shell]).env("PATH", path).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    // The message of keyctl is not in the log.
    assert_eq!(run("/dev/null", dir.path()), (Some(7), "yes 2: a  b\n".into(), "trouble\n".into()));
    assert_eq!(run("/nowhere", dir.path()), (Some(7), " 2: a  b\n".into(), "trouble\n".into()));
}
