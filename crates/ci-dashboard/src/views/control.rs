//! The form with which an operator stops or resumes something: `/ci/control`.

use askama::Template;

use super::Context;
use crate::http::Response;
use crate::page::{Crumb, Page, cut};
use crate::problem::Problem;
use crate::route::{ControlAction, ControlRoute, ControlWords};

#[derive(Template)]
#[template(path = "control.html")]
struct ControlPage<'a> {
    page: Page<'a>,
    title: String,
    words: ControlWords,
    has_reason: bool,
    address: String,
    at: String,
    batch: String,
    /// The other actions: button, address.
    others: Vec<(&'static str, String)>,
}

/// The view.
pub fn view(context: Context<'_>, route: &ControlRoute) -> Result<Response, Problem> {
    if !context.reruns {
        return Err(Problem::NotFound("this dashboard was started without --rerun-token-file".into()));
    }
    let ControlRoute { action, at, batch } = route;
    let (links, words, at) = (context.links(), action.words(), cut(at, 300));
    let title = format!("{} {at}", words.button).trim_end().to_owned();
    let crumbs = vec![Crumb::link("status", links.status()), Crumb::here(words.button)];
    let others = ControlAction::ALL.into_iter().filter(|other| other != action);
    let other = |other: ControlAction| (other.words().button, links.control(other, "", None));
    context.html(&ControlPage {
        page: Page::new(title.clone(), links, crumbs),
        title,
        words,
        has_reason: matches!(action, ControlAction::Drain | ControlAction::Pause),
        address: links.controls(),
        at,
        batch: batch.map(|batch| batch.to_string()).unwrap_or_default(),
        others: others.map(other).collect(),
    })
}
