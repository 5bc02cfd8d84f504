//! The command line as types: what may be said, and its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  ci-status branches                      what is tested, and how the newest commits stand
  ci-status log bcachefs-testing -n 20    a branch's commits; in a checkout without a name: HEAD's branch
  ci-status show 3f2a9c --failed          what failed at a commit; without a name: HEAD
  ci-status logs 3f2a9c punch_hole        a test's log, opened at the failure (--full: all of it)
  ci-status history next punch_hole       since which commit a test fails
  ci-status compare v6.1 next             newly failing, newly passing, still failing
  git push ci HEAD && ci-status wait      until HEAD is tested or a test of it failed
  ci-status watch next                    a branch, live
  ci-status --remote=https://ci.example.org log next
  ci-status log next --json | jq          everything as JSON

Results come from --output-dir, --remote, or the configuration: its output_dir, or its ci_url where that is on
another machine. Without a configuration, $KTEST_CI_URL is the address.

Exit codes: 0 answered, 1 no answer (stderr says why), 2 wrong usage. wait has its own.";

const WAIT: &str = "\
Exit codes: 0 all passed or not applicable, 1 a test failed, 2 wrong usage, 125 nothing could be judged: it does not
build, nobody tests it, or the time was up. So `git bisect run ci-status wait HEAD` works as it stands.";

/// Shows what the farm has found out: branches, commits, tests, logs.
#[derive(Debug, Parser)]
#[command(name = "ci-status", version = model::build::version(), propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "For all commands")]
pub struct Place {
    /// The folder of results, instead of the configuration's output_dir.
    #[arg(long, global = true, value_name = "DIR", env = "KTEST_CI_OUTPUT_DIR", hide_env_values = true)]
    pub output_dir: Option<PathBuf>,
    /// The dashboard at this address instead of a folder [default address: the configuration's ci_url].
    #[arg(long, global = true, value_name = "URL", num_args = 0..=1, require_equals = true,
        default_missing_value = "", conflicts_with = "local")]
    pub remote: Option<String>,
    /// Results on this machine only, also where the configuration has a ci_url.
    #[arg(long, global = true)]
    pub local: bool,
    /// The configuration [default: $KTEST_CI_CONFIG, ~/.ktest/ktest-ci.json5, /etc/ktest-ci.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Whose branches are meant [default: the configuration's user]; of a dashboard the JSON views alone are used.
    #[arg(long, global = true, value_name = "USER")]
    pub user: Option<model::UserName>,
    /// Print JSON, of the shapes of the dashboard's &format=json.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print long answers at once, not in $PAGER (less).
    #[arg(long, global = true)]
    pub no_pager: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
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
    /// Print the log of a test; of one that failed, the crash report or the lines above the failure.
    Logs {
        /// The first digits of a commit, a branch, or a revision of the checkout.
        #[arg(value_name = "SHA")]
        commit: String,
        /// A test, its beginning, or a part of it: fs.ext4.basic.punch, fs/ext4, punch.
        test: String,
        /// All of the log, not only what is around the failure.
        #[arg(long)]
        full: bool,
        /// The log of the whole VM run that the test was in.
        #[arg(long)]
        machine: bool,
        /// Go on while the test runs and its log grows.
        #[arg(short, long)]
        follow: bool,
    },
    /// List the files that a test left behind, or copy them.
    Artifacts {
        /// The first digits of a commit, a branch, or a revision of the checkout.
        #[arg(value_name = "SHA")]
        commit: String,
        /// A test, its beginning, or a part of it.
        test: String,
        /// Only these files.
        #[arg(value_name = "FILE")]
        names: Vec<String>,
        /// Copy them into this folder, below the test's name.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
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
    /// Wait until a commit is tested, or a test of it failed.
    #[command(after_help = WAIT)]
    Wait {
        /// The first digits of a commit, a branch (its tip), or a revision of the checkout [default: HEAD].
        #[arg(value_name = "SHA|BRANCH")]
        commit: Option<String>,
        /// Wait for every verdict, also after the first failure.
        #[arg(long)]
        all: bool,
        /// Wait no longer than this: 90s, 20m, 2h.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        limit: Option<Duration>,
    },
    /// Show a branch's newest commits and who works on them, live; q ends it.
    Watch {
        /// A branch, user/branch, or the beginning of either [default: the checkout's branch].
        branch: Option<String>,
        /// Print it once and end.
        #[arg(long)]
        once: bool,
    },
    /// Ask the ci-daemon of this machine to run a test again; the first verdict stands, the new one is kept beside it.
    Rerun {
        /// The first digits of a commit, a branch, or a revision of the checkout.
        #[arg(value_name = "SHA")]
        commit: String,
        /// A test, its beginning, or a part of it.
        test: String,
    },
    /// Print the completions of a shell.
    #[command(after_help = "Example: ci-status completions bash > /etc/bash_completion.d/ci-status")]
    Completions {
        /// Which.
        shell: Shell,
    },
}
