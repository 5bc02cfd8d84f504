//! Build failures on the pages of branches, commits and users: the banner, the lines of a commit, and its counts. A kernel that does not
//! build is one failure; its tests are not counted as failures.

use model::{BuiltKernel, Counts, Status};
use regress::builds::{BuildHistory, CommitBuilds, FailedKernels, other_counts};
use results::json::BuildRow;
use results::{Authorship, BranchEntry, CommitResults};

use super::testlist::BranchPosition;
use super::{CommitLink, Context};
use crate::page::{CountItem, Plural as _, Symbol as _, count_items, cut};
use crate::route::BranchRef;

/// The maximum length of an error, in bytes.
const ERROR_MAX: usize = 300;
/// The maximum number of banners, and of lines of a commit.
const LINES_MAX: usize = 4;

/// A commit in the builds along its branch. Without a branch, it is the only one.
pub(super) struct BuildPosition {
    pub(super) history: BuildHistory,
    pub(super) entries: Vec<BranchEntry>,
    pub(super) row: usize,
}

impl BuildPosition {
    pub(super) fn new(context: Context<'_>, place: Option<&BranchPosition>, results: &CommitResults) -> Self {
        if let Some(BranchPosition { entries, row, .. }) = place {
            let history = context.store.build_history(entries);
            return Self { history, entries: entries.clone(), row: *row };
        }
        let entry = BranchEntry {
            commit: results.commit.clone(),
            message: results.message.clone(),
            authorship: Authorship::default(),
            counts: results.counts(),
            duration: results.duration(),
        };
        let history = BuildHistory::new(vec![Some(CommitBuilds::from(results).into())]);
        Self { history, entries: vec![entry], row: 0 }
    }

    /// The commit.
    pub(super) fn link(&self, context: Context<'_>, at: Option<&BranchRef>) -> CommitLink {
        link(context, at, &self.entries[self.row])
    }

    /// What does not build at the commit.
    pub(super) fn failed(&self) -> Vec<FailedKernels> {
        self.history.failed(self.row)
    }

    /// The banners of the commit.
    pub(super) fn banners(
        &self,
        context: Context<'_>,
        at: Option<&BranchRef>,
        failed: &[FailedKernels],
    ) -> Vec<Banner> {
        failed
            .iter()
            .take(LINES_MAX)
            .map(|failed| banner(context, at, &self.entries, self.row, failed))
            .collect()
    }
}

/// The headline of a branch or a commit with a kernel that does not build.
pub(super) struct Banner {
    /// `Tip`, `This commit`, or empty.
    pub(super) lead: &'static str,
    /// The commit that does not build, if it is not this one.
    pub(super) commit: Option<CommitLink>,
    /// ` (kasan)`, or empty if nothing builds.
    pub(super) part: String,
    /// The first commit that does not build, if it is another one.
    pub(super) since: Option<CommitLink>,
    /// `or 2 before`, `or earlier`; empty if the first bad commit is certain.
    pub(super) between: String,
    /// The first error.
    pub(super) error: String,
    /// The page of the build.
    pub(super) href: String,
    /// `60 tests not run`.
    pub(super) tests: String,
}

/// The banners of a branch: the kernels that do not build at the newest commit at which they were built.
pub(super) fn banners_of_branch(
    context: Context<'_>,
    at: &BranchRef,
    builds: &BuildHistory,
    entries: &[BranchEntry],
) -> Vec<Banner> {
    let mut rows: Vec<usize> = builds.failing_now().map(|(_, stretch)| stretch.last_bad).collect();
    rows.sort_unstable();
    rows.dedup();
    let newest = entries.iter().position(|entry| entry.counts.total() > 0);
    let of_row = |row: usize| {
        let lead = match row {
            0 => "Tip",
            _ if newest == Some(row) => "The newest tested commit",
            _ => "",
        };
        let failed = builds.failed(row).into_iter().filter(|failed| failed.stretch.still_fails());
        let commit = link(context, Some(at), &entries[row]);
        failed.map(move |failed| Banner {
            lead,
            commit: Some(commit.clone()),
            ..banner(context, Some(at), entries, row, &failed)
        })
    };
    rows.into_iter().flat_map(of_row).take(LINES_MAX).collect()
}

fn link(context: Context<'_>, at: Option<&BranchRef>, entry: &BranchEntry) -> CommitLink {
    CommitLink::new(context, at, &entry.commit, &entry.message, &entry.authorship)
}

fn banner(
    context: Context<'_>,
    at: Option<&BranchRef>,
    entries: &[BranchEntry],
    row: usize,
    failed: &FailedKernels,
) -> Banner {
    let stretch = failed.stretch;
    Banner {
        lead: "This commit",
        commit: None,
        part: parenthesized(&failed.part),
        since: (stretch.first_bad != row).then(|| link(context, at, &entries[stretch.first_bad])),
        between: match (stretch.last_good, stretch.untested_between()) {
            (None, _) if entries.len() > 1 => "or earlier".into(),
            (None, _) | (_, 0) => String::new(),
            (_, between) => format!("or {between} before"),
        },
        error: cut(&failed.failure.error, ERROR_MAX),
        href: build_href(context, &entries[row], failed),
        tests: format!("{} not run", failed.failure.tests.plural("test")),
    }
}

fn parenthesized(part: &str) -> String {
    if part.is_empty() { String::new() } else { format!(" ({})", cut(part, 120)) }
}

fn build_href(context: Context<'_>, entry: &BranchEntry, failed: &FailedKernels) -> String {
    let kernel = if failed.part.is_empty() { None } else { failed.kernels.first() };
    context.links().build(entry.commit.as_str(), kernel)
}

/// What a commit changed for the build, on its row.
pub(super) struct BuildLine {
    pub(super) class: &'static str,
    /// `▼ broke the build`.
    pub(super) lead: String,
    /// The first error; empty if the build is fixed.
    pub(super) error: String,
    /// The page of the build.
    pub(super) href: String,
}

/// The lines of a row. Of the commits at which the same error remains, only the first one has a line.
pub(super) fn lines(
    context: Context<'_>,
    builds: &BuildHistory,
    entries: &[BranchEntry],
    row: usize,
) -> Vec<BuildLine> {
    let mut lines: Vec<BuildLine> = Vec::new();
    for failed in builds.failed(row) {
        let Some((class, lead)) = lead(builds, row, &failed) else { continue };
        let error = cut(&failed.failure.error, ERROR_MAX);
        lines.push(BuildLine { class, lead, error, href: build_href(context, &entries[row], &failed) });
    }
    let fixed = builds.change(row).fixed;
    if !fixed.is_empty() {
        let href = context.links().build(entries[row].commit.as_str(), None);
        lines.push(BuildLine {
            class: "good",
            lead: fixed_words(builds, row, &fixed),
            error: String::new(),
            href,
        });
    }
    lines.truncate(LINES_MAX);
    lines
}

fn lead(builds: &BuildHistory, row: usize, failed: &FailedKernels) -> Option<(&'static str, String)> {
    let (part, stretch) = (parenthesized(&failed.part), failed.stretch);
    if stretch.first_bad == row {
        return Some(match stretch.last_good {
            Some(_) => (
                "bad",
                format!("▼ broke the build{part}{}", super::branch::broke_where(stretch.untested_between())),
            ),
            None => ("bad", format!("! does not build{part}, here or earlier")),
        });
    }
    let kernel = failed.kernels.first()?;
    let older = (row + 1..=stretch.first_bad).find_map(|row| builds.at(row)?.failure(kernel));
    let is_other = older.is_some_and(|older| older.error != failed.failure.error);
    is_other.then(|| ("bad", format!("! another build error{part}")))
}

fn fixed_words(builds: &BuildHistory, row: usize, fixed: &[BuiltKernel]) -> String {
    let all = builds.at(row).map_or(0, |builds| builds.kernels().count());
    let name =
        |kernel: &BuiltKernel| if kernel.is_default() { "default kernel".into() } else { kernel.to_string() };
    let names: Vec<String> = fixed.iter().map(name).collect();
    let part = if fixed.len() < all { parenthesized(&names.join(", ")) } else { String::new() };
    format!("▲ fixed the build{part}")
}

/// The counts of a commit: a kernel that does not build is one item, and its tests are not counted as failed to run.
pub(super) fn counts(counts: &Counts, builds: Option<&CommitBuilds>) -> Vec<CountItem> {
    let Some((builds, what)) = builds.and_then(|builds| Some((builds, builds.what()?))) else {
        return count_items(counts);
    };
    let counts = other_counts(counts, &BuildRow::from(builds));
    let status = Status::Failed;
    let item = CountItem { status, symbol: status.symbol(), count: 0, label: format!("{what} failed") };
    std::iter::once(item).chain(count_items(&counts)).collect()
}

/// The most urgent state of a commit, in words.
pub(super) fn state(counts: &Counts, builds: Option<&CommitBuilds>) -> (Status, String) {
    let others = super::home::state(counts);
    match builds.and_then(CommitBuilds::what) {
        None => others,
        Some(what) if others.0 == Status::Failed => (Status::Failed, format!("{what} failed, {}", others.1)),
        Some(what) => (Status::Failed, format!("{what} failed")),
    }
}
