//! The `ktest` command: parse, wire, present. Exit codes: 0 all passed or not run; 1 a test failed; 2 usage;
//! 125 nothing could be judged; 128 + N after signal N.

mod boot;
mod build;
mod doctor;
mod host;
mod image;
mod kernel;
mod list;
mod live;
mod plan;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs kernel tests in virtual machines.
#[derive(Debug, Parser)]
#[command(name = "ktest", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    /// Where kernels, build trees and root images are kept [default: ~/.cache/ktest].
    #[arg(long, global = true, env = "KTEST_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ktest run -k ~/linux tests/fs/ext4/basic.ktest             all subtests of a file, on a kernel tree
  ktest run -k ~/linux tests/fs/ext4/basic.ktest punch_hole  one of them
  ktest run -k ~/linux --commit v6.1 tests/boot.ktest        on a commit, the work tree left alone
  git bisect run ktest run tests/fs/ext4/basic.ktest         from inside the kernel tree
  ktest list tests/fs/ext4/basic.ktest                       the subtests of a file";

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a kernel, boot it, run the subtests of a test file, and say how each went.
    Run(Box<run::RunArgs>),
    /// Say which kernels a set of test files needs, and why not fewer.
    Plan(plan::PlanArgs),
    /// Build the kernels that test files need.
    Build(build::BuildArgs),
    /// Boot a kernel and give you a shell in the guest, or run one command there.
    Boot(Box<boot::BootArgs>),
    /// List the subtests of test files.
    List(list::ListArgs),
    /// The kernel store: list it, bring a distribution's kernel, remove what is not used.
    Kernel(kernel::KernelArgs),
    /// The guests' root images: make one, make it anew, list them.
    Image(image::ImageArgs),
    /// Log in to the VM that runs, or run a command in it.
    Ssh(live::SshArgs),
    /// Attach gdb to the VM that runs, from outside: no help from its kernel is needed.
    Gdb(live::GdbArgs),
    /// Enter the kernel's own debugger in the VM that runs, and attach gdb to it.
    Kgdb(live::KgdbArgs),
    /// Talk to QEMU's monitor of the VM that runs.
    Mon(live::MonArgs),
    /// Send a magic sysrq key to the VM that runs.
    Sysrq(live::SysrqArgs),
    /// Say what a run needs of this host, whether it works, and how to get it.
    Doctor(doctor::DoctorArgs),
    /// Run on other machines; check them and set them up.
    Host(Box<host::HostArgs>),
}

/// How a command failed: what to say, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn usage(message: impl std::fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    fn unjudged(message: impl std::fmt::Display) -> Self {
        Self { code: 125, message: message.to_string() }
    }
}

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("KTEST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    // One thread: children die with the thread that started them, so that thread must be the main one.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::unjudged(error)),
    };
    let result = runtime.block_on(async {
        let cache = cache_dir(cli.cache_dir)?;
        let work = async {
            match cli.command {
                Command::Run(args) => run::run(*args, cache).await,
                Command::Boot(args) => boot::run(*args, cache).await,
                Command::List(args) => list::run(args, &cache).await,
                Command::Plan(args) => plan::run(args, &cache).await,
                Command::Build(args) => build::run(args, &cache).await,
                Command::Image(args) => image::run(args, &cache).await,
                Command::Kernel(args) => kernel::run(args, &cache).await,
                Command::Ssh(args) => live::ssh(args).await,
                Command::Gdb(args) => live::gdb(args).await,
                Command::Kgdb(args) => live::kgdb(args).await,
                Command::Mon(args) => live::mon(args).await,
                Command::Sysrq(args) => live::sysrq(args).await,
                Command::Doctor(args) => doctor::run(args, &cache).await,
                Command::Host(args) => host::run(*args, cache).await,
            }
        };
        tokio::select! {
            result = work => result,
            code = stop_signal() => Ok(code),
        }
    });
    // A thread that still reads a file must not keep us here.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    use std::io::Write;
    let style = anstyle::Style::new().fg_color(Some(anstyle::AnsiColor::Red.into())).bold();
    let _ = writeln!(anstream::stderr(), "{style}ktest:{style:#} {}", failure.message);
    ExitCode::from(failure.code)
}

/// Waits for Ctrl-C, SIGTERM or SIGHUP; dropping what runs meanwhile ends its processes.
async fn stop_signal() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    let signal = tokio::select! {
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
        _ = hangup.recv() => 1,
    };
    128 + signal
}

/// `~/.cache/ktest`, by the rules of the XDG base directories, unless the user says otherwise.
fn cache_dir(chosen: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match chosen {
        Some(dir) => {
            std::path::absolute(&dir).map_err(|error| Failure::usage(format!("{}: {error}", dir.display())))
        }
        None => Ok(::kernel::Cache::from_env(|name| std::env::var_os(name)).map_err(Failure::usage)?.dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help() {
        let mut command = Cli::command().term_width(100);
        insta::assert_snapshot!("help", command.render_help());
        let run = command.find_subcommand_mut("run").unwrap();
        insta::assert_snapshot!("help_run", run.clone().term_width(100).render_long_help());
    }
}
