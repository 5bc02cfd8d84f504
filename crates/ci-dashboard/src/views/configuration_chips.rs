//! Links that select the tests of one configuration, with the counts of each.

use model::{Status, TestConfiguration, select_configurations};
use regress::configurations::configuration_counts;

use crate::page::{CountItem, count_items, cut};

/// The maximum number of configurations that have a link.
const CHIPS_MAX: usize = 30;

/// A link.
pub(super) struct Chip {
    pub(super) label: String,
    pub(super) counts: Vec<CountItem>,
    pub(super) href: String,
    pub(super) current: bool,
}

/// A link for each configuration of these tests; none if there is only one. `address` is that of the page with the given
/// parameter `config`, empty for all.
pub(super) fn chips_of<'a>(
    tests: impl IntoIterator<Item = (&'a str, Status)>,
    wanted: Option<&str>,
    address: impl Fn(&str) -> String,
) -> Vec<Chip> {
    let found = configuration_counts(tests);
    if found.len() < 2 && wanted.is_none() {
        return Vec::new();
    }
    let present: Vec<TestConfiguration<'_>> = found.iter().map(|(configuration, _)| *configuration).collect();
    let selected = wanted.map(|wanted| select_configurations(wanted, &present)).unwrap_or_default();
    let all = Chip {
        label: "All configurations".into(),
        counts: Vec::new(),
        href: address(""),
        current: wanted.is_none(),
    };
    let chip = |(configuration, counts): &(TestConfiguration<'a>, model::Counts)| {
        let name = configuration.to_string();
        Chip {
            href: address(&name),
            label: cut(&name, 100),
            counts: count_items(counts),
            current: selected.contains(configuration),
        }
    };
    std::iter::once(all).chain(found.iter().take(CHIPS_MAX).map(chip)).collect()
}
