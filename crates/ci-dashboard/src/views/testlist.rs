//! The tests of a commit as tables: failures in one row each, the others grouped by test file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use model::{Counts, Status};
use regress::first_bad::{Stretch, first_bad};
use results::{BranchEntry, TestEntry};

use super::commit_link::unname_repeated;
use super::commit_list::{Item, SameReason, Total};
use super::{CommitLink, Context, prefix_pattern};
use crate::page::{CountItem, Plural as _, Took, beyond_crash, count_items, cut, urgency};
use crate::route::{BranchRef, CommitRoute, with_parameter};

/// The maximum length of a reason in a list, in bytes.
const REASON_MAX: usize = 180;
/// The number of older commits with results at which a test is searched that may be new.
const NEW_SEARCHED: usize = 5;

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
    pub(super) tests: usize,
    pub(super) new: usize,
    /// The tests, if they are on this page.
    pub(super) rows: Vec<TestLine>,
    /// The list of the tests, if they are not on this page.
    pub(super) list_href: String,
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
#[derive(Clone)]
pub(super) struct Addresses<'a> {
    pub(super) base: String,
    pub(super) test: &'a str,
    pub(super) config: &'a str,
    pub(super) reason: &'a str,
    pub(super) status: Option<Status>,
}

impl Addresses<'_> {
    pub(super) fn with(&self, status: Option<Status>, test: &str, page: usize) -> String {
        let page = if page > 0 { page.to_string() } else { String::new() };
        let status = status.map(Status::field).unwrap_or_default();
        let (config, reason) = (self.config, self.reason);
        [("status", status), ("test", test), ("config", config), ("reason", reason), ("page", &page)]
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
    let failing = failing(shown);
    let older = place.entries[place.row + 1..]
        .iter()
        .map(|entry| if entry.counts.total() == 0 { None } else { context.store.statuses(&entry.commit) });
    first_bad(&failing, older)
}

/// The failed ones of these tests that are known to have passed at the commit before, or at the last one at which they ran.
pub(super) fn were_new<'a>(
    context: Context<'_>,
    place: Option<&BranchPosition>,
    listed: &[&'a TestEntry],
) -> HashSet<&'a str> {
    let Some(place) = place else { return HashSet::new() };
    let failing = failing(listed);
    let tested = place.entries[place.row + 1..].iter().filter(|entry| entry.counts.total() > 0);
    let older = tested.take(NEW_SEARCHED).map(|entry| context.store.statuses(&entry.commit));
    let found = first_bad(&failing, older).into_iter();
    let is_new = |stretch: &Stretch| stretch.first_bad == 0 && stretch.last_good.is_some();
    found.filter(|(_, stretch)| is_new(stretch)).map(|(name, _)| name).collect()
}

fn failing<'a>(entries: &[&'a TestEntry]) -> Vec<&'a str> {
    let failed = entries.iter().filter(|entry| entry.status() == Status::Failed);
    failed.map(|entry| entry.key.as_str()).collect()
}

/// The lines of a page as tables, one per status. `line` makes a row.
pub(super) fn sections(
    items: &[Item<'_>],
    totals: &BTreeMap<(usize, bool), Total>,
    addresses: &Addresses<'_>,
    line: impl Fn(&TestEntry) -> TestLine,
) -> Vec<Section> {
    let section = |items: &[Item<'_>]| {
        let first = items[0].first();
        let (status, total) = (first.status(), totals.get(&order(first)).copied().unwrap_or_default());
        let mut rows = Vec::new();
        let mut reasons = Vec::new();
        for item in items {
            match item {
                Item::Test(entry) => rows.push(line(entry)),
                Item::Reason(same) => reasons.push(reason_group(same, addresses, &line)),
            }
        }
        rows.sort_by_key(|row| !row.new);
        let all = reasons.iter_mut().flat_map(|group: &mut ReasonGroup| &mut group.rows).chain(&mut rows);
        unname_repeated(all.filter_map(|row| row.first_bad.as_mut()));
        if status == Status::FailedToRun {
            remove_repeated_reasons(&mut rows);
        }
        Section {
            heading: match is_known(first) {
                false => format!("{} {}", total.tests, status.label().to_lowercase()),
                true => total.tests.plural("known failure").to_string(),
            },
            note: match total.new {
                0 => String::new(),
                new => format!("{new} new at this commit"),
            },
            is_failed: status == Status::Failed,
            rows,
            reasons,
        }
    };
    items.chunk_by(|a, b| order(a.first()) == order(b.first())).map(section).collect()
}

fn reason_group(
    same: &SameReason<'_>,
    addresses: &Addresses<'_>,
    line: impl Fn(&TestEntry) -> TestLine,
) -> ReasonGroup {
    let (crash, reason) = reason_of(same.tests[0]);
    let row = |entry: &&TestEntry| TestLine { crash: String::new(), reason: String::new(), ..line(entry) };
    let mut rows: Vec<TestLine> =
        if same.unfolds { same.tests.iter().map(row).collect() } else { Vec::new() };
    rows.sort_by_key(|row| !row.new);
    let status = same.tests[0].status();
    ReasonGroup {
        tests: same.tests.len(),
        new: same.new,
        list_href: if same.unfolds {
            String::new()
        } else {
            Addresses { reason: &words_of(&crash, &reason), ..addresses.clone() }.with(
                Some(status),
                addresses.test,
                0,
            )
        },
        crash,
        reason,
        rows,
    }
}

/// The crash title and the reason of a test in a list.
pub(super) fn reason_of(entry: &TestEntry) -> (String, String) {
    let (crash, reason) = (entry.decisive.crash.as_deref(), entry.decisive.reason.as_deref());
    let reason = match entry.decisive.known_issue() {
        Some(known) => cut(&known.without_link(reason), REASON_MAX),
        None => cut(beyond_crash(reason, crash), REASON_MAX),
    };
    (cut(crash.unwrap_or(""), REASON_MAX), reason)
}

fn words_of(crash: &str, reason: &str) -> String {
    if crash.is_empty() || reason.is_empty() {
        format!("{crash}{reason}")
    } else {
        format!("{crash} · {reason}")
    }
}

/// Whether a test has this reason, as lists show it.
pub(super) fn has_reason(entry: &TestEntry, wanted: &str) -> bool {
    let (crash, reason) = reason_of(entry);
    words_of(&crash, &reason) == wanted
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
    let (crash, reason) = reason_of(entry);
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
        crash,
        reason,
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
