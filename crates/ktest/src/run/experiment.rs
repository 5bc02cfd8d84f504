//! The experiment key: a hash of what the verdicts of a VM depend on. Two VMs with equal keys differ in nothing that a run
//! controls.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fsx::digest::Hasher;
use model::ExperimentKey;
use testfile::HostEnv;
use vm::guest::INIT;
use vm::machine::Machine;

use super::error::RunError;
use super::kernel_arg::KernelFrom;
use super::phases::{Declared, Prepared};
use super::suites;

/// Part of every key; increase it when the key gets other inputs.
const VERSION: &str = "1";
/// The limit of a list of packages and of a kernel configuration, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// The keys of a VM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// Its experiment; `None` if it is not known what the run depends on: clones can contain what earlier guests built in them.
    pub experiment: Option<ExperimentKey>,
    /// The same with the code of the kernel instead of its content: two kernels with the same code differ in line numbers
    /// only. `None` if the code is not known, or if the run reads the source of the kernel.
    pub code: Option<ExperimentKey>,
}

/// The keys of a VM.
pub(super) fn keys(prepared: &Prepared<'_>, machine: &Machine) -> Keys {
    let keys = hash(prepared, machine);
    keys.inspect_err(|error| tracing::warn!("the verdicts have no experiment key: {error}"))
        .unwrap_or_default()
}

fn hash(prepared: &Prepared<'_>, machine: &Machine) -> Result<Keys, RunError> {
    let Declared { request, file, declared, host_env } = &prepared.run;
    let Some(file) = file else { return Ok(Keys::default()) };
    if !testfile::clones_in(&host_env.deps_dir).is_empty() {
        return Ok(Keys::default());
    }
    let Some(content) = file.content().map_err(RunError::infrastructure)? else { return Ok(Keys::default()) };
    let suite = suites::used(&declared.rw_images, host_env);
    let kernel = &prepared.kernel;
    // The id of a distribution's kernel says which packages it is from. That of a built one names its source, and other
    // sources can give the same kernel.
    let id_only = matches!(request.kernel, KernelFrom::Named(_));
    let kernel_content =
        if id_only { kernel.id.to_string() } else { kernel.content().map_err(RunError::infrastructure)? };
    let initrd = kernel.initrd.as_ref().filter(|_| !id_only);
    // They are built from the source, not only from what is in the kernel.
    let has_source = prepared.kselftests.is_some() || declared.kernel_headers;
    let env: Vec<(String, String)> = request.inherited().chain(request.env()).collect();
    let rest = [
        initrd
            .map(|file| fsx::digest::file(file))
            .transpose()
            .map_err(RunError::infrastructure)?
            .unwrap_or_default(),
        content,
        suite.map(|suite| suite.to_string()).unwrap_or_default(),
        fsx::own::read_to_string(&kernel.config, MAX_LIST).unwrap_or_default(),
        if has_source { kernel.id.to_string() } else { String::new() },
        format!("{env:?}"),
        image(&machine.root, host_env)?,
        declared.timeout_seconds().to_string(),
        format!("{} {} {}", declared.allow_taint, declared.tests_unknown, declared.network),
        describe(machine, host_env)?,
    ];
    let key = |kernel_content: &str| {
        let mut hash = Hasher::new();
        let first = [VERSION, INIT, &kernel.release, kernel_content];
        first.into_iter().chain(rest.iter().map(String::as_str)).for_each(|text| hash.field(text));
        hash.finish_hex().parse().ok()
    };
    let code = kernel.code.as_ref().filter(|_| !id_only && !has_source);
    Ok(Keys { experiment: key(&kernel_content), code: code.and_then(|code| key(&format!("code {code}"))) })
}

/// The machine as the guest sees it, without the places of its files on the host.
fn describe(machine: &Machine, env: &HostEnv) -> Result<String, RunError> {
    let Machine { arch, accel, cpus, mem_mib, append, bus, disks, hotplug, pmem, kgdb, .. } = machine;
    let Machine { early_console, core, qemu_prepend, qemu_append, .. } = machine;
    let sizes: Vec<u64> = pmem.iter().map(|(_, size)| *size).collect();
    let disks = disks.iter().map(|disk| {
        let content =
            if disk.readonly || disk.snapshot { image(&disk.file, env)? } else { size(&disk.file)? };
        Ok(format!("{content} {} {:?} {:?}", disk.readonly, disk.iops, disk.bps))
    });
    let disks = disks.collect::<Result<Vec<_>, RunError>>()?;
    Ok(format!(
        "{arch} {accel} {cpus} {mem_mib} {append:?} {bus} {disks:?} {hotplug:?} {sizes:?} {kgdb} {early_console} {core} \
         {qemu_prepend:?} {qemu_append:?}"
    ))
}

fn size(file: &Path) -> Result<String, RunError> {
    Ok(fsx::own::metadata(file).map_err(RunError::infrastructure)?.len().to_string())
}

/// An image that guests do not change. One that this project made has a name that says what it was made from, and a list of
/// its packages; the commit of a suite that the farm fetched is in the key. Any other image is identified by its place and
/// times.
fn image(file: &Path, env: &HostEnv) -> Result<String, RunError> {
    let suite = suites::suite_of(file).and_then(|name| name.parse().ok());
    if suite.is_some_and(|name| suites::fetched(&name, env).is_some()) {
        return Ok("suite".into());
    }
    if let Ok(list) = fsx::own::read_to_string(&file.with_extension("packages"), MAX_LIST) {
        let name = file.file_name().unwrap_or_default();
        return Ok(format!("{} {}", name.display(), fsx::digest::sha256_hex(list)));
    }
    let meta = fsx::own::metadata(file).map_err(RunError::infrastructure)?;
    let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    Ok(format!("{} {} {} {times:?}", file.display(), meta.ino(), meta.len()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kernel::Kernel;
    use model::{Arch, StorageBus};
    use testfile::{Declarations, TestFile};
    use vm::machine::{Accel, Disk, Network};

    use super::super::kernel_in;
    use super::super::request::RunRequest;
    use super::*;

    /// The parts of a run, which tests change.
    struct Parts {
        request: RunRequest,
        file: TestFile,
        declared: Declarations,
        host_env: HostEnv,
        kernel: Kernel,
        machine: Machine,
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn machine(dir: &Path) -> Machine {
        Machine {
            arch: Arch::X86_64,
            accel: Accel::Tcg,
            cpus: 2,
            mem_mib: 1024,
            kernel: dir.join("vmlinux"),
            initrd: None,
            append: vec!["quiet".into()],
            root: dir.join("images/root.ext4"),
            bus: StorageBus::VirtioBlk,
            disks: vec![Disk {
                file: dir.join("scratch0"),
                readonly: false,
                snapshot: false,
                iops: None,
                bps: None,
            }],
            hotplug: None,
            pmem: vec![(dir.join("pmem0"), 4096)],
            shares: Vec::new(),
            sockets: None,
            kgdb: false,
            serial_log: None,
            early_console: false,
            core: false,
            network: Some(Network { ssh_port: None, open: false }),
            qemu_prepend: Vec::new(),
            qemu_append: Vec::new(),
        }
    }

    fn parts(dir: &Path) -> Parts {
        let path = dir.join("kt/tests/fs/x.ktest");
        for (name, text) in [
            ("kt/tests/fs/x.ktest", "a test"),
            ("kt/tests/fs/other.ktest", "another test"),
            ("kt/tests/fs/data.txt", "data"),
            ("kt/lib/common.sh", "a library"),
            ("vmlinux", "an image"),
            ("config", "CONFIG_EXT4_FS=y"),
            ("modules/lib/modules/6.1.0/a.ko", "a module"),
            ("images/root.ext4", "a root"),
            ("images/root.packages", "bash 5.2"),
            ("scratch0", ""),
        ] {
            write(&dir.join(name), text);
        }
        let variables = BTreeMap::from([("ktest_mem".to_string(), vec!["1024".to_string()])]);
        let mut kernel = kernel_in(dir);
        kernel.image_hash = "1".repeat(64);
        kernel.modules = Some(dir.join("modules"));
        Parts {
            request: RunRequest::new(&path, KernelFrom::Stored(kernel.id.clone()), dir.join("cache")),
            file: TestFile { ktest_dir: dir.join("kt"), path, test: "fs/x".parse().unwrap() },
            declared: Declarations::from_variables(&variables, Arch::X86_64, dir).unwrap(),
            host_env: HostEnv { deps_dir: dir.join("deps"), ..HostEnv::default() },
            kernel,
            machine: machine(dir),
        }
    }

    fn keys_of(change: impl FnOnce(&Path, &mut Parts)) -> Keys {
        let dir = tempfile::tempdir().unwrap();
        let mut parts = parts(dir.path());
        change(dir.path(), &mut parts);
        let Parts { request, file, declared, host_env, kernel, machine } = parts;
        let run = Declared { request: &request, file: Some(file), declared, host_env };
        let root = machine.root.clone();
        keys(&Prepared { run, kernel, root, kselftests: None, saved: None }, &machine)
    }

    fn key_of(change: impl FnOnce(&Path, &mut Parts)) -> Option<ExperimentKey> {
        keys_of(change).experiment
    }

    #[test]
    fn the_place_of_the_files_is_not_part_of_the_key() {
        let first = key_of(|_, _| {});
        assert!(first.is_some());
        for (what, key) in [
            ("the same", key_of(|_, _| {})),
            ("another test file", key_of(|dir, _| write(&dir.join("kt/tests/fs/other.ktest"), "changed"))),
            (
                "the id of a built kernel",
                key_of(|_, parts| parts.kernel.id = "b".repeat(64).parse().unwrap()),
            ),
            ("where the output is", key_of(|_, parts| parts.request.order.test.out = "/tmp/x".into())),
            (
                "a port",
                key_of(|_, parts| parts.machine.network = Some(Network { ssh_port: Some(7), open: false })),
            ),
        ] {
            assert_eq!(key, first, "{what}");
        }
    }

    type Change = Box<dyn FnOnce(&Path, &mut Parts)>;

    /// Changes of files and variables.
    fn changed_files() -> Vec<(&'static str, Change)> {
        let file = |name: &'static str, text: &'static str| -> Change {
            Box::new(move |dir, _| write(&dir.join(name), text))
        };
        let initrd = |text: &'static str| -> Change {
            Box::new(move |dir, parts| {
                write(&dir.join("initrd"), text);
                parts.kernel.initrd = Some(dir.join("initrd"));
            })
        };
        let variable = |text: &'static str| -> Change {
            Box::new(|_, parts| parts.request.order.test.env.push(text.parse().unwrap()))
        };
        let root: Change = Box::new(|dir, parts| {
            write(&dir.join("images/other.packages"), "bash 5.2");
            parts.machine.root = dir.join("images/other.ext4");
        });
        vec![
            ("module", file("modules/lib/modules/6.1.0/a.ko", "a modulf")),
            ("new module", file("modules/lib/modules/6.1.0/b.ko", "a module")),
            ("config", file("config", "CONFIG_EXT4_FS=m")),
            ("initrd", initrd("an initrd")),
            ("initrd content", initrd("an initre")),
            ("test file", file("kt/tests/fs/x.ktest", "a tesu")),
            ("library", file("kt/lib/common.sh", "a librarz")),
            ("fixture", file("kt/tests/fs/data.txt", "datb")),
            ("new fixture", file("kt/tests/fs/more.txt", "data")),
            ("variable", variable("ktest_x=1")),
            ("value", variable("ktest_x=2")),
            ("packages", file("images/root.packages", "bash 5.3")),
            ("root image", root),
            ("disk size", file("scratch0", "x")),
        ]
    }

    #[test]
    fn each_input_changes_the_key() {
        let mut changes: Vec<(&str, Change)> = vec![
            ("nothing", Box::new(|_, _| {})),
            ("image", Box::new(|_, parts| parts.kernel.image_hash = "2".repeat(64))),
            ("release", Box::new(|_, parts| parts.kernel.release = "6.1.1".into())),
            ("headers", Box::new(|_, parts| parts.declared.kernel_headers = true)),
            ("time limit", Box::new(|_, parts| parts.declared.timeout = std::time::Duration::from_secs(7))),
            ("taint", Box::new(|_, parts| parts.declared.allow_taint = true)),
            ("network", Box::new(|_, parts| parts.declared.network = true)),
            ("arch", Box::new(|_, parts| parts.machine.arch = Arch::Aarch64)),
            ("accelerator", Box::new(|_, parts| parts.machine.accel = Accel::Kvm)),
            ("processors", Box::new(|_, parts| parts.machine.cpus = 3)),
            ("memory", Box::new(|_, parts| parts.machine.mem_mib = 1025)),
            ("bus", Box::new(|_, parts| parts.machine.bus = StorageBus::Nvme)),
            ("argument", Box::new(|_, parts| parts.machine.append.push("nokaslr".into()))),
            ("slow disk", Box::new(|_, parts| parts.machine.disks[0].iops = Some(100))),
            ("no disk", Box::new(|_, parts| parts.machine.disks.clear())),
            ("pmem", Box::new(|_, parts| parts.machine.pmem[0].1 = 8192)),
            ("core", Box::new(|_, parts| parts.machine.core = true)),
            ("QEMU argument", Box::new(|_, parts| parts.machine.qemu_append.push("-s".into()))),
        ];
        changes.extend(changed_files());
        let mut seen: BTreeMap<ExperimentKey, &str> = BTreeMap::new();
        for (what, change) in changes {
            let key = key_of(change).unwrap();
            assert_eq!(seen.insert(key, what), None, "{what}");
        }
    }

    #[test]
    fn kernels_with_the_same_code() {
        let keys = |image: &'static str, code: &'static str, other: Option<Change>| {
            keys_of(|dir, parts| {
                parts.kernel.image_hash = image.repeat(64);
                parts.kernel.code = Some(code.repeat(64));
                if let Some(change) = other {
                    change(dir, parts);
                }
            })
        };
        let first = keys("1", "a", None);
        let same = keys("2", "a", None);
        assert!(first.code.is_some() && first.code == same.code && first.experiment != same.experiment);
        assert_ne!(keys("2", "b", None).code, first.code, "another code");
        for (what, change) in changed_files().into_iter().filter(|(what, _)| !what.contains("module")) {
            assert_ne!(keys("2", "a", Some(change)).code, first.code, "{what}");
        }
        let headers: Change = Box::new(|_, parts| parts.declared.kernel_headers = true);
        assert_eq!(keys("1", "a", Some(headers)).code, None, "what is built from the source");
        assert_eq!(keys_of(|_, _| {}).code, None, "a kernel without it");
    }

    #[test]
    fn what_is_not_known_has_no_key() {
        assert_eq!(key_of(|dir, _| write(&dir.join("deps/tool/Makefile"), "all:")), None, "a clone");
        assert_eq!(
            key_of(|dir, _| std::fs::remove_file(dir.join("images/root.ext4"))
                .map(|()| {
                    std::fs::remove_file(dir.join("images/root.packages")).unwrap();
                })
                .unwrap()),
            None,
            "no root image"
        );
    }
}
