//! The table of routes.

use std::str::FromStr;
use std::sync::LazyLock;

use matchit::Router;
use results::{bisections, requests};

use super::query::Query;
use super::{
    BranchRef, CommitOrBranch, FileRoute, Format, ResultFile, Route, RouteError, TestRoute, is_artifact_name,
    is_attempt_file,
};
use crate::http::Request;
use crate::http::request::{self, DecodeError, TARGET_MAX};

/// The top-level directories of all addresses that pages link to.
pub const ROOTS: &[&str] = &["/ci", "/c", "/u"];

type Build = fn(Path<'_>, &Query) -> Result<Route, RouteError>;

/// Paths are matched before they are decoded, so that `%2F` never separates segments.
const TABLE: &[(&str, Build)] = &[
    ("/", |_, query| query.route()),
    ("/ci", |_, query| query.route()),
    ("/status", |_, query| Ok(query.status_route())),
    ("/healthz", |_, _| Ok(Route::Health)),
    ("/ci/healthz", |_, _| Ok(Route::Health)),
    ("/metrics", |_, _| Ok(Route::Metrics)),
    ("/ci/metrics", |_, _| Ok(Route::Metrics)),
    ("/openapi.json", |_, _| Ok(Route::OpenApi)),
    ("/ci/openapi.json", |_, _| Ok(Route::OpenApi)),
    ("/ci/control", |_, query| query.control_route()),
    ("/ci/{asset}", |path, _| Ok(Route::Asset(path.text("asset")?))),
    ("/hook", |_, _| Ok(Route::Hook)),
    ("/requests", |_, _| Ok(Route::Requests)),
    ("/requests/{request}", |path, _| {
        let name = Some(path.text("request")?).filter(|name| requests::is_file_name(name));
        Ok(Route::RequestState(name.ok_or(RouteError::Unknown)?))
    }),
    ("/u/{user}", |path, query| Ok(Route::User(path.text("user")?.parse()?, query.branches_query()?))),
    ("/u/{user}/{*branch}", |path, query| {
        let branch = path.text("branch")?.parse()?;
        query.branch_route(BranchRef { user: path.text("user")?.parse()?, branch })
    }),
    ("/c/ci-daemon-status.json", |_, _| Ok(Route::File(FileRoute::Snapshot))),
    ("/c/bisections.json", |_, _| Ok(Route::Bisections)),
    ("/c/claims.json", |_, _| Ok(Route::Claims)),
    ("/c/findings.json", |_, _| Ok(Route::AllFindings)),
    ("/c/bisect/{bisection}", |path, _| {
        let name = path.text("bisection")?;
        let id = name.strip_suffix(".json").filter(|id| bisections::is_id(id));
        Ok(Route::File(FileRoute::Bisection(id.ok_or(RouteError::Unknown)?.into())))
    }),
    ("/c/{commit}", |path, query| {
        let name = path.text("commit")?;
        match name.strip_suffix(".capnp") {
            Some(sha) => Ok(Route::File(FileRoute::Commit(sha.parse()?))),
            None => query.commit_route(&name),
        }
    }),
    ("/c/{commit}/coverage", coverage),
    ("/c/{commit}/matrix", |path, query| query.matrix_route(CommitOrBranch::Commit(path.name("commit")?))),
    ("/c/{commit}/build", |path, query| {
        Ok(Route::Build { sha: path.name("commit")?, kernel: query.value_of("kernel") })
    }),
    ("/c/{commit}/{key}", test),
    ("/c/{commit}/{key}/follow", |path, query| {
        Ok(Route::Follow {
            sha: path.name("commit")?,
            key: path.name("key")?,
            full: query.text("log") == "full",
            from: query.given("from"),
        })
    }),
    ("/c/{commit}/{key}/rerun", |path, _| {
        Ok(Route::Rerun { sha: path.text("commit")?, key: path.text("key")? })
    }),
    ("/c/{commit}/{key}/{file}", |path, _| {
        let (sha, key, file) = (path.name("commit")?, path.name("key")?, path.text("file")?);
        match ResultFile::parse(&file) {
            Some(file) => Ok(Route::File(FileRoute::Result(sha, key, file))),
            None if is_artifact_name(&file) => Ok(Route::File(FileRoute::Artifact(sha, key, file))),
            None => Err(RouteError::Unknown),
        }
    }),
    ("/c/{commit}/{key}/{attempt}/{file}", |path, _| {
        let name = format!("{}/{}", path.text("attempt")?, path.text("file")?);
        if !is_attempt_file(&name) {
            return Err(RouteError::Unknown);
        }
        Ok(Route::File(FileRoute::Artifact(path.name("commit")?, path.name("key")?, name)))
    }),
];

#[expect(clippy::needless_pass_by_value, reason = "has the type `Build`")]
fn coverage(path: Path<'_>, query: &Query) -> Result<Route, RouteError> {
    let (path_below, test) = (query.text("path").into(), query.text("file").into());
    Ok(Route::Coverage { sha: path.name("commit")?, path: path_below, test })
}

#[expect(clippy::needless_pass_by_value, reason = "has the type `Build`")]
fn test(path: Path<'_>, query: &Query) -> Result<Route, RouteError> {
    Ok(Route::Test(TestRoute {
        sha: path.name("commit")?,
        key: path.name("key")?,
        line: query.line()?,
        full: query.text("log") == "full",
        find: query.given("find"),
    }))
}

static ROUTER: LazyLock<Router<Build>> = LazyLock::new(|| {
    let mut router = Router::new();
    for (pattern, build) in TABLE {
        router.insert(*pattern, *build).expect("no two patterns of the table conflict");
    }
    router
});

/// The variable segments of a path.
struct Path<'a>(matchit::Params<'a, 'a>);

impl Path<'_> {
    fn text(&self, name: &str) -> Result<String, RouteError> {
        Ok(request::decode(self.0.get(name).unwrap_or(""))?)
    }

    fn name<T: FromStr<Err: Into<RouteError>>>(&self, name: &str) -> Result<T, RouteError> {
        self.text(name)?.parse().map_err(Into::into)
    }
}

/// The view that a request selects, and its format. The format is returned even if the view is not known.
pub fn parse(request: &Request) -> (Format, Result<Route, RouteError>) {
    let (query, format) = match Query::parse(&request.query).and_then(|query| {
        let format = query.format()?;
        Ok((query, format))
    }) {
        Ok(parsed) => parsed,
        Err(error) => return (Format::Html, Err(error)),
    };
    (format, route(&request.path, &query))
}

fn route(path: &str, query: &Query) -> Result<Route, RouteError> {
    if path.len() > TARGET_MAX {
        return Err(DecodeError::Long.into());
    }
    // Trailing slashes do not change the meaning of an address.
    let path = match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let found = ROUTER.at(path).map_err(|_| RouteError::Unknown)?;
    (found.value)(Path(found.params), query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{BranchesQuery, TableQuery};

    fn of(target: &str) -> Result<Route, RouteError> {
        parse(&Request::get(target)).1
    }

    #[test]
    fn every_row_of_the_table_is_reachable() {
        let id = "a".repeat(40);
        for (pattern, _) in TABLE {
            let target = pattern.replace("{commit}", &id).replace("{key}", "boot.boots");
            let target = target.replace("{user}", "mira").replace("{*branch}", "xfs/for-next");
            let target = target.replace("{asset}", "style.css").replace("{file}", "vmcore");
            let target = target.replace("{attempt}", "attempt.2").replace("{bisection}", "a-b-1.json");
            let target = target.replace("{request}", "x1b2.json");
            assert!(of(&target).is_ok(), "{target}");
            assert_eq!(ROUTER.at(&target).unwrap().params.iter().count(), pattern.matches('{').count());
        }
    }

    #[test]
    fn segments_are_decoded_one_by_one() {
        let at = BranchRef { user: "a b".parse().unwrap(), branch: "x/y z".parse().unwrap() };
        let expected = Route::Branch { at, test: None, config: None, from: None, untested: false };
        assert_eq!(of("/u/a%20b/x/y%20z/"), Ok(expected));
        assert_eq!(of("/c/x%2Fy/a.b/log"), Err("x/y".parse::<model::CommitId>().unwrap_err().into()));
        assert_eq!(of("/u/%zz"), Err(DecodeError::Escape.into()));
        assert_eq!(of("/nothing"), Err(RouteError::Unknown));
        let record = Route::File(FileRoute::Bisection("a1-b2-c3".into()));
        assert_eq!(of("/c/bisect/a1-b2-c3.json"), Ok(record));
        for bad in ["..%2Fx.json", "taken%2Fx.json", ".json", "x"] {
            assert_eq!(of(&format!("/requests/{bad}")), Err(RouteError::Unknown), "{bad}");
        }
        for bad in ["a1", "..%2Fx.json", ".json", "a%20b.json"] {
            assert_eq!(of(&format!("/c/bisect/{bad}")), Err(RouteError::Unknown), "{bad}");
        }
        assert_eq!(of(&format!("/{}", "a".repeat(TARGET_MAX))), Err(DecodeError::Long.into()));
    }

    #[test]
    fn the_query_selects_the_view() {
        for (query, expected) in [
            ("", Route::Home(BranchesQuery::default())),
            ("status", Route::Status(None)),
            ("status&sort=-queued", Route::Status(Some("-queued".into()))),
            ("user=mira", Route::User("mira".parse().unwrap(), BranchesQuery::default())),
            (
                "user=mira&page=2&find=x",
                Route::User("mira".parse().unwrap(), BranchesQuery { find: Some("x".into()), page: 2 }),
            ),
            ("user=mira&user=anton", Route::User("anton".parse().unwrap(), BranchesQuery::default())),
            ("commit=0123456", Route::Revision { text: "0123456".into(), at: None, test: None }),
            (
                "user=a&branch=b&commit=v6.1~2&test=x",
                Route::Revision {
                    text: "v6.1~2".into(),
                    at: Some("a/b".parse().unwrap()),
                    test: Some("x".into()),
                },
            ),
            ("user=a&branch=b&crashes", Route::Crashes("a/b".parse().unwrap(), TableQuery::default())),
            ("user=a&branch=b&changes", Route::Changes("a/b".parse().unwrap())),
            (
                "user=a&branch=b&flaky&sort=-rate&page=2",
                Route::Flaky("a/b".parse().unwrap(), TableQuery { sort: Some("-rate".into()), page: 2 }),
            ),
            (
                "user=a&branch=b&matrix&file=x",
                Route::Matrix {
                    of: CommitOrBranch::Branch("a/b".parse().unwrap()),
                    file: Some("x".into()),
                    page: 0,
                },
            ),
            (
                "user=a&branch=b&grid&config=kasan&page=2",
                Route::Grid { at: "a/b".parse().unwrap(), test: None, config: Some("kasan".into()), page: 2 },
            ),
            ("user=a&branch=b&range-diff", Route::RangeDiff { at: "a/b".parse().unwrap(), of: None }),
        ] {
            assert_eq!(of(&format!("/ci?{query}")), Ok(expected), "{query}");
        }
        let error = of("/ci?format=xml").unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid value of the parameter \"format\"; expected json, html or, for a branch, atom or badge"
        );
    }
}
