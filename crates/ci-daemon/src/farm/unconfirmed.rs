//! Failures that an earlier daemon recorded and did not confirm.

use model::{CommitId, Status};
use results::Reader;

use crate::plan::JobRef;
use crate::plan::reruns::CONFIRMED_MAX;

/// The failures in the results of `commits` that ran here once and were not confirmed. Unreadable results have none.
#[must_use]
pub fn unconfirmed(reader: &Reader, commits: &[CommitId]) -> Vec<JobRef> {
    let mut left = Vec::new();
    for commit in commits {
        let Ok(Some(results)) = reader.commit(commit) else { continue };
        let failed = results.entries.iter().filter(|entry| entry.decisive.status == Status::Failed);
        let (once, more): (Vec<_>, Vec<_>) = failed.partition(|entry| entry.attempts() == 1);
        // Results of other systems have no host.
        let once = once.into_iter().filter(|entry| entry.decisive.host.is_some());
        let room = CONFIRMED_MAX.saturating_sub(more.len());
        left.extend(once.take(room).map(|entry| JobRef { commit: commit.clone(), key: entry.key.clone() }));
    }
    left
}
