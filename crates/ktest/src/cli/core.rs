//! `ktest core`: look into the core of a guest that crashed.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use debian::programs::find_program;
use fsx::untrusted::Dir;
use kernel::{Cache, Kernel, Store};
use model::KernelId;
use vm::core_dump::FILE;
use vmcore::{Core, Message};

use super::failure::Failure;
use super::live::exec;

/// `ktest core`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest core ktest-out/out/boot.oops             open the core of a subtest in drgn or crash
  ktest core --dmesg ktest-out/out/boot.oops     print the kernel's log
  ktest core --with crash --vmlinux FILE vmcore  open a core that was downloaded
drgn and crash need the vmlinux of the kernel with debug information: a kernel of the store has it if the test file has
require-kernel-config DEBUG_INFO_DWARF5. Without them, the log is printed; it needs no debug information.")]
pub(super) struct CoreArgs {
    /// Directory of a failed subtest (OUT/out/FILE.SUBTEST), or a core.
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// Print the kernel's log.
    #[arg(long)]
    dmesg: bool,
    /// Print the kernel's log as JSON: [{"seconds", "level", "text"}].
    #[arg(long)]
    json: bool,
    /// Program to open the core with [default: drgn or crash, whichever is installed].
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["dmesg", "json"])]
    with: Option<Debugger>,
    /// Kernel with debug information [default: that of the run, from the kernel store].
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,
    /// Additional arguments for drgn or crash.
    #[arg(last = true)]
    args: Vec<String>,
}

/// A program that reads cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Debugger {
    Drgn,
    Crash,
}

impl Debugger {
    const ALL: [Self; 2] = [Self::Drgn, Self::Crash];

    fn program(self) -> &'static str {
        match self {
            Self::Drgn => "drgn",
            Self::Crash => "crash",
        }
    }

    /// The Debian package.
    fn package(self) -> &'static str {
        match self {
            Self::Drgn => "python3-drgn",
            Self::Crash => "crash",
        }
    }

    fn args(self, core: &Path, vmlinux: &Path) -> Vec<String> {
        let (core, vmlinux) = (core.display().to_string(), vmlinux.display().to_string());
        match self {
            Self::Drgn => vec!["-c".into(), core, "-s".into(), vmlinux],
            Self::Crash => vec![vmlinux, core],
        }
    }
}

pub(super) fn run(args: CoreArgs, cache: &Path) -> Result<u8, Failure> {
    let core = core_of(&args.path)?;
    if args.json || args.dmesg {
        return log(&core, args.json);
    }
    let vmlinux = match (&args.vmlinux, args.with) {
        (Some(file), _) => Ok(file.clone()),
        (None, _) => vmlinux(&core, cache),
    };
    let installed = Debugger::ALL.into_iter().find(|debugger| find_program(debugger.program()).is_some());
    // Without a terminal there is nothing to debug with.
    let found = installed.filter(|_| std::io::stdout().is_terminal() || !args.args.is_empty());
    match (args.with.or(found), vmlinux) {
        (Some(debugger), Ok(vmlinux)) => {
            let mut words = debugger.args(&core, &vmlinux);
            words.extend(args.args);
            Err(exec(debugger.program(), &words, debugger.package()))
        }
        (_, Err(problem)) if args.with.is_some() => Err(Failure::usage(problem)),
        (debugger, vmlinux) => {
            let missing = vmlinux.err().unwrap_or_else(|| {
                format!("{} and {} are not installed", Debugger::Drgn.package(), Debugger::Crash.package())
            });
            if debugger.is_some() || installed.is_none() {
                stdio::message(format_args!("{missing}; the log of the kernel:"));
            }
            log(&core, false)
        }
    }
}

/// The core in the directory of a subtest, or the file itself.
fn core_of(path: &Path) -> Result<PathBuf, Failure> {
    let core = if path.is_dir() { path.join(FILE) } else { path.to_path_buf() };
    if core.is_file() {
        return Ok(core);
    }
    Err(Failure::usage(format!(
        "{}: no core; the last lines of the log of the subtest tell why (ktest run --keep-core SIZE)",
        path.display()
    )))
}

/// The ELF file of the kernel of the run, from the store.
fn vmlinux(core: &Path, cache: &Path) -> Result<PathBuf, String> {
    let file = core.parent().and_then(Path::parent).map(|out| out.join("kernel"));
    let id: Option<KernelId> = file.as_deref().and_then(|file| {
        let dir = Dir::open(file.parent()?).ok()?;
        dir.read_to_string(file.file_name()?, 1000).ok()?.trim().parse().ok()
    });
    let id = id.ok_or("the kernel of this core is unknown; give its vmlinux with --vmlinux FILE")?;
    let kernel: Kernel = Store::of(&Cache { dir: cache.into() })
        .get(&id)
        .ok_or_else(|| format!("the kernel {id} of this core is not in the store; use --vmlinux FILE"))?;
    kernel.vmlinux.ok_or_else(|| {
        let release = kernel.release;
        format!("the kernel {release} has no vmlinux (Debian: linux-image-{release}-dbg); use --vmlinux FILE")
    })
}

fn log(core: &Path, json: bool) -> Result<u8, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::unjudged(format!("{}: {error}", core.display()));
    let file = fsx::own::open(core).map_err(|error| failed(&error))?;
    let messages = Core::open(file).and_then(|core| core.dmesg()).map_err(|error| failed(&error))?;
    if json {
        let messages: Vec<_> = messages.iter().map(as_json).collect();
        stdio::json(&messages)?;
        return Ok(0);
    }
    for message in messages {
        stdio::line(stdio::terminal::text(&message.to_string()))?;
    }
    Ok(0)
}

fn as_json(message: &Message) -> serde_json::Value {
    let seconds = message.nanoseconds as f64 / 1e9;
    serde_json::json!({ "seconds": seconds, "level": message.level, "text": message.text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let subtest = dir.path().join("out/a.x");
        std::fs::create_dir_all(&subtest).unwrap();
        assert!(core_of(&subtest).unwrap_err().message.contains("a.x: no core; "));
        let core = subtest.join(FILE);
        std::fs::write(&core, "").unwrap();
        assert_eq!(core_of(&subtest).unwrap(), core);
        assert_eq!(core_of(&core).unwrap(), core);
        assert!(log(&core, false).unwrap_err().message.ends_with("not a core in the format of kdump"));

        let cache = dir.path().join("cache");
        assert!(vmlinux(&core, &cache).unwrap_err().starts_with("the kernel of this core is unknown"));
        std::fs::write(dir.path().join("out/kernel"), format!("{}\n", "0".repeat(64))).unwrap();
        assert!(vmlinux(&core, &cache).unwrap_err().contains("is not in the store"));
    }

    #[test]
    fn the_command_lines_of_the_debuggers() {
        let words = |debugger: Debugger| debugger.args("/o/vmcore".as_ref(), "/k/vmlinux".as_ref()).join(" ");
        assert_eq!(words(Debugger::Drgn), "-c /o/vmcore -s /k/vmlinux");
        assert_eq!(words(Debugger::Crash), "/k/vmlinux /o/vmcore");
    }
}
