//! Tables of function names.
//!
//! A row is `FILES: NAME NAME ...`. A name is a regular expression for a whole function name, in which `*` matches any
//! characters. Leading underscores, the prefix of position-independent copies (`__pi_`) and the suffix of the allocation
//! profiler (`_noprof`) are ignored.

use regex::{RegexSet, RegexSetBuilder};

/// A compiled table.
pub(crate) struct Names {
    set: RegexSet,
    rows: Vec<&'static str>,
    /// Each name with the index of its row.
    names: Vec<(&'static str, usize)>,
}

impl Names {
    /// The names of `rows`.
    pub fn new(rows: impl Iterator<Item = &'static str>) -> Self {
        let of_row = |(row, text): (usize, &'static str)| {
            let names = text.split_once(": ").map_or(text, |(_, names)| names);
            names.split_whitespace().map(move |name| (name, row))
        };
        let rows: Vec<_> = rows.collect();
        let names: Vec<_> = rows.iter().copied().enumerate().flat_map(of_row).collect();
        let patterns =
            names.iter().map(|(name, _)| format!("^_*(?:pi_+)?(?:{})$", name.replace('*', r"\w*")));
        // Function names are ASCII; Unicode classes would only make the automaton larger.
        let set = RegexSetBuilder::new(patterns).unicode(false).size_limit(64 << 20).build();
        Self { set: set.expect("the names are regular expressions"), rows, names }
    }

    /// The rows with a name that matches `function`.
    pub fn rows(&self, function: &str) -> impl Iterator<Item = usize> {
        let name = function.strip_suffix("_noprof").unwrap_or(function);
        let fitting: Vec<usize> = self.set.matches(name).into_iter().collect();
        let names = fitting.into_iter().map(|index| self.names[index]);
        names.filter(|(name, row)| in_force(self.rows[*row], name)).map(|(_, row)| row)
    }

    /// Whether a name matches `function`.
    pub fn contains(&self, function: &str) -> bool {
        self.rows(function).next().is_some()
    }
}

#[cfg(not(test))]
const fn in_force(_: &str, _: &str) -> bool {
    true
}

#[cfg(test)]
use measure::in_force;

/// Titles without certain rows or names, for `leave_one_out`.
#[cfg(test)]
pub(crate) mod measure {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    type Set = BTreeSet<&'static str>;

    thread_local! {
        static WITHOUT: RefCell<Set> = const { RefCell::new(Set::new()) };
        static USED: RefCell<Set> = const { RefCell::new(Set::new()) };
    }

    pub(super) fn in_force(row: &'static str, name: &'static str) -> bool {
        USED.with_borrow_mut(|used| used.extend([row, name]));
        !WITHOUT.with_borrow(|without| without.contains(row) || without.contains(name))
    }

    /// Runs `f` without these entries. Also returns the entries that matched a function.
    pub(crate) fn without<T>(entries: &Set, f: impl FnOnce() -> T) -> (T, Set) {
        WITHOUT.set(entries.clone());
        USED.take();
        let value = f();
        WITHOUT.take();
        (value, USED.take())
    }
}
