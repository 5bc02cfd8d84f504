//! Handles one request: a synchronous function over the results, used by the server and by CGI.

use std::time::Instant;

use http::{Method, StatusCode};
use model::Status;
use results::{Reader, Resolved};

use crate::assets;
use crate::http::page_cache::{PageCache, Stamp};
use crate::http::{PublicAddress, Request, Response, content_type};
use crate::page::cut;
use crate::problem::Problem;
use crate::repos::Repos;
use crate::route::{self, BranchRef, Format, Route, with_parameter};
use crate::store::Store;
use crate::testfiles::TestFiles;
use crate::views::{self, Context};

/// The results, with the information that the configuration adds to them.
pub struct Site {
    store: Store,
    tests: TestFiles,
    repos: Repos,
    pages: PageCache<Problem>,
    reruns: bool,
    public: PublicAddress,
    /// The branches in lists; `None` for all.
    only: Option<Vec<BranchRef>>,
}

impl Site {
    /// A site for these results. `tests` are the test files in the configuration, if there is one.
    #[must_use]
    pub fn new(reader: Reader, tests: TestFiles) -> Self {
        let (pages, public) = (PageCache::default(), PublicAddress::default());
        Self {
            store: Store::new(reader),
            tests,
            repos: Repos::default(),
            pages,
            reruns: false,
            public,
            only: None,
        }
    }

    /// The same site with a form for reruns on the pages of tests, for a server that accepts reruns.
    #[must_use]
    pub fn offering_reruns(self) -> Self {
        Self { reruns: true, ..self }
    }

    /// The same site with repositories in which revisions are resolved.
    #[must_use]
    pub fn with_repos(self, repos: Repos) -> Self {
        Self { repos, ..self }
    }

    /// The same site with only these branches in lists of branches.
    pub(crate) fn showing_only(self, branches: Vec<BranchRef>) -> Self {
        Self { only: Some(branches), ..self }
    }

    /// The same site at the address at which clients find it.
    #[must_use]
    pub fn published_at(self, public: PublicAddress) -> Self {
        Self { public, ..self }
    }

    /// The address at which clients find the site.
    #[must_use]
    pub fn public_address(&self) -> &PublicAddress {
        &self.public
    }

    /// The results for the views.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The results.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        self.store.reader()
    }
}

/// Returns the response to a request at the time `now`, in Unix seconds.
#[must_use]
pub fn handle(site: &Site, request: &Request, now: i64) -> Response {
    let arrived = Instant::now();
    let (format, route) = route::parse(request);
    let answer = if matches!(request.method, Method::GET | Method::HEAD) {
        route.map_err(Problem::from).and_then(|route| {
            if is_cacheable(site, &route) {
                let address = format!("{}\0{}?{}", request.mount, request.path, request.query);
                let stamp = || Stamp::of(site.reader().output_dir());
                let asked = (arrived, request.refreshes);
                site.pages.get(&address, asked, stamp, || answer(site, request, format, &route, now))
            } else {
                answer(site, request, format, &route, now)
            }
        })
    } else {
        Err(Problem::Method)
    };
    let answer = answer.unwrap_or_else(|problem| views::error::view(&problem, request, format));
    answer.negotiated(request).varied(request).finished(&request.method)
}

/// Whether everything that a view shows is published by rename in the output directory itself, or can be as old as a cached page.
fn is_cacheable(site: &Site, route: &Route) -> bool {
    match route {
        // The log of a running test grows in a subdirectory.
        Route::Test(test) => {
            let entry = site.reader().entry(&test.sha, &test.key);
            entry.ok().flatten().is_some_and(|entry| entry.status() != Status::InProgress)
        }
        Route::Home(_)
        | Route::User(..)
        | Route::Branch { .. }
        | Route::Crashes(..)
        | Route::Flaky(..)
        | Route::Findings(..)
        | Route::Changes(_)
        | Route::RangeDiff { .. }
        | Route::Matrix { .. }
        | Route::Grid { .. }
        | Route::Compare(_)
        | Route::History { .. }
        | Route::Coverage { .. }
        | Route::Build { .. }
        | Route::Status(_)
        | Route::Commit(_) => true,
        // The others are cheap.
        Route::Follow { .. }
        | Route::Revision { .. }
        | Route::File(_)
        | Route::Asset(_)
        | Route::Health
        | Route::Metrics
        | Route::OpenApi
        | Route::Hook
        | Route::Control(_)
        | Route::Requests
        | Route::RequestState(_)
        | Route::Bisections
        | Route::Claims
        | Route::AllFindings
        | Route::Rerun { .. } => false,
    }
}

fn answer(
    site: &Site,
    request: &Request,
    format: Format,
    route: &Route,
    now: i64,
) -> Result<Response, Problem> {
    let Site { store, tests, repos, reruns, only, .. } = site;
    let context = Context { store, request, tests, repos, reruns: *reruns, only: only.as_deref(), now };
    let reader = site.store.reader();
    match (route, format) {
        (Route::Branch { at, .. }, Format::Atom) => return views::feed::atom(context, at),
        (Route::Branch { at, .. }, Format::Badge) => return views::feed::badge(context, at),
        (_, Format::Atom | Format::Badge) => {
            return Err(Problem::BadRequest("only a branch has a feed and a badge".into()));
        }
        (_, Format::Html | Format::Json) => {}
    }
    match route {
        Route::Home(query) => views::home::home(context, query, format),
        Route::User(user, query) => views::home::user(context, user, query, format),
        Route::Branch { at, test, config, from, untested } => {
            let selection = (test.as_deref(), config.as_deref(), *untested);
            views::branch::view(context, at, selection, from.as_ref(), format)
        }
        Route::Matrix { of, file, page } => views::matrix::view(context, of, file.as_deref(), *page, format),
        Route::Grid { at, test, config, page } => {
            views::grid::view(context, at, (test.as_deref(), config.as_deref()), *page, format)
        }
        Route::Crashes(at, part) => views::crashes::view(context, at, part, format),
        Route::Changes(at) => views::changes::view(context, at, format),
        Route::Flaky(at, part) => views::flaky::view(context, at, part, format),
        Route::Findings(at, page) => views::findings::view(context, at, *page, format),
        Route::RangeDiff { at, of } => views::range_diff::view(context, at, of.as_ref(), format),
        Route::Compare(route) => views::compare::view(context, route, format),
        Route::History { at, key, from, part } => {
            views::history::view(context, at, key, (from.as_ref(), part), format)
        }
        Route::Commit(route) => views::commit::view(context, route, format),
        Route::Test(route) => views::test::view(context, route, format),
        Route::Coverage { sha, path, test } => views::coverage::view(context, sha, path, test, format),
        Route::Build { sha, kernel } => views::build::view(context, sha, kernel.as_deref(), format),
        Route::Follow { sha, key, full, from } => {
            views::log_events::view(reader, sha, key, *full, from.as_deref(), request)
        }
        Route::Revision { text, at, test } => {
            revision(context, &site.repos, (text, at.as_ref(), test.as_deref()), format)
        }
        Route::Status(sort) => views::status::view(context, sort.as_deref(), format),
        Route::File(file) => views::file::view(reader, file, request),
        Route::Asset(name) => assets::serve(name).ok_or_else(no_page),
        Route::Health => health(site),
        Route::Metrics => views::metrics::view(context),
        Route::OpenApi => Ok(assets::openapi()),
        Route::Control(route) => views::control::view(context, route),
        Route::Bisections => views::records::bisections(reader),
        Route::Claims => views::records::claims(reader),
        Route::AllFindings => views::findings::all(context),
        Route::RequestState(file) => views::records::request(reader, file),
        Route::Hook | Route::Requests | Route::Rerun { .. } => Err(no_page()),
    }
}

fn no_page() -> Problem {
    Problem::from(route::RouteError::Unknown)
}

/// Redirects to the commit of a revision: an id with results that starts with it, or else what git resolves. A commit
/// without results that is on no branch is not shown, so that the refs of the repository are not disclosed.
fn revision(
    context: Context<'_>,
    repos: &Repos,
    (text, at, test): (&str, Option<&BranchRef>, Option<&str>),
    format: Format,
) -> Result<Response, Problem> {
    let missing = || Problem::NotFound(format!("no results for {}", cut(text, 100)));
    let commit = match context.store.reader().resolve_prefix(text)? {
        Resolved::One(commit) => commit,
        Resolved::None => {
            let revision = text.parse().map_err(|_| missing())?;
            let commit = repos.resolve(at, &revision).ok_or_else(missing)?;
            let has_results = context.store.reader().summary(&commit)?.is_some();
            if !has_results && !views::commit::is_listed(context, &commit)? {
                return Err(missing());
            }
            commit
        }
        Resolved::Many(commits) => {
            return Err(Problem::NotFound(format!(
                "the id is ambiguous: {} commits begin with it; give more digits",
                commits.len()
            )));
        }
    };
    let mut address = context.links().commit(at, commit.as_str());
    let format = (format == Format::Json).then_some(("format", "json"));
    for (name, value) in test.map(|test| ("test", test)).into_iter().chain(format) {
        address = with_parameter(&address, name, value);
    }
    Ok(Response::redirect(StatusCode::FOUND, &address))
}

/// The site is healthy if the results can be listed.
fn health(site: &Site) -> Result<Response, Problem> {
    site.store.reader().users()?;
    Ok(Response::new(StatusCode::OK, content_type::TEXT, b"ok\n".to_vec()))
}
