//! Since which commit tests fail: a walk from a commit towards the older ones that stops as soon as every test has met
//! a pass, so that it mostly reads a commit or two.

use std::collections::HashMap;

use model::Status;

use crate::changes::Verdicts;

/// The oldest commit from which a test fails without a pass between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// At this commit: the last pass is `good` commits older, 0 being the parent.
    Here {
        /// The last pass.
        good: usize,
    },
    /// Since a commit that is older.
    Older {
        /// The first failure, counted likewise.
        bad: usize,
        /// The last pass.
        good: usize,
    },
    /// No pass is in sight.
    Always,
}

/// For tests that fail at a commit, and the verdicts of the older commits, nearest first (`None`: no results).
pub fn since<'a>(
    failing: &[&'a str],
    mut older: impl Iterator<Item = Option<Verdicts>>,
) -> HashMap<&'a str, Since> {
    let mut found: HashMap<&str, Since> = HashMap::with_capacity(failing.len());
    // The tests that met no pass so far, and the oldest failure of each.
    let mut open: Vec<(&str, Option<usize>)> = failing.iter().map(|name| (*name, None)).collect();
    let mut next = 0;
    while !open.is_empty() {
        let Some(verdicts) = older.next() else { break };
        let row = next;
        next += 1;
        let Some(Verdicts { names, statuses }) = verdicts else { continue };
        open.retain_mut(|(name, oldest)| {
            let Some(at) = position(&names, name) else { return true };
            match statuses.get(at) {
                Some(Status::Passed) => {
                    let since = match *oldest {
                        None => Since::Here { good: row },
                        Some(bad) => Since::Older { bad, good: row },
                    };
                    found.insert(name, since);
                    false
                }
                Some(Status::Failed) => {
                    *oldest = Some(row);
                    true
                }
                _ => true,
            }
        });
    }
    found.extend(open.into_iter().map(|(name, _)| (name, Since::Always)));
    found
}

fn position(names: &[Box<str>], name: &str) -> Option<usize> {
    names
        .binary_search_by(|other| (**other).cmp(name))
        .ok()
        .or_else(|| names.iter().position(|other| **other == *name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_walk_ends_where_all_met_a_pass() {
        use Status::{Failed, FailedToRun, Passed};
        let names: Arc<[Box<str>]> = ["a", "b", "c"].map(Box::from).into();
        let row =
            |statuses: [Status; 3]| Some(Verdicts { names: Arc::clone(&names), statuses: statuses.into() });
        let rows = [
            row([FailedToRun, FailedToRun, FailedToRun]),
            row([Passed, Failed, Failed]),
            None,
            row([Failed, Passed, Failed]),
        ];
        let found = since(&["a", "b", "c"], rows.clone().into_iter());
        assert_eq!(found["a"], Since::Here { good: 1 });
        assert_eq!(found["b"], Since::Older { bad: 1, good: 3 });
        assert_eq!(found["c"], Since::Always);
        let mut read = 0;
        since(&["a"], rows.into_iter().inspect(|_| read += 1));
        assert_eq!(read, 2);
    }
}
