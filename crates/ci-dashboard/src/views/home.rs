//! The list of users and branches, with the state of each branch tip.

use std::os::unix::fs::MetadataExt as _;

use askama::Template;
use model::{BranchName, Counts, Status, UserName, count_words};
use results::BranchEntry;
use results::json::UserView;

use super::eta::Estimator;
use super::{Context, build_lines};
use crate::http::Response;
use crate::page::{CountItem, Crumb, Page, Symbol as _, When, subject};
use crate::problem::Problem;
use crate::route::{BranchRef, Format};

/// The number of commits of a branch that are searched for queued and running tests.
const PROGRESS_MAX: usize = 20;

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    page: Page<'a>,
    heading: String,
    users: Vec<UserBlock>,
}

struct UserBlock {
    name: String,
    href: String,
    branches_words: String,
    branches: Vec<BranchLine>,
}

struct BranchLine {
    name: String,
    href: String,
    tip: Option<Tip>,
    /// What is being done for the newest commit with queued or running tests.
    progress: String,
}

struct Tip {
    short: String,
    href: String,
    subject: String,
    state: Status,
    words: String,
    behind: String,
    counts: Vec<CountItem>,
    tested: Option<When>,
}

/// The page of all users.
pub fn home(context: Context<'_>, format: Format) -> Result<Response, Problem> {
    let users = context.store.reader().users()?;
    if format == Format::Json {
        let views: Vec<_> = users.into_iter().map(|(user, branches)| UserView { user, branches }).collect();
        return context.json(&views);
    }
    let mut page = Page::new("Branches", context.links(), Vec::new());
    page.live = 10;
    page.json = Some(context.json_address());
    let snapshot = context.snapshot();
    let estimator = Estimator::new(context, &snapshot);
    let users = users.iter().map(|(user, branches)| block(context, &estimator, user, branches)).collect();
    context.html(&HomePage { page, heading: "Branches".into(), users })
}

/// The page of one user.
pub fn user(context: Context<'_>, user: &UserName, format: Format) -> Result<Response, Problem> {
    let branches = context
        .store
        .reader()
        .branches(user)?
        .ok_or_else(|| Problem::NotFound("no such user, or no results for their branches yet".into()))?;
    if format == Format::Json {
        return context.json(&UserView { user: user.clone(), branches });
    }
    let mut page = Page::new(user.as_str(), context.links(), vec![Crumb::here(user.as_str())]);
    page.live = 10;
    page.json = Some(context.json_address());
    let snapshot = context.snapshot();
    let users = vec![block(context, &Estimator::new(context, &snapshot), user, &branches)];
    context.html(&HomePage { page, heading: format!("Branches of {user}"), users })
}

fn block(
    context: Context<'_>,
    estimator: &Estimator<'_>,
    user: &UserName,
    branches: &[BranchName],
) -> UserBlock {
    let line = |branch: &BranchName| {
        let at = BranchRef::new(user, branch);
        // A branch with a listing that cannot be read is shown as not tested; the error is logged.
        let entries = context.store.branch(&at).unwrap_or_default();
        let href = context.links().branch(&at);
        let active: Vec<usize> =
            (0..entries.len().min(PROGRESS_MAX)).filter(|row| estimator.is_active(&entries[*row])).collect();
        let newest = active.first().and_then(|row| estimator.progress(&at, &entries, *row));
        BranchLine {
            name: branch.to_string(),
            href,
            tip: tip(context, &at, &entries, active.len()),
            progress: newest.unwrap_or_default(),
        }
    };
    UserBlock {
        name: user.to_string(),
        href: context.links().user(user),
        branches_words: match branches.len() {
            1 => "1 branch".into(),
            count => format!("{count} branches"),
        },
        branches: branches.iter().map(line).collect(),
    }
}

/// The newest commit with results.
fn tip(context: Context<'_>, at: &BranchRef, entries: &[BranchEntry], in_progress: usize) -> Option<Tip> {
    let (behind, entry) = entries.iter().enumerate().find(|(_, entry)| entry.counts.total() > 0)?;
    let builds = context.store.failed_builds(entry);
    let (state, words) = build_lines::state(&entry.counts, builds.as_deref());
    let blob = context.store.reader().output_dir().join(format!("{}.capnp", entry.commit));
    let tested = std::fs::metadata(blob).ok().and_then(|data| When::unix(data.mtime()));
    Some(Tip {
        short: entry.commit.short().into(),
        href: context.links().commit(Some(at), entry.commit.as_str()),
        subject: subject(&entry.message, 120),
        state,
        words,
        behind: match behind.saturating_sub(in_progress) {
            0 => String::new(),
            behind => format!("{behind} newer not tested"),
        },
        counts: build_lines::counts(&entry.counts, builds.as_deref()),
        tested,
    })
}

/// The most urgent status of the counts, in words.
#[must_use]
pub fn state(counts: &Counts) -> (Status, String) {
    match counts.by_urgency().next() {
        Some((Status::Passed, _)) => (Status::Passed, "all passed".into()),
        Some((status, count)) if status != Status::NotRun => (status, count_words(status, count)),
        _ => (Status::NotRun, "all skipped".into()),
    }
}
