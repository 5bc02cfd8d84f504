//! The page of a problem.

use askama::Template;

use crate::page::{Crumb, Page};
use crate::request::Request;
use crate::route::Links;

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    page: Page<'a>,
    heading: &'a str,
    message: String,
}

/// The page; should even that fail, the message alone.
#[must_use]
pub fn render(request: &Request, heading: &str, message: &str) -> String {
    let page = Page::new(heading, Links { mount: &request.mount }, vec![Crumb::here(heading)]);
    let mut letters = message.chars();
    let message: String =
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).chain(['.']).collect();
    ErrorPage { page, heading, message }
        .render()
        .unwrap_or_else(|_| "<!doctype html><title>ktest-ci</title><p>This page could not be made.".into())
}
