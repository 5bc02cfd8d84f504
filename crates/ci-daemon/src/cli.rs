//! The `ci-daemon` command: parse, wire, present. Exit codes: 0 done or stopped; 1 it cannot run; 2 usage.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use indicatif::MultiProgress;
use model::BranchRef;
use serde::Serialize;

use crate::daemon::{self, Options};
use crate::forget::{self, Done};
use crate::plan::{Job, Why};
use crate::progress::Progress;
use crate::scout::View;
use crate::simulate::{Slots, Table};
use crate::{preview, retention, wants};

/// Watches kernel branches, has every commit built and tested, and publishes the results.
#[derive(Debug, Parser)]
#[command(name = "ci-daemon", version = model::build::version(), propagate_version = true)]
#[command(after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration [default: $KTEST_CI_CONFIG, ~/.ktest/ktest-ci.json5, /etc/ktest-ci.toml].
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

const EXAMPLES: &str = "\
Examples:
  ci-daemon --config ci.toml           run until stopped
  ci-daemon --config ci.toml --once    run until nothing is left to do
  ci-daemon check                      is the configuration right, and what does it ask for
  ci-daemon plan -n 20                 the next 20 jobs, and why in this order
  ci-daemon simulate --slots +4        when the tips will be tested, and when with four slots more
  ci-daemon retention --dry-run        which results would be removed
  ci-daemon forget kmo/old-branch      let go of a branch that the configuration has no more

SIGUSR1 asks for a fetch cycle at once. SIGTERM and Ctrl-C stop what runs and end; a second one ends at once.
KTEST_LOG sets what is logged to standard error: KTEST_LOG=debug, KTEST_LOG=ci_daemon=trace,warn.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch, test and publish, until stopped. This is what `ci-daemon` alone does.
    Run(RunArgs),
    /// Read the configuration and say what it asks for.
    Check(CheckArgs),
    /// Print the next jobs in their order and why it is this one, without running anything.
    Plan(PlanArgs),
    /// Say when the tip of each branch will be fully tested, from how long subtests took in the past.
    Simulate(SimulateArgs),
    /// Remove results that are past keeping, as the running daemon does every hour.
    Retention(RetentionArgs),
    /// Remove the listing of a branch that the configuration has no more; its results go with the next retention.
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// End when nothing is left to do.
    #[arg(long)]
    once: bool,
    /// The ktest command [default: the one beside ci-daemon].
    #[arg(long, value_name = "PATH")]
    ktest: Option<PathBuf>,
    /// How the log on standard error is written: for people, or a JSON object a line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// How many jobs.
    #[arg(short, long, value_name = "N", default_value_t = 20)]
    number: usize,
    /// As JSON: [{"value", "age", "nice", "group_nice", "alike_nice", "duration_nice", "commit", "user", "branch", "group", "test", "kernel", "subtest", "key", "cost_s"}].
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct SimulateArgs {
    /// Also with so many slots (8), or so many more than there are (+4).
    #[arg(long, value_name = "N|+N")]
    slots: Option<Slots>,
    /// What each batch takes besides its subtests: checkout, boot, shutdown.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = config::parse_time)]
    boot: Duration,
    /// What the first batch of a commit takes to build its kernel.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = config::parse_time)]
    build: Duration,
    /// Go on until every commit is tested.
    #[arg(long)]
    all: bool,
    /// As JSON: [{"slots", "branches": [{"user", "branch", "commit", "left", "first_s", "tip_s"}], "jobs", "all_s"}].
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RetentionArgs {
    /// Remove nothing, say what would be removed and when.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait until results have been planned to go for a day.
    #[arg(long)]
    now: bool,
    /// As JSON: {"keep", "remove": [{"commit", "bytes", "in_s"}], "unconfigured": [{"user", "branch", "commits"}]}.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ForgetArgs {
    /// Which, as USER/BRANCH.
    #[arg(value_name = "USER/BRANCH")]
    branch: BranchRef,
    /// Say what would happen, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    main_from(std::env::args_os()).into()
}

/// Runs the command that `args` (the program's name first) ask for; returns the exit code.
#[must_use]
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and then this goes to standard output.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let path = cli.config.as_deref();
    let stray = cli.run.once || cli.run.ktest.is_some();
    let result = match cli.command {
        Some(command) if stray && !matches!(command, Command::Run(_)) => {
            eprintln!("ci-daemon: --once and --ktest are for running; leave them out");
            return 2;
        }
        None => run(path, &cli.run),
        Some(Command::Run(args)) => {
            let ktest = args.ktest.or(cli.run.ktest);
            let json = [args.log_format, cli.run.log_format].contains(&LogFormat::Json);
            let log_format = if json { LogFormat::Json } else { LogFormat::Text };
            run(path, &RunArgs { once: args.once || cli.run.once, ktest, log_format })
        }
        Some(Command::Check(args)) => check(path, &args),
        Some(Command::Plan(args)) => plan(path, &args),
        Some(Command::Simulate(args)) => simulate(path, &args),
        Some(Command::Retention(args)) => retention(path, &args),
        Some(Command::Forget(args)) => forget(path, args),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("ci-daemon: {error:#}");
            1
        }
    }
}

fn run(config: Option<&Path>, args: &RunArgs) -> Result<()> {
    let config = config::find(config)?;
    let ktest = match &args.ktest {
        Some(ktest) => std::path::absolute(ktest).context("--ktest")?,
        None => ktest_beside_us()?,
    };
    let mut progress = if args.once { Progress::for_stdout() } else { Progress::Quiet };
    log_to_stderr(if args.once { "warn" } else { "info" }, progress.bars(), args.log_format);
    let options = Options { config, ktest, once: args.once };
    let runtime = runtime()?;
    let result = runtime.block_on(daemon::run(&options, &mut progress));
    runtime.shutdown_timeout(Duration::from_secs(2));
    if result.is_ok() {
        progress.finish();
    }
    result?;
    Ok(())
}

fn check(config: Option<&Path>, args: &CheckArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let path = config::find(config)?;
    let config = config::load(&path)?;
    let report = preview::Report::new(&config);
    if args.json {
        return print_json(&report);
    }
    print(&report.to_string())
}

fn plan(config: Option<&Path>, args: &PlanArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let path = config::find(config)?;
    let (view, jobs) = runtime()?.block_on(preview::plan(&path, args.number))?;
    if args.json {
        let rows: Vec<PlanRow<'_>> = jobs.iter().map(PlanRow::from).collect();
        return print_json(&rows);
    }
    for problem in problems(&view) {
        eprintln!("ci-daemon: {problem}");
    }
    print(&preview::table(&jobs))
}

fn simulate(config: Option<&Path>, args: &SimulateArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let path = config::find(config)?;
    let ask = preview::Ask { slots: args.slots, boot: args.boot, build: args.build, all: args.all };
    let (view, forecasts) = runtime()?.block_on(preview::simulate(&path, &ask))?;
    if args.json {
        return print_json(&forecasts);
    }
    for problem in problems(&view) {
        eprintln!("ci-daemon: {problem}");
    }
    let assumed = format!(
        "assumed: {} s a batch and {} s a kernel besides the subtests; subtests take what they took on average\n",
        args.boot.as_secs(),
        args.build.as_secs()
    );
    print(&(Table(&forecasts).to_string() + &assumed))
}

fn retention(config: Option<&Path>, args: &RetentionArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let (config, broken) = config::load_lenient(&config::find(config)?)?;
    let wait = if args.now { 0 } else { retention::WAIT_S };
    let mut report = if args.dry_run {
        retention::preview(&config.output_dir, config.keep_results_commits, wait)?
    } else {
        let run = async {
            let writer = results::Writer::open(&config.output_dir)?;
            let plan = retention::once(&writer, config.keep_results_commits, wait).await?;
            writer.close().await?;
            Ok::<_, results::Error>(plan)
        };
        let plan =
            runtime()?.block_on(run).context("nothing was removed; a running daemon does this itself")?;
        retention::Report::done(&plan)
    };
    if broken.is_empty() {
        report.unconfigured = forget::unconfigured(&config, &results::Reader::open(&config.output_dir)?)?;
    }
    if args.json { print_json(&report) } else { print(&report.to_string()) }
}

fn forget(config: Option<&Path>, args: ForgetArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let path = config::find(config)?;
    // A file that cannot be read may be the one that has the branch.
    let config = config::load(&path).context("nothing is forgotten while the configuration is broken")?;
    let going = forget::check(&config, &args.branch)?;
    let said = if args.dry_run {
        format!("would forget {going}\n")
    } else {
        match runtime()?.block_on(forget::forget(&config.output_dir, args.branch))? {
            Done::Now => format!("forgot {going}\n"),
            Done::Asked => format!("the running ci-daemon is asked to forget {going}\n"),
        }
    };
    print(&said)
}

fn problems(view: &View) -> Vec<String> {
    let broken = view.branches.iter();
    let broken = broken.filter_map(|(name, seen)| Some(format!("branch {name}: {}", seen.error.as_ref()?)));
    view.problems.iter().cloned().chain(wants::left_out(&view.config)).chain(broken).collect()
}

/// A job of the plan, as JSON.
#[derive(Debug, Serialize)]
struct PlanRow<'a> {
    value: i64,
    age: u32,
    nice: i64,
    #[serde(flatten)]
    why: Why,
    commit: &'a str,
    user: &'a str,
    branch: &'a str,
    group: &'a str,
    test: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'a str>,
    subtest: &'a str,
    key: &'a str,
    cost_s: f64,
}

impl<'a> From<&'a (Job, Why)> for PlanRow<'a> {
    fn from((job, why): &'a (Job, Why)) -> Self {
        Self {
            why: *why,
            value: job.value,
            age: job.age,
            nice: job.nice(),
            commit: job.commit.as_str(),
            user: job.branch.user.as_str(),
            branch: job.branch.branch.as_str(),
            group: job.group.as_str(),
            test: job.unit.test.as_str(),
            kernel: job.unit.kernel.as_ref().map(model::StoreKernel::as_str),
            subtest: job.subtest.as_str(),
            key: job.key.as_str(),
            cost_s: job.cost.as_secs_f64(),
        }
    }
}

fn ktest_beside_us() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find out where ci-daemon lies; say --ktest PATH")?;
    Ok(own.parent().unwrap_or(Path::new("/")).join("ktest"))
}

/// Children die with the thread that started them; the workers of this runtime live as long as it does.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

fn print(text: &str) -> Result<()> {
    // A reader who went away (head, less) is no error.
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

fn log_to_stderr(default: &str, bars: Option<MultiProgress>, format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KTEST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let bars = Arc::new(bars);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let subscriber = subscriber.with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    let subscriber = subscriber.with_writer(move || Stderr(bars.clone()));
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_ansi(false).init(),
    }
}

/// Standard error, beside the bars where there are any.
struct Stderr(Arc<Option<MultiProgress>>);

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &*self.0 {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
