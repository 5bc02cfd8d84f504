//! Test suites that are built on the host in a developer's run, with the real `ktest` command.

#![expect(clippy::print_stdout, reason = "a test reports what it skips")]
#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
