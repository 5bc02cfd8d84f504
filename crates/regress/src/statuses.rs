//! The statuses of a commit's tests as columns. Commits with the same tests share the list of names.

use std::sync::Arc;

use model::Status;

/// The names of the tests of a commit. Commits with the same tests share one list.
pub type Names = Arc<[Box<str>]>;

/// The tests of one commit with their statuses.
#[derive(Debug, Clone)]
pub struct CommitStatuses {
    /// The names of the tests.
    pub names: Names,
    /// One status per name, in the same order.
    pub statuses: Arc<[Status]>,
}

impl CommitStatuses {
    /// The status of a test. Uses binary search if the names are sorted, which they are not in the results of other
    /// writers.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Status> {
        self.get_sorted(name).or_else(|| {
            let at = self.names.iter().position(|other| **other == *name)?;
            self.statuses.get(at).copied()
        })
    }

    /// The status of a test if the names are sorted.
    fn get_sorted(&self, name: &str) -> Option<Status> {
        let at = self.names.binary_search_by(|other| (**other).cmp(name)).ok()?;
        self.statuses.get(at).copied()
    }
}

/// Looks up tests at many commits. If the names are sorted, a test that a commit does not have costs as little as one that it has.
#[derive(Debug, Default)]
pub struct Lookup {
    /// Whether these names are sorted.
    sets: Vec<(Names, bool)>,
}

impl Lookup {
    /// The status of a test at a commit.
    pub fn get(&mut self, commit: &CommitStatuses, name: &str) -> Option<Status> {
        let known = self.sets.iter().rev().find(|(names, _)| Arc::ptr_eq(names, &commit.names));
        let is_sorted = known.map(|(_, is_sorted)| *is_sorted).unwrap_or_else(|| {
            let is_sorted = commit.names.is_sorted();
            self.sets.push((Arc::clone(&commit.names), is_sorted));
            is_sorted
        });
        if is_sorted { commit.get_sorted(name) } else { commit.get(name) }
    }
}
