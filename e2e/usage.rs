//! Invalid input to the `ktest` command: a one-line error with a hint, and the documented exit code.

#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;

struct TestTree {
    dir: tempfile::TempDir,
}

impl TestTree {
    /// A test tree with one test file, and a directory that looks like a kernel tree.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("tests")).unwrap();
        std::fs::create_dir_all(dir.path().join("linux")).unwrap();
        let makefile = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n";
        std::fs::write(dir.path().join("linux/Makefile"), makefile).unwrap();
        let tree = Self { dir };
        tree.script(script);
        tree
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

    /// The exit code and the single line of the error, with the directory replaced by DIR.
    fn error(&self, args: &[&str]) -> (i32, String) {
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
    let tree = TestTree::new(GOOD);
    let error = tree.error(&["run", "-k", "nowhere", "tests/x.ktest"]);
    assert_eq!(error, (2, "ktest: nowhere: no such directory; pass -k DIR or -k debian/SUITE".into()));
    let error = tree.error(&["run", "-k", "tests", "tests/x.ktest"]);
    assert_eq!(error, (2, "ktest: DIR/tests: not a kernel source tree; pass -k DIR".into()));
}

#[test]
fn no_such_commit() {
    let tree = TestTree::new(GOOD);
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=x", "-c", "user.email=x@example.org"])
            .args(args)
            .current_dir(tree.path("linux"));
        assert!(git.output().unwrap().status.success());
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "one"]);
    let (code, error) = tree.error(&["run", "-k", "linux", "--commit", "nonesuch", "tests/x.ktest"]);
    assert_eq!(code, 2);
    assert!(error.contains("nonesuch") && error.starts_with("ktest: "), "{error}");
}

#[test]
fn missing_and_invalid_test_files() {
    let tree = TestTree::new(GOOD);
    let error = tree.error(&["run", "-k", "linux", "tests/y.ktest"]);
    assert_eq!(error, (2, "ktest: tests/y.ktest: no such test file".into()));
    let error = tree.error(&["run", "-k", "linux", "linux/Makefile"]);
    assert_eq!(error, (2, "ktest: linux/Makefile: not a test file; its name must end in .ktest".into()));
    std::fs::set_permissions(tree.path("tests/x.ktest"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = tree.error(&["run", "-k", "linux", "tests/x.ktest"]);
    assert_eq!(error, (2, "ktest: tests/x.ktest: not executable; run chmod +x on it".into()));
}

#[test]
fn invalid_output_of_deps_and_list_tests() {
    for (script, expected) in [
        (
            r#"case $1 in deps) echo 'what is this' ;; *) echo one ;; esac"#,
            "what: command not found; deps must print bash assignments and nothing else",
        ),
        (r#"case $1 in deps) : ;; *) echo one ;; esac"#, "declares no ktest_mem; add config-mem 1G"),
        (
            r#"case $1 in deps) echo ktest_mem=256 ktest_arch=s390x ;; *) echo one ;; esac"#,
            "declares ktest_arch=\"s390x\": use x86_64 or aarch64",
        ),
        (r#"case $1 in deps) echo ktest_mem=256 ;; esac"#, "list-tests prints no subtests"),
        (r#"echo gone wrong >&2; exit 9"#, "list-tests: exit code 9: gone wrong"),
        (r#"echo ktest_mem=256 ../x"#, "list-tests: \"../x\" is not a subtest"),
    ] {
        let tree = TestTree::new(script);
        let (code, error) = tree.error(&["run", "-k", "linux", "tests/x.ktest"]);
        assert_eq!(code, 2, "{error}");
        assert!(error.starts_with("ktest: DIR/tests/x.ktest"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_subtest_that_does_not_exist() {
    let tree = TestTree::new(GOOD);
    let error = tree.error(&["run", "-k", "linux", "tests/x.ktest", "three"]);
    assert_eq!(error, (2, "ktest: DIR/tests/x.ktest: no subtest three; the file lists: one two".into()));
}

#[test]
fn a_subtest_that_is_not_selected_runs_by_its_name() {
    let tree = TestTree::new(
        r#"case $1 in
        deps) printf '%s\n' ktest_mem=256 ktest_no_vm=true 'ktest_list_env=(ktest_unrelated=1 "ktest_groups=all of them")' ;;
        list-tests) echo one; [[ ${ktest_groups-} != "all of them" ]] || echo two ;;
        run-tests) shift; for name; do printf '========= TEST   %s\n\n========= PASSED %s in 1s\n' "$name" "$name"; done ;;
        esac"#,
    );
    let output = tree.run(&["run", "tests/x.ktest", "two", "one"]);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("two is not selected; the file lists it with --env ktest_groups='all of them'"),
        "{text}"
    );
    let text = text.lines().filter(|line| !line.contains("--env")).collect::<Vec<_>>().join("\n");
    let [two, one] = ["two", "one"].map(|name| text.find(&format!(" {name} ")));
    assert!(two.is_some() && two < one, "{text}");
    let error = tree.error(&["run", "tests/x.ktest", "three"]);
    assert_eq!(error, (2, "ktest: DIR/tests/x.ktest: no subtest three; the file lists: one".into()));
}

#[test]
fn passes_that_prove_a_fix() {
    let tree = TestTree::new(
        r#"case $1 in
        deps) printf '%s\n' ktest_mem=256 ktest_no_vm=true ;;
        list-tests) printf '%s\n' good bad skipped ;;
        run-tests) echo "========= TEST   $2"
            case $2 in
            good) echo "========= PASSED good in 1s" ;;
            bad) echo "no such extent"; echo "========= FAILED bad in 1s" ;;
            skipped) echo "========= NOTRUN skipped" ;;
            esac ;;
        esac"#,
    );
    let believe = |subtest: &str, option: &[&str]| {
        let args = [&["run", "--until-believed", "--rate", "3/3", "tests/x.ktest", subtest], option].concat();
        let output = tree.run(&args);
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = believe("good", &[]);
    assert_eq!(code, Some(0), "{text}");
    for line in ["1 of 2 passes", "2 of 2 passes", "fixed: 2 passes, enough for a confidence of 95 %"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(believe("good", &["--confidence", "99"]).1.contains("4 of 4 passes"));
    let (code, text) = believe("bad", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not fixed: failed after 0 of 2 passes: "), "{text}");
    let (code, text) = believe("skipped", &[]);
    assert_eq!(code, Some(125), "{text}");
    assert!(text.contains("not proven: 0 of 2 passes"), "{text}");
    let (code, text) = believe("good", &["--fails-after", "1000", "--json"]);
    assert_eq!(code, Some(125), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let believed = serde_json::json!({
        "state": "unproven", "passes": 0, "needed": 2, "early_passes": 3, "rate": "3/3", "confidence": 95.0
    });
    assert_eq!(json["runs"][0]["believed"], believed);
    let error = tree.error(&["run", "--until-believed", "tests/x.ktest"]);
    let expected = "ktest: --until-believed needs one subtest, tests/x.ktest lists 3; name the one that failed: \
                    tests/x.ktest SUBTEST";
    assert_eq!(error, (2, expected.into()));
    let output = tree.run(&["run", "--until-believed", "--rate", "0/3", "tests/x.ktest", "good"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("write FAILURES/ATTEMPTS"), "{error}");
}

#[test]
fn settings_in_the_environment_reach_the_tests() {
    let tree = TestTree::new(
        r#"case $1 in
        deps) printf '%s\n' ktest_mem=256 ktest_no_vm=true ;;
        list-tests) echo "is_$ktest_variant" ;;
        run-tests) echo "========= TEST   $2"; echo "variant ${ktest_variant-} ${ktest_tmp-}"; echo "========= PASSED $2 in 1s" ;;
        esac"#,
    );
    let mut command = Command::cargo_bin("ktest").unwrap();
    command.env("KTEST_CACHE_DIR", tree.path("cache")).current_dir(tree.dir.path());
    command.envs([("ktest_variant", "1k"), ("ktest_tmp", "/nowhere")]);
    let output = command.args(["run", "tests/x.ktest"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(tree.path("ktest-out/out/x.is_1k/log")).unwrap();
    assert!(log.contains("variant 1k /tmp"), "{log}");
}

#[test]
fn missing_programs_are_named_with_their_package() {
    let tree = TestTree::new(GOOD);
    let bin = tree.path("bin");
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
        .env("HOME", tree.dir.path())
        .env("KTEST_CACHE_DIR", tree.path("cache"));
    let output =
        command.current_dir(tree.dir.path()).args(["run", "-k", "linux", "tests/x.ktest"]).output().unwrap();
    let error = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("apt-get install"), "{error}");
}

#[test]
fn listing() {
    let tree = TestTree::new(GOOD);
    let output = tree.run(&["list", "--json", "tests/x.ktest"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json, serde_json::json!([{"test": "x", "subtests": ["one", "two"]}]));
}
