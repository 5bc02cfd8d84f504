//! `ktest boot`.

use std::path::{Path, PathBuf};

use clap::Args;
use model::{Arch, ByteSize, Event};
use vm::accel::AccelChoice;

use super::Failure;
use super::run::failure_code;
use crate::report::{Reporter, Style};
use crate::run::{Boot, RunOptions, Summary, boot, parse_kernel};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest boot -k ~/linux                                     a shell in a guest with that kernel
  ktest boot -k ~/linux -- uname -a                         one command, and its exit code
  ktest boot tests/fs/ext4/basic.ktest                      the machine, the devices and the kernel of a test file
  ktest boot --devices ktest-out/out/fs.ext4.basic.punch    the kernel and the devices of a failed subtest
  ktest boot -k debian/trixie                               a distribution's kernel
While it runs, from another terminal: ktest ssh, gdb, kgdb, mon, sysrq.

Exit codes: the command's; 0 without one; 2 usage; 125 no kernel, or the guest did not come up.")]
pub(super) struct BootArgs {
    /// The test file that says which machine and kernel [default: a plain one].
    #[arg(value_name = "FILE.ktest", conflicts_with = "devices")]
    file: Option<PathBuf>,
    /// What to run in the guest, with its arguments [default: a shell on this terminal].
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// The kernel: a source tree, a kernel of the store by name (debian/trixie) or id [default: that of --devices;
    /// else the tree here; else the kernel of the last run in the output folder].
    #[arg(short = 'k', long, value_name = "DIR|NAME|ID")]
    kernel: Option<String>,
    /// Build this commit of the repository, not the tree as it lies there.
    #[arg(long, value_name = "COMMIT", requires = "kernel")]
    commit: Option<String>,
    /// Attach the devices that a failed subtest left; what is written to them is lost at the end.
    #[arg(long, value_name = "OUT/out/FILE.SUBTEST")]
    devices: Option<PathBuf>,
    /// Where the logs go.
    #[arg(short, long, value_name = "DIR", default_value = "ktest-out")]
    out: PathBuf,
    /// How the guest is run: auto (KVM if a guest really runs under it here), kvm or tcg.
    #[arg(long, default_value = "auto")]
    accel: AccelChoice,
    /// The guest's architecture [default: the host's].
    #[arg(short, long)]
    arch: Option<Arch>,
    /// Memory, as in 512M or 4G [default: 1G, or what the test file says].
    #[arg(short, long, value_name = "SIZE", value_parser = parse_mib)]
    mem: Option<u64>,
    /// Processors.
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// The root image [default: a standard one, made when it is missing].
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Compiler processes [default: one per processor].
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Build without bubblewrap: the source's Makefile then sees the network and your files.
    #[arg(long)]
    no_sandbox: bool,
    /// Print the QEMU command instead of running it; the kernel is built all the same.
    #[arg(long)]
    dry_run: bool,
}

fn parse_mib(text: &str) -> Result<u64, String> {
    let size: ByteSize = text.parse().map_err(|error: model::size::SizeError| error.to_string())?;
    if size.mib() >= 16 { Ok(size.mib()) } else { Err("a guest needs at least 16M".into()) }
}

pub(super) async fn run(args: BootArgs, cache: PathBuf) -> Result<u8, Failure> {
    let style = if args.command.is_empty() { Style::Text } else { Style::Aside };
    let kernel = match &args.kernel {
        Some(kernel) => kernel.clone(),
        None => kernel_here(&args.out),
    };
    let kernel = parse_kernel(&kernel, args.commit.as_deref(), &cache).map_err(Failure::usage)?;
    let options = RunOptions {
        out: args.out,
        accel: args.accel,
        arch: args.arch,
        sandbox: !args.no_sandbox,
        image: args.image,
        cache,
        jobs: args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        dry_run: args.dry_run,
        interactive: args.command.is_empty(),
        command: args.command,
        ..RunOptions::new(args.file.unwrap_or_default(), kernel)
    };
    let wish = Boot {
        their_kernel: args.devices.is_some() && args.kernel.is_none(),
        devices: args.devices,
        mem_mib: args.mem,
        cpus: args.cpus,
    };
    let mut reporter = Reporter::new(style);
    let result = boot(&options, &wish, &mut reporter).await;
    let code = match &result {
        Ok(summary) => exit_code(summary, options.command.is_empty()),
        Err(error) => failure_code(error),
    };
    reporter.event(Event::RunFinished { exit_code: code });
    match result {
        Ok(Summary { command: Some(command), .. }) => println!("{command}"),
        Ok(Summary { infrastructure: Some(what), .. }) => return Err(Failure::unjudged(what)),
        Ok(_) if code == 125 => return Err(Failure::unjudged("the guest ended before the command did")),
        Ok(_) => {}
        Err(error) => return Err(Failure { code, message: error.to_string() }),
    }
    Ok(code)
}

fn exit_code(summary: &Summary, interactive: bool) -> u8 {
    match summary {
        Summary { infrastructure: Some(_), .. } => 125,
        Summary { command: Some(_), .. } => 0,
        Summary { command_status: Some(status), .. } => *status,
        _ if interactive => 0,
        _ => 125,
    }
}

/// The tree here, or where there is none the kernel of the last run.
fn kernel_here(out: &Path) -> String {
    let last = std::fs::read_to_string(out.join("out/kernel")).unwrap_or_default();
    let tree = Path::new("Kbuild").is_file() && Path::new("Makefile").is_file();
    if tree || last.trim().is_empty() { ".".into() } else { last.trim().into() }
}
