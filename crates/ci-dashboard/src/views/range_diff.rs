//! The commits of a branch before and after a force-push, side by side: what kept its results, what broke and what was fixed.

use std::collections::HashMap;
use std::time::Duration;

use askama::Template;
use model::CommitId;
use regress::CommitStatuses;
use regress::eta::expected_slots;
use regress::range_diff::{NamedTests, PairResults, PairRow, PushResults, RangeDiffView};
use results::BranchEntry;
use results::pushes::{self, COMMITS_MAX, Mark, Pushes};

use super::{CommitLink, Context};
use crate::http::Response;
use crate::page::{CountItem, Page, Plural as _, Took, When, count_items, cut};
use crate::problem::Problem;
use crate::route::{BranchRef, Format, Links};
use crate::store::Store;

/// The maximum number of broken or fixed tests that a page names for a commit.
const NAMED_MAX: usize = 4;
/// More new commits than this at the bottom are collapsed: the base of the branch has moved.
const FOLD_MIN: usize = 10;
/// The maximum length of a subject, in bytes.
const SUBJECT_MAX: usize = 160;
/// A push is shown on the page of the branch for this time, in seconds.
const SHOWN_S: i64 = 7 * 24 * 3600;

#[derive(Template)]
#[template(path = "range_diff.html")]
struct RangeDiffPage<'a> {
    page: Page<'a>,
    at: &'a BranchRef,
    branch_href: String,
    view: &'a RangeDiffView,
    summary: String,
    when: Option<When>,
    old: Side,
    new: Side,
    rows: Vec<Row>,
    folded: Vec<Row>,
    unchanged: String,
    cut: String,
    others: Vec<Other>,
}

/// A commit, with a link if it has a page.
struct Side {
    short: String,
    href: Option<String>,
}

struct Row {
    mark: &'static str,
    word: &'static str,
    class: &'static str,
    old: Option<Side>,
    new: Option<Side>,
    subject: String,
    /// The commit in the listing of the branch.
    listed: Option<CommitLink>,
    counts: Vec<CountItem>,
    results: &'static str,
    compare: Option<String>,
    broke: Named,
    fixed: Named,
}

struct Named {
    names: Vec<String>,
    more: usize,
}

struct Other {
    when: Option<When>,
    old: String,
    new: String,
    href: String,
}

/// The results of a site.
struct StoredResults<'a> {
    store: &'a Store,
    means: HashMap<String, Duration>,
}

impl<'a> StoredResults<'a> {
    fn new(store: &'a Store) -> Self {
        let durations = store.reader().durations().unwrap_or_default();
        Self {
            store,
            means: durations.into_iter().map(|known| (known.test.to_string(), known.mean)).collect(),
        }
    }
}

impl PushResults for StoredResults<'_> {
    fn statuses(&self, commit: &CommitId) -> Option<CommitStatuses> {
        self.store.statuses(commit)
    }

    fn inherited(&self, commit: &CommitId) -> usize {
        self.store.reader().inherited_tests(commit)
    }

    fn mean(&self, test: &str) -> Option<Duration> {
        self.means.get(test).copied()
    }
}

/// The force-pushes of a branch; a file that cannot be read is only logged.
fn read(context: Context<'_>, at: &BranchRef) -> Option<Pushes> {
    pushes::read(context.store.reader().output_dir(), at).unwrap_or_else(|error| {
        tracing::warn!("{error}");
        None
    })
}

fn range_diff(
    context: Context<'_>,
    at: &BranchRef,
    of: Option<&CommitId>,
    entries: &[BranchEntry],
) -> Option<RangeDiffView> {
    let pushes = read(context, at)?;
    let slots = expected_slots(&context.snapshot()).get(at.user.as_str()).copied().unwrap_or(0.0);
    RangeDiffView::new(at, &pushes, of, entries, &StoredResults::new(context.store), slots)
}

/// One line about the newest force-push of a branch, if it is recent, and when it was.
pub(super) fn line(
    context: Context<'_>,
    at: &BranchRef,
    entries: &[BranchEntry],
) -> Option<(String, Option<When>)> {
    let pushes = read(context, at)?;
    let push = pushes.pushes.first().filter(|push| context.now.saturating_sub(push.at) < SHOWN_S)?;
    let when = When::unix(push.at);
    Some((summary(&range_diff(context, at, None, entries)?), when))
}

/// `17 of 20 commits kept their results, 3 to run, about 4 min`.
fn summary(view: &RangeDiffView) -> String {
    match view.seconds_left {
        _ if view.problem.is_some() => "the versions are not compared".into(),
        Some(seconds) if seconds < 60 => format!("{}, less than a minute", view.summary()),
        Some(seconds) => format!("{}, about {}", view.summary(), Took(Duration::from_secs(seconds))),
        None => view.summary(),
    }
}

/// The view.
pub fn view(
    context: Context<'_>,
    at: &BranchRef,
    of: Option<&CommitId>,
    format: Format,
) -> Result<Response, Problem> {
    let entries = context.store.branch(at)?;
    let missing = || Problem::NotFound("no such force-push of this branch is recorded".into());
    let view = range_diff(context, at, of, &entries).ok_or_else(missing)?;
    if format == Format::Json {
        return context.json(&view);
    }
    let links = context.links();
    let mut page = context.branch_page(at, format!("Force-push of {}", at.branch), "range-diff");
    if view.to_run > 0 {
        page.live = 3;
    }
    let listed: HashMap<&CommitId, &BranchEntry> =
        entries.iter().map(|entry| (&entry.commit, entry)).collect();
    let link = |commit: &CommitId| listed.get(commit).map(|entry| CommitLink::listed(context, at, entry));
    let mut rows: Vec<Row> = view
        .pairs
        .iter()
        .map(|pair| Row { listed: pair.commit.new.as_ref().and_then(link), ..row(links, at, pair) })
        .collect();
    let below = view.pairs.iter().rev().take_while(|pair| pair.mark() == Mark::New).count();
    let folded = if below > FOLD_MIN { rows.split_off(rows.len() - below) } else { Vec::new() };
    let other = |other: &regress::range_diff::PushRow| Other {
        when: When::unix(other.pushed),
        old: other.old.short().into(),
        new: other.new.short().into(),
        href: links.range_diff(at, Some(&other.old)),
    };
    context.html(&RangeDiffPage {
        page,
        at,
        branch_href: links.branch(at),
        summary: summary(&view),
        when: When::unix(view.pushed),
        old: side(links, at, &view.old, context.store.statuses(&view.old).is_some()),
        new: side(links, at, &view.new, true),
        rows,
        folded,
        unchanged: view.unchanged_words().unwrap_or_default(),
        cut: if view.is_cut {
            format!("A version has more than {COMMITS_MAX} commits. Only the newest ones are compared.")
        } else {
            String::new()
        },
        others: view.others.iter().map(other).collect(),
        view: &view,
    })
}

fn side(links: Links<'_>, at: &BranchRef, commit: &CommitId, has_page: bool) -> Side {
    Side { short: commit.short().into(), href: has_page.then(|| links.commit(Some(at), commit.as_str())) }
}

fn row(links: Links<'_>, at: &BranchRef, pair: &PairRow) -> Row {
    let (mark, word) = pair.mark().words();
    let commit = &pair.commit;
    let old = commit.old.as_ref().map(|old| {
        // A commit that no branch lists has a page if it has results.
        let href = pair.old_counts.is_some().then(|| links.commit(None, old.as_str()));
        Side { short: old.short().into(), href }
    });
    let changed =
        commit.old.as_ref().zip(commit.new.as_ref()).filter(|_| {
            pair.mark() == Mark::Changed && pair.old_counts.is_some() && pair.new_counts.is_some()
        });
    Row {
        mark,
        word,
        class: match pair.mark() {
            Mark::Kept => "mute",
            Mark::Changed => "s-failed_to_run",
            Mark::New => "good",
            Mark::Gone => "bad",
        },
        old,
        new: commit.new.as_ref().map(|new| side(links, at, new, true)),
        subject: crate::page::subject(&commit.subject, SUBJECT_MAX),
        listed: None,
        counts: pair.shown_counts().map(count_items).unwrap_or_default(),
        results: match pair.results {
            Some(PairResults::Kept) => "results kept",
            Some(PairResults::Ran) => "ran",
            Some(PairResults::ToRun) => "to run",
            Some(PairResults::NotTested) => "not tested",
            None => "",
        },
        compare: changed.map(|(old, new)| links.compare(Some(&at.user), old.as_str(), new.as_str())),
        broke: named(&pair.broke),
        fixed: named(&pair.fixed),
    }
}

fn named(tests: &NamedTests) -> Named {
    let names: Vec<String> = tests.names.iter().take(NAMED_MAX).map(|name| cut(name, 120)).collect();
    Named { more: tests.count.saturating_sub(names.len()), names }
}
