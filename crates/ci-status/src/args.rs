//! The command line and its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use model::HostOrSlot;

const EXAMPLES: &str = "\
Examples:
  ci-status branches                      all branches, and the state of their newest commits
  ci-status log bcachefs-testing -n 20    the commits of a branch (in a checkout: default HEAD's branch)
  ci-status show 3f2a9c --failed          what failed at a commit (in a checkout: default HEAD)
  ci-status show next --configuration arch=aarch64
                                          the tests of one test configuration, or of all with a value
  ci-status logs 3f2a9c punch             the log of a test, opened at the failure (--full: whole log)
  ci-status history next punch            the first bad commit of a test
  ci-status flaky next                    the flaky tests of a branch, with their failure rates
  ci-status crashes next                  the kernel crashes of a branch by title
  ci-status findings next                 what broke and what is fixed, newest first
  ci-status open 3f2a9c punch             a page of the dashboard, in the browser
  ci-status range-diff next               what a force-push changed, and which commits kept their results
  ci-status bisect punch -b next          find the first bad commit with runs on the farm
  ci-status believe punch next            run a test at the tip until its fix is believed
  ci-status compare v6.1 next             what broke, what was fixed, what fails on both sides
  git push ci HEAD && ci-status wait      wait until HEAD is tested or one of its tests fails
  ci-status watch next                    a branch, live
  ci-status --remote=https://ci.example.org log next
  ci-status log next --json | jq          every command has JSON output

Results are read from --output-dir, from --remote, or from the output_dir of the configuration; if that does not
exist, from its ci_url. Without a configuration, $KTEST_CI_URL is the address.

Exit codes: 0 success, 1 error, 2 usage error. wait and believe have others, see their --help.";

const WAIT: &str = "\
Exit codes: 0 all tests passed, were skipped or are flaky, 1 a test failed, 2 usage error, 125 no verdict: the build failed,
nothing will test it, or timed out. These are the codes for `git bisect run ci-status wait HEAD`.";

const BISECT: &str = "\
Examples:
  ci-status bisect punch                  find the first bad commit of a test of HEAD's branch
  ci-status bisect punch -b next          the same on another branch
  ci-status bisect punch 3f2a9c..f7da08 -b next
                                          the same between these commits, for a test that fails only sometimes
  ci-status bisect                        the bisections of the farm
  ci-status bisect --json | jq '.[].culprit'
  ci-status bisect --cancel ID

The farm chooses the commits to run. The verdicts that it has are the first evidence. A test that fails only sometimes is run as
often as needed, and the result is verified in new VMs.";

/// Examples of the commands that stop and resume.
const DRAIN: &str = "\
Examples:
  ci-status drain farm1 --reason \"new disk\"    # no new batches on farm1
  ci-status workers                            # who drained what, and why
  ci-status resume farm1
  ci-status cancel farm1/3                     # the batch that runs there
  ci-status pause kmo/next                     # no further tests of the branch
  ci-status --dashboard https://ci.example.org --token-file ~/.ktest/rerun-token drain farm1

The request is written for ci-daemon, which takes it within two seconds. On another machine it is sent through the dashboard, with the
token for reruns. What is drained and paused stays so when ci-daemon restarts.";

const BELIEVE: &str = "\
Examples:
  ci-status believe punch                 run a test at the tip of HEAD's branch until its fix is believed
  ci-status believe punch next --wait     the same on another branch; print \"7 of 33 runs\" until it ends
  ci-status believe punch --confidence 99
  ci-status believe                       the claims of the farm
  ci-status believe --json | jq '.[] | {test, state, fix}'
  ci-status believe --cancel ID

The number of runs follows from how often the test failed before: 1 of 1 needs 5 passes, 3 of 25 need 33.
The passes that the farm has are counted, only the missing ones run. A failure with the same crash title or
reason ends the claim.

Exit codes with --wait: 0 fixed, 1 not fixed, 2 usage error, 125 not proven.";

/// Query CI results from a terminal.
#[derive(Debug, Parser)]
#[command(name = "ci-status", version = model::build::version(), propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalOptions,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalOptions {
    /// Read results from this directory instead of the configuration's output_dir.
    #[arg(long, global = true, value_name = "DIR", env = "KTEST_CI_OUTPUT_DIR", hide_env_values = true)]
    pub output_dir: Option<PathBuf>,
    /// Read results from a dashboard [default URL: the configuration's ci_url].
    #[arg(long, global = true, value_name = "URL", num_args = 0..=1, require_equals = true,
        default_missing_value = "", conflicts_with = "local")]
    pub remote: Option<String>,
    /// The same as --remote=URL, as in the ci-status of the ktest system.
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["remote", "local"])]
    pub dashboard: Option<String>,
    /// Look commits up on this branch; the default of BRANCH and, with its newest tested commit, of SHA.
    #[arg(short = 'b', long = "branch", global = true, value_name = "BRANCH")]
    pub on_branch: Option<String>,
    /// Use local results even if the configuration has a ci_url.
    #[arg(long, global = true)]
    pub local: bool,
    /// Read this configuration [default: $KTEST_CI_CONFIG, ~/.ktest/ktest-ci.json5, /etc/ktest-ci.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Owner of the branch [default: the configuration's user]. With --remote, read only the dashboard's JSON API.
    #[arg(short, long, global = true, value_name = "USER")]
    pub user: Option<model::UserName>,
    /// Fail if a request to a dashboard takes longer than this time: 30s, 5m.
    #[arg(long, global = true, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "60s")]
    pub timeout: Duration,
    /// Send the token in this file to the dashboard's server (Authorization: Bearer), for a server that requires a log-in.
    #[arg(long, global = true, value_name = "FILE", env = "KTEST_CI_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// Print JSON, same schema as the dashboard's &format=json.
    #[arg(long, global = true)]
    pub json: bool,
    /// Do not use $PAGER (less) for long output.
    #[arg(long, global = true)]
    pub no_pager: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List users, their branches, and the state of the newest commits.
    Branches,
    /// List a branch's commits with test counts, newest first.
    Log {
        /// A branch, user/branch, or the beginning of either [default: HEAD's branch].
        branch: Option<String>,
        /// Show at most N commits.
        #[arg(short = 'n', long, value_name = "N")]
        limit: Option<usize>,
        /// Count only tests with a name that matches REGEX.
        #[arg(long, value_name = "REGEX")]
        test: Option<String>,
        /// Count only tests in this configuration ("aarch64, kasan", default), or in those with these values
        /// (arch=aarch64,flavor=). Names of values: arch, flavor, kernel, image, variant, and of variables.
        #[arg(long, value_name = "NAME|KEY=VALUE,...", value_parser = NonEmptyStringValueParser::new())]
        configuration: Option<String>,
    },
    /// Show a commit test by test, failures first.
    Show {
        /// The first digits of a commit, a branch, or a revision of the checkout [default: HEAD].
        #[arg(value_name = "SHA")]
        commit: Option<String>,
        /// Show only tests that failed or failed to run.
        #[arg(long)]
        failed: bool,
        /// Show only tests with a name that matches REGEX.
        #[arg(long, value_name = "REGEX")]
        test: Option<String>,
        /// Show only tests in this configuration ("aarch64, kasan", default), or in those with these values
        /// (arch=aarch64,flavor=). Names of values: arch, flavor, kernel, image, variant, and of variables.
        #[arg(long, value_name = "NAME|KEY=VALUE,...", value_parser = NonEmptyStringValueParser::new())]
        configuration: Option<String>,
    },
    /// Print the log of a test; if it failed, only the crash report or the lines above the failure.
    Logs {
        /// The first digits of a commit, a branch, or a revision of the checkout.
        #[arg(value_name = "SHA")]
        commit: String,
        /// A test, its beginning, or a part of it: fs.ext4.basic.punch, fs/ext4, punch.
        test: String,
        /// Print the whole log.
        #[arg(long)]
        full: bool,
        /// Print the log of the whole VM run.
        #[arg(long)]
        machine: bool,
        /// Continue while the log grows, until the test ends.
        #[arg(short, long)]
        follow: bool,
    },
    /// List the artifacts of a test, or copy them.
    Artifacts {
        /// The first digits of a commit, a branch, or a revision of the checkout.
        #[arg(value_name = "SHA")]
        commit: String,
        /// A test, its beginning, or a part of it.
        test: String,
        /// List or copy only these artifacts.
        #[arg(value_name = "FILE")]
        names: Vec<String>,
        /// Copy the artifacts to DIR/TEST.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Show what each worker of the farm does.
    Workers,
    /// Show one test along a branch, and its first bad commit.
    History {
        /// A branch, user/branch, or the beginning of either.
        branch: String,
        /// A test, its beginning, or a part of it.
        test: String,
    },
    /// List the flaky tests of a branch, with their failure rates over the newest 100 tested commits.
    Flaky {
        /// A branch, user/branch, or the beginning of either [default: HEAD's branch].
        branch: Option<String>,
    },
    /// List the kernel crashes of a branch by title, with the tests that each hit.
    Crashes {
        /// A branch, user/branch, or the beginning of either [default: HEAD's branch].
        branch: Option<String>,
    },
    /// List what broke and what is fixed, newest first, once each.
    #[command(after_help = "\
Examples:
  ci-status findings                       those of all branches and of the farm
  ci-status findings next -n 5             the newest 5 of a branch
  ci-status findings --json | jq '.[] | select(.kind == \"broke\") | .signature'")]
    Findings {
        /// A branch, user/branch, or the beginning of either [default: all branches, and the farm].
        branch: Option<String>,
        /// Show at most N findings.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Answer a check of b4: read a patch as a mail from standard input, print its results as JSON.
    ///
    /// The patch is found on the branches of the farm by its Message-ID (a trailer Link: or Message-ID: of the commit), or by its
    /// subject.
    #[command(
        name = "check-b4",
        after_help = "\
Examples:
  git config b4.review-perpatch-check-cmd 'ci-status --dashboard https://ci.example.org check-b4'
  ci-status check-b4 < patch.eml

Output: [{\"tool\": \"ktest\", \"status\": \"pass\"|\"warn\"|\"fail\", \"summary\", \"url\", \"details\"}]; [] for a
message without a patch. If the results cannot be read, the status is warn: that is no fault of the patch."
    )]
    CheckB4,
    /// List the senders of findings, send a finding, or send a test message; on the machine of ci-daemon.
    #[command(
        subcommand,
        after_help = "\
Examples:
  ci-status notify list                    how far each sender is, and its error
  ci-status notify send 3f2a9c             forward a moderated mail to its recipients
  ci-status notify test kernel-list        check the settings of a sender"
    )]
    Notify(Notify),
    /// Open a page of the dashboard in the browser, and print its address.
    ///
    /// The browser is $BROWSER or xdg-open. Without a terminal or a browser, only the address is printed.
    #[command(after_help = "\
Examples:
  ci-status open next                      the page of a branch
  ci-status open 3f2a9c punch              a test, opened at the failure
  ci-status open 3f2a9c | cat              only the address")]
    Open {
        /// A branch, or the first digits of a commit [default: the start page].
        name: Option<String>,
        /// A test at the commit.
        test: Option<String>,
    },
    /// Show the commits of a branch before and after a force-push, and which kept their results.
    RangeDiff {
        /// A branch, user/branch, or the beginning of either [default: HEAD's branch].
        branch: Option<String>,
        /// The force-push with this old tip, or the first digits of it [default: the newest].
        #[arg(long, value_name = "SHA")]
        of: Option<String>,
    },
    /// Show what changed from one commit to another.
    Compare {
        /// The first digits of a commit, a branch, or a revision of the checkout.
        base: String,
        /// Like BASE; usually the newer commit.
        head: String,
    },
    /// Wait until a commit is tested or one of its tests fails.
    #[command(after_help = WAIT)]
    Wait {
        /// The first digits of a commit, a branch (its tip), or a revision of the checkout [default: HEAD].
        #[arg(value_name = "SHA|BRANCH")]
        commit: Option<String>,
        /// Wait for all verdicts, not only until the first failure.
        #[arg(long)]
        all: bool,
        /// Time out after this time: 90s, 20m, 2h.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        limit: Option<Duration>,
        /// Count flaky failures and the failures of known-issues.toml as failures.
        #[arg(long)]
        strict: bool,
    },
    /// Show a branch's newest commits and their workers, live; q quits.
    Watch {
        /// A branch, user/branch, or the beginning of either [default: HEAD's branch].
        branch: Option<String>,
        /// Print once and exit.
        #[arg(long)]
        once: bool,
    },
    /// Request a rerun of a test; the first verdict stays, the new one is shown next to it.
    Rerun {
        /// The first digits of a commit, a branch, or a revision of the checkout.
        #[arg(value_name = "SHA")]
        commit: String,
        /// A test, its beginning, or a part of it.
        test: String,
    },
    /// Find the first bad commit of a test on the farm, or list the bisections of the farm.
    #[command(after_help = BISECT)]
    Bisect {
        /// A test, its beginning, or a part of it.
        test: Option<String>,
        /// The test passes at BASE and fails at HEAD [default: the newest pass before the newest failures, and the oldest of
        /// these failures].
        #[arg(value_name = "BASE..HEAD")]
        range: Option<String>,
        /// End the bisection with this id without a result.
        #[arg(long, value_name = "ID", conflicts_with = "test")]
        cancel: Option<String>,
    },
    /// Run a test at the tip of a branch until its fix is believed, or list the claims of the farm.
    #[command(after_help = BELIEVE)]
    Believe {
        /// A test, its beginning, or a part of it.
        test: Option<String>,
        /// A branch, user/branch, or the beginning of either [default: HEAD's branch].
        branch: Option<String>,
        /// The confidence in percent: 50 to 99.
        #[arg(long, value_name = "PERCENT", default_value_t = 95, value_parser = clap::value_parser!(u8).range(50..=99))]
        confidence: u8,
        /// Wait until the claim ends, and print its progress.
        #[arg(long, requires = "test")]
        wait: bool,
        /// End the claim with this id without a result.
        #[arg(long, value_name = "ID", conflicts_with = "test")]
        cancel: Option<String>,
    },
    #[command(flatten)]
    Control(Control),
    /// Not supported; users' files are copied with scp.
    #[command(hide = true)]
    PullConfig,
    /// Not supported; users' files are copied with scp.
    #[command(hide = true)]
    PushConfig,
    /// Print shell completions.
    #[command(after_help = "Example: ci-status completions bash > /etc/bash_completion.d/ci-status")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// What to do with senders of findings.
#[derive(Debug, Subcommand)]
pub enum Notify {
    /// List the senders: how far each is, what it sent, and its error.
    List,
    /// Send a finding now. A mail goes to its recipients, moderated or not.
    Send {
        /// The first digits of the id of a finding.
        id: String,
        /// The sender, as in [notify.NAME] [default: all that take findings of this kind].
        #[arg(value_name = "NAME")]
        sender: Option<String>,
    },
    /// Send a message without a finding, to the operator if mails are moderated.
    Test {
        /// The sender, as in [notify.NAME].
        #[arg(value_name = "NAME")]
        sender: String,
    },
}

/// The commands that stop and resume.
#[derive(Debug, Subcommand)]
pub enum Control {
    /// Start no new batches on a host or slot; what runs there finishes.
    #[command(after_help = DRAIN)]
    Drain {
        /// A host, or one of its slots: farm1, farm1/3.
        #[arg(value_name = "HOST[/SLOT]")]
        place: HostOrSlot,
        /// Why; shown on the status page.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Start batches on a drained host or slot again, or run the tests of a paused branch again.
    #[command(after_help = DRAIN)]
    Resume {
        /// A host, a slot, or a branch: farm1, farm1/3, kmo/next.
        #[arg(value_name = "HOST[/SLOT]|BRANCH")]
        what: String,
    },
    /// Stop the batch of a slot. Its tests without a verdict get the verdict Failed to run, which a rerun replaces.
    #[command(after_help = DRAIN)]
    Cancel {
        /// The slot: farm1/3.
        #[arg(value_name = "HOST/SLOT")]
        slot: HostOrSlot,
    },
    /// Run no further tests of a branch; what runs finishes.
    #[command(after_help = DRAIN)]
    Pause {
        /// A branch, user/branch, or the beginning of either.
        branch: String,
        /// Why; shown on the status page.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}
