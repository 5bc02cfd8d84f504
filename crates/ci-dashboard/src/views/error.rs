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
    message: &'a str,
}

/// The page; should even that fail, the message alone.
#[must_use]
pub fn render(request: &Request, heading: &str, message: &str) -> String {
    let page = Page::new(heading, Links { mount: &request.mount }, vec![Crumb::here(heading)]);
    ErrorPage { page, heading, message }.render().unwrap_or_else(|_| "<!doctype html><p>not found".into())
}
