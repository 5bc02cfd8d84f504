//! Idle slots finish the claims that a failure is fixed: which ones, and how much of the idle time they may use.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use belief::{Confidence, FixState};
use config::Config;
use model::{BranchRef, CommitId, ResultKey, Share};
use regress::branch_history::BranchHistory;
use regress::{CommitStatuses, Names, fix};
use results::{Reader, Statuses, Writer};
use tokio::task::JoinHandle;

/// The interval in seconds at which claims are searched.
const INTERVAL: i64 = 300;
/// The maximum number of newest commits of a branch that are searched.
const COMMITS_MAX: usize = 100;
/// The maximum number of tests of a branch that are examined, the most recently fixed first.
const TESTS_MAX: usize = 50;
/// The maximum number of claims that are kept.
const CLAIMS_MAX: usize = 16;
/// The maximum time in seconds that counts as idle at once: after a longer one, the machine was suspended.
const STEP_MAX: i64 = 60;

/// A claim that further runs can prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenClaim {
    /// The branch.
    pub branch: BranchRef,
    /// The test.
    pub key: ResultKey,
    /// The number of passes that are missing.
    pub missing: u32,
}

/// Searches claims in the background, from time to time.
#[derive(Debug, Default)]
pub struct OpenClaims {
    search: Option<JoinHandle<Vec<OpenClaim>>>,
    begun: Option<i64>,
}

impl OpenClaims {
    /// The claims of a search that ended since the last call. Starts the next search if it is due. `now` in Unix seconds.
    pub async fn newest(
        &mut self,
        writer: &Writer,
        config: &Arc<Config>,
        now: i64,
    ) -> Option<Vec<OpenClaim>> {
        if self.search.is_none() && self.begun.is_none_or(|begun| now.saturating_sub(begun) >= INTERVAL) {
            self.begun = Some(now);
            let (reader, config) = (writer.reader(), Arc::clone(config));
            self.search = Some(tokio::task::spawn_blocking(move || open_claims(&reader, &config)));
        }
        let search = self.search.take_if(|search| search.is_finished())?;
        search.await.ok()
    }
}

/// The claims of the branches with a test group that has a share, nearest to done first. Branches and tests that cannot be read are left
/// out.
fn open_claims(reader: &Reader, config: &Config) -> Vec<OpenClaim> {
    let has_share = |branch: &&config::Branch| {
        let groups = branch.test_groups.iter();
        let mut groups = groups.filter_map(|group| config.test_group(&branch.name.user, group));
        groups.any(|group| group.soak > Share::default())
    };
    let branches = config.all_branches().filter(has_share);
    let mut found: Vec<OpenClaim> =
        branches.flat_map(|branch| of_branch(reader, &branch.name).unwrap_or_default()).collect();
    found.sort_by(|a, b| (a.missing, &a.branch, &a.key).cmp(&(b.missing, &b.branch, &b.key)));
    found.truncate(CLAIMS_MAX);
    found
}

fn of_branch(reader: &Reader, branch: &BranchRef) -> Option<Vec<OpenClaim>> {
    let listed = reader.branch(branch).ok()??;
    let mut names: HashMap<u64, Names> = HashMap::new();
    let tested = listed.iter().filter(|entry| entry.counts.total() > 0).take(COMMITS_MAX);
    let history = BranchHistory::new(tested.map(|entry| statuses(reader, &entry.commit, &mut names)));
    let mut seen = HashSet::new();
    let newest = history.failures().iter().filter(|failure| seen.insert(failure.test));
    let fixed = newest.filter(|failure| !failure.stretch.still_fails()).take(TESTS_MAX);
    let open = |key: ResultKey| {
        let entries = reader.history(branch, &key).ok()??;
        let claim = fix::at(&entries, 0, Confidence::USUAL)?;
        let open = OpenClaim { branch: branch.clone(), key, missing: claim.missing() };
        (claim.state() == FixState::Unproven).then_some(open)
    };
    Some(fixed.filter_map(|failure| open(history.name(failure.test).parse().ok()?)).collect())
}

pub(crate) fn statuses(
    reader: &Reader,
    commit: &CommitId,
    names: &mut HashMap<u64, Names>,
) -> Option<CommitStatuses> {
    let Statuses { keys_hash, statuses } = reader.statuses(commit).ok()??;
    let names = match names.entry(keys_hash) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(vacant) => {
            let read = reader.names(commit).filter(|(hash, _)| *hash == keys_hash);
            let names: Names = match read {
                Some((_, names)) => names.into(),
                None => {
                    let results = reader.commit(commit).ok()??;
                    results.entries.iter().map(|entry| Box::from(entry.key.as_str())).collect()
                }
            };
            vacant.insert(names)
        }
    };
    let names = Some(Names::clone(names)).filter(|names| names.len() == statuses.len())?;
    Some(CommitStatuses { names, statuses: statuses.into() })
}

/// The idle slot time, and how much of it such runs used, in seconds.
#[derive(Debug, Default)]
pub struct IdleTime {
    idle: f64,
    used: f64,
    /// The time of the last count, Unix seconds.
    at: Option<i64>,
}

impl IdleTime {
    /// Counts the time since the last call, with this number of idle slots and of slots with such runs.
    pub fn count(&mut self, idle: usize, running: usize, now: i64) {
        let slots = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let step = self.at.map_or(0, |at| now.saturating_sub(at).clamp(0, STEP_MAX));
        let seconds = f64::from(i32::try_from(step).unwrap_or(0));
        self.idle += seconds * slots(idle.saturating_add(running));
        self.used += seconds * slots(running);
        self.at = Some(now);
    }

    /// Whether a run of this many seconds stays within the share.
    #[must_use]
    pub fn allows(&self, share: Share, seconds: f64) -> bool {
        share > Share::default() && self.used + seconds <= self.idle * share.fraction()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_idle_time_is_used() {
        let mut time = IdleTime::default();
        let share: Share = "20%".parse().unwrap();
        time.count(2, 0, 1000);
        assert!(!time.allows(share, 1.0), "no time was idle yet");
        for now in 1001..=1050 {
            time.count(2, 0, now);
        }
        assert!(time.allows(share, 20.0) && !time.allows(share, 21.0));
        assert!(!time.allows(Share::default(), 0.0));
        // One of the two slots is used.
        (1051..=1070).for_each(|now| time.count(1, 1, now));
        assert!(time.allows(share, 8.0) && !time.allows(share, 9.0));
        // The machine was suspended, and its clock was set back.
        time.count(2, 0, 90_000);
        time.count(2, 0, 10);
        assert!(time.allows(share, 32.0) && !time.allows(share, 33.0));
    }

    proptest::proptest! {
        /// Runs of the claimed length never use more than the share.
        #[test]
        fn the_share_is_not_exceeded(percent in 0_u16..=100, cost in 1_i64..30, slots in 1_usize..5) {
            let share: Share = format!("{percent}%").parse().unwrap();
            let (mut time, mut left) = (IdleTime::default(), 0);
            for now in 0..2000 {
                let running = usize::from(left > 0);
                time.count(slots - running, running, now);
                left = (left - 1).max(0);
                if left == 0 && time.allows(share, cost as f64) {
                    left = cost;
                }
            }
            let most = time.idle * share.fraction();
            proptest::prop_assert!(time.used <= most + 1e-6, "{} {}", time.used, most);
        }
    }
}
