//! Converts declarations to a machine: its disks, its shares and the guest's environment.

use std::io;
use std::path::{Path, PathBuf};

use kernel::Kernel;
use model::{Arch, DistroKernel, ShippedImage, StorageBus, SubtestName};
use rustix::fs::{XattrFlags, setxattr};
use vm::guest::{GuestMount, GuestSpec, HOST, TAG, Writes};
use vm::machine::{Accel, Disk, Hotplug, Machine, Network, Share, device, drive};
use vm::supervise::Token;

use super::error::RunError;
use super::guest_cache::GuestCache;
use super::kernel_arg::KernelFrom;
use super::phases::{Declared, Prepared};
use super::request::RunRequest;
use super::terminal;
use super::vm_dir::VmDir;
use crate::access::Access;
use crate::report::Reporter;
use testfile::Declarations;

/// The limits of a slow scratch device (`ktest_scratch_slowdevs`): those of a rotating disk.
const SLOW_IOPS: u32 = 100;
const SLOW_BPS: u64 = 10 << 20;

/// The parameters of one VM.
#[derive(Debug)]
pub(super) struct VmSetup<'a> {
    /// How the guest is executed.
    pub accel: Accel,
    /// The subtests to run.
    pub subtests: &'a [SubtestName],
    /// The directory that the tests write to.
    pub out: &'a Path,
    /// Show console output from before the console driver is initialized.
    pub early_console: bool,
    /// Save the memory of a guest that crashes.
    pub core: bool,
    /// The parameters for ssh access to the guest.
    pub ssh: Option<&'a Access>,
    /// The token of the boot.
    pub token: &'a Token,
    /// What outlives the guest, in addition to its output.
    pub cache: Option<&'a GuestCache>,
}

/// Describes the machine for a VM and creates its files in `dir`.
pub(super) fn prepare(
    prepared: &Prepared<'_>,
    setup: &VmSetup<'_>,
    dir: &VmDir,
) -> Result<Machine, RunError> {
    let files = dir.path();
    let Declared { request, file, declared, .. } = &prepared.run;
    let Devices { disks, pmem, base } = devices(prepared, files)?;
    let headers = headers(prepared)?;
    let (shares, mounts) = shares(prepared, files, setup, headers.as_deref())?;
    let interactive = request.order.interactive;
    let mut append = declared.kernel_append.clone();
    if interactive {
        // For a debugger: stop after a panic, and load the kernel at its link address.
        append.extend(["panic=0", "nokaslr"].map(String::from));
        if has_kgdb(&prepared.kernel) {
            append.push("kgdboc=ttyS1,115200".into());
        }
    }
    let machine = Machine {
        arch: declared.kernel.arch,
        accel: setup.accel,
        cpus: declared.cpus.unwrap_or_else(default_cpus),
        mem_mib: declared.mem_mib,
        kernel: prepared.kernel.image.clone(),
        initrd: prepared.kernel.initrd.clone(),
        append,
        root: prepared.root.clone(),
        bus: declared.bus,
        disks,
        hotplug: hotplug(declared),
        pmem,
        shares,
        sockets: Some(dir.sockets().into()),
        kgdb: interactive,
        serial_log: Some(files.join("serial")),
        early_console: setup.early_console,
        core: setup.core,
        network: Some(Network { ssh_port: setup.ssh.map(|access| access.port), open: declared.network }),
        qemu_prepend: declared.qemu_prepend.clone(),
        qemu_append: declared.qemu_append.clone(),
    };
    let spec = GuestSpec {
        env: environment(prepared, setup, &machine, base)?,
        // Without subtests, the file only declares the machine.
        file: file.as_ref().filter(|_| !setup.subtests.is_empty()).map(|file| guest_path(&file.path)),
        subtests: setup.subtests.to_vec(),
        mounts,
        command: request.command.clone(),
        token: setup.token.clone(),
        ssh: setup.ssh.map(|access| access.keys.clone()),
    };
    vm::guest::write(&files.join("guest"), &spec).map_err(|error| io_error(files, &error))?;
    Ok(machine)
}

fn io_error(path: &Path, error: &io::Error) -> RunError {
    RunError::Infrastructure(format!("{}: {error}", path.display()))
}

/// The block and pmem devices of a machine.
struct Devices {
    /// Images first, then scratch devices.
    disks: Vec<Disk>,
    pmem: Vec<(PathBuf, u64)>,
    /// The number of the first scratch device in the guest.
    base: usize,
}

/// Creates the scratch and pmem devices in `dir`, with the content of the saved devices if there are any.
fn devices(prepared: &Prepared<'_>, dir: &Path) -> Result<Devices, RunError> {
    let declared = &prepared.run.declared;
    let mut disks = Vec::new();
    for (files, readonly) in [(&declared.images, true), (&declared.rw_images, false)] {
        for file in files {
            if !fsx::own::is_file(file).map_err(RunError::infrastructure)? {
                return Err(RunError::Usage(format!("{}: no such image", file.display())));
            }
            disks.push(Disk { file: file.clone(), readonly, snapshot: !readonly, iops: None, bps: None });
        }
    }
    let base = disks.len() + usize::from(declared.bus == StorageBus::VirtioBlk);
    let device = |name: String, size: u64| {
        let file = sparse(dir, &name, size).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => RunError::Usage(format!(
                "{name}: this host has no files of {size} bytes; declare a smaller device"
            )),
            _ => io_error(dir, &error),
        })?;
        prepared.saved.as_ref().map_or(Ok(()), |saved| saved.restore(&file))?;
        Ok::<_, RunError>(file)
    };
    for (at, size) in declared.scratch.iter().enumerate() {
        let file = device(format!("scratch{at}"), *size)?;
        let slow = declared.slow.contains(&at);
        let (iops, bps) = (slow.then_some(SLOW_IOPS), slow.then_some(SLOW_BPS));
        disks.push(Disk { file, readonly: false, snapshot: false, iops, bps });
    }
    let pmem = declared.pmem.iter().enumerate();
    let pmem = pmem.map(|(at, size)| Ok((device(format!("pmem{at}"), *size)?, *size)));
    Ok(Devices { disks, pmem: pmem.collect::<Result<_, RunError>>()?, base })
}

/// Hotplug ports slow down every boot, so they are added only for files whose kernel requires hotplug support.
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
    let config = fsx::own::read_to_string(&kernel.config, 16 << 20).unwrap_or_default();
    kernel.arch == Arch::X86_64 && config.lines().any(|line| line == "CONFIG_KGDB_SERIAL_CONSOLE=y")
}

/// The QEMU options of each disk, by disk number. The guest cannot unplug the root disk, which is number 0 on
/// virtio-blk.
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
    fsx::own::create(&path)?.set_len(size)?;
    Ok(path)
}

/// The path of a host file in the guest.
fn guest_path(path: &Path) -> String {
    format!("{HOST}{}", path.display())
}

/// The directories of the host that the guest mounts, with their paths: its specification, the tests, the modules, its
/// output directory.
fn shares(
    prepared: &Prepared<'_>,
    workplace: &Path,
    setup: &VmSetup<'_>,
    headers: Option<&Path>,
) -> Result<(Vec<Share>, Vec<GuestMount>), RunError> {
    let mut shares = Vec::new();
    let mut mounts = Vec::new();
    let mut add = |tag: &str, dir: &Path, at: Option<String>, writes: Writes| {
        let writable = writes == Writes::Kept;
        shares.push(Share {
            tag: tag.into(),
            dir: dir.into(),
            writable,
            xattr: writable && keeps_xattrs(dir),
        });
        if let Some(path) = at {
            mounts.push(GuestMount { tag: tag.into(), path, writes });
        }
    };
    add(TAG, &workplace.join("guest"), None, Writes::Refused);
    // The directories below which others are mounted come first.
    let run = &prepared.run;
    let tests = run.file.as_ref().map(|file| file.ktest_dir.as_path());
    let deps = &run.host_env.deps_dir;
    if let Some(cache) = setup.cache {
        let at = cache_place(deps, tests);
        if let Some(at) = at {
            let inner = [Some(deps.as_path()), tests, Some(setup.out)].into_iter().flatten();
            cache.make_mount_points(inner.filter_map(|path| path.strip_prefix(at).ok()))?;
        }
        add(CACHE, cache.dir(), Some(at.map_or("-".into(), guest_path)), Writes::Kept);
    }
    if let Some(tests) = tests {
        add("ktest_tests", tests, Some(guest_path(tests)), Writes::Layered);
    }
    add("ktest_out", setup.out, Some(guest_path(setup.out)), Writes::Kept);
    if setup.cache.is_some() || deps.is_dir() {
        fsx::own::create_dir_all(deps).map_err(RunError::infrastructure)?;
        add("ktest_deps", deps, Some(guest_path(deps)), Writes::Layered);
        if let Some(placed) = testfile::clones::placed(deps).map_err(RunError::infrastructure)? {
            add("ktest_placed", &placed, Some(guest_path(&placed)), Writes::Layered);
        }
    }
    if let Some(selftests) = &prepared.kselftests {
        add("ktest_kselftests", &selftests.dir, Some(guest_path(&selftests.dir)), Writes::Refused);
    }
    if let Some(dir) = prepared.kernel.image.parent().filter(|_| setup.cache.is_some()) {
        add("ktest_kernel", dir, Some(format!("{HOST}{KERNEL_DIR}")), Writes::Refused);
    }
    let modules_dir = format!("/lib/modules/{}", prepared.kernel.release);
    if let Some(modules) = modules(&prepared.kernel) {
        add("ktest_modules", &modules, Some(modules_dir.clone()), Writes::Refused);
    }
    if let Some(headers) = headers {
        add("ktest_headers", headers, Some(format!("{modules_dir}/build")), Writes::Refused);
    }
    Ok((shares, mounts))
}

/// The 9p tag of what outlives the guest.
const CACHE: &str = "ktest_cache";
/// The path of the kernel's directory in the guest, without the prefix of the host's paths: the host's path differs for each
/// kernel.
const KERNEL_DIR: &str = "/ktest-kernel";

/// Where the guest finds what outlives it: the directory above the clones, unless it is part of the tests.
fn cache_place<'a>(deps: &'a Path, tests: Option<&Path>) -> Option<&'a Path> {
    let above = deps.parent().filter(|above| above.parent().is_some())?;
    let hides = tests.is_some_and(|tests| above.starts_with(tests));
    (!hides).then_some(above)
}

/// The kernel's headers, if the test file requires them. A distribution kernel always has them, as it has where its
/// packages are installed.
fn headers(prepared: &Prepared<'_>) -> Result<Option<PathBuf>, RunError> {
    let kernel = &prepared.kernel;
    let installed = kernel.initrd.is_some() && kernel.headers.is_some();
    if !prepared.run.declared.kernel_headers && !installed {
        return Ok(None);
    }
    kernel::headers::shared(kernel).map(Some).map_err(super::kernel::failure)
}

fn modules(kernel: &Kernel) -> Option<PathBuf> {
    let dir = kernel.modules.as_ref()?.join("lib/modules").join(&kernel.release);
    dir.is_dir().then_some(dir)
}

/// Whether files in `dir` can have the extended attributes that a mapped share needs.
fn keeps_xattrs(dir: &Path) -> bool {
    tempfile::NamedTempFile::new_in(dir)
        .is_ok_and(|file| setxattr(file.path(), "user.virtfs.test", b"1", XattrFlags::empty()).is_ok())
}

/// The guest's environment (docs/contract.md).
fn environment(
    prepared: &Prepared<'_>,
    setup: &VmSetup<'_>,
    machine: &Machine,
    base: usize,
) -> Result<Vec<(String, String)>, RunError> {
    let (subtests, out) = (setup.subtests, setup.out);
    let (drives, devices) = plug_lines(machine)?;
    let Declared { declared, file, host_env, request } = &prepared.run;
    let (kernel, order) = (&prepared.kernel, &request.order);
    let kernel_binary = match setup.cache {
        Some(_) => KERNEL_DIR.into(),
        None => kernel.image.display().to_string(),
    };
    let lines =
        |items: &[PathBuf]| items.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join("\n");
    let sizes = |items: &[u64]| items.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let tests = subtests.iter().map(SubtestName::as_str).collect::<Vec<_>>().join(" ");
    let own = [
        ("ktest_arch", declared.kernel.arch.to_string()),
        ("ktest_compiler", declared.kernel.compiler_name().into()),
        ("ktest_cpus", declared.cpus.unwrap_or_else(default_cpus).to_string()),
        ("ktest_mem", declared.mem_mib.to_string()),
        ("ktest_timeout", declared.timeout_seconds().to_string()),
        ("ktest_allow_taint", declared.allow_taint.to_string()),
        ("ktest_tests_unknown", declared.tests_unknown.to_string()),
        ("ktest_no_kbuild", declared.no_kbuild.to_string()),
        ("ktest_no_vm", declared.no_vm.to_string()),
        ("ktest_network", declared.network.to_string()),
        ("ktest_kernel_append", declared.kernel_append.join(" ")),
        ("ktest_make_install", lines(&declared.make_install)),
        ("ktest_images", lines(&declared.images)),
        ("ktest_rw_images", lines(&declared.rw_images)),
        ("ktest_scratch_dev_sizes", sizes(&declared.scratch)),
        ("ktest_pmem_devs", sizes(&declared.pmem)),
        ("ktest_dir", file.as_ref().map(|file| guest_path(&file.ktest_dir)).unwrap_or_default()),
        ("ktest_out", guest_path(out)),
        ("ktest_deps_dir", guest_path(&host_env.deps_dir)),
        ("ktest_test", file.as_ref().map(|file| guest_path(&file.path)).unwrap_or_default()),
        ("ktest_tests", tests),
        ("ktest_kernel_binary", kernel_binary),
        ("ktest_kernel_version", host_env.kernel_version.clone()),
        ("ktest_verbose", "false".into()),
        ("ktest_interactive", order.interactive.to_string()),
        ("ktest_exit_on_success", order.exit_on_success.to_string()),
        ("ktest_failfast", order.failfast.to_string()),
        ("ktest_priority", "0".into()),
        ("ktest_crashdump", "false".into()),
        ("ktest_scratch_dev_base", base.to_string()),
        ("ktest_qemu_drives", drives),
        ("ktest_qemu_devices", devices),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value));
    let mut env: Vec<(String, String)> = request.inherited().chain(own).collect();
    env.push(("ktest_storage_bus".into(), declared.bus.to_string()));
    env.extend(optional_variables(prepared, setup));
    env.extend(request.env());
    Ok(env)
}

/// The variables that only some guests have.
fn optional_variables(prepared: &Prepared<'_>, setup: &VmSetup<'_>) -> Vec<(String, String)> {
    let order = &prepared.run.request.order;
    let mut env = Vec::new();
    if prepared.run.declared.marks_with_token {
        env.push(("ktest_markers".into(), "token".into()));
        // Another library removes this directory at its exit.
        env.push(("ktest_tmp".into(), "/tmp".into()));
    }
    if let Some(cache) = setup.cache {
        env.push(("ktest_cargo_home".into(), cache.cargo_home().into()));
    }
    if let Some(selftests) = &prepared.kselftests {
        env.push(("ktest_kselftest_dir".into(), guest_path(&selftests.dir)));
    }
    if let Some((rows, columns)) = terminal::size().filter(|_| order.interactive) {
        env.push(("ktest_terminal".into(), format!("{rows} {columns}")));
        env.extend(std::env::var("TERM").map(|term| ("TERM".to_string(), term)));
    }
    env
}

/// One of ktest's root images with the requested packages; built if it is missing.
pub(super) async fn shipped_image(
    request: &RunRequest,
    base: ShippedImage,
    arch: Arch,
    reporter: &mut Reporter,
) -> Result<PathBuf, RunError> {
    let mut spec = vm::image::ImageSpec::new(base, arch).with(&request.order.test.packages);
    if let KernelFrom::Named(name) = &request.kernel {
        spec.kernel_release = DistroKernel::parse(name, arch).ok().map(|kernel| kernel.release().to_owned());
    }
    let image = vm::image::find_or_create(&spec, &request.cache, &mut |what: &str| {
        reporter.event(model::Event::Phase { what: what.into() });
    })
    .await
    .map_err(|error| RunError::Infrastructure(format!("root image: {error}")))?;
    Ok(image.path)
}
