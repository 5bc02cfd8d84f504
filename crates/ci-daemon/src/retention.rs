//! Retention: deletes results that all passes during a whole day planned to delete.
//!
//! [`results::retention`] makes the plan. It contains only commits that are beyond the end of a branch's listing. The
//! delay of one day leaves time to notice and correct a listing that became empty or short by mistake.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::CommitId;
use results::retention::{Plan, Policy};
use results::{Reader, Writer};
use serde::Serialize;

use crate::unlist::Unconfigured;
use fsx::clock::unix_seconds as now;

/// How long a commit must be in the plan before its results are deleted, in seconds.
pub const WAIT_S: i64 = 24 * 3600;
/// The maximum size of the stored plan, in bytes.
const PLANNED_MAX: u64 = 64 << 20;

/// The time when each commit was added to the plan, in Unix seconds.
pub type PlannedSince = BTreeMap<CommitId, i64>;

/// The part of `plan` that is due at `now`, and the rest, to be stored for the next pass. With `wait_s` 0, all of it is
/// due.
#[must_use]
pub fn due(plan: Plan, since: &PlannedSince, wait_s: i64, now: i64) -> (Plan, PlannedSince) {
    let (mut due, mut waits) = (Plan { keep: plan.keep, ..Plan::default() }, PlannedSince::new());
    for removal in plan.remove {
        // If the clock was set back, the delay restarts.
        let first = since.get(&removal.commit).copied().filter(|first| *first <= now).unwrap_or(now);
        if now - first >= wait_s {
            due.remove.push(removal);
        } else {
            waits.insert(removal.commit, first);
            due.keep += 1;
        }
    }
    (due, waits)
}

fn file(output_dir: &Path) -> PathBuf {
    output_dir.join(crate::WORK).join("retention.json")
}

/// The plan of the last pass. If it cannot be read, it is empty and every commit waits again.
#[must_use]
pub fn planned(output_dir: &Path) -> PlannedSince {
    let bytes = fsx::own::read(&file(output_dir), PLANNED_MAX).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn save(output_dir: &Path, since: &PlannedSince) -> std::io::Result<()> {
    let path = file(output_dir);
    if since.is_empty() && !path.exists() {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        fsx::own::create_dir_all(dir)?;
    }
    fsx::publish::file(&path, serde_json::to_vec(since)?, fsx::publish::Durability::Cached)?;
    Ok(())
}

/// The policy that keeps the results of `keep` commits of each branch.
#[must_use]
pub fn policy(keep: usize) -> Policy {
    Policy { commits: keep, ..Policy::default() }
}

/// A pass of the daemon. An error during planning deletes nothing.
pub async fn pass(writer: Writer, keep: usize) {
    if let Err(error) = once(&writer, keep, WAIT_S).await {
        tracing::error!("retention: {error}; retrying in an hour");
    }
}

/// Plans, deletes what is due, and stores the rest of the plan. Returns what was deleted.
pub async fn once(writer: &Writer, keep: usize, wait_s: i64) -> results::Result<Plan> {
    // Writes the daemon's listings to disk, from where the plan reads them.
    writer.flush().await?;
    let planner = writer.clone();
    let planned_now = tokio::task::spawn_blocking(move || planner.plan_retention(policy(keep))).await;
    let plan = planned_now.map_err(|_| results::Error::Closed)??;
    let (due, waits) = due(plan, &planned(writer.output_dir()), wait_s, now());
    if let Err(error) = save(writer.output_dir(), &waits) {
        tracing::warn!("retention: the plan cannot be saved: {error}");
    }
    if !due.remove.is_empty() {
        tracing::info!("retention: {due}");
        writer.apply(due.clone()).await?;
    }
    Ok(due)
}

/// The output of `ci-daemon retention`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The number of commits with results that are kept.
    pub keep: usize,
    /// The commits with results to delete, or with deleted results.
    pub remove: Vec<ExpiredCommit>,
    /// The branches with results that are not in the configuration. Their results are kept until the branch is unlisted.
    pub unconfigured: Vec<Unconfigured>,
    #[serde(skip)]
    done: bool,
}

/// A commit with results to delete.
#[derive(Debug, Serialize)]
pub struct ExpiredCommit {
    /// The commit.
    pub commit: CommitId,
    /// Their size.
    pub bytes: u64,
    /// Seconds until they are deleted; 0 means the next pass.
    pub in_s: i64,
}

impl Report {
    /// The report after a deletion.
    #[must_use]
    pub fn done(plan: &Plan) -> Self {
        let deleted = plan.remove.iter().map(|of| ExpiredCommit {
            commit: of.commit.clone(),
            bytes: of.bytes,
            in_s: 0,
        });
        Self { keep: plan.keep, remove: deleted.collect(), unconfigured: Vec::new(), done: true }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for commit in &self.remove {
            let when = match (self.done, commit.in_s) {
                (true, _) => "deleted".to_owned(),
                (false, 0) => "in the next pass".to_owned(),
                (false, s) => format!("in {} h", (s + 3599) / 3600),
            };
            writeln!(f, "{}  {:>8.1} MB  {when}", commit.commit, commit.bytes as f64 / 1e6)?;
        }
        let bytes: u64 = self.remove.iter().map(|commit| commit.bytes).sum();
        let word = if self.done { "deleted" } else { "to be deleted" };
        let (count, keep) = (self.remove.len(), self.keep);
        writeln!(f, "{word}: the results of {count} commits, {:.1} MB; {keep} are kept", bytes as f64 / 1e6)?;
        for Unconfigured { branch, commits } in &self.unconfigured {
            writeln!(
                f,
                "branch {branch} is not in the configuration; the results of its {commits} commits are kept; \
                 to drop it, run: ci-daemon unlist {branch}"
            )?;
        }
        Ok(())
    }
}

/// What the next passes would delete. Deletes nothing, and works while a daemon runs.
pub fn preview(output_dir: &Path, keep: usize, wait_s: i64) -> results::Result<Report> {
    let reader = Reader::open(output_dir)?;
    let plan = results::retention::plan(&reader, policy(keep), SystemTime::now())?;
    let (since, now) = (planned(output_dir), now());
    let remove = plan.remove.into_iter().map(|of| {
        let first = since.get(&of.commit).copied().filter(|first| *first <= now).unwrap_or(now);
        ExpiredCommit { commit: of.commit, bytes: of.bytes, in_s: (first + wait_s - now).max(0) }
    });
    Ok(Report { keep: plan.keep, remove: remove.collect(), unconfigured: Vec::new(), done: false })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use results::retention::Removal;

    use super::*;

    fn commit(n: u8) -> CommitId {
        format!("{n:040x}").parse().unwrap()
    }

    fn plan(commits: &BTreeSet<u8>) -> Plan {
        let remove = commits.iter().map(|n| Removal { commit: commit(*n), bytes: 1 }).collect();
        Plan { remove, keep: 5 }
    }

    proptest! {
        #[test]
        fn only_what_was_planned_for_a_whole_day_is_deleted(
            passes in proptest::collection::vec((0i64..60_000, proptest::collection::btree_set(0u8..6, 0..6)), 1..60),
        ) {
            let (mut now, mut since) = (1_000_000, PlannedSince::new());
            // The time when each commit was last not in the plan.
            let mut not_planned: BTreeMap<u8, i64> = BTreeMap::new();
            for (later, mut wanted) in passes {
                now += later;
                // Deleted commits are not planned again.
                wanted.retain(|n| not_planned.get(n).is_none_or(|at| *at != i64::MAX));
                let (gone, waits) = due(plan(&wanted), &since, WAIT_S, now);
                for n in 0..6 {
                    let went = gone.remove.iter().any(|removal| removal.commit == commit(n));
                    prop_assert!(!went || wanted.contains(&n));
                    prop_assert!(!(went && waits.contains_key(&commit(n))));
                    if went {
                        let first = since[&commit(n)];
                        prop_assert!(now - first >= WAIT_S);
                        // A pass can plan it in the second in which an earlier pass did not.
                        prop_assert!(not_planned.get(&n).is_none_or(|at| first >= *at));
                        not_planned.insert(n, i64::MAX);
                    } else if !wanted.contains(&n) && not_planned.get(&n) != Some(&i64::MAX) {
                        not_planned.insert(n, now);
                        prop_assert!(!waits.contains_key(&commit(n)));
                    }
                }
                prop_assert_eq!(gone.keep + gone.remove.len(), 5 + wanted.len());
                since = waits;
            }
        }
    }

    #[test]
    fn wait_0_has_no_delay_and_a_clock_set_back_restarts_it() {
        let wanted = BTreeSet::from([1]);
        assert_eq!(due(plan(&wanted), &PlannedSince::new(), 0, 7).0.remove.len(), 1);
        let since = PlannedSince::from([(commit(1), 1000)]);
        assert_eq!(due(plan(&wanted), &since, WAIT_S, 500).1, PlannedSince::from([(commit(1), 500)]));
    }

    /// Creates listings, and results of commits 0 to 9 that are a month old.
    fn farm(dir: &Path, listings: &[Vec<u8>]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let writer = Writer::open(dir).unwrap();
            for (at, commits) in listings.iter().enumerate() {
                let commits = commits.iter().map(|n| (commit(*n), String::new())).collect();
                writer.set_branch(&format!("u/b{at}").parse().unwrap(), commits).await.unwrap();
            }
            writer.close().await.unwrap();
        });
        let old = SystemTime::now() - std::time::Duration::from_secs(30 * 86_400);
        for n in 0..10 {
            let path = dir.join(format!("{}.capnp", commit(n)));
            std::fs::write(&path, "").unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn listed_commits_are_kept_and_an_invalid_listing_keeps_everything(
            listings in proptest::collection::vec(proptest::collection::vec(0u8..10, 0..6), 0..4),
            keep in 1usize..5,
            broken in proptest::bool::ANY,
        ) {
            let dir = tempfile::tempdir().unwrap();
            farm(dir.path(), &listings);
            let reader = Reader::open(dir.path()).unwrap();
            if broken && !listings.is_empty() {
                std::fs::write(dir.path().join("branch.u.b0.capnp"), "rubbish").unwrap();
                prop_assert!(results::retention::plan(&reader, policy(keep), SystemTime::now()).is_err());
                return Ok(());
            }
            let plan = results::retention::plan(&reader, policy(keep), SystemTime::now()).unwrap();
            let kept: BTreeSet<CommitId> =
                listings.iter().flat_map(|list| list.iter().take(keep)).map(|n| commit(*n)).collect();
            let deleted: BTreeSet<CommitId> = plan.remove.iter().map(|removal| removal.commit.clone()).collect();
            let all = if listings.is_empty() { BTreeSet::new() } else { (0..10).map(commit).collect() };
            prop_assert_eq!(deleted, all.difference(&kept).cloned().collect::<BTreeSet<_>>());
        }
    }

    #[tokio::test]
    async fn the_plan_is_saved() {
        let dir = tempfile::tempdir().unwrap();
        let since = PlannedSince::from([(commit(1), 1000)]);
        save(dir.path(), &PlannedSince::new()).unwrap();
        assert!(!file(dir.path()).exists());
        save(dir.path(), &since).unwrap();
        assert_eq!(planned(dir.path()), since);
        std::fs::write(file(dir.path()), "{").unwrap();
        assert_eq!(planned(dir.path()), PlannedSince::new());
    }
}
