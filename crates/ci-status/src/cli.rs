//! The `ci-status` command: parse, wire, print. Exit codes: 0 answered; 1 no answer, said on stderr; 2 wrong usage.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::commands::{Answer, branches, compare, history, log, logs, show, workers};
use crate::problem::Problem;
use crate::source::Source;
use crate::text::Tame;

const EXAMPLES: &str = "\
Examples:
  ci-status branches                      what is tested, and how the newest commits stand
  ci-status log bcachefs-testing -n 20    a branch's commits; in a checkout without a name: HEAD's branch
  ci-status show 3f2a9c --failed          what failed at a commit; without a name: HEAD
  ci-status logs 3f2a9c punch_hole        a test's log (--full: of the whole VM run)
  ci-status history next punch_hole       since which commit a test fails
  ci-status compare v6.1 next             newly failing, newly passing, still failing
  ci-status log next --json | jq          everything as JSON

Exit codes: 0 answered, 1 no answer (stderr says why), 2 wrong usage.";

/// Shows what the farm has found out: branches, commits, tests, logs.
#[derive(Debug, Parser)]
#[command(name = "ci-status", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "For all commands")]
struct Place {
    /// The folder of results, instead of the configuration's output_dir.
    #[arg(long, global = true, value_name = "DIR", env = "KTEST_CI_OUTPUT_DIR", hide_env_values = true)]
    output_dir: Option<PathBuf>,
    /// The configuration [default: $KTEST_CI_CONFIG, ~/.ktest/ktest-ci.json5, /etc/ktest-ci.toml].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whose branches are meant [default: the configuration's user].
    #[arg(long, global = true, value_name = "USER")]
    user: Option<String>,
    /// Print JSON, of the shapes of the dashboard's &format=json.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List users and their branches, and how the newest commits stand.
    Branches,
    /// List a branch's commits with how their tests stand, newest first.
    Log {
        /// A branch, user/branch, or the beginning of either [default: the checkout's branch].
        branch: Option<String>,
        /// Show at most so many commits.
        #[arg(short = 'n', long, value_name = "NUMBER")]
        limit: Option<usize>,
        /// Count only tests whose name matches this regular expression.
        #[arg(long, value_name = "REGEX")]
        test: Option<String>,
    },
    /// Show a commit test by test, failures first.
    Show {
        /// The first digits of a commit, a branch, or a revision of the checkout [default: HEAD].
        #[arg(value_name = "SHA")]
        commit: Option<String>,
        /// Only tests that failed or could not be run.
        #[arg(long)]
        failed: bool,
        /// Only tests whose name matches this regular expression.
        #[arg(long, value_name = "REGEX")]
        test: Option<String>,
    },
    /// Print the log of a test.
    Logs {
        /// The first digits of a commit, a branch, or a revision of the checkout.
        #[arg(value_name = "SHA")]
        commit: String,
        /// A test, its beginning, or a part of it: fs.ext4.basic.punch, fs/ext4, punch.
        test: String,
        /// The log of the whole VM run that the test was in.
        #[arg(long)]
        full: bool,
    },
    /// Show what each executor of the farm does now.
    Workers,
    /// Show one test along a branch, and since which commit it fails.
    History {
        /// A branch, user/branch, or the beginning of either.
        branch: String,
        /// A test, its beginning, or a part of it.
        test: String,
    },
    /// Show what changed from one commit to another.
    Compare {
        /// The first digits of a commit, a branch, or a revision of the checkout.
        a: String,
        /// The same.
        b: String,
    },
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match print(&cli, i64::try_from(now).unwrap_or(i64::MAX)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has had enough.
        Err(Problem::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let style = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
            let _ = writeln!(anstream::stderr(), "{style}ci-status:{style:#} {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(cli: &Cli, now: i64) -> Result<(), Problem> {
    let folder = std::env::current_dir()?;
    match (&cli.command, cli.place.json, io::stdout().is_terminal()) {
        // A log is other people's bytes: as they are into a file or a pipe, harmless on a terminal.
        (Command::Logs { .. }, false, false) => respond(cli, folder, now, &mut io::stdout().lock()),
        (Command::Logs { .. }, false, true) => respond(cli, folder, now, &mut Tame::new(io::stdout().lock())),
        _ => respond(cli, folder, now, &mut io::BufWriter::new(anstream::stdout().lock())),
    }
}

/// Answers to a command line (the program's name first) in `folder` at `now` (Unix seconds), colours and all.
pub fn answer(
    arguments: impl IntoIterator<Item: Into<OsString> + Clone>,
    folder: PathBuf,
    now: i64,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    Ok(respond(&Cli::try_parse_from(arguments)?, folder, now, out)?)
}

fn respond(cli: &Cli, folder: PathBuf, now: i64, out: &mut dyn Write) -> Result<(), Problem> {
    let place = &cli.place;
    let source =
        Source::open(place.output_dir.as_deref(), place.config.as_deref(), place.user.clone(), folder, now)?;
    let answer = run(cli, &source)?;
    if place.json {
        writeln!(out, "{}", answer.json().map_err(io::Error::other)?)?;
    } else {
        answer.text(out)?;
    }
    Ok(out.flush()?)
}

fn run(cli: &Cli, source: &Source) -> Result<Box<dyn Answer>, Problem> {
    Ok(match &cli.command {
        Command::Branches => Box::new(branches::run(source, cli.place.user.as_deref())?),
        Command::Log { branch, limit, test } => {
            Box::new(log::run(source, branch.as_deref(), *limit, test.as_deref())?)
        }
        Command::Show { commit, failed, test } => {
            Box::new(show::run(source, commit.as_deref(), *failed, test.as_deref())?)
        }
        Command::Logs { commit, test, full } => Box::new(logs::run(source, commit, test, *full)?),
        Command::Workers => Box::new(workers::run(source)?),
        Command::History { branch, test } => Box::new(history::run(source, branch, test)?),
        Command::Compare { a, b } => Box::new(compare::run(source, a, b)?),
    })
}

/// The command line, for help texts, completions and tests.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}
