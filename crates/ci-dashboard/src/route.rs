//! Addresses: from a request's path and query to the view it names, and back to links.
//!
//! The addresses of the formats document are what pages link to; shorter ones beside them (`/u/...`) read the same.
//! Commits and result keys pass through the types of `model` here; users and branches are only ever compared with
//! names that the store lists.

use std::fmt;

use model::{CommitId, ResultKey, Status};

use crate::request::{self, Encoded, Request};

/// In which form a view is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A page.
    #[default]
    Html,
    /// `&format=json`.
    Json,
    /// `&format=atom`: of a branch, what broke.
    Atom,
    /// `&format=badge`: of a branch, its state as a picture.
    Badge,
}

/// A branch as a client names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BranchRef {
    /// Whose.
    pub user: String,
    /// Its name; may hold `/`.
    pub branch: String,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// The users and their branches.
    Home,
    /// One user's branches.
    User(String),
    /// The commits of a branch, optionally counting only tests that match.
    Branch {
        /// Which.
        at: BranchRef,
        /// `test=REGEX`.
        test: Option<String>,
        /// `from=COMMIT`: the first commit of the page.
        from: Option<CommitId>,
    },
    /// The crashes on a branch, by title.
    Crashes(BranchRef),
    /// Two commits, or the tips of two branches, against each other.
    Compare(CompareRoute),
    /// One test on the commits of a branch.
    History {
        /// Which.
        at: BranchRef,
        /// The test.
        key: ResultKey,
    },
    /// One commit.
    Commit(CommitRoute),
    /// One test at one commit: its verdict and its log.
    Test {
        /// The commit.
        sha: CommitId,
        /// The test.
        key: ResultKey,
        /// `line=N`: the page of the log that holds this line.
        line: Option<usize>,
        /// Show the whole machine's log instead.
        full: bool,
        /// `find=REGEX`: show the lines that match.
        find: Option<String>,
    },
    /// Which lines of the kernel's source ran at a commit.
    Coverage {
        /// The commit.
        sha: CommitId,
        /// `path=`: a folder or file of the source; empty: all.
        path: String,
        /// `file=`: only what this test file covered.
        test: String,
    },
    /// The lines of a growing log as they come.
    Follow {
        /// The commit.
        sha: CommitId,
        /// The test.
        key: ResultKey,
        /// The whole machine's log instead.
        full: bool,
        /// `from=BYTES:LINES`: what the client has.
        from: Option<String>,
    },
    /// A commit by the first digits of its id.
    Abbreviated(String),
    /// What the farm does now.
    Status,
    /// A published file, as it is stored.
    File(FileRoute),
    /// A style sheet, script or picture of ours.
    Asset(String),
    /// Whether we work.
    Health,
    /// Numbers for Prometheus.
    Metrics,
    /// What the JSON views are, for programs.
    OpenApi,
}

/// What is compared with what, as the client names them: commits, their first digits, branches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompareRoute {
    /// Whose branches are meant where none is named.
    pub user: Option<String>,
    /// The older side; empty: not chosen yet.
    pub base: String,
    /// The newer side; empty: not chosen yet.
    pub head: String,
    /// `test=REGEX`.
    pub test: Option<String>,
}

/// Which commit, and which of its tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRoute {
    /// The commit.
    pub sha: CommitId,
    /// The branch it is looked at on, where the address says.
    pub at: Option<BranchRef>,
    /// `test=REGEX`.
    pub test: Option<String>,
    /// `status=FIELD`.
    pub status: Option<Status>,
    /// `page=N`, from 0.
    pub page: usize,
}

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileRoute {
    /// `/c/<sha>.capnp`
    Commit(CommitId),
    /// `/c/ci-daemon-status.json`
    Snapshot,
    /// `/c/<sha>/<key>/NAME`
    Artifact(CommitId, ResultKey, Artifact),
    /// `/c/<sha>/<key>/NAME`: something else that the run left there.
    Other(CommitId, ResultKey, String),
}

/// Whether a file of this name may lie beside a result and be published: a plain name, and none that every result has.
#[must_use]
pub fn is_other(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
        && Artifact::parse(name).is_none()
}

/// The files of one result that are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Artifact {
    /// The status line.
    Status,
    /// Whole seconds.
    Duration,
    /// The log of a subtest that still runs.
    Log,
    /// The whole machine's log while it runs.
    FullLog,
    /// The subtest's log, brotli.
    LogBr,
    /// The whole machine's log, brotli.
    FullLogBr,
}

impl Artifact {
    const TABLE: [(Self, &'static str); 6] = [
        (Self::Status, "status"),
        (Self::Duration, "duration"),
        (Self::Log, "log"),
        (Self::FullLog, "full_log"),
        (Self::LogBr, "log.br"),
        (Self::FullLogBr, "full_log.br"),
    ];

    /// The file's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE[self as usize].1
    }

    fn parse(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(_, known)| *known == name).map(|(artifact, _)| *artifact)
    }

    /// Whether the stored bytes are brotli.
    #[must_use]
    pub fn is_brotli(self) -> bool {
        matches!(self, Self::LogBr | Self::FullLogBr)
    }
}

/// Why an address names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No such address.
    #[error("there is no page at this address")]
    Unknown,
    /// It cannot be decoded.
    #[error(transparent)]
    Decode(#[from] request::DecodeError),
    /// A name in it is not one.
    #[error(transparent)]
    Name(#[from] model::NameError),
    /// A parameter has a value it cannot have.
    #[error("the parameter {name} does not take this value; {takes}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// What it takes.
        takes: &'static str,
    },
}

/// The known parameters of a query; unknown ones are left alone, the last of a name counts.
#[derive(Debug, Default)]
struct Query {
    user: Option<String>,
    branch: Option<String>,
    commit: Option<String>,
    test: Option<String>,
    history: Option<String>,
    status: Option<String>,
    from: Option<String>,
    line: Option<String>,
    page: Option<String>,
    log: Option<String>,
    find: Option<String>,
    compare: Option<String>,
    with: Option<String>,
    crashes: Option<String>,
    path: Option<String>,
    file: Option<String>,
    form: Form,
}

impl Query {
    fn parse(text: &str) -> Result<Self, RouteError> {
        let mut query = Self::default();
        for (name, value) in request::pairs(text)? {
            let slot = match name.as_str() {
                "user" => &mut query.user,
                "branch" => &mut query.branch,
                "commit" => &mut query.commit,
                "test" => &mut query.test,
                "history" => &mut query.history,
                "status" => &mut query.status,
                "from" => &mut query.from,
                "line" => &mut query.line,
                "page" => &mut query.page,
                "log" => &mut query.log,
                "find" => &mut query.find,
                "compare" => &mut query.compare,
                "with" => &mut query.with,
                "crashes" => &mut query.crashes,
                "path" => &mut query.path,
                "file" => &mut query.file,
                "format" => {
                    query.form = match value.as_str() {
                        "json" => Form::Json,
                        "atom" => Form::Atom,
                        "badge" => Form::Badge,
                        "html" | "" => Form::Html,
                        _ => {
                            return Err(RouteError::Parameter {
                                name: "format",
                                takes: "it takes json, html and, for a branch, atom or badge",
                            });
                        }
                    };
                    continue;
                }
                _ => continue,
            };
            *slot = Some(value);
        }
        Ok(query)
    }

    fn number(text: Option<&str>, name: &'static str) -> Result<Option<usize>, RouteError> {
        text.map(|text| text.parse().map_err(|_| RouteError::Parameter { name, takes: "it takes a number" }))
            .transpose()
    }

    fn at(&mut self) -> Option<BranchRef> {
        match (self.user.take(), self.branch.take()) {
            (Some(user), Some(branch)) => Some(BranchRef { user, branch }),
            (user, branch) => {
                (self.user, self.branch) = (user, branch);
                None
            }
        }
    }

    fn test(&mut self) -> Option<String> {
        self.test.take().filter(|test| !test.is_empty())
    }

    /// The view that `/ci?...` names.
    fn route(mut self) -> Result<Route, RouteError> {
        if let Some(compare) = self.compare.take() {
            return Ok(Route::Compare(self.compare_route(compare)));
        }
        let at = self.at();
        if let Some(sha) = self.commit.take() {
            return Ok(match sha.parse() {
                Ok(sha) => Route::Commit(self.commit_route(sha, at)?),
                Err(_) if is_abbreviated(&sha) => Route::Abbreviated(sha),
                Err(error) => return Err(error.into()),
            });
        }
        if let Some(at) = at {
            return self.branch_route(at);
        }
        if self.branch.is_some() {
            return Err(RouteError::Parameter { name: "branch", takes: "name the user beside it" });
        }
        if let Some(user) = self.user {
            return Ok(Route::User(user));
        }
        Ok(if self.status.is_some() { Route::Status } else { Route::Home })
    }

    fn branch_route(mut self, at: BranchRef) -> Result<Route, RouteError> {
        if let Some(key) = self.history.take() {
            return Ok(Route::History { at, key: key.parse()? });
        }
        if self.crashes.is_some() {
            return Ok(Route::Crashes(at));
        }
        let from = self.from.take().map(|sha| sha.parse()).transpose()?;
        Ok(Route::Branch { at, test: self.test(), from })
    }

    /// `compare=A..B`, or `compare=A&with=B` as a form sends it. No branch's name may hold two dots.
    fn compare_route(mut self, compare: String) -> CompareRoute {
        let (base, head) = match (self.with.take(), compare.split_once("..")) {
            (Some(with), _) => (compare, with),
            (None, Some((base, head))) => (base.to_owned(), head.to_owned()),
            (None, None) => (compare, String::new()),
        };
        let test = self.test();
        let side = |text: String| text.trim().to_owned();
        let user = self.user.filter(|user| !user.is_empty());
        CompareRoute { user, base: side(base), head: side(head), test }
    }

    fn commit_route(mut self, sha: CommitId, at: Option<BranchRef>) -> Result<CommitRoute, RouteError> {
        let status = match self.status.take().filter(|status| !status.is_empty()) {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| RouteError::Parameter {
                name: "status",
                takes: "it takes passed, failed, notrun, failed_to_run, inprogress or unknown",
            })?),
        };
        let page = Self::number(self.page.as_deref(), "page")?.unwrap_or(0);
        Ok(CommitRoute { sha, at, test: self.test(), status, page })
    }
}

fn is_abbreviated(text: &str) -> bool {
    (7..64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The view that a request names, and its form. The form is known even where the view is not.
pub fn parse(request: &Request) -> (Form, Result<Route, RouteError>) {
    let query = match Query::parse(&request.query) {
        Ok(query) => query,
        Err(error) => return (Form::Html, Err(error)),
    };
    let form = query.form;
    let route = request::segments(&request.path).map_err(RouteError::from).and_then(|segments| {
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        parse_path(&segments, query)
    });
    (form, route)
}

fn parse_path(segments: &[&str], query: Query) -> Result<Route, RouteError> {
    match segments {
        [] | [""] | ["ci"] | ["ci", ""] => query.route(),
        ["status"] => Ok(Route::Status),
        ["healthz"] | ["ci", "healthz"] => Ok(Route::Health),
        ["metrics"] | ["ci", "metrics"] => Ok(Route::Metrics),
        ["openapi.json"] | ["ci", "openapi.json"] => Ok(Route::OpenApi),
        ["ci", asset] => Ok(Route::Asset((*asset).into())),
        ["u", user] | ["u", user, ""] => Ok(Route::User((*user).into())),
        ["u", user, branch @ ..] => {
            let branch = branch.join("/");
            let branch = branch.strip_suffix('/').unwrap_or(&branch).to_owned();
            query.branch_route(BranchRef { user: (*user).into(), branch })
        }
        ["c", "ci-daemon-status.json"] => Ok(Route::File(FileRoute::Snapshot)),
        ["c", name] => match name.strip_suffix(".capnp") {
            Some(sha) => Ok(Route::File(FileRoute::Commit(sha.parse()?))),
            None => commit_by_path(name, query),
        },
        ["c", sha, ""] => commit_by_path(sha, query),
        ["c", sha, "coverage"] | ["c", sha, "coverage", ""] => Ok(Route::Coverage {
            sha: sha.parse()?,
            path: query.path.unwrap_or_default(),
            test: query.file.unwrap_or_default(),
        }),
        ["c", sha, key] | ["c", sha, key, ""] => Ok(Route::Test {
            sha: sha.parse()?,
            key: key.parse()?,
            line: Query::number(query.line.as_deref(), "line")?,
            full: query.log.as_deref() == Some("full"),
            find: query.find.filter(|find| !find.is_empty()),
        }),
        ["c", sha, key, "follow"] => Ok(Route::Follow {
            sha: sha.parse()?,
            key: key.parse()?,
            full: query.log.as_deref() == Some("full"),
            from: query.from,
        }),
        ["c", sha, key, file] => {
            let (sha, key) = (sha.parse()?, key.parse()?);
            match Artifact::parse(file) {
                Some(artifact) => Ok(Route::File(FileRoute::Artifact(sha, key, artifact))),
                None if is_other(file) => Ok(Route::File(FileRoute::Other(sha, key, (*file).into()))),
                None => Err(RouteError::Unknown),
            }
        }
        _ => Err(RouteError::Unknown),
    }
}

fn commit_by_path(sha: &str, mut query: Query) -> Result<Route, RouteError> {
    let at = query.at();
    match sha.parse() {
        Ok(sha) => Ok(Route::Commit(query.commit_route(sha, at)?)),
        Err(_) if is_abbreviated(sha) => Ok(Route::Abbreviated(sha.into())),
        Err(error) => Err(error.into()),
    }
}

/// Builds links below a mount point. Every part is percent-encoded here; templates escape the rest for HTML.
#[derive(Debug, Clone, Copy)]
pub struct Links<'a> {
    /// What stands before every path.
    pub mount: &'a str,
}

impl Links<'_> {
    /// The users.
    #[must_use]
    pub fn home(&self) -> String {
        format!("{}/ci", self.mount)
    }

    /// One user's branches.
    #[must_use]
    pub fn user(&self, user: &str) -> String {
        format!("{}/ci?user={}", self.mount, Encoded(user))
    }

    /// The commits of a branch.
    #[must_use]
    pub fn branch(&self, at: &BranchRef) -> String {
        format!("{}/ci?{}", self.mount, At(at))
    }

    /// One test on a branch.
    #[must_use]
    pub fn history(&self, at: &BranchRef, key: &str) -> String {
        format!("{}/ci?{}&history={}", self.mount, At(at), Encoded(key))
    }

    /// A commit, on a branch where that is known.
    #[must_use]
    pub fn commit(&self, at: Option<&BranchRef>, sha: &str) -> String {
        match at {
            Some(at) => format!("{}/ci?{}&commit={}", self.mount, At(at), Encoded(sha)),
            None => format!("{}/c/{}/", self.mount, Encoded(sha)),
        }
    }

    /// One test at a commit.
    #[must_use]
    pub fn test(&self, sha: &str, key: &str) -> String {
        format!("{}/c/{}/{}/", self.mount, Encoded(sha), Encoded(key))
    }

    /// Which lines ran at a commit: all of the source, or a folder or file of it.
    #[must_use]
    pub fn coverage(&self, sha: &str, path: &str, test: &str) -> String {
        let mut address = format!("{}/c/{}/coverage", self.mount, Encoded(sha));
        let given = [("path", path), ("file", test)].into_iter().filter(|(_, value)| !value.is_empty());
        for (at, (name, value)) in given.enumerate() {
            address.push_str(&format!("{}{name}={}", if at == 0 { '?' } else { '&' }, Encoded(value)));
        }
        address
    }

    /// The crashes on a branch.
    #[must_use]
    pub fn crashes(&self, at: &BranchRef) -> String {
        format!("{}/ci?{}&crashes", self.mount, At(at))
    }

    /// Two sides against each other.
    #[must_use]
    pub fn compare(&self, user: Option<&str>, base: &str, head: &str) -> String {
        let user = user.map(|user| format!("user={}&", Encoded(user))).unwrap_or_default();
        format!("{}/ci?{user}compare={}..{}", self.mount, Encoded(base), Encoded(head))
    }

    /// What the farm does.
    #[must_use]
    pub fn status(&self) -> String {
        format!("{}/ci?status", self.mount)
    }
}

struct At<'a>(&'a BranchRef);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user={}&branch={}", Encoded(&self.0.user), Encoded(&self.0.branch))
    }
}
