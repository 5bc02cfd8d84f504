//! `ktest ssh|gdb|kgdb|mon|sysrq`: access the running VM of an output directory.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use crate::access::ssh_args;
use crate::live::{GDB, KGDB, Live, MONITOR};

/// Selects the VM.
#[derive(Debug, Args)]
struct VmArgs {
    /// Output directory of the run.
    #[arg(short, long, value_name = "DIR", default_value = "ktest-out")]
    out: PathBuf,
}

impl VmArgs {
    async fn find(&self) -> Result<Live, Failure> {
        Live::find(&self.out).await.map_err(Failure::usage)
    }
}

/// `ktest ssh`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest ssh                            open a shell in the guest
  ktest ssh dmesg -w                   run a command in it
  ktest ssh -o /tmp/out                use the VM of another output directory
The exit code is ssh's: that of the command.")]
pub(super) struct SshArgs {
    #[command(flatten)]
    vm: VmArgs,
    /// Command to run, with its arguments [default: a shell].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// `ktest gdb`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest gdb                            stop the guest and inspect it
  ktest gdb -- -batch -ex bt           print a backtrace and exit
The guest continues when gdb detaches. Lines and types are available if the test file has
require-kernel-config DEBUG_INFO_DWARF5.")]
pub(super) struct GdbArgs {
    #[command(flatten)]
    vm: VmArgs,
    /// Additional arguments for gdb.
    #[arg(last = true)]
    args: Vec<String>,
}

/// `ktest kgdb`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest kgdb                           enter kgdb and attach gdb to it
Requires a VM of ktest run -I or ktest boot, and a kernel with KGDB_SERIAL_CONSOLE. ktest gdb requires neither.")]
pub(super) struct KgdbArgs {
    #[command(flatten)]
    vm: VmArgs,
    /// Additional arguments for gdb.
    #[arg(last = true)]
    args: Vec<String>,
}

/// `ktest mon`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest mon                            open QEMU's monitor, until Ctrl-D
  ktest mon info block                 run one command
  ktest mon stop; ktest mon cont       pause the guest, and resume it")]
pub(super) struct MonArgs {
    #[command(flatten)]
    vm: VmArgs,
    /// Command [default: read from standard input].
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

/// `ktest sysrq`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest sysrq w                        print blocked tasks on the guest's console
  ktest sysrq t                        print all tasks
  ktest sysrq c                        crash the kernel")]
pub(super) struct SysrqArgs {
    #[command(flatten)]
    vm: VmArgs,
    /// Key: one letter or digit.
    #[arg(value_parser = parse_key)]
    key: char,
}

/// Not a sysrq key.
#[derive(Debug, thiserror::Error)]
#[error("expected one letter or digit")]
struct KeyError;

fn parse_key(text: &str) -> Result<char, KeyError> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(key), None) if key.is_ascii_alphanumeric() => Ok(key),
        _ => Err(KeyError),
    }
}

pub(super) async fn ssh(args: SshArgs) -> Result<u8, Failure> {
    let live = args.vm.find().await?;
    let Some(ssh) = live.ssh else {
        return Err(Failure::usage(format!(
            "the VM of {} is not reachable by ssh; run apt-get install openssh-client, then start it again",
            args.vm.out.display()
        )));
    };
    let mut words = ssh_args(ssh.port, &ssh.identity, &ssh.known_hosts);
    words.extend(args.command);
    Err(exec("ssh", &words, "openssh-client"))
}

pub(super) async fn gdb(args: GdbArgs) -> Result<u8, Failure> {
    let live = args.vm.find().await?;
    let words = gdb_args(&live, GDB, &args.args);
    Err(exec(gdb_program(&live), &words, "gdb-multiarch"))
}

pub(super) async fn kgdb(args: KgdbArgs) -> Result<u8, Failure> {
    let live = args.vm.find().await?;
    if !live.kgdb {
        return Err(Failure::usage(format!(
            "the VM of {} has no kgdb: it requires ktest run -I or ktest boot on x86_64, and a kernel with \
             KGDB_SERIAL_CONSOLE; ktest gdb requires neither",
            args.vm.out.display()
        )));
    }
    live.sysrq(&args.vm.out, 'g').await.map_err(Failure::unjudged)?;
    let words = gdb_args(&live, KGDB, &args.args);
    Err(exec(gdb_program(&live), &words, "gdb"))
}

pub(super) async fn mon(args: MonArgs) -> Result<u8, Failure> {
    let live = args.vm.find().await?;
    if !args.command.is_empty() {
        let answer = live.monitor(&args.vm.out, &args.command.join(" ")).await;
        let answer = answer.map_err(Failure::unjudged)?;
        if !answer.is_empty() {
            stdio::line(answer)?;
        }
        return Ok(0);
    }
    let socket = live.socket(MONITOR);
    let relay_task = tokio::task::spawn_blocking(move || relay(&socket));
    let result = relay_task.await.map_err(Failure::unjudged)?;
    result.map_err(|error| Failure::unjudged(format!("QEMU's monitor: {error}")))?;
    Ok(0)
}

/// Copies standard input to the socket and its responses to standard output, until both end.
fn relay(socket: &Path) -> std::io::Result<()> {
    let mut answers = UnixStream::connect(socket)?;
    let mut commands = answers.try_clone()?;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut commands);
        // Wait for the response to the last command.
        std::thread::sleep(Duration::from_millis(300));
        let _ = commands.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 8192];
    while let Ok(got @ 1..) = answers.read(&mut buffer) {
        let mut screen = std::io::stdout().lock();
        if screen.write_all(&buffer[..got]).and_then(|()| screen.flush()).is_err() {
            break;
        }
    }
    Ok(())
}

pub(super) async fn sysrq(args: SysrqArgs) -> Result<u8, Failure> {
    let live = args.vm.find().await?;
    live.sysrq(&args.vm.out, args.key).await.map_err(Failure::unjudged)?;
    Ok(0)
}

fn gdb_program(live: &Live) -> &'static str {
    let native = model::Arch::native() == Some(live.arch);
    if native { "gdb" } else { "gdb-multiarch" }
}

/// The arguments of gdb: the kernel, the connection, and the user's arguments.
fn gdb_args(live: &Live, socket: &str, more: &[String]) -> Vec<String> {
    let mut args: Vec<String> = vec!["-q".into(), "-iex".into(), "set pagination off".into()];
    args.extend(live.vmlinux.iter().map(|vmlinux| vmlinux.display().to_string()));
    args.extend(["-ex".into(), format!("target remote {}", live.socket(socket).display())]);
    args.extend(more.iter().cloned());
    args
}

/// Replaces this process, so that the program controls the terminal and receives its signals. Returns only on failure.
pub(super) fn exec(program: &str, args: &[String], package: &str) -> Failure {
    let error = std::process::Command::new(program).args(args).exec();
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => format!("; run apt-get install {package}"),
        _ => String::new(),
    };
    Failure::unjudged(format!("{program}: {error}{hint}"))
}
