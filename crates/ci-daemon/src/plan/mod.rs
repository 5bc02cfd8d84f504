//! The planner: returns the next jobs, ordered by age + niceness, without those that have a verdict or are handed out.
//!
//! The matrix of all jobs is never materialized. A lane is the set of subtests of one test file that have the same
//! niceness on one branch. A heap merges the next commits of all lanes, and each lane has a bitmap of its complete
//! commits. So the cost of a window depends on its size, and each complete pair of lane and commit is visited once.

mod bits;
pub(crate) mod expected;
mod find;
#[cfg(test)]
pub(crate) mod fixture;
pub mod from_view;
mod input;
mod job;
pub mod reruns;
#[cfg(test)]
mod tests;
pub mod window;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bits::Bits;
use config::TestGroup;
pub use find::{find, find_on_branch};
pub use input::{Branch, History, Input, Niceness, histories};
pub use job::{JobRef, PlannedJob, Purpose, Unit};
use model::{
    BisectStart, BranchRef, CommitId, GroupName, NameError, RepoName, ResultKey, Share, StoreKernel,
    SubtestName,
};
pub use reruns::FIRST;

/// The recorded verdicts. The planner reads those of a commit once, when it first considers the commit.
pub trait Verdicts {
    /// Calls `each` with the index in `keys` of every key that has a final status at `commit`. `keys` only grows
    /// between calls, so an index always refers to the same key.
    fn of(&mut self, commit: &CommitId, keys: &[ResultKey], each: &mut dyn FnMut(u32))
    -> results::Result<()>;
}

impl<F: FnMut(&CommitId, &[ResultKey], &mut dyn FnMut(u32)) -> results::Result<()>> Verdicts for F {
    fn of(
        &mut self,
        commit: &CommitId,
        keys: &[ResultKey],
        each: &mut dyn FnMut(u32),
    ) -> results::Result<()> {
        self(commit, keys, each)
    }
}

/// The planner: the last input, the verdicts read so far, and the jobs that are handed out.
#[derive(Debug, Default)]
pub struct Planner {
    keys: Vec<ResultKey>,
    key_ids: HashMap<ResultKey, u32>,
    commit_ids: HashMap<CommitId, u32>,
    commits: Vec<Commit>,
    units: Vec<UnitData>,
    branches: Vec<BranchData>,
    lanes: Vec<PlanLane>,
    refused: Vec<NameError>,
}

#[derive(Debug)]
struct Commit {
    id: CommitId,
    verdicts: ReadState,
    done: Bits,
    handed_out: Bits,
    wanted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ReadState {
    Unread,
    Read,
    Unreadable(String),
}

#[derive(Debug)]
struct UnitData {
    name: Arc<Unit>,
    subtests: Vec<Subtest>,
}

#[derive(Debug)]
struct Subtest {
    name: SubtestName,
    key: ResultKey,
    key_id: u32,
    cost: Duration,
}

#[derive(Debug)]
struct BranchData {
    name: Arc<BranchRef>,
    repo: Arc<RepoName>,
    /// Numbers of the commits, by age.
    commits: Vec<u32>,
}

#[derive(Debug)]
struct PlanLane {
    branch: u32,
    group: Arc<GroupName>,
    inherit: bool,
    inherit_check: Share,
    bisect: BisectStart,
    unit: u32,
    /// Indices into the unit's subtests, in listing order.
    subtests: Arc<[u32]>,
    nice: i64,
    /// Its index in the branch's list of groups, files and kernels.
    rank: u32,
    /// The number of commits of the branch that it covers.
    end: u32,
    /// The ages at which every subtest has a verdict.
    complete: Bits,
}

/// The subtests of a unit (as indices) by niceness.
type Parts = Arc<[(i64, Arc<[u32]>)]>;

impl Planner {
    /// A planner without input.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a new input. The jobs that are handed out and the verdicts read so far are kept; verdicts are read again
    /// only if the input has new result keys.
    pub fn update(&mut self, input: &Input) {
        let known_keys = self.keys.len();
        self.refused.clear();
        self.set_branches(input);
        self.set_lanes(input);
        let new_keys = self.keys.len() > known_keys;
        for commit in &mut self.commits {
            let unreadable = matches!(commit.verdicts, ReadState::Unreadable(_));
            if !commit.wanted || new_keys || unreadable {
                commit.verdicts = ReadState::Unread;
            }
        }
    }

    fn set_branches(&mut self, input: &Input) {
        self.drop_unwanted();
        let mut branches = Vec::with_capacity(input.branches.len());
        for branch in &input.branches {
            let most = branch.groups.iter().map(|group| group.max_commits).max().unwrap_or(0) as usize;
            let commits = branch.commits.iter().take(most).map(|id| self.commit(id)).collect();
            branches.push(BranchData { name: branch.name.clone(), repo: branch.repo.clone(), commits });
        }
        self.branches = branches;
    }

    /// Drops the commits that are not in the last input and have no jobs handed out.
    fn drop_unwanted(&mut self) {
        self.commits.retain(|commit| commit.wanted || !commit.handed_out.is_empty());
        self.commit_ids.clear();
        for (number, commit) in (0u32..).zip(&mut self.commits) {
            commit.wanted = false;
            self.commit_ids.insert(commit.id.clone(), number);
        }
    }

    /// The number of a wanted commit.
    fn commit(&mut self, id: &CommitId) -> u32 {
        let next = u32::try_from(self.commits.len()).expect("fewer than 2^32 commits");
        let number = *self.commit_ids.entry(id.clone()).or_insert(next);
        if number == next {
            let (done, handed_out) = (Bits::default(), Bits::default());
            self.commits.push(Commit {
                id: id.clone(),
                verdicts: ReadState::Unread,
                done,
                handed_out,
                wanted: true,
            });
        } else {
            self.commits[number as usize].wanted = true;
        }
        number
    }

    fn set_lanes(&mut self, input: &Input) {
        self.lanes.clear();
        self.units.clear();
        let mut units: HashMap<Unit, u32> = HashMap::new();
        // The lanes of a group and unit are the same on all branches, apart from the branch.
        let mut buckets: HashMap<(*const TestGroup, u32), Parts> = HashMap::new();
        for (branch_at, branch) in (0u32..).zip(&input.branches) {
            let commits = u32::try_from(self.branches[branch_at as usize].commits.len()).unwrap_or(u32::MAX);
            let mut rank = 0;
            for group in &branch.groups {
                let name = Arc::new(group.name.clone());
                for unit in units_of(group) {
                    let unit_at = match units.get(&unit) {
                        Some(at) => *at,
                        None => {
                            let at = self.add_unit(&unit, input);
                            units.insert(unit, at);
                            at
                        }
                    };
                    let parts = buckets
                        .entry((Arc::as_ptr(group), unit_at))
                        .or_insert_with(|| by_nice(group, &self.units[unit_at as usize], input));
                    for (nice, subtests) in parts.iter() {
                        self.lanes.push(PlanLane {
                            branch: branch_at,
                            group: name.clone(),
                            inherit: group.inherit,
                            inherit_check: group.inherit_check,
                            bisect: group.bisect,
                            unit: unit_at,
                            subtests: subtests.clone(),
                            nice: *nice,
                            rank,
                            end: commits.min(group.max_commits),
                            complete: Bits::default(),
                        });
                    }
                    rank += 1;
                }
            }
        }
    }

    fn add_unit(&mut self, unit: &Unit, input: &Input) -> u32 {
        let at = u32::try_from(self.units.len()).expect("fewer than 2^32 units");
        let listing =
            input.listings.get(&(unit.test.clone(), unit.env.clone())).map_or(&[][..], |listing| listing);
        let mut subtests = Vec::with_capacity(listing.len());
        for name in listing {
            let key = match ResultKey::new(&unit.test, unit.kernel.as_ref(), &unit.env, name) {
                Ok(key) => key,
                Err(error) => {
                    self.refused.push(error);
                    continue;
                }
            };
            let key_id = match self.key_ids.get(&key) {
                Some(id) => *id,
                None => {
                    let id = u32::try_from(self.keys.len()).expect("fewer than 2^32 keys");
                    self.keys.push(key.clone());
                    self.key_ids.insert(key.clone(), id);
                    id
                }
            };
            subtests.push(Subtest { name: name.clone(), key, key_id, cost: Duration::ZERO });
        }
        let costs = input.costs(subtests.iter().map(|subtest| &subtest.key));
        for (subtest, cost) in subtests.iter_mut().zip(costs) {
            subtest.cost = cost;
        }
        self.units.push(UnitData { name: Arc::new(unit.clone()), subtests });
        at
    }

    /// The next `n` jobs. They are handed out until [`Planner::give_back`] or [`Planner::set_done`] is called.
    pub fn take(&mut self, n: usize, verdicts: &mut dyn Verdicts) -> Vec<PlannedJob> {
        self.merge(n, verdicts, true)
    }

    /// The next `n` jobs, as [`Planner::take`] returns them, without handing them out.
    pub fn peek(&mut self, n: usize, verdicts: &mut dyn Verdicts) -> Vec<PlannedJob> {
        self.merge(n, verdicts, false)
    }

    fn merge(&mut self, n: usize, verdicts: &mut dyn Verdicts, keep: bool) -> Vec<PlannedJob> {
        let mut jobs = Vec::with_capacity(n.min(1 << 16));
        let mut taken = Vec::new();
        let heads = (0u32..).zip(&self.lanes).filter_map(|(at, lane)| lane.head(at, 0).map(Reverse));
        let mut heap: BinaryHeap<_> = heads.collect();
        while jobs.len() < n {
            let Some(Reverse(head)) = heap.pop() else { break };
            let lane = &mut self.lanes[head.lane as usize];
            let branch = &self.branches[lane.branch as usize];
            let number = branch.commits[head.age as usize];
            let commit = &mut self.commits[number as usize];
            commit.read(&self.keys, verdicts);
            let mut left = false;
            if commit.verdicts == ReadState::Read {
                let unit = &self.units[lane.unit as usize];
                for at in lane.subtests.iter() {
                    let subtest = &unit.subtests[*at as usize];
                    if commit.done.has(subtest.key_id) {
                        continue;
                    }
                    left = true;
                    if jobs.len() == n {
                        break;
                    }
                    if !commit.handed_out.insert(subtest.key_id) {
                        continue;
                    }
                    taken.push((number, subtest.key_id));
                    jobs.push(PlannedJob {
                        branch: branch.name.clone(),
                        group: lane.group.clone(),
                        repo: branch.repo.clone(),
                        commit: commit.id.clone(),
                        age: head.age,
                        unit: unit.name.clone(),
                        subtest: subtest.name.clone(),
                        key: subtest.key.clone(),
                        value: head.value,
                        cost: subtest.cost,
                        inherit: lane.inherit,
                        inherit_check: lane.inherit_check,
                        bisect: lane.bisect,
                        alone: false,
                        purpose: Purpose::First,
                    });
                }
                if !left {
                    lane.complete.insert(head.age);
                }
            }
            heap.extend(self.lanes[head.lane as usize].head(head.lane, head.age + 1).map(Reverse));
        }
        if !keep {
            for (commit, key) in taken {
                self.commits[commit as usize].handed_out.remove(key);
            }
        }
        jobs
    }

    /// Records that the job has its verdict: it is not planned again.
    pub fn set_done(&mut self, job: &JobRef) {
        if let Some((commit, key)) = self.find(job) {
            commit.done.insert(key);
            commit.handed_out.remove(key);
        }
    }

    /// Records that the job was handed out and does not run: it can be planned again.
    pub fn give_back(&mut self, job: &JobRef) {
        if let Some((commit, key)) = self.find(job) {
            commit.handed_out.remove(key);
        }
    }

    /// Hands the job out again: it is not planned until it is given back.
    pub fn hold(&mut self, job: &JobRef) {
        if let Some((commit, key)) = self.find(job) {
            commit.handed_out.insert(key);
        }
    }

    /// Drops the verdicts read so far. Those of a commit are read again when the commit is next considered.
    pub fn clear_verdicts(&mut self) {
        for commit in &mut self.commits {
            commit.verdicts = ReadState::Unread;
            commit.done.clear();
        }
        for lane in &mut self.lanes {
            lane.complete.clear();
        }
    }

    /// Whether the job is handed out.
    #[must_use]
    pub fn is_handed_out(&self, job: &JobRef) -> bool {
        let (Some(key), Some(commit)) = (self.key_ids.get(&job.key), self.commit_ids.get(&job.commit)) else {
            return false;
        };
        self.commits[*commit as usize].handed_out.has(*key)
    }

    fn find(&mut self, job: &JobRef) -> Option<(&mut Commit, u32)> {
        let key = *self.key_ids.get(&job.key)?;
        let commit = *self.commit_ids.get(&job.commit)?;
        Some((&mut self.commits[commit as usize], key))
    }

    /// The commits with results that cannot be read, with the errors. Nothing is planned for them.
    pub fn unreadable(&self) -> impl Iterator<Item = (&CommitId, &str)> {
        self.commits.iter().filter_map(|commit| match &commit.verdicts {
            ReadState::Unreadable(error) => Some((&commit.id, error.as_str())),
            _ => None,
        })
    }

    /// The errors of subtests that cannot have a result key. Nothing is planned for them.
    #[must_use]
    pub fn refused(&self) -> &[NameError] {
        &self.refused
    }

    /// The size of the whole matrix, with and without verdicts. A job in two groups counts twice.
    #[must_use]
    pub fn matrix_size(&self) -> u64 {
        self.lanes.iter().map(|lane| u64::from(lane.end) * lane.subtests.len() as u64).sum()
    }
}

impl Commit {
    fn read(&mut self, keys: &[ResultKey], verdicts: &mut dyn Verdicts) {
        if self.verdicts != ReadState::Unread {
            return;
        }
        let done = &mut self.done;
        let result = verdicts.of(&self.id, keys, &mut |key| {
            done.insert(key);
        });
        self.verdicts = match result {
            Ok(()) => ReadState::Read,
            Err(error) => ReadState::Unreadable(error.to_string()),
        };
    }
}

/// The next commit of a lane in the merge. The order of the fields is the order of the plan: by value; for equal
/// values, newer commits first, then by index in the branch's list (so that branches alternate), then by branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    value: i64,
    age: u32,
    rank: u32,
    branch: u32,
    lane: u32,
}

impl PlanLane {
    fn head(&self, lane: u32, from: u32) -> Option<Head> {
        let age = self.complete.next_absent(from, self.end)?;
        let value = self.nice.saturating_add(i64::from(age));
        Some(Head { value, age, rank: self.rank, branch: self.branch, lane })
    }
}

/// The units of a group: each test file on each kernel.
pub fn units_of(group: &TestGroup) -> impl Iterator<Item = Unit> {
    let kernels: Vec<Option<&StoreKernel>> =
        if group.kernels.is_empty() { vec![None] } else { group.kernels.iter().map(Some).collect() };
    group.tests.iter().flat_map(move |test| {
        let kernels = kernels.clone();
        kernels.into_iter().map(|kernel| Unit {
            test: test.clone(),
            kernel: kernel.cloned(),
            env: group.env.clone(),
        })
    })
}

/// A unit's subtests by niceness, lowest first; each part is in listing order.
fn by_nice(group: &TestGroup, unit: &UnitData, input: &Input) -> Parts {
    let mut parts: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (at, subtest) in (0u32..).zip(&unit.subtests) {
        parts.entry(History::nice_in(input.history.get(&subtest.key), group)).or_default().push(at);
    }
    parts.into_iter().map(|(nice, subtests)| (nice, subtests.into())).collect()
}
