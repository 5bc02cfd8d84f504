//! Since when a test fails, on its page: the first bad and the last good commit, for how long, and where else it fails.

use model::{BranchRef, CommitId, ResultKey, Status};
use regress::first_bad::{Stretch, stretches};
use results::BranchEntry;
use results::json::{BranchTipRow, SinceRow};

use super::testlist::BranchPosition;
use super::{CommitLink, Context, TestLink};
use crate::page::{Plural as _, When, cut};

/// The maximum number of branches that are listed.
const BRANCHES_MAX: usize = 12;

/// Since when a test fails.
pub struct Culprit {
    /// The first bad commit.
    pub first_bad: CommitLink,
    /// Whether it is the commit of the page.
    pub is_here: bool,
    /// The untested commits before it that may be the first bad one.
    pub between: String,
    /// The last good commit.
    pub last_good: Option<CommitLink>,
    /// On how many commits it fails up to this one.
    pub commits: String,
    /// When it first failed.
    pub since: Option<When>,
    /// The first newer commit that passes.
    pub first_good: Option<CommitLink>,
}

/// The stretch of failures that contains the commit.
fn stretch_at(context: Context<'_>, place: &BranchPosition, key: &ResultKey) -> Option<Stretch> {
    let status = |entry: &BranchEntry| {
        let tested = (entry.counts.total() > 0).then(|| context.store.statuses(&entry.commit))??;
        tested.get(key.as_str())
    };
    let found = stretches(place.entries.iter().map(status));
    found.into_iter().find(|stretch| (stretch.last_bad..=stretch.first_bad).contains(&place.row))
}

impl Culprit {
    /// The stretch of failures that contains the commit at a row.
    pub fn new(
        stretch: &Stretch,
        row: usize,
        since: Option<When>,
        link: impl Fn(usize) -> CommitLink,
    ) -> Self {
        Self {
            first_bad: link(stretch.first_bad),
            is_here: stretch.first_bad == row,
            between: match (stretch.last_good, stretch.untested_between()) {
                (None, _) => "or an earlier commit: no listed one passes".into(),
                (_, 0) => String::new(),
                (_, 1) => "or the untested commit before it".into(),
                (_, between) => format!("or one of the {between} untested commits before it"),
            },
            last_good: stretch.last_good.map(&link),
            commits: (stretch.first_bad + 1 - row).plural("commit").to_string(),
            since,
            first_good: stretch.first_good.map(&link),
        }
    }
}

/// Since when the test fails at the commit; `None` if it does not, or the stretch is unknown.
pub fn culprit(context: Context<'_>, place: &BranchPosition, key: &ResultKey) -> Option<Culprit> {
    let stretch = stretch_at(context, place, key)?;
    let BranchPosition { at, entries, row } = place;
    let first = context.store.reader().entry(&entries[stretch.first_bad].commit, key).ok().flatten();
    let since = first.and_then(|entry| When::unix(entry.decisive.started?));
    Some(Culprit::new(&stretch, *row, since, |row| CommitLink::listed(context, at, &entries[row])))
}

/// The same as JSON.
pub fn since(context: Context<'_>, place: &BranchPosition, key: &ResultKey) -> Option<SinceRow> {
    let Stretch { first_bad, last_bad, last_good, .. } = stretch_at(context, place, key)?;
    let row = place.row;
    let relative = Stretch {
        first_bad: first_bad - row,
        last_bad: last_bad.saturating_sub(row),
        last_good: last_good.map(|good| good - row),
        first_good: None,
    };
    Some(regress::json::since(key.as_str(), &place.entries[row..], &relative))
}

/// The branches at whose newest tested commit the test fails, without the branch and the commit of the page.
pub fn also_fails_in(
    context: Context<'_>,
    here: &BranchRef,
    commit: &CommitId,
    key: &ResultKey,
) -> Vec<BranchTipRow> {
    let is_other =
        |tip: &BranchTipRow| (&tip.user, &tip.branch) != (&here.user, &here.branch) && tip.commit != *commit;
    let fails = |tip: &BranchTipRow| {
        let statuses = context.store.statuses(&tip.commit);
        statuses.and_then(|statuses| statuses.get(key.as_str())) == Some(Status::Failed)
    };
    context.store.tips().into_iter().filter(is_other).filter(fails).collect()
}

/// The failures on other branches, as displayed on pages.
#[derive(Default)]
pub struct Elsewhere {
    /// Links to them.
    pub links: Vec<TestLink>,
    /// The number of those that are not listed.
    pub more: usize,
}

impl Elsewhere {
    /// The failures of a test at the newest tested commits of these branches.
    pub fn new(context: Context<'_>, key: &ResultKey, tips: &[BranchTipRow]) -> Self {
        let link = |tip: &BranchTipRow| TestLink {
            name: cut(&format!("{}/{}", tip.user, tip.branch), 120),
            href: context.links().verdict(tip.commit.as_str(), key.as_str(), Some(Status::Failed)),
        };
        let links = tips.iter().take(BRANCHES_MAX).map(link).collect();
        Self { links, more: tips.len().saturating_sub(BRANCHES_MAX) }
    }
}
