//! `ktest boot`.

use std::path::{Path, PathBuf};

use clap::Args;
use model::size::SizeError;
use model::{AccelChoice, Arch, ByteSize, Event, RootImage, RunOrder, TestOrder};

use super::failure::Failure;
use super::failure::exit_code as error_code;
use crate::report::{Reporter, Style};
use crate::run::{Boot, RunRequest, Summary, boot, parse_kernel};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest boot -k ~/linux                                     boot a kernel and open a shell
  ktest boot -k ~/linux -- uname -a                         run one command, and exit with its exit code
  ktest boot tests/fs/ext4/basic.ktest                      use the machine, devices and kernel of a test file
  ktest boot --devices ktest-out/out/fs.ext4.basic.punch    use the kernel and the devices of a failed subtest
  ktest boot -k debian/trixie                               boot a distribution's kernel
From another terminal, while it runs: ktest ssh, gdb, kgdb, mon, sysrq.

Exit codes: the command's; 0 without one; 2 usage error; 125 no kernel, or the guest did not boot.")]
pub(super) struct BootArgs {
    /// Test file that declares the machine and the kernel [default: a plain machine].
    #[arg(value_name = "FILE.ktest", conflicts_with = "devices")]
    file: Option<PathBuf>,
    /// Command to run in the guest, with its arguments [default: a shell on this terminal].
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// The kernel: a source tree, or a kernel of the store by name (debian/trixie) or id [default: the kernel of
    /// --devices, or the source tree in this directory, or the kernel of the last run in the output directory].
    #[arg(short = 'k', long, value_name = "DIR|NAME|ID")]
    kernel: Option<String>,
    /// Build this commit instead of the work tree.
    #[arg(long, value_name = "COMMIT", requires = "kernel")]
    commit: Option<String>,
    /// Attach the saved devices of a failed subtest. Writes to them are discarded at the end.
    #[arg(long, value_name = "OUT/out/FILE.SUBTEST")]
    devices: Option<PathBuf>,
    /// Root of the test tree [default: found from the file's path].
    #[arg(long, value_name = "DIR")]
    tests_dir: Option<PathBuf>,
    /// Directory for `require-git` clones [default: deps in the cache directory].
    #[arg(long, value_name = "DIR")]
    deps_dir: Option<PathBuf>,
    /// Let the guest reach the networks of this host [default: only if the test file declares it].
    #[arg(long)]
    network: bool,
    /// Directory for logs.
    #[arg(short, long, value_name = "DIR", default_value = "ktest-out")]
    out: PathBuf,
    /// Execute the guest with: auto (KVM if it works on this host), kvm or tcg.
    #[arg(long, default_value = "auto")]
    accel: AccelChoice,
    /// The guest's architecture [default: the host's].
    #[arg(short, long)]
    arch: Option<Arch>,
    /// Memory, for example 512M or 4G [default: as declared by the test file, or 1G].
    #[arg(short, long, value_name = "SIZE", value_parser = guest_memory)]
    mem: Option<ByteSize>,
    /// Processors.
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Root image: standard, full (with compilers, Rust and DKMS), or a file [default: standard]. The first two are built
    /// if they are missing.
    #[arg(long, value_name = "NAME|FILE")]
    image: Option<RootImage>,
    /// Compile with N jobs [default: one per processor].
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Build without bubblewrap. The source's Makefile can then use the network and read your files.
    #[arg(long)]
    no_sandbox: bool,
    /// Print the QEMU command instead of running it. The kernel is still built.
    #[arg(long)]
    dry_run: bool,
}

fn guest_memory(text: &str) -> Result<ByteSize, SizeError> {
    ByteSize::at_least(text, ByteSize(16 << 20))
}

pub(super) async fn run(args: BootArgs, cache: PathBuf) -> Result<u8, Failure> {
    let style = if args.command.is_empty() { Style::Text } else { Style::Aside };
    let kernel = args.kernel.clone().unwrap_or_else(|| default_kernel(&args.out));
    let from = parse_kernel(&kernel, args.commit.as_deref(), &[], &cache)?;
    let file = args.file.unwrap_or_default();
    let test = TestOrder {
        kernel,
        commit: args.commit,
        out: args.out,
        arch: args.arch,
        image: args.image,
        tests_dir: args.tests_dir,
        network: args.network,
        ..TestOrder::new(file.to_string_lossy())
    };
    let order = RunOrder {
        accel: args.accel,
        deps_dir: args.deps_dir,
        jobs: args.jobs,
        no_sandbox: args.no_sandbox,
        dry_run: args.dry_run,
        interactive: args.command.is_empty(),
        ..test.into()
    };
    let request = RunRequest { order, command: args.command, ..RunRequest::new(file, from, cache) };
    let wish = Boot {
        saved_kernel: args.devices.is_some() && args.kernel.is_none(),
        devices: args.devices,
        mem_mib: args.mem.map(ByteSize::mib),
        cpus: args.cpus,
    };
    let mut reporter = Reporter::new(style);
    let result = boot(&request, &wish, &mut reporter).await;
    let code = match &result {
        Ok(summary) => exit_code(summary, request.command.is_empty()),
        Err(error) => error_code(error),
    };
    reporter.event(Event::RunFinished { exit_code: code });
    match result {
        Ok(Summary { command: Some(command), .. }) => stdio::line(command)?,
        Ok(Summary { infrastructure: Some(what), .. }) => return Err(Failure::unjudged(what)),
        Ok(_) if code == 125 => return Err(Failure::unjudged("the guest ended before the command did")),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
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

/// The source tree in the current directory, or else the kernel of the last run.
fn default_kernel(out: &Path) -> String {
    let last = fsx::untrusted::Dir::open(out).and_then(|out| out.read_to_string("out/kernel", 1 << 10));
    let last = last.unwrap_or_default();
    let tree = Path::new("Kbuild").is_file() && Path::new("Makefile").is_file();
    if tree || last.trim().is_empty() { ".".into() } else { last.trim().into() }
}
