//! Since when the failed tests of a commit fail: found in a directory, or taken from a dashboard that found it.

use model::{BranchRef, Status};
use regress::first_bad::first_bad;
use regress::suspicious::Columns;
use results::json::SinceRow;
use results::{BranchEntry, CommitResults};

use crate::backend::all_branches;
use crate::context::Context;
use crate::problem::Problem;

/// The failed tests of a commit, sorted by name, on this branch or else on the first one that lists the commit.
pub fn of_commit(
    context: &Context,
    at: Option<&BranchRef>,
    results: &CommitResults,
) -> Result<Vec<SinceRow>, Problem> {
    let mut failing: Vec<&str> = results
        .entries
        .iter()
        .filter(|entry| entry.status() == Status::Failed)
        .map(|entry| entry.key.as_str())
        .collect();
    if failing.is_empty() {
        return Ok(Vec::new());
    }
    failing.sort_unstable();
    let mut rows = match context.backend.source() {
        None => context.backend.since(at, &results.commit)?.unwrap_or_default(),
        Some(source) => {
            let Some(newest_first) = from_commit(context, at, results)? else { return Ok(Vec::new()) };
            let older = newest_first[1..].iter().map(|entry| {
                let tested = (entry.counts.total() > 0).then(|| source.columns(&entry.commit))?;
                tested.map(Columns::into_statuses)
            });
            let found = first_bad(&failing, older);
            let row = |name: &&str| Some(regress::json::since(name, &newest_first, found.get(name)?));
            failing.iter().filter_map(row).collect()
        }
    };
    rows.retain(|row| failing.binary_search(&row.name.as_str()).is_ok());
    Ok(rows)
}

/// The commits of a branch from this one on.
fn from_commit(
    context: &Context,
    at: Option<&BranchRef>,
    results: &CommitResults,
) -> Result<Option<Vec<BranchEntry>>, Problem> {
    let names = match at {
        Some(at) => vec![at.clone()],
        None => all_branches(&*context.backend)?,
    };
    for mut entries in context.backend.listings(&names) {
        if let Some(row) = entries.iter().position(|entry| entry.commit == results.commit) {
            return Ok(Some(entries.split_off(row)));
        }
    }
    Ok(None)
}
