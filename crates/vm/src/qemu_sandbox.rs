//! QEMU in a sandbox: it can access the files of its own machine and nothing else of the host, and cannot start
//! programs.
//!
//! A guest that breaks out of QEMU can access only its own disks, shares and sockets, and the programs in `/usr`.

use std::path::{Path, PathBuf};

use debian::programs::find_program;
use model::Arch;
use sandbox::{Network, Resources, Sandbox, SandboxError};
use spawn::{Cmd, Limits};

use crate::machine::{Accel, Machine, MachineError, argv, program};

/// QEMU's own system call filter: QEMU cannot start programs, change user ids or change scheduling.
const FILTER: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// The address space of QEMU in addition to the guest's memory, in bytes: translated code, stacks, caches.
const OVERHEAD: u64 = 16 << 30;
/// The additional address space per processor of the guest, in bytes.
const OVERHEAD_CPU: u64 = 256 << 20;
/// The memory that QEMU uses in addition to that of the guest, in bytes: translated code has up to 1 GiB.
const QEMU_MEMORY: u64 = 2 << 30;
/// The additional memory per processor of the guest, in bytes.
const QEMU_MEMORY_CPU: u64 = 64 << 20;
/// The maximum size of a file that QEMU may write, which is that of the largest disk.
const FILE_BYTES: u64 = 1 << 50;
/// The size of `/tmp`, which QEMU does not use.
const TMP_BYTES: u64 = 16 << 20;
/// The maximum number of threads of a QEMU process: processors, disks, shares.
const THREADS: u64 = 4096;

/// How QEMU is started on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuSandbox {
    /// The path of QEMU's program.
    program: PathBuf,
    /// Whether this QEMU can filter its system calls.
    filter: bool,
}

impl QemuSandbox {
    /// Checks that the sandbox works here, and which restrictions QEMU supports.
    pub async fn probe(arch: Arch) -> Result<Self, SandboxError> {
        sandbox::probe().await?;
        let program = find_program(program(arch)).unwrap_or_else(|| program(arch).into());
        let asked =
            Cmd::new(&program).args(["-sandbox", FILTER, "-version"]).output(Limits::seconds(20)).await;
        let filter = asked.is_ok_and(|output| output.exit.success());
        if !filter {
            tracing::warn!(
                "{} was built without seccomp: it runs without a filter of system calls",
                program.display()
            );
        }
        Ok(Self { program, filter })
    }

    /// The command that runs `machine` in the sandbox. `temp_dir` contains the machine's own disks and logs.
    pub fn command(&self, machine: &Machine, temp_dir: &Path) -> Result<Cmd, MachineError> {
        let argv = argv(machine)?;
        let cmd = self.sandbox(machine, temp_dir).command(&self.program);
        let cmd = if self.filter { cmd.args(["-sandbox", FILTER]) } else { cmd };
        Ok(cmd.args(&argv[1..]))
    }

    fn sandbox(&self, machine: &Machine, temp_dir: &Path) -> Sandbox {
        let mut sandbox = Sandbox::new().resources(resources(machine)).dir(temp_dir).env("TMPDIR", temp_dir);
        for (path, writable) in self.paths(machine, temp_dir) {
            sandbox = if writable { sandbox.writable(path, path) } else { sandbox.read_only(path, path) };
        }
        if machine.accel == Accel::Kvm {
            sandbox = sandbox.device("/dev/kvm");
        }
        let online = machine.network.is_some_and(|network| network.open || network.ssh_port.is_some());
        sandbox.network(if online { Network::Host } else { Network::None })
    }

    /// The files and directories of the host that QEMU uses, and whether it writes to them. A directory precedes its
    /// contents, because a later mount hides an earlier one.
    fn paths<'a>(&'a self, machine: &'a Machine, temp_dir: &'a Path) -> Vec<(&'a Path, bool)> {
        let mut paths =
            vec![(machine.kernel.as_path(), false), (machine.root.as_path(), false), (temp_dir, true)];
        paths.extend(machine.initrd.as_deref().map(|file| (file, false)));
        paths.extend(machine.sockets.as_deref().map(|dir| (dir, true)));
        if let Some(dir) = self.program.parent().filter(|dir| !dir.starts_with("/usr")) {
            // QEMU's firmware is in a directory next to the one that contains its program.
            paths.push((dir.parent().filter(|prefix| prefix.parent().is_some()).unwrap_or(dir), false));
        }
        let shares = machine.shares.iter().map(|share| (share.dir.as_path(), share.writable));
        paths.extend(shares);
        // Links in a share are resolved in the sandbox, where they cannot lead to other files of the host.
        let seen = |file: &Path| {
            file.starts_with(temp_dir) || machine.shares.iter().any(|share| file.starts_with(&share.dir))
        };
        let disks = machine.disks.iter().map(|disk| disk.file.as_path());
        paths.extend(disks.filter(|file| !seen(file)).map(|file| (file, false)));
        paths.sort_by_key(|(path, _)| path.components().count());
        paths
    }
}

/// The memory available for guests on this host, in MiB: that of the host, or of the control group of this process if
/// it is limited. `None` if it cannot be read.
#[must_use]
pub fn host_memory_mib() -> Option<u64> {
    let text = |path: &Path| fsx::own::read_to_string(path, 1 << 20).ok();
    let host = fsx::machine::memory("MemTotal:")? >> 20;
    let group = text(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let top = Path::new("/sys/fs/cgroup");
    // Each parent group can have a limit, too.
    let dirs = top.join(group);
    let dirs = dirs.ancestors().take_while(|dir| dir.starts_with(top));
    let limits = dirs.filter_map(|dir| text(&dir.join("memory.max"))?.trim().parse::<u64>().ok());
    Some(limits.map(|bytes| bytes >> 20).chain([host]).min().unwrap_or(host))
}

fn resources(machine: &Machine) -> Resources {
    let pmem: u64 = machine.pmem.iter().map(|(_, size)| size).sum();
    let memory = (machine.mem_mib << 20)
        .saturating_add(pmem)
        .saturating_add(OVERHEAD)
        .saturating_add(OVERHEAD_CPU.saturating_mul(machine.cpus.into()));
    let total = (machine.mem_mib << 20)
        .saturating_add(pmem)
        .saturating_add(QEMU_MEMORY)
        .saturating_add(QEMU_MEMORY_CPU.saturating_mul(machine.cpus.into()));
    Resources {
        memory: Some(memory),
        total_memory: Some(total),
        processes: THREADS,
        file_size: FILE_BYTES,
        tmp: TMP_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Disk, Share, fixture};

    fn machine() -> Machine {
        let disk = |file: &str, readonly| Disk {
            file: file.into(),
            readonly,
            snapshot: false,
            iops: None,
            bps: None,
        };
        let share = |dir: &str, writable| Share { tag: "t".into(), dir: dir.into(), writable, xattr: false };
        Machine {
            accel: Accel::Kvm,
            kernel: "/c/k/bzImage".into(),
            root: "/c/root.ext4".into(),
            disks: vec![disk("/srv/image", true), disk("/t/image", true), disk("/c/vm/scratch0", false)],
            shares: vec![share("/c/vm/guest", false), share("/t/out/files", true), share("/t", false)],
            sockets: Some("/tmp/s".into()),
            ..fixture::machine()
        }
    }

    fn line(machine: &Machine) -> String {
        let qemu_sandbox = QemuSandbox { program: "/opt/qemu/bin/qemu-system-x86_64".into(), filter: true };
        qemu_sandbox.command(machine, Path::new("/c/vm")).unwrap().to_string()
    }

    #[test]
    fn qemu_can_access_only_the_files_of_its_machine() {
        let line = line(&machine());
        let mounts = line.split(" --").filter(|option| {
            let mut words = option.split(' ');
            let binds = ["ro-bind", "bind", "dev-bind"].contains(&words.next().unwrap_or_default());
            binds
                && !words.next().is_some_and(|path| {
                    ["/usr", "/bin", "/lib", "/sbin"].iter().any(|dir| path.starts_with(dir))
                })
        });
        insta::assert_snapshot!(mounts.collect::<Vec<_>>().join("\n"), @r"
        ro-bind /t /t
        ro-bind /c/root.ext4 /c/root.ext4
        bind /c/vm /c/vm
        bind /tmp/s /tmp/s
        ro-bind /opt/qemu /opt/qemu
        ro-bind /srv/image /srv/image
        ro-bind /c/k/bzImage /c/k/bzImage
        ro-bind /c/vm/guest /c/vm/guest
        bind /t/out/files /t/out/files
        dev-bind /dev/kvm /dev/kvm
        ");
        assert!(line.contains("--unshare-net"), "{line}");
        assert!(line.contains(" -- /opt/qemu/bin/qemu-system-x86_64 -sandbox on,"), "{line}");
    }

    #[tokio::test]
    async fn code_that_takes_over_qemu_finds_no_other_files() {
        if let Err(error) = sandbox::probe().await {
            eprintln!("SKIPPED: {error}");
            return;
        }
        // In the sandbox, /tmp is private and writable.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["vm/guest", "files", "tests", "kernels", "home"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        for name in ["kernels/bzImage", "kernels/other", "root.ext4", "image", "tests/a", "home/secret"] {
            std::fs::write(path(name), "x").unwrap();
        }
        // A disk that was replaced by a link after the declarations were checked.
        std::os::unix::fs::symlink(path("home/secret"), path("tests/link")).unwrap();
        let share = |name: &str, writable| Share { tag: "t".into(), dir: path(name), writable, xattr: false };
        let disk =
            |name: &str| Disk { file: path(name), readonly: true, snapshot: false, iops: None, bps: None };
        let machine = Machine {
            accel: Accel::Tcg,
            kernel: path("kernels/bzImage"),
            root: path("root.ext4"),
            disks: vec![disk("image"), disk("tests/link")],
            shares: vec![share("vm/guest", false), share("files", true), share("tests", false)],
            sockets: None,
            ..machine()
        };
        let qemu_sandbox = QemuSandbox { program: "/usr/bin/bash".into(), filter: false };
        let script = r#"cd "$1" && for name in kernels/bzImage kernels/other root.ext4 image tests/a tests/link home/secret; do
                [ -e $name ] && echo sees $name
                (: >>$name) 2>/dev/null && echo writes $name
            done
            for dir in vm vm/guest files tests kernels .; do (: >$dir/new) 2>/dev/null && echo creates in $dir; done
            [ -z "$CARGO_MANIFEST_DIR" ] || echo has the environment
            ls -d /etc/shadow /root /home /var/lib /run /dev/kvm 2>/dev/null
            grep -h CapEff /proc/self/status; exit 0"#;
        let cmd = qemu_sandbox.sandbox(&machine, &path("vm")).command("bash").args(["-c", script, "bash"]);
        let output = cmd.arg(dir.path()).output(Limits::seconds(20)).await.unwrap();
        insta::assert_snapshot!(output.text(), @r"
        sees kernels/bzImage
        sees root.ext4
        sees image
        sees tests/a
        creates in vm
        creates in files
        CapEff:	0000000000000000
        ");
    }

    #[test]
    fn the_memory_of_the_host_is_known() {
        assert!(host_memory_mib().unwrap() > 100);
    }

    #[test]
    fn a_forwarded_port_needs_the_network_of_the_host() {
        let network = crate::machine::Network { ssh_port: Some(2222), open: false };
        let line = line(&Machine { network: Some(network), ..machine() });
        assert!(!line.contains("--unshare-net"), "{line}");
    }
}
