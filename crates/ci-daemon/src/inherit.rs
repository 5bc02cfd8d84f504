//! Commits inherit the verdicts of others. Those that differ from a tested one only in their message, author or history have
//! the same source tree, and nothing is built or run for them. Others turn out to have the same kernel when it is built, and
//! nothing is run for them (see [`crate::executor::run`]). A share of the inherited verdicts is checked: the test runs all the
//! same, as a further attempt.

use std::collections::BTreeSet;

use config::Config;
use fsx::digest::Hasher;
use futures_util::future::join_all;
use model::{BranchRef, CommitId, ResultKey, Share, Status, TrustDomain, Verdict};
use results::{Attempt, Reader, TestEntry, VerdictRecord, Writer};

use crate::plan::{JobRef, units_of};

/// Records what the listed commits of these branches inherit. Returns the heirs.
pub async fn inherit(writer: &Writer, config: &Config, branches: &[BranchRef]) -> Vec<CommitId> {
    let mut heirs = Vec::new();
    for branch in branches {
        let is_base = config.branch(branch).is_some_and(|branch| branch.base_cache);
        let domain = TrustDomain::of_branch(config.top.trust, branch, is_base);
        let twins = writer.reader().twins(branch, &domain);
        let prefixes = if twins.is_empty() { BTreeSet::new() } else { prefixes(config, branch) };
        for (heir, source) in twins {
            match of_commit(writer, &prefixes, (&heir, &domain), &source).await {
                Ok(0) => {}
                Ok(tests) => {
                    tracing::info!(
                        "{branch}: {} has the source tree of {} and inherits the verdicts of {tests} tests",
                        heir.short(),
                        source.short()
                    );
                    heirs.push(heir);
                }
                Err(error) => tracing::warn!("{branch}: {} inherits no verdicts: {error}", heir.short()),
            }
        }
    }
    heirs
}

/// Records the verdicts that a commit inherits, of tests with these prefixes. Returns the number of tests.
async fn of_commit(
    writer: &Writer,
    prefixes: &BTreeSet<String>,
    heir: (&CommitId, &TrustDomain),
    source: &CommitId,
) -> results::Result<usize> {
    let Some(results) = writer.reader().commit(source)? else { return Ok(0) };
    let is_inherited = |entry: &TestEntry| {
        // What failed to run may run now.
        entry.decisive.status != Status::FailedToRun
            && prefixes.iter().any(|prefix| entry.key.as_str().starts_with(prefix))
    };
    let entries: Vec<(CommitId, TestEntry)> =
        results.entries.into_iter().filter(is_inherited).map(|entry| (source.clone(), entry)).collect();
    record(writer, heir, &entries).await?;
    Ok(entries.len())
}

/// Records that a commit inherits the results of tests at other commits, with all attempts.
pub async fn record(
    writer: &Writer,
    heir: (&CommitId, &TrustDomain),
    entries: &[(CommitId, TestEntry)],
) -> results::Result<()> {
    let most = entries.iter().map(|(_, entry)| entry.attempts()).max().unwrap_or(0);
    // The store numbers the attempts of a test in the order in which they are recorded.
    for number in 1..=most {
        let of_number = entries
            .iter()
            .filter_map(|(source, entry)| attempt(heir, source, &entry.key, entry.attempt(number)?));
        for recorded in join_all(of_number.map(|attempt| writer.record(attempt))).await {
            recorded?;
        }
    }
    Ok(())
}

/// Whether an inherited verdict is checked. The same ones are chosen after a restart.
pub fn is_checked(share: Share, commit: &CommitId, key: &ResultKey) -> bool {
    let mut hash = Hasher::new();
    hash.field(commit.as_str());
    hash.field(key.as_str());
    let [a, b, c, d, e, f, g, h, ..] = hash.finish();
    share.includes(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// The inherited verdicts of these commits that may have to be checked and of which no attempt has run: those in the largest share
/// of any group.
pub fn unchecked(reader: &Reader, config: &Config, commits: &[CommitId]) -> Vec<JobRef> {
    let groups = config.all_branches().flat_map(|branch| config.groups_of(branch));
    let most = groups.map(|group| group.inherit_check).max().unwrap_or_default();
    if most == Share::default() {
        return Vec::new();
    }
    let of_commit = |commit: &CommitId| {
        let keys = reader.only_inherited(commit).into_iter();
        let job =
            |key: ResultKey| is_checked(most, commit, &key).then(|| JobRef { commit: commit.clone(), key });
        keys.filter_map(job).collect::<Vec<_>>()
    };
    commits.iter().flat_map(of_commit).collect()
}

/// What the names of the tests of a branch that are inherited start with.
fn prefixes(config: &Config, branch: &BranchRef) -> BTreeSet<String> {
    let configured = config.branch(branch);
    let groups = configured.into_iter().flat_map(|branch| &branch.test_groups);
    let groups = groups.filter_map(|name| config.test_group(&branch.user, name));
    let units = groups.filter(|group| group.inherit).flat_map(units_of);
    units.map(|unit| ResultKey::file_prefix(&unit.test, unit.kernel.as_ref(), &unit.env)).collect()
}

/// The record of an inherited attempt; `None` if it has no verdict. It names the commit at which the attempt ran, also if
/// `source` inherited it.
fn attempt(
    (heir, domain): (&CommitId, &TrustDomain),
    source: &CommitId,
    key: &ResultKey,
    attempt: &Attempt,
) -> Option<VerdictRecord> {
    let verdict = Verdict::of(attempt.status, attempt.reason.clone())?;
    Some(VerdictRecord {
        started: attempt.started,
        crash: attempt.crash.clone(),
        host: attempt.host.clone(),
        slot: attempt.slot,
        kernel: attempt.kernel.clone(),
        image_hash: attempt.image_hash.as_deref().map(Into::into),
        conditions: attempt.conditions.clone(),
        domain: Some(domain.clone()),
        ran_at: Some(attempt.ran_at.clone().unwrap_or_else(|| source.clone())),
        ..VerdictRecord::new(heir.clone(), key.clone(), verdict, attempt.duration)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture;

    #[test]
    fn the_chosen_share_depends_on_commit_and_test_only() {
        let chosen = |share: &str| -> Vec<(u32, u32)> {
            let share = share.parse().unwrap();
            let key = |test: u32| format!("fs.ext4.basic.t{test}").parse().unwrap();
            let pairs = (0..50).flat_map(|commit| (0..100).map(move |test| (commit, test)));
            pairs.filter(|(commit, test)| is_checked(share, &fixture::commit(*commit), &key(*test))).collect()
        };
        let two = chosen("2%");
        assert_eq!(two, chosen("2%"));
        assert!((70..130).contains(&two.len()), "{} of 5000", two.len());
        let ten = chosen("10%");
        assert!(two.iter().all(|pair| ten.contains(pair)), "a larger share has those of a smaller one");
        assert_eq!((chosen("0%").len(), chosen("100%").len()), (0, 5000));
    }
}
