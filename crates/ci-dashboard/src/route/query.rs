//! The query of an address, with typed parameters. Unknown parameters are ignored; if a name occurs several times, the
//! last value is used.

use std::collections::HashMap;
use std::str::FromStr;

use gitio::Revision;
use model::{CommitId, Status};

use super::{
    BranchRef, BranchesQuery, CommitOrBranch, CommitRoute, CompareRoute, ControlAction, ControlRoute, Format,
    Route, RouteError, TableQuery,
};
use crate::http::request;

/// A parameter with a value that is not free text.
struct Parameter<T> {
    name: &'static str,
    /// The allowed values, for the error message.
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

const FORMAT: Parameter<Format> = Parameter {
    name: "format",
    expected: "json, html or, for a branch, atom or badge",
    parse: |text| match text {
        "json" => Some(Format::Json),
        "atom" => Some(Format::Atom),
        "badge" => Some(Format::Badge),
        "html" => Some(Format::Html),
        _ => None,
    },
};
const STATUS: Parameter<Status> = Parameter {
    name: "status",
    expected: "passed, failed, notrun, failed_to_run, inprogress or unknown",
    parse: |text| text.parse().ok(),
};
const LINE: Parameter<usize> =
    Parameter { name: "line", expected: "a number", parse: |text| text.parse().ok() };
const PAGE: Parameter<usize> =
    Parameter { name: "page", expected: "a number", parse: |text| text.parse().ok() };

const CONTROL: Parameter<ControlAction> = Parameter {
    name: "do",
    expected: "drain, resume, cancel, pause or resume-branch",
    parse: ControlAction::of_word,
};
const BATCH: Parameter<i64> =
    Parameter { name: "batch", expected: "a number", parse: |text| text.parse().ok() };

/// A decoded query.
#[derive(Debug, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, RouteError> {
        Ok(Self(request::pairs(text)?.into_iter().collect()))
    }

    pub(super) fn format(&self) -> Result<Format, RouteError> {
        Ok(self.value(&FORMAT)?.unwrap_or_default())
    }

    pub(super) fn line(&self) -> Result<Option<usize>, RouteError> {
        self.value(&LINE)
    }

    pub(super) fn control_route(&self) -> Result<Route, RouteError> {
        Ok(Route::Control(ControlRoute {
            action: self.value(&CONTROL)?.unwrap_or(ControlAction::Drain),
            at: self.text("at").into(),
            batch: self.value(&BATCH)?,
        }))
    }

    /// Whether the parameter is given, even with an empty value.
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value of a parameter; empty if it is absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The value of a parameter, which can be empty; `None` if it is absent.
    pub(super) fn value_of(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    /// The value of a parameter; an empty value is treated as absent.
    pub(super) fn given(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A name, parsed into a type of `model`.
    fn name<T: FromStr<Err: Into<RouteError>>>(&self, name: &str) -> Result<Option<T>, RouteError> {
        self.0.get(name).map(|text| text.parse()).transpose().map_err(Into::into)
    }

    fn value<T>(&self, parameter: &Parameter<T>) -> Result<Option<T>, RouteError> {
        let Parameter { name, expected, parse } = *parameter;
        let given = Some(self.text(name)).filter(|text| !text.is_empty());
        given.map(|text| parse(text).ok_or(RouteError::Parameter { name, expected })).transpose()
    }

    fn branch(&self) -> Result<Option<BranchRef>, RouteError> {
        if !self.has("user") || !self.has("branch") {
            return Ok(None);
        }
        let names = self.name("user")?.zip(self.name("branch")?);
        Ok(names.map(|(user, branch)| BranchRef { user, branch }))
    }

    /// The view for `/ci?...`.
    pub(super) fn route(&self) -> Result<Route, RouteError> {
        if self.has("compare") {
            return Ok(Route::Compare(self.compare_route()?));
        }
        if self.has("commit") {
            return self.commit_route(self.text("commit"));
        }
        if let Some(at) = self.branch()? {
            return self.branch_route(at);
        }
        if self.has("branch") {
            return Err(RouteError::Parameter { name: "branch", expected: "the parameter \"user\" with it" });
        }
        if let Some(user) = self.name("user")? {
            return Ok(Route::User(user, self.branches_query()?));
        }
        Ok(if self.has("status") { self.status_route() } else { Route::Home(self.branches_query()?) })
    }

    pub(super) fn branches_query(&self) -> Result<BranchesQuery, RouteError> {
        Ok(BranchesQuery { find: self.given("find"), page: self.page()? })
    }

    pub(super) fn branch_route(&self, at: BranchRef) -> Result<Route, RouteError> {
        if let Some(key) = self.name("history")? {
            return Ok(Route::History { at, key, from: self.name("from")?, part: self.table_query()? });
        }
        if self.has("crashes") {
            return Ok(Route::Crashes(at, self.table_query()?));
        }
        if self.has("changes") {
            return Ok(Route::Changes(at));
        }
        if self.has("flaky") {
            return Ok(Route::Flaky(at, self.table_query()?));
        }
        if self.has("findings") {
            return Ok(Route::Findings(at, self.page()?));
        }
        if self.has("range-diff") {
            let of = self.given("range-diff").map(|old| old.parse()).transpose()?;
            return Ok(Route::RangeDiff { at, of });
        }
        if self.has("matrix") {
            return self.matrix_route(CommitOrBranch::Branch(at));
        }
        let (test, config) = (self.given("test"), self.given("config"));
        if self.has("grid") {
            return Ok(Route::Grid { at, test, config, page: self.page()? });
        }
        let (from, untested) = (self.name("from")?, self.has("untested"));
        Ok(Route::Branch { at, test, config, from, untested })
    }

    pub(super) fn matrix_route(&self, of: CommitOrBranch) -> Result<Route, RouteError> {
        Ok(Route::Matrix { of, file: self.given("file"), page: self.page()? })
    }

    pub(super) fn status_route(&self) -> Route {
        Route::Status(self.given("sort"))
    }

    fn table_query(&self) -> Result<TableQuery, RouteError> {
        Ok(TableQuery { sort: self.given("sort"), page: self.page()? })
    }

    fn page(&self) -> Result<usize, RouteError> {
        Ok(self.value(&PAGE)?.unwrap_or(0))
    }

    /// `compare=A..B`, or `compare=A&with=B` as sent by a form. A branch name cannot contain two consecutive dots.
    fn compare_route(&self) -> Result<CompareRoute, RouteError> {
        let compare = self.text("compare");
        let (base, head) = match self.0.get("with") {
            Some(with) => (compare, with.as_str()),
            None => compare.split_once("..").unwrap_or((compare, "")),
        };
        Ok(CompareRoute {
            user: self.given("user").map(|user| user.parse()).transpose()?,
            base: base.trim().into(),
            head: head.trim().into(),
            test: self.given("test"),
            kind: self.given("kind"),
            page: self.page()?,
        })
    }

    /// A commit, by its id, an abbreviated id or another revision.
    pub(super) fn commit_route(&self, sha: &str) -> Result<Route, RouteError> {
        let sha: CommitId = match sha.parse() {
            Ok(sha) => sha,
            Err(error) if sha.parse::<Revision>().is_err() => return Err(error.into()),
            Err(_) => {
                let (text, at, test) = (sha.into(), self.branch()?, self.given("test"));
                return Ok(Route::Revision { text, at, test });
            }
        };
        Ok(Route::Commit(CommitRoute {
            sha,
            at: self.branch()?,
            test: self.given("test"),
            status: self.value(&STATUS)?,
            reason: self.given("reason"),
            config: self.given("config"),
            page: self.page()?,
        }))
    }
}
