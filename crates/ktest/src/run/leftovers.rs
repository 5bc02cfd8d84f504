//! What a failed subtest leaves behind: its devices as they were at its end, the QEMU command, how to run it again.
//!
//! Keeping them is a service: what cannot be kept is said in the log and changes no verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::KernelId;
use serde::{Deserialize, Serialize};
use vm::machine::Machine;
use vm::supervise::FinishedSubtest;

use super::{Prepared, RunError};
use crate::out::Out;
use crate::pack;
use testfile::declare::{Declarations, Variables};

/// The folder of a subtest's devices, below the subtest's own.
const DEVICES: &str = "devices";
/// What describes them.
const RECORD: &str = "machine.json";
/// The version of the record that is written and read.
const VERSION: u32 = 1;

/// The machine that the devices belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    v: u32,
    /// The test file's name and the subtest's.
    pub test: String,
    pub subtest: String,
    /// The kernel, in the kernel store.
    pub kernel: KernelId,
    /// What the test file declared about the machine.
    pub declared: BTreeMap<String, Vec<String>>,
}

/// Keeps what there is of the subtest; what was kept is said in its log.
pub(super) fn keep(prepared: &Prepared<'_>, machine: &Machine, finished: &mut FinishedSubtest, out: &Out) {
    let mut said = Vec::new();
    let dir = out.subtest_dir(&finished.subtest);
    if prepared.options.keep_devices > 0 {
        said.extend(devices(prepared, machine, finished, &dir));
    }
    if let Ok(command) = vm::session::command(machine) {
        // A run without it is no worse.
        let _ = std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(dir.join("qemu-command"), format!("{command}\n")));
    }
    said.extend(others(out.dir(), finished.duration));
    if let Some(command) = again(prepared, finished.subtest.as_str()) {
        said.push(format!("to run it again: {command}"));
    }
    before_last_line(&mut finished.log, &said);
}

/// The devices, unless they hold more than is to be kept.
fn devices(
    prepared: &Prepared<'_>,
    machine: &Machine,
    finished: &FinishedSubtest,
    dir: &Path,
) -> Option<String> {
    let base = machine.disks.len() - prepared.declared.scratch.len();
    let scratch = machine.disks[base..].iter().map(|disk| &disk.file);
    let files: Vec<&PathBuf> = scratch.chain(machine.pmem.iter().map(|(file, _)| file)).collect();
    if files.is_empty() {
        return None;
    }
    let bytes: u64 = files.iter().filter_map(|file| pack::allocated(file).ok()).sum();
    let most = prepared.options.keep_devices;
    if bytes > most {
        let (bytes, most) = (bytes >> 20, most >> 20);
        return Some(format!("devices not kept: they hold {bytes} MiB, --keep-devices allows {most} MiB"));
    }
    let dir = dir.join(DEVICES);
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&dir)?;
        for file in &files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            pack::pack(file, &dir.join(format!("{name}.zst")))?;
        }
        let record = serde_json::to_string_pretty(&record(prepared, finished)).expect("plain data");
        std::fs::write(dir.join(RECORD), record + "\n")
    };
    Some(match write() {
        Ok(()) => format!("devices kept; to look at them: ktest boot --devices {}", quoted(&dir)),
        Err(error) => {
            let _ = std::fs::remove_dir_all(&dir);
            format!("devices not kept: {error}")
        }
    })
}

fn record(prepared: &Prepared<'_>, finished: &FinishedSubtest) -> Record {
    let declared = prepared.declared;
    let texts = |items: &[u64]| items.iter().map(u64::to_string).collect::<Vec<_>>();
    let paths = |items: &[PathBuf]| items.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let requirements = declared.kernel.require.iter().chain(&declared.kernel.require_soft);
    let hotplug: Vec<_> = requirements
        .filter(|option| option.name.starts_with("HOTPLUG_PCI"))
        .map(|option| format!("{}={}", option.name, option.value))
        .collect();
    let fields = [
        ("ktest_arch", vec![declared.kernel.arch.to_string()]),
        ("ktest_cpus", declared.cpus.map(|cpus| cpus.to_string()).into_iter().collect()),
        ("ktest_mem", vec![declared.mem_mib.to_string()]),
        ("ktest_storage_bus", vec![declared.bus.to_string()]),
        ("ktest_network", vec![declared.network.to_string()]),
        ("ktest_scratch_dev_sizes", texts(&declared.scratch)),
        ("ktest_scratch_slowdevs", declared.slow.iter().map(usize::to_string).collect()),
        ("ktest_pmem_devs", texts(&declared.pmem)),
        ("ktest_images", paths(&declared.images)),
        ("ktest_rw_images", paths(&declared.rw_images)),
        ("ktest_kernel_append", declared.kernel_append.clone()),
        ("ktest_kernel_config_require", hotplug),
        ("ktest_qemu_append", declared.qemu_append.clone()),
        ("ktest_qemu_prepend", declared.qemu_prepend.clone()),
    ];
    Record {
        v: VERSION,
        test: prepared.file.map(|file| file.test.to_string()).unwrap_or_default(),
        subtest: finished.subtest.to_string(),
        kernel: prepared.kernel.id.clone(),
        declared: fields.into_iter().map(|(name, values)| (name.to_string(), values)).collect(),
    }
}

/// Devices that were kept: `OUT/out/FILE.SUBTEST`, or the folder `devices` in there.
#[derive(Debug)]
pub(super) struct Kept {
    /// Their folder.
    pub dir: PathBuf,
    /// What is known of the machine.
    pub record: Record,
    /// The machine.
    pub declared: Declarations,
}

impl Kept {
    pub(super) fn open(path: &Path) -> Result<Self, RunError> {
        let dir = if path.join(RECORD).is_file() { path.to_path_buf() } else { path.join(DEVICES) };
        let file = dir.join(RECORD);
        let usage = |what: &str| RunError::Usage(format!("{}: {what}", file.display()));
        let text = std::fs::read_to_string(&file).map_err(|_| {
            let path = path.display();
            RunError::Usage(format!(
                "{path}: no devices were kept there; name the folder of a failed subtest, OUT/out/FILE.SUBTEST"
            ))
        })?;
        let record: Record = serde_json::from_str(&text).map_err(|error| usage(&error.to_string()))?;
        if record.v != VERSION {
            return Err(usage(&format!("version {}, this ktest reads version {VERSION}", record.v)));
        }
        let variables: Variables = record.declared.clone();
        let declared = Declarations::from_variables(&variables, model::Arch::X86_64, &dir)
            .map_err(|error| usage(&error.to_string()))?;
        Ok(Self { dir, record, declared })
    }

    /// Puts a device's content into `file`, if it was kept.
    pub(super) fn restore(&self, file: &Path) -> Result<(), RunError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let packed = self.dir.join(format!("{name}.zst"));
        pack::unpack(&packed, file)
            .map_err(|error| RunError::Infrastructure(format!("{}: {error}", packed.display())))
    }
}

/// What the subtest itself left in the output folder: core dumps, traces, coverage.
fn others(out: &Path, duration: std::time::Duration) -> Option<String> {
    let began = std::time::SystemTime::now().checked_sub(duration + std::time::Duration::from_secs(2))?;
    let is_left =
        |name: &str| ["core.", "gcov.", "vmcore", "trace.txt"].iter().any(|head| name.starts_with(head));
    let mut names: Vec<String> = std::fs::read_dir(out)
        .ok()?
        .flatten()
        .filter(|entry| entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at >= began))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_left(name))
        .collect();
    names.sort();
    (!names.is_empty()).then(|| format!("left in {}: {}", out.display(), names.join(" ")))
}

/// The command that runs the subtest on the same kernel source.
fn again(prepared: &Prepared<'_>, subtest: &str) -> Option<String> {
    let file = prepared.file?;
    let mut words = vec!["ktest".to_string(), "run".into()];
    words.extend(prepared.options.kernel_args.iter().cloned());
    if prepared.options.arch.is_some() {
        words.extend(["--arch".into(), prepared.declared.kernel.arch.to_string()]);
    }
    for package in &prepared.options.packages {
        words.extend(["--package".into(), package.to_string()]);
    }
    for (name, value) in &prepared.options.env {
        words.extend(["--env".into(), format!("{name}={value}")]);
    }
    words.extend([file.path.display().to_string(), subtest.into()]);
    Some(words.iter().map(|word| spawn::quote(word)).collect::<Vec<_>>().join(" "))
}

fn quoted(path: &Path) -> String {
    spawn::quote(&path.display().to_string())
}

/// The last line of a log is the status line; what is said comes before it, with its time stamp.
pub(super) fn before_last_line(log: &mut Vec<u8>, said: &[String]) {
    let end = log.len() - usize::from(log.last() == Some(&b'\n'));
    let begin = log[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let stamp: String =
        String::from_utf8_lossy(&log[begin..end]).chars().take_while(char::is_ascii_digit).collect();
    let lines: String = said.iter().map(|line| format!("{stamp} ktest: {line}\n")).collect();
    log.splice(begin..begin, lines.into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_stays_the_last() {
        let mut log = b"00001 a\n00009 ========= FAILED x in 8s\n".to_vec();
        before_last_line(&mut log, &["kept".into(), "again".into()]);
        let text = String::from_utf8(log).unwrap();
        assert_eq!(text, "00001 a\n00009 ktest: kept\n00009 ktest: again\n00009 ========= FAILED x in 8s\n");
        let mut log = Vec::new();
        before_last_line(&mut log, &[]);
        assert!(log.is_empty());
    }

    #[test]
    fn what_is_no_record_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let said =
            |dir: &Path| Kept::open(dir).unwrap_err().to_string().replace(&dir.display().to_string(), "DIR");
        assert_eq!(
            said(dir.path()),
            "DIR: no devices were kept there; name the folder of a failed subtest, OUT/out/FILE.SUBTEST"
        );
        std::fs::write(dir.path().join(RECORD), "{}").unwrap();
        assert!(said(dir.path()).starts_with("DIR/machine.json: missing field"), "{}", said(dir.path()));
        let id = "0".repeat(64);
        let record = |v: u32, mem: &str| {
            let declared = format!(r#"{{"ktest_mem":["{mem}"],"ktest_scratch_dev_sizes":["1048576"]}}"#);
            let text =
                format!(r#"{{"v":{v},"test":"a","subtest":"b","kernel":"{id}","declared":{declared}}}"#);
            std::fs::write(dir.path().join(RECORD), text).unwrap();
        };
        record(9, "512");
        assert_eq!(said(dir.path()), "DIR/machine.json: version 9, this ktest reads version 1");
        record(1, "none");
        assert!(said(dir.path()).contains("ktest_mem"));
        record(1, "512");
        assert_eq!(Kept::open(dir.path()).unwrap().declared.scratch, [1 << 20]);
    }
}
