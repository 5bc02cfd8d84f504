//! Tests whether guests run under KVM on this host.
//!
//! An accessible `/dev/kvm` is not sufficient: on some hosts, a guest never executes an instruction; on others (PVM),
//! the guest's kernel is emulated and hangs at the first instruction that is not implemented. So a guest of 512 bytes,
//! with instructions that kernels execute early, is booted once. The result is cached until the host reboots.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::own;
use fsx::untrusted::Scratch;
use model::Arch;
use spawn::{Cmd, Exit, Limits, SpawnError};

use crate::machine::{Accel, program};

mod probe;

/// The result of the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kvm {
    /// Guests run.
    Works,
    /// They do not run, with the reason.
    Unusable(String),
}

impl Kvm {
    /// The accelerator to use.
    #[must_use]
    pub fn accel(&self) -> Accel {
        match self {
            Self::Works => Accel::Kvm,
            Self::Unusable(_) => Accel::Tcg,
        }
    }
}

impl fmt::Display for Kvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("guests run under KVM"),
            Self::Unusable(why) => write!(f, "no KVM: {why}"),
        }
    }
}

/// The version of the probe guest. A cached result of another version is ignored.
const PROBE_VERSION: u32 = 2;
/// The time limit of the probe guest, which takes about 0.1 s.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// QEMU's exit code when the x86 guest succeeds: `(0x10 << 1) | 1`.
const X86_EXIT_CODE: i32 = 0x21;

/// The maximum length of a QEMU error that is quoted, in characters.
const ERROR_CHARS: usize = 120;

/// Whether guests of `arch` run under KVM on this host; cached in `cache_dir` until the host reboots.
pub async fn kvm(arch: Arch, cache_dir: &Path) -> Kvm {
    if let Some(unusable) = precheck(arch) {
        return unusable;
    }
    let cached = CachedResult::of_this_boot(arch, cache_dir);
    if let Some(result) = cached.as_ref().and_then(CachedResult::load) {
        return result;
    }
    let result = probe(arch).await;
    if let Some(cached) = cached {
        cached.store(&result);
    }
    result
}

/// Like [`kvm`], without the cache.
pub async fn kvm_now(arch: Arch) -> Kvm {
    match precheck(arch) {
        Some(unusable) => unusable,
        None => probe(arch).await,
    }
}

/// The result, if it can be determined without booting a guest.
fn precheck(arch: Arch) -> Option<Kvm> {
    if Arch::native() != Some(arch) {
        return Some(Kvm::Unusable(format!("this host is not {arch}")));
    }
    let mut options = std::fs::OpenOptions::new();
    let opened = fsx::own::open_with(Path::new("/dev/kvm"), options.read(true).write(true));
    let error = opened.err()?.source;
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; add yourself to the group kvm",
        _ => "",
    };
    Some(Kvm::Unusable(format!("/dev/kvm: {error}{hint}")))
}

/// Boots the probe guest under KVM.
async fn probe(arch: Arch) -> Kvm {
    let dir = match Scratch::temporary() {
        Ok(dir) => dir,
        Err(error) => return Kvm::Unusable(format!("no temporary directory: {error}")),
    };
    let file = dir.path().join("guest");
    if let Err(error) = own::write(&file, guest(arch)) {
        return Kvm::Unusable(error.to_string());
    }
    let limits = Limits { time: PROBE_LIMIT, bytes: 1 << 20 };
    match probe_command(arch, Accel::Kvm, &file).output(limits).await {
        Ok(output) if output.exit == expected_exit(arch) => Kvm::Works,
        Ok(output) => Kvm::Unusable(format!(
            "a test guest does not run: {}, {}",
            output.exit,
            brief(&output.error_line())
        )),
        Err(SpawnError::Time { limit, .. }) => Kvm::Unusable(format!(
            "/dev/kvm opens, but a test guest did not run within {} s",
            limit.as_secs()
        )),
        Err(error) => Kvm::Unusable(error.to_string()),
    }
}

/// QEMU's error, shortened; for a failed assertion, only the name of the function.
fn brief(complaint: &str) -> String {
    let line = complaint.lines().next().unwrap_or_default();
    match line.split_once(": Assertion `") {
        Some((position, _)) => {
            format!("QEMU aborted in {}", position.rsplit(' ').next().unwrap_or(position))
        }
        None if line.chars().count() > ERROR_CHARS => line.chars().take(ERROR_CHARS).chain(['…']).collect(),
        None => line.into(),
    }
}

fn expected_exit(arch: Arch) -> Exit {
    match arch {
        Arch::X86_64 => Exit::Code(X86_EXIT_CODE),
        Arch::Aarch64 => Exit::Code(0),
    }
}

fn probe_command(arch: Arch, accel: Accel, guest: &Path) -> Cmd {
    let cmd =
        Cmd::new(program(arch)).args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    let cpu = match accel {
        Accel::Kvm => "host",
        Accel::Tcg => "max",
    };
    let cmd = cmd.args(["-accel", &accel.to_string(), "-cpu", cpu, "-m", "32M"]);
    match arch {
        Arch::X86_64 => cmd
            .args(["-machine", "pc", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive"])
            .arg(format!("if=ide,format=raw,snapshot=on,file={}", guest.display())),
        Arch::Aarch64 => cmd.args(["-machine", "virt,gic-version=max", "-kernel"]).arg(guest),
    }
}

/// The probe guest.
fn guest(arch: Arch) -> Vec<u8> {
    match arch {
        Arch::X86_64 => {
            let mut sector = probe::PROBE.to_vec();
            sector.resize(510, 0);
            sector.extend([0x55, 0xaa]);
            sector
        }
        Arch::Aarch64 => {
            // PSCI SYSTEM_OFF: movz w0, #8; movk w0, #0x8400, lsl 16; hvc #0; b .
            let code = [0x5280_0100_u32, 0x72b0_8000, 0xd400_0002, 0x1400_0000];
            code.iter().flat_map(|word| word.to_le_bytes()).collect()
        }
    }
}

/// The cached result: a file in which the first line identifies the boot of the host and the version of the probe.
struct CachedResult {
    file: PathBuf,
    boot: String,
}

impl CachedResult {
    fn of_this_boot(arch: Arch, cache_dir: &Path) -> Option<Self> {
        let boot = own::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"), 1000).ok()?;
        Some(Self {
            file: cache_dir.join(format!("kvm-{arch}")),
            boot: format!("{} {PROBE_VERSION}", boot.trim()),
        })
    }

    fn load(&self) -> Option<Kvm> {
        let text = own::read_to_string(&self.file, 10_000).ok()?;
        let mut lines = text.lines();
        if lines.next()? != self.boot {
            return None;
        }
        match lines.next()? {
            "works" => Some(Kvm::Works),
            why => Some(Kvm::Unusable(why.into())),
        }
    }

    /// Errors are ignored: without a stored result, the next run probes again.
    fn store(&self, result: &Kvm) {
        let word = match result {
            Kvm::Works => "works",
            Kvm::Unusable(why) => why.lines().next().unwrap_or("unusable"),
        };
        if let Some(dir) = self.file.parent() {
            let _ = own::create_dir_all(dir);
        }
        let _ = own::write(&self.file, format!("{}\n{word}\n", self.boot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_have_the_size_that_firmware_expects() {
        let sector = guest(Arch::X86_64);
        assert_eq!((sector.len(), &sector[510..]), (512, &[0x55, 0xaa][..]));
        assert_eq!(guest(Arch::Aarch64).len(), 16);
    }

    /// Runs under TCG, so that it does not depend on this host's KVM.
    #[tokio::test]
    async fn the_guest_depends_on_each_instruction() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("guest");
        std::fs::write(&file, guest(Arch::X86_64)).unwrap();
        let limits = Limits { time: Duration::from_secs(60), bytes: 1 << 20 };
        let command = |file: &Path| probe_command(Arch::X86_64, Accel::Tcg, file);
        match command(&file).output(limits).await {
            Err(SpawnError::NotFound { .. }) => return eprintln!("SKIPPED: no qemu-system-x86_64"),
            output => assert_eq!(output.unwrap().exit, expected_exit(Arch::X86_64)),
        }
        // With a loop instead of cmpxchg16b, the guest hangs, as on a host that does not emulate the instruction.
        let mut broken = guest(Arch::X86_64);
        let at = broken.windows(4).position(|code| code == [0xf0, 0x48, 0x0f, 0xc7]).expect("cmpxchg16b");
        broken[at..at + 2].copy_from_slice(&[0xeb, 0xfe]);
        std::fs::write(&file, broken).unwrap();
        let limits = Limits { time: Duration::from_secs(2), bytes: 1 << 20 };
        assert!(matches!(command(&file).output(limits).await, Err(SpawnError::Time { .. })));
    }

    #[test]
    fn the_guest_matches_its_assembled_source() {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/accel/probe.s");
        let script = "as --64 -o probe.o \"$1\" && ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary -o probe.bin probe.o";
        let done = std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(source)
            .current_dir(dir.path())
            .status();
        match done {
            Ok(status) if status.success() => {
                assert_eq!(std::fs::read(dir.path().join("probe.bin")).unwrap(), probe::PROBE);
            }
            _ => eprintln!("SKIPPED: no assembler for x86_64"),
        }
    }

    #[test]
    fn the_result_is_cached_for_this_boot_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = CachedResult { file: dir.path().join("sub/kvm"), boot: "one".into() };
        assert_eq!(memory.load(), None);
        memory.store(&Kvm::Unusable("it hangs".into()));
        assert_eq!(memory.load(), Some(Kvm::Unusable("it hangs".into())));
        memory.boot = "two".into();
        assert_eq!(memory.load(), None);
    }

    #[test]
    fn errors_of_qemu_are_shortened() {
        let assertion = "qemu-system-x86_64: ../../target/i386/kvm/kvm.c:3155: kvm_buf_set_msrs: Assertion `ret == n' failed.";
        assert_eq!(brief(assertion), "QEMU aborted in kvm_buf_set_msrs");
        assert_eq!(brief("KVM is missing\nmore"), "KVM is missing");
        assert_eq!(brief(&"x".repeat(500)).chars().count(), ERROR_CHARS + 1);
    }
}
