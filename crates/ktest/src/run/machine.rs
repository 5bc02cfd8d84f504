//! From declarations to a machine: its disks, its shares, and what the guest finds in its environment.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use kernel::Kernel;
use model::{Arch, StorageBus, SubtestName};
use rustix::fs::{FlockOperation, XattrFlags, flock, setxattr};
use vm::guest::{GuestMount, GuestSpec, HOST, TAG};
use vm::machine::{Accel, Disk, Hotplug, Machine, Network, Share, device, drive};

use super::{Prepared, RunError, RunOptions, terminal};
use crate::access::Access;
use crate::report::Reporter;
use testfile::declare::Declarations;

/// Slow scratch devices, as the contract's `ktest_scratch_slowdevs` marks them: a hard disk of old.
const SLOW_IOPS: u32 = 100;
const SLOW_BPS: u64 = 10 << 20;

/// The folder of one VM's own files (scratch devices, the guest's spec), gone when this is dropped. What a killed
/// run left behind is removed when the next one begins.
#[derive(Debug)]
pub(super) struct Workplace {
    dir: tempfile::TempDir,
    /// The sockets have a folder of their own: the path of a socket must be short.
    socket_dir: tempfile::TempDir,
    _lock: File,
}

impl Workplace {
    pub(super) fn create(cache: &Path) -> io::Result<Self> {
        let parent = cache.join("vms");
        std::fs::create_dir_all(&parent)?;
        remove_leftovers(&parent);
        let dir = tempfile::Builder::new().prefix("vm-").tempdir_in(&parent)?;
        let lock = File::create(dir.path().join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let socket_dir = tempfile::Builder::new().prefix("ktest-").tempdir()?;
        Ok(Self { dir, socket_dir, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn sockets(&self) -> &Path {
        self.socket_dir.path()
    }
}

/// Folders whose lock nobody holds belong to runs that were killed. Failing to remove one harms nobody.
fn remove_leftovers(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let lock = File::open(entry.path().join("lock"));
        if lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// What one VM is for.
#[derive(Debug)]
pub(super) struct Purpose<'a> {
    /// How it is run.
    pub accel: Accel,
    /// The subtests it is to run.
    pub subtests: &'a [SubtestName],
    /// The run's output folder.
    pub out: &'a Path,
    /// Show what the kernel says before its console is up.
    pub early_console: bool,
    /// The way in by ssh.
    pub ssh: Option<&'a Access>,
}

/// The machine for a VM, its files made in `place`.
pub(super) fn prepare(
    prepared: &Prepared<'_>,
    purpose: &Purpose<'_>,
    place: &Workplace,
) -> Result<Machine, RunError> {
    let &Purpose { accel, subtests, out, .. } = purpose;
    let workplace = place.path();
    let io = |error: io::Error| RunError::Infrastructure(format!("{}: {error}", workplace.display()));
    let Prepared { declared, kernel, options, .. } = prepared;
    let mut disks = Vec::new();
    for (files, readonly) in [(&declared.images, true), (&declared.rw_images, false)] {
        for file in files {
            if !file.is_file() {
                return Err(RunError::Usage(format!("{}: no such image", file.display())));
            }
            disks.push(Disk { file: file.clone(), readonly, snapshot: !readonly, iops: None, bps: None });
        }
    }
    let base = disks.len() + usize::from(declared.bus == StorageBus::VirtioBlk);
    for (at, size) in declared.scratch.iter().enumerate() {
        let file = sparse(workplace, &format!("scratch{at}"), *size).map_err(io)?;
        prepared.restore(&file)?;
        let slow = declared.slow.contains(&at);
        let (iops, bps) = (slow.then_some(SLOW_IOPS), slow.then_some(SLOW_BPS));
        disks.push(Disk { file, readonly: false, snapshot: false, iops, bps });
    }
    let mut pmem = Vec::new();
    for (at, size) in declared.pmem.iter().enumerate() {
        let file = sparse(workplace, &format!("pmem{at}"), *size).map_err(io)?;
        prepared.restore(&file)?;
        pmem.push((file, *size));
    }

    let headers = headers(prepared, workplace)?;
    let (shares, mounts) = shares(prepared, workplace, out, headers.as_deref());
    let mut append = declared.kernel_append.clone();
    if options.interactive {
        // Somebody wants to look at a crash, with a debugger that knows where things are.
        append.extend(["panic=0", "nokaslr"].map(String::from));
        if has_kgdb(kernel) {
            append.push("kgdboc=ttyS1,115200".into());
        }
    }
    let machine = Machine {
        arch: declared.kernel.arch,
        accel,
        cpus: declared.cpus.unwrap_or_else(default_cpus),
        mem_mib: declared.mem_mib,
        kernel: kernel.image.clone(),
        initrd: kernel.initrd.clone(),
        append,
        root: prepared.root.clone(),
        bus: declared.bus,
        disks,
        hotplug: hotplug(declared),
        pmem,
        shares,
        sockets: Some(place.sockets().into()),
        kgdb: options.interactive,
        serial_log: Some(workplace.join("serial")),
        early_console: purpose.early_console,
        network: Some(Network { ssh_port: purpose.ssh.map(|access| access.port), open: declared.network }),
        qemu_prepend: declared.qemu_prepend.clone(),
        qemu_append: declared.qemu_append.clone(),
    };
    let spec = GuestSpec {
        env: environment(prepared, subtests, &machine, base, out)?,
        // Without subtests the file only says what the machine is.
        file: prepared.file.filter(|_| !subtests.is_empty()).map(|file| guest_path(&file.path)),
        subtests: subtests.to_vec(),
        mounts,
        command: options.command.clone(),
        ssh: purpose.ssh.map(|access| access.keys.clone()),
    };
    vm::guest::write(&workplace.join("guest"), &spec).map_err(io)?;
    Ok(machine)
}

/// Ports that disks can be unplugged from make every boot slower: only for files that ask for a kernel with them.
fn hotplug(declared: &Declarations) -> Option<Hotplug> {
    let asks = |name: &str| {
        let mut wanted = declared.kernel.require.iter().chain(&declared.kernel.require_soft);
        wanted.any(|option| option.name == name && option.value != kernel::KValue::No)
    };
    match (asks("HOTPLUG_PCI_PCIE"), asks("HOTPLUG_PCI_ACPI") || asks("HOTPLUG_PCI")) {
        (true, _) => Some(Hotplug::Native),
        (false, true) => Some(Hotplug::Acpi),
        (false, false) => None,
    }
}

/// Whether the kernel can be debugged over a serial line.
pub(super) fn has_kgdb(kernel: &Kernel) -> bool {
    let config = std::fs::read_to_string(&kernel.config).unwrap_or_default();
    kernel.arch == Arch::X86_64 && config.lines().any(|line| line == "CONFIG_KGDB_SERIAL_CONSOLE=y")
}

/// The disks as QEMU is told of them, by disk number: the root disk, where it counts, is not the guest's to unplug.
fn plug_lines(machine: &Machine) -> Result<(String, String), RunError> {
    let root = if machine.bus == StorageBus::VirtioBlk { "root\n" } else { "" };
    let (mut drives, mut devices) = (root.to_string(), root.to_string());
    if machine.unpluggable() {
        for at in 0..machine.disks.len() {
            let drive = drive(machine, at).map_err(|error| RunError::Usage(error.to_string()))?;
            drives.push_str(&format!("{drive}\n"));
            devices.push_str(&format!("{}\n", device(machine, at)));
        }
    }
    Ok((drives, devices))
}

fn default_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)).min(4)
}

fn sparse(dir: &Path, name: &str, size: u64) -> io::Result<PathBuf> {
    let path = dir.join(name);
    File::create(&path)?.set_len(size)?;
    Ok(path)
}

/// A host path as the guest sees it.
fn guest_path(path: &Path) -> String {
    format!("{HOST}{}", path.display())
}

/// What the guest sees of the host, and where: its spec, the tests, the modules, its output folder.
fn shares(
    prepared: &Prepared<'_>,
    workplace: &Path,
    out: &Path,
    headers: Option<&Path>,
) -> (Vec<Share>, Vec<GuestMount>) {
    let mut shares = Vec::new();
    let mut mounts = Vec::new();
    let mut add = |tag: &str, dir: &Path, at: Option<String>, writable: bool| {
        let xattr = writable && keeps_xattrs(dir);
        shares.push(Share { tag: tag.into(), dir: dir.into(), writable, xattr });
        if let Some(path) = at {
            mounts.push(GuestMount { tag: tag.into(), path, writable });
        }
    };
    add(TAG, &workplace.join("guest"), None, false);
    if let Some(file) = prepared.file {
        add("ktest_tests", &file.ktest_dir, Some(guest_path(&file.ktest_dir)), false);
    }
    add("ktest_out", out, Some(guest_path(out)), true);
    let deps = &prepared.host_env.deps_dir;
    if deps.is_dir() {
        add("ktest_deps", deps, Some(guest_path(deps)), false);
    }
    if let Some(selftests) = &prepared.kselftests {
        add("ktest_kselftests", &selftests.dir, Some(guest_path(&selftests.dir)), false);
    }
    if let Some(modules) = modules(prepared.kernel) {
        add("ktest_modules", &modules, Some(format!("/lib/modules/{}", prepared.kernel.release)), false);
    }
    if let Some(headers) = headers {
        add("ktest_headers", headers, Some(format!("/lib/modules/{}/build", prepared.kernel.release)), false);
    }
    (shares, mounts)
}

/// The kernel's headers laid out for the guest, where the test file asks for them.
fn headers(prepared: &Prepared<'_>, workplace: &Path) -> Result<Option<PathBuf>, RunError> {
    if !prepared.declared.kernel_headers {
        return Ok(None);
    }
    let dir = workplace.join("headers");
    kernel::headers::unpack(prepared.kernel, &dir).map_err(super::kernel::failure)?;
    Ok(Some(dir))
}

fn modules(kernel: &Kernel) -> Option<PathBuf> {
    let dir = kernel.modules.as_ref()?.join("lib/modules").join(&kernel.release);
    dir.is_dir().then_some(dir)
}

/// Whether files in `dir` can carry the extended attributes that a mapped share needs.
fn keeps_xattrs(dir: &Path) -> bool {
    tempfile::NamedTempFile::new_in(dir)
        .is_ok_and(|file| setxattr(file.path(), "user.virtfs.test", b"1", XattrFlags::empty()).is_ok())
}

/// The environment of the contract, "What the guest must find".
fn environment(
    prepared: &Prepared<'_>,
    subtests: &[SubtestName],
    machine: &Machine,
    base: usize,
    out: &Path,
) -> Result<Vec<(String, String)>, RunError> {
    let (drives, devices) = plug_lines(machine)?;
    let Prepared { declared, file, kernel, host_env, options, .. } = prepared;
    let lines =
        |items: &[PathBuf]| items.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join("\n");
    let sizes = |items: &[u64]| items.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let tests = subtests.iter().map(SubtestName::as_str).collect::<Vec<_>>().join(" ");
    let mut env: Vec<(String, String)> = [
        ("ktest_arch", declared.kernel.arch.to_string()),
        ("ktest_compiler", declared.kernel.compiler_name().into()),
        ("ktest_cpus", declared.cpus.unwrap_or_else(default_cpus).to_string()),
        ("ktest_mem", declared.mem_mib.to_string()),
        ("ktest_timeout", declared.timeout.as_secs().to_string()),
        ("ktest_allow_taint", declared.allow_taint.to_string()),
        ("ktest_tests_unknown", declared.tests_unknown.to_string()),
        ("ktest_no_kbuild", declared.no_kbuild.to_string()),
        ("ktest_no_vm", declared.no_vm.to_string()),
        ("ktest_kernel_append", declared.kernel_append.join(" ")),
        ("ktest_make_install", lines(&declared.make_install)),
        ("ktest_images", lines(&declared.images)),
        ("ktest_rw_images", lines(&declared.rw_images)),
        ("ktest_scratch_dev_sizes", sizes(&declared.scratch)),
        ("ktest_pmem_devs", sizes(&declared.pmem)),
        ("ktest_dir", file.map(|file| guest_path(&file.ktest_dir)).unwrap_or_default()),
        ("ktest_out", guest_path(out)),
        ("ktest_tmp", "/tmp".into()),
        ("ktest_deps_dir", guest_path(&host_env.deps_dir)),
        ("ktest_test", file.map(|file| guest_path(&file.path)).unwrap_or_default()),
        ("ktest_tests", tests),
        ("ktest_kernel_binary", kernel.image.display().to_string()),
        ("ktest_kernel_version", host_env.kernel_version.clone()),
        ("ktest_verbose", "false".into()),
        ("ktest_interactive", options.interactive.to_string()),
        ("ktest_exit_on_success", options.exit_on_success.to_string()),
        ("ktest_failfast", options.failfast.to_string()),
        ("ktest_priority", "0".into()),
        ("ktest_crashdump", "false".into()),
        ("ktest_scratch_dev_base", base.to_string()),
        ("ktest_qemu_drives", drives),
        ("ktest_qemu_devices", devices),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect();
    env.push(("ktest_storage_bus".into(), declared.bus.to_string()));
    if let Some(selftests) = &prepared.kselftests {
        env.push(("ktest_kselftest_dir".into(), guest_path(&selftests.dir)));
    }
    if let Some((rows, columns)) = terminal::size().filter(|_| options.interactive) {
        env.push(("ktest_terminal".into(), format!("{rows} {columns}")));
        env.extend(std::env::var("TERM").map(|term| ("TERM".to_string(), term)));
    }
    env.extend(options.env.iter().cloned());
    Ok(env)
}

/// The standard root image of an architecture with the packages that are wanted, made when it is missing.
pub(super) async fn standard_image(
    options: &RunOptions,
    arch: Arch,
    reporter: &mut Reporter,
) -> Result<PathBuf, RunError> {
    let spec = vm::image::ImageSpec::standard(arch).with(&options.packages);
    let image = vm::image::find_or_create(&spec, &options.cache, &mut |what: &str| {
        reporter.event(model::Event::Phase { what: what.into() });
    })
    .await
    .map_err(|error| RunError::Infrastructure(format!("root image: {error}")))?;
    Ok(image.path)
}
