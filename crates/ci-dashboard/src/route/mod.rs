//! Addresses: parses the path and query of a request into a view, and builds links to views.
//!
//! Pages link to the addresses in docs/formats.md; the shorter ones (`/u/...`) are equivalent. Commits, result keys and
//! the names of users and branches are parsed here.

mod control;
mod links;
mod query;
mod table;

pub use model::BranchRef;
use model::{CommitId, ResultKey, Status, UserName};

pub use self::control::{ControlAction, ControlWords};
pub use self::links::{Links, with_parameter};
pub use self::table::{ROOTS, parse};
use crate::http::request::DecodeError;

/// The format of a view: the parameter `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A page.
    #[default]
    Html,
    /// `format=json`.
    Json,
    /// `format=atom`: a feed of the commits of a branch that broke tests.
    Atom,
    /// `format=badge`: an image with the state of a branch.
    Badge,
}

/// The branches of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BranchesQuery {
    /// The filter for `user/branch`.
    pub find: Option<String>,
    /// The page, from 0 on.
    pub page: usize,
}

/// The part of a table that a page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableQuery {
    /// `sort=COLUMN`: the order of the rows.
    pub sort: Option<String>,
    /// `page=N`, from 0.
    pub page: usize,
}

impl TableQuery {
    /// The address of the first page in this order.
    pub fn address(&self, table: String) -> String {
        match &self.sort {
            Some(sort) => with_parameter(&table, "sort", sort),
            None => table,
        }
    }
}

/// The view that a request selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// All users with their branches.
    Home(BranchesQuery),
    /// The branches of a user.
    User(UserName, BranchesQuery),
    /// The commits of a branch.
    Branch {
        /// The branch.
        at: BranchRef,
        /// `test=REGEX`: count only these tests.
        test: Option<String>,
        /// `config=NAME`: count only tests in these configurations.
        config: Option<String>,
        /// `from=COMMIT`: the first commit of the page.
        from: Option<CommitId>,
        /// `untested`: the JSON view also lists commits without results.
        untested: bool,
    },
    /// The crashes on a branch, by title.
    Crashes(BranchRef, TableQuery),
    /// What the commits of a branch broke and fixed.
    Changes(BranchRef),
    /// The flaky tests of a branch.
    Flaky(BranchRef, TableQuery),
    /// The findings of a branch; the page, from 0.
    Findings(BranchRef, usize),
    /// The test files in all configurations at a commit, or at the newest commit of a branch with results.
    Matrix {
        /// The commit.
        of: CommitOrBranch,
        /// `file=`: only the subtests of this test file.
        file: Option<String>,
        /// `page=N`, from 0.
        page: usize,
    },
    /// The tests of a branch at its newest commits.
    Grid {
        /// The branch.
        at: BranchRef,
        /// `test=REGEX`.
        test: Option<String>,
        /// `config=NAME`.
        config: Option<String>,
        /// `page=N`, from 0.
        page: usize,
    },
    /// The commits of a branch before and after a force-push.
    RangeDiff {
        /// The branch.
        at: BranchRef,
        /// `range-diff=OLD`: the push with this old tip; `None` for the newest.
        of: Option<CommitId>,
    },
    /// The comparison of two commits, or of the tips of two branches.
    Compare(CompareRoute),
    /// The results of one test on the commits of a branch.
    History {
        /// The branch.
        at: BranchRef,
        /// The test.
        key: ResultKey,
        /// `from=COMMIT`: the first commit of the page.
        from: Option<CommitId>,
        /// The order of the rows, and the page if they do not have the order of the commits.
        part: TableQuery,
    },
    /// A commit with its tests.
    Commit(CommitRoute),
    /// A test at a commit: its verdict and its log.
    Test(TestRoute),
    /// The coverage of the kernel's source at a commit.
    Coverage {
        /// The commit.
        sha: CommitId,
        /// `path=`: a directory or file of the source; empty means all.
        path: String,
        /// `file=`: only the coverage of this test file; empty means all.
        test: String,
    },
    /// The builds of the kernels of a commit.
    Build {
        /// The commit.
        sha: CommitId,
        /// `kernel=`: only the kernel with this architecture and flavor; `None` means all.
        kernel: Option<String>,
    },
    /// The lines of a growing log as events.
    Follow {
        /// The commit.
        sha: CommitId,
        /// The test.
        key: ResultKey,
        /// `log=full`: the full console log.
        full: bool,
        /// `from=BYTES:LINES`: the position up to which the client has the log.
        from: Option<String>,
    },
    /// A commit, by an abbreviated id or another revision.
    Revision {
        /// The revision.
        text: String,
        /// The branch on which it is shown, if the address contains one.
        at: Option<BranchRef>,
        /// `test=REGEX`.
        test: Option<String>,
    },
    /// The live status. `sort=COLUMN`: the order of one of its tables.
    Status(Option<String>),
    /// A published file, unchanged.
    File(FileRoute),
    /// A style sheet, script or image of the pages.
    Asset(String),
    /// The health check.
    Health,
    /// Metrics for Prometheus.
    Metrics,
    /// The description of the JSON views.
    OpenApi,
    /// `POST` only: makes ci-daemon fetch now.
    Hook,
    /// The form with which an operator stops or resumes something; with `POST`, the action.
    Control(ControlRoute),
    /// `POST` only: requests of programs.
    Requests,
    /// The state of a request: the name of its file.
    RequestState(String),
    /// The newest bisections.
    Bisections,
    /// The newest claims.
    Claims,
    /// The newest findings of all branches and of the farm.
    AllFindings,
    /// `POST` only: requests a rerun. The names are parsed after the token has been checked.
    Rerun {
        /// The commit.
        sha: String,
        /// The test.
        key: String,
    },
}

/// The two sides of a comparison as the client specifies them: commits, abbreviated commit ids, or branches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompareRoute {
    /// The owner of branches that are given without a user.
    pub user: Option<UserName>,
    /// The older side; empty if it has not been chosen yet.
    pub base: String,
    /// The newer side; empty if it has not been chosen yet.
    pub head: String,
    /// `test=REGEX`.
    pub test: Option<String>,
    /// `kind=FIELD`: only one kind of changes.
    pub kind: Option<String>,
    /// `page=N`, from 0, of one kind.
    pub page: usize,
}

/// An action of an operator, as the address prepares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRoute {
    /// `do=`: the action.
    pub action: ControlAction,
    /// `at=`: the host, slot or branch.
    pub at: String,
    /// `batch=`: the start of the batch to cancel, in Unix seconds.
    pub batch: Option<i64>,
}

/// What a matrix is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOrBranch {
    /// A commit.
    Commit(CommitId),
    /// The newest commit of a branch with results.
    Branch(BranchRef),
}

/// A commit and a selection of its tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRoute {
    /// The commit.
    pub sha: CommitId,
    /// The branch on which it is shown, if the address contains one.
    pub at: Option<BranchRef>,
    /// `test=REGEX`.
    pub test: Option<String>,
    /// `config=NAME`: only tests in these configurations.
    pub config: Option<String>,
    /// `status=FIELD`.
    pub status: Option<Status>,
    /// `reason=TEXT`: only tests with this reason, as the page has it.
    pub reason: Option<String>,
    /// `page=N`, from 0.
    pub page: usize,
}

/// A test at a commit and a part of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRoute {
    /// The commit.
    pub sha: CommitId,
    /// The test.
    pub key: ResultKey,
    /// `line=N`: the page of the log that contains this line.
    pub line: Option<usize>,
    /// `log=full`: the full console log.
    pub full: bool,
    /// `find=REGEX`: only the lines that match.
    pub find: Option<String>,
}

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileRoute {
    /// `/c/<sha>.capnp`
    Commit(CommitId),
    /// `/c/ci-daemon-status.json`
    Snapshot,
    /// `/c/bisect/<id>.json`: the record of a bisection.
    Bisection(String),
    /// `/c/<sha>/<key>/NAME`: a file that every result has.
    Result(CommitId, ResultKey, ResultFile),
    /// `/c/<sha>/<key>/NAME`: an artifact of the run. `/c/<sha>/<key>/attempt.N/NAME`: a file of another attempt.
    Artifact(CommitId, ResultKey, String),
}

/// The files that every result has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultFile {
    /// The status line.
    Status,
    /// The duration in whole seconds.
    Duration,
    /// The log of a running subtest.
    Log,
    /// The full console log of a running subtest.
    FullLog,
    /// The log of a subtest, compressed with brotli.
    LogBr,
    /// The full console log, compressed with brotli.
    FullLogBr,
}

impl ResultFile {
    const TABLE: [(Self, &'static str); 6] = [
        (Self::Status, "status"),
        (Self::Duration, "duration"),
        (Self::Log, "log"),
        (Self::FullLog, "full_log"),
        (Self::LogBr, "log.br"),
        (Self::FullLogBr, "full_log.br"),
    ];

    /// The name of the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE[self as usize].1
    }

    fn parse(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(_, known)| *known == name).map(|(file, _)| *file)
    }

    /// Whether the stored bytes are compressed with brotli.
    #[must_use]
    pub fn is_brotli(self) -> bool {
        matches!(self, Self::LogBr | Self::FullLogBr)
    }
}

/// Whether an artifact with this name is published: a plain file name that is not in [`ResultFile`].
#[must_use]
pub fn is_artifact_name(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
        && ResultFile::parse(name).is_none()
}

/// Whether this is the name of a file of another attempt: `attempt.2/log.br`.
#[must_use]
pub fn is_attempt_file(name: &str) -> bool {
    let parsed = name.strip_prefix("attempt.").and_then(|name| name.split_once('/'));
    parsed.is_some_and(|(number, file)| {
        number.len() <= 9
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
            && (ResultFile::parse(file).is_some_and(ResultFile::is_brotli) || is_artifact_name(file))
    })
}

/// Why an address does not select a view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No route matches.
    #[error("there is no page at this address")]
    Unknown,
    /// It cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It contains an invalid name.
    #[error(transparent)]
    Name(#[from] model::NameError),
    /// A parameter has an invalid value.
    #[error("invalid value of the parameter \"{name}\"; expected {expected}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// The allowed values.
        expected: &'static str,
    },
}
