//! What each commit of a branch broke and fixed, as JSON. Pages show it on the branch page.

use super::Context;
use crate::http::Response;
use crate::problem::Problem;
use crate::route::{BranchRef, Format};

/// The view.
pub fn view(context: Context<'_>, at: &BranchRef, format: Format) -> Result<Response, Problem> {
    if format != Format::Json {
        return Err(Problem::BadRequest(
            "what commits broke and fixed is given as JSON; add &format=json".into(),
        ));
    }
    let entries = context.store.branch(at)?;
    let history = context.store.history(&entries);
    context.json(&regress::json::changes(&entries, &history))
}
