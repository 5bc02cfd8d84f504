//! Whether guests really run under KVM on this host.
//!
//! That `/dev/kvm` opens says little: on some hosts a guest started on it never executes an instruction, on others (PVM)
//! a guest's kernel is emulated, and stands still at the first instruction that the emulation lacks. So a guest of 512
//! bytes, which executes what kernels execute early, is booted once, and the answer is remembered until the host reboots.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Arch;
use spawn::{Cmd, Exit, Limits, SpawnError};

use crate::machine::{Accel, program};

mod probe;

/// What was found out about KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kvm {
    /// A guest ran.
    Works,
    /// Why not.
    Unusable(String),
}

impl Kvm {
    /// The accelerator that follows from it.
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

/// Which guest is booted: an answer that another one gave is none.
const PROBE_NUMBER: u32 = 2;
/// How long the smallest guest may take; it needs a tenth of a second.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// What the x86 guest's exit makes of QEMU's exit code: `(0x10 << 1) | 1`.
const GUEST_SAID_SO: i32 = 0x21;

/// Characters of QEMU's words that are repeated.
const LONGEST_WHY: usize = 120;

/// Whether guests of `arch` run under KVM here; remembered in `cache_dir` until the next boot of the host.
pub async fn kvm(arch: Arch, cache_dir: &Path) -> Kvm {
    if let Some(unusable) = hopeless(arch) {
        return unusable;
    }
    let memory = Memory::of_this_boot(arch, cache_dir);
    if let Some(known) = memory.as_ref().and_then(Memory::recall) {
        return known;
    }
    let found = probe(arch).await;
    if let Some(memory) = memory {
        memory.keep(&found);
    }
    found
}

/// The same, found out anew.
pub async fn kvm_now(arch: Arch) -> Kvm {
    match hopeless(arch) {
        Some(unusable) => unusable,
        None => probe(arch).await,
    }
}

/// What can be told without booting anything.
fn hopeless(arch: Arch) -> Option<Kvm> {
    if Arch::native() != Some(arch) {
        return Some(Kvm::Unusable(format!("this host is no {arch}")));
    }
    let error = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").err()?;
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; add yourself to the group kvm",
        _ => "",
    };
    Some(Kvm::Unusable(format!("/dev/kvm: {error}{hint}")))
}

/// Boots the smallest guest under KVM.
pub async fn probe(arch: Arch) -> Kvm {
    let dir = match tempfile::tempdir() {
        Ok(dir) => dir,
        Err(error) => return Kvm::Unusable(format!("no temporary directory: {error}")),
    };
    let file = dir.path().join("guest");
    if let Err(error) = std::fs::write(&file, guest(arch)) {
        return Kvm::Unusable(format!("{}: {error}", file.display()));
    }
    let limits = Limits { time: PROBE_LIMIT, bytes: 1 << 20 };
    match probe_command(arch, Accel::Kvm, &file).output(limits).await {
        Ok(output) if output.exit == expected_exit(arch) => Kvm::Works,
        Ok(output) => Kvm::Unusable(format!(
            "a test guest does not run: {}, {}",
            output.exit,
            brief(&output.complaint())
        )),
        Err(SpawnError::Time { limit, .. }) => Kvm::Unusable(format!(
            "/dev/kvm opens, but a test guest did not run within {} s",
            limit.as_secs()
        )),
        Err(error) => Kvm::Unusable(error.to_string()),
    }
}

/// QEMU's words; of a failed assertion only the function it is in.
fn brief(complaint: &str) -> String {
    let line = complaint.lines().next().unwrap_or_default();
    match line.split_once(": Assertion `") {
        Some((place, _)) => format!("QEMU gave up in {}", place.rsplit(' ').next().unwrap_or(place)),
        None if line.chars().count() > LONGEST_WHY => line.chars().take(LONGEST_WHY).chain(['…']).collect(),
        None => line.into(),
    }
}

fn expected_exit(arch: Arch) -> Exit {
    match arch {
        Arch::X86_64 => Exit::Code(GUEST_SAID_SO),
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

/// A guest that does nothing but say that it runs.
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

/// The remembered answer: a file whose first line names the boot it was found in and the guest that was asked.
struct Memory {
    file: PathBuf,
    boot: String,
}

impl Memory {
    fn of_this_boot(arch: Arch, cache_dir: &Path) -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self {
            file: cache_dir.join(format!("kvm-{arch}")),
            boot: format!("{} {PROBE_NUMBER}", boot.trim()),
        })
    }

    fn recall(&self) -> Option<Kvm> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        let mut lines = text.lines();
        if lines.next()? != self.boot {
            return None;
        }
        match lines.next()? {
            "works" => Some(Kvm::Works),
            why => Some(Kvm::Unusable(why.into())),
        }
    }

    /// Failing to remember only costs the next run its probe.
    fn keep(&self, found: &Kvm) {
        let word = match found {
            Kvm::Works => "works",
            Kvm::Unusable(why) => why.lines().next().unwrap_or("unusable"),
        };
        if let Some(dir) = self.file.parent() {
            let _ = std::fs::create_dir_all(dir);
        }
        let _ = std::fs::write(&self.file, format!("{}\n{word}\n", self.boot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_are_what_firmware_expects() {
        let sector = guest(Arch::X86_64);
        assert_eq!((sector.len(), &sector[510..]), (512, &[0x55, 0xaa][..]));
        assert_eq!(guest(Arch::Aarch64).len(), 16);
    }

    /// What only an emulator runs is no guest for KVM, so this is run without it.
    #[tokio::test]
    async fn the_guest_runs_where_all_its_instructions_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("guest");
        std::fs::write(&file, guest(Arch::X86_64)).unwrap();
        let limits = Limits { time: Duration::from_secs(60), bytes: 1 << 20 };
        let command = |file: &Path| probe_command(Arch::X86_64, Accel::Tcg, file);
        match command(&file).output(limits).await {
            Err(SpawnError::NotFound { .. }) => return eprintln!("SKIPPED: no qemu-system-x86_64"),
            output => assert_eq!(output.unwrap().exit, expected_exit(Arch::X86_64)),
        }
        // One without cmpxchg16b in its place: the guest stands still, as it does where the instruction is not emulated.
        let mut broken = guest(Arch::X86_64);
        let at = broken.windows(4).position(|code| code == [0xf0, 0x48, 0x0f, 0xc7]).expect("cmpxchg16b");
        broken[at..at + 2].copy_from_slice(&[0xeb, 0xfe]);
        std::fs::write(&file, broken).unwrap();
        let limits = Limits { time: Duration::from_secs(2), bytes: 1 << 20 };
        assert!(matches!(command(&file).output(limits).await, Err(SpawnError::Time { .. })));
    }

    #[test]
    fn the_guest_is_its_source_assembled() {
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
    fn the_answer_is_remembered_for_this_boot_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory { file: dir.path().join("sub/kvm"), boot: "one".into() };
        assert_eq!(memory.recall(), None);
        memory.keep(&Kvm::Unusable("it hangs".into()));
        assert_eq!(memory.recall(), Some(Kvm::Unusable("it hangs".into())));
        memory.boot = "two".into();
        assert_eq!(memory.recall(), None);
    }

    #[test]
    fn what_qemu_says_is_brief() {
        let assertion = "qemu-system-x86_64: ../../target/i386/kvm/kvm.c:3155: kvm_buf_set_msrs: Assertion `ret == n' failed.";
        assert_eq!(brief(assertion), "QEMU gave up in kvm_buf_set_msrs");
        assert_eq!(brief("KVM is not there\nmore"), "KVM is not there");
        assert_eq!(brief(&"x".repeat(500)).chars().count(), LONGEST_WHY + 1);
    }
}
