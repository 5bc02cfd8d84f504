//! The artifacts of a failed subtest: its devices at the time of the failure, the core of a guest that crashed, the QEMU
//! command, and the command that repeats the subtest.
//!
//! If an artifact cannot be saved, this is reported in the log and changes no verdict.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fsx::untrusted::Dir;
use model::run_order::AGAIN;
use model::{RunOrder, SubtestName};
use vm::machine::Machine;
use vm::supervise::FinishedSubtest;

use super::cores::Cores;
use super::phases::Prepared;
use super::saved_devices::{DEVICES, RECORD, Record, VERSION};
use super::vm_dir::open_written;
use crate::out::{Out, make_dir};
use crate::pack;

/// The maximum number of files in the directory of the tests for which it is searched.
const MAX_FILES: u64 = 100_000;

/// Saves the artifacts of a subtest and lists them in its log.
pub(super) fn keep(
    prepared: &Prepared<'_>,
    machine: &Machine,
    finished: &mut FinishedSubtest,
    out: &Out,
    cores: &mut Cores<'_>,
) {
    let mut notes = Vec::from_iter(cores.keep(out, &out.relative(&finished.subtest)));
    if prepared.run.request.keeps_devices() {
        notes.extend(devices(prepared, machine, finished, out));
    }
    if let Ok(command) = vm::session::command(machine) {
        // The output directory of the run also contains the command.
        let _ = out.subtest_file(&finished.subtest, "qemu-command", format!("{command}\n").as_bytes());
    }
    // A farm publishes the files from this directory, and removes it.
    let files = (!prepared.run.request.for_farm()).then(|| out.files());
    notes.extend(new_files(out, finished.duration, files.as_deref()));
    notes.extend(reproduction(prepared, &finished.subtest));
    before_last_line(&mut finished.log, &notes);
}

/// Saves the devices, unless they are larger than `--keep-devices` allows.
fn devices(
    prepared: &Prepared<'_>,
    machine: &Machine,
    finished: &FinishedSubtest,
    out: &Out,
) -> Option<String> {
    let base = machine.disks.len() - prepared.run.declared.scratch.len();
    let scratch = machine.disks[base..].iter().map(|disk| &disk.file);
    let files: Vec<&PathBuf> = scratch.chain(machine.pmem.iter().map(|(file, _)| file)).collect();
    if files.is_empty() {
        return None;
    }
    let bytes: u64 = files.iter().filter_map(|file| pack::allocated(file).ok()).sum();
    let most = prepared.run.request.order.keep_devices.0;
    if bytes > most {
        let (bytes, most) = (bytes >> 20, most >> 20);
        return Some(format!("devices not saved: they hold {bytes} MiB, --keep-devices allows {most} MiB"));
    }
    let dir = out.relative(&finished.subtest).join(DEVICES);
    let handle = out.handle();
    let write = || -> std::io::Result<()> {
        make_dir(handle, &dir)?;
        for file in &files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let mut packed = handle.new_file(dir.join(format!("{name}.zst")))?;
            pack::pack(&open_written(file)?, &mut packed)?;
            packed.publish()?;
        }
        let record = serde_json::to_string_pretty(&record(prepared, finished)).expect("plain data");
        Ok(handle.write(dir.join(RECORD), record + "\n")?)
    };
    Some(match write() {
        Ok(()) => {
            let path = out.dir().join(&dir).display().to_string();
            format!("devices saved; to inspect them: ktest boot --devices {}", spawn::quote(&path))
        }
        Err(error) => {
            let _ = handle.remove_tree(&dir);
            format!("devices not saved: {error}")
        }
    })
}

fn record(prepared: &Prepared<'_>, finished: &FinishedSubtest) -> Record {
    let declared = &prepared.run.declared;
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
        test: prepared.run.file.as_ref().map(|file| file.test.to_string()).unwrap_or_default(),
        subtest: finished.subtest.to_string(),
        kernel: prepared.kernel.id.clone(),
        declared: fields.into_iter().map(|(name, values)| (name.to_string(), values)).collect(),
    }
}

/// The files that the subtest wrote to its directory: core dumps, traces, coverage.
fn new_files(out: &Out, duration: std::time::Duration, place: Option<&Path>) -> Option<String> {
    let began = std::time::SystemTime::now().checked_sub(duration + std::time::Duration::from_secs(2))?;
    let is_artifact =
        |name: &str| ["core.", "gcov.", "vmcore", "trace.txt"].iter().any(|head| name.starts_with(head));
    let files = Dir::open(&out.files()).ok()?;
    let is_new = |name: &str| {
        let meta = files.metadata(name).ok().flatten();
        meta.is_some_and(|meta| meta.modified >= began)
    };
    let entries = files.list(".", MAX_FILES).ok()?;
    let names: Vec<String> = entries
        .into_iter()
        .filter_map(|entry| entry.name.into_string().ok())
        .filter(|name| is_artifact(name) && is_new(name))
        .collect();
    let names = names.join(" ");
    (!names.is_empty()).then(|| match place {
        Some(dir) => format!("new in {}: {names}", dir.display()),
        None => format!("new files: {names}"),
    })
}

/// The note with the command that repeats the subtest on the same kernel source.
fn reproduction(prepared: &Prepared<'_>, subtest: &SubtestName) -> Option<String> {
    let request = prepared.run.request;
    let file = prepared.run.file.as_ref()?;
    if request.for_farm() {
        // The log is read on other hosts, so paths of this host are not useful.
        let order = request.order.reproduction_elsewhere(file.test.file().as_ref(), subtest);
        return Some(format!("{AGAIN}, in a clone of the kernel repository: {}", shell_line(&order, &[])));
    }
    let kernel = &request.order.test.kernel;
    let kernel = Path::new(kernel).canonicalize().map_or(kernel.clone(), |dir| dir.display().to_string());
    let order = request.order.reproduction(&file.path, subtest, kernel);
    Some(format!("{AGAIN}: {}", shell_line(&order, &testfile::inherited_variables())))
}

/// The line for a shell: the environment variables and the command.
fn shell_line(order: &RunOrder, variables: &[(OsString, OsString)]) -> String {
    let quoted = |word: &OsString| spawn::quote(&word.to_string_lossy());
    let variables =
        variables.iter().map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(value)));
    let command = ["ktest".into(), "run".into()].into_iter();
    let words: Vec<String> = variables.chain(command).chain(order.to_argv().iter().map(quoted)).collect();
    words.join(" ")
}

/// Inserts lines, with its time stamp, before the last line of a log, which is the status line.
pub(super) fn before_last_line(log: &mut Vec<u8>, lines: &[String]) {
    let end = log.len() - usize::from(log.last() == Some(&b'\n'));
    let begin = log[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let stamp: String =
        String::from_utf8_lossy(&log[begin..end]).chars().take_while(char::is_ascii_digit).collect();
    let text: String = lines.iter().map(|line| format!("{stamp} ktest: {line}\n")).collect();
    log.splice(begin..begin, text.into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::RootImage;

    /// A shell splits the line into the words of the order, regardless of their content.
    #[test]
    fn a_shell_runs_the_order() {
        let subtest: SubtestName = "generic/001".parse().unwrap();
        let mut order = RunOrder::from(model::TestOrder::new("x.ktest"));
        order.test.kernel = "/home/u/my linux".into();
        order.test.image = Some(RootImage::File("/tmp/a'b $HOME/`id`/*.img".into()));
        order.test.env = vec!["ktest_variant=1k".parse().unwrap()];
        order.test.packages = vec!["fio".parse().unwrap()];
        let order =
            order.reproduction("/home/u/tests/fs/x y.ktest".as_ref(), &subtest, "/home/u/my linux".into());
        let variables = [("ktest_flags".into(), "-O a;b $(id) \"x\"\n#".into())];
        let script = format!(
            "ktest() {{ printf '%s\\0' \"$ktest_flags\" \"$@\"; }}; {}",
            shell_line(&order, &variables)
        );
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let words: Vec<OsString> = output
            .stdout
            .strip_suffix(b"\0")
            .unwrap()
            .split(|byte| *byte == 0)
            .map(|word| OsString::from(String::from_utf8(word.to_vec()).unwrap()))
            .collect();
        assert_eq!(words[0], variables[0].1);
        assert_eq!(words[1], "run");
        assert_eq!(words[2..], order.to_argv());
    }

    #[test]
    fn the_status_line_remains_last() {
        let mut log = b"00001 a\n00009 ========= FAILED x in 8s\n".to_vec();
        before_last_line(&mut log, &["kept".into(), "again".into()]);
        let text = String::from_utf8(log).unwrap();
        assert_eq!(text, "00001 a\n00009 ktest: kept\n00009 ktest: again\n00009 ========= FAILED x in 8s\n");
        let mut log = Vec::new();
        before_last_line(&mut log, &[]);
        assert!(log.is_empty());
    }
}
