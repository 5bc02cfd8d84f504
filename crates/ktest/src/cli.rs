//! The `ktest` command line: parse, wire, present. Exit codes: 0 all passed or not run; 1 a test failed; 2 usage error;
//! 125 no verdict; 128 + N after signal N.

mod bisect;
mod boot;
mod build;
mod core;
mod doctor;
mod existing;
mod failure;
mod host;
mod image;
mod kernel;
mod list;
mod live;
mod plan;
mod run;
mod sandbox;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use failure::Failure;
use tokio::signal::unix::SignalKind;

/// Run kernel tests in virtual machines.
#[derive(Debug, Parser)]
#[command(name = "ktest", version = model::build::version(), propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    /// Directory for kernels, build trees and root images [default: ~/.cache/ktest].
    #[arg(long, global = true, env = "KTEST_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ktest run -k ~/linux tests/fs/ext4/basic.ktest             run all subtests of a file on a kernel tree
  ktest run -k ~/linux tests/fs/ext4/basic.ktest punch_hole  run one subtest
  ktest run -k ~/linux --commit v6.1 tests/boot.ktest        test a commit without touching your work tree
  git bisect run ktest run tests/fs/ext4/basic.ktest         bisect, from inside the kernel tree
  ktest list tests/fs/ext4/basic.ktest                       list the subtests of a file";

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a kernel, boot it, run the subtests of a test file, and report the results.
    Run(Box<run::RunArgs>),
    /// Find the first commit at which a subtest fails, also if it fails only sometimes.
    Bisect(Box<bisect::BisectArgs>),
    /// Print the kernels that a set of test files needs, and why they cannot be merged.
    Plan(plan::PlanArgs),
    /// Build the kernels that test files need.
    Build(build::BuildArgs),
    /// Boot a kernel and open a shell in the guest, or run one command there.
    Boot(Box<boot::BootArgs>),
    /// List the subtests of test files.
    List(list::ListArgs),
    /// Manage the kernel store: list kernels, fetch a distro kernel, prune unused ones.
    Kernel(kernel::KernelArgs),
    /// Manage root images: create, rebuild, list.
    Image(image::ImageArgs),
    /// Log in to the running VM, or run a command in it.
    Ssh(live::SshArgs),
    /// Attach gdb to the running VM through QEMU (no kernel support needed).
    Gdb(live::GdbArgs),
    /// Enter kgdb in the running VM, and attach gdb to it.
    Kgdb(live::KgdbArgs),
    /// Talk to the running VM's QEMU monitor.
    Mon(live::MonArgs),
    /// Send a SysRq key to the running VM.
    Sysrq(live::SysrqArgs),
    /// Look into the core of a guest that crashed or hung.
    Core(core::CoreArgs),
    /// Check this host for everything a run needs, and print how to fix what is missing.
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell.
    #[command(after_help = "\
Examples:
  ktest completions bash > /etc/bash_completion.d/ktest
  ktest completions zsh > ~/.zfunc/_ktest")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Run tests on other machines; check them and set them up.
    Host(Box<host::HostArgs>),
    /// Run a command in the sandbox of builds (started by the library of test files).
    #[command(hide = true)]
    Sandbox(sandbox::SandboxArgs),
    /// `build-test-kernel config`.
    #[command(hide = true)]
    Config(existing::AnyArgs),
    /// `build-test-kernel oldconfig`.
    #[command(hide = true)]
    Oldconfig(existing::AnyArgs),
    /// `build-test-kernel faddr2line`.
    #[command(hide = true, name = "faddr2line")]
    Faddr2line(existing::AnyArgs),
}

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    model::help::short_and_long(<Cli as clap::CommandFactory>::command())
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = parsed();
    let filter = tracing_subscriber::EnvFilter::try_from_env("KTEST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // By default, an internal error panics if standard error cannot be written.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    log.with_writer(std::io::stderr).without_time().init();
    let worked = fsx::stop::supervise(&STOP_SIGNALS, SIGNAL_GRACE, code_of_signal, move || work(cli));
    match worked.unwrap_or_else(|error| Err(Failure::unjudged(error))) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.print(),
    }
}

/// The command line of this process. A usage error or a help text ends it.
fn parsed() -> Cli {
    Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit())
}

fn work(cli: Cli) -> Result<u8, Failure> {
    // A single thread: a child is killed when the thread that started it exits, so this thread must start it.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::unjudged)?;
    let result = runtime.block_on(async {
        let cache = cache_dir(cli.cache_dir)?;
        let work = async {
            match cli.command {
                Command::Run(args) => run::run(*args, cache).await,
                Command::Bisect(args) => bisect::run(*args, cache).await,
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
                Command::Core(args) => core::run(args, &cache),
                Command::Doctor(args) => doctor::run(args, &cache).await,
                Command::Completions { shell } => completions(shell),
                Command::Host(args) => host::run(*args, cache).await,
                Command::Sandbox(args) => sandbox::run(args).await,
                Command::Config(_) | Command::Oldconfig(_) => Err(Failure::usage(existing::CONFIG)),
                Command::Faddr2line(_) => Err(Failure::usage(existing::FADDR2LINE)),
            }
        };
        tokio::select! {
            result = work => result,
            // Dropping the running future ends its processes.
            signal = fsx::stop::first_signal(&STOP_SIGNALS) => Ok(code_of_signal(signal)),
        }
    });
    // Do not wait for a thread that is still reading a file.
    runtime.shutdown_background();
    result
}

/// Prints the completions of a shell.
fn completions(shell: Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "ktest", &mut script);
    stdio::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(0)
}

/// The time from a signal until the process exits, if the work does not end. A file operation may block it: a FIFO, a
/// file system that hangs.
const SIGNAL_GRACE: Duration = Duration::from_secs(5);

/// The signals that end the program: Ctrl-C, SIGTERM, SIGHUP.
const STOP_SIGNALS: [SignalKind; 3] =
    [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// The exit code after a signal, like that of a shell.
fn code_of_signal(number: i32) -> u8 {
    128 + u8::try_from(number).unwrap_or(0)
}

/// The directory for `require-git` clones.
fn deps_dir(chosen: Option<&std::path::Path>, cache: &std::path::Path) -> Result<PathBuf, Failure> {
    let dir = chosen.map_or_else(|| cache.join("deps"), Into::into);
    std::path::absolute(&dir).map_err(|error| Failure::usage(format!("{}: {error}", dir.display())))
}

/// The directory of `--cache-dir`, or `~/.cache/ktest` according to the XDG base directory specification.
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
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help() {
        let mut command = command().term_width(100);
        insta::assert_snapshot!("help", command.render_help());
        let run = command.find_subcommand_mut("run").unwrap();
        insta::assert_snapshot!("help_run", run.clone().term_width(100).render_long_help());
        insta::assert_snapshot!("help_run_short", run.clone().term_width(100).render_help());
    }
}
