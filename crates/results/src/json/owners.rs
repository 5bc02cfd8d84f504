//! The owners of the failed tests of a commit.

use std::collections::BTreeMap;

use model::{Owner, Status};
use serde::{Deserialize, Serialize};

use crate::owners::Owners;
use crate::types::TestEntry;

/// The owners of some failed tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnersRow {
    /// As the test files declare them.
    pub owners: Vec<Owner>,
    /// The result keys, in the order of the results.
    pub tests: Vec<String>,
}

impl OwnersRow {
    /// The owners of the tests that failed or failed to run.
    #[must_use]
    pub fn of_failed<'a>(owners: &Owners, entries: impl IntoIterator<Item = &'a TestEntry>) -> Vec<Self> {
        let mut found: BTreeMap<&[Owner], Vec<String>> = BTreeMap::new();
        for entry in entries {
            let is_failed = matches!(entry.status(), Status::Failed | Status::FailedToRun);
            let of = if is_failed { owners.of(&entry.key) } else { &[] };
            if !of.is_empty() {
                found.entry(of).or_default().push(entry.key.to_string());
            }
        }
        found.into_iter().map(|(owners, tests)| Self { owners: owners.to_vec(), tests }).collect()
    }
}
