//! `ktest ssh|gdb|kgdb|mon|sysrq`: a word with the VM that runs for an output folder.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::access::ssh_args;
use crate::live::{GDB, KGDB, Live, MONITOR};

/// Which VM.
#[derive(Debug, Args)]
struct Which {
    /// The output folder of the run.
    #[arg(short, long, value_name = "DIR", default_value = "ktest-out")]
    out: PathBuf,
}

impl Which {
    async fn find(&self) -> Result<Live, Failure> {
        Live::find(&self.out).await.map_err(Failure::usage)
    }
}

/// `ktest ssh`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest ssh                            a shell in the guest
  ktest ssh dmesg -w                   a command in it
  ktest ssh -o /tmp/out                in the VM of another output folder
The exit code is ssh's, which is the command's.")]
pub(super) struct SshArgs {
    #[command(flatten)]
    which: Which,
    /// The command to run, with its arguments [default: a shell].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// `ktest gdb`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest gdb                            stop the guest and look where it is
  ktest gdb -- -batch -ex bt           the same, without a conversation
The guest goes on when gdb detaches. gdb knows the kernel's functions; its lines and types, if the test file has
require-kernel-config DEBUG_INFO_DWARF5.")]
pub(super) struct GdbArgs {
    #[command(flatten)]
    which: Which,
    /// More arguments for gdb.
    #[arg(last = true)]
    args: Vec<String>,
}

/// `ktest kgdb`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest kgdb                           enter the kernel's own debugger and attach gdb to it
The VM is one of ktest run -I or ktest boot, its kernel has KGDB_SERIAL_CONSOLE. ktest gdb needs neither.")]
pub(super) struct KgdbArgs {
    #[command(flatten)]
    which: Which,
    /// More arguments for gdb.
    #[arg(last = true)]
    args: Vec<String>,
}

/// `ktest mon`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest mon                            QEMU's monitor, until Ctrl-D
  ktest mon info block                 one command, and its answer
  ktest mon stop; ktest mon cont       let the guest stand still, and go on")]
pub(super) struct MonArgs {
    #[command(flatten)]
    which: Which,
    /// The command [default: what standard input says].
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

/// `ktest sysrq`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ktest sysrq w                        blocked tasks, on the guest's console
  ktest sysrq t                        all tasks
  ktest sysrq c                        crash the kernel")]
pub(super) struct SysrqArgs {
    #[command(flatten)]
    which: Which,
    /// The key, one letter or digit.
    #[arg(value_parser = parse_key)]
    key: char,
}

fn parse_key(text: &str) -> Result<char, String> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(key), None) if key.is_ascii_alphanumeric() => Ok(key),
        _ => Err("it is one letter or digit".into()),
    }
}

pub(super) async fn ssh(args: SshArgs) -> Result<u8, Failure> {
    let live = args.which.find().await?;
    let Some(ssh) = live.ssh else {
        return Err(Failure::usage(format!(
            "the VM of {} has no way in by ssh; apt-get install openssh-client, then start it again",
            args.which.out.display()
        )));
    };
    let mut words = ssh_args(ssh.port, &ssh.identity, &ssh.known_hosts);
    words.extend(args.command);
    Err(become_program("ssh", &words, "openssh-client"))
}

pub(super) async fn gdb(args: GdbArgs) -> Result<u8, Failure> {
    let live = args.which.find().await?;
    let words = gdb_args(&live, GDB, &args.args);
    Err(become_program(gdb_program(&live), &words, "gdb-multiarch"))
}

pub(super) async fn kgdb(args: KgdbArgs) -> Result<u8, Failure> {
    let live = args.which.find().await?;
    if !live.kgdb {
        return Err(Failure::usage(format!(
            "the VM of {} has no kgdb: that takes ktest run -I or ktest boot on x86_64, and a kernel with \
             KGDB_SERIAL_CONSOLE; ktest gdb needs neither",
            args.which.out.display()
        )));
    }
    live.sysrq(&args.which.out, 'g').await.map_err(Failure::unjudged)?;
    let words = gdb_args(&live, KGDB, &args.args);
    Err(become_program(gdb_program(&live), &words, "gdb"))
}

pub(super) async fn mon(args: MonArgs) -> Result<u8, Failure> {
    let live = args.which.find().await?;
    if !args.command.is_empty() {
        let answer = live.monitor(&args.which.out, &args.command.join(" ")).await;
        let answer = answer.map_err(Failure::unjudged)?;
        if !answer.is_empty() {
            println!("{answer}");
        }
        return Ok(0);
    }
    let socket = live.socket(MONITOR);
    let talk = tokio::task::spawn_blocking(move || converse(&socket));
    let result = talk.await.map_err(Failure::unjudged)?;
    result.map_err(|error| Failure::unjudged(format!("QEMU's monitor: {error}")))?;
    Ok(0)
}

/// Standard input to the socket, what it answers to standard output, until both have come to their end.
fn converse(socket: &Path) -> std::io::Result<()> {
    let mut answers = UnixStream::connect(socket)?;
    let mut questions = answers.try_clone()?;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut questions);
        // What was asked last is still answered.
        std::thread::sleep(Duration::from_millis(300));
        let _ = questions.shutdown(Shutdown::Both);
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
    let live = args.which.find().await?;
    live.sysrq(&args.which.out, args.key).await.map_err(Failure::unjudged)?;
    Ok(0)
}

fn gdb_program(live: &Live) -> &'static str {
    let native = model::Arch::native() == Some(live.arch);
    if native { "gdb" } else { "gdb-multiarch" }
}

/// gdb's arguments: the kernel, its own scripts where it has them, the connection, the user's words.
fn gdb_args(live: &Live, socket: &str, more: &[String]) -> Vec<String> {
    let mut args: Vec<String> = vec!["-q".into(), "-iex".into(), "set pagination off".into()];
    args.extend(live.vmlinux.iter().map(|vmlinux| vmlinux.display().to_string()));
    args.extend(["-ex".into(), format!("target remote {}", live.socket(socket).display())]);
    args.extend(more.iter().cloned());
    args
}

/// Replaces this process, so that the program has the terminal and its signals; returns only if that fails.
fn become_program(program: &str, args: &[String], package: &str) -> Failure {
    let error = std::process::Command::new(program).args(args).exec();
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => format!("; apt-get install {package}"),
        _ => String::new(),
    };
    Failure::unjudged(format!("{program}: {error}{hint}"))
}
