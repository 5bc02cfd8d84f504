//! Hostile files at every path that a run uses: nothing outside the output directory changes, and the run continues or
//! ends within seconds.

use std::sync::mpsc;

use model::{Arch, Verdict};
use testkit::Trap;

use super::*;
use crate::live::Live;

/// The names that a run of `a.ktest x` opens below its output directory.
const NAMES: [&str; 21] = [
    ".lock",
    "vm.json",
    "kernel.config",
    "out",
    "files",
    "files/kernel.config",
    "files/gcov.0",
    "files/gcov.0/a.gcda",
    "files/core.sh.1",
    "out/a",
    "out/kernel",
    "out/qemu-command",
    "out/coverage.info",
    "out/a.x",
    "out/a.x/log",
    "out/a.x/status",
    "out/a.x/duration",
    "out/a.x/crash",
    "out/a.x/qemu-command",
    "out/a.x/devices",
    "out/a.x/devices/machine.json",
];

/// Uses an output directory as a run does, without a VM. Stops at the first error.
fn use_all(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let subtest: SubtestName = "x".parse().unwrap();
    let mut out = Out::create(dir, &"a".parse().unwrap(), std::slice::from_ref(&subtest))?;
    let before = crate::run::coverage_data(&out);
    out.file("kernel", b"id\n")?;
    out.handle().write("kernel.config", b"CONFIG_A=y\n")?;
    Dir::open(&out.files())?.write("kernel.config", b"CONFIG_A=y\n")?;
    out.file("qemu-command", b"qemu\n")?;
    let live = Live {
        pid: 1,
        what: "a".into(),
        arch: Arch::X86_64,
        sockets: "/nowhere".into(),
        vmlinux: None,
        modules: None,
        kgdb: false,
        ssh: None,
    };
    let _published = live.publish(dir)?;
    out.started(&subtest)?;
    out.line("hello", Duration::ZERO)?;
    out.flush()?;
    for name in ["crash", "qemu-command"] {
        out.subtest_file(&subtest, name, b"text\n")?;
    }
    let devices = out.relative(&subtest).join("devices");
    make_dir(out.handle(), &devices)?;
    out.handle().write(devices.join("machine.json"), b"{}\n")?;
    let (verdict, log) = (Verdict::Failed { reason: "x".into() }, b"00000 hello\n".to_vec());
    out.finished(&FinishedSubtest { subtest, verdict, duration: Duration::ZERO, crash: None, log })?;
    let _ = crate::run::coverage_data(&out).difference(&before).count();
    out.file("coverage.info", b"TN:\n")?;
    Ok(out.close()?)
}

/// The files outside: names and contents.
fn state(outside: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = std::fs::read_dir(outside).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> =
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
    all.sort();
    all
}

#[test]
fn every_type_of_file_at_every_path() {
    for name in NAMES {
        for trap in Trap::ALL {
            let temp = tempfile::tempdir().unwrap();
            let (dir, outside) = (temp.path().join("out"), temp.path().join("outside"));
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(outside.join("secret"), "precious").unwrap();
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            trap.set(&path, &outside);
            let before = state(&outside);
            let (sender, done) = mpsc::channel();
            std::thread::spawn(move || {
                // An error is acceptable; a hang or a change outside is not.
                let _ = sender.send(use_all(&dir).map_err(|error| error.to_string()));
            });
            let result = done.recv_timeout(Duration::from_secs(5));
            let result = result.unwrap_or_else(|_| panic!("{name} as {trap:?}: it hangs"));
            assert_eq!(state(&outside), before, "{name} as {trap:?}: {result:?}");
            // The directory may lack permissions.
            fsx::own::remove_tree(temp.path()).unwrap();
        }
    }
}
