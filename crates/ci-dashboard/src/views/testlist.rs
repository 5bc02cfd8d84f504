//! The tests of a commit as tables: failures in one row each, the others grouped by test file.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::{Counts, Status};
use regress::first_bad::{Stretch, first_bad};
use results::{BranchEntry, TestEntry};

use super::commit_link::unname_repeated;
use super::{CommitLink, Context, prefix_pattern};
use crate::page::{CountItem, Plural as _, Took, beyond_crash, count_items, cut, urgency};
use crate::route::{BranchRef, CommitRoute, with_parameter};

/// The maximum length of a reason in a list, in bytes.
const REASON_MAX: usize = 180;
/// The number of tests with the same reason from which on they are one line that unfolds.
const SAME_REASON_MIN: usize = 6;

pub(super) struct Section {
    pub(super) heading: String,
    pub(super) note: String,
    pub(super) is_failed: bool,
    pub(super) rows: Vec<TestLine>,
    /// The tests that failed for the same reason as many others.
    pub(super) reasons: Vec<ReasonGroup>,
}

/// Failed tests with the same reason.
pub(super) struct ReasonGroup {
    pub(super) crash: String,
    pub(super) reason: String,
    pub(super) new: usize,
    pub(super) rows: Vec<TestLine>,
}

pub(super) struct TestLine {
    pub(super) status: Status,
    pub(super) href: String,
    pub(super) file: String,
    pub(super) subtest: String,
    pub(super) new: bool,
    pub(super) rate: String,
    pub(super) crash: String,
    pub(super) reason: String,
    /// The report of a known failure; `None` if it is not known.
    pub(super) known: Option<String>,
    pub(super) first_bad: Option<CommitLink>,
    pub(super) last_good: Option<CommitLink>,
    pub(super) first_bad_note: &'static str,
    pub(super) took: String,
    pub(super) host: String,
}

pub(super) struct Group {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) counts: Vec<CountItem>,
    pub(super) took: String,
}

/// The position of the commit on a branch.
pub(super) struct BranchPosition {
    pub(super) at: BranchRef,
    pub(super) entries: Vec<BranchEntry>,
    pub(super) row: usize,
}

/// The addresses of this commit with another selection.
pub(super) struct Addresses<'a> {
    pub(super) base: String,
    pub(super) test: &'a str,
    pub(super) config: &'a str,
    pub(super) status: Option<Status>,
}

impl Addresses<'_> {
    pub(super) fn with(&self, status: Option<Status>, test: &str, page: usize) -> String {
        let page = if page > 0 { page.to_string() } else { String::new() };
        let status = status.map(Status::field).unwrap_or_default();
        [("status", status), ("test", test), ("config", self.config), ("page", &page)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .fold(self.base.clone(), |address, (name, value)| with_parameter(&address, name, value))
    }

    pub(super) fn page(&self, page: usize) -> String {
        self.with(self.status, self.test, page)
    }
}
/// The first bad commits of the failing tests on the page.
pub(super) fn first_bads<'a>(
    context: Context<'_>,
    place: Option<&BranchPosition>,
    shown: &[&'a TestEntry],
) -> HashMap<&'a str, Stretch> {
    let Some(place) = place else { return HashMap::new() };
    let failing: Vec<&str> = shown
        .iter()
        .filter(|entry| entry.status() == Status::Failed)
        .map(|entry| entry.key.as_str())
        .collect();
    let older = place.entries[place.row + 1..]
        .iter()
        .map(|entry| if entry.counts.total() == 0 { None } else { context.store.statuses(&entry.commit) });
    first_bad(&failing, older)
}

pub(super) fn sections(
    shown: &[&TestEntry],
    all: usize,
    line: impl Fn(&TestEntry) -> TestLine,
) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut kinds: BTreeMap<(usize, bool), Vec<&TestEntry>> = BTreeMap::new();
    for entry in shown {
        kinds.entry(order(entry)).or_default().push(entry);
    }
    for ((_, is_not_known), entries) in kinds {
        let status = entries[0].status();
        let mut rows: Vec<TestLine> = entries.iter().map(|entry| line(entry)).collect();
        rows.sort_by_key(|row| !row.new);
        unname_repeated(rows.iter_mut().filter_map(|row| row.first_bad.as_mut()));
        let new = rows.iter().filter(|row| row.new).count();
        let is_failure = matches!(status, Status::Failed | Status::FailedToRun);
        let (mut rows, reasons) = if is_failure { by_reason(rows) } else { (rows, Vec::new()) };
        if status == Status::FailedToRun {
            remove_repeated_reasons(&mut rows);
        }
        let note = match (status, new) {
            (Status::Failed, 1..) => format!("{new} new at this commit"),
            _ if all > shown.len() => format!("{} of {all} tests on this page", shown.len()),
            _ => String::new(),
        };
        sections.push(Section {
            heading: match is_not_known {
                true => format!("{} {}", entries.len(), status.label().to_lowercase()),
                false => entries.len().plural("known failure").to_string(),
            },
            note,
            is_failed: status == Status::Failed,
            rows,
            reasons,
        });
    }
    sections
}

/// The rows without those that share their reason with many others, and these by reason, largest group first.
fn by_reason(rows: Vec<TestLine>) -> (Vec<TestLine>, Vec<ReasonGroup>) {
    let mut groups: BTreeMap<(String, String), Vec<TestLine>> = BTreeMap::new();
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    for row in &rows {
        *counts.entry((&row.crash, &row.reason)).or_default() += 1;
    }
    let is_folded: Vec<bool> = rows
        .iter()
        .map(|row| {
            !(row.crash.is_empty() && row.reason.is_empty())
                && counts[&(&*row.crash, &*row.reason)] >= SAME_REASON_MIN
        })
        .collect();
    let mut single = Vec::new();
    for (mut row, is_folded) in rows.into_iter().zip(is_folded) {
        if is_folded {
            let reason = (std::mem::take(&mut row.crash), std::mem::take(&mut row.reason));
            groups.entry(reason).or_default().push(row);
        } else {
            single.push(row);
        }
    }
    let group = |((crash, reason), rows): ((String, String), Vec<TestLine>)| {
        let new = rows.iter().filter(|row| row.new).count();
        ReasonGroup { crash, reason, new, rows }
    };
    let mut groups: Vec<ReasonGroup> = groups.into_iter().map(group).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.rows.len()));
    (single, groups)
}

/// The position of a test in a list: known failures come before the tests that passed. The second part is false for them.
pub(super) fn order(entry: &TestEntry) -> (usize, bool) {
    match is_known(entry) {
        true => (urgency(Status::Passed), false),
        false => (urgency(entry.status()), true),
    }
}

/// Whether a test failed as an entry of a file `known-issues.toml` says.
pub(super) fn is_known(entry: &TestEntry) -> bool {
    entry.decisive.known_issue().is_some()
}

/// Removes a reason that is equal to the previous one: a single cause often prevents many tests from running.
pub(super) fn remove_repeated_reasons(rows: &mut [TestLine]) {
    let mut last = String::new();
    for row in rows {
        if row.reason == last {
            row.reason.clear();
        } else {
            last.clone_from(&row.reason);
        }
    }
}

pub(super) fn test_line(
    context: Context<'_>,
    route: &CommitRoute,
    place: Option<&BranchPosition>,
    first_bads: &HashMap<&str, Stretch>,
    entry: &TestEntry,
) -> TestLine {
    let links = context.links();
    let key = entry.key.as_str();
    let (file, subtest) = context.tests.split(key);
    let (stretch, known) = (first_bads.get(key), entry.decisive.known_issue());
    let older = |place: &BranchPosition, rows: usize| {
        let at = place.entries.get(place.row + rows)?;
        Some(CommitLink::listed(context, &place.at, at))
    };
    let (new, first_bad, last_good) = match (stretch, place) {
        (Some(Stretch { first_bad: 0, last_good: Some(good), .. }), Some(place)) => {
            (true, None, older(place, *good))
        }
        (Some(Stretch { first_bad, last_good: Some(good), .. }), Some(place)) => {
            (false, older(place, *first_bad), older(place, *good))
        }
        _ => (false, None, None),
    };
    TestLine {
        status: entry.status(),
        href: links.verdict(route.sha.as_str(), key, Some(entry.status())),
        file: file.into(),
        subtest: subtest.into(),
        new,
        rate: rate(entry),
        crash: cut(entry.decisive.crash.as_deref().unwrap_or(""), REASON_MAX),
        reason: match &known {
            Some(known) => cut(&known.without_link(entry.decisive.reason.as_deref()), REASON_MAX),
            None => cut(
                beyond_crash(entry.decisive.reason.as_deref(), entry.decisive.crash.as_deref()),
                REASON_MAX,
            ),
        },
        known: known.map(|known| known.link.unwrap_or_default()),
        first_bad,
        last_good,
        first_bad_note: match stretch {
            Some(Stretch { last_good: None, .. }) => "before this range",
            Some(Stretch { first_bad: 0, .. }) => "this commit",
            _ => "",
        },
        took: Took(entry.decisive.duration).to_string(),
        host: host(entry),
    }
}

/// `farm1/3`.
#[must_use]
pub(super) fn host(entry: &TestEntry) -> String {
    match (&entry.decisive.host, entry.decisive.slot) {
        (Some(host), Some(slot)) => format!("{host}/{slot}"),
        (Some(host), None) => host.to_string(),
        (None, _) => String::new(),
    }
}

/// `failed 3 of 25 runs`, if a test has more than one attempt.
#[must_use]
pub(super) fn rate(entry: &TestEntry) -> String {
    let failed = entry.attempts_in(Status::Failed);
    match (entry.attempts(), failed) {
        (0 | 1, _) | (_, 0) => String::new(),
        (attempts, failed) => format!("failed {failed} of {attempts} runs"),
    }
}

pub(super) fn groups_heading(entries: &[&TestEntry]) -> String {
    entries.iter().map(|entry| entry.status()).collect::<Counts>().to_string()
}

pub(super) fn groups(context: Context<'_>, entries: &[&TestEntry], addresses: &Addresses<'_>) -> Vec<Group> {
    let mut groups: BTreeMap<&str, (Counts, Duration)> = BTreeMap::new();
    for entry in entries {
        let (file, _) = context.tests.split(entry.key.as_str());
        let (counts, took) = groups.entry(file).or_default();
        counts.add(entry.status());
        *took += entry.decisive.duration;
    }
    groups
        .into_iter()
        .map(|(file, (counts, took))| Group {
            name: if file.is_empty() { "(no test file)".into() } else { file.trim_end_matches('.').into() },
            href: {
                let mut href = addresses.with(None, "", 0);
                href.push(if href.contains('?') { '&' } else { '?' });
                href.push_str("test=");
                href.push_str(&prefix_pattern(file));
                href
            },
            counts: count_items(&counts),
            took: Took(took).to_string(),
        })
        .collect()
}
