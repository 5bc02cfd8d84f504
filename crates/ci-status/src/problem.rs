//! Why a command fails: one line that states what failed, where, and what to do.

use std::io;
use std::path::PathBuf;

use config::{Choices, Hint};
use model::{CommitId, ResultKey};

/// The target of a redirect.
fn from(url: &str, address: &str) -> String {
    if url == address { String::new() } else { format!(" at {address}") }
}

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The results cannot be read.
    #[error(transparent)]
    Results(#[from] results::Error),
    /// The configuration cannot be read.
    #[error("{0}; or give the results with --output-dir or --remote")]
    Config(#[from] config::ConfigError),
    /// A dashboard cannot be reached, or its response cannot be used.
    #[error("{url}: {reason}; check --remote, and that the dashboard runs")]
    Remote {
        /// The address.
        url: String,
        /// What failed.
        reason: String,
    },
    /// A web page instead of JSON or a file. It is often the log-in page of a proxy.
    #[error(
        "{url}: the response is a web page {title:?}{}; if it is a log-in page, give a token of the server with --token-file, or an address that requires no log-in",
        from(url, address)
    )]
    WebPage {
        /// The address of the request.
        url: String,
        /// The address of the page, after redirects.
        address: String,
        /// Its title.
        title: String,
    },
    /// The certificate of a dashboard does not prove its identity.
    #[error("{url}: {reason}")]
    Certificate {
        /// The address.
        url: String,
        /// What is wrong with it, and how to fix it.
        reason: String,
    },
    /// The response is not from a dashboard: a log-in page, a captive portal, a proxy.
    #[error("{url}: {reason}")]
    Foreign {
        /// The address, after redirects.
        url: String,
        /// What it is, and what to do.
        reason: String,
    },
    /// The file of `--token-file` cannot be used.
    #[error("--token-file: {0}")]
    TokenFile(#[from] fsx::secret::SecretError),
    /// The token cannot be sent in a header.
    #[error(
        "--token-file: the token contains characters that a header cannot have; write the token alone into the file"
    )]
    TokenText,
    /// The value of `--remote` is not an address.
    #[error("--remote {address:?}: {reason}; give the address of a dashboard: https://ci.example.org")]
    Address {
        /// The value.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `--remote` without a value, and no `ci_url`.
    #[error("--remote: the configuration has no ci_url; give the address: --remote=https://ci.example.org")]
    NoAddress,
    /// No address of a dashboard is known.
    #[error("no dashboard is known; set ci_url in the configuration or give --remote=URL")]
    NoDashboard,
    /// There are no branches at all.
    #[error("no branch has results yet; ci-daemon lists a branch after its first fetch")]
    NoBranches,
    /// The force-pushes of a branch cannot be read.
    #[error(transparent)]
    Pushes(#[from] results::pushes::PushesError),
    /// No force-push.
    #[error("no force-push of {0} is recorded")]
    NoPush(model::BranchRef),
    /// No such force-push.
    #[error(
        "no force-push of {branch} has an old tip that begins with {of:?}; ci-status range-diff {branch} lists them"
    )]
    NoSuchPush {
        /// The branch.
        branch: model::BranchRef,
        /// The digits that were given.
        of: String,
    },
    /// No such user.
    #[error("no user \"{name}\"{nearest}")]
    NoUser {
        /// The name that was given.
        name: model::UserName,
        /// The users.
        nearest: Hint,
    },
    /// The daemon and its results are elsewhere.
    #[error("ci-daemon sends findings; run this on its machine, with --local or --output-dir")]
    NotifyIsLocal,
    /// The message on standard input cannot be read.
    #[error("standard input: {0}")]
    Input(std::io::Error),
    /// It is not a mail.
    #[error("standard input is no mail of at most 16 MiB: ci-status check-b4 < patch.eml")]
    NoMail,
    /// No such finding.
    #[error("no finding has an id that begins with {0:?}, or several have; ci-status findings lists them")]
    NoFinding(String),
    /// No such sender.
    #[error("ci-daemon has no sender {name:?}{nearest}; ci-status notify list lists them")]
    NoSender {
        /// The name that was given.
        name: String,
        /// The senders.
        nearest: Hint,
    },
    /// No such branch.
    #[error("no branch {name:?}{nearest}")]
    NoBranch {
        /// The name that was given.
        name: String,
        /// The branches.
        nearest: Hint,
    },
    /// Several branches match.
    #[error("{name:?} matches several branches; give one of: {choices}")]
    ManyBranches {
        /// The name that was given.
        name: String,
        /// The branches that match.
        choices: Choices,
    },
    /// The name is neither a commit with results nor a branch nor a revision.
    #[error(
        "no results for {name:?}; give the first digits of a commit (at least 4) or a branch (ci-status branches lists them)"
    )]
    NoCommit {
        /// The name that was given.
        name: String,
    },
    /// The commit of the checkout has no results.
    #[error("no results for {revision} ({}); check that a tracked branch has it (ci-status branches lists them)", commit.short())]
    NoResults {
        /// The revision that was given.
        revision: String,
        /// Its commit.
        commit: CommitId,
    },
    /// Several commits match.
    #[error("{name:?} matches several commits; give one of: {choices}")]
    ManyCommits {
        /// The digits that were given.
        name: String,
        /// The commits that match.
        choices: Choices,
    },
    /// No such test.
    #[error("no test {name:?} at {place}{nearest}")]
    NoTest {
        /// The name that was given.
        name: String,
        /// The commit or branch that was searched.
        place: String,
        /// The tests there.
        nearest: Hint,
    },
    /// No such test configuration.
    #[error("no test configuration {name:?}{nearest}")]
    NoConfiguration {
        /// The name that was given.
        name: String,
        /// The configurations there are.
        nearest: Hint,
    },
    /// Several tests match.
    #[error("{name:?} matches several tests; give one of: {choices}")]
    ManyTests {
        /// The name that was given.
        name: String,
        /// The tests that match.
        choices: Choices,
    },
    /// There is no argument, and no checkout to take a default from.
    #[error("no {argument} given and {} is not inside a git checkout{nearest}", directory.display())]
    NoCheckout {
        /// The name of the argument in the help.
        argument: &'static str,
        /// The current directory.
        directory: PathBuf,
        /// The names that could be given.
        nearest: Hint,
    },
    /// There is no argument, and HEAD of the checkout cannot be read.
    #[error("no {argument} given and HEAD cannot be read: {reason}")]
    Head {
        /// The name of the argument in the help.
        argument: &'static str,
        /// What failed.
        reason: gitio::GitError,
    },
    /// There is no argument, and HEAD of the checkout is detached.
    #[error(
        "no BRANCH given and HEAD of the checkout is detached; give a branch (ci-status branches lists them)"
    )]
    Detached,
    /// The value of `--test` is not a regular expression.
    #[error("--test {pattern:?} is not a regular expression: {reason}")]
    Regex {
        /// The value.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The test has no log.
    #[error("{key} at {} has no {kind} ({status}){hint}", commit.short())]
    NoLog {
        /// The test.
        key: ResultKey,
        /// The commit.
        commit: CommitId,
        /// The kind of log.
        kind: &'static str,
        /// Its status and reason.
        status: String,
        /// A hint to another log that may exist.
        hint: &'static str,
    },
    /// Nothing will test the commit.
    #[error("{} is not tested and ci-daemon is not running; start ci-daemon", commit.short())]
    NotTested {
        /// The commit.
        commit: CommitId,
    },
    /// The time limit has passed.
    #[error("{} is not completely tested after {after}: {progress}", commit.short())]
    Timeout {
        /// The commit.
        commit: CommitId,
        /// The time limit.
        after: String,
        /// What is done and what is left.
        progress: String,
    },
    /// A live view without a terminal.
    #[error("watch needs a terminal; use --once, --json, or wait in scripts")]
    NoTerminal,
    /// A command of the ktest system that is not supported.
    #[error(
        "configurations are not copied by ci-status; copy USER.json5 or USER.toml from and to users_dir on the daemon's \
         machine, for example with scp, and validate it there with ci-daemon check"
    )]
    NoConfigCopy,
    /// A request without the token for requests.
    #[error(
        "{0}: the server wants its token for reruns; save it in a file of mode 600 and give --token-file FILE"
    )]
    NoToken(String),
    /// A dashboard that takes no requests.
    #[error(
        "{0}: this dashboard takes no requests; start it with --rerun-token-file, or run the command on the machine of the daemon"
    )]
    NoRequests(String),
    /// A test that cannot be bisected.
    #[error("{key} is not bisected: {reason}")]
    Bisect {
        /// The test.
        key: ResultKey,
        /// The reason.
        reason: String,
    },
    /// No such bisection.
    #[error("no bisection {0:?} is running; ci-status bisect lists them")]
    NoBisection(String),
    /// A fix that cannot be proved.
    #[error("{key} is not run: {reason}")]
    Believe {
        /// The test.
        key: ResultKey,
        /// The reason.
        reason: String,
    },
    /// Nothing is stopped or resumed.
    #[error("{0}; ci-status workers lists hosts, slots and branches")]
    NotControlled(#[from] regress::request::NotControlled),
    /// No such claim.
    #[error("no claim {0:?} is running; ci-status believe lists them")]
    NoClaim(String),
    /// A request file cannot be written.
    #[error("{}: cannot write the request for ci-daemon: {reason}", path.display())]
    Request {
        /// The directory.
        path: PathBuf,
        /// What failed.
        reason: io::Error,
    },
    /// No such artifact.
    #[error("{key} at {} has no artifact {name:?}{nearest}", commit.short())]
    NoArtifact {
        /// The test.
        key: ResultKey,
        /// The commit.
        commit: CommitId,
        /// The name that was given.
        name: String,
        /// The artifacts of the test.
        nearest: Hint,
    },
    /// There is no status snapshot.
    #[error("no ci-daemon has written here yet; start ci-daemon")]
    NoSnapshot,
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// Standard output cannot be written.
    #[error(transparent)]
    Stdout(#[from] stdio::OutputError),
}
