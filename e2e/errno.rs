//! Injects an error at each system call of a run and of a kernel build: none of them becomes a verdict, and the kernel
//! store never contains a damaged kernel.
//!
//! strace makes the Nth call of each kind fail in `ktest`, but not in the programs that it starts. N increases until a
//! run has fewer such calls, in steps of [`STEP`] with rotating error numbers; `KTEST_ALL_ERRNOS=1` tries every call
//! with every error.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a test reports what it skips, and errors by failing"
)]
#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{Event, Stamped, Status};

/// The system calls with which a program uses files, directories, pipes and processes.
const CALLS: [&str; 28] = [
    "openat",
    "openat2",
    "read",
    "pread64",
    "write",
    "pwrite64",
    "copy_file_range",
    "ftruncate",
    "fsync",
    "lseek",
    "statx",
    "fstat",
    "newfstatat",
    "getdents64",
    "readlink",
    "mkdir",
    "mkdirat",
    "renameat",
    "unlink",
    "unlinkat",
    "fchmod",
    "flock",
    "fcntl",
    "pipe2",
    "dup2",
    "clone",
    "execve",
    "getcwd",
];
const ERRORS: [&str; 10] =
    ["EIO", "ENOSPC", "EDQUOT", "EMFILE", "ELOOP", "EISDIR", "ENFILE", "EROFS", "EACCES", "ENOMEM"];
/// The step of the call number. It is a prime, so that all error numbers are used.
const STEP: usize = 7;
/// A limit for the loop, in case the test itself does not end.
const MOST_CALLS: usize = 2000;

const NO_VM: &str = r#"#!/bin/bash
case $1 in
deps) echo 'ktest_mem=64; ktest_no_vm=true; ktest_timeout=60' ;;
list-tests) echo one two ;;
run-tests)
    shift
    for name; do
        echo "========= TEST   $name"
        echo something > "$ktest_out/$name"
        echo "========= PASSED $name in 0s"
    done
    echo "TEST SUCCESS" ;;
esac
"#;
const NEEDS_KERNEL: &str = "#!/bin/bash\n[[ $1 != deps ]] || echo 'ktest_mem=64; ktest_timeout=60'\n";

/// A kernel source of a few files in a git repository, and two test files.
struct Scene {
    dir: tempfile::TempDir,
    commit: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (toy, source) =
            (Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/kernel/tests/toy"), dir.path().join("linux"));
        std::fs::create_dir_all(source.join("fs")).unwrap();
        for name in ["Makefile", "Kconfig"] {
            std::fs::copy(toy.join(name), source.join(name)).unwrap();
        }
        for name in ["a", "b"] {
            std::fs::write(source.join("fs").join(name).with_extension("c"), format!("{name}\n")).unwrap();
        }
        std::fs::create_dir(dir.path().join("tests")).unwrap();
        for (name, text) in [("novm", NO_VM), ("kernel", NEEDS_KERNEL)] {
            let file = dir.path().join("tests").join(name).with_extension("ktest");
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let git = |args: &[&str]| {
            let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
            let output =
                Command::new("git").arg("-C").arg(&source).args(identity).args(args).output().unwrap();
            assert!(output.status.success(), "{args:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "-q"]);
        git(&["add", "-A"]);
        git(&["commit", "-qm", "x"]);
        let commit = git(&["rev-parse", "HEAD"]);
        Self { dir, commit }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The arguments of `ktest run --events` as used by the daemon, with the output directory in `out`.
    fn run(&self, out: &Path) -> Vec<std::ffi::OsString> {
        let mut argv = self.ktest(out, &["run", "--events", "--commit", &self.commit, "--merge"]);
        argv.extend([self.path("tests/kernel.ktest").into(), "--tests-dir".into(), self.dir.path().into()]);
        argv.extend([self.path("tests/novm.ktest").into(), "one".into(), "two".into()]);
        argv
    }

    fn build(&self, out: &Path) -> Vec<std::ffi::OsString> {
        let mut argv = self.ktest(out, &["build", "--json", "--commit", &self.commit]);
        argv.push(self.path("tests/kernel.ktest").into());
        argv
    }

    fn ktest(&self, out: &Path, words: &[&str]) -> Vec<std::ffi::OsString> {
        let mut argv =
            vec![env!("CARGO_BIN_EXE_ktest").into(), "--cache-dir".into(), out.join("cache").into()];
        argv.push(words[0].into());
        argv.extend(["-k".into(), self.path("linux").into(), "--out".into(), out.join("out").into()]);
        argv.extend(words[1..].iter().map(Into::into));
        argv
    }
}

/// Runs the command with a fault. Returns the output and whether the fault occurred.
fn with_fault(call: &str, error: &str, at: usize, argv: &[std::ffi::OsString], log: &Path) -> (Output, bool) {
    let mut command = Command::new("strace");
    command.args(["-f", "-b", "execve", "-o"]).arg(log);
    command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:error={error}:when={at}")]);
    // The backtrace of a panic opens files; without it, the output of this test is shorter.
    let output = command.args(argv).env("RUST_BACKTRACE", "0").output().unwrap();
    let occurred = std::fs::read_to_string(log).unwrap().contains("(INJECTED)");
    (output, occurred)
}

/// Asserts that no process of a run is left a few seconds after its end. The processes have its directory in their
/// command lines.
fn assert_all_ended(out: &Path, fault: &str) {
    let name = out.to_string_lossy().into_owned();
    let has_name = |entry: &std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&name)
    };
    let left = || std::fs::read_dir("/proc").unwrap().flatten().find(has_name);
    let began = std::time::Instant::now();
    while let Some(process) = left() {
        assert!(began.elapsed().as_secs() < 10, "{fault}: {process:?} is left");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Tries every fault and calls `check` after each.
fn each_fault(
    scene: &Scene,
    argv: impl Fn(&Path) -> Vec<std::ffi::OsString> + Sync,
    check: impl Fn(&Path, &Output, &str) + Sync,
) {
    let all = std::env::var_os("KTEST_ALL_ERRNOS").is_some();
    let (next, tried) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let try_call = |call: &str| {
        for at in (1..=MOST_CALLS).step_by(if all { 1 } else { STEP }) {
            let errors = if all { &ERRORS[..] } else { &ERRORS[at % ERRORS.len()..][..1] };
            let mut occurred = false;
            for error in errors {
                let out = tempfile::tempdir_in(scene.dir.path()).unwrap();
                let (output, hit) = with_fault(call, error, at, &argv(out.path()), &out.path().join("trace"));
                let fault = format!("{call} {at} fails with {error}");
                assert_all_ended(out.path(), &fault);
                check(out.path(), &output, &fault);
                occurred |= hit;
            }
            tried.fetch_add(usize::from(occurred), Ordering::Relaxed);
            if !occurred {
                return;
            }
        }
        panic!("{call}: more than {MOST_CALLS} calls");
    };
    std::thread::scope(|scope| {
        let worker = || {
            while let Some(call) = CALLS.get(next.fetch_add(1, Ordering::Relaxed)) {
                try_call(call);
            }
        };
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    let tried = tried.into_inner();
    println!("{tried} faults");
    assert!(tried > 100, "only {tried} faults");
}

/// Whether faults can be injected; prints why the test is skipped. A container may forbid ptrace.
fn can_inject(scene: &Scene) -> bool {
    let log = scene.path("trace");
    let strace = Command::new("strace").arg("--version").output();
    let works = strace.is_ok_and(|output| output.status.success())
        && with_fault("getcwd", "EIO", 1000, &["true".into()], &log).0.status.success();
    let healthy = works.then(|| {
        let out = tempfile::tempdir_in(scene.dir.path()).unwrap();
        Command::new(&scene.run(out.path())[0]).args(&scene.run(out.path())[1..]).output().unwrap()
    });
    match healthy {
        None => println!("skipped: strace does not work here"),
        Some(output) if output.status.code() == Some(0) => return true,
        Some(output) => println!("skipped: no sandbox here: {output:?}"),
    }
    false
}

/// The exit codes without a verdict. 127: the dynamic linker could not load the program. 101: the runtime could not
/// start.
const NO_VERDICT: [i32; 3] = [101, 125, 127];

fn check_run(_: &Path, output: &Output, fault: &str) {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut passed = 0;
    for line in stdout.lines() {
        if let Ok(Some(Stamped { event: Event::Verdict { verdict, .. }, .. })) = Stamped::parse(line) {
            assert_eq!(verdict.status(), Status::Passed, "{fault}: {line}\n{stderr}");
            passed += 1;
        }
    }
    let code = output.status.code();
    let is_expected = match code {
        Some(0) => passed == 2,
        Some(code) => NO_VERDICT.contains(&code),
        None => false,
    };
    assert!(is_expected, "{fault}: {code:?}\n{stdout}\n{stderr}");
}

#[test]
fn no_failed_call_of_a_run_becomes_a_verdict() {
    let scene = Scene::new();
    if can_inject(&scene) {
        each_fault(&scene, |out| scene.run(out), check_run);
    }
}

/// Checks that the kernels in the store are complete and that a build without faults then succeeds.
fn check_store(scene: &Scene, out: &Path, fault: &str) {
    let kernels =
        std::fs::read_dir(out.join("cache/kernels")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let kernels: Vec<PathBuf> =
        kernels.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.')).collect();
    for kernel in &kernels {
        let meta = std::fs::read(kernel.join("meta.json")).unwrap_or_else(|error| panic!("{fault}: {error}"));
        let meta: serde_json::Value =
            serde_json::from_slice(&meta).unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert_eq!(std::fs::read_to_string(kernel.join("vmlinux")).unwrap(), "a\nb\n", "{fault}");
        assert_eq!(meta["modules"], true, "{fault}");
        for name in ["config", "headers.tar.zst", "lib/modules/6.1.0-toy/modules.dep"] {
            assert!(kernel.join(name).is_file(), "{fault}: {name}");
        }
    }
    let argv = scene.build(out);
    let again = Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "after {fault}: {again:?}");
}

#[test]
fn no_failed_call_of_a_build_becomes_a_verdict_or_damages_the_store() {
    let scene = Scene::new();
    if can_inject(&scene) {
        each_fault(
            &scene,
            |out| scene.build(out),
            |out, output, fault| {
                // 1: the kernel does not build. 2: the repository or the test file cannot be used; the farm never gets
                // this.
                let code = output.status.code();
                let expected = code.is_some_and(|code| code == 0 || code == 2 || NO_VERDICT.contains(&code));
                assert!(expected, "{fault}: {output:?}");
                check_store(&scene, out, fault);
            },
        );
    }
}
