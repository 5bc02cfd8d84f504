//! Which tests the page of a commit lists, and on which page: failures first, and of these the new ones. Failures with the same
//! reason are one line. If there are many tests, those that passed or were skipped are not in the list.

use std::collections::{BTreeMap, HashMap, HashSet};

use model::Status;
use regress::builds::is_unbuilt;
use results::TestEntry;

use super::Context;
use super::pager::Pager;
use super::testlist::{BranchPosition, is_known, order, reason_of, were_new};
use crate::route::CommitRoute;

/// The size of a page. A failed test takes 2, another one 1.
const SIZE_MAX: usize = 100;
/// The number of tests with the same reason from which on they are one line.
const SAME_REASON_MIN: usize = 6;
/// The maximum number of tests with the same reason that are on the page of a long list; more have a list of their own.
const UNFOLDED_MAX: usize = 15;

/// A line of the list.
pub(super) enum Item<'a> {
    Test(&'a TestEntry),
    Reason(SameReason<'a>),
}

/// Failed tests with the same reason.
pub(super) struct SameReason<'a> {
    pub(super) tests: Vec<&'a TestEntry>,
    /// Those that passed at the commit before.
    pub(super) new: usize,
    /// Whether the tests are on the page.
    pub(super) unfolds: bool,
}

/// The number of tests with one status, and of the new ones.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    pub(super) tests: usize,
    pub(super) new: usize,
}

/// All that a commit lists.
pub(super) struct Listing<'a> {
    items: Vec<Item<'a>>,
    /// The tests that are shown by test file.
    pub(super) folded: Vec<&'a TestEntry>,
    /// By [`order`].
    pub(super) totals: BTreeMap<(usize, bool), Total>,
}

impl<'a> Listing<'a> {
    /// The tests with the selected status. Without a selection, passing and skipped tests of a long list are folded.
    pub(super) fn new(
        context: Context<'_>,
        place: Option<&BranchPosition>,
        route: &CommitRoute,
        matching: &[&'a TestEntry],
    ) -> Self {
        // Tests of a kernel that does not build are one line, unless they are selected.
        let is_chosen = |entry: &&TestEntry| match route.status {
            Some(status) => entry.status() == status,
            None => !is_unbuilt(entry),
        };
        let mut listed: Vec<&TestEntry> = matching.iter().copied().filter(is_chosen).collect();
        let mut folded = Vec::new();
        if route.status.is_none() && listed.iter().map(|entry| size(entry)).sum::<usize>() > SIZE_MAX {
            let is_quiet = |entry: &TestEntry| {
                matches!(entry.status(), Status::Passed | Status::NotRun) && !is_known(entry)
            };
            (folded, listed) = listed.into_iter().partition(|entry| is_quiet(entry));
        }
        let new = were_new(context, place, &listed);
        listed.sort_by_cached_key(|entry| (order(entry), !new.contains(entry.key.as_str())));
        let mut totals: BTreeMap<(usize, bool), Total> = BTreeMap::new();
        for entry in &listed {
            let total = totals.entry(order(entry)).or_default();
            total.tests += 1;
            total.new += usize::from(new.contains(entry.key.as_str()));
        }
        let fits = listed.iter().map(|entry| size(entry)).sum::<usize>() <= SIZE_MAX;
        let folds = route.reason.is_none();
        let sections = listed.chunk_by(|a, b| order(a) == order(b));
        let items = sections.flat_map(|section| items(section, &new, folds, fits)).collect();
        Self { items, folded, totals }
    }

    /// The lines of a page, the number of the page, and the links to the other pages.
    pub(super) fn page(&self, page: usize, address: &str) -> (&[Item<'a>], usize, Pager) {
        let mut starts = vec![0];
        let mut on_page = 0;
        for (at, item) in self.items.iter().enumerate() {
            if on_page > 0 && on_page + item.size() > SIZE_MAX {
                starts.push(at);
                on_page = 0;
            }
            on_page += item.size();
        }
        let (number, pager) = Pager::new(starts.len(), page, address);
        let end = starts.get(number + 1).copied().unwrap_or(self.items.len());
        (&self.items[starts[number]..end], number, pager)
    }
}

impl<'a> Item<'a> {
    /// The tests on the page.
    pub(super) fn tests(&self) -> &[&'a TestEntry] {
        match self {
            Self::Test(entry) => std::slice::from_ref(entry),
            Self::Reason(same) if same.unfolds => &same.tests,
            Self::Reason(_) => &[],
        }
    }

    fn size(&self) -> usize {
        1.max(self.tests().iter().map(|entry| size(entry)).sum())
    }

    /// One of its tests.
    pub(super) fn first(&self) -> &'a TestEntry {
        match self {
            Self::Test(entry) => entry,
            Self::Reason(same) => same.tests[0],
        }
    }
}

fn size(entry: &TestEntry) -> usize {
    if entry.status() == Status::Failed { 2 } else { 1 }
}

/// The lines of tests with one status: reasons that many tests share, most frequent first, then the other tests.
fn items<'a>(section: &[&'a TestEntry], new: &HashSet<&str>, folds: bool, fits: bool) -> Vec<Item<'a>> {
    let mut by_reason: HashMap<(String, String), Vec<&'a TestEntry>> = HashMap::new();
    let is_failure = matches!(section[0].status(), Status::Failed | Status::FailedToRun);
    if is_failure && folds && section.len() >= SAME_REASON_MIN {
        for entry in section {
            by_reason.entry(reason_of(entry)).or_default().push(entry);
        }
        by_reason.retain(|(crash, reason), tests| {
            tests.len() >= SAME_REASON_MIN && !(crash.is_empty() && reason.is_empty())
        });
    }
    let grouped: HashSet<&str> = by_reason.values().flatten().map(|entry| entry.key.as_str()).collect();
    let single = section.iter().filter(|entry| !grouped.contains(entry.key.as_str()));
    let single: Vec<Item<'a>> = single.map(|entry| Item::Test(entry)).collect();
    let mut reasons: Vec<((String, String), Vec<&TestEntry>)> = by_reason.into_iter().collect();
    reasons.sort_by(|a, b| (b.1.len(), &a.0).cmp(&(a.1.len(), &b.0)));
    let reason = |(_, tests): (_, Vec<&'a TestEntry>)| {
        Item::Reason(SameReason {
            new: tests.iter().filter(|entry| new.contains(entry.key.as_str())).count(),
            unfolds: fits || tests.len() <= UNFOLDED_MAX,
            tests,
        })
    };
    reasons.into_iter().map(reason).chain(single).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(tests: usize, reason: &str) -> Vec<TestEntry> {
        let entry = |number: usize| {
            let mut entry =
                TestEntry::new(format!("f.{reason}.{number:05}").parse().unwrap(), Status::Failed);
            entry.decisive.reason = Some(reason.into());
            entry
        };
        (0..tests).map(entry).collect()
    }

    #[test]
    fn many_failures_are_few_lines() {
        let entries: Vec<TestEntry> =
            [failed(7, "often"), failed(3_000, "most"), failed(60, "a"), failed(5, "rare")].concat();
        let section: Vec<&TestEntry> = entries.iter().collect();
        let new = HashSet::from([entries[3].key.as_str()]);
        let lines = items(&section, &new, true, false);
        let shown: Vec<(usize, usize, usize)> = lines
            .iter()
            .map(|item| match item {
                Item::Test(_) => (1, 0, item.size()),
                Item::Reason(same) => (same.tests.len(), same.new, item.size()),
            })
            .collect();
        let single = (1, 0, 2);
        assert_eq!(shown, [(3_000, 0, 1), (60, 0, 1), (7, 1, 14), single, single, single, single, single]);
        assert_eq!(items(&section, &new, false, false).len(), entries.len(), "the list of one reason");
    }

    #[test]
    fn each_test_is_on_one_page() {
        let entries = failed(230, "x");
        let items: Vec<Item<'_>> = entries.iter().map(Item::Test).collect();
        let listing = Listing { items, folded: Vec::new(), totals: BTreeMap::new() };
        let sizes: Vec<usize> = (0..6).map(|page| listing.page(page, "/").0.len()).collect();
        assert_eq!(sizes, [50, 50, 50, 50, 30, 30]);
        assert_eq!(listing.page(9, "/").1, 4);
    }
}
