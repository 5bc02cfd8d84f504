//! Bad input to the `ktest` command: one line that says what to do, and the right exit code.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// A tests tree with one test file, and something that looks enough like a kernel tree to get past the door.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("tests")).unwrap();
        std::fs::create_dir_all(dir.path().join("linux")).unwrap();
        let makefile = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n";
        std::fs::write(dir.path().join("linux/Makefile"), makefile).unwrap();
        let scene = Self { dir };
        scene.script(script);
        scene
    }

    fn path(&self, below: &str) -> PathBuf {
        std::fs::canonicalize(self.dir.path()).unwrap().join(below)
    }

    fn script(&self, script: &str) {
        let file = self.path("tests/x.ktest");
        std::fs::write(&file, format!("#!/bin/bash\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::cargo_bin("ktest").unwrap();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.dir.path()).env("KTEST_CACHE_DIR", self.path("cache"));
        command.current_dir(self.dir.path()).args(args).output().unwrap()
    }

    /// The one line of complaint, the scene's folder as DIR, and the exit code.
    fn complaint(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        let text = String::from_utf8(output.stderr).unwrap();
        let text = text.replace(&*self.path("").to_string_lossy(), "DIR/");
        assert_eq!(text.lines().count(), 1, "{text}");
        (output.status.code().unwrap(), text.trim_end().to_string())
    }
}

const GOOD: &str = r#"case $1 in deps) echo ktest_mem=256 ;; list-tests) echo one two ;; esac"#;

#[test]
fn no_kernel_tree() {
    let scene = Scene::new(GOOD);
    let said = scene.complaint(&["run", "-k", "nowhere", "tests/x.ktest"]);
    assert_eq!(said, (2, "ktest: nowhere: no such directory; say -k DIR, or -k debian/SUITE".into()));
    let said = scene.complaint(&["run", "-k", "tests", "tests/x.ktest"]);
    assert_eq!(said, (2, "ktest: DIR/tests: no kernel source tree; say -k DIR".into()));
}

#[test]
fn no_such_commit() {
    let scene = Scene::new(GOOD);
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=x", "-c", "user.email=x@example.org"])
            .args(args)
            .current_dir(scene.path("linux"));
        assert!(git.output().unwrap().status.success());
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "one"]);
    let (code, said) = scene.complaint(&["run", "-k", "linux", "--commit", "nonesuch", "tests/x.ktest"]);
    assert_eq!(code, 2);
    assert!(said.contains("nonesuch") && said.starts_with("ktest: "), "{said}");
}

#[test]
fn a_test_file_that_is_missing_or_not_one() {
    let scene = Scene::new(GOOD);
    let said = scene.complaint(&["run", "-k", "linux", "tests/y.ktest"]);
    assert_eq!(said, (2, "ktest: tests/y.ktest: no such test file".into()));
    let said = scene.complaint(&["run", "-k", "linux", "linux/Makefile"]);
    assert_eq!(said, (2, "ktest: linux/Makefile: a test file's name ends in .ktest".into()));
    std::fs::set_permissions(scene.path("tests/x.ktest"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = scene.complaint(&["run", "-k", "linux", "tests/x.ktest"]);
    assert_eq!(said, (2, "ktest: tests/x.ktest: not executable; chmod +x it".into()));
}

#[test]
fn rubbish_for_deps_and_lists() {
    for (script, complaint) in [
        (
            r#"case $1 in deps) echo 'what is this' ;; *) echo one ;; esac"#,
            "what: command not found; deps prints bash assignments and nothing else",
        ),
        (r#"case $1 in deps) : ;; *) echo one ;; esac"#, "declares no ktest_mem; add config-mem 1G"),
        (
            r#"case $1 in deps) echo ktest_mem=256 ktest_arch=s390x ;; *) echo one ;; esac"#,
            "declares ktest_arch=\"s390x\": use x86_64 or aarch64",
        ),
        (r#"case $1 in deps) echo ktest_mem=256 ;; esac"#, "lists no subtests"),
        (r#"echo gone wrong >&2; exit 9"#, "list-tests: exit code 9: gone wrong"),
        (r#"echo ktest_mem=256 ../x"#, "list-tests: \"../x\" is not a subtest"),
    ] {
        let scene = Scene::new(script);
        let (code, said) = scene.complaint(&["run", "-k", "linux", "tests/x.ktest"]);
        assert_eq!(code, 2, "{said}");
        assert!(said.starts_with("ktest: DIR/tests/x.ktest"), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn a_subtest_that_does_not_exist() {
    let scene = Scene::new(GOOD);
    let said = scene.complaint(&["run", "-k", "linux", "tests/x.ktest", "three"]);
    assert_eq!(said, (2, "ktest: DIR/tests/x.ktest: no subtest three; there are: one two".into()));
}

#[test]
fn missing_programs_are_named_with_their_package() {
    let scene = Scene::new(GOOD);
    let bin = scene.path("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in ["bash", "git", "sh", "env"] {
        let from =
            ["/usr/bin", "/bin"].iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists());
        std::os::unix::fs::symlink(from.unwrap(), bin.join(program)).unwrap();
    }
    let mut command = Command::cargo_bin("ktest").unwrap();
    command
        .env_clear()
        .env("PATH", &bin)
        .env("HOME", scene.dir.path())
        .env("KTEST_CACHE_DIR", scene.path("cache"));
    let output =
        command.current_dir(scene.dir.path()).args(["run", "-k", "linux", "tests/x.ktest"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("apt-get install"), "{said}");
}

#[test]
fn listing() {
    let scene = Scene::new(GOOD);
    let output = scene.run(&["list", "--json", "tests/x.ktest"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json, serde_json::json!([{"test": "x", "subtests": ["one", "two"]}]));
}
