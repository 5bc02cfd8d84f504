//! A problem as an answer, in the form that was asked for.

use askama::Template;
use http::header;

use crate::page::{Crumb, Page};
use crate::problem::Problem;
use crate::request::Request;
use crate::response::{Response, kind};
use crate::route::{Form, Links};

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    page: Page<'a>,
    heading: &'a str,
    message: String,
}

/// The answer.
#[must_use]
pub fn view(problem: &Problem, request: &Request, form: Form) -> Response {
    let (content_type, body) = match form {
        Form::Json => {
            let view = results::json::ErrorView { error: problem.to_string() };
            (kind::JSON, serde_json::to_vec(&view).unwrap_or_default())
        }
        Form::Html | Form::Atom | Form::Badge => {
            (kind::HTML, render(request, problem.heading(), &problem.to_string()).into_bytes())
        }
    };
    let response = Response::new(problem.status(), content_type, body);
    if *problem == Problem::Method { response.with(header::ALLOW, "GET, HEAD") } else { response }
}

/// The page; should even that fail, the message alone.
fn render(request: &Request, heading: &str, message: &str) -> String {
    let page = Page::new(heading, Links { mount: &request.mount }, vec![Crumb::here(heading)]);
    let mut letters = message.chars();
    let message: String =
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).chain(['.']).collect();
    ErrorPage { page, heading, message }
        .render()
        .unwrap_or_else(|_| "<!doctype html><title>ktest-ci</title><p>This page could not be made.".into())
}
