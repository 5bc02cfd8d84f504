//! lib/suite.sh and lib/fstests.sh on the host: without source, with a fake xfstests source, and with one that does not
//! build. tests/selftest/fstests.ktest and blktests.ktest test their handling of results in the guest.

#![expect(clippy::print_stdout, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testfile::{HostEnv, TestFile};

fn test_file(name: &str) -> TestFile {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    TestFile::find(&root.join("tests").join(name), None).unwrap()
}

fn env(deps: &Path, more: &[(&str, &str)]) -> HostEnv {
    let env = more.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    HostEnv { deps_dir: deps.into(), env, ..HostEnv::default() }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A source tree with the layout of xfstests: new cases contain their groups, and the groups of old ones are in a file.
fn stand_in(root: &Path) {
    write(&root.join("check"), "#!/bin/bash\n");
    for (name, groups) in [("generic/001", "auto quick"), ("generic/475", "soak auto"), ("ext4/003", "auto")]
    {
        let text = format!("#!/bin/bash\n. ./common/preamble\n_begin_fstest {groups}\n");
        write(&root.join("tests").join(name), &text);
    }
    write(&root.join("tests/generic/1226"), "#!/bin/bash\n_begin_fstest log \\\n    quick\n");
    write(&root.join("tests/xfs/001"), "_begin_fstest auto\n");
    write(&root.join("tests/generic/001.out"), "QA output created by 001\n");
    write(&root.join("tests/shared/002"), "#!/bin/bash\n");
    write(&root.join("tests/shared/group"), "# groups\n002 auto metadata # both\n");
    write(
        &root.join("Makefile"),
        "default:\n\tmkdir -p ltp src\n\tprintf built >ltp/fsstress\n\tcp ltp/fsstress src/feature\n\
         \tchmod +x ltp/fsstress src/feature\n\t! test -e /home/somebody\n",
    );
}

async fn listed(env: &HostEnv) -> Vec<String> {
    let names = test_file("fs/ext4/fstests.ktest").list_tests(env).await.unwrap();
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn without_source_no_case_passes() {
    let deps = tempfile::tempdir().unwrap();
    let env = env(deps.path(), &[]);
    let types = ["bcachefs", "btrfs", "ext4", "f2fs", "nfs", "overlay", "tmpfs", "xfs"];
    let names =
        types.map(|name| format!("fs/{name}/fstests")).into_iter().chain(["block/blktests".to_owned()]);
    for name in names {
        let file = test_file(&format!("{name}.ktest"));
        let names = file.list_tests(&env).await.unwrap();
        assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["source"], "{name}");
        assert!(file.deps(&[], &env).await.unwrap().no_vm, "{name}");
        let output = Command::new(&file.path)
            .args(["run-tests", "source"])
            .env("ktest_no_vm", "true")
            .env("ktest_deps_dir", deps.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("NOTRUN source in 0s: there is no source of "), "{name}: {said}");
    }
    let wrong = env_of(deps.path(), "/nowhere");
    let error = test_file("fs/ext4/fstests.ktest").list_tests(&wrong).await.unwrap_err().to_string();
    assert!(error.contains("ktest_xfstests=/nowhere: no xfstests in this directory"), "{error}");
}

fn env_of(deps: &Path, source: &str) -> HostEnv {
    env(deps, &[("ktest_xfstests", source)])
}

#[tokio::test]
async fn cases_are_listed_by_their_groups() {
    let deps = tempfile::tempdir().unwrap();
    stand_in(&deps.path().join("xfstests"));
    let list = |more: &[(&str, &str)]| env(deps.path(), more);
    assert_eq!(listed(&list(&[])).await, ["ext4/003", "generic/001", "generic/475", "shared/002"]);
    let some =
        list(&[("ktest_xfstests_groups", "quick+metadata"), ("ktest_xfstests_exclude", "generic.001")]);
    assert_eq!(listed(&some).await, ["generic/1226", "shared/002"]);
    let deps_env = HostEnv { sandboxed: true, ..list(&[]) };
    let declared = test_file("fs/ext4/fstests.ktest").deps(&[], &deps_env).await;
    if can_build().await {
        let listing = declared.unwrap().list_env;
        assert!(listing.contains(&("ktest_xfstests_groups".into(), "all".into())), "{listing:?}");
    }
    let all = list(&[("ktest_xfstests_groups", "all"), ("ktest_xfstests_exclude", "soak,metadata")]);
    assert_eq!(listed(&all).await, ["ext4/003", "generic/001", "generic/1226"]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_error_with_the_nearest_names() {
    let deps = tempfile::tempdir().unwrap();
    stand_in(&deps.path().join("xfstests"));
    for (variable, value, words) in [
        (
            "ktest_xfstests_groups",
            "quik",
            "ktest_xfstests_groups: there is no quik; the nearest names: quick",
        ),
        ("ktest_xfstests_groups", "auto+metdata", "there is no metdata; the nearest names: metadata"),
        ("ktest_xfstests_groups", "generic.001", "there is no generic.001; the nearest names: "),
        (
            "ktest_xfstests_exclude",
            "soak+generic/002",
            "there is no generic/002; the nearest names: generic.001",
        ),
        ("ktest_xfstests_variant", "2k", "ktest_xfstests_variant: there is no 2k; the nearest names: 1k"),
    ] {
        let env = env(deps.path(), &[(variable, value)]);
        let error = test_file("fs/ext4/fstests.ktest").list_tests(&env).await.unwrap_err().to_string();
        assert!(error.contains(words), "{value}: {error}");
    }
    let blktests = deps.path().join("blktests");
    write(&blktests.join("check"), "#!/bin/sh\n");
    for case in ["block/001", "loop/002"] {
        write(&blktests.join("tests").join(case), "");
    }
    for (variable, value, words) in [
        ("ktest_blktests_groups", "blok", "there is no blok; the nearest names: block, loop"),
        ("ktest_blktests_exclude", "loop+block.0011", "there is no block/0011; the nearest names: block/001"),
    ] {
        let env = env(deps.path(), &[(variable, value)]);
        let error = test_file("block/blktests.ktest").list_tests(&env).await.unwrap_err().to_string();
        assert!(error.contains(words), "{value}: {error}");
    }
}

/// Copies a test file and the libraries: the files with exclusions and variants are next to the test file.
fn copy_of_tests(to: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for name in ["tests/fs/ext4/fstests.ktest", "tests/prelude.sh", "tests/test-libs.sh"] {
        std::fs::create_dir_all(to.join(name).parent().unwrap()).unwrap();
        std::fs::copy(root.join(name), to.join(name)).unwrap();
    }
    std::fs::create_dir(to.join("lib")).unwrap();
    for entry in std::fs::read_dir(root.join("lib")).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join("lib").join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_line_of_the_excluded_cases_that_is_not_valid_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    copy_of_tests(dir.path());
    let deps = tempfile::tempdir().unwrap();
    stand_in(&deps.path().join("xfstests"));
    let file = TestFile::find(&dir.path().join("tests/fs/ext4/fstests.ktest"), None).unwrap();
    let exclude = dir.path().join("tests/fs/ext4/fstests.exclude");
    let good =
        "# case\n\ngeneric/475  -  it takes two hours\nsoak kernel<6.6,variant!=1k,arch=aarch64 slow\n";
    std::fs::write(&exclude, good).unwrap();
    let names = file.list_tests(&env(deps.path(), &[])).await.unwrap();
    assert_eq!(names.len(), 4, "they are listed, and Not run");
    for (line, words) in [
        ("generic/475", "fstests.exclude:5: generic/475 has no conditions (- for none) or no reason"),
        ("soak -", "fstests.exclude:5: soak has no conditions (- for none) or no reason"),
        ("soak kernel=6.6 slow", "kernel=6.6 is not a condition; use variant="),
        ("soak variant=1k,old slow", "old is not a condition"),
    ] {
        std::fs::write(&exclude, format!("{good}{line}\n")).unwrap();
        let error = file.list_tests(&env(deps.path(), &[])).await.unwrap_err().to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[tokio::test]
async fn variants_declare_their_devices_and_a_file_has_more_of_them() {
    let dir = tempfile::tempdir().unwrap();
    copy_of_tests(dir.path());
    let variants = "# mine\n\nmine | -b 2048 | -o noauto_da_alloc | logdev SOAK_DURATION=9\n";
    std::fs::write(dir.path().join("tests/fs/ext4/fstests.variants"), variants).unwrap();
    let deps = tempfile::tempdir().unwrap();
    stand_in(&deps.path().join("xfstests"));
    let file = TestFile::find(&dir.path().join("tests/fs/ext4/fstests.ktest"), None).unwrap();
    let of =
        |variant| HostEnv { sandboxed: true, ..env(deps.path(), &[("ktest_xfstests_variant", variant)]) };
    for variant in ["mine", "bigalloc_1k"] {
        assert_eq!(file.list_tests(&of(variant)).await.unwrap().len(), 4, "{variant}");
    }
    let error = file.list_tests(&of("min")).await.unwrap_err().to_string();
    assert!(error.contains("there is no min; the nearest names: mine"), "{error}");
    if !can_build().await {
        return;
    }
    for (variant, scratch, pmem) in
        [("", 3, 0), ("1k", 3, 0), ("mine", 5, 0), ("logdev", 5, 0), ("dax", 3, 2)]
    {
        let declared = file.deps(&[], &of(variant)).await.unwrap();
        assert_eq!((declared.scratch.len(), declared.pmem.len()), (scratch, pmem), "{variant}");
    }
    let file = test_file("fs/xfs/fstests.ktest");
    assert_eq!(file.deps(&[], &of("rtdev")).await.unwrap().scratch.len(), 5);
}

/// Whether the programs for building a suite's disk are installed.
async fn can_build() -> bool {
    let runs =
        |argv: &[&str]| Command::new(argv[0]).args(&argv[1..]).output().is_ok_and(|o| o.status.success());
    let can = sandbox::probe().await.is_ok()
        && runs(&["make", "--version"])
        && runs(&["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin mke2fs -V"]);
    if !can {
        println!("skipped: a suite is built with bubblewrap, make and e2fsprogs");
    }
    can
}

#[tokio::test]
async fn a_suite_is_built_once_and_attached_as_a_disk() {
    if !can_build().await {
        return;
    }
    let deps = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    stand_in(source.path());
    std::os::unix::fs::symlink(source.path(), deps.path().join("xfstests")).unwrap();
    let env = HostEnv { sandboxed: true, ..env(deps.path(), &[]) };
    let file = test_file("fs/ext4/fstests.ktest");
    let first = file.deps(&[], &env).await.unwrap();
    let [disk] = first.rw_images.as_slice() else { panic!("{:?}", first.rw_images) };
    let made = std::fs::metadata(disk).unwrap().len();
    assert!(made > 1 << 20, "{made}");
    let debugfs = Command::new("sh")
        .args(["-c", "PATH=$PATH:/usr/sbin:/sbin debugfs -R 'cat ltp/fsstress' \"$1\"", "sh"])
        .arg(disk)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&debugfs.stdout), "built");
    assert!(!source.path().join("ltp").exists(), "the source itself was built in");
    // An unchanged suite is not built again. A changed one is, and the previous build stays for its users.
    write(&deps.path().join("sentinel"), "");
    assert_eq!(file.deps(&[], &env).await.unwrap().rw_images, first.rw_images);
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(source.path().join("tests/generic/475"), readable).unwrap();
    assert_ne!(file.deps(&[], &env).await.unwrap().rw_images, first.rw_images);
    write(&source.path().join("tests/generic/002"), "_begin_fstest auto\n");
    let second = file.deps(&[], &env).await.unwrap();
    assert_ne!(second.rw_images, first.rw_images);
    assert!(disk.exists());
    let built = deps.path().join("built");
    let left: Vec<_> = std::fs::read_dir(built).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().starts_with(".xfstests.") && name != ".xfstests.lock")
    );
}

#[tokio::test]
async fn a_farm_accepts_the_disk_that_it_built() {
    if !can_build().await {
        return;
    }
    let deps = tempfile::tempdir().unwrap();
    stand_in(&deps.path().join("xfstests"));
    let farm = HostEnv { sandboxed: true, trust: testfile::Trust::Sandboxed, ..env(deps.path(), &[]) };
    let declared = test_file("fs/ext4/fstests.ktest").deps(&[], &farm).await;
    let declared = declared.map_err(|error| error.to_string()).unwrap();
    assert_eq!(declared.rw_images.len(), 1);
}

/// The suites of a farm's configuration.
fn fetched(found: Option<(std::path::PathBuf, &str)>) -> Vec<testfile::suites::SuiteSource> {
    let name: model::SuiteName = "xfstests".parse().unwrap();
    let found = found.map(|(dir, digit)| {
        (dir, model::SuiteVersion { name: name.clone(), commit: digit.repeat(40).parse().unwrap() })
    });
    vec![testfile::suites::SuiteSource { name, found }]
}

#[tokio::test]
async fn a_suite_that_the_farm_fetched_comes_before_what_the_operator_placed() {
    let (deps, source, chosen) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, name) in [(deps.path().join("xfstests"), "generic/001"), (source.path().into(), "generic/002")]
    {
        write(&dir.join("check"), "#!/bin/bash\n");
        write(&dir.join("tests").join(name), "#!/bin/bash\n_begin_fstest auto\n");
    }
    stand_in(chosen.path());
    let sandbox_works = can_build().await;
    let farm = |found, more: &[(&str, &str)]| HostEnv {
        suites: fetched(found),
        sandboxed: sandbox_works,
        ..env(deps.path(), more)
    };
    let found = || Some((source.path().to_path_buf(), "1"));
    assert_eq!(listed(&farm(found(), &[])).await, ["generic/002"]);
    // A group that names its own source keeps it.
    let own =
        HostEnv { sandboxed: false, ..farm(found(), &[("ktest_xfstests", chosen.path().to_str().unwrap())]) };
    assert_eq!(listed(&own).await.len(), 4);
    let error =
        test_file("fs/ext4/fstests.ktest").list_tests(&farm(None, &[])).await.unwrap_err().to_string();
    assert!(error.contains("the farm has not fetched xfstests yet; [suite.xfstests]"), "{error}");
    // Other suites are not affected.
    let names = test_file("block/blktests.ktest").list_tests(&farm(None, &[])).await.unwrap();
    assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["source"]);
}

#[tokio::test]
async fn a_suite_that_does_not_build_is_reported() {
    if !can_build().await {
        return;
    }
    let deps = tempfile::tempdir().unwrap();
    let source = deps.path().join("xfstests");
    stand_in(&source);
    write(
        &source.join("Makefile"),
        "default:\n\t@echo 'global.h:5: fatal error: uuid/uuid.h: No such file'; false\n",
    );
    let env = HostEnv { sandboxed: true, ..env(deps.path(), &[]) };
    let error = test_file("fs/ext4/fstests.ktest").deps(&[], &env).await.unwrap_err().to_string();
    assert!(error.contains("xfstests does not build: global.h:5: fatal error: uuid/uuid.h"), "{error}");
    assert!(deps.path().join("built/xfstests-build.log").exists());
}

/// Runs bash code with the suite library.
fn bash(dir: &Path, lines: &str) -> (bool, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let script = dir.join("suite.ktest");
    let head = ". \"$ROOT/tests/test-libs.sh\"\n. \"$_ktest_libs/../lib/suite.sh\"\nsuite_name=fake\n";
    write(&script, &format!("#!/bin/bash\n{head}{lines}\n"));
    let output = Command::new(&script).env("ROOT", root).env("DIR", dir.join("suite")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

/// A program of this system with some bytes replaced.
fn program(path: &Path, replaced: &[(&[u8], &[u8])]) {
    let mut bytes = std::fs::read("/bin/true").unwrap();
    for (old, new) in replaced {
        assert_eq!(old.len(), new.len());
        let found: Vec<usize> =
            (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
        assert!(!found.is_empty(), "no {:?} in /bin/true", String::from_utf8_lossy(old));
        for at in found {
            bytes[at..at + new.len()].copy_from_slice(new);
        }
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const CHECK: &str =
    "_suite_programs \"$DIR\" >\"$DIR/$_suite_list\"\n_suite_unbuilt \"$DIR\" >\"$DIR/$_suite_unbuilt_list\"
suite_check_programs \"$DIR\"\nprintf 'all start\\n'";

#[test]
fn programs_of_a_suite_that_start_are_no_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let suite = dir.path().join("suite");
    program(&suite.join("ltp/fsstress"), &[]);
    write(&suite.join("check"), "#! /bin/bash -e\n");
    write(&suite.join("src/fill"), "#!/usr/bin/env -S LANG=C bash -u\n");
    write(&suite.join("src/no_interpreter"), "echo\n");
    // No case needs it.
    write(&suite.join("tools/plot"), "#!/no/such/python\n");
    write(&suite.join("tests/generic/001"), "#!/bin/bash\n$here/src/fill\n");
    write(&suite.join("src/empty"), "");
    write(&suite.join("src/short"), "\u{7f}ELF");
    let library = |path: &std::path::PathBuf| path.to_string_lossy().contains("/libc.so.6");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc =
        maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| Path::new("/").join(path));
    if let Some(libc) = libc.into_iter().find(library) {
        std::fs::copy(libc, suite.join("libfake.so")).unwrap();
    }
    let (ok, text) = bash(dir.path(), &format!("{CHECK}\ncat \"$DIR/$_suite_list\""));
    assert!(ok && text.starts_with("all start\n"), "{text}");
    assert!(text.contains(" ltp/fsstress\n"), "{text}");
    // libc.so.6 of glibc is also an executable program.
    let scripts: Vec<_> = text.lines().filter(|line| line.starts_with("script ")).collect();
    assert_eq!(scripts, ["script /bin/bash check", "script bash src/fill"], "{text}");
    assert!(text.lines().all(|line| !line.contains("src/short") && !line.contains("src/empty")), "{text}");
}

/// The kinds of programs that cannot be started, in the directory of another helper program. Without libaio, fsstress of
/// xfstests does not start, and generic/083 would pass although it tested nothing.
#[test]
fn a_program_of_a_suite_that_does_not_start_ends_the_run() {
    let machine = std::fs::read("/bin/true").unwrap()[18..20].to_vec();
    let head = |machine: &[u8]| [&[0, 0, 0, 0, 0, 0, 0, 0, 3, 0][..], machine].concat();
    for (name, old, new, reason) in [
        ("ltp/fsstress", &b"libc.so.6"[..], &b"libq.so.6"[..], "libq.so.6"),
        ("src/aio-dio-regress/aio-io-setup", b"/lib64/ld-", b"/lib64/no-", "there is no /lib64/no-"),
        ("src/version", b"GLIBC_2.34", b"GLIBC_9.34", "`GLIBC_9.34' not found"),
        ("src/machine", &head(&machine), &head(&[0xf3, 0]), "a program of another machine"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let suite = dir.path().join("suite");
        let bytes = std::fs::read("/bin/true").unwrap();
        if !bytes.windows(old.len()).any(|part| part == old) {
            println!("skipped: /bin/true of this system has no {}", String::from_utf8_lossy(old));
            continue;
        }
        program(&suite.join("bin/good"), &[]);
        program(&suite.join(name), &[(old, new)]);
        let (ok, text) = bash(dir.path(), CHECK);
        assert!(!ok && !text.contains("all start"), "{name}: {text}");
        let wanted =
            format!("suite.ktest: 1 of the programs of fake cannot start in this root image: {name}: ");
        let last = text.lines().last().unwrap();
        assert!(last.starts_with(&wanted) && last.contains(reason), "{name}: {last}");
    }
}

#[test]
fn a_script_of_a_suite_whose_interpreter_is_missing_ends_the_run() {
    for (name, first, reason) in [
        ("check", "#!/no/such/shell", "there is no /no/such/shell"),
        ("check", "#! /no/such/shell -e", "there is no /no/such/shell"),
        ("check", "#!/bin/bash\r", "there is no $'/bin/bash\\r'"),
        ("tests/generic/001", "#!/no/such/shell", "there is no /no/such/shell"),
        ("src/fill2fs", "#!/usr/bin/env no-such-perl", "there is no no-such-perl"),
        ("src/fill2fs", "#!/usr/bin/env -S A=b no-such-perl -w", "there is no no-such-perl"),
        ("src/dev/parse", "#!/no/such/awk -f", "there is no /no/such/awk"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let suite = dir.path().join("suite");
        write(&suite.join("check"), "#!/bin/bash\n");
        write(&suite.join("tests/generic/002"), "#!/bin/bash\n$here/src/fill2fs; src/dev/parse\n");
        write(&suite.join(name), &format!("{first}\n"));
        let (ok, text) = bash(dir.path(), CHECK);
        let wanted = format!("1 of the programs of fake cannot start in this root image: {name}: {reason};");
        assert!(!ok && text.contains(&wanted), "{name} {first:?}: {text}");
    }
}

#[test]
fn a_case_whose_program_was_not_built_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let suite = dir.path().join("suite");
    write(&suite.join("check"), "#!/bin/bash\n");
    for source in
        ["src/aio-dio-regress/aiocp.c", "src/built.c", "src/unused.c", "src/uring_x.c", "ltp/aio-stress.c"]
    {
        write(&suite.join(source), "");
    }
    program(&suite.join("src/built"), &[]);
    for (name, text) in [
        ("001", "_require_aiodio aiocp\n"),
        ("002", "_require_test_program \"uring_x\"\n$here/src/uring_x $here/src/aio-dio-regress/aiocp\n"),
        ("003", "# unlike src/uring_x\n_require_test_program built\n_require_test_program none\n"),
        ("004", "here=$PWD; unused=1; ${here}/ltp/aio-stress -f\n"),
        ("005", "_have_src_program uring_x\n"),
    ] {
        write(&suite.join("tests/generic").join(name), &format!("#!/bin/bash\n{text}"));
    }
    write(&suite.join("tests/generic/001.out"), "src/uring_x\n");
    for (cases, wanted) in [
        ("generic/003", None),
        (
            "generic/001",
            Some("1 of the cases need programs of fake that were not built: aio-dio-regress/aiocp;"),
        ),
        ("generic/002 generic/003", Some("not built: aio-dio-regress/aiocp uring_x;")),
        ("generic/004", Some("not built: aio-stress;")),
        ("generic/001 generic/005", Some("ktest_fake_exclude=generic.001+generic.005")),
    ] {
        let (ok, text) = bash(dir.path(), &format!("ktest_tests='{cases}'\n{CHECK}"));
        assert_eq!(ok, wanted.is_none(), "{cases}: {text}");
        assert!(wanted.is_none_or(|wanted| text.contains(wanted)), "{cases}: {text}");
    }
}

#[test]
fn a_disk_without_the_list_of_its_programs_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("suite")).unwrap();
    let (ok, text) = bash(dir.path(), "suite_check_programs \"$DIR\"");
    assert!(!ok && text.contains("fake: its disk has no .ktest-programs"), "{text}");
}
