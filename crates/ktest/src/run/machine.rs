//! From declarations to a machine: its disks, its shares, and what the guest finds in its environment.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use kernel::Kernel;
use model::{Arch, SubtestName};
use rustix::fs::{FlockOperation, XattrFlags, flock, setxattr};
use vm::guest::{Errand, HOST, TAG};
use vm::machine::{Accel, Disk, Machine, Share, StorageBus, device, drive};

use super::{Prepared, RunError};
use crate::report::Reporter;

/// Slow scratch devices, as the contract's `ktest_scratch_slowdevs` marks them: a hard disk of old.
const SLOW_IOPS: u32 = 100;
const SLOW_BPS: u64 = 10 << 20;

/// The folder of one VM's own files (scratch devices, the guest's errand), gone when this is dropped. What a killed
/// run left behind is removed when the next one begins.
#[derive(Debug)]
pub(super) struct Workplace {
    dir: tempfile::TempDir,
    /// The monitor's socket has a folder of its own: the path of a socket must be short.
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

/// The machine for a VM that is to run `subtests`, its files made in `workplace`.
pub(super) fn prepare(
    prepared: &Prepared<'_>,
    accel: Accel,
    subtests: &[SubtestName],
    place: &Workplace,
    out: &Path,
) -> Result<Machine, RunError> {
    let workplace = place.path();
    let io = |error: io::Error| RunError::Infrastructure(format!("{}: {error}", workplace.display()));
    let Prepared { declared, kernel, .. } = prepared;
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
        let slow = declared.slow.contains(&at);
        let (iops, bps) = (slow.then_some(SLOW_IOPS), slow.then_some(SLOW_BPS));
        disks.push(Disk { file, readonly: false, snapshot: false, iops, bps });
    }
    let mut pmem = Vec::new();
    for (at, size) in declared.pmem.iter().enumerate() {
        pmem.push((sparse(workplace, &format!("pmem{at}"), *size).map_err(io)?, *size));
    }

    let (shares, mounts) = shares(prepared, workplace, out);
    // Ports that disks can be unplugged from make every boot slower: only for files that ask for a kernel with them.
    let hotplug = declared.kernel.require.iter().any(|option| option.name.starts_with("HOTPLUG_PCI"));
    let machine = Machine {
        arch: declared.kernel.arch,
        accel,
        cpus: declared.cpus.unwrap_or_else(default_cpus),
        mem_mib: declared.mem_mib,
        kernel: kernel.image.clone(),
        initrd: kernel.initrd.clone(),
        append: declared.kernel_append.clone(),
        root: prepared.root.clone(),
        bus: declared.bus,
        disks,
        hotplug,
        pmem,
        shares,
        qmp: hotplug.then(|| place.socket_dir.path().join("qmp")),
        serial_log: Some(workplace.join("serial")),
        ssh_port: None,
        qemu_prepend: declared.qemu_prepend.clone(),
        qemu_append: declared.qemu_append.clone(),
    };
    let errand = Errand {
        env: environment(prepared, subtests, &machine, base, out)?,
        file: Some(guest_path(&prepared.file.path)),
        subtests: subtests.to_vec(),
        mounts,
    };
    vm::guest::write(&workplace.join("guest"), &errand).map_err(io)?;
    Ok(machine)
}

/// The disks as QEMU is told of them, by disk number: the root disk, where it counts, is not the guest's to unplug.
fn plug_lines(machine: &Machine) -> Result<(String, String), RunError> {
    let root = if machine.bus == StorageBus::VirtioBlk { "root\n" } else { "" };
    let (mut drives, mut devices) = (root.to_string(), root.to_string());
    if machine.hotplug {
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

type Mount = (String, String, bool);

/// What the guest sees of the host, and where: its errand, the tests, the modules, its output folder.
fn shares(prepared: &Prepared<'_>, workplace: &Path, out: &Path) -> (Vec<Share>, Vec<Mount>) {
    let mut shares = Vec::new();
    let mut mounts = Vec::new();
    let mut add = |tag: &str, dir: &Path, at: Option<String>, writable: bool| {
        let xattr = writable && keeps_xattrs(dir);
        shares.push(Share { tag: tag.into(), dir: dir.into(), writable, xattr });
        if let Some(at) = at {
            mounts.push((tag.to_string(), at, writable));
        }
    };
    add(TAG, &workplace.join("guest"), None, false);
    let tests = &prepared.file.ktest_dir;
    add("ktest_tests", tests, Some(guest_path(tests)), false);
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
    (shares, mounts)
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
        ("ktest_dir", guest_path(&file.ktest_dir)),
        ("ktest_out", guest_path(out)),
        ("ktest_tmp", "/tmp".into()),
        ("ktest_deps_dir", guest_path(&host_env.deps_dir)),
        ("ktest_test", guest_path(&file.path)),
        ("ktest_tests", tests),
        ("ktest_kernel_binary", kernel.image.display().to_string()),
        ("ktest_kernel_version", host_env.kernel_version.clone()),
        ("ktest_verbose", "false".into()),
        ("ktest_interactive", "false".into()),
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
    env.push(("ktest_storage_bus".into(), bus_name(declared.bus).into()));
    if let Some(selftests) = &prepared.kselftests {
        env.push(("ktest_kselftest_dir".into(), guest_path(&selftests.dir)));
    }
    env.extend(options.env.iter().cloned());
    Ok(env)
}

fn bus_name(bus: StorageBus) -> &'static str {
    match bus {
        StorageBus::VirtioBlk => "virtio-blk",
        StorageBus::VirtioScsi => "virtio-scsi-pci",
        StorageBus::Ahci => "ahci",
        StorageBus::Nvme => "nvme",
        StorageBus::Piix4Ide => "piix4-ide",
        StorageBus::Lsi => "lsi",
    }
}

/// The standard root image of an architecture, made when it is missing.
pub(super) async fn standard_image(
    cache: &Path,
    arch: Arch,
    reporter: &mut Reporter,
) -> Result<PathBuf, RunError> {
    let spec = vm::image::ImageSpec::standard(arch);
    let image = vm::image::find_or_create(&spec, cache, &mut |what: &str| {
        reporter.event(model::Event::Phase { what: what.into() });
    })
    .await
    .map_err(|error| RunError::Infrastructure(format!("root image: {error}")))?;
    Ok(image.path)
}
