//! Test suites that are built on the host in a developer's run, and that a farm fetches, with the real commands.

#![expect(clippy::print_stdout, reason = "a test reports what it skips")]
#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use model::CommitId;
use testkit::ScratchRepo;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fs/ext4/fstests.ktest");

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A source tree with the layout of xfstests. Its Makefile fails if it breaks out of the sandbox.
fn stand_in(root: &Path, home: &Path) {
    write(&root.join("check"), "#!/bin/bash\n");
    write(&root.join("tests/generic/001"), "#!/bin/bash\n_begin_fstest auto\n");
    let attempts = [
        ("test -e $(HOME_OF_HOST)/secret", "reads the home directory"),
        ("touch $(HOME_OF_HOST)/written", "writes to the home directory"),
        ("touch /usr/ktest-e2e", "writes to /usr"),
        ("test `grep -c : /proc/net/dev` != 1", "has a network"),
        ("unshare -U true", "creates a user namespace"),
        ("test `id -u` = 0", "is root"),
        ("grep -q 'CapEff:.*[1-9a-f]' /proc/self/status", "has capabilities"),
        ("test -n \"$$SECRET_OF_HOST\"", "has the environment"),
    ];
    let tries: String = attempts
        .iter()
        .map(|(attempt, what)| {
            format!("\t@if {attempt} 2>/dev/null; then echo 'error: it {what}'; exit 1; fi\n")
        })
        .collect();
    let text = format!(
        "HOME_OF_HOST = {}\ndefault:\n{tries}\tmkdir -p ltp src\n\tprintf built >ltp/fsstress\n\
         \tcp ltp/fsstress src/feature\n\tchmod +x ltp/fsstress src/feature\n",
        home.display()
    );
    write(&root.join("Makefile"), &text);
}

fn disks(deps: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(deps).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "img")).collect()
}

/// Whether the programs for building a suite's disk are installed, and bubblewrap works here.
fn can_build() -> bool {
    let script = "PATH=$PATH:/usr/sbin:/sbin; make --version && mke2fs -V && \
                  bwrap --unshare-user --ro-bind / / --disable-userns true";
    let can = Command::new("sh").args(["-c", script]).output().is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: a suite is built with bubblewrap, make and e2fsprogs");
    }
    can
}

#[test]
fn a_suite_does_not_break_out_of_its_sandbox() {
    if !can_build() {
        return;
    }
    // In the sandbox, /tmp is private.
    let home = tempfile::tempdir_in("/var/tmp").unwrap();
    write(&home.path().join("secret"), "x");
    let (source, cache) = (home.path().join("xfstests"), home.path().join("cache"));
    stand_in(&source, home.path());
    let run = |command: &mut Command| -> Output {
        let command = command.env("HOME", home.path()).env("KTEST_CACHE_DIR", &cache);
        command.env("SECRET_OF_HOST", "x").env("ktest_xfstests", &source).output().unwrap()
    };
    let said = |output: &Output| {
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let planned = run(Command::new(env!("CARGO_BIN_EXE_ktest")).args(["plan", "-k", "debian/trixie", FILE]));
    let text = said(&planned);
    assert_eq!(disks(&cache.join("deps")).len(), 1, "{text}");
    assert!(planned.status.success() && !home.path().join("written").exists(), "{text}");

    // Outside the sandbox, the attempts succeed.
    let plain = run(Command::new("make").current_dir(&source));
    assert!(said(&plain).contains("error: it reads the home directory"), "{}", said(&plain));

    // A test file that is called without ktest builds nothing.
    let deps = home.path().join("deps");
    let alone = run(Command::new(FILE).arg("deps").env("ktest_deps_dir", &deps));
    assert!(!alone.status.success() && disks(&deps).is_empty(), "{}", said(&alone));
    assert!(
        said(&alone).contains("xfstests does not build: it is built by ktest, in a sandbox"),
        "{}",
        said(&alone)
    );
}

/// A test file with the cases of a suite, which run on the host.
const CASES: &str = r#"#!/bin/bash
. "${BASH_SOURCE%/*}/test-libs.sh"
. "${BASH_SOURCE%/*}/../lib/suite.sh"
suite_is_built() { true; }
config-mem 256M
config-no-vm
case ${1:-} in
init | run-tests) ;;
*) suite xfstests "$@" && list_tests() { cat "$suite_source/tests/list"; } ;;
esac
test_one() { true; }
test_two() { true; }
main "$@"
"#;

const GOOD: &str = "#!/bin/bash\n. \"${BASH_SOURCE%/*}/test-libs.sh\"\nconfig-mem 256M\nconfig-no-vm\n\
                    test_good() { true; }\nmain \"$@\"\n";

/// A farm with a kernel, a suite and the real commands.
struct SuiteFarm {
    dir: tempfile::TempDir,
    linux: ScratchRepo,
    suite: ScratchRepo,
}

impl SuiteFarm {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let farm = Self { dir, linux: ScratchRepo::new(), suite: ScratchRepo::new() };
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["tests/test-libs.sh", "tests/prelude.sh", "lib/common.sh", "lib/ktap.sh", "lib/suite.sh"]
        {
            let text = std::fs::read_to_string(sources.join(name)).unwrap();
            write(&farm.dir.path().join("kt").join(name), &text);
        }
        write(&farm.dir.path().join("kt/tests/cases.ktest"), CASES);
        write(&farm.dir.path().join("kt/tests/good.ktest"), GOOD);
        farm.configure("for-next");
        farm
    }

    fn configure(&self, git_ref: &str) {
        let text = format!(
            "linux_repo = {linux:?}\noutput_dir = \"out\"\nktest_dir = \"kt\"\nuser = \"u\"\nconfirm_failures = 0\n\
             [suite.xfstests]\nrepo = \"file://{suite}\"\nref = {git_ref:?}\n\
             [test_group.cases]\ntests = [\"cases.ktest\"]\nmax_commits = 1\n\
             [test_group.good]\ntests = [\"good.ktest\"]\nmax_commits = 1\n\
             [branch.next]\nremote = {linux:?}\nref = \"master\"\ntest_groups = [\"cases\", \"good\"]\n\
             [host.local]\nkind = \"local\"\nslots = 1\n",
            linux = self.linux.url(),
            suite = self.suite.path().display(),
        );
        std::fs::write(self.dir.path().join("ci.toml"), text).unwrap();
    }

    /// A commit of a kernel.
    fn kernel(&self, message: &str) -> CommitId {
        let makefile = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n";
        self.linux.commit(message, &[("Makefile", makefile), ("message", message)])
    }

    /// A commit of the suite with these cases.
    fn cases(&self, cases: &str) -> CommitId {
        write(&self.suite.path().join("check"), "#!/bin/bash\n");
        self.suite.git(["add", "check"]);
        let commit = self.suite.commit(cases, &[("tests/list", &cases.replace(' ', "\n"))]);
        self.suite.git(["update-ref", "refs/heads/for-next", commit.as_str()]);
        commit
    }

    fn daemon(&self, args: &[&str]) -> (i32, String) {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("ci-daemon"));
        command.arg("--config").arg(self.dir.path().join("ci.toml")).args(args);
        command.env("HOME", self.dir.path()).env("KTEST_CACHE_DIR", self.dir.path().join("cache"));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), text.into_owned())
    }

    /// The names and statuses of the tests at a commit.
    fn verdicts(&self, commit: &CommitId) -> Vec<String> {
        let reader = results::Reader::open(self.dir.path().join("out")).unwrap();
        let results = reader.commit(commit).unwrap().unwrap();
        results.entries.iter().map(|entry| format!("{} {}", entry.key, entry.decisive.status)).collect()
    }
}

#[test]
fn a_farm_fetches_its_suites() {
    if !can_build() {
        return;
    }
    let farm = SuiteFarm::new();
    let first = farm.kernel("first");
    // Without the ref, the tests of the suite do not run, and the others do.
    let (code, text) = farm.daemon(&["--once"]);
    assert!(code == 3 && text.contains("suite xfstests: ") && text.contains("for-next"), "{code} {text}");
    assert_eq!(farm.verdicts(&first), ["good.good Passed"]);
    let (_, text) = farm.daemon(&["check"]);
    assert!(text.contains("suite xfstests: ") && text.contains("for-next"), "{text}");
    // A commit of the suite, then another one with one more case.
    for (kernel, cases) in [("second", "one"), ("third", "one two")] {
        let (suite, commit) = (farm.cases(cases), farm.kernel(kernel));
        let (code, text) = farm.daemon(&["--once"]);
        let mut expected: Vec<_> = cases.split(' ').map(|case| format!("cases.{case} Passed")).collect();
        expected.push("good.good Passed".into());
        assert_eq!((code, farm.verdicts(&commit)), (0, expected), "{text}");
        let reader = results::Reader::open(farm.dir.path().join("out")).unwrap();
        let log =
            reader.log(&commit, &"cases.one".parse().unwrap(), results::LogKind::Subtest).unwrap().unwrap();
        let log = String::from_utf8_lossy(&log.read(1 << 20).unwrap().0).into_owned();
        assert!(log.contains(&format!("suite: xfstests {suite}")), "{log}");
    }
    let (_, text) = farm.daemon(&["check"]);
    assert!(!text.contains("suite xfstests"), "{text}");
}
