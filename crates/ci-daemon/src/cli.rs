//! The `ci-daemon` command: parse, wire, present. Exit codes: 0 done or stopped, 1 error, 2 usage error.

mod mail_in;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, FromArgMatches as _, Parser, Subcommand};
use fsx::clock::unix_seconds;
use model::BranchRef;
use results::Tuning;
use serde::Serialize;

use crate::audit::AuditLog;
use crate::daemon::{self, Options};
use crate::executor::placement;
use crate::log::{LogFormat, log_to_stderr};
use crate::missing_kernels;
use crate::plan::{Niceness, PlannedJob};
use crate::report::known_issues;
use crate::report::preview;
use crate::report::progress::Progress;
use crate::report::simulate::{SlotCount, Table};
use crate::rerun_many;
use crate::retention;
use crate::unlist::{self, Unlisted};
use crate::watch::fetch_loop::View;
use crate::watch::{local, suites};

/// Build and test every commit of kernel branches, and publish the results.
#[derive(Debug, Parser)]
#[command(name = "ci-daemon", version = model::build::version(), propagate_version = true)]
#[command(after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file [default: $KTEST_CI_CONFIG, ~/.ktest/ktest-ci.json5, /etc/ktest-ci.toml].
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

const EXAMPLES: &str = "\
Examples:
  ci-daemon --config ci.toml           run until stopped
  ci-daemon --config ci.toml --once    run until nothing is left to do
  ci-daemon check                      validate the configuration and summarize it
  ci-daemon plan -n 20                 print the next 20 jobs and explain their order
  ci-daemon simulate --slots +4        estimate when the tips will be tested, with the present slots and 4 more
  ci-daemon retention --dry-run        list the results that would be deleted
  ci-daemon backup /backup/results.db  copy the database, even while a daemon runs
  ci-daemon export-tree /srv/tree      write a directory per test, for a web server or the previous clients
  ci-daemon mail-in < message          record the commands of an answer to a mail
  ci-daemon unlist kmo/old-branch      drop a branch that is no longer in the configuration

SIGUSR1 starts a fetch cycle. SIGTERM and Ctrl-C stop the running batches and end the daemon; a second one ends it immediately.

Exit codes: 0 success; 1 an error; 2 usage error; 3 with --once, a branch could not be read or a kernel
is not on the mirror (the rest is tested).
KTEST_LOG sets the log level of standard error: KTEST_LOG=debug, KTEST_LOG=ci_daemon=trace,warn.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch, test and publish until stopped (the default command).
    Run(RunArgs),
    /// Validate the configuration and summarize it.
    Check(CheckArgs),
    /// Print the next jobs and explain their order, without running anything.
    Plan(PlanArgs),
    /// Estimate when the tip of each branch will be completely tested, from past durations.
    Simulate(SimulateArgs),
    /// Delete expired results, as the running daemon does every hour.
    Retention(RetentionArgs),
    /// Drop a branch that is no longer in the configuration; retention deletes its results later.
    #[command(alias = "forget")]
    Unlist(UnlistArgs),
    /// Request reruns of all tests that match; the verdicts stay, the new ones are shown next to them.
    #[command(visible_alias = "rm-results", after_help = RERUN)]
    Rerun(RerunArgs),
    /// Import a results directory of the ktest system, and list the branches; a daemon does the same when it starts.
    Import,
    /// Copy the database of the results to a new file, even while a daemon runs.
    Backup(BackupArgs),
    /// Write a directory per test with status, duration, logs and artifacts, also while a daemon runs.
    ExportTree(ExportTreeArgs),
    /// Record the commands of an answer to a mail, which is read from standard input.
    #[command(after_help = mail_in::HELP)]
    MailIn,
    /// List who requested reruns, unlisting and fetches, and when.
    Audit(AuditArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// End when nothing is left to do.
    #[arg(long)]
    once: bool,
    /// Test at most N jobs, not counting retries. With --once, end after them.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Test again what failed to run before the start, for example because of a broken host.
    #[arg(long)]
    clear_failed_to_run: bool,
    /// ktest command to run [default: the one next to ci-daemon].
    #[arg(long, value_name = "PATH")]
    ktest: Option<PathBuf>,
    /// Format of the log on standard error: text, or one JSON object per line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// Print N jobs.
    #[arg(short, long, value_name = "N", default_value_t = 20)]
    number: usize,
    /// Print JSON: [{"value", "age", "nice", "group_nice", "alike_nice", "duration_nice", "commit", "user", "branch", "group", "test", "kernel", "subtest", "key", "cost_s"}].
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct SimulateArgs {
    /// Also simulate N slots, or +N additional slots.
    #[arg(long, value_name = "N|+N")]
    slots: Option<SlotCount>,
    /// Time of each batch in addition to its subtests: checkout, boot, shutdown.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = config::parse_time)]
    boot: Duration,
    /// Time to build the kernel of a commit, once per commit.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = config::parse_time)]
    build: Duration,
    /// Continue until every commit is tested, not only the tips.
    #[arg(long)]
    all: bool,
    /// Print JSON: [{"slots", "branches": [{"user", "branch", "commit", "left", "first_s", "tip_s", "floor_s", "longest", "longest_s"}], "jobs", "all_s"}].
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RetentionArgs {
    /// Delete nothing; print what would be deleted and when.
    #[arg(long)]
    dry_run: bool,
    /// Skip the one-day grace period.
    #[arg(long)]
    now: bool,
    /// Print JSON: {"keep", "remove": [{"commit", "bytes", "in_s"}], "unconfigured": [{"user", "branch", "commits"}]}.
    #[arg(long)]
    json: bool,
}

const RERUN: &str = "\
Examples:
  ci-daemon rerun 'fs/bcachefs/snapshots*' -n             list the tests that match
  ci-daemon rerun 'fs/*' -C v6.12..kmo/next               request reruns for a range of commits

Nothing is deleted. A verdict \"Failed to run\" is replaced by the new one.";

#[derive(Debug, Args)]
struct RerunArgs {
    /// Names of tests: * for any characters, ? for one; / is the same as a dot.
    #[arg(value_name = "GLOB")]
    pattern: String,
    /// Only these commits: A..B, or one commit, branch or tag of the repository [default: all with results].
    #[arg(short = 'C', long, value_name = "RANGE")]
    commits: Option<String>,
    /// The repository of the commits: linux, or the key of a [repo.NAME].
    #[arg(short, long, value_name = "NAME", default_value = "linux")]
    repo: model::RepoName,
    /// Request nothing; list the tests that match.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct BackupArgs {
    /// The file to create.
    file: PathBuf,
}

#[derive(Debug, Args)]
struct ExportTreeArgs {
    /// The directory to write to. Files that are there are replaced.
    dir: PathBuf,
    /// The commits, by the first digits of their ids [default: all with results].
    #[arg(value_name = "COMMIT")]
    commits: Vec<String>,
}

#[derive(Debug, Args)]
struct UnlistArgs {
    /// Branch to drop.
    #[arg(value_name = "USER/BRANCH")]
    branch: BranchRef,
    /// Change nothing; print what would happen.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct AuditArgs {
    /// List the newest N requests.
    #[arg(short, long, value_name = "N", default_value_t = 100)]
    number: usize,
    /// Print JSON: [{"v", "at", "action", "commit", "test", "branch", "via", "uid", "account", "address"}].
    #[arg(long)]
    json: bool,
}

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    model::help::short_and_long(<Cli as clap::CommandFactory>::command())
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    main_from(std::env::args_os()).into()
}

/// Runs the command given by `args` (starting with the program's name) and returns the exit code.
#[must_use]
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors; then this prints to standard output.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let path = cli.config.as_deref();
    let stray =
        cli.run.once || cli.run.ktest.is_some() || cli.run.limit.is_some() || cli.run.clear_failed_to_run;
    let result = match cli.command {
        Some(command) if stray && !matches!(command, Command::Run(_)) => {
            stdio::error(
                "ci-daemon",
                "--once, --limit, --clear-failed-to-run and --ktest apply to `run` only; remove them",
            );
            return 2;
        }
        None => return finish(run(path, &cli.run)),
        Some(Command::Run(args)) => {
            let ktest = args.ktest.or(cli.run.ktest);
            let json = [args.log_format, cli.run.log_format].contains(&LogFormat::Json);
            let log_format = if json { LogFormat::Json } else { LogFormat::Text };
            let args = RunArgs {
                once: args.once || cli.run.once,
                limit: args.limit.or(cli.run.limit),
                clear_failed_to_run: args.clear_failed_to_run || cli.run.clear_failed_to_run,
                ktest,
                log_format,
            };
            return finish(run(path, &args));
        }
        Some(Command::Check(args)) => check(path, &args),
        Some(Command::Plan(args)) => plan(path, &args),
        Some(Command::Simulate(args)) => simulate(path, &args),
        Some(Command::Retention(args)) => retention(path, &args),
        Some(Command::Unlist(args)) => unlist(path, args),
        Some(Command::Rerun(args)) => rerun(path, &args),
        Some(Command::Import) => import(path),
        Some(Command::Backup(args)) => backup(path, &args),
        Some(Command::ExportTree(args)) => export_tree(path, &args),
        Some(Command::Audit(args)) => audit(path, &args),
        Some(Command::MailIn) => return finish(mail_in::run(path)),
    };
    finish(result.map(|()| 0))
}

/// The exit code of a result. An error is printed.
fn finish(result: Result<u8>) -> u8 {
    result.unwrap_or_else(|error| {
        stdio::error("ci-daemon", stdio::WithCauses(error.as_ref()));
        match error.downcast_ref() {
            Some(daemon::DaemonError::NoBranches(_)) => UNREAD,
            _ => 1,
        }
    })
}

/// The exit code of `--once` if a branch could not be read or a kernel could not be had.
const UNREAD: u8 = 3;

fn run(config: Option<&Path>, args: &RunArgs) -> Result<u8> {
    let config = config::find(config)?;
    let ktest = match &args.ktest {
        Some(ktest) => std::path::absolute(ktest).context("--ktest")?,
        None => ktest_next_to_us()?,
    };
    let mut progress = if args.once { Progress::for_stdout() } else { Progress::Quiet };
    log_to_stderr(if args.once { "warn" } else { "info" }, progress.bars(), args.log_format);
    let options = Options {
        config,
        ktest,
        once: args.once,
        limit: args.limit,
        clear_failed_to_run: args.clear_failed_to_run,
    };
    let work = move || {
        let runtime = runtime()?;
        let result = runtime.block_on(daemon::run(&options, &mut progress));
        runtime.shutdown_timeout(Duration::from_secs(2));
        if result.is_ok() {
            progress.finish();
        }
        anyhow::Ok(result?)
    };
    let ending = fsx::stop::supervise(&daemon::STOP_SIGNALS, daemon::STOP, |_| 1, work)
        .context("cannot start the daemon's threads")??;
    let daemon::Ending::Unread(problems) = ending else { return Ok(0) };
    for problem in problems {
        stdio::error("ci-daemon", problem);
    }
    Ok(UNREAD)
}

fn check(config: Option<&Path>, args: &CheckArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let path = config::find(config)?;
    let config = config::load(&path)?;
    let mut report = preview::Report::new(&config);
    let ktest = ktest_next_to_us()?;
    report.problems.extend(runtime()?.block_on(missing_kernels::look_up(&config, &ktest)));
    report.problems.extend(runtime()?.block_on(suites::problems(&config.suites)));
    report.problems.extend(runtime()?.block_on(known_issues::problems(&config, unix_seconds())));
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
        stdio::error("ci-daemon", problem);
    }
    print(&preview::table(&jobs))
}

fn simulate(config: Option<&Path>, args: &SimulateArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let path = config::find(config)?;
    let ask =
        preview::SimulationOptions { slots: args.slots, boot: args.boot, build: args.build, all: args.all };
    let (view, forecasts) = runtime()?.block_on(preview::simulate(&path, &ask))?;
    if args.json {
        return print_json(&forecasts);
    }
    for problem in problems(&view) {
        stdio::error("ci-daemon", problem);
    }
    let assumed = format!(
        "assumed: {} s per batch and {} s per kernel in addition to the subtests; subtests take the 75th percentile of their last 20 runs\n",
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
        retention::preview(&config.top.output_dir, config.top.keep_results_commits, wait)?
    } else {
        let run = async {
            let tuning = Tuning { compat_tree: config.top.compat_tree, ..Tuning::default() };
            let writer = results::Writer::open_with(&config.top.output_dir, tuning)?;
            let plan = retention::once(&writer, config.top.keep_results_commits, wait).await?;
            writer.close().await?;
            Ok::<_, results::Error>(plan)
        };
        let plan = runtime()?
            .block_on(run)
            .context("nothing was deleted; a running ci-daemon deletes expired results itself")?;
        retention::Report::done(&plan)
    };
    if broken.is_empty() {
        report.unconfigured = unlist::unconfigured(&config, &results::Reader::open(&config.top.output_dir)?)?;
    }
    if args.json { print_json(&report) } else { print(&report.to_string()) }
}

fn rerun(config: Option<&Path>, args: &RerunArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let (config, _) = config::load_lenient(&config::find(config)?)?;
    let reader = results::Reader::open(&config.top.output_dir)?;
    let search =
        rerun_many::Search { pattern: &args.pattern, commits: args.commits.as_deref(), repo: &args.repo };
    let tests = search.find(&config, &reader)?;
    let mut text: String = tests.iter().map(|test| format!("{test}\n")).collect();
    text += &match (tests.len(), args.dry_run) {
        (0, _) => format!("no test with a verdict matches {:?}\n", args.pattern),
        (count, true) => format!("{count} tests match; nothing is requested\n"),
        (count, false) => {
            rerun_many::request(&reader, &tests)?;
            format!("requested reruns of {count} tests; ci-daemon runs those of the configuration\n")
        }
    };
    print(&text)
}

fn import(config: Option<&Path>) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let (config, _) = config::load_lenient(&config::find(config)?)?;
    let import = async {
        let tuning = Tuning { compat_tree: config.top.compat_tree, ..Tuning::default() };
        let writer = results::Writer::open_with(&config.top.output_dir, tuning)?;
        let imported = writer.opened().imported;
        let listed = local::list_branches(&Arc::new(config), &writer).await;
        // A web server may read them before a daemon runs.
        writer.directories_written().await?;
        writer.close().await?;
        Ok::<_, results::Error>((imported, listed))
    };
    let imported = runtime()?.block_on(import);
    let (results::Imported { commits, tests, .. }, listed) =
        imported.context("nothing was imported; a running ci-daemon has imported the results itself")?;
    let names: String = listed.iter().map(|branch| format!("{branch}\n")).collect();
    print(&format!(
        "{names}imported {commits} commits with {tests} tests; listed {} branches\n",
        listed.len()
    ))
}

fn export_tree(config: Option<&Path>, args: &ExportTreeArgs) -> Result<()> {
    let (config, _) = config::load_lenient(&config::find(config)?)?;
    let reader = results::Reader::open(&config.top.output_dir)?;
    let commits = args.commits.iter().map(|prefix| resolve(&reader, prefix)).collect::<Result<Vec<_>>>()?;
    let exported = results::export_tree(&reader, &args.dir, &commits)?;
    let results::Exported { commits, tests, files } = exported;
    print(&format!("{}: {commits} commits, {tests} tests, {files} logs and artifacts\n", args.dir.display()))
}

fn resolve(reader: &results::Reader, prefix: &str) -> Result<model::CommitId> {
    match reader.resolve_prefix(prefix)? {
        results::Resolved::One(commit) => Ok(commit),
        results::Resolved::None => {
            bail!("no results of a commit {prefix:?}; give at least 4 digits of its id")
        }
        results::Resolved::Many(commits) => {
            bail!("{} commits begin with {prefix}; give more digits of the id", commits.len())
        }
    }
}

fn backup(config: Option<&Path>, args: &BackupArgs) -> Result<()> {
    let (config, _) = config::load_lenient(&config::find(config)?)?;
    results::backup(&config.top.output_dir, &args.file)?;
    print(&format!(
        "{} is a copy of the database of {}\n",
        args.file.display(),
        config.top.output_dir.display()
    ))
}

fn audit(config: Option<&Path>, args: &AuditArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let (config, _) = config::load_lenient(&config::find(config)?)?;
    let (entries, invalid) = AuditLog::of(&config.top.output_dir)
        .read(args.number)
        .context("only the daemon's user can read the audit log")?;
    if invalid > 0 {
        tracing::warn!("{invalid} lines of the audit log are not entries");
    }
    if args.json {
        return print_json(&entries);
    }
    print(&entries.iter().map(|entry| format!("{entry}\n")).collect::<String>())
}

fn unlist(config: Option<&Path>, args: UnlistArgs) -> Result<()> {
    log_to_stderr("warn", None, LogFormat::Text);
    let path = config::find(config)?;
    // The branch may be in the file that cannot be read.
    let config = config::load(&path).context("no branch is dropped while the configuration is invalid")?;
    let going = unlist::check(&config, &args.branch)?;
    let message = if args.dry_run {
        format!("would drop {going}\n")
    } else {
        match runtime()?.block_on(unlist::unlist(
            &config.top.output_dir,
            config.top.compat_tree,
            args.branch,
        ))? {
            Unlisted::Now => format!("dropped {going}\n"),
            Unlisted::Requested => format!("requested; the running ci-daemon drops {going}\n"),
        }
    };
    print(&message)
}

fn problems(view: &View) -> Vec<String> {
    let config = placement::unserved(&view.config).into_iter();
    view.problems.iter().cloned().chain(config).chain(view.fetch_errors()).collect()
}

/// A job of the plan, as JSON.
#[derive(Debug, Serialize)]
struct PlanRow<'a> {
    value: i64,
    age: u32,
    nice: i64,
    #[serde(flatten)]
    niceness: Niceness,
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

impl<'a> From<&'a (PlannedJob, Niceness)> for PlanRow<'a> {
    fn from((job, niceness): &'a (PlannedJob, Niceness)) -> Self {
        Self {
            niceness: *niceness,
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

fn ktest_next_to_us() -> Result<PathBuf> {
    let own = std::env::current_exe()
        .context("cannot determine where ci-daemon is installed; give --ktest PATH")?;
    Ok(own.parent().unwrap_or(Path::new("/")).join("ktest"))
}

/// Children are killed when the thread that started them exits. The worker threads of this runtime live as long as the
/// runtime.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

fn print(text: &str) -> Result<()> {
    Ok(stdio::print(text)?)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    Ok(stdio::json(value)?)
}
