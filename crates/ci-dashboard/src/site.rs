//! One request, one response: a synchronous function over the results, the same for the server and for CGI.

use std::time::Instant;

use http::Method;
use results::{Reader, Resolved};

use crate::assets;
use crate::files;
use crate::kept::{Kept, Stamp};
use crate::problem::Problem;
use crate::request::Request;
use crate::response::{Response, kind};
use crate::route::{self, Form, Route};
use crate::store::Store;
use crate::testfiles::TestFiles;
use crate::views::{self, Context};

/// What is served: the results, and what the configuration says about them.
pub struct Site {
    store: Store,
    tests: TestFiles,
    kept: Kept,
    reruns: bool,
}

impl Site {
    /// Over results; `tests` are the test files that the configuration names, if there is one.
    #[must_use]
    pub fn new(reader: Reader, tests: TestFiles) -> Self {
        Self { store: Store::new(reader), tests, kept: Kept::default(), reruns: false }
    }

    /// The same, whose pages offer to run a test again: for a server that hears it.
    #[must_use]
    pub fn offering_reruns(self) -> Self {
        Self { reruns: true, ..self }
    }

    /// The results.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        self.store.reader()
    }
}

/// Answers a request at the time `now`, in Unix seconds.
#[must_use]
pub fn handle(site: &Site, request: &Request, now: i64) -> Response {
    let came = Instant::now();
    let (form, route) = route::parse(request);
    let answer = if matches!(request.method, Method::GET | Method::HEAD) {
        route.map_err(Problem::from).and_then(|route| {
            if is_kept(&route) {
                let address = format!("{}\0{}?{}", request.mount, request.path, request.query);
                let stamp = || Stamp::of(site.reader().output_dir());
                site.kept.get(&address, came, stamp, || answer(site, request, form, route, now))
            } else {
                answer(site, request, form, route, now)
            }
        })
    } else {
        Err(Problem::Method)
    };
    let answer = answer.unwrap_or_else(|problem| views::error::view(&problem, request, form));
    answer.negotiated(request).finished(&request.method)
}

/// Whether all that a view shows is published by rename in the folder of the results itself.
fn is_kept(route: &Route) -> bool {
    match route {
        Route::Home
        | Route::User(_)
        | Route::Branch { .. }
        | Route::Crashes(_)
        | Route::Compare(_)
        | Route::History { .. }
        | Route::Commit(_) => true,
        // Logs grow in folders below, the status is of this very moment, the others are cheap.
        Route::Test { .. }
        | Route::Coverage { .. }
        | Route::Status
        | Route::Follow { .. }
        | Route::Abbreviated(_)
        | Route::File(_)
        | Route::Asset(_)
        | Route::Health
        | Route::Metrics
        | Route::OpenApi => false,
    }
}

fn answer(site: &Site, request: &Request, form: Form, route: Route, now: i64) -> Result<Response, Problem> {
    let context = Context { store: &site.store, request, tests: &site.tests, reruns: site.reruns, now };
    match (&route, form) {
        (Route::Branch { at, .. }, Form::Atom) => return views::feed::atom(context, at),
        (Route::Branch { at, .. }, Form::Badge) => return views::feed::badge(context, at),
        (_, Form::Atom | Form::Badge) => {
            return Err(Problem::BadRequest("only a branch has a feed and a badge".into()));
        }
        (_, Form::Html | Form::Json) => {}
    }
    match route {
        Route::Home => views::home::home(context, form),
        Route::User(user) => views::home::user(context, &user, form),
        Route::Branch { at, test, from } => {
            views::branch::view(context, &at, test.as_deref(), from.as_ref(), form)
        }
        Route::Crashes(at) => views::crashes::view(context, &at, form),
        Route::Compare(route) => views::compare::view(context, &route, form),
        Route::History { at, key } => views::history::view(context, &at, &key, form),
        Route::Commit(route) => views::commit::view(context, &route, form),
        Route::Test { sha, key, line, full, find } => {
            let test = views::TestRef { sha: &sha, key: &key, line, full, find: find.as_deref() };
            views::test::view(context, test, form)
        }
        Route::Coverage { sha, path, test } => views::coverage::view(context, &sha, &path, &test, form),
        Route::Follow { sha, key, full, from } => {
            views::follow::view(site.store.reader(), &sha, &key, full, from.as_deref(), request)
        }
        Route::Abbreviated(prefix) => abbreviated(context, &prefix, form),
        Route::Status => views::status::view(context, form),
        Route::File(file) => files::serve(site.store.reader().output_dir(), &file, request),
        Route::Asset(name) => {
            assets::serve(&name).ok_or_else(|| Problem::NotFound("there is no page at this address".into()))
        }
        Route::Health => health(site),
        Route::Metrics => views::metrics::view(context),
        Route::OpenApi => Ok(assets::openapi()),
    }
}

/// Sends the client to the one commit whose id begins so.
fn abbreviated(context: Context<'_>, prefix: &str, form: Form) -> Result<Response, Problem> {
    match context.store.reader().resolve_prefix(prefix)? {
        Resolved::One(commit) => {
            let mut address = context.links().commit(None, commit.as_str());
            if form == Form::Json {
                address.push_str("?format=json");
            }
            Ok(Response::redirect(&address))
        }
        Resolved::None => Err(Problem::NotFound("no commit with results has an id that begins so".into())),
        Resolved::Many(commits) => Err(Problem::NotFound(format!(
            "{} commits have an id that begins so; give more digits",
            commits.len()
        ))),
    }
}

/// Well is who can list the results.
fn health(site: &Site) -> Result<Response, Problem> {
    site.store.reader().users()?;
    Ok(Response::new(http::StatusCode::OK, kind::TEXT, b"ok\n".to_vec()))
}
