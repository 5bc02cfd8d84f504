//! Compares docs/contract.md with the tree, and tests the lines that no other test covers.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kernel::KernelSource;
use ktest::report::{Reporter, Style};
use ktest::run::{KernelFrom, RunRequest, run};
use model::Verdict;
use testfile::declare::NAMES;
use testfile::{HostEnv, TestFile};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap()
}

/// A test file in its own tree.
fn test_file(script: &str) -> (tempfile::TempDir, TestFile) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tests/x.ktest");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("#!/bin/bash\nset -o nounset\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = TestFile::find(&file, None).unwrap();
    (dir, file)
}

#[test]
fn every_test_in_the_document_exists() {
    let text = read("docs/contract.md");
    let mut checked = 0;
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.contains("| shown by |")) {
        let (_, shown) = line.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing shows: {line}");
        for name in names {
            match name.split_once("::") {
                Some((file, function)) => {
                    let there = read(file).contains(&format!("fn {function}("));
                    assert!(there, "{file} has no test {function}");
                }
                None => assert!(root().join(name).is_file(), "{name} is not there"),
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
    for name in NAMES {
        assert!(text.contains(&format!("`{name}`")), "{name} is not in docs/contract.md");
    }
}

#[test]
fn the_library_has_every_function() {
    let library = read("tests/prelude.sh") + &read("lib/common.sh") + &read("tests/test-libs.sh");
    for function in [
        "config-mem",
        "config-cpus",
        "config-timeout",
        "config-owner",
        "config-timeout-multiplier",
        "config-mem-multiplier",
        "config-scratch-devs",
        "config-pmem-devs",
        "config-image",
        "config-rw-image",
        "config-arch",
        "config-compiler",
        "config-no-kbuild",
        "config-no-vm",
        "config-kconfig-base",
        "config-kbuild-target",
        "require-kernel-config",
        "require-kernel-config-soft",
        "require-kernel-append",
        "require-kernel-make-append",
        "require-qemu-append",
        "require-git",
        "require-make",
        "require-build-deb",
        "require-gcov",
        "allow_taint",
        "set_watchdog",
        "ktest_skip",
        "scratch_dev_unplug",
        "scratch_dev_plug",
        "setup_tracing",
        "run_quiet",
    ] {
        assert!(library.contains(&format!("\n{function}() {{\n")), "the library has no {function}");
    }
}

#[tokio::test]
async fn every_declaration_is_read() {
    let (_dir, file) = test_file(
        "cat <<'END'\nktest_mem=64\nktest_allow_taint=true\nktest_tests_unknown=1\nktest_no_vm=true\n\
         ktest_make_install=(/a '/b c')\nktest_qemu_append=(-device x)\nktest_qemu_prepend=(-y)\n\
         ktest_scratch_slowdevs=(1)\nktest_images=(/i)\nktest_rw_images=(/r)\nktest_kbuild_target=dtbs\n\
         ktest_list_env=(ktest_x=all ktest_y=)\nEND",
    );
    let declared = file.deps(&[], &HostEnv::default()).await.unwrap();
    assert!(declared.allow_taint && declared.tests_unknown && declared.no_vm && !declared.no_kbuild);
    assert_eq!(declared.make_install, [Path::new("/a"), Path::new("/b c")]);
    assert_eq!(
        (declared.qemu_append.join(" "), declared.qemu_prepend.join(" ")),
        ("-device x".into(), "-y".into())
    );
    assert_eq!((declared.slow, declared.kernel.kbuild_target.as_deref()), (vec![1], Some("dtbs")));
    let list_env: Vec<_> =
        declared.list_env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(list_env, [("ktest_x", "all"), ("ktest_y", "")]);
    assert_eq!((declared.images, declared.rw_images), (vec!["/i".into()], vec![PathBuf::from("/r")]));
}

/// With nounset, a missing variable would end the file. The values are returned as kernel options.
#[tokio::test]
async fn the_environment_of_deps() {
    let (dir, file) = test_file(
        r#"mkdir -p "$ktest_deps_dir" && : >"$ktest_deps_dir/cloned"
        for name in interactive verbose failfast priority arch out crashdump kernel_version dir; do
            name=ktest_$name; args+=" '${name}=${!name}'"
        done
        echo "ktest_mem=64 ktest_kernel_append=($args 'K=$K' 'asked=${*:2}')""#,
    );
    let deps_dir = dir.path().join("deps");
    let env = HostEnv {
        arch: Some(model::Arch::Aarch64),
        out: "/out".into(),
        deps_dir: deps_dir.clone(),
        kernel_version: "6.1.0".into(),
        env: vec![("K".into(), "v".into())],
        ..HostEnv::default()
    };
    let subtests = ["one".parse().unwrap(), "generic/001".parse().unwrap()];
    let found = file.deps(&subtests, &env).await.unwrap().kernel_append.join("\n");
    let found = found.replace(&file.ktest_dir.display().to_string(), "DIR");
    insta::assert_snapshot!(found, @"
    ktest_interactive=false
    ktest_verbose=false
    ktest_failfast=false
    ktest_priority=0
    ktest_arch=aarch64
    ktest_out=/out
    ktest_crashdump=false
    ktest_kernel_version=6.1.0
    ktest_dir=DIR
    K=v
    asked=one generic/001
    ");
    assert!(deps_dir.join("cloned").is_file());
}

#[tokio::test]
async fn a_file_with_its_own_kernel() {
    let (dir, file) = test_file(
        "case $1 in list-tests) echo one ;; deps) echo 'ktest_mem=64 ktest_no_kbuild=true' ;; esac",
    );
    let kernel = dir.path().join("kernel");
    std::fs::create_dir_all(&kernel).unwrap();
    std::fs::write(kernel.join("Makefile"), "VERSION = 6\nPATCHLEVEL = 1\n").unwrap();
    let from = KernelFrom::Source(KernelSource::WorkingTree(kernel));
    let mut request = RunRequest::new(&file.path, from, dir.path().join("cache"));
    request.order.test.out = dir.path().join("out");
    request.order.test.arch = Some(model::Arch::X86_64);
    let summary = run(&request, &mut Reporter::new(Style::Silent)).await.unwrap();
    let Some((_, Verdict::FailedToRun { reason })) = summary.verdicts.first() else {
        panic!("it cannot run: {:?}", summary.verdicts)
    };
    let end =
        "/kernel: no built kernel for x86_64 in this directory; build one there, or use -k debian/trixie";
    assert!(reason.ends_with(end), "{reason}");
    assert_eq!(summary.exit_code(), 125);
}
