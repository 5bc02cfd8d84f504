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
    #[must_use]
    pub fn get_sorted(&self, name: &str) -> Option<Status> {
        let at = self.names.binary_search_by(|other| (**other).cmp(name)).ok()?;
        self.statuses.get(at).copied()
    }
}
