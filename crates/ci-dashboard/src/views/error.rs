//! A problem as a page or as JSON.

use askama::Template;
use http::header;

use crate::http::{Request, Response, content_type, request};
use crate::page::{Crumb, Page};
use crate::problem::Problem;
use crate::route::{Format, Links};

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    page: Page<'a>,
    heading: &'a str,
    message: String,
    filter: Option<FilterForm>,
}

/// The form that sent an invalid filter, with its text.
struct FilterForm {
    action: String,
    hidden: Vec<(String, String)>,
    name: String,
    pattern: String,
}

/// The response.
#[must_use]
pub fn view(problem: &Problem, request: &Request, format: Format) -> Response {
    let (content_type, body) = match format {
        Format::Json => {
            let view = results::json::ErrorView { error: problem.to_string() };
            (content_type::JSON, serde_json::to_vec(&view).unwrap_or_default())
        }
        Format::Html | Format::Atom | Format::Badge => {
            (content_type::HTML, render(request, problem).into_bytes())
        }
    };
    let response = Response::new(problem.status(), content_type, body);
    if *problem == Problem::Method { response.with(header::ALLOW, "GET, HEAD") } else { response }
}

/// The error page; a fixed text if it cannot be rendered.
fn render(request: &Request, problem: &Problem) -> String {
    let heading = problem.heading();
    let page = Page::new(heading, Links { mount: &request.mount }, vec![Crumb::here(heading)]);
    let message = problem.to_string();
    let mut letters = message.chars();
    let message: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let message = if message.ends_with('?') { message } else { message + "." };
    let filter = matches!(problem, Problem::Filter(_) | Problem::TooExpensive(_))
        .then(|| filter_form(request))
        .flatten();
    ErrorPage { page, heading, message, filter }.render().unwrap_or_else(|_| {
        "<!doctype html><title>ktest-ci</title><p>The page cannot be rendered; see the server's log.".into()
    })
}

fn filter_form(request: &Request) -> Option<FilterForm> {
    let mut hidden = request::pairs(&request.query).ok()?;
    let at = hidden
        .iter()
        .position(|(name, value)| matches!(name.as_str(), "test" | "find") && !value.is_empty())?;
    let (name, pattern) = hidden.remove(at);
    Some(FilterForm { action: format!("{}{}", request.mount, request.path), hidden, name, pattern })
}
