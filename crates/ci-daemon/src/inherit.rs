//! Commits inherit the verdicts of others. Those that differ from a tested one only in their message, author or history have
//! the same source tree, and nothing is built or run for them. Others turn out to have the same kernel when it is built, and
//! nothing is run for them (see [`crate::executor::run`]).

use std::collections::BTreeSet;

use config::Config;
use futures_util::future::join_all;
use model::{BranchRef, CommitId, ResultKey, Status, TrustDomain, Verdict};
use results::{Attempt, TestEntry, VerdictRecord, Writer};

use crate::plan::units_of;

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
