//! The QEMU command line, as a pure function of the description of a machine.
//!
//! [`Machine`] contains everything on the host that the guest can access; this module adds nothing else.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use model::{Arch, StorageBus};

/// How QEMU executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// On the host's processor.
    Kvm,
    /// By emulation.
    Tcg,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// A disk in addition to the root disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its raw file.
    pub file: PathBuf,
    /// Whether the disk is read-only for the guest.
    pub readonly: bool,
    /// Whether the guest's writes are discarded.
    pub snapshot: bool,
    /// The limit of operations per second, for a slow device.
    pub iops: Option<u32>,
    /// The limit of bytes per second, for a slow device.
    pub bps: Option<u64>,
}

/// The rate limit for a guest's writes to its shares, in bytes per second. A quota that is checked twice a second is
/// exceeded by at most half of this.
pub const SHARE_BPS: u64 = 256 << 20;

/// A directory of the host that the guest mounts over 9p.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The mount tag.
    pub tag: String,
    /// The directory.
    pub dir: PathBuf,
    /// Whether the guest can write to it. Everything that the guest creates, including symbolic links and devices, is a
    /// regular file on the host.
    pub writable: bool,
    /// With `writable`: whether the guest's modes and owners are stored in extended attributes, instead of hidden
    /// files.
    pub xattr: bool,
}

/// How a PCI disk is unplugged. The guest's kernel needs the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hotplug {
    /// With its PCIe port, like real hardware (`HOTPLUG_PCI_PCIE`). It takes five seconds.
    Native,
    /// With the ACPI tables (`HOTPLUG_PCI_ACPI`).
    Acpi,
}

/// A private network of the guest, connected through QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The port on 127.0.0.1 that is forwarded to the guest's ssh.
    pub ssh_port: Option<u16>,
    /// Whether the guest can reach the host and its network; otherwise only the forwarded port works.
    pub open: bool,
}

/// The description of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its architecture.
    pub arch: Arch,
    /// The accelerator.
    pub accel: Accel,
    /// Processors.
    pub cpus: u32,
    /// Memory, MiB.
    pub mem_mib: u64,
    /// The kernel's boot image.
    pub kernel: PathBuf,
    /// An initramfs, if the kernel needs one to find its root.
    pub initrd: Option<PathBuf>,
    /// Kernel arguments after those that all guests have.
    pub append: Vec<String>,
    /// The root image, which is never written to.
    pub root: PathBuf,
    /// The bus of the disks.
    pub bus: StorageBus,
    /// The disks, in order.
    pub disks: Vec<Disk>,
    /// How the guest may unplug its disks and plug them in again; `None` if it may not.
    pub hotplug: Option<Hotplug>,
    /// Persistent memory devices: file and size in bytes.
    pub pmem: Vec<(PathBuf, u64)>,
    /// The shares.
    pub shares: Vec<Share>,
    /// The directory of the sockets of the running machine ([`socket`]). Its path must be short.
    pub sockets: Option<PathBuf>,
    /// Whether these sockets include a serial line for the kernel debugger.
    pub kgdb: bool,
    /// The log of the serial line.
    pub serial_log: Option<PathBuf>,
    /// Whether the kernel prints to the serial line until the console is initialized. This slows down the boot,
    /// especially without KVM.
    pub early_console: bool,
    /// Whether the guest's memory is saved after a crash: the guest waits for some seconds after a panic, and passes the
    /// layout of its memory to QEMU.
    pub core: bool,
    /// The network device, if any.
    pub network: Option<Network>,
    /// QEMU arguments before the runner's own.
    pub qemu_prepend: Vec<String>,
    /// QEMU arguments after the runner's own.
    pub qemu_append: Vec<String>,
}

impl Machine {
    /// Whether the guest may unplug its disks and plug them in again. SCSI disks need no support from the machine for
    /// this.
    #[must_use]
    pub fn unpluggable(&self) -> bool {
        self.hotplug.is_some() || self.bus == StorageBus::VirtioScsi
    }
}

/// Why a machine has no QEMU command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// More disks than the bus supports.
    #[error("{disks} disks requested, storage bus {bus} supports {}", bus.capacity())]
    TooManyDisks {
        /// The number of disks.
        disks: usize,
        /// The bus.
        bus: StorageBus,
    },
    /// A path that QEMU's option syntax cannot express.
    #[error("path {0:?} is not UTF-8; it cannot be passed to QEMU")]
    Path(PathBuf),
}

/// The name of the guest's console: the virtio console, on every architecture.
pub const CONSOLE: &str = "hvc0";

/// The sockets in [`Machine::sockets`].
pub mod socket {
    /// QEMU's machine protocol (QMP): unplugging, pausing.
    pub const QMP: &str = "qmp";
    /// QEMU's human monitor.
    pub const MONITOR: &str = "mon";
    /// QEMU's gdb stub.
    pub const GDB: &str = "gdb";
    /// The serial line of the kernel debugger.
    pub const KGDB: &str = "kgdb";
}

/// The command line; its first element is the program.
pub fn argv(machine: &Machine) -> Result<Vec<OsString>, MachineError> {
    if machine.disks.len() > machine.bus.capacity() {
        return Err(MachineError::TooManyDisks { disks: machine.disks.len(), bus: machine.bus });
    }
    let mut args = Args(vec![program(machine.arch).into()]);
    args.extend(&machine.qemu_prepend);
    args.add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    let nvdimm = !machine.pmem.is_empty();
    args.pair("-machine", &board(machine.arch, nvdimm));
    if (machine.arch, machine.hotplug) == (Arch::X86_64, Some(Hotplug::Native)) {
        // Otherwise ACPI owns hot-plug and the kernel's PCIe port driver does nothing.
        args.pair("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off");
    }
    match machine.accel {
        Accel::Kvm => args.add(&["-accel", "kvm", "-cpu", "host"]),
        Accel::Tcg => args.add(&["-accel", "tcg,thread=multi", "-cpu", tcg_cpu(machine.arch)]),
    }
    args.pair("-smp", &machine.cpus.to_string());
    if nvdimm {
        let most = machine.mem_mib + machine.pmem.iter().map(|(_, size)| size.div_ceil(1 << 20)).sum::<u64>();
        args.pair("-m", &format!("{}M,slots={},maxmem={}M", machine.mem_mib, machine.pmem.len(), most));
    } else {
        args.pair("-m", &format!("{}M", machine.mem_mib));
    }
    args.pair("-kernel", text(&machine.kernel)?);
    if let Some(initrd) = &machine.initrd {
        args.pair("-initrd", text(initrd)?);
    }
    args.pair("-append", &kernel_arguments(machine));

    // The console is the standard input and output of the process.
    args.add(&["-chardev", "stdio,id=console,signal=off", "-device", "virtio-serial-pci,id=vser"]);
    args.add(&["-device", "virtconsole,bus=vser.0,chardev=console"]);
    if let Some(serial) = &machine.serial_log {
        args.pair("-serial", &format!("file:{}", text(serial)?));
    }
    sockets(&mut args, machine)?;
    args.add(&["-device", "virtio-rng-pci"]);
    if machine.core {
        args.add(&["-device", "vmcoreinfo"]);
    }

    let root = comma(text(&machine.root)?);
    args.pair("-drive", &format!("if=none,id=root,format=raw,snapshot=on,cache=unsafe,file={root}"));
    args.add(&["-device", "virtio-blk-pci,drive=root,serial=root"]);
    disks(&mut args, machine)?;
    persistent_memory(&mut args, machine)?;
    shares(&mut args, machine)?;
    network(&mut args, machine);
    args.extend(&machine.qemu_append);
    Ok(args.0)
}

fn persistent_memory(args: &mut Args, machine: &Machine) -> Result<(), MachineError> {
    for (index, (file, size)) in machine.pmem.iter().enumerate() {
        let file = comma(text(file)?);
        args.pair(
            "-object",
            &format!("memory-backend-file,id=pmem{index},share=on,mem-path={file},size={size}"),
        );
        args.pair("-device", &format!("nvdimm,id=nvdimm{index},memdev=pmem{index}"));
    }
    Ok(())
}

fn shares(args: &mut Args, machine: &Machine) -> Result<(), MachineError> {
    for share in &machine.shares {
        let Share { tag, dir, writable, xattr } = share;
        let model = match (writable, xattr) {
            (false, _) => "security_model=none,readonly=on",
            (true, true) => "security_model=mapped-xattr",
            (true, false) => "security_model=mapped-file",
        };
        let dir = comma(text(dir)?);
        let slow = if *writable { format!(",throttling.bps-write={SHARE_BPS}") } else { String::new() };
        args.pair("-fsdev", &format!("local,id={tag},{model},multidevs=remap,path={dir}{slow}"));
        args.pair("-device", &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
    }
    Ok(())
}

fn network(args: &mut Args, machine: &Machine) {
    if let Some(Network { ssh_port, open }) = machine.network {
        let mut net = format!("user,id=net,restrict={}", if open { "off" } else { "on" });
        if let Some(port) = ssh_port {
            net.push_str(&format!(",hostfwd=tcp:127.0.0.1:{port}-:22"));
        }
        args.pair("-netdev", &net);
        args.add(&["-device", "virtio-net-pci,netdev=net,romfile="]);
    }
}

/// QEMU's program for an architecture.
#[must_use]
pub fn program(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "qemu-system-x86_64",
        Arch::Aarch64 => "qemu-system-aarch64",
    }
}

fn board(arch: Arch, nvdimm: bool) -> String {
    let board = match arch {
        Arch::X86_64 => "q35,usb=off,vmport=off",
        Arch::Aarch64 => "virt,gic-version=max",
    };
    if nvdimm { format!("{board},nvdimm=on") } else { board.into() }
}

fn tcg_cpu(arch: Arch) -> &'static str {
    match arch {
        // Five-level page tables add a load to every page walk and have no benefit here.
        Arch::X86_64 => "max,la57=off",
        // The architected pointer authentication algorithm is very slow to emulate.
        Arch::Aarch64 => "max,pauth-impdef=on",
    }
}

/// The kernel arguments of all guests, then those that the test file declares.
fn kernel_arguments(machine: &Machine) -> String {
    let early = match (machine.arch, machine.early_console && machine.serial_log.is_some()) {
        (_, false) => None,
        (Arch::X86_64, true) => Some("earlycon=uart8250,io,0x3f8,115200"),
        (Arch::Aarch64, true) => Some("earlycon"),
    };
    let ours = [
        "console=hvc0",
        "root=/dev/vda",
        "rw",
        "init=/sbin/ktest-init",
        if machine.core { "panic=10" } else { "panic=-1" },
        "oops=panic",
        "log_buf_len=8M",
        "mitigations=off",
        "random.trust_cpu=on",
        // The network card is eth0, also with udev.
        "net.ifnames=0",
    ];
    // The counter of an emulated processor is the host's. On a busy host the kernel can find that it deviates from the others, and
    // then reads HPET, a device, whenever it needs the time.
    let clock = (machine.arch == Arch::X86_64 && machine.accel == Accel::Tcg).then_some("tsc=reliable");
    // The firmware grants the ports only to a kernel that supports all of PCI Express, which this one may not.
    let ports = (machine.hotplug == Some(Hotplug::Native)).then_some("pcie_ports=native");
    let all = ours
        .into_iter()
        .chain(early)
        .chain(clock)
        .chain(ports)
        .chain(machine.append.iter().map(String::as_str));
    all.collect::<Vec<_>>().join(" ")
}

/// Adds the sockets of the machine. The debugger's serial line must be the second one, so it is added after the first.
fn sockets(args: &mut Args, machine: &Machine) -> Result<(), MachineError> {
    let Some(dir) = &machine.sockets else { return Ok(()) };
    let path = |name: &str| Ok(format!("unix:{},server=on,wait=off", comma(text(&dir.join(name))?)));
    args.pair("-qmp", &path(socket::QMP)?);
    args.pair("-monitor", &path(socket::MONITOR)?);
    args.pair("-gdb", &path(socket::GDB)?);
    if machine.kgdb && machine.arch == Arch::X86_64 {
        args.pair("-serial", &path(socket::KGDB)?);
    }
    Ok(())
}

fn disks(args: &mut Args, machine: &Machine) -> Result<(), MachineError> {
    match machine.bus {
        _ if machine.disks.is_empty() => {}
        StorageBus::VirtioScsi => args.add(&["-device", "virtio-scsi-pci,id=bus"]),
        StorageBus::Ahci => {
            for controller in 0..machine.disks.len().div_ceil(AHCI_PORTS) {
                args.pair("-device", &format!("ahci,id={}", ahci(controller)));
            }
        }
        StorageBus::Piix4Ide => args.add(&["-device", "piix4-ide,id=bus"]),
        StorageBus::Lsi => args.add(&["-device", "lsi53c895a,id=bus"]),
        StorageBus::VirtioBlk | StorageBus::Nvme => {}
    }
    for at in 0..machine.disks.len() {
        if machine.hotplug.is_some() && matches!(machine.bus, StorageBus::VirtioBlk | StorageBus::Nvme) {
            let port = format!("pcie-root-port,id=port{at},chassis={},{}", at + 1, pci_address(machine, at));
            args.pair("-device", &port);
        }
        args.pair("-drive", &drive(machine, at)?);
        args.pair("-device", &device(machine, at));
    }
    Ok(())
}

/// The value of a disk's `-drive`.
pub fn drive(machine: &Machine, at: usize) -> Result<String, MachineError> {
    let disk = &machine.disks[at];
    let mut drive = format!("if=none,id=disk{at},format=raw,cache=unsafe,discard=unmap");
    for (on, option) in [(disk.readonly, ",readonly=on"), (disk.snapshot, ",snapshot=on")] {
        if on {
            drive.push_str(option);
        }
    }
    if let Some(iops) = disk.iops {
        drive.push_str(&format!(",throttling.iops-total={iops}"));
    }
    if let Some(bps) = disk.bps {
        drive.push_str(&format!(",throttling.bps-total={bps}"));
    }
    drive.push_str(",file=");
    drive.push_str(&comma(text(&disk.file)?));
    Ok(drive)
}

/// The value of a disk's `-device`.
#[must_use]
pub fn device(machine: &Machine, at: usize) -> String {
    let common = format!("id=dev{at},drive=disk{at},serial=scratch{at}");
    match machine.bus {
        StorageBus::VirtioBlk => format!("virtio-blk-pci,{common},{}", pci_bus(machine, at)),
        StorageBus::Nvme => format!("nvme,{common},{}", pci_bus(machine, at)),
        StorageBus::VirtioScsi => format!("scsi-hd,bus=bus.0,scsi-id={at},{common}"),
        StorageBus::Ahci => {
            format!("ide-hd,bus={}.{},{common}", ahci(at / AHCI_PORTS), at % AHCI_PORTS)
        }
        StorageBus::Piix4Ide => format!("ide-hd,bus=bus.{},unit={},{common}", at / 2, at % 2),
        StorageBus::Lsi => format!("scsi-hd,bus=bus.0,scsi-id={at},{common}"),
    }
}

/// The ports of QEMU's AHCI controller.
const AHCI_PORTS: usize = 6;

/// The name of the nth AHCI controller.
fn ahci(controller: usize) -> String {
    if controller == 0 { "bus".into() } else { format!("bus{controller}") }
}

/// A disk that can be unplugged has its own port, because devices on the root complex cannot be unplugged.
fn pci_bus(machine: &Machine, at: usize) -> String {
    if machine.hotplug.is_some() { format!("bus=port{at}") } else { pci_address(machine, at) }
}

/// Each of up to 14 disks has its own slot. If there are more, eight disks share a slot as its functions.
fn pci_address(machine: &Machine, at: usize) -> String {
    if machine.disks.len() <= 14 {
        format!("addr=0x{:x}", 0x10 + at)
    } else {
        format!("multifunction=on,addr=0x{:x}.{}", 0x10 + at / 8, at % 8)
    }
}

struct Args(Vec<OsString>);

impl Args {
    fn add(&mut self, args: &[&str]) {
        self.0.extend(args.iter().map(OsString::from));
    }
    fn pair(&mut self, option: &str, value: &str) {
        self.add(&[option, value]);
    }
    fn extend(&mut self, args: &[String]) {
        self.0.extend(args.iter().map(OsString::from));
    }
}

fn text(path: &Path) -> Result<&str, MachineError> {
    path.to_str().ok_or_else(|| MachineError::Path(path.into()))
}

/// Escapes the commas in the value of an option by doubling them.
fn comma(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
