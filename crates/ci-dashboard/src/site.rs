//! One request, one response: a synchronous function over the results, the same for the server and for CGI.

use http::Method;
use results::{Reader, Resolved};

use crate::assets;
use crate::files;
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
}

impl Site {
    /// Over results; `tests` are the test files that the configuration names, if there is one.
    #[must_use]
    pub fn new(reader: Reader, tests: TestFiles) -> Self {
        Self { store: Store::new(reader), tests }
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
    let (form, route) = route::parse(request);
    let answer = if matches!(request.method, Method::GET | Method::HEAD) {
        route.map_err(Problem::from).and_then(|route| answer(site, request, form, route, now))
    } else {
        Err(Problem::Method)
    };
    answer.unwrap_or_else(|problem| problem.response(request, form)).finished(&request.method)
}

fn answer(site: &Site, request: &Request, form: Form, route: Route, now: i64) -> Result<Response, Problem> {
    let context = Context { store: &site.store, request, tests: &site.tests, now };
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
            let test = views::test::TestRef { sha: &sha, key: &key, line, full, find: find.as_deref() };
            views::test::view(context, test, form)
        }
        Route::Follow { sha, key, full, from } => {
            crate::follow::follow(site.store.reader(), &sha, &key, full, from.as_deref(), request)
        }
        Route::Abbreviated(prefix) => abbreviated(context, &prefix, form),
        Route::Status => views::status::view(context, form),
        Route::File(file) => files::serve(site.store.reader().output_dir(), &file, request),
        Route::Asset(name) => assets::serve(&name, request)
            .ok_or_else(|| Problem::NotFound("there is no page at this address".into())),
        Route::Health => health(site),
        Route::Metrics => views::metrics::view(context),
        Route::OpenApi => Ok(assets::openapi(request)),
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
